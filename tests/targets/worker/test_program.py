"""The worker, as a program: what goes in at stdin, what comes out at stdout, on runtimes with an Interpreter."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgelstm.runtime.child import worker_file
from edgelstm.targets import worker
from edgelstm.targets.worker import arrays
from edgelstm.targets.worker.runtimes import RUNTIMES
from tests.targets.worker.running import cells_of, refuse, require, save, sequences, start, work
from tests.tiny_models import BATCH, UNITS, TinyModels

FOLDER = Path(worker.__file__).parent
# Values of about 1 in float32, over five steps: a few roundings of 6e-8 each.
TOLERANCE = 2e-6


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    return TinyModels(tmp_path_factory.mktemp("models"))


@pytest.fixture(params=["ai-edge-litert", "tflite-runtime"])
def runtime(request):
    return require(request.param)


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


ZEROS = np.zeros((BATCH, UNITS), np.float32)

TREES = [ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 9)) for path in FOLDER.glob("**/*.py")]
FRAMEWORKS = {"tensorflow", "jax", "torch", "keras"}


def imported(nodes: Iterable[ast.AST]) -> set[str]:
    """Returns what is imported that is neither of Python nor of the worker."""
    names = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add(node.module.partition(".")[0])
    return names - sys.stdlib_module_names


def test_the_worker_stands_alone():
    assert len(TREES) > 15
    assert imported(node for tree in TREES for node in tree.body) == {"numpy"}
    assert imported(node for tree in TREES for node in ast.walk(tree)) <= {"numpy"} | FRAMEWORKS


def test_the_worker_asks_for_nothing_that_python_39_lacks():
    calls = [node for tree in TREES for node in ast.walk(tree) if isinstance(node, ast.Call)]
    given = {(ast.unparse(call.func), keyword.arg) for call in calls for keyword in call.keywords}
    assert ("zip", "strict") not in given
    assert not any(argument in ("slots", "kw_only") for _, argument in given)
    annotated = {"from __future__ import annotations"}
    assert all(annotated <= {ast.unparse(node) for node in tree.body} for tree in TREES if len(tree.body) > 1)


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
        "cores",
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


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "the plan is not JSON"),
        ("[1]", "the plan is not of protocol 1"),
        ('{"protocol": 2, "op": "run"}', "the plan is not of protocol 1"),
        ('{"protocol": 1, "op": "fly"}', "op 'fly' is not known, only load, run, observe, bench, count"),
        (
            '{"protocol": 1, "op": "load", "modle": "a"}',
            "op 'load' does not know 'modle', only cores, delegate, device, dtype, mode, model, op, ",
        ),
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
        ({"runtime": "onnx"}, f"runtime 'onnx' is not known, only {', '.join(RUNTIMES)} and auto"),
        ({"threads": 0}, "a runtime needs at least one thread, not 0"),
        ({"threads": True}, "the plan needs 'threads', a int, not True"),
        (
            {"delegate": {"library": "/none.so"}},
            "the delegate /none.so does not exist: give the path of a shared library",
        ),
        ({"delegate": {"library": __file__}}, f"the delegate {__file__} cannot be loaded: "),
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
