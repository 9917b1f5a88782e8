"""What `edgelstm.convert` writes beside .tflite: .onnx files and SavedModel folders, whole, with their cards."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
from keras import layers

import edgelstm
from edgelstm import EdgeLSTMError
from edgelstm.converters.exporters.onnx import to_onnx
from edgelstm.converters.exporters.onnx import verify as onnx_verify
from edgelstm.converters.exporters.saved_model import export_saved_model
from edgelstm.converters.exporters.saved_model import verify as saved_model_verify
from edgelstm.converters.exporters.saved_model.verify import serve_calls
from edgelstm.errors import LoweringError, OutputError, VerificationError
from edgelstm.options import ONNX, SAVED_MODEL, TFLITE, output_kind
from edgelstm.outputs import OUTPUTS
from edgelstm.outputs import onnx as onnx_output
from edgelstm.outputs import saved_model as saved_model_output
from tests.converters.tiny import FEATURES, TIME, UNITS, Array, floats, functional, sequential, with_random_weights

TOLERANCE = 1e-5  # what verification allows for answers below 1
NAMES = ("m.onnx", "served")

every_output = pytest.mark.parametrize("name", NAMES)


def classifier(recurrent: layers.Layer | None = None) -> keras.Model:
    x = keras.Input((TIME, FEATURES), name="x")
    y = layers.Bidirectional(recurrent or layers.LSTM(UNITS, name="lstm"), name="both")(x)
    return functional(x, layers.Dense(3, activation="softmax", name="answer")(y))


def hard(activation: str = "hard_sigmoid") -> keras.Model:
    return sequential(
        layers.Input((TIME, FEATURES), name="x"),
        layers.LSTM(UNITS, recurrent_activation=activation, name="lstm"),
        layers.Dense(2, name="answer"),
    )


def answers(path: Path, *calls: Array) -> list[Array]:
    """The only output of consecutive calls, by the runtime that the output is for."""
    if path.suffix == ".onnx":
        session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
        (entry,) = session.get_inputs()
        return [session.run(None, {entry.name: call})[0] for call in calls]
    runs, _ = serve_calls(path, [{"x": call[np.newaxis]} for call in calls])
    return [next(iter(run.values()))[0] for run in runs]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# What is written


@pytest.fixture(scope="module")
def model():
    return classifier()


@pytest.fixture(scope="module")
def written(tmp_path_factory, model):
    """One model in all forms in one folder, by the names of the outputs."""
    folder = tmp_path_factory.mktemp("written")
    outputs = ("m.tflite", *NAMES)
    return {name: edgelstm.convert(model, folder / name, calibration=floats(5, TIME, FEATURES)) for name in outputs}


def test_all_forms_of_a_model_lie_in_one_folder_and_can_be_opened(written):
    folder = written["served"].path.parent
    assert names(folder) == ["m.json", "m.onnx", "m.onnx.json", "m.tflite", "served", "served.json"]
    for name in ("m.tflite", "m.onnx"):
        assert edgelstm.Artifact.open(folder / name).card == written[name].card
    assert json.loads((folder / "served.json").read_text()) == written["served"].card


@every_output
def test_they_answer_as_keras_in_several_calls_of_any_batch(name, written, model):
    calls = [floats(3, TIME, FEATURES, seed=1), floats(1, TIME, FEATURES, seed=2), floats(3, TIME, FEATURES, seed=1)]
    for call, answer in zip(calls, answers(written[name].path, *calls), strict=True):
        np.testing.assert_allclose(answer, model(call), rtol=0, atol=TOLERANCE, equal_nan=False)


@every_output
def test_the_card_says_what_it_is(name, written):
    card = written[name].card
    assert card["model"] == {"file": name}
    assert card["runtime"] == {"m.onnx": "onnx", "served": "tensorflow"}[name]
    assert (card["precision"], card["state"]) == ("float32", {"semantics": "self-resetting"})
    assert card["inputs"] == [{"name": "x", "shape": [-1, TIME, FEATURES], "dtype": "float32"}]
    assert card["outputs"] == [{"name": "answer", "shape": [-1, 3], "dtype": "float32"}]
    assert card["warnings"] == []
    assert card["verified_on"] == "calibration"
    assert len(card["parity"]) == 2  # as it is, and in a larger batch
    for parity in card["parity"]:
        assert parity["passed"]
        assert parity["invokes"] >= 2
        assert parity["max_abs_difference"] < TOLERANCE
    assert card["parity"][1]["runtime"].endswith(", batch 3")


def test_the_size_is_that_of_the_file_or_of_all_files(written):
    assert written["m.onnx"].card["size_bytes"] == written["m.onnx"].path.stat().st_size
    files = [path for path in written["served"].path.rglob("*") if path.is_file()]
    assert written["served"].card["size_bytes"] == sum(path.stat().st_size for path in files)


def test_the_card_of_an_onnx_file_tells_operators_and_versions(written):
    card, graph = written["m.onnx"].card, onnx.load(written["m.onnx"].path).graph
    assert card["operators"] == {kind: sum(node.op_type == kind for node in graph.node) for kind in card["operators"]}
    assert sum(card["operators"].values()) == len(graph.node)
    assert card["operators"]["LSTM"] == 1
    assert card["versions"]["onnx"] == onnx.__version__
    assert card["opset"] == 17


@pytest.mark.parametrize(
    "layer, operator, gate",
    [(layers.LSTM, "LSTM", "sigmoid"), (layers.GRU, "GRU", "sigmoid"), (layers.SimpleRNN, "RNN", None)],
)
def test_the_card_of_an_onnx_file_tells_what_recurrent_layers_became(layer, operator, gate, tmp_path):
    card = edgelstm.convert(classifier(layer(UNITS, activation="relu", name="r")), tmp_path / "m.onnx").card
    assert card["operators"][operator] == 1
    common = {"operator": operator, "units": UNITS, "activation": "relu", "recurrent_activation": gate}
    assert card["recurrent"] == [
        {"layer": "both/forward_r", "direction": "forward", **common},
        {"layer": "both/backward_r", "direction": "reverse", **common},
    ]


def test_the_card_of_an_onnx_file_tells_what_is_written_out(tmp_path):
    model = sequential(layers.Input((3, FEATURES), name="x"), layers.LSTM(UNITS, activation="gelu", name="odd"))
    card = edgelstm.convert(model, tmp_path / "m.onnx").card
    assert card["recurrent"] == []
    assert [warning for warning in card["warnings"] if "Layer 'odd' is written out step by step" in warning]


@every_output
def test_an_earlier_output_is_replaced(name, tmp_path):
    for model in (classifier(layers.GRU(UNITS)), second := hard()):
        edgelstm.convert(model, tmp_path / name, verify=False)
    assert names(tmp_path) == [name, f"{name}.json"]
    data = floats(2, TIME, FEATURES)
    np.testing.assert_allclose(answers(tmp_path / name, data)[0], second(data), rtol=0, atol=TOLERANCE)


# Options


@pytest.mark.parametrize(
    "option",
    [
        {"quantize": "int8"},
        {"runtime": "micro"},
        {"streaming": True},
        {"quantize": "int8", "io": "int8"},
        {"strip_names": True},
    ],
)
@pytest.mark.parametrize("name, kind", [("m.onnx", "an ONNX file"), ("m", "a SavedModel folder")])
def test_options_of_other_outputs_are_refused_in_one_sentence(option, name, kind, tmp_path):
    key, value = next(iter(option.items()))
    with pytest.raises(LoweringError) as caught:
        edgelstm.convert(tmp_path / "missing.keras", tmp_path / name, calibration=tmp_path / "missing.npz", **option)
    flag = f"--{key.replace('_', '-')}" if value is True else f"--{key} {value}"
    assert str(caught.value) == (
        f"{flag} is an option of .tflite files, and {tmp_path / name} is to be {kind}: leave it out, or name the "
        "output m.tflite."
    )
    assert names(tmp_path) == []


@every_output
def test_approximate_gates_are_those_of_the_card(name, tmp_path):
    exact, approximate, data = hard(), hard("sigmoid"), 2 * floats(4, TIME, FEATURES)
    approximate.set_weights(exact.get_weights())
    assert np.abs(np.asarray(exact(data)) - np.asarray(approximate(data))).max() > 100 * TOLERANCE
    for asked, right in ((False, exact), (True, approximate)):
        card = edgelstm.convert(exact, tmp_path / name, approximate_gates=asked, calibration=data).card
        assert card["approximate_gates"] is asked
        assert any(warning.startswith("APPROXIMATE: ") for warning in card["warnings"]) is asked
        np.testing.assert_allclose(answers(tmp_path / name, data)[0], right(data), rtol=0, atol=TOLERANCE)
    if name == "m.onnx":
        assert edgelstm.verify(exact, tmp_path / name).passed


def free_length() -> keras.Model:
    return sequential(layers.Input((None, FEATURES), name="x"), layers.LSTM(UNITS), layers.Dense(2, name="answer"))


def test_batch_and_length_are_fixed_in_an_onnx_file(tmp_path):
    card = edgelstm.convert(free_length(), tmp_path / "m.onnx", batch=2, length=5).card
    assert card["inputs"][0]["shape"] == [2, 5, FEATURES]
    assert card["outputs"][0]["shape"] == [2, 2]
    assert len(card["parity"]) == 1


def test_batch_and_length_stay_free_in_a_savedmodel(tmp_path):
    model = free_length()
    card = edgelstm.convert(model, tmp_path / "served", batch=2, length=5).card
    assert card["inputs"][0]["shape"] == [-1, -1, FEATURES]
    assert card["outputs"][0]["shape"] == [-1, 2]
    assert [parity["runtime"].partition(", ")[2] for parity in card["parity"]] == ["", "batch 6", "longer"]
    for shape in ((3, 5, FEATURES), (1, 8, FEATURES)):
        (answer,) = answers(tmp_path / "served", floats(*shape))
        np.testing.assert_allclose(answer, model(floats(*shape)), rtol=0, atol=TOLERANCE)


@every_output
def test_a_batch_that_the_model_fixes_is_replaced(name, tmp_path):
    model = sequential(layers.Input((TIME, FEATURES), batch_size=4, name="x"), layers.LSTM(UNITS, stateful=True))
    card = edgelstm.convert(model, tmp_path / name, batch=2).card
    assert card["inputs"][0]["shape"] == [2, TIME, FEATURES]
    assert card["batch_rebased"]
    assert "starts every call from zero states" in " ".join(card["warnings"])


@every_output
def test_mixed_precision_computes_in_float32_and_says_so(name, tmp_path):
    x = keras.Input((TIME, FEATURES), name="x")
    model = functional(x, layers.Dense(2, name="answer")(layers.LSTM(UNITS, dtype="mixed_float16")(x)))
    card = edgelstm.convert(model, tmp_path / name).card
    assert card["warnings"] == [
        "The model computes in another precision than float32 in Keras; this file computes in float32."
    ]
    assert all(parity["max_abs_difference"] < TOLERANCE for parity in card["parity"])


@every_output
def test_without_verification_the_card_says_so(name, tmp_path):
    card = edgelstm.convert(hard(), tmp_path / name, verify=False).card
    assert (card["parity"], card["verified_on"]) == ([], None)
    assert card["warnings"] == ["The file was not compared with the Keras model."]


def test_without_onnx_runtime_the_file_is_written_with_a_warning(tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_output, "choose_runtime", lambda _: None)
    card = edgelstm.convert(hard(), tmp_path / "m.onnx").card
    assert card["parity"] == []
    assert "ONNX Runtime is not installed, so the file was not run: pip install onnxruntime." in card["warnings"]


# When something is wrong


def moved(model: keras.Model) -> keras.Model:
    """The same model with one bias another one."""
    changed = keras.models.clone_model(model)
    changed.set_weights([*model.get_weights()[:-1], model.get_weights()[-1] + [0, 1e-3]])
    return changed


@pytest.fixture
def sabotaged(monkeypatch):
    """Exports another model than the one that was given, which differs by 0.001 in one answer."""
    monkeypatch.setattr(onnx_output, "to_onnx", lambda model, *args, **options: to_onnx(moved(model), *args, **options))
    monkeypatch.setattr(
        saved_model_output, "export_saved_model", lambda model, *args: export_saved_model(moved(model), *args)
    )


@pytest.mark.usefixtures("sabotaged")
@every_output
def test_a_wrong_output_is_refused_and_nothing_is_left(name, tmp_path):
    text = rf"^{name} was not written: .*output 'answer' differs from Keras' by up to 0\.001 .*please report the model"
    with pytest.raises(VerificationError, match=text):
        edgelstm.convert(hard(), tmp_path / name)
    assert names(tmp_path) == []


@pytest.mark.usefixtures("sabotaged")
@every_output
def test_a_wrong_output_leaves_the_earlier_one(name, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(onnx_output, "to_onnx", to_onnx)
        patch.setattr(saved_model_output, "export_saved_model", export_saved_model)
        edgelstm.convert(hard(), tmp_path / name)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(VerificationError):
        edgelstm.convert(hard(), tmp_path / name)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.usefixtures("sabotaged")
@every_output
def test_unless_verification_is_left_out(name, tmp_path):
    edgelstm.convert(hard(), tmp_path / name, verify=False)
    data = floats(2, TIME, FEATURES)
    difference = np.abs(answers(tmp_path / name, data)[0] - np.asarray(hard()(data)))
    np.testing.assert_allclose(difference, [[0, 1e-3]] * 2, rtol=0, atol=TOLERANCE)


@every_output
def test_a_runtime_that_crashes_is_a_reason_to_write_nothing(name, tmp_path, monkeypatch):
    worker = tmp_path / "worker.py"
    worker.write_text("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n")
    for module in (onnx_verify, saved_model_verify):
        monkeypatch.setattr(module, "WORKER", worker)
    with pytest.raises(VerificationError, match=rf"{name} was not written: .*crashed \(SIGSEGV\)"):
        edgelstm.convert(hard(), tmp_path / name)
    assert names(tmp_path) == ["worker.py"]


def test_a_card_that_cannot_be_written_takes_the_folder_with_it(tmp_path, monkeypatch):
    def fail(*_: Any) -> None:
        raise OutputError("the disk is full")

    monkeypatch.setattr(saved_model_output, "write_card", fail)
    with pytest.raises(OutputError, match="the disk is full"):
        edgelstm.convert(hard(), tmp_path / "served", verify=False)
    assert names(tmp_path) == []


class TestPlaces:
    """Nothing is loaded or converted for a place that cannot be written to."""

    def refused(self, output: Path, text: str) -> None:
        with pytest.raises(OutputError, match=text):
            edgelstm.convert(output.parent / "missing.keras", output)

    def test_a_file_in_place_of_the_folder(self, tmp_path):
        (tmp_path / "served").write_text("mine")
        self.refused(tmp_path / "served", "a SavedModel is a folder, and this is a file")
        assert (tmp_path / "served").read_text() == "mine"

    def test_a_folder_in_place_of_the_file(self, tmp_path):
        for name in ("m.onnx", "m.tflite"):
            (tmp_path / name).mkdir()
            self.refused(tmp_path / name, r"it is a folder\. Name a file in it")

    def test_a_folder_of_other_things(self, tmp_path):
        (tmp_path / "photos").mkdir()
        (tmp_path / "photos" / "cat.jpg").write_text("cat")
        self.refused(tmp_path / "photos", r"holds something else than a SavedModel \(cat\.jpg\)")

    def test_a_savedmodel_that_edgelstm_did_not_write(self, tmp_path):
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine" / "saved_model.pb").write_text("precious")
        self.refused(tmp_path / "mine", "it holds a SavedModel that has no card of edgelstm beside it")

    def test_the_card_of_another_model(self, tmp_path):
        edgelstm.convert(hard(), tmp_path / "m.tflite", verify=False)
        self.refused(tmp_path / "m", r"The card would replace .*m\.json, which is the card of .*m\.tflite")

    @every_output
    def test_a_missing_folder(self, name, tmp_path):
        self.refused(tmp_path / "missing" / name, r"the folder .*missing does not exist\. Create it first")

    def test_an_unknown_ending(self, tmp_path):
        self.refused(tmp_path / "m.pb", r"ends in \.tflite or \.onnx, e\.g\. m\.tflite, and .* folder has no dot")


def test_every_kind_of_output_can_be_written():
    assert list(OUTPUTS) == [TFLITE, ONNX, SAVED_MODEL]
    assert [output_kind(Path(name)) for name in ("m.tflite", *NAMES)] == list(OUTPUTS)


# `edgelstm.verify`


class TestVerify:
    def test_a_right_file_passes(self, written, model):
        report = edgelstm.verify(model, written["m.onnx"].path)
        assert report.passed
        assert report.data == "generated"
        report = edgelstm.verify(model, written["m.onnx"], data={"x": floats(4, TIME, FEATURES)})
        assert (report.passed, report.data) == (True, "given")

    def test_the_file_of_another_model_fails(self, written):
        other = functional((x := keras.Input((TIME, FEATURES), name="x")), classifier()(x), seed=9)
        report = edgelstm.verify(other, written["m.onnx"].path)
        assert not report.passed
        assert "differs from Keras' by up to" in report.problems[0]

    def test_a_savedmodel_is_refused_with_the_reason(self, written, model):
        with pytest.raises(
            EdgeLSTMError, match=r"served is a folder: name a \.tflite or \.onnx file\. A SavedModel is"
        ):
            edgelstm.verify(model, written["served"].path)


def test_the_length_of_a_saved_model_stays_free_without_being_told(tmp_path):
    x = keras.Input((None, 3), name="x")
    model = with_random_weights(keras.Model(x, layers.Dense(2, name="y")(layers.LSTM(4)(x))))
    artifact = edgelstm.convert(model, tmp_path / "served")
    assert artifact.card["inputs"][0]["shape"] == [-1, -1, 3]


def test_an_onnx_file_of_another_batch_is_verified_as_such(tmp_path):
    x = keras.Input((5, 3), batch_size=4, name="x")
    with_random_weights(keras.Model(x, layers.Dense(2, name="y")(layers.LSTM(4)(x)))).save(tmp_path / "m.keras")
    artifact = edgelstm.convert(tmp_path / "m.keras", tmp_path / "m.onnx", batch=2)
    assert artifact.card["inputs"][0]["shape"][0] == 2
    assert edgelstm.verify(tmp_path / "m.keras", artifact.path).passed


@pytest.mark.parametrize("name", ["m.tflite", "served"])
def test_a_table_of_a_lookup_layer_is_refused_in_one_sentence(name, tmp_path):
    words = keras.Input((5,), dtype="int64", name="words")
    ids = layers.IntegerLookup(vocabulary=[7, 8, 9], name="lookup")(words)
    model = keras.Model(words, layers.LSTM(4)(layers.Embedding(5, 3)(ids)))
    with pytest.raises(LoweringError, match=r"cannot be saved as a SavedModel.*IntegerLookup"):
        edgelstm.convert(model, tmp_path / name)
    assert list(tmp_path.iterdir()) == []
