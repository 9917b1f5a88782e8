"""The worker on runtimes without an Interpreter: CompiledModel and TensorFlow Lite Micro."""

from __future__ import annotations

import itertools
import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from edgelstm.runtime.child import worker_file
from edgelstm.runtime.interpreters import python_for
from edgelstm.targets.worker import logs, micro
from tests.lstm_reference import lstm_step
from tests.one_operator import Op, Tensor, accumulator, one_operator, pack, unpack
from tests.targets.worker import running
from tests.targets.worker.running import require
from tests.tiny_models import BATCH, FEATURES, TIME, UNITS, TinyModels, lstm_weights

ENGINES = ("litert-compiled", "tflite-micro")
# Values of about 1 in float32, over five steps: a few roundings of 6e-8 each.
TOLERANCE = 2e-6
ZEROS = np.zeros((BATCH, UNITS), np.float32)


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    return TinyModels(tmp_path_factory.mktemp("models"))


@pytest.fixture(params=ENGINES)
def engine(request):
    return require(request.param)


@pytest.fixture(params=["ai-edge-litert", "tflite-runtime", *ENGINES])
def runtime(request):
    return require(request.param)


def start(plan: dict[str, Any], runtime: str) -> tuple[subprocess.CompletedProcess[str], dict[str, Any]]:
    """Returns the finished process and the last event."""
    text = json.dumps({"protocol": 1, "runtime": runtime, **plan}, default=str)
    done = running.start(text, python=python_for(require(runtime)))
    return done, json.loads(done.stdout.splitlines()[-1])


def work(plan: dict[str, Any], runtime: str) -> dict[str, Any]:
    done, event = start(plan, runtime)
    assert (done.returncode, event["event"]) == (0, "result"), done.stdout + done.stderr
    return event


def refuse(plan: dict[str, Any], runtime: str) -> str:
    done, event = start(plan, runtime)
    assert (done.returncode, event["event"]) == (1, "error"), done.stdout + done.stderr
    return event["message"]


@pytest.fixture
def run(tmp_path):
    """Runs calls and returns the outputs; `expect=refuse` returns the message of the error instead."""

    def run_calls(model: Path | bytes, inputs: dict[str, Any], runtime: str, *, expect=work, **plan: Any) -> Any:
        if isinstance(model, bytes):
            (tmp_path / "m.tflite").write_bytes(model)
            model = tmp_path / "m.tflite"
        np.savez(tmp_path / "in.npz", **inputs)
        common = {"op": "run", "model": model, "inputs": tmp_path / "in.npz", "outputs": tmp_path / "out.npz"}
        told = expect({**common, **plan}, runtime)
        if expect is refuse:
            return told
        with np.load(tmp_path / "out.npz") as arrays:
            return dict(arrays)

    return run_calls


def floats(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def hidden_states(x: np.ndarray, h: np.ndarray, c: np.ndarray, weights: Any = None) -> tuple[np.ndarray, Any]:
    """Runs the reference LSTM on one call and returns all hidden states and the final states."""
    weights = weights or lstm_weights()
    hidden, last = np.zeros((BATCH, TIME, UNITS)), []
    for row in range(BATCH):
        state = h[row], c[row]
        for t in range(TIME):
            state = lstm_step(x[row, t], *state, weights)
            hidden[row, t] = state[0]
        last.append(state)
    return hidden, tuple(np.array(part) for part in zip(*last, strict=True))


# What is run


@pytest.mark.parametrize("name", ["affine", "affine_free", "affine_int8", "two_by_two", "unrolled_lstm"])
def test_the_model_is_described_as_an_interpreter_does(models, engine, name):
    told, wanted = (work({"op": "load", "model": models[name]}, each) for each in (engine, "ai-edge-litert"))
    assert told["inputs"] == wanted["inputs"]
    assert told["outputs"] == wanted["outputs"]


def test_every_call_is_answered_by_name(models, engine, run):
    left, right = floats(3, 1, 2), floats(3, 1, 2, seed=1)
    tokens = np.array([[[0, 3]], [[2, 1]], [[1, 1]]], np.int64)
    outputs = run(models["two_by_two"], {"left": left, "right": right, "tokens": tokens}, engine)
    np.testing.assert_array_equal(outputs["difference"], left - right)
    np.testing.assert_array_equal(outputs["looked_up"], np.array([[[5, 8]], [[7, 6]], [[6, 6]]], np.float32))


def test_names_of_tensors_serve_without_a_signature(engine, run):
    x, y, z = (Tensor(name, "float32", (2, 3)) for name in "xyz")
    content = one_operator(Op.SUB, [x, y], [z], schema.SubOptionsT(), signature=False)
    one, other = floats(2, 2, 3), floats(2, 2, 3, seed=1)
    np.testing.assert_array_equal(run(content, {"y": other, "x": one}, engine)["z"], one - other)


def test_quantized_tensors_go_in_and_out_as_they_are(models, engine, run):
    x = np.array([[[-1, -0.5, 0], [0.25, 0.5, 1]]], np.float32)
    (told,) = work({"op": "load", "model": models["affine_int8"]}, engine)["outputs"]
    y = run(models["affine_int8"], {"x": x}, engine)["y"]
    assert y.dtype == np.int8
    real = (y.astype(np.float64) - told["zero_point"]) * told["scale"]
    # x is rounded by half a step of 2/255 and doubled, y by half a step of its own.
    np.testing.assert_allclose(real, 2 * x + 1, atol=2 / 255 + told["scale"] / 2 + 1e-6)


@pytest.mark.parametrize(
    "dtype, code, options", [("bool", Op.LOGICAL_AND, None), ("int32", Op.ADD, schema.AddOptionsT())]
)
def test_integers_and_flags_are_taken(engine, run, dtype, code, options):
    a, b, c = (Tensor(name, dtype, (2, 2)) for name in "abc")
    one = np.array([[[0, 1], [0, 1]], [[1, 1], [0, 0]]]).astype(dtype)
    other = np.array([[[0, 0], [1, 1]], [[1, 0], [1, 0]]]).astype(dtype)
    got = run(one_operator(code, [a, b], [c], options), {"a": one, "b": other}, engine)["c"]
    np.testing.assert_array_equal(got, one & other if dtype == "bool" else one + other)
    assert got.dtype == dtype


def test_an_lstm_of_plain_operators_agrees_with_the_reference(models, engine, run):
    x, h, c = floats(3, BATCH, TIME, FEATURES), floats(3, BATCH, UNITS, seed=1), floats(3, BATCH, UNITS, seed=2)
    y = run(models["unrolled_lstm"], {"x": x, "h": h, "c": c}, engine)["y"]
    for call in range(3):
        np.testing.assert_allclose(y[call], hidden_states(x[call], h[call], c[call])[0], atol=TOLERANCE)


@pytest.mark.parametrize("a, b", [*itertools.combinations("ifco", 2)])
def test_swapped_gates_would_be_seen(a, b):
    x, h, c = floats(BATCH, TIME, FEATURES), floats(BATCH, UNITS, seed=1), floats(BATCH, UNITS, seed=2)
    right, wrong = (hidden_states(x, h, c, each)[0] for each in (lstm_weights(), lstm_weights().swap(a, b)))
    assert np.abs(right - wrong).max() > 100 * TOLERANCE


def test_micro_keeps_the_state_of_the_fused_lstm_until_it_is_reset(models, run):
    x = floats(4, BATCH, TIME, FEATURES)
    kept = run(models["fused_lstm"], {"x": x}, "tflite-micro")["y"]
    state = ZEROS, ZEROS
    for call in range(4):
        hidden, state = hidden_states(x[call], *state)
        np.testing.assert_allclose(kept[call], hidden, atol=2 * TOLERANCE)
    fresh = run(models["fused_lstm"], {"x": x}, "tflite-micro", reset=True)["y"]
    for call in range(4):
        np.testing.assert_allclose(fresh[call], hidden_states(x[call], ZEROS, ZEROS)[0], atol=TOLERANCE)
    assert np.abs(kept[1:] - fresh[1:]).max() > 100 * TOLERANCE


def test_a_reset_comes_before_each_sequence(models, runtime, run):
    if runtime == "litert-compiled":
        pytest.skip("it takes no files with variables")
    x = np.concatenate([floats(2, BATCH, TIME, FEATURES)] * 2)
    y = run(models["fused_lstm"], {"x": x}, runtime, reset=True, sequence=2)["y"]
    np.testing.assert_array_equal(y[:2], y[2:])
    first, state = hidden_states(x[0], ZEROS, ZEROS)
    np.testing.assert_allclose(y[0], first, atol=TOLERANCE)
    np.testing.assert_allclose(y[1], hidden_states(x[1], *state)[0], atol=2 * TOLERANCE)


@pytest.mark.parametrize("sequence", [None, 2, 3])
def test_an_output_is_carried_to_an_input_within_a_sequence(runtime, run, sequence):
    x = floats(6, 2, 3)
    total = run(accumulator(), {"x": x}, runtime, carry={"state": "total"}, sequence=sequence)["total"]
    parts = x.reshape(-1, sequence or 6, 2, 3)
    np.testing.assert_allclose(total, parts.cumsum(axis=1).reshape(x.shape), atol=1e-6)


def test_a_carried_quantized_input_begins_at_its_zero_point(run):
    tensors = [Tensor(name, "int8", (1, 2), scale=0.5, zero_point=7) for name in ("x", "state", "total")]
    content = one_operator(Op.ADD, tensors[:2], tensors[2:], schema.AddOptionsT())
    x = np.array([[[1.0, 2.0]], [[1.5, -4.0]], [[0.5, 0.5]]])
    total = run(content, {"x": x}, "ai-edge-litert", carry={"state": "total"})["total"]
    np.testing.assert_array_equal((total - 7.0) * 0.5, x.cumsum(axis=0))


def test_free_sizes_are_those_given(models, run):
    x = floats(2, 5, 3)
    np.testing.assert_allclose(run(models["affine_free"], {"x": x}, "litert-compiled")["y"], 2 * x + 1, atol=1e-6)


def test_micro_takes_free_sizes_as_one(models, run):
    np.testing.assert_allclose(
        run(models["affine_free"], {"x": np.ones((2, 1, 3))}, "tflite-micro")["y"], 3 * np.ones((2, 1, 3))
    )
    message = run(models["affine_free"], {"x": np.ones((2, 5, 3))}, "tflite-micro", expect=refuse)
    assert message == "it cannot resize the inputs: their shapes are {'x': [1, 3]} per call"


def test_micro_gets_the_memory_that_it_needs_and_tells_how_much(models, tmp_path, run):
    small = work({"op": "load", "model": models["affine"]}, "tflite-micro")["arena_bytes"]
    assert 500 < small < 10_000
    x = np.ones((1, 1, 2_000_000), np.float32)
    content = accumulator(x.shape[1:])
    np.testing.assert_array_equal(run(content, {"x": x, "state": x}, "tflite-micro")["total"], 2 * x)
    large = work({"op": "load", "model": tmp_path / "m.tflite"}, "tflite-micro")["arena_bytes"]
    assert large >= 3 * x.nbytes > micro.FIRST_ARENA_BYTES


def test_bench_times_calls(models, engine):
    limits = {"warmup_s": 0.01, "max_s": 0.01, "min_runs": 7, "max_runs": 50}
    result = work({"op": "bench", "model": models["two_by_two"], "plan": limits, "reset": True}, engine)
    assert 7 <= len(result["samples_ns"]) <= 50
    assert result["load_us"] > 0
    assert result["outputs_finite"] is True
    assert (result["arena_bytes"] is None) == (engine != "tflite-micro")


def test_compiled_models_take_threads(models, run):
    x = floats(2, 2, 3)
    np.testing.assert_allclose(run(models["affine"], {"x": x}, "litert-compiled", threads=2)["y"], 2 * x + 1, atol=1e-6)


def test_what_the_runtime_says_comes_to_stderr(models):
    done, _ = start({"op": "load", "model": models["affine"]}, "litert-compiled")
    assert "XNNPACK" in done.stderr


# What is refused


def gather(dtype: str) -> bytes:
    indices = Tensor("indices", "int32", (2,))
    table = Tensor("table", dtype, (3, 2), np.arange(6), 1.0)
    return one_operator(Op.GATHER, [table, indices], [Tensor("y", dtype, (2, 2), None, 1.0)], schema.GatherOptionsT())


def arg_max() -> bytes:
    options = schema.ArgMaxOptionsT()
    options.outputType = schema.TensorType.INT32
    axis = Tensor("axis", "int32", (1,), [1])
    return one_operator(Op.ARG_MAX, [Tensor("x", "int32", (1, 4)), axis], [Tensor("y", "int32", (1,))], options)


def top_k() -> bytes:
    outputs = [Tensor("values", "float32", (1, 2)), Tensor("indices", "int32", (1, 2))]
    inputs = [Tensor("x", "float32", (1, 4)), Tensor("k", "int32", (), 2)]
    return one_operator(Op.TOPK_V2, inputs, outputs, schema.TopKV2OptionsT())


def add(dtype: str) -> bytes:
    a, b, c = (Tensor(name, dtype, (1, 4)) for name in "abc")
    return one_operator(Op.ADD, [a, b], [c], schema.AddOptionsT())


def hybrid_lstm(content: bytes) -> bytes:
    """Makes the weights of an LSTM int8, as far as the file says."""
    model = unpack(content)
    (graph,) = model.subgraphs
    for operator in graph.operators:
        if model.operatorCodes[operator.opcodeIndex].builtinCode == Op.UNIDIRECTIONAL_SEQUENCE_LSTM:
            for index in operator.inputs[1:9]:
                graph.tensors[index].type = schema.TensorType.INT8
    return pack(model)


@pytest.mark.parametrize(
    "runtime, content, reason",
    [
        ("tflite-micro", top_k(), "Didn't find op for builtin opcode 'TOPK_V2'"),
        (
            "tflite-micro",
            gather("int16"),
            "Type 'INT16' is not supported by gather; Node GATHER (number 0) failed to prepare",
        ),
    ],
)
def test_a_refused_file_is_an_error_with_the_reason_that_was_logged(tmp_path, runtime, content, reason):
    (tmp_path / "m.tflite").write_bytes(content)
    assert refuse({"op": "load", "model": tmp_path / "m.tflite"}, runtime).startswith(reason)


@pytest.mark.parametrize(
    "runtime, content, inputs, reason",
    [
        (
            "tflite-micro",
            arg_max(),
            {"x": np.ones((1, 1, 4), np.int32)},
            "got INT32; Node ARG_MAX (number 0) failed to",
        ),
        (
            "litert-compiled",
            gather("float32"),
            {"indices": np.array([[0, 99]])},
            "gather index out of bounds; Node number 0 (GATHER) failed to invoke",
        ),
        ("litert-compiled", add("int64"), dict.fromkeys("ab", np.ones((1, 1, 4), np.int64)), "dtype: int64"),
    ],
)
def test_a_call_that_fails_is_an_error_with_the_reason_that_was_logged(run, runtime, content, inputs, reason):
    assert reason in run(content, inputs, runtime, expect=refuse)


def test_a_compiled_model_takes_no_variables(models):
    assert refuse({"op": "load", "model": models["fused_lstm"]}, "litert-compiled") == (
        "Variable tensors not yet supported"
    )


def test_micro_does_not_get_an_lstm_that_it_would_answer_nonsense_to(models, tmp_path):
    (tmp_path / "m.tflite").write_bytes(hybrid_lstm(models["fused_lstm"].read_bytes()))
    assert refuse({"op": "load", "model": tmp_path / "m.tflite"}, "tflite-micro") == (
        "it cannot run an LSTM that takes floats and has int8 weights: convert to float32 or int8"
    )


def test_observing_needs_an_interpreter(models, engine, tmp_path):
    plan = {"op": "observe", "model": models["affine"], "inputs": tmp_path, "ranges": tmp_path}
    assert refuse(plan, engine) == (
        f"op 'observe' needs the Interpreter of ai-edge-litert, tflite-runtime or tensorflow-lite, not {engine}"
    )


@pytest.mark.parametrize(
    "change, message",
    [
        (
            {"delegate": {"library": "/none.so"}},
            " takes no delegate, only ai-edge-litert, tflite-runtime or tensorflow-lite do",
        ),
        ({"threads": 0}, "a runtime needs at least one thread, not 0"),
    ],
)
def test_options_that_do_not_go_are_refused(models, engine, change, message):
    assert refuse({"op": "load", "model": models["affine"], **change}, engine).endswith(message)


def test_micro_runs_on_one_thread(models):
    plan = {"op": "load", "model": models["affine"], "threads": 2}
    assert refuse(plan, "tflite-micro") == "it runs on one thread, not on 2"


def test_a_damaged_file_is_refused(models, engine, tmp_path):
    (tmp_path / "m.tflite").write_bytes(models["affine"].read_bytes()[:100])
    assert refuse({"op": "load", "model": tmp_path / "m.tflite"}, engine).startswith("the file is damaged: ")


def test_two_signatures_are_refused(engine, tmp_path):
    model = unpack(accumulator())
    model.signatureDefs = 2 * model.signatureDefs
    (tmp_path / "m.tflite").write_bytes(pack(model))
    assert refuse({"op": "load", "model": tmp_path / "m.tflite"}, engine) == "the file has 2 signatures, not one"


@pytest.mark.parametrize(
    "carry, message",
    [
        ({"state": "sum"}, "carry names 'state' and 'sum', which are not an input and an output of the model"),
        ({"stat": "total"}, "carry names 'stat' and 'total', which are not"),
    ],
)
def test_carrying_what_is_not_there_is_refused(run, carry, message):
    inputs = {name: np.ones((1, 2, 3)) for name in {"x", "state"} - set(carry)}
    assert run(accumulator(), inputs, "ai-edge-litert", carry=carry, expect=refuse).startswith(message)


def test_carrying_to_another_shape_is_refused(run):
    content = one_operator(
        Op.ADD,
        [Tensor("x", "float32", (2, 3)), Tensor("state", "float32", (1, 3))],
        [Tensor("total", "float32", (2, 3))],
        schema.AddOptionsT(),
    )
    message = run(content, {"x": np.ones((1, 2, 3))}, "ai-edge-litert", carry={"state": "total"}, expect=refuse)
    assert message == "output 'total' is not of the shape and type of input 'state', to which it is carried"


# How a log is read


@pytest.mark.parametrize(
    "lines, reason",
    [
        ([], ""),
        (["ERROR: [model_load.cc:316] Variable tensors not yet supported."], "Variable tensors not yet supported"),
        (
            ["Node ADD (number 0) failed to prepare with status 1"],
            "Node ADD (number 0) failed to prepare with status 1",
        ),
        (
            ["a.cc:7 x was not true.", "more", "Node B (number 1) failed"],
            "a.cc:7 x was not true; Node B (number 1) failed",
        ),
    ],
)
def test_the_reason_is_what_was_said_first_and_where(lines, reason):
    assert logs.reason_of(lines) == reason


def test_notices_are_no_reasons(run_python):
    code = (
        "import os, sys\n"
        "sys.path.insert(0, sys.argv[1]); from edgelstm_worker.logs import NativeLog; log = NativeLog()\n"
        r"os.write(2, b'INFO: hello\n\nERROR: one\n'); assert log.read() == ['ERROR: one']" + "\n"
        r"os.write(2, b'WARNING: w\n  two\n'); assert log.read() == ['two']; assert log.read() == []"
    )
    done = run_python(code, str(worker_file()))
    assert (done.returncode, done.stderr) == (0, "INFO: hello\n\nERROR: one\nWARNING: w\n  two\n")
