"""Keras models in the worker: on TensorFlow as they are, on JAX and PyTorch as far as stand-ins can tell."""

from __future__ import annotations

import os
import sys
from typing import Any

import numpy as np
import pytest

from edgelstm.targets.worker import keras_backends, run, runtimes
from edgelstm.targets.worker.arrays import random_feeds
from edgelstm.targets.worker.keras_models import TensorflowSession
from edgelstm.targets.worker.plan import PlanError
from edgelstm.targets.worker.session import Session
from tests.lstm_reference import lstm_step
from tests.targets.worker.fake_jax import FakeJax
from tests.targets.worker.running import refuse, run_calls, work
from tests.tiny_models import BATCH, FEATURES, TIME, UNITS, lstm_weights

# Values of about 1 in float32, over five steps: a few roundings of 6e-8 each.
TOLERANCE = 2e-6
# The same in float16, where a rounding is 5e-4.
TOLERANCE_16 = 8e-3


def hidden_states(x: np.ndarray, h: np.ndarray, c: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Runs the reference LSTM on one call and returns all hidden states and the final states."""
    hidden, last = np.zeros((*x.shape[:2], UNITS)), []
    for row in range(len(x)):
        state = h[row], c[row]
        for t in range(x.shape[1]):
            state = lstm_step(x[row, t], *state, lstm_weights())
            hidden[row, t] = state[0]
        last.append(state)
    h, c = (np.array(part) for part in zip(*last, strict=True))
    return hidden, h, c


ZEROS = np.zeros((BATCH, UNITS))


def floats(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def lstm_model(*, stateful: bool = False, time: int | None = None) -> Any:
    import keras

    weights = lstm_weights()
    x = keras.Input(batch_shape=(BATCH if stateful else None, time, FEATURES), name="x")
    lstm = keras.layers.LSTM(UNITS, return_sequences=True, stateful=stateful, name="hidden")
    model = keras.Model(x, lstm(x))
    lstm.set_weights([weights.kernel, weights.recurrent_kernel, weights.bias])
    return model


@pytest.fixture(autouse=True)
def _begun_process(monkeypatch):
    """This process has TensorFlow behind it, which then takes no more threads; its environment stays as it is."""
    import tensorflow as tf

    monkeypatch.setattr(os, "environ", os.environ.copy())
    for name in ("set_intra_op_parallelism_threads", "set_inter_op_parallelism_threads"):
        monkeypatch.setattr(tf.config.threading, name, lambda number: None)


@pytest.fixture
def open_model(tmp_path):
    """Saves a model and opens it as the worker does."""

    def open_saved(model: Any, name: str = "m.keras", **plan: Any) -> Session:
        import keras

        model.save(tmp_path / name)
        return TensorflowSession({"op": "run", "model": str(tmp_path / name), **plan}, keras)

    return open_saved


@pytest.fixture
def calls(tmp_path):
    """Runs calls of a session and returns the outputs."""

    def run_session(session: Session, inputs: dict[str, Any], **plan: Any) -> dict[str, Any]:
        np.savez(tmp_path / "in.npz", **inputs)
        run.run(session, {"inputs": str(tmp_path / "in.npz"), "outputs": str(tmp_path / "out.npz"), **plan})
        with np.load(tmp_path / "out.npz") as answers:
            return dict(answers)

    return run_session


@pytest.mark.cold
def test_a_worker_runs_a_keras_file(tmp_path):
    lstm_model().save(tmp_path / "m.keras")
    x = floats(2, BATCH, TIME, FEATURES)
    y = run_calls(tmp_path, tmp_path / "m.keras", {"x": x}, "keras-tensorflow")["hidden"]
    for call in range(2):
        np.testing.assert_allclose(y[call], hidden_states(x[call], ZEROS, ZEROS)[0], atol=TOLERANCE, rtol=0)


@pytest.mark.cold
def test_a_worker_times_a_keras_file(tmp_path):
    import importlib.metadata

    lstm_model().save(tmp_path / "m.keras")
    limits = {"warmup_s": 0.01, "max_s": 0.01, "min_runs": 7}
    plan = {"op": "bench", "model": tmp_path / "m.keras", "plan": limits, "batch": 3, "length": 4, "mode": "graph"}
    ready, result = work(plan, "auto")
    assert ready["runtime"] == "keras-tensorflow"
    versions = [importlib.metadata.version(name) for name in ("keras", "tensorflow")]
    assert ready["runtime_version"] == "{} (tensorflow {})".format(*versions)
    assert result["inputs"][0]["shape"] == [3, 4, FEATURES]
    assert result["outputs"][0]["shape"] == [3, 4, UNITS]
    assert len(result["samples_ns"]) >= 7


@pytest.mark.parametrize("mode", ["jit", "graph", "eager"])
def test_every_mode_answers_as_the_reference_does(open_model, calls, mode):
    x = floats(2, BATCH, TIME, FEATURES)
    y = calls(open_model(lstm_model(), mode=mode), {"x": x})["hidden"]
    for call in range(2):
        np.testing.assert_allclose(y[call], hidden_states(x[call], ZEROS, ZEROS)[0], atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("name", ["m.keras", "m.h5"])
def test_the_case_of_an_ending_does_not_matter(open_model, calls, tmp_path, name):
    import keras

    open_model(lstm_model(), name)
    path = (tmp_path / name).rename(tmp_path / name.upper())
    session = TensorflowSession({"op": "run", "model": str(path), "mode": "graph"}, keras)
    x = floats(1, BATCH, TIME, FEATURES)
    np.testing.assert_allclose(
        calls(session, {"x": x})["hidden"][0], hidden_states(x[0], ZEROS, ZEROS)[0], atol=TOLERANCE, rtol=0
    )


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_model_that_masks_says_so(open_model, dtype):
    import keras
    from keras import layers

    def text_model(*, mask_zero: bool) -> Any:
        embedded = keras.Sequential([layers.Embedding(5, 3, mask_zero=mask_zero)], name="words")
        return keras.Sequential([layers.Input((TIME,), dtype="int32"), embedded, layers.LSTM(UNITS)])

    masking = keras.Sequential([layers.Input((TIME, FEATURES)), layers.Masking(), layers.LSTM(UNITS)])
    expected = [(text_model(mask_zero=True), True), (text_model(mask_zero=False), False), (masking, True)]
    for model, masks in [*expected, (lstm_model(time=TIME), False)]:
        assert open_model(model, dtype=dtype).masks() is masks


def test_a_model_that_masks_is_fed_ones(open_model):
    import keras
    from keras import layers

    model = [layers.Input((40,), dtype="int32"), layers.Embedding(5, 3, mask_zero=True), layers.LSTM(UNITS)]
    session = open_model(keras.Sequential(model), mode="graph")
    (tokens,) = random_feeds(session, 0, batch=3).values()
    np.testing.assert_array_equal(tokens, np.ones((1, 3, 40), np.int32))


@pytest.mark.parametrize("mode", ["jit", "graph", "eager"])
def test_states_survive_a_call_until_they_are_reset(open_model, calls, mode):
    x = floats(4, BATCH, TIME, FEATURES)
    session = open_model(lstm_model(stateful=True, time=TIME), mode=mode)
    y = calls(session, {"x": x}, reset=True, sequence=2)["hidden"]
    for begin in (0, 2):
        first, h, c = hidden_states(x[begin], ZEROS, ZEROS)
        np.testing.assert_allclose(y[begin], first, atol=TOLERANCE, rtol=0)
        np.testing.assert_allclose(y[begin + 1], hidden_states(x[begin + 1], h, c)[0], atol=TOLERANCE, rtol=0)
    forgotten = hidden_states(x[1], ZEROS, ZEROS)[0]
    assert np.abs(y[1] - forgotten).max() > 100 * TOLERANCE


def test_float16_computes_every_layer_in_it(open_model, calls):
    import keras

    x = floats(1, BATCH, TIME, FEATURES)
    model = keras.Sequential([keras.Input((TIME, FEATURES)), lstm_model().layers[1], keras.layers.Dense(2)])
    session = open_model(model, dtype="float16", mode="graph")
    assert {layer.compute_dtype for layer in session._model.layers} == {"float16"}
    assert {str(variable.dtype) for variable in session._model.weights} == {"float16"}
    y = calls(session, {"input": x})["output"]
    assert y.dtype == np.float16
    exact = model(x[0]).numpy()
    np.testing.assert_allclose(y[0], exact, atol=TOLERANCE_16, rtol=0)
    # Nor is it float32, rounded at the end.
    assert np.abs(y[0].astype(np.float32) - exact.astype(np.float16)).max() > 0
    (told,) = session.describe()["outputs"]
    assert (told["dtype"], session.inputs["input"]["dtype"]) == ("float16", "float32")


def test_float16_reaches_nested_layers_and_keeps_the_weights(open_model):
    import keras

    inner = keras.Sequential([keras.Input((FEATURES,)), keras.layers.Dense(4), keras.layers.BatchNormalization()])
    layers = [keras.Input((TIME, FEATURES)), keras.layers.TimeDistributed(inner)]
    model = keras.Sequential([*layers, keras.layers.Bidirectional(keras.layers.LSTM(UNITS))])
    for weight in model.weights:
        weight.assign(floats(*weight.shape, seed=weight.shape[0]))
    session = open_model(model, dtype="float16", mode="eager")
    leaves = [layer for layer in session._model._flatten_layers() if layer._layers == []]
    assert {layer.compute_dtype for layer in leaves if "input" not in layer.name} == {"float16"}
    pairs = zip(model.get_weights(), session._model.get_weights(), strict=True)
    for before, after in pairs:
        np.testing.assert_array_equal(after, before.astype(np.float16))


def test_a_weight_too_large_for_float16_is_refused(open_model):
    model = lstm_model()
    model.weights[0].assign(np.full(model.weights[0].shape, 7e4, np.float32))
    with pytest.raises(PlanError, match="a weight of 70000 does not fit into float16, which ends at 65504"):
        open_model(model, dtype="float16")


@pytest.mark.parametrize("as_dict", [False, True])
def test_inputs_and_outputs_go_by_name_whatever_their_order(open_model, calls, as_dict):
    import keras

    z, a = keras.Input((2,), name="z"), keras.Input((2,), name="a")
    difference = keras.layers.Subtract(name="difference")([z, a])
    total = keras.layers.Add()([z, a])
    inputs = {"z": z, "a": a} if as_dict else [z, a]
    outputs = {"total": total, "difference": difference} if as_dict else [total, difference]
    one, other = floats(2, 3, 2), floats(2, 3, 2, seed=1)
    answers = calls(open_model(keras.Model(inputs, outputs), mode="graph"), {"a": one, "z": other})
    np.testing.assert_array_equal(answers["difference"], other - one)
    np.testing.assert_array_equal(answers["total" if as_dict else "output"], other + one)
    assert len(answers) == 2


def test_names_are_those_of_a_converted_file(open_model, tmp_path):
    import keras

    import edgelstm

    words = keras.Input((TIME,), dtype="int32")
    number = keras.Input((FEATURES,), name="number")
    h = keras.layers.LSTM(UNITS)(keras.layers.Embedding(7, 3)(words))
    h = keras.layers.Concatenate()([h, number])
    model = keras.Model([words, number], [keras.layers.Dense(2)(h), keras.layers.Dense(3, name="kind")(h)])
    session = open_model(model)
    inspected = work({"op": "load", "model": edgelstm.convert(model, tmp_path / "m.tflite").path})[-1]
    assert sorted(session.inputs) == [tensor["name"] for tensor in inspected["inputs"]] == ["input", "number"]
    assert sorted(session.outputs) == [tensor["name"] for tensor in inspected["outputs"]] == ["kind", "output"]
    assert session.inputs["input"]["dtype"] == "int32"


def test_an_older_file_is_taken(open_model, calls):
    x = floats(1, BATCH, TIME, FEATURES)
    y = calls(open_model(lstm_model(), "m.h5", mode="graph"), {"x": x})["hidden"]
    np.testing.assert_allclose(y[0], hidden_states(x[0], ZEROS, ZEROS)[0], atol=TOLERANCE, rtol=0)


def test_code_in_a_file_is_not_run(open_model):
    import keras

    model = keras.Sequential([keras.Input((2,)), keras.layers.Lambda(lambda x: x)])
    with pytest.raises(PlanError, match=r"keras cannot load the file: .*Lambda"):
        open_model(model)


def test_a_file_that_is_no_model_is_refused(tmp_path):
    import keras

    (tmp_path / "m.keras").write_bytes(b"this is no archive")
    with pytest.raises(PlanError, match="keras cannot load the file: "):
        TensorflowSession({"op": "run", "model": str(tmp_path / "m.keras")}, keras)


def test_a_gpu_that_is_not_there_is_refused(open_model, monkeypatch):
    import tensorflow as tf

    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [])
    with pytest.raises(PlanError, match="keras-tensorflow sees no GPU: use device 'cpu', or install tensorflow with"):
        open_model(lstm_model(), device="gpu")


@pytest.mark.parametrize(
    "mode, message",
    [
        (
            "jit",
            r"keras-tensorflow cannot compile this model with its recurrent layers \(LSTM\) in mode 'jit': no kernel: "
            "use mode 'graph' or 'eager'$",
        ),
        ("eager", "keras-tensorflow cannot run this model: no kernel$"),
    ],
)
def test_what_cannot_be_compiled_says_what_can_be_done(open_model, monkeypatch, mode, message):
    session = open_model(lstm_model(), mode=mode)

    def fail(tensors: list[Any]) -> list[Any]:
        raise ValueError("no kernel\nand a hundred lines")

    monkeypatch.setattr(session, "_invoke", fail)
    with pytest.raises(PlanError, match=message):
        session.invoke()


def test_a_gpu_is_waited_for(open_model, calls, monkeypatch):
    import tensorflow as tf

    waited: list[bool] = []
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: ["GPU:0"])
    monkeypatch.setattr(tf.test.experimental, "sync_devices", lambda: waited.append(True))
    calls(open_model(lstm_model(), device="gpu", mode="graph"), {"x": floats(3, BATCH, TIME, FEATURES)})
    assert waited == [True] * 3


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_a_backend_that_is_not_there_is_one_sentence(tmp_path, monkeypatch, backend):
    (tmp_path / "m.keras").touch()
    monkeypatch.setattr(runtimes.importlib.util, "find_spec", lambda name: None)
    plan = {"op": "load", "model": str(tmp_path / "m.keras"), "runtime": f"keras-{backend}"}
    with pytest.raises(PlanError, match=rf"no runtime in .* \(keras-{backend}: No module named '{backend}'\)"):
        runtimes.open_session(plan)


def test_a_file_for_another_runtime_is_refused_without_importing_keras(tmp_path):
    (tmp_path / "m.keras").touch()
    assert refuse({"op": "load", "model": tmp_path / "m.keras"}, "tflite-micro") == (
        "tflite-micro takes .tflite files, not .keras: use keras-tensorflow, keras-jax or keras-torch"
    )


@pytest.mark.parametrize("mode", ["jit", "eager"])
@pytest.mark.parametrize("stateful", [False, True])
def test_the_pure_function_that_jax_gets_carries_the_state(monkeypatch, stateful, mode):
    # Keras makes the same function on every backend; here it is TensorFlow that computes it.
    jax = FakeJax("cpu")
    monkeypatch.setitem(sys.modules, "jax", jax)
    backend, model = keras_backends.JaxBackend({}), lstm_model(stateful=stateful, time=TIME)
    invoke = backend.compile(model, lambda tensors, call: call(tensors[0]), mode)
    x = floats(2, BATCH, TIME, FEATURES)
    first, h, c = hidden_states(x[0], ZEROS, ZEROS)
    second = hidden_states(x[1], *((h, c) if stateful else (ZEROS, ZEROS)))[0]
    for _ in range(2):
        for call, expected in enumerate((first, second)):
            (y,) = invoke([backend.tensor(x[call])])
            np.testing.assert_allclose(y.numpy(), expected, atol=TOLERANCE, rtol=0)
        backend.reset(model)
    assert (jax.waited, jax.compiled) == (4, int(mode == "jit"))
