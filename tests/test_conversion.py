"""From a Keras model to an artifact, whole: what is written, and that nothing is written when anything goes wrong."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from keras import layers

import edgelstm
from edgelstm import EdgeLSTMError
from edgelstm.converters import native
from edgelstm.converters.graph import Graph
from edgelstm.errors import (
    CalibrationError,
    ConversionError,
    LoadError,
    LoweringError,
    OutputError,
    VerificationError,
)
from tests.converters.tiny import FEATURES, TIME, UNITS, floats, functional, sequential

# Keras copies its variables in a way that numpy 2 complains about when it saves them.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")

DATA = floats(12, TIME, FEATURES)


def bidirectional(units: int = UNITS) -> keras.Model:
    x = keras.Input((TIME, FEATURES), name="x")
    y = layers.Bidirectional(layers.LSTM(units))(x)
    return functional(x, layers.Dense(2, activation="softmax", name="answer")(y))


def masked() -> keras.Model:
    x = keras.Input((TIME, FEATURES), name="x")
    return functional(x, layers.Dense(2, name="answer")(layers.LSTM(UNITS)(layers.Masking()(x))))


def one_lstm() -> keras.Model:
    x = keras.Input((TIME, FEATURES), name="x")
    return functional(x, layers.Dense(2, name="answer")(layers.LSTM(UNITS)(x)))


def words(vocabulary: int = 9) -> keras.Model:
    x = keras.Input((TIME,), dtype="int32", name="tokens")
    return functional(x, layers.Dense(2)(layers.LSTM(UNITS)(layers.Embedding(vocabulary, 3, mask_zero=True)(x))))


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A model, and the file it was saved in."""
    model, path = bidirectional(), tmp_path_factory.mktemp("saved") / "model.keras"
    model.save(path)
    return model, path


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# What is written


@pytest.fixture(scope="module")
def artifact(tmp_path_factory, saved):
    return edgelstm.convert(saved[1], tmp_path_factory.mktemp("artifact") / "m.tflite", calibration=DATA)


def test_the_card_lies_beside_the_file_and_says_what_it_is(artifact, saved):
    card = json.loads(artifact.card_path.read_text())
    assert card == artifact.card
    assert edgelstm.Artifact.open(artifact.path).card == card
    assert sorted(path.name for path in artifact.path.parent.iterdir()) == ["m.json", "m.tflite"]
    assert card["edgelstm"] == edgelstm.__version__
    assert card["source"]["name"] == "model.keras"
    assert card["precision"] == "float32"
    assert card["names"] == "kept"
    assert card["state"] == {"semantics": "self-resetting"}
    assert card["size_bytes"] == artifact.path.stat().st_size
    assert card["parameters"] == saved[0].count_params()
    assert card["warnings"] == []
    assert {"tensorflow", "keras", "numpy", "ai-edge-litert"} <= set(card["versions"])


def test_the_card_describes_inputs_outputs_and_operators(artifact):
    (tensor,) = artifact.card["inputs"]
    assert tensor == {"name": "x", "shape": [1, TIME, FEATURES], "dtype": "float32", "scale": None, "zero_point": None}
    assert [(each["name"], each["shape"]) for each in artifact.card["outputs"]] == [("answer", [1, 2])]
    assert artifact.card["operators"]["UNIDIRECTIONAL_SEQUENCE_LSTM"] == 2
    assert [lstm["units"] for lstm in artifact.card["lstms"]] == [UNITS, UNITS]


def test_the_card_tells_the_parity_and_what_it_was_measured_on(artifact):
    assert artifact.card["verified_on"] == "calibration"
    for parity in artifact.card["parity"]:
        assert parity["passed"]
        assert parity["invokes"] == len(DATA) + 1
        assert parity["max_abs_difference"] <= 1e-5
        assert parity["decision_agreement"] == 1


def test_the_file_answers_as_keras(artifact, saved):
    got = edgelstm.load(artifact.path).predict(DATA[:3])
    np.testing.assert_allclose(got, saved[0](DATA[:3]), rtol=0, atol=1e-5)


def test_steps_are_reported_in_their_order(tmp_path):
    steps: list[str] = []
    edgelstm.convert(one_lstm(), tmp_path / "m.tflite", progress=steps.append)
    assert steps == ["loading", "tracing", "converting", "verifying", "writing"]


def test_without_verification_the_card_says_so(tmp_path):
    card = edgelstm.convert(one_lstm(), tmp_path / "m.tflite", verify=False).card
    assert (card["parity"], card["verified_on"]) == ([], None)


def test_the_keras_model_is_as_before(tmp_path):
    model = sequential(layers.Input((TIME, FEATURES), batch_size=1), layers.LSTM(UNITS, stateful=True))
    model(DATA[:1])
    before = [np.array(value) for value in (*model.weights, *model.layers[0].states)]
    loop = keras.layers.LSTM.inner_loop
    edgelstm.convert(model, tmp_path / "m.tflite")
    assert keras.layers.LSTM.inner_loop is loop
    assert model.layers[0].stateful
    for old, new in zip(before, (*model.weights, *model.layers[0].states), strict=True):
        np.testing.assert_array_equal(old, new)


# The same bytes every time

CONVERT = (
    "import sys, edgelstm; edgelstm.convert(sys.argv[1], sys.argv[2], quantize=sys.argv[3], calibration=sys.argv[4])"
)


def test_converting_twice_gives_the_same_bytes(artifact, saved, tmp_path):
    again = edgelstm.convert(saved[1], tmp_path / "m.tflite", calibration=DATA)
    assert again.path.read_bytes() == artifact.path.read_bytes()
    assert again.card_path.read_bytes() == artifact.card_path.read_bytes()


def test_converting_in_another_process_gives_the_same_bytes(saved, tmp_path):
    data, here, there = tmp_path / "data.npz", tmp_path / "here", tmp_path / "there"
    np.savez(data, x=DATA)
    for folder in (here, there):
        folder.mkdir()
    edgelstm.convert(saved[1], here / "m.tflite", quantize="int8", calibration=data)
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    command = [sys.executable, "-W", "ignore", "-c", CONVERT, saved[1], there / "m.tflite", "int8", data]
    subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, timeout=120, check=True)
    assert contents(here) == contents(there)


@pytest.mark.parametrize("build", [one_lstm, masked, bidirectional], ids=lambda build: build.__name__)
def test_a_live_model_gives_the_bytes_of_its_file(build, tmp_path):
    model = build()
    model.save(tmp_path / "model.keras")
    live = edgelstm.convert(model, tmp_path / "live.tflite", verify=False)
    loaded = edgelstm.convert(tmp_path / "model.keras", tmp_path / "loaded.tflite", verify=False)
    assert live.path.read_bytes() == loaded.path.read_bytes()


# Options


@pytest.mark.parametrize(
    "options, text",
    [
        ({"quantize": "int4"}, r"quantize='int4' is not known, only 'float32', 'float16', 'dynamic', 'int8'\."),
        ({"padding": "left"}, r"padding='left' is not known, only 'auto', 'pre', 'post', 'none'\."),
        ({"io": "uint8"}, r"io='uint8' is not known, only 'float', 'int8'\."),
        ({"io": "int8"}, r"io='int8' needs quantize='int8', not 'float32'\."),
        ({"ranges": {"lstm/input": (-1.0, 1.0)}}, r"ranges are those of int8 values, so they need quantize='int8'"),
        ({"batch": 0}, r"batch=0 must be at least 1\."),
        ({"length": -3}, r"length=-3 must be at least 1\."),
    ],
)
def test_wrong_options_are_refused_before_any_work(options, text, tmp_path):
    with pytest.raises(ValueError, match=text):
        edgelstm.convert("no/such/model.keras", tmp_path / "m.tflite", **options)


def test_batch_and_length_shape_the_file(tmp_path):
    x = keras.Input((None, FEATURES), name="x")
    model = functional(x, layers.LSTM(UNITS)(x))
    card = edgelstm.convert(model, tmp_path / "m.tflite", batch=2, length=5).card
    assert card["inputs"][0]["shape"] == [2, 5, FEATURES]


def test_a_free_length_is_taken_from_the_data(tmp_path):
    x = keras.Input((None, FEATURES), name="x")
    card = edgelstm.convert(functional(x, layers.LSTM(UNITS)(x)), tmp_path / "m.tflite", calibration=DATA).card
    assert card["inputs"][0]["shape"] == [1, TIME, FEATURES]


# int8 inputs and outputs


@pytest.mark.parametrize("build", [one_lstm, bidirectional], ids=lambda build: build.__name__)
def test_int8_inputs_and_outputs_carry_scale_and_zero_point(build, tmp_path):
    model = build()
    artifact = edgelstm.convert(model, tmp_path / "m.tflite", quantize="int8", calibration=DATA, io="int8")
    for tensor in (*artifact.card["inputs"], *artifact.card["outputs"]):
        assert tensor["dtype"] == "int8"
        assert tensor["scale"] > 0
        assert -128 <= tensor["zero_point"] <= 127
    inspection = edgelstm.inspect(artifact.path)
    assert [each.scale for each in inspection.inputs] == [each["scale"] for each in artifact.card["inputs"]]
    tensors = [tensor for tensor in Graph.from_bytes(artifact.path.read_bytes()).subgraph.tensors if len(tensor.shape)]
    floats = [tensor.name for tensor in tensors if tensor.type == schema.TensorType.FLOAT32 and all(tensor.shape)]
    assert floats == [], "the int8 file computes with floats"


def test_a_masked_float_input_stays_float_and_the_card_says_why(tmp_path):
    card = edgelstm.convert(masked(), tmp_path / "m.tflite", quantize="int8", calibration=DATA, io="int8").card
    assert card["inputs"][0]["dtype"] == "float32"
    assert card["outputs"][0]["dtype"] == "int8"
    assert "Input 'x' stays float32: the model compares or indexes with its exact values." in card["warnings"]


# Other precisions in Keras


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float16", "float64"])
def test_a_model_in_another_precision_is_computed_in_float32_and_left_as_it_was(policy, tmp_path):
    model = sequential(
        layers.Input((TIME, FEATURES), name="x"),
        layers.Bidirectional(layers.LSTM(UNITS, dtype=policy, return_sequences=True), dtype=policy),
        layers.LSTM(UNITS, dtype=policy),
        layers.Dense(2, dtype=policy),
    )
    before = [layer.compute_dtype for layer in model._flatten_layers()]
    card = edgelstm.convert(model, tmp_path / "m.tflite").card
    assert any("this file computes in float32" in each for each in card["warnings"])
    assert card["parity"][0]["max_abs_difference"] <= 1e-5
    assert [layer.compute_dtype for layer in model._flatten_layers()] == before


# Verification of artifacts


def test_a_good_artifact_passes_on_generated_and_on_given_data(artifact, saved):
    assert edgelstm.verify(saved[1], artifact).passed
    report = edgelstm.verify(saved[0], artifact.path, data={"x": DATA})
    assert report.passed
    assert report.data == "given"


def test_the_artifact_of_another_model_fails(artifact):
    x = keras.Input((TIME, FEATURES), name="x")
    y = layers.Bidirectional(layers.LSTM(UNITS))(x)
    other = functional(x, layers.Dense(2, activation="softmax", name="answer")(y), seed=1)
    assert not edgelstm.verify(other, artifact).passed


def test_an_artifact_with_other_inputs_is_refused(artifact):
    with pytest.raises(
        VerificationError, match=r"takes .*'x'.* but the model takes .*'tokens'.*not converted from this"
    ):
        edgelstm.verify(words(), artifact)


def test_inputs_of_different_lengths_are_verified(tmp_path):
    static, series = keras.Input((4,), name="static"), keras.Input((None, FEATURES), name="series")
    y = layers.Concatenate()([static, layers.LSTM(UNITS)(series)])
    model = functional([static, series], layers.Dense(1)(y))
    artifact = edgelstm.convert(model, tmp_path / "m.tflite", length=7, verify=False)
    assert edgelstm.verify(model, artifact).passed


@pytest.mark.parametrize("extent", [0.1, 255.0])
def test_a_good_int8_artifact_is_not_called_wrong_on_inputs_it_was_never_calibrated_for(extent, tmp_path):
    model, data = one_lstm(), extent * np.random.default_rng(0).random((40, TIME, FEATURES))
    artifact = edgelstm.convert(model, tmp_path / "m.tflite", quantize="int8", calibration=data)
    assert edgelstm.verify(model, artifact, data=data).passed
    try:
        good = edgelstm.verify(model, artifact).passed
    except EdgeLSTMError as error:
        good = "data" in str(error)
    assert good


# When it cannot be done


@pytest.fixture
def existing(tmp_path):
    """An artifact that stands where the new one is to be written."""
    folder = tmp_path / "existing"
    folder.mkdir()
    edgelstm.convert(one_lstm(), folder / "m.tflite", verify=False)
    return folder


class Lookup(layers.Layer):
    """Something that TensorFlow Lite has no operator for."""

    def call(self, x):
        import tensorflow as tf

        return tf.strings.to_number(tf.strings.as_string(x))


def foreign() -> keras.Model:
    x = keras.Input((TIME, FEATURES), name="x")
    return functional(x, layers.LSTM(UNITS)(Lookup()(x)))


def with_nan() -> np.ndarray:
    data = DATA.copy()
    data[2, 1] = np.nan
    return data


FAILURES = {
    "unsupported operator": (foreign, {}, ConversionError, r"The model uses .*no built-in operator for"),
    "calibration with NaN": (one_lstm, {"calibration": with_nan()}, CalibrationError, r"holds NaN or infinity"),
    "calibration of another shape": (one_lstm, {"calibration": DATA[:, :2]}, CalibrationError, r"has shape"),
    "no calibration": (one_lstm, {"quantize": "int8"}, CalibrationError, r"int8 needs data"),
    "unsupported precision": (
        lambda: sequential(layers.Input((TIME, FEATURES), name="x"), layers.LSTM(UNITS, activation="relu")),
        {"quantize": "int8", "calibration": DATA},
        LoweringError,
        r"activation 'relu' cannot be int8",
    ),
    "tokens beyond the vocabulary": (
        words,
        {"calibration": np.full((4, TIME), 9)},
        EdgeLSTMError,
        r"tokens",
    ),
    "tokens beyond the vocabulary, int8": (
        words,
        {"calibration": np.full((4, TIME), 9), "quantize": "int8"},
        CalibrationError,
        r"tokens",
    ),
    "a broken promise": (
        words,
        {"calibration": np.repeat([[0, 0, 3, 4, 5, 6]], 4, axis=0), "padding": "post"},
        VerificationError,
        r"m\.tflite was not written: .*Check a promise given with --padding",
    ),
    "a time limit": (one_lstm, {"timeout_s": 0.01}, ConversionError, r"did not end within 0\.01 s"),
}


@pytest.mark.parametrize("name", FAILURES)
def test_a_failure_leaves_what_was_there(name, existing):
    build, options, error, text = FAILURES[name]
    before = contents(existing)
    with pytest.raises(error, match=text):
        edgelstm.convert(build(), existing / "m.tflite", **options)
    assert contents(existing) == before


def test_a_crash_of_the_native_converter_leaves_what_was_there(existing, tmp_path, monkeypatch):
    worker = tmp_path / "worker.py"
    worker.write_text("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)")
    monkeypatch.setattr(native, "WORKER", worker)
    before = contents(existing)
    with pytest.raises(ConversionError, match=r"crashed \(SIGSEGV\)"):
        edgelstm.convert(one_lstm(), existing / "m.tflite")
    assert contents(existing) == before


def test_a_missing_folder_is_told_before_any_work(tmp_path):
    with pytest.raises(OutputError, match=r"the folder .*missing does not exist\. Create it first\."):
        edgelstm.convert("no/such/model.keras", tmp_path / "missing" / "m.tflite")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 16 KiB."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root can mount a small disk")
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", folder], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("this system does not let root mount a small disk")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_full_disk_leaves_what_was_there(small_disk):
    existing = {"m.tflite": b"an older model", "notes.txt": b"keep"}
    for name, content in existing.items():
        (small_disk / name).write_bytes(content)
    with pytest.raises(OutputError, match=r"Cannot write .*m\.tflite: the disk is full"):
        edgelstm.convert(bidirectional(64), small_disk / "m.tflite", verify=False)
    assert contents(small_disk) == existing


def test_a_full_scratch_disk_is_an_error_of_ours(small_disk, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(small_disk))
    with pytest.raises(EdgeLSTMError):
        edgelstm.convert(bidirectional(64), tmp_path / "m.tflite", verify=False)
    assert not (tmp_path / "m.tflite").exists()


# Models that are none of ours


def test_a_model_without_lstm_is_converted_with_a_note(tmp_path):
    model = sequential(layers.Input((4,), name="x"), layers.Dense(3))
    artifact = edgelstm.convert(model, tmp_path / "m.tflite")
    assert artifact.card["warnings"] == ["The model has no recurrent layer; it was converted as it is."]
    assert artifact.card["parity"][0]["passed"]
    np.testing.assert_allclose(edgelstm.load(artifact.path).predict(floats(2, 4)), model(floats(2, 4)), atol=1e-5)


def test_a_loop_is_told_in_the_card(tmp_path):
    model = sequential(layers.Input((TIME, FEATURES), name="x"), layers.GRU(UNITS))
    (warning, *_) = edgelstm.convert(model, tmp_path / "m.tflite").card["warnings"]
    assert "becomes a loop: its cell is a GRUCell" in warning


def test_a_lambda_layer_is_refused(tmp_path):
    x = keras.Input((TIME, FEATURES))
    model = keras.Model(x, layers.LSTM(UNITS)(layers.Lambda(lambda y: 2 * y)(x)))
    path = tmp_path / "model.keras"
    model.save(path)
    with pytest.raises(LoadError, match="Lambda"):
        edgelstm.convert(path, tmp_path / "m.tflite")
    assert [path.name for path in tmp_path.iterdir()] == ["model.keras"]


@pytest.mark.parametrize("model", [None, 3, {"a": 1}, np.zeros(3)])
def test_something_that_is_no_model_is_refused(model, tmp_path):
    with pytest.raises(
        LoadError, match=r"Cannot convert a .*: give a Keras 3 or tf_keras model, or the path of its file"
    ):
        edgelstm.convert(model, tmp_path / "m.tflite")


def test_a_model_without_weights_is_refused(tmp_path):
    model = keras.Sequential([layers.LSTM(UNITS)])
    with pytest.raises(LoadError, match="has no weights yet: call it once on data, or load its weights"):
        edgelstm.convert(model, tmp_path / "m.tflite")
