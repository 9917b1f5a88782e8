"""The worker on ONNX Runtime: .onnx files that edgelstm makes, against the LSTM in its plainest form."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from edgelstm.targets.worker import onnx
from edgelstm.targets.worker.plan import PlanError
from tests.lstm_reference import lstm_step
from tests.targets.worker.running import refuse, require, run_calls, work
from tests.tiny_models import FEATURES, TIME, UNITS, lstm_weights

BATCH = 3
# Values of about 1 in float32, over five steps: a few roundings of 6e-8 each.
TOLERANCE = 2e-6
SHORT = {"warmup_s": 0.01, "max_s": 0.01, "min_runs": 7, "max_runs": 50}


def hidden_states(x: np.ndarray, weights: Any) -> np.ndarray:
    """Runs the reference LSTM on one call and returns all hidden states."""
    hidden = np.zeros((*x.shape[:2], UNITS))
    for row in range(len(x)):
        state = np.zeros(UNITS), np.zeros(UNITS)
        for t in range(x.shape[1]):
            state = lstm_step(x[row, t], *state, weights)
            hidden[row, t] = state[0]
    return hidden


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    import keras

    import edgelstm

    require("onnxruntime")
    weights = lstm_weights()
    x = keras.Input((TIME, FEATURES), name="x")
    lstm = keras.layers.LSTM(UNITS, return_sequences=True, name="hidden")
    whole = keras.Model(x, lstm(x))
    lstm.set_weights([weights.kernel, weights.recurrent_kernel, weights.bias])
    path = tmp_path_factory.mktemp("onnx") / "m.onnx"
    edgelstm.convert(whole, path)
    return path


def floats(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("threads", [1, 2])
def test_every_call_is_answered_as_the_reference_does(model, tmp_path, threads):
    x = floats(2, BATCH, TIME, FEATURES)
    y = run_calls(tmp_path, model, {"x": x}, "onnxruntime", threads=threads)["hidden"]
    for call in range(2):
        np.testing.assert_allclose(y[call], hidden_states(x[call], lstm_weights()), atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("a, b", [*itertools.combinations("ifco", 2)])
def test_swapped_gates_would_be_seen(a, b):
    x = floats(BATCH, TIME, FEATURES)
    right, wrong = (hidden_states(x, weights) for weights in (lstm_weights(), lstm_weights().swap(a, b)))
    assert np.abs(right - wrong).max() > 100 * TOLERANCE


def test_auto_takes_it_for_files_of_that_ending(model):
    ready, result = work({"op": "load", "model": model}, "auto")
    assert (ready["runtime"], ready["runtime_version"][0].isdigit()) == ("onnxruntime", True)
    (x,), (y,) = result["inputs"], result["outputs"]
    assert (x["name"], x["shape_signature"], x["shape"]) == ("x", [-1, TIME, FEATURES], [1, TIME, FEATURES])
    assert (y["name"], y["dtype"], y["scale"], y["zero_point"]) == ("hidden", "float32", None, None)


def test_bench_times_a_batch_and_its_operators(model):
    plan = {"op": "bench", "model": model, "plan": SHORT, "batch": BATCH, "profile": True}
    result = work(plan, "onnxruntime")[-1]
    assert result["inputs"][0]["shape"] == [BATCH, TIME, FEATURES]
    assert result["outputs"][0]["shape"] == [BATCH, TIME, UNITS]
    lstm = next(entry for entry in result["operators"] if entry["operator"] == "LSTM")
    assert (lstm["inferences"], lstm["calls"]) == (20, 20)
    assert lstm["total_us"] > 0
    totals = [entry["total_us"] for entry in result["operators"]]
    assert totals == sorted(totals, reverse=True)
    assert 7 <= len(result["samples_ns"]) <= 50


@pytest.mark.parametrize(
    "change, runtime, message",
    [
        ({"length": 7}, "onnxruntime", "its length is fixed at 5: convert it again with --length 7"),
        ({"delegate": {"library": "/none.so"}}, "onnxruntime", "onnxruntime takes no delegate, only ai-edge-litert"),
        ({"mode": "jit"}, "onnxruntime", "onnxruntime does not know mode 'jit': that is for keras-tensorflow, "),
        ({}, "ai-edge-litert", "ai-edge-litert takes .tflite files, not .onnx: use onnxruntime"),
    ],
)
def test_what_does_not_go_is_refused(model, change, runtime, message):
    assert message in refuse({"op": "bench", "model": model, "plan": SHORT, **change}, runtime)


def test_a_gpu_that_is_not_there_is_an_error_with_the_providers_that_are():
    with pytest.raises(PlanError, match="has no CUDAExecutionProvider here, only AProvider, CPUExecutionProvider: use"):
        onnx.find_provider("gpu", ["AProvider", "CPUExecutionProvider"])
    assert onnx.find_provider("gpu", ["CUDAExecutionProvider", "CPUExecutionProvider"]) == "CUDAExecutionProvider"


class FakeModule:
    """ONNX Runtime that names a GPU, but cannot start it and falls back."""

    class SessionOptions:
        pass

    class InferenceSession:
        def __init__(self, model: str, options: Any, providers: list[str]) -> None:
            pass

        def get_providers(self) -> list[str]:
            return ["CPUExecutionProvider"]

    @staticmethod
    def get_available_providers() -> list[str]:
        return ["CUDAExecutionProvider", "CPUExecutionProvider"]


def test_a_gpu_that_cannot_be_started_is_an_error_and_no_run_on_the_cpu():
    with pytest.raises(PlanError, match="CUDAExecutionProvider cannot be started"):
        onnx.OnnxSession({"model": "m.onnx", "device": "gpu"}, FakeModule)


def test_on_a_gpu_inputs_are_on_the_device_before_the_call(model, monkeypatch):
    """With the CPU in its place: what is bound, when, and that the answers are those of each call."""
    onnxruntime = pytest.importorskip("onnxruntime")
    monkeypatch.setitem(onnx.PROVIDERS, "gpu", "CPUExecutionProvider")
    monkeypatch.setattr(onnx, "GPU", "cpu")
    moved: list[tuple[int, ...]] = []
    original = onnxruntime.OrtValue.ortvalue_from_numpy

    def move(array: np.ndarray, *device: Any) -> Any:
        moved.append(array.shape)
        return original(array, *device)

    monkeypatch.setattr(onnxruntime.OrtValue, "ortvalue_from_numpy", move)
    session = onnx.OnnxSession({"model": str(model), "device": "gpu"}, onnxruntime)
    assert session.describe()["inputs"][0]["name"] == "x"
    x = floats(2, BATCH, TIME, FEATURES)
    session.resize({"x": x})
    for call in (0, 1, 0):
        session.feed({"x": x[call]})
        assert moved == [(BATCH, TIME, FEATURES)]
        session.invoke()
        assert len(moved) == 1
        expected = hidden_states(x[call], lstm_weights())
        np.testing.assert_allclose(session.read_outputs()["hidden"], expected, atol=TOLERANCE, rtol=0)
        moved.clear()
    assert session.describe()["outputs"][0]["shape"] == [BATCH, TIME, UNITS]
    lstm = next(entry for entry in session.profile(3) if entry["operator"] == "LSTM")
    assert (lstm["inferences"], lstm["calls"]) == (3, 3)


def test_a_damaged_file_is_one_sentence(tmp_path):
    path = tmp_path / "m.onnx"
    path.write_bytes(b"this is no graph")
    assert refuse({"op": "load", "model": path}, require("onnxruntime")).startswith("onnxruntime refuses the file: ")


def test_a_profile_is_added_up_by_node():
    events = [
        {"cat": "Session", "name": "model_run", "dur": 99},
        *(
            {"cat": "Node", "name": f"{node}_kernel_time", "dur": dur, "args": {"op_name": operator}}
            for node, operator, dur in (("a", "Add", 2), ("b", "LSTM", 40), ("a", "Add", 3), ("b", "LSTM", 41))
        ),
        {"cat": "Node", "name": "a_fence_before", "dur": 7, "args": {"op_name": "Add"}},
    ]
    assert onnx.sum_by_node([*events, events[-2]], 2) == [
        {"name": "b", "operator": "LSTM", "inferences": 2, "calls": 3, "total_us": 122},
        {"name": "a", "operator": "Add", "inferences": 2, "calls": 2, "total_us": 5},
    ]


def test_what_is_no_tensor_of_numbers_is_refused():
    class Argument:
        name, type, shape = "words", "tensor(string)", [1]

    with pytest.raises(PlanError, match=r"'words' is tensor\(string\), which is no tensor of numbers"):
        onnx.tensors_of([Argument])
