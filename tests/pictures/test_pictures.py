from __future__ import annotations

import itertools
import sys

import numpy as np
import pytest

from edgelstm.errors import MissingExtraError, OutputError
from edgelstm.pictures import draw_architecture, draw_confusion, draw_curves
from edgelstm.pictures.architecture import read_graph
from edgelstm.pictures.layout import place
from edgelstm.tasks.objectives import Classification

keras = pytest.importorskip("keras")
layers = keras.layers


def attention():
    """Two ways from the LSTM on, a mask, and one layer called twice."""
    ids = keras.Input((None,), dtype="int32", name="ids")
    x = layers.Embedding(50, 4, mask_zero=True, name="words")(ids)
    x = layers.Bidirectional(layers.LSTM(3, return_sequences=True), name="both")(x)
    again = layers.Dense(6, name="twice")
    weights = layers.Softmax(axis=1, name="weights")(again(again(x)))
    mean = layers.GlobalAveragePooling1D(name="mean")(layers.Multiply(name="weighted")([x, weights]))
    return keras.Model(ids, layers.Dense(2, name="answer")(mean), name="attention")


def two_inputs():
    image, text = keras.Input((4, 4, 1), name="image"), keras.Input((3,), name="text")
    encoder = keras.Sequential([keras.Input((4, 4, 1)), layers.Flatten(), layers.Dense(2)], name="encoder")
    joined = layers.Concatenate(name="joined")([encoder(image), text])
    return keras.Model([image, text], [layers.Dense(1, name="a")(joined), keras.ops.exp(joined)], name="two")


def names_and_edges(model):
    boxes, edges = read_graph(model)
    return [box.name for box in boxes], {(boxes[start].name, boxes[end].name) for start, end in edges}


def test_the_graph_has_every_way_and_no_mask():
    names, edges = names_and_edges(attention())
    assert names[:3] == ["ids", "words", "both"]
    assert names.count("twice") == 2
    assert {("both", "weighted"), ("weights", "weighted"), ("both", "twice"), ("twice", "twice")} <= edges
    assert len(names) == 9


def test_boxes_tell_kind_shape_and_parameters():
    boxes = {box.name: box for box in reversed(read_graph(attention())[0])}
    assert boxes["ids"].lines == ("ids", "input, int32", "any")
    assert boxes["words"].lines == ("words", "Embedding", "any x 4 · 200 parameters")
    assert boxes["both"].lines == ("both", "Bidirectional(LSTM)", "any x 6 · 192 parameters")
    assert boxes["mean"].lines == ("mean", "GlobalAveragePooling1D", "6")


def test_parameters_of_all_boxes_are_those_of_the_model():
    for model in (attention(), two_inputs()):
        assert sum(box.num_parameters for box in read_graph(model)[0]) == model.count_params()


def test_a_nested_model_is_one_box_and_operations_are_boxes():
    boxes, _ = read_graph(two_inputs())
    encoder = next(box for box in boxes if box.name == "encoder")
    assert encoder.kind == "model of 2 layers"
    assert {"image", "text", "joined", "a"} < {box.name for box in boxes}
    assert len(boxes) == 6


def random_graph(seed):
    generator = np.random.default_rng(seed)
    count = int(generator.integers(2, 20))
    return count, sorted({(int(generator.integers(0, end)), end) for end in range(1, count) for _ in range(2)})


@pytest.mark.parametrize("seed", range(20))
def test_boxes_never_overlap_and_arrows_lead_down_between_them(seed):
    count, edges = random_graph(seed)
    places, passing = place(count, edges)
    for (x, y), (other_x, other_y) in itertools.combinations(places, 2):
        assert y != other_y or abs(x - other_x) > 0.998
    for start, end in edges:
        points = [places[start], *passing[start, end], places[end]]
        assert [below[1] - above[1] for above, below in itertools.pairwise(points)] == [1] * (len(points) - 1)
        for x, y in points[1:-1]:
            assert all(y != other_y or abs(x - other_x) > 0.6 for other_x, other_y in places)
    assert min(x for x, _ in places) == 0


def test_a_chain_is_one_column_and_an_input_stands_where_it_is_needed():
    places, passing = place(5, [(0, 1), (1, 2), (2, 4), (3, 4)])
    assert [y for _, y in places] == [0, 1, 2, 2, 3]
    assert place(3, [(0, 1), (1, 2)])[0] == [(0, 0), (0, 1), (0, 2)]
    assert passing == {(0, 1): [], (1, 2): [], (2, 4): [], (3, 4): []}


def test_crossings_are_taken_out():
    # Two columns whose arrows would cross if boxes stood in the order of their numbers.
    places, _ = place(6, [(0, 3), (1, 2), (2, 5), (3, 4)])
    assert (places[0][0] < places[1][0]) == (places[3][0] < places[2][0]) == (places[4][0] < places[5][0])


@pytest.mark.parametrize("make", [attention, two_inputs])
def test_architectures_are_drawn(make, tmp_path):
    draw_architecture(make(), tmp_path / "a.png")
    assert_picture(tmp_path / "a.png", colors=4)


@pytest.mark.parametrize("count", [1, 2, 40])
def test_confusions_are_drawn_with_classes_that_do_not_occur(count, tmp_path):
    y = np.zeros(5, int)
    draw_confusion(
        y, y, [f"a very long name of the class number {index}" for index in range(count)], tmp_path / "c.png"
    )
    assert_picture(tmp_path / "c.png", colors=3)


@pytest.mark.parametrize("count", [1, 50])
def test_curves_are_drawn(count, tmp_path):
    names = ("loss", "accuracy", "val_loss", "val_accuracy", "gradient_norm", "gradient_norm_max")
    history = [dict.fromkeys(names, 1 / (epoch + 1)) for epoch in range(count)]
    draw_curves(history, 0, Classification(), tmp_path / "c.png")
    assert_picture(tmp_path / "c.png", colors=3)


def test_losses_that_are_no_numbers_and_norms_of_zero_are_drawn(tmp_path):
    names = ("loss", "accuracy", "val_loss", "val_accuracy", "gradient_norm", "gradient_norm_max")
    draw_curves([dict.fromkeys(names, value) for value in (float("nan"), 0.0)], 0, Classification(), tmp_path / "c.png")
    assert_picture(tmp_path / "c.png", colors=2)


def test_what_cannot_be_written_is_said_and_leaves_nothing(tmp_path):
    with pytest.raises(OutputError, match=r"Cannot write .*c\.png: No such file"):
        draw_confusion(np.zeros(2, int), np.zeros(2, int), ["a", "b"], tmp_path / "none" / "c.png")
    (tmp_path / "c.png").mkdir()
    with pytest.raises(OutputError, match=r"Cannot write .*c\.png: Is a directory"):
        draw_confusion(np.zeros(2, int), np.zeros(2, int), ["a", "b"], tmp_path / "c.png")
    assert [path.name for path in tmp_path.iterdir()] == ["c.png"]


def test_without_matplotlib_the_command_that_brings_it_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtraError, match=r'pip install "edgelstm\[train\]"'):
        draw_confusion(np.zeros(2, int), np.zeros(2, int), ["a", "b"], tmp_path / "c.png")


def assert_picture(path, colors):
    """A picture that is neither empty nor of one color: so many colors cover more than a handful of its dots."""
    from PIL import Image

    with Image.open(path) as image:
        counts = image.convert("RGB").getcolors(maxcolors=1_000_000)
    assert sum(count > 20 for count, _ in counts) >= colors
