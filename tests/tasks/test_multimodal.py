from __future__ import annotations

import json
import random

import numpy as np
import pytest
from PIL import Image

from edgelstm.errors import DataError, SettingError
from edgelstm.tasks import load_task
from edgelstm.tasks.base import Split
from edgelstm.tasks.images.scenes import COLOURS, FORMS, Shape, draw_scene, write_scenes
from edgelstm.tasks.texts.vocabulary import PADDING, START, UNKNOWN

TINY = {"num_train": 60, "num_validation": 20, "num_test": 20, "units": 4, "hidden": 8, "filters": 2, "embedding": 4}


@pytest.fixture(scope="module")
def task():
    return load_task("multimodal")


@pytest.fixture(scope="module")
def data(task):
    return task.data(task.setup(settings=TINY))


def read(task, path, **settings):
    return task.data(task.setup(source=path, settings={"image_size": 8, **settings}))


def named(scene):
    """The shapes that a question names, in the order of its words."""
    found = {}
    for shape in scene.shapes:
        place = ("on the left", "on the right")[sorted(s.x for s in scene.shapes).index(shape.x)]
        for name in (shape.form, place):
            if name in scene.question:
                found[scene.question.index(name)] = shape
    return [found[place] for place in sorted(found)]


def meant(scene):
    shapes = named(scene)
    if len(shapes) == 1:
        return shapes[0]
    return shapes[-1] if scene.question.startswith("not the") else shapes[0]


def test_the_answer_is_the_colour_of_the_shape_that_is_meant():
    scenes = write_scenes(500, 0, "train")
    assert [meant(scene).colour for scene in scenes] == [scene.colour for scene in scenes]
    assert 0.25 < np.mean([scene.corrected for scene in scenes]) < 0.42
    assert {len(named(scene)) for scene in scenes} == {1, 2}


def test_every_picture_has_each_form_once_and_two_colours():
    for scene in write_scenes(100, 1, "test"):
        assert {shape.form for shape in scene.shapes} == set(FORMS)
        assert len({shape.colour for shape in scene.shapes}) == 2


def test_neither_forms_nor_places_say_which_shape_is_meant():
    scenes = write_scenes(6000, 0, "train")
    forms = [next(shape.form for shape in scene.shapes if shape.colour == scene.colour) for scene in scenes]
    columns = [[shape.colour for shape in scene.shapes].index(scene.colour) for scene in scenes]
    # The standard deviation of a share of 1/2 in 6,000 is 0.006.
    for share in [forms.count(form) / 6000 for form in FORMS] + [columns.count(column) / 6000 for column in range(2)]:
        assert share == pytest.approx(1 / 2, abs=0.025)
    for colour in COLOURS:
        assert sum(scene.colour == colour for scene in scenes) / 6000 == pytest.approx(1 / 4, abs=0.025)


@pytest.mark.parametrize(
    "form, area",
    [
        ("ring", np.pi * 0.2**2 * 0.75),
        ("square", (2 * 0.9 * 0.2) ** 2),
    ],
)
def test_shapes_have_their_colour_place_and_area(form, area):
    picture = draw_scene([Shape(form, "red", 0.3, 0.6, 0.2)], 200, np.random.default_rng(0)) / 255
    is_red = picture[..., 0] - picture[..., 1] > 0.35
    assert is_red.mean() == pytest.approx(area, rel=0.04)
    rows, columns = np.nonzero(is_red)
    assert (columns.min() + columns.max()) / 2 / 200 == pytest.approx(0.3, abs=0.01)
    assert (rows.min() + rows.max()) / 2 / 200 == pytest.approx(0.6, abs=0.01)
    assert is_red[120, 60] == (form != "ring")
    assert is_red[90, 30] == (form == "square")


def test_inputs_are_pixels_from_0_to_1_and_ids(data):
    image, ids = data.train.x["image"], data.train.x["ids"]
    assert (image.shape, image.dtype, ids.shape, ids.dtype) == ((60, 24, 24, 3), np.float32, (60, 16), np.int32)
    assert 0 <= image.min() < 0.3
    assert 0.9 < image.max() <= 1
    assert data.labels == tuple(COLOURS)
    assert {split: len(part) for split, part in data.splits.items()} == {"train": 60, "validation": 20, "test": 20}
    np.testing.assert_array_equal(data.files["vocabulary.txt"].encode(data.extra["texts"]["train"], 16), ids)


def test_questions_fit_into_the_default_length(task):
    data = task.data(task.setup(settings={"num_train": 1500, "num_validation": 1, "num_test": 300}))
    assert (data.train.x["ids"][:, -1] == PADDING).all()
    assert not (data.test.x["ids"] == UNKNOWN).any()


def test_the_same_seed_gives_the_same_data_and_splits_differ(task, data):
    again, other = (task.data(task.setup(seed=seed, settings=TINY)) for seed in (0, 1))
    for name in ("image", "ids"):
        np.testing.assert_array_equal(again.test.x[name], data.test.x[name])
    assert np.abs(other.test.x["image"] - data.test.x["image"]).max() > 0.1
    assert np.abs(data.train.x["image"][:20] - data.test.x["image"]).max() > 0.1


def test_text_alone_guesses_and_a_picture_alone_guesses_among_two(task):
    figures = task.baselines(task.data(task.setup(settings={"num_train": 2000, "num_test": 1000})))
    # The standard deviation of a share of 1/4 in 1,000 is 0.014, of 1/2 0.016.
    assert figures["text alone"]["accuracy"] == pytest.approx(1 / 4, abs=0.06)
    assert 0.4 < figures["picture alone"]["accuracy"] < 0.56
    assert figures["most frequent class"]["accuracy"] < 0.31


@pytest.mark.parametrize("variant", ["concatenate", "attention", "gated"])
def test_each_variant_takes_both_inputs_and_uses_both(task, data, variant):
    setup = task.setup(variant, settings=TINY)
    model = task.build(setup, data)
    assert [tensor.name for tensor in model.inputs] == ["image", "ids"]
    assert model.output_shape == (None, 4)
    model.layers[-1].set_weights([1000 * weight for weight in model.layers[-1].get_weights()])
    image, ids = data.test.x["image"][:4], data.test.x["ids"][:4]
    answers = model.predict([image, ids], verbose=0)
    np.testing.assert_allclose(answers.sum(axis=1), 1, atol=1e-6)
    assert np.abs(model.predict([image[::-1], ids], verbose=0) - answers).max() > 1e-3
    assert np.abs(model.predict([image, ids[::-1]], verbose=0) - answers).max() > 1e-3


@pytest.mark.parametrize("variant", ["concatenate", "attention", "gated"])
def test_padding_does_not_change_an_answer(task, variant):
    import keras

    setups = [task.setup(variant, settings={**TINY, "length": length}) for length in (16, 40)]
    both = [task.data(setup) for setup in setups]
    models = []
    for setup, data in zip(setups, both, strict=True):
        keras.utils.set_random_seed(0)
        models.append(task.build(setup, data))
    models[1].set_weights(models[0].get_weights())
    short, long = (
        model.predict([data.test.x["image"], data.test.x["ids"]], verbose=0)
        for model, data in zip(models, both, strict=True)
    )
    np.testing.assert_allclose(long, short, rtol=0, atol=1e-6)


@pytest.mark.parametrize("size, places", [(8, 8), (24, 6), (64, 8), (50, 7)])
def test_the_cnn_hands_on_at_most_eight_rows(task, size, places):
    setup = task.setup("gated", settings={**TINY, "image_size": size, "num_train": 4, "num_test": 4})
    model = task.build(setup, task.data(setup))
    flat = next(layer for layer in model.layers if type(layer).__name__ == "Flatten")
    assert flat.input.shape[1:3] == (places, places)


def test_nothing_is_varied_by_default(task, data):
    varied = task.augment(data.train, np.random.default_rng(0), task.setup())
    for name in ("image", "ids"):
        np.testing.assert_array_equal(varied.x[name], data.train.x[name])


def test_pictures_are_mirrored_half_of_the_time(task, data):
    before = data.train.x["image"].copy()
    varied = task.augment(data.train, np.random.default_rng(0), task.setup(settings={"flip": True})).x["image"]
    mirrored = (varied == before[:, :, ::-1]).all(axis=(1, 2, 3))
    same = (varied == before).all(axis=(1, 2, 3))
    assert (mirrored ^ same).all()
    assert 15 < mirrored.sum() < 45
    np.testing.assert_array_equal(data.train.x["image"], before)


def test_noise_and_brightness_stay_within_0_and_1(task):
    grey = Split({"image": np.full((200, 4, 4, 3), 0.5, np.float32), "ids": np.ones((200, 3), np.int32)}, np.zeros(200))
    noisy = task.augment(grey, np.random.default_rng(0), task.setup(settings={"noise": 0.1})).x["image"]
    assert noisy.std() == pytest.approx(0.1, rel=0.05)
    bright = task.augment(grey, np.random.default_rng(0), task.setup(settings={"brightness": 0.8})).x["image"]
    assert (bright.std(axis=(1, 2, 3)) < 1e-6).all()
    assert (bright.min(), bright.max()) == (0, 1)
    assert bright.dtype == noisy.dtype == np.float32


def test_dropped_words_become_unknown_but_neither_start_nor_padding(task, data):
    setup = task.setup(settings={"word_dropout": 0.5})
    ids = data.train.x["ids"]
    varied = task.augment(data.train, np.random.default_rng(0), setup).x["ids"]
    changed = varied != ids
    assert (varied[changed] == UNKNOWN).all()
    assert not changed[(ids == PADDING) | (ids == START)].any()
    assert changed[ids > UNKNOWN].mean() == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"image_size": 4}, "'image_size' must be at least 8, not 4"),
        ({"num_test": 0}, "num_test=0: at least 1 picture is needed"),
        ({"word_dropout": 1.5}, "'word_dropout' must be from 0 to below 1, not 1.5"),
        ({"noise": -1}, "'noise' must not be negative"),
    ],
)
def test_impossible_settings_are_refused(task, settings, message):
    with pytest.raises(SettingError, match=message):
        task.data(task.setup(settings={**TINY, **settings}))


def test_an_app_is_told_what_to_make_of_a_picture(data, tmp_path):
    data.files["image.json"].save(tmp_path / "image.json")
    document = json.loads((tmp_path / "image.json").read_text(encoding="utf-8"))
    assert (document["height"], document["width"], document["channels"], document["divide_by"]) == (24, 24, "RGB", 255)


def test_examples_are_drawn(task, data, tmp_path):
    (path,) = task.illustrate(lambda x: np.eye(4)[np.zeros(len(x["ids"]), int)], data, task.setup(), tmp_path)
    with Image.open(path) as picture:
        assert picture.size == (1200, 640)


@pytest.fixture
def table(tmp_path):
    """A table of 12 rows and 12 pictures of various kinds; the red channel tells the row."""
    (tmp_path / "pictures").mkdir()
    rows = ["text,image,label"]
    for row in range(12):
        name = f"pictures/{row}.png"
        mode, size = ("RGB", (8, 8)) if row % 2 else ("RGBA", (16, 12))
        colour = (20 * row, 50, 100) if mode == "RGB" else (20 * row, 50, 100, 255)
        Image.new(mode, size, colour).save(tmp_path / name)
        rows.append(f"word{row} thing,{name},{'yes' if row % 3 else 'no'}")
    path = tmp_path / "table.csv"
    path.write_text("\n".join(rows), encoding="utf-8")
    return path


def test_a_table_is_read_and_its_pictures_are_brought_to_one_size(task, table):
    data = read(task, table)
    assert data.labels == ("no", "yes")
    assert sum(len(split) for split in data.splits.values()) == 12
    for name, split in data.splits.items():
        assert set(split.y) == {0, 1}
        for image, y, text in zip(split.x["image"], split.y, data.extra["texts"][name], strict=True):
            row = int(text.split()[0].removeprefix("word"))
            assert y == (row % 3 != 0)
            expected = np.float32([20 * row, 50, 100]) / np.float32(255)
            np.testing.assert_array_equal(image, np.broadcast_to(expected, (8, 8, 3)))
    assert any("Pictures of 2 sizes (such as 16 x 12) were stretched to 8 x 8" in note for note in data.notes)


def test_only_training_texts_make_the_vocabulary(task, table):
    data = read(task, table)
    words = set(data.files["vocabulary.txt"].words[3:])
    assert words == {word for text in data.extra["texts"]["train"] for word in text.split()}


def test_a_picture_is_in_one_split_only(task, tmp_path):
    generator = random.Random(0)
    rows = ["text;image;label"]
    for number in range(15):
        Image.new("L", (8, 8), 10 * number).save(tmp_path / f"{number}.png")
        rows += [f"question {n};{number}.png;{(number + n) % 2}" for n in range(generator.randint(1, 4))]
    (tmp_path / "t.csv").write_text("\n".join(rows), encoding="utf-8")
    data = read(task, tmp_path / "t.csv")
    seen = [{round(float(image[0, 0, 0] * 25.5)) for image in split.x["image"]} for split in data.splits.values()]
    assert all(seen)
    assert sum(len(some) for some in seen) == len(set().union(*seen)) == 15
    assert data.labels == ("0", "1")


def test_rows_without_a_picture_or_a_value_are_left_out_and_said(task, table):
    (table.parent / "pictures" / "1.png").unlink()
    (table.parent / "pictures" / "2.png").write_bytes(b"no picture")
    table.write_text(table.read_text(encoding="utf-8") + "\n,pictures/3.png,yes\n", encoding="utf-8")
    data = read(task, table)
    assert sum(len(split) for split in data.splits.values()) == 10
    notes = " ".join(data.notes)
    assert "1 of 13 rows" in notes
    assert "2 rows of" in notes
    assert "line 3: Cannot read the image" in notes


@pytest.mark.parametrize(
    "content, message",
    [
        ("text,picture,label\na,b.png,c\n", "has no column 'image'. Its columns are text, picture, label"),
        (
            "text,image,label\na,gone.png,c\n",
            r"No row .* has a text, a picture that can be read and a label \(line 2",
        ),
        ("text,image,label\n", "has no rows"),
    ],
)
def test_a_table_from_which_nothing_can_be_learnt_is_refused(task, tmp_path, content, message):
    path = tmp_path / "t.csv"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        read(task, path)


@pytest.mark.parametrize(
    "labels, message",
    [
        ("aaaaaa", "All rows of .* have the label 'a': at least two classes are needed"),
        ("aaaabb", "The label 'b' in .* has 2 pictures of its own, and at least 3 are needed"),
    ],
)
def test_too_few_classes_or_pictures_are_refused(task, tmp_path, labels, message):
    rows = ["text,image,label"]
    for number, label in enumerate(labels):
        Image.new("L", (8, 8)).save(tmp_path / f"{number}.png")
        rows.append(f"x,{number}.png,{label}")
    (tmp_path / "t.csv").write_text("\n".join(rows), encoding="utf-8")
    with pytest.raises(DataError, match=message):
        read(task, tmp_path / "t.csv")


def test_a_folder_is_refused(task, tmp_path):
    with pytest.raises(DataError, match="is a folder: give the CSV file with the columns text, image, label"):
        read(task, tmp_path)


def test_shares_that_leave_nothing_to_learn_from_are_refused(task, table):
    with pytest.raises(SettingError, match="both must be above 0, and together below 1"):
        read(task, table, test_share=0.95)
