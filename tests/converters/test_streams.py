"""Streaming models: their data, what is refused, and a verification that sees lost states."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

import edgelstm
from edgelstm.artifact import Artifact, write_artifact
from edgelstm.converters.calibration import chunked_calls, steps_of
from edgelstm.converters.chunks import StreamSignature
from edgelstm.converters.lowering.signature import TensorSpec
from edgelstm.converters.policies import any_length
from edgelstm.converters.streams import fit_sequences
from edgelstm.errors import CalibrationError, LoweringError, VerificationError
from tests.converters.forms import BY_NAME
from tests.converters.tiny import floats, functional, sequential

Array = np.ndarray[Any, Any]
STEPS, FEATURES = 20, 3
TOLERANCE = 1e-6


def signature(batch: int = 1, chunk: int = 3) -> StreamSignature:
    """Inputs x, a sequence, and facts, which is none and has as many entries as x has steps."""
    inputs = TensorSpec("x", (batch, chunk, 2), "float32"), TensorSpec("facts", (batch, 12), "float32")
    return StreamSignature(inputs, [0, 1], sequences=("x",), chunk=chunk)


def numbered(samples: int, steps: int) -> dict[str, Array]:
    """Data in which every value tells its sample and step."""
    x = 100.0 * np.arange(samples)[:, None] + np.arange(steps)
    return {"x": np.stack([x, -x], axis=-1), "facts": np.repeat(np.arange(samples)[:, None], 12, axis=1)}


def test_sequences_are_cut_to_full_chunks_and_other_inputs_are_not():
    data = numbered(5, 20)
    fitted = fit_sequences(data, signature())
    np.testing.assert_array_equal(fitted["x"], data["x"][:, :18])
    np.testing.assert_array_equal(fitted["facts"], data["facts"])
    assert steps_of(fitted, signature()) == 18
    assert {array.dtype.name for array in fitted.values()} == {"float32"}


def test_sequences_of_different_lengths_are_cut_to_the_shortest():
    inputs = TensorSpec("a", (1, 4, 2), "float32"), TensorSpec("b", (1, 4), "int32")
    both = StreamSignature(inputs, [0, 1], sequences=("a", "b"), chunk=4)
    fitted = fit_sequences({"a": np.ones((2, 30, 2)), "b": np.ones((2, 19))}, both)
    assert (fitted["a"].shape, fitted["b"].shape) == ((2, 16, 2), (2, 16))


def test_one_unnamed_array_is_the_one_input():
    one = StreamSignature((TensorSpec("x", (1, 2, 3), "float32"),), 0, sequences=("x",), chunk=2)
    assert fit_sequences({"": np.ones((4, 7, 3))}, one)["x"].shape == (4, 6, 3)


def test_samples_of_too_few_chunks_are_joined():
    fitted = fit_sequences(numbered(5, 4), signature())
    np.testing.assert_array_equal(
        fitted["x"][..., 0], [[0, 1, 2, 100, 101, 102, 200, 201, 202], [300, 301, 302, 400, 401, 402, 0, 1, 2]]
    )
    np.testing.assert_array_equal(fitted["facts"][:, 0], [0, 3])


@pytest.mark.parametrize(
    "data, message",
    [
        (numbered(5, 2), "sequences of 2 steps, but one call of the file takes 3: give longer ones, or --length 2"),
        ({**numbered(5, 9), "facts": np.ones((5, 11))}, r"'facts' has shape \(5, 11\), but the model takes"),
        ({**numbered(5, 9), "facts": np.ones((4, 12))}, r"different numbers of samples \('x' 5, 'facts' 4\)"),
        ({"x": np.ones((5, 9, 2))}, "arrays named 'x', but the model's inputs are 'x', 'facts'"),
        ({**numbered(5, 9), "x": np.ones(5)}, r"'x' has shape \(5,\), but the model takes \(samples, 3, 2\)"),
        ({**numbered(5, 9), "x": np.full((5, 9, 2), np.nan)}, "'x' holds NaN or infinity"),
    ],
)
def test_data_that_does_not_fit_is_refused(data, message):
    with pytest.raises(CalibrationError, match=message):
        fit_sequences(data, signature())


def test_calls_are_the_chunks_of_one_sequence_after_the_other():
    fitted = fit_sequences(numbered(2, 9), signature())
    calls, chunks = chunked_calls(fitted, signature(), limit=10)
    assert chunks == 3
    steps = [[0, 1, 2], [3, 4, 5], [6, 7, 8], [100, 101, 102], [103, 104, 105], [106, 107, 108]]
    np.testing.assert_array_equal(calls["x"][..., 0], np.array(steps)[:, None])
    np.testing.assert_array_equal(calls["facts"][..., 0, 0], [0, 0, 0, 1, 1, 1])


def test_rows_of_a_batch_are_sequences_of_their_own():
    fitted = fit_sequences(numbered(3, 9), signature(batch=2))
    calls, _ = chunked_calls(fitted, signature(batch=2), limit=10)
    assert calls["x"].shape == (6, 2, 3, 2)
    np.testing.assert_array_equal(calls["x"][0, :, :, 0], [[0, 1, 2], [100, 101, 102]])
    np.testing.assert_array_equal(calls["x"][1, :, :, 0], [[3, 4, 5], [103, 104, 105]])
    np.testing.assert_array_equal(calls["x"][3, :, :, 0], [[200, 201, 202], [0, 1, 2]])


def lstm(units: int = 4, **arguments: Any) -> Any:
    return layers.LSTM(units, **arguments)


def every_step(**arguments: Any) -> Any:
    return layers.LSTM(4, return_sequences=True, **arguments)


def x(steps: int | None = STEPS) -> Any:
    return keras.Input((steps, FEATURES), name="x")


def stream(model: keras.Model, folder: Path, **options: Any) -> Artifact:
    return edgelstm.convert(model, folder / "m.tflite", streaming=True, **{"length": 3, **options})


def attention() -> keras.Model:
    sequence = every_step()(given := x())
    return functional(given, layers.Attention(name="mixer")([sequence, sequence]))


def encoder_and_decoder() -> keras.Model:
    _, h, c = lstm(return_state=True)(given := x())
    return functional(given, every_step(name="decoder")(given, initial_state=[h, c]))


def states_as_inputs() -> keras.Model:
    given, h, c = x(), keras.Input((4,), name="h"), keras.Input((4,), name="c")
    return functional([given, h, c], lstm(name="reader")(given, initial_state=[h, c]))


def masked() -> keras.Model:
    tokens = keras.Input((STEPS,), name="tokens", dtype="int32")
    return sequential(tokens, layers.Embedding(9, 3, mask_zero=True), lstm(name="reader"))


@pytest.mark.parametrize(
    "build, message",
    [
        (
            lambda: sequential(x(), layers.Bidirectional(lstm(name="reader"))),
            "Layer '.*backward_reader' reads its sequence backwards, from a last step that a stream does not have: "
            "leave --streaming out, or use a layer that runs forwards",
        ),
        (
            lambda: sequential(x(), lstm(go_backwards=True, name="reader")),
            "Layer 'reader' reads its sequence backwards",
        ),
        (masked, "Layer 'reader' skips masked steps, and a stream has none: add --padding none to promise"),
        (
            encoder_and_decoder,
            "Layer 'decoder' starts from states that the model computes or is given, so they do not stay from call to "
            "call: leave --streaming out and feed the states yourself",
        ),
        (states_as_inputs, "Layer 'reader' starts from states that the model computes or is given"),
        (
            lambda: sequential(x(), layers.Conv1D(4, 2, padding="causal", name="mixer"), lstm()),
            "cannot be streamed: its answers over chunks differ from those over the whole sequence, because layer "
            "'mixer' looks at several time steps and keeps none of them from call to call. Leave --streaming out, or",
        ),
        (
            lambda: sequential(x(), layers.Conv1D(4, 2, dilation_rate=16, padding="causal", name="mixer"), lstm()),
            "cannot be streamed: .* layer 'mixer' looks at several",
        ),
        (attention, "cannot be streamed: .* layer 'mixer' looks at several"),
        (
            lambda: sequential(x(), every_step(), layers.GlobalAveragePooling1D(name="mixer")),
            "cannot be streamed: .* layer 'mixer' looks at several",
        ),
        (
            lambda: sequential(x(), lstm(), layers.RepeatVector(STEPS, name="mixer"), every_step()),
            "cannot be streamed: .* layer 'mixer' looks at several",
        ),
        (
            lambda: sequential(x(), layers.AveragePooling1D(2, name="mixer"), every_step()),
            "cannot be streamed: .* layer 'mixer' looks at several",
        ),
        (
            lambda: sequential(x(), layers.GRU(4, name="reader")),
            "Layer 'reader' cannot be streamed: its cell is a GRUCell, and only LSTMCell is lowered. Leave --streaming",
        ),
        (
            lambda: sequential(x(), every_step(), layers.Permute((2, 1))),
            r"cannot be streamed: over a longer sequence its output has shape \(1, 4, 6\), and a chunk gives \(1, 4, 3",
        ),
        (lambda: sequential(x(), layers.Flatten(), layers.Dense(2)), "cannot take 3 time steps at a time"),
    ],
)
def test_what_cannot_be_streamed_is_refused_with_the_reason(build, message, tmp_path):
    with pytest.raises(LoweringError, match=message):
        stream(build(), tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("precision", ["dynamic", "int8"])
def test_coarse_tolerances_hide_no_model_that_cannot_be_streamed(precision, tmp_path):
    """Two taps of which the one that looks back is small: within what int8 allows, and wrong all the same."""
    model = sequential(x(), layers.Conv1D(4, 2, padding="causal", name="mixer"), lstm())
    kernel = np.asarray(model.layers[0].kernel).copy()
    kernel[0] *= 0.05
    model.layers[0].kernel.assign(kernel)
    with pytest.raises(LoweringError, match=r"cannot be streamed: .* layer 'mixer'"):
        stream(model, tmp_path, quantize=precision, calibration=floats(20, 24, FEATURES))


def test_pooling_over_steps_of_one_chunk_is_streamed(tmp_path):
    model = sequential(x(), layers.AveragePooling1D(2), every_step())
    artifact = stream(model, tmp_path, length=4)
    assert artifact.card["outputs"][0]["shape"] == [1, 2, 4]


def whole(model: keras.Model, chunks: list[dict[str, Array]], path: Path) -> dict[str, Array]:
    """Returns the answers of a file to chunks, joined along the time axis."""
    loaded = edgelstm.load(path)
    answers = [loaded(chunk) for chunk in chunks]
    return {name: np.stack([answer[name] for answer in answers]) for name in answers[0]}


@pytest.mark.parametrize("runtime", ["interpreter", "compiled"])
def test_a_model_of_a_fixed_length_is_streamed_step_by_step(runtime, tmp_path):
    model = sequential(x(100), every_step(), lstm(5))
    artifact = stream(model, tmp_path, length=1, runtime=runtime, verify=False)
    data = floats(1, 100, FEATURES)
    found = whole(model, [{"x": data[:, k : k + 1]} for k in range(100)], artifact.path)
    np.testing.assert_allclose(found["output"][-1], np.asarray(model(data)), atol=TOLERANCE, rtol=0)
    assert artifact.card["inputs"][0]["shape"] == [1, 1, FEATURES]


def test_one_step_at_a_time_is_the_default(tmp_path):
    artifact = edgelstm.convert(sequential(x(None), lstm()), tmp_path / "m.tflite", streaming=True, verify=False)
    assert artifact.card["inputs"][0]["shape"] == [1, 1, FEATURES]


def test_a_stateful_model_with_a_fixed_batch_goes_on_as_in_keras(tmp_path):
    given = keras.Input(batch_shape=(2, 3, FEATURES), name="x")
    model = functional(given, layers.Dense(2)(lstm(stateful=True)(given)))
    artifact = stream(model, tmp_path, verify=False)
    assert not [warning for warning in artifact.card["warnings"] if "stateful" in warning]
    data = floats(4, 2, 3, FEATURES)
    found = whole(model, [{"x": chunk} for chunk in data], artifact.path)["output"]
    model.layers[1].reset_state()
    for answer, chunk in zip(found, data, strict=True):
        np.testing.assert_allclose(answer, np.asarray(model(chunk)), atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("runtime", ["interpreter", "compiled"])
def test_an_input_that_is_no_sequence_is_given_with_every_chunk(runtime, tmp_path):
    given, facts = x(), keras.Input((12,), name="facts")
    model = functional([given, facts], layers.Dense(2)(layers.Concatenate()([lstm()(given), facts])))
    artifact = stream(model, tmp_path, runtime=runtime, verify=False)
    shapes = {entry["name"]: entry["shape"] for entry in artifact.card["inputs"]}
    assert shapes.pop("x") == [1, 3, FEATURES]
    assert shapes.pop("facts") == [1, 12]
    data, constant = floats(1, 12, FEATURES), floats(1, 12, seed=1)
    chunks = [{"x": data[:, k : k + 3], "facts": constant} for k in range(0, 12, 3)]
    found = whole(model, chunks, artifact.path)["output"]
    with any_length(model):
        right = model([data, constant])
    np.testing.assert_allclose(found[-1], np.asarray(right), atol=TOLERANCE, rtol=0)


def test_final_states_as_outputs_are_those_after_the_chunk(tmp_path):
    given = x(None)
    model = functional(given, list(every_step(return_state=True)(given)))
    data = floats(1, 12, FEATURES)
    right = [np.asarray(output) for output in model(data)]
    for runtime in ("interpreter", "compiled"):
        artifact = stream(model, tmp_path, runtime=runtime, verify=False)
        loaded = edgelstm.load(artifact.path)
        answers = [list(loaded(data[:, k : k + 3]).values()) for k in range(0, 12, 3)]
        np.testing.assert_allclose(np.concatenate([a[0] for a in answers], axis=1), right[0], atol=TOLERANCE, rtol=0)
        hidden, cell = answers[-1][1:]
        np.testing.assert_allclose(hidden, right[1], atol=TOLERANCE, rtol=0)
        np.testing.assert_allclose(cell, right[2], atol=TOLERANCE, rtol=0)
        states = loaded.states
        np.testing.assert_array_equal(hidden, next(v for k, v in states.items() if k.endswith("hidden_state")))
        np.testing.assert_array_equal(cell, next(v for k, v in states.items() if k.endswith("cell_state")))


@pytest.mark.parametrize(
    "last", [lambda: layers.Reshape((3, 1)), lambda: layers.RepeatVector(3), lambda: layers.Dense(3)]
)
def test_an_output_axis_as_long_as_a_chunk_by_accident_is_no_time_axis(last, tmp_path):
    model = sequential(x(None), lstm(3), last())
    artifact = stream(model, tmp_path)
    data = floats(1, 12, FEATURES)
    found = whole(model, [{"x": data[:, k : k + 3]} for k in range(0, 12, 3)], artifact.path)["output"]
    np.testing.assert_allclose(found[-1], np.asarray(model(data)), atol=TOLERANCE, rtol=0)


def test_calibration_data_shorter_than_a_chunk_is_refused(tmp_path):
    with pytest.raises(
        CalibrationError, match=r"sequences of 7 steps, but one call of the file takes 16: .* --length 7"
    ):
        stream(sequential(x(), lstm()), tmp_path, length=16, quantize="int8", calibration=floats(5, 7, FEATURES))


def test_tokens_beyond_the_vocabulary_are_refused_before_a_runtime_meets_them(tmp_path):
    tokens = keras.Input((STEPS,), name="tokens", dtype="int32")
    model = sequential(tokens, layers.Embedding(9, 3), lstm())
    with pytest.raises(CalibrationError, match="Keras cannot compute the model on the data"):
        stream(model, tmp_path, quantize="int8", calibration=np.full((4, 12), 50))


def scales(artifact: Artifact) -> dict[str, float]:
    return {entry["name"]: entry["scale"] for entry in artifact.card["state"]["states"]}


@pytest.mark.parametrize("batch, chunk", [(1, 1), (1, 4), (2, 4)])
def test_int8_ranges_are_those_of_sequences_that_begin_anew(batch, chunk, tmp_path):
    """A counter: c goes up to about 12 in one sequence, and on and on if the next one does not begin at zero."""
    model = BY_NAME["lstm_counter"].build()
    data = np.abs(floats(40, 12, 5)) + 0.5
    with any_length(model):
        _, cell = (np.asarray(output) for output in model(data))
    assert 8 < np.abs(cell).max() < 16
    artifact = stream(model, tmp_path, length=chunk, batch=batch, quantize="int8", calibration=data, verify=False)
    (scale,) = (entry["scale"] for entry in artifact.card["state"]["states"] if entry["kind"] == "cell")
    assert scale == 2.0 ** (4 - 15)


@pytest.mark.parametrize("runtime", ["interpreter", "compiled"])
def test_verify_passes_what_convert_wrote_and_nothing_else(runtime, tmp_path):
    model = sequential(x(), every_step(), lstm(5))
    artifact = stream(model, tmp_path, runtime=runtime, batch=2)
    for data in (None, floats(5, 14, FEATURES), floats(5, 3, FEATURES)):
        report = edgelstm.verify(model, artifact, data=data)
        assert report.passed, report.problems
        assert report.data == ("generated" if data is None else "given")
    other = sequential(x(), every_step(), lstm(5), seed=1)
    assert not edgelstm.verify(other, artifact).passed


def test_verify_of_an_int8_stream_uses_inputs_like_those_of_calibration(tmp_path):
    model = sequential(x(), lstm(5))
    data = 0.1 * floats(40, 12, FEATURES)
    artifact = stream(model, tmp_path, quantize="int8", calibration=data)
    assert edgelstm.verify(model, artifact).passed
    assert edgelstm.verify(model, artifact, data=data).passed


def test_a_file_that_forgets_its_state_does_not_pass(tmp_path):
    """One that resets itself is right on the first chunk of each sequence, and on no other."""
    model = sequential(x(3), lstm(5))
    artifact = edgelstm.convert(model, tmp_path / "m.tflite")
    card = {**artifact.card, "state": {"semantics": "streaming", "states": []}}
    forgetful = write_artifact(tmp_path / "m.tflite", artifact.path.read_bytes(), card)
    for data in (None, floats(4, 9, FEATURES), floats(4, 3, FEATURES)):
        report = edgelstm.verify(model, forgetful, data=data)
        assert not report.passed
        assert "differs from Keras" in report.problems[0]


def test_a_file_with_exchanged_states_does_not_pass(tmp_path):
    model = sequential(x(), lstm(5))
    artifact = stream(model, tmp_path, runtime="compiled", verify=False)
    card = json.loads(json.dumps(artifact.card))
    hidden, cell = card["state"]["states"]
    hidden["output"], cell["output"] = cell["output"], hidden["output"]
    wrong = write_artifact(tmp_path / "m.tflite", artifact.path.read_bytes(), card)
    report = edgelstm.verify(model, wrong)
    assert not report.passed
    assert "differs from Keras" in report.problems[0]


def test_verify_refuses_a_model_that_takes_other_inputs(tmp_path):
    artifact = stream(sequential(x(), lstm(5)), tmp_path, verify=False)
    wider = sequential(keras.Input((STEPS, FEATURES + 1), name="x"), lstm(5))
    with pytest.raises(VerificationError, match="it was not converted from this model by edgelstm"):
        edgelstm.verify(wider, artifact)
    renamed = sequential(keras.Input((STEPS, FEATURES), name="y"), lstm(5))
    with pytest.raises(VerificationError, match="it was not converted from this model by edgelstm"):
        edgelstm.verify(renamed, artifact)


def test_a_model_that_answers_nan_is_refused(tmp_path):
    model = sequential(x(), lstm(5))
    model.layers[0].cell.bias.assign(np.full(20, np.nan))
    with pytest.raises(VerificationError, match="Keras itself answers with NaN or infinity on the generated data"):
        stream(model, tmp_path)


def test_approximate_gates_are_streamed_in_the_fused_operator(tmp_path):
    model = sequential(x(), lstm(5, recurrent_activation="hard_sigmoid"))
    data = floats(7, 12, FEATURES)
    artifact = stream(model, tmp_path, approximate_gates=True, calibration=data, batch=2)
    assert {entry["storage"] for entry in artifact.card["state"]["states"]} == {"variable"}
    assert "APPROXIMATE" in artifact.card["warnings"][0]
    exact = stream(model, tmp_path, calibration=data, batch=2, verify=False)
    assert {entry["storage"] for entry in exact.card["state"]["states"]} == {"input"}


def test_a_file_that_was_not_verified_says_so(tmp_path):
    artifact = stream(sequential(x(), lstm(5)), tmp_path, verify=False)
    assert artifact.card["parity"] == []
    assert "The file was not compared with the Keras model." in artifact.card["warnings"]


def test_the_code_of_the_page_about_streaming_runs(tmp_path, monkeypatch):
    page = (Path(__file__).parents[2] / "docs" / "streaming.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(blocks) == 2
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec("\n".join(blocks), names)
    stream, later = names["stream"], names["later"]
    assert list(stream.states) == ["first/hidden_state", "first/cell_state", "second/hidden_state", "second/cell_state"]
    assert not any(state.any() for state in stream.states.values())
    assert later.states["first/cell_state"].any()
    assert not later.states["second/cell_state"].any()
    card = edgelstm.convert(
        names["model"], "web.tflite", streaming=True, length=5, runtime="compiled", verify=False
    ).card
    for entry in card["state"]["states"]:
        assert f"{entry['input']}: {entry['shape'][1]}" in page
        assert entry["output"] == f"next_{entry['input']}"
