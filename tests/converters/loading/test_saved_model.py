"""SavedModels of tf.keras become the same model in Keras 3, whatever TensorFlow wrote about them."""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from edgelstm.converters.loading import load_model
from edgelstm.converters.loading.base import Loaded
from edgelstm.converters.loading.saved_model import read as reading
from edgelstm.converters.loading.saved_model.folder import open_folder
from edgelstm.converters.loading.saved_model.wire import fields
from edgelstm.errors import LoadError
from tests.converters.loading import saved_models
from tests.lstm_reference import LstmWeights, lstm_reference, swap_gates

pytest.importorskip("tf_keras")

# The same operations on the same weights in another build of them: nothing but the order of sums differs.
TOLERANCE = 1e-6
REBUILT = ("lstm", "bidirectional", "stack", "masked", "functional", "stateful", "gru", "hard_gates")

pytestmark = pytest.mark.xdist_group("saved models")


@pytest.fixture(scope="session")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the SavedModels of write_saved_models.py and their answers."""
    folder = tmp_path_factory.mktemp("saved_models")
    program = Path(__file__).with_name("write_saved_models.py")
    subprocess.run([sys.executable, str(program), str(folder)], check=True, capture_output=True, timeout=280)
    return folder


@pytest.fixture
def copy(zoo: Path, tmp_path: Path) -> Callable[[str], Path]:
    """Copies a SavedModel, to change it."""

    def copied(name: str) -> Path:
        shutil.copytree(zoo / name, tmp_path / name)
        return tmp_path / name

    return copied


def recorded(zoo: Path, name: str) -> tuple[list[Any], list[Any]]:
    """The inputs that tf_keras was given, and its answers."""
    with np.load(zoo / f"{name}.npz") as arrays:
        inputs = [arrays[key] for key in arrays.files if key.startswith("x")]
        return inputs, [arrays[key] for key in arrays.files if key.startswith("y")]


def answers(model: Any, inputs: list[Any]) -> list[Any]:
    outputs = model(inputs if len(inputs) > 1 else inputs[0], training=False)
    return [np.asarray(tensor) for tensor in keras.tree.flatten(outputs)]


def assert_answers_as_recorded(model: Any, zoo: Path, name: str) -> None:
    inputs, expected = recorded(zoo, name)
    for got, wanted in zip(answers(model, inputs), expected, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=0, atol=TOLERANCE, equal_nan=False)


def is_rebuilt(loaded: Loaded) -> bool:
    return type(loaded.model).__name__ in ("Sequential", "Functional")


@pytest.mark.parametrize("name", REBUILT)
def test_the_rebuilt_model_answers_as_tf_keras_did(zoo, name):
    loaded = load_model(zoo / name)
    assert is_rebuilt(loaded)
    assert not [note for note in loaded.notes if "signature" in note]
    assert_answers_as_recorded(loaded.model, zoo, name)


def test_swapped_gates_would_be_seen(zoo):
    inputs, expected = recorded(zoo, "lstm")
    model = load_model(zoo / "lstm").model
    right = model.layers[0].get_weights()
    for a, b in itertools.combinations("ifco", 2):
        model.layers[0].set_weights([swap_gates(weight, a, b) for weight in right])
        assert np.abs(answers(model, inputs)[0] - expected[0]).max() > 100 * TOLERANCE


def from_cudnn(matrix: Any) -> Any:
    """The matrix of all gates in Keras' layout. cuDNN reads the numbers of each gate as a matrix (units, inputs)."""
    gates = np.split(matrix, 4, axis=1)
    return np.concatenate([gate.reshape(gate.shape[::-1]).T for gate in gates], axis=1)


def test_cudnn_layers_become_lstms(zoo):
    (x,), (kernel, recurrent_kernel, biases, *dense) = recorded(zoo, "cudnn")
    weights = LstmWeights(from_cudnn(kernel), from_cudnn(recurrent_kernel), biases[:16] + biases[16:])
    expected = lstm_reference(x, weights).last_output @ dense[0] + dense[1]
    (got,) = answers(load_model(zoo / "cudnn").model, [x])
    np.testing.assert_allclose(got, expected, rtol=0, atol=TOLERANCE)


def test_hard_gates_keep_the_meaning_of_keras_2(zoo):
    assert any("hard_sigmoid" in note for note in load_model(zoo / "hard_gates").notes)


def test_a_fixed_batch_can_be_changed(zoo):
    (x,), (expected,) = recorded(zoo, "stateful")
    model = load_model(zoo / "stateful", batch=1).model
    assert model.inputs[0].shape[0] == 1
    np.testing.assert_allclose(answers(model, [x[:1]])[0], expected[:1], rtol=0, atol=TOLERANCE)


def test_metadata_of_tensorflow_before_2_5_stands_in_the_graph(zoo, copy):
    folder = copy("functional")
    move_metadata_into_graph(folder)
    loaded = load_model(folder)
    assert is_rebuilt(loaded)
    assert_answers_as_recorded(loaded.model, zoo, "functional")


def test_metadata_left_over_from_another_model_is_not_read(zoo, copy):
    folder = copy("functional")
    move_metadata_into_graph(folder)
    shutil.copy(zoo / "lstm" / "keras_metadata.pb", folder)
    loaded = load_model(folder)
    assert is_rebuilt(loaded)
    assert_answers_as_recorded(loaded.model, zoo, "functional")


def test_rebuilding_runs_nothing_of_the_graph(zoo, copy):
    folder = copy("bidirectional")
    graph = saved_models.read_graph(folder)
    del graph.meta_graphs[0].graph_def.node[:]
    del graph.meta_graphs[0].graph_def.library.function[:]
    saved_models.write_graph(folder, graph)
    assert_answers_as_recorded(load_model(folder).model, zoo, "bidirectional")


@pytest.mark.parametrize(
    "name, reason",
    [
        ("custom_layer", "the layer 'shift' is of the class mine>Shift"),
        ("code", "the layer 'lambda' is a Lambda, whose code in the file is never run"),
        ("time_major", "time is its first axis"),
    ],
)
def test_what_cannot_be_rebuilt_is_taken_from_its_graph(zoo, name, reason):
    loaded = load_model(zoo / name)
    assert not is_rebuilt(loaded)
    assert reason in loaded.notes[0]
    assert "operations of its signature 'serving_default'" in loaded.notes[0]
    assert_answers_as_recorded(loaded.model, zoo, name)


def test_a_custom_layer_can_be_given(zoo, tmp_path, monkeypatch):
    (tmp_path / "shifting.py").write_text(
        "import keras\n\n\n@keras.saving.register_keras_serializable('mine')\nclass Shift(keras.layers.Layer):\n"
        "    def build(self, shape):\n        self.offset = self.add_weight(shape=(shape[-1],), name='offset')\n\n"
        "    def call(self, x):\n        return 2 * x + self.offset\n"
    )
    monkeypatch.chdir(tmp_path)
    loaded = load_model(zoo / "custom_layer", custom=["shifting:Shift"])
    assert is_rebuilt(loaded)
    assert_answers_as_recorded(loaded.model, zoo, "custom_layer")


def test_rebuilt_and_graph_are_compared(zoo, monkeypatch):
    seen = []
    compare = sys.modules[reading.__module__].largest_disagreement

    def watched(*arguments: Any) -> Any:
        seen.append(compare(*arguments))
        return seen[-1]

    monkeypatch.setattr(sys.modules[reading.__module__], "largest_disagreement", watched)
    for name in ("lstm", "masked", "functional"):
        load_model(zoo / name)
    assert len(seen) == 3
    assert all(value is not None and value < 0.1 for value in seen)


def test_a_configuration_that_means_something_else_is_not_believed(zoo, copy):
    folder = copy("lstm")
    change_configuration(folder, '"activation": "tanh"', '"activation": "relu"')
    loaded = load_model(folder)
    assert not is_rebuilt(loaded)
    assert "answers otherwise than its signature" in loaded.notes[0]
    assert_answers_as_recorded(loaded.model, zoo, "lstm")


def test_every_weight_must_find_its_place(zoo, copy):
    folder = copy("gru")
    change_configuration(folder, '"units": 3', '"units": 2')
    with pytest.raises(LoadError, match=r"gru.*graph beside it cannot be taken either: .*no signature"):
        load_model(folder)


def test_a_variable_that_belongs_to_no_layer_is_refused(zoo, copy):
    folder = copy("gru")
    graph = saved_models.read_graph(folder)
    root = graph.meta_graphs[0].object_graph_def.nodes[0]
    for child in root.children:
        if child.local_name == "layer-1":  # still reachable as layer_with_weights-1
            root.children.remove(child)
            break
    saved_models.write_graph(folder, graph)
    with pytest.raises(LoadError, match="gru_1"):
        load_model(folder)


def test_a_weight_without_value_is_refused(zoo, copy):
    folder = copy("gru")
    graph = saved_models.read_graph(folder)
    cell = next(node for node in graph.meta_graphs[0].object_graph_def.nodes if has_child(node, "recurrent_kernel"))
    for child in cell.children:
        if child.local_name == "bias":
            child.local_name = "other"
    saved_models.write_graph(folder, graph)
    with pytest.raises(LoadError, match=r"checkpoint is damaged \(it has no value for"):
        load_model(folder)


def has_child(node: Any, name: str) -> bool:
    return any(child.local_name == name for child in node.children)


def metadata_of(folder: Path) -> list[tuple[dict[int, Any], str]]:
    """Fields of each node of keras_metadata.pb, and its JSON."""
    nodes = [dict(fields(value)) for _, value in fields((folder / "keras_metadata.pb").read_bytes())]
    return [(node, node[5].decode()) for node in nodes]


def move_metadata_into_graph(folder: Path) -> None:
    """Gives a SavedModel the form that TensorFlow before 2.5 wrote."""
    graph = saved_models.read_graph(folder)
    nodes = graph.meta_graphs[0].object_graph_def.nodes
    for node, text in metadata_of(folder):
        nodes[node.get(2, 0)].user_object.metadata = text
    saved_models.write_graph(folder, graph)
    (folder / "keras_metadata.pb").unlink()


def change_configuration(folder: Path, old: str, new: str) -> None:
    """Replaces text in the configuration of the model, which is written twice."""
    move_metadata_into_graph(folder)
    graph = saved_models.read_graph(folder)
    root = graph.meta_graphs[0].object_graph_def.nodes[0].user_object
    assert old in root.metadata
    root.metadata = root.metadata.replace(old, new)
    assert json.loads(root.metadata)
    saved_models.write_graph(folder, graph)


def test_the_graph_for_serving_is_found_among_others(copy):
    folder = copy("gru")
    graph = saved_models.read_graph(folder)
    serving = graph.meta_graphs.pop()
    graph.meta_graphs.add().meta_info_def.tags.append("train")
    graph.meta_graphs.append(serving)
    saved_models.write_graph(folder, graph)
    assert open_folder(folder).graph.meta_info_def.tags == ["serve"]


def test_a_graph_for_training_only_is_refused(copy):
    folder = copy("gru")
    graph = saved_models.read_graph(folder)
    graph.meta_graphs[0].meta_info_def.tags[:] = ["train"]
    saved_models.write_graph(folder, graph)
    with pytest.raises(LoadError, match=r"no graph with the tag 'serve' \(its graphs: train"):
        load_model(folder)
