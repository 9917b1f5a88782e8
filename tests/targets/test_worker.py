"""The worker, as a program: what goes in at stdin, what comes out at stdout, on runtimes with an Interpreter."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgelstm.errors import EdgeLSTMError
from edgelstm.runtime.child import worker_file
from edgelstm.runtime.interpreters import python_for
from edgelstm.targets import worker
from edgelstm.targets.worker import arrays, cells, timing
from tests.lstm_reference import lstm_step
from tests.tiny_models import BATCH, FEATURES, TIME, UNITS, TinyModels, lstm_weights

FOLDER = Path(worker.__file__).parent
# Values of about 1 in float32, over five steps: a few roundings of 6e-8 each.
TOLERANCE = 2e-6


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    return TinyModels(tmp_path_factory.mktemp("models"))


@pytest.fixture(params=["ai-edge-litert", "tflite-runtime"])
def runtime(request):
    try:
        python_for(request.param)
    except EdgeLSTMError:
        pytest.skip(f"no Python has {request.param}; EDGELSTM_RUNTIMES={request.param}=/path/to/python names one")
    return request.param


def start(text: str, *, python: str = sys.executable) -> subprocess.CompletedProcess[str]:
    command = [python, "-I", "-B", str(worker_file())]
    return subprocess.run(command, input=text, capture_output=True, text=True, timeout=120, check=False)


def work(plan: dict[str, Any], runtime: str = "ai-edge-litert") -> list[dict[str, Any]]:
    """Returns the events of a plan that succeeds."""
    plan = {"protocol": 1, "runtime": runtime, **plan}
    done = start(json.dumps(plan, default=str), python=python_for(runtime))
    assert done.returncode == 0, done.stdout + done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def refuse(plan: dict[str, Any], runtime: str = "ai-edge-litert") -> str:
    """Returns the message of a plan that fails."""
    plan = {"protocol": 1, "runtime": runtime, **plan}
    done = start(json.dumps(plan, default=str), python=python_for(runtime))
    event = json.loads(done.stdout.splitlines()[-1])
    assert (done.returncode, event["event"], sorted(event)) == (1, "error", ["event", "message"]), done.stderr
    return event["message"]


@pytest.fixture
def run(tmp_path):
    """Runs calls and returns the result event and the outputs."""

    def run_calls(model: Path, inputs: dict[str, Any], runtime: str = "ai-edge-litert", **plan: Any) -> Any:
        source, target = save(tmp_path / "in.npz", **inputs), tmp_path / "out.npz"
        events = work({"op": "run", "model": model, "inputs": source, "outputs": target, **plan}, runtime)
        assert [event["event"] for event in events] == ["ready", "result"]
        with np.load(target) as arrays:
            return events[-1], dict(arrays)

    return run_calls


def save(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path


def sequences(calls: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((calls, BATCH, TIME, FEATURES)).astype(np.float32)


def cells_of(x: np.ndarray, h: np.ndarray, c: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Runs the reference LSTM and returns the hidden states, the cell states, and the final cell state."""
    weights = lstm_weights()
    hidden, cells = np.zeros((BATCH, TIME, UNITS)), np.zeros((BATCH, TIME, UNITS))
    for row in range(BATCH):
        state = h[row], c[row]
        for t in range(TIME):
            state = lstm_step(x[row, t], *state, weights)
            hidden[row, t], cells[row, t] = state
    return hidden, cells, cells[:, -1]


ZEROS = np.zeros((BATCH, UNITS), np.float32)


def test_the_file_stands_alone():
    imported = set()
    for path in FOLDER.glob("**/*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 9))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                imported.add(node.module.partition(".")[0])
    assert imported - sys.stdlib_module_names == {"numpy"}


def test_load_describes_the_model(models, runtime):
    ready, result = work({"op": "load", "model": models["affine_int8"]}, runtime)
    assert (ready["event"], ready["runtime"]) == ("ready", runtime)
    assert ready["load_us"] > 0
    assert all(part.isdigit() for part in ready["numpy"].split(".")[:2])
    (x,), (y,) = result["inputs"], result["outputs"]
    assert (x["name"], x["shape"], x["shape_signature"], x["dtype"]) == ("x", [2, 3], [2, 3], "int8")
    # Calibrated with -1 to 1: 255 steps, zero in the middle.
    assert x["scale"] == pytest.approx(2 / 255)
    assert x["zero_point"] == -1
    assert (y["name"], y["dtype"]) == ("y", "int8")


def test_load_tells_free_dimensions_and_missing_quantization(models):
    result = work({"op": "load", "model": models["affine_free"]})[-1]
    (x,) = result["inputs"]
    assert (x["shape_signature"], x["scale"], x["zero_point"]) == ([-1, 3], None, None)


def test_run_answers_every_call_by_signature_name(models, runtime, run):
    left, right = np.array([[[1.0, 2.0]], [[3.0, 4.0]]]), np.array([[[0.5, 0.5]], [[5.0, 1.0]]])
    tokens = np.array([[[0, 3]], [[2, 1]]], np.int64)
    result, outputs = run(models["two_by_two"], {"left": left, "right": right, "tokens": tokens}, runtime)
    assert result["calls"] == 2
    assert [tensor["name"] for tensor in result["inputs"]] == ["left", "right", "tokens"]
    np.testing.assert_array_equal(outputs["difference"], (left - right).astype(np.float32))
    np.testing.assert_array_equal(outputs["looked_up"], np.array([[[5, 8]], [[7, 6]]], np.float32))


def test_run_keeps_state_from_call_to_call_unless_told(models, runtime, run):
    x = np.repeat(sequences(1), 2, axis=0)
    _, kept = run(models["fused_lstm"], {"x": x}, runtime)
    _, reset = run(models["fused_lstm"], {"x": x}, runtime, reset=True)
    first, _, cell = cells_of(x[0], ZEROS, ZEROS)
    second, _, _ = cells_of(x[1], first[:, -1], cell)
    np.testing.assert_allclose(kept["y"], [first, second], atol=TOLERANCE, rtol=0)
    np.testing.assert_allclose(reset["y"], [first, first], atol=TOLERANCE, rtol=0)
    assert np.abs(first - second).max() > 1000 * TOLERANCE


def test_floats_for_quantized_inputs_are_quantized_and_outputs_stay_raw(models, runtime, run):
    x = np.array([[[-1.0, 0.0, 0.5], [0.25, 1.0, 7.0]]], np.float32)
    result, outputs = run(models["affine_int8"], {"x": x}, runtime)
    (info,) = result["outputs"]
    assert outputs["y"].dtype == np.int8
    real = info["scale"] * (outputs["y"].astype(float) - info["zero_point"])
    # Two roundings, of the input and of the output, of half a step each; 7 saturates at 1.
    np.testing.assert_allclose(real, 2 * np.minimum(x, 1) + 1, atol=1.5 * info["scale"])
    quantized = np.array([[[-128, -1, 63], [31, 127, 127]]], np.int8)
    np.testing.assert_array_equal(run(models["affine_int8"], {"x": quantized}, runtime)[1]["y"], outputs["y"])


def test_free_dimensions_take_the_size_that_is_given(models, runtime, run):
    x = np.arange(15, dtype=np.float32).reshape(1, 5, 3)
    result, outputs = run(models["affine_free"], {"x": x}, runtime)
    np.testing.assert_array_equal(outputs["y"], 2 * x + 1)
    assert result["inputs"][0]["shape"] == [5, 3]


def test_an_output_may_be_called_file(tmp_path):
    # A keyword argument of numpy.savez.
    arrays.write_npz(str(tmp_path / "a.npz"), {"file": np.arange(3), "a/b:0": np.float32(2)})
    with np.load(tmp_path / "a.npz") as content:
        assert sorted(content) == ["a/b:0", "file"]
        np.testing.assert_array_equal(content["file"], [0, 1, 2])
    assert [path.name for path in tmp_path.iterdir()] == ["a.npz"]


def test_observe_sees_the_range_of_every_float_tensor(models, runtime, tmp_path):
    x = np.array([[[1, 2, 3], [4, 5, 8]], [[-7, 0, 0], [0, 0, 0]]], np.float32)
    source, target = save(tmp_path / "in.npz", x=x), tmp_path / "ranges.npz"
    plan = {"op": "observe", "model": models["affine"], "inputs": source, "ranges": target}
    result = work(plan, runtime)[-1]
    with np.load(target) as ranges:
        low, high, peaks = ranges["min"], ranges["max"], ranges["cell_peak"]
    assert low.shape == high.shape == (result["num_tensors"],)
    assert peaks.shape == (0,)
    # The input, the product, the sum, and the constants 2 and 1.
    assert sorted(zip(low, high, strict=True)) == [(-14, 16), (-13, 17), (-7, 8), (1, 1), (2, 2)]
    y_index = result["outputs"][0]["index"]
    assert (low[y_index], high[y_index]) == (-13, 17)
    assert result["not_finite"] == []


def test_observe_reports_what_is_not_finite_and_ranges_over_the_rest(models, runtime, tmp_path):
    x = np.array([[[np.inf, 2, -3], [np.nan, 5, -np.inf]], [[np.nan] * 3] * 2], np.float32)
    source, target = save(tmp_path / "in.npz", x=x), tmp_path / "ranges.npz"
    result = work({"op": "observe", "model": models["affine"], "inputs": source, "ranges": target}, runtime)[-1]
    index = result["inputs"][0]["index"]
    assert index in result["not_finite"]
    with np.load(target) as ranges:
        assert (ranges["min"][index], ranges["max"][index]) == (-3, 5)


def test_observe_leaves_out_what_is_not_float(models, runtime, tmp_path):
    source, target = save(tmp_path / "in.npz", x=np.ones((1, 2, 3), np.int8)), tmp_path / "ranges.npz"
    work({"op": "observe", "model": models["affine_int8"], "inputs": source, "ranges": target}, runtime)
    with np.load(target) as ranges:
        assert np.isnan(ranges["min"]).all()
        assert np.isnan(ranges["max"]).all()


@pytest.fixture
def observe_cells(models, runtime, tmp_path):
    """Observes the cell state and returns its peak."""

    def observe(model: str, inputs: dict[str, Any], entry: dict[str, Any], **plan: Any) -> float:
        weights, target = save(tmp_path / "weights.npz", **vars(lstm_weights())), tmp_path / "ranges.npz"
        source = save(tmp_path / "in.npz", **inputs)
        tensors = work({"op": "load", "model": models[model]}, runtime)[-1]
        index = {tensor["name"]: tensor["index"] for tensor in tensors["inputs"] + tensors["outputs"]}
        lstm = {key: index.get(value, value) for key, value in entry.items()}
        lstm = {"input": index["x"], "output": index["y"], "weights": weights, **lstm}
        work(
            {"op": "observe", "model": models[model], "inputs": source, "ranges": target, "lstms": [lstm], **plan},
            runtime,
        )
        with np.load(target) as ranges:
            (peak,) = ranges["cell_peak"]
        return float(peak)

    return observe


def peaks_of(x: np.ndarray, h: np.ndarray, c: np.ndarray) -> tuple[float, float]:
    """Returns max |c| over all steps, and over the last step only."""
    _, cells, last = cells_of(x, h, c)
    return np.abs(cells).max(), np.abs(last).max()


def test_cell_peak_is_that_of_all_steps_calls_and_rows(observe_cells):
    x = 2 * sequences(6, seed=27)
    peaks, last = np.transpose([peaks_of(call, ZEROS, ZEROS) for call in x])
    # Or the peak would tell neither all steps from the last, nor all calls from the first or the last.
    assert peaks.max() > last.max() + 0.01
    assert peaks.argmax() not in (0, len(x) - 1)
    np.testing.assert_allclose(observe_cells("fused_lstm", {"x": x}, {}, reset=True), peaks.max(), atol=TOLERANCE)


@pytest.mark.parametrize("scale", [0.5, 6.0])
def test_cell_peak_starts_from_the_given_state(observe_cells, scale):
    rng = np.random.default_rng(1)
    x = sequences(3, seed=5)
    h = rng.uniform(-0.9, 0.9, (3, BATCH, UNITS)).astype(np.float32)
    c = scale * rng.standard_normal((3, BATCH, UNITS)).astype(np.float32)
    inputs, entry = {"x": x, "h": h, "c": c}, {"hidden_state": "h", "cell_state": "c"}
    from_states = max(peaks_of(*call)[0] for call in zip(x, h, c, strict=True))
    from_zeros = max(peaks_of(call, ZEROS, ZEROS)[0] for call in x)
    # The initial state has to be stored as well as the others.
    expected = max(from_states, np.abs(c).max())
    assert abs(expected - from_zeros) > 0.01
    np.testing.assert_allclose(observe_cells("unrolled_lstm", inputs, entry), expected, atol=TOLERANCE)


@pytest.mark.parametrize("wrong", [{"hidden_state": None}, {"cell_state": None}])
def test_cell_peak_needs_both_states(observe_cells, wrong):
    rng = np.random.default_rng(2)
    x, c = sequences(1, seed=6), rng.uniform(0.5, 1, (1, BATCH, UNITS)).astype(np.float32)
    h = rng.uniform(-0.9, 0.9, c.shape).astype(np.float32)
    inputs, entry = {"x": x, "h": h, "c": c}, {"hidden_state": "h", "cell_state": "c"}
    right = observe_cells("unrolled_lstm", inputs, entry)
    assert abs(observe_cells("unrolled_lstm", inputs, {**entry, **wrong}) - right) > 100 * TOLERANCE


def test_cell_peak_follows_a_state_that_is_carried_from_call_to_call(observe_cells, models):
    hidden_state, cell_state = lstm_state_indices(models["fused_lstm"])
    x = 2 * sequences(4, seed=7)
    h = c = ZEROS
    peaks = []
    for call in x:
        hidden, cells, last = cells_of(call, h, c)
        h, c = hidden[:, -1], last
        peaks.append(np.abs(cells).max())
    entry = {"hidden_state": hidden_state, "cell_state": cell_state, "carried": True}
    # Four calls are one sequence of twenty steps.
    np.testing.assert_allclose(observe_cells("fused_lstm", {"x": x}, entry), max(peaks), atol=4 * TOLERANCE)
    assert abs(max(peaks_of(call, ZEROS, ZEROS)[0] for call in x) - max(peaks)) > 100 * TOLERANCE


def lstm_state_indices(model: Path) -> tuple[int, int]:
    from ai_edge_litert.interpreter import Interpreter

    (operator,) = (
        operator
        for operator in Interpreter(model_path=str(model))._get_ops_details()
        if operator["op_name"] == "UNIDIRECTIONAL_SEQUENCE_LSTM"
    )
    return int(operator["inputs"][18]), int(operator["inputs"][19])


@pytest.mark.parametrize(
    "name, function", [("relu", lambda v: v), ("relu6", lambda v: 6.0), ("hard_tanh", lambda v: 1.0), ("tanh", np.tanh)]
)
def test_cell_peak_uses_the_activation_of_the_operator(name, function):
    outputs = np.zeros((1, 1, 1))
    weights = [np.zeros((1, 4)), np.zeros((1, 4)), np.array([100.0, 100.0, 50.0, 0.0])]
    peak = cells.cell_peak(np.zeros((1, 1, 1)), outputs, None, None, weights, cells.ACTIVATIONS[name])
    assert peak == function(50.0)


def test_a_nan_in_an_lstm_reaches_its_peak(models, tmp_path):
    probe = cells.CellProbe(
        {"input": 0, "output": 1, "weights": str(save(tmp_path / "w.npz", **vars(lstm_weights())))}, num_tensors=2
    )
    tensors = [np.full((BATCH, TIME, FEATURES), np.nan), np.zeros((BATCH, TIME, UNITS))]

    class FakeInterpreter:
        def get_tensor(self, index: int) -> np.ndarray:
            return tensors[index]

    probe.after_call(FakeInterpreter())
    tensors[0] = np.zeros_like(tensors[0])
    probe.after_call(FakeInterpreter())
    assert np.isnan(probe.peak)


def test_bench_records_every_call(models, runtime):
    limits = {"warmup_s": 0.01, "max_s": 0.01, "min_runs": 7, "max_runs": 50}
    ready, result = work({"op": "bench", "model": models["fused_lstm"], "plan": limits, "reset": True}, runtime)
    assert 7 <= len(result["samples_ns"]) <= 50
    assert 1 <= len(result["warmup_ns"]) <= 50
    assert all(type(sample) is int and sample > 0 for sample in result["samples_ns"])
    assert result["load_us"] == ready["load_us"] > 0
    assert result["first_invoke_us"] > 0
    assert result["outputs_finite"] is True
    if sys.platform == "linux":
        assert 1e6 < result["base_rss_bytes"] < result["peak_rss_bytes"] < 1e9
    assert result["machine"]["num_cores"] >= 1
    assert set(result["machine"]) == {
        "device",
        "cpu",
        "num_cores",
        "governor",
        "system",
        "architecture",
        "load_average",
    }


def test_bench_feeds_the_given_inputs(models, tmp_path):
    source = save(tmp_path / "in.npz", x=np.full((1, 2, 3), np.nan, np.float32))
    limits = {"warmup_s": 0, "max_s": 0, "min_runs": 1}
    result = work({"op": "bench", "model": models["affine"], "plan": limits, "inputs": source})[-1]
    assert (len(result["samples_ns"]), result["warmup_ns"], result["outputs_finite"]) == (1, [], False)


@pytest.mark.parametrize("name", ["affine_int8", "two_by_two", "affine_free"])
def test_bench_makes_valid_random_input(models, runtime, name):
    limits = {"warmup_s": 0, "max_s": 0, "min_runs": 3}
    result = work({"op": "bench", "model": models[name], "plan": limits, "seed": 5}, runtime)[-1]
    assert len(result["samples_ns"]) == 3


class FakeClock:
    """Stands still but for the calls that are timed."""

    def __init__(self, call_ns: int) -> None:
        self.now, self.call_ns, self.log = 0, call_ns, []

    def __call__(self) -> int:
        return self.now

    def invoke(self) -> None:
        self.now += self.call_ns

    def time(self, **limits: Any) -> tuple[list[int], list[int]]:
        return timing.time_calls(self.log.append, self.invoke, limits, self)


def test_calls_are_timed_until_the_time_is_up():
    clock = FakeClock(250_000_000)
    assert clock.time(warmup_s=0.5, min_runs=2, max_s=1.0) == ([250_000_000] * 2, [250_000_000] * 4)
    assert clock.log == [0, 1, 0, 1, 2, 3]


def test_slow_calls_are_made_as_often_as_the_minimum_says():
    assert FakeClock(10**10).time(warmup_s=0, min_runs=3, max_s=1.0) == ([], [10**10] * 3)


def test_fast_calls_end_at_the_maximum():
    assert FakeClock(1).time(warmup_s=1.0, min_runs=1, max_s=1.0, max_runs=5) == ([1] * 5, [1] * 5)


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "the plan is not JSON"),
        ("[1]", "the plan is not of protocol 1"),
        ('{"protocol": 2, "op": "run"}', "the plan is not of protocol 1"),
        ('{"protocol": 1, "op": "fly"}', "op 'fly' is not known, only load, run, observe, bench"),
        ('{"protocol": 1, "op": "load", "modle": "a"}', "op 'load' does not know 'modle', only delegate, model"),
        ('{"protocol": 1, "op": "load", "model": 5}', "the plan needs 'model', a str, not 5"),
        ('{"protocol": 1, "op": "load", "model": "/none.tflite"}', "the model file does not exist"),
    ],
)
def test_a_wrong_plan_is_refused(text, message):
    done = start(text)
    event = json.loads(done.stdout)
    assert (done.returncode, event["event"]) == (1, "error")
    assert event["message"].startswith(message)


@pytest.mark.parametrize(
    "change, message",
    [
        (
            {"runtime": "onnx"},
            "runtime 'onnx' is not known, only ai-edge-litert, tflite-runtime, litert-compiled, tflite-micro and auto",
        ),
        ({"threads": 0}, "a runtime needs at least one thread, not 0"),
        ({"threads": True}, "the plan needs 'threads', a int, not True"),
        ({"delegate": {"library": "/none.so"}}, "the delegate /none.so cannot be loaded: "),
        ({"delegate": {"libary": "/none.so"}}, "delegate does not know 'libary', only library, options"),
    ],
)
def test_wrong_options_are_refused(models, change, message):
    plan = {"protocol": 1, "op": "load", "model": str(models["affine"]), **change}
    assert message in json.loads(start(json.dumps(plan)).stdout)["message"]


@pytest.mark.parametrize(
    "inputs, message",
    [
        ({"y": np.ones((1, 2, 3))}, "holds ['y'], but the inputs of the model are ['x']"),
        ({"x": np.ones((1, 2, 4))}, "input 'x' has shape [2, 3] per call (-1: any size), not [2, 4]"),
        ({"x": np.ones((2, 3))}, "not [3]"),
        ({"x": np.ones((0, 2, 3))}, "the first axis of every input counts the calls"),
        ({"x": np.array(3.0)}, "the first axis of every input counts the calls"),
        ({"x": np.full((1, 2, 3), "a")}, "input 'x' is float32, and these str32 values do not fit into it"),
        ({"x": np.array([{}])}, "cannot read the arrays in"),
    ],
)
def test_wrong_inputs_are_refused(models, tmp_path, inputs, message):
    source = save(tmp_path / "in.npz", **inputs)
    plan = {"op": "run", "model": models["affine"], "inputs": source, "outputs": tmp_path / "out.npz"}
    assert message in refuse(plan)
    assert not (tmp_path / "out.npz").exists()


@pytest.mark.parametrize(
    "values, dtype, message",
    [
        (np.array([[[0, 2**40]]]), "int64", "input 'tokens' is int32, and these int64 values do not fit into it"),
        (np.array([[[0.0, 1.0]]]), "float64", "input 'tokens' is int32, and these float64 values do not fit into it"),
    ],
)
def test_values_that_would_change_are_refused(models, tmp_path, values, dtype, message):
    floats = np.ones((1, 1, 2))
    source = save(tmp_path / "in.npz", left=floats, right=floats, tokens=values.astype(dtype))
    plan = {"op": "run", "model": models["two_by_two"], "inputs": source, "outputs": tmp_path / "out.npz"}
    assert message in refuse(plan)


@pytest.mark.parametrize(
    "values, message",
    [
        (np.ones((1, 2, 3), np.int64), "these int64 values do not fit"),
        (np.full((1, 2, 3), np.nan), "input 'x' holds a NaN, which int8 cannot express"),
    ],
)
def test_values_that_cannot_be_quantized_are_refused(models, tmp_path, values, message):
    source = save(tmp_path / "in.npz", x=values)
    plan = {"op": "run", "model": models["affine_int8"], "inputs": source, "outputs": tmp_path / "out.npz"}
    assert message in refuse(plan)


def test_files_that_cannot_be_read_or_written_are_named(models, tmp_path):
    plan = {
        "op": "run",
        "model": models["affine"],
        "inputs": tmp_path / "in.npz",
        "outputs": tmp_path / "none" / "o.npz",
    }
    assert f"cannot read the arrays in {tmp_path / 'in.npz'}: [Errno 2]" in refuse(plan)
    (tmp_path / "in.npz").write_bytes(b"PK\x03\x04 garbage")
    assert f"cannot read the arrays in {tmp_path / 'in.npz'}: " in refuse(plan)
    save(tmp_path / "in.npz", x=np.ones((1, 2, 3)))
    assert f"cannot write {tmp_path / 'none' / 'o.npz'}: [Errno 2]" in refuse(plan)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"input": 999}, "an entry of lstms names tensor 999, but the model has 0 to "),
        (
            {"activation": "sigmoid"},
            "activation 'sigmoid' of an LSTM is not known, only tanh, relu, relu6, hard_tanh",
        ),
        ({"weights": "/none.npz"}, "cannot read the arrays in /none.npz"),
        ({"output": 0}, "does not fit its weights [[3, 16], [4, 16], [16]]"),
        ({"time_major": True}, "an entry of lstms does not know 'time_major'"),
    ],
)
def test_a_wrong_entry_of_lstms_is_refused(models, tmp_path, change, message):
    weights = save(tmp_path / "weights.npz", **vars(lstm_weights()))
    lstm = {"input": 0, "output": 15, "weights": weights, **change}
    source = save(tmp_path / "in.npz", x=sequences(1))
    plan = {
        "op": "observe",
        "model": models["fused_lstm"],
        "inputs": source,
        "ranges": tmp_path / "r.npz",
        "lstms": [lstm],
    }
    assert message in refuse(plan)


def test_a_missing_weight_is_named(models, tmp_path):
    weights = save(tmp_path / "weights.npz", kernel=np.ones((3, 16)), bias=np.ones(16))
    source = save(tmp_path / "in.npz", x=sequences(1))
    lstm = {"input": 0, "output": 15, "weights": weights}
    plan = {
        "op": "observe",
        "model": models["fused_lstm"],
        "inputs": source,
        "ranges": tmp_path / "r.npz",
        "lstms": [lstm],
    }
    assert f"{weights} lacks recurrent_kernel" in refuse(plan)


def test_a_file_that_is_no_model_is_refused(tmp_path, runtime):
    path = tmp_path / "m.tflite"
    path.write_bytes(b"this is not a flatbuffer at all")
    assert refuse({"op": "load", "model": path}, runtime).startswith("ValueError: ")


def test_only_events_come_to_stdout(models, tmp_path):
    # Python's print and a write to file descriptor 1, as native code does it, while the worker runs.
    code = (
        "import os, runpy, sys, importlib\n"
        "original = importlib.import_module\n"
        "def noisy(name, *rest):\n"
        "    print('from Python', flush=True); os.write(1, b'from C\\n')\n"
        "    return original(name, *rest)\n"
        "importlib.import_module = noisy\n"
        "runpy.run_path(sys.argv[1], run_name='__main__')\n"
    )
    plan = {"protocol": 1, "op": "load", "model": str(models["affine"])}
    command = [sys.executable, "-I", "-B", "-c", code, str(worker_file())]
    done = subprocess.run(command, input=json.dumps(plan), capture_output=True, text=True, timeout=60, check=False)
    assert [json.loads(line)["event"] for line in done.stdout.splitlines()] == ["ready", "result"]
    assert "from Python" in done.stderr
    assert "from C" in done.stderr
