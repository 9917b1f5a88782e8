"""The worker's op "observe": ranges of tensors, and the cell states that no runtime shows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgelstm.targets.worker import cells
from tests.targets.worker.running import cells_of, refuse, require, save, sequences, work
from tests.tiny_models import BATCH, FEATURES, TIME, UNITS, TinyModels, lstm_weights

# Values of about 1 in float32, over five steps: a few roundings of 6e-8 each.
TOLERANCE = 2e-6
ZEROS = np.zeros((BATCH, UNITS), np.float32)


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    return TinyModels(tmp_path_factory.mktemp("models"))


@pytest.fixture(params=["ai-edge-litert", "tflite-runtime"])
def runtime(request):
    return require(request.param)


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
