"""Which runtime takes which file, and the Interpreter inside TensorFlow."""

from __future__ import annotations

import re
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from edgelstm.targets.worker import runtimes
from edgelstm.targets.worker.plan import PlanError, either
from edgelstm.targets.worker.runtimes import AUTO, RUNTIMES, candidates_of, check_options, ending_of, version_of
from tests.lstm_reference import lstm_step
from tests.targets.worker.running import refuse, run_calls, start, work
from tests.tiny_models import BATCH, FEATURES, TIME, UNITS, TinyModels, lstm_weights

# Values of about 1 in float32, over five steps: a few roundings of 6e-8 each.
TOLERANCE = 2e-6
TENSORFLOW = "tensorflow-lite"


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    return TinyModels(tmp_path_factory.mktemp("models"))


@pytest.mark.parametrize(
    "model, ending",
    [
        ("a/m.tflite", ".tflite"),
        ("m.ONNX", ".onnx"),
        ("m.keras", ".keras"),
        ("m.h5", ".h5"),
        ("m.H5", ".h5"),
        ("m.hdf5", ".tflite"),
        ("m.bin", ".tflite"),
    ],
)
def test_files_are_told_apart_by_their_ending(model, ending):
    assert ending_of(model) == ending
    assert candidates_of({"model": model}) == AUTO[ending]


def test_auto_means_runtimes_that_take_the_file():
    for ending, names in AUTO.items():
        assert names
        assert all(ending in RUNTIMES[name].endings for name in names)


@pytest.mark.parametrize(
    "runtime, model, message",
    [
        ("tflite-runtime", "m.onnx", "tflite-runtime takes .tflite files, not .onnx: use onnxruntime"),
        ("keras-jax", "m.onnx", "keras-jax takes .keras and .h5 files, not .onnx: use onnxruntime"),
        ("onnxruntime", "m.keras", "not .keras: use keras-tensorflow, keras-jax or keras-torch"),
        ("onnxruntime", "m.bin", "onnxruntime takes .onnx files, not .tflite: use ai-edge-litert, "),
        ("abacus", "m.tflite", "runtime 'abacus' is not known, only ai-edge-litert, "),
    ],
)
def test_a_file_that_a_runtime_does_not_take_is_refused_with_those_that_do(runtime, model, message):
    with pytest.raises(PlanError) as caught:
        candidates_of({"runtime": runtime, "model": model})
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "runtime, plan, message",
    [
        ("ai-edge-litert", {"device": "gpu"}, "ai-edge-litert does not know device 'gpu': that is for onnxruntime, "),
        ("onnxruntime", {"dtype": "float16"}, "onnxruntime does not know dtype 'float16': that is for "),
        ("tflite-micro", {"mode": "eager"}, "tflite-micro does not know mode 'eager': that is for "),
        ("keras-jax", {"mode": "fast"}, "mode is 'fast', but must be one of jit, graph, eager"),
        ("keras-jax", {"device": "tpu"}, "device is 'tpu', but must be one of cpu, gpu"),
        ("keras-jax", {"dtype": 16}, "dtype is 16, but must be one of float32, float16"),
        (
            "keras-jax",
            {"op": "observe"},
            "op 'observe' needs the Interpreter of ai-edge-litert, tflite-runtime or tens",
        ),
    ],
)
def test_options_that_a_runtime_does_not_know_are_refused(runtime, plan, message):
    with pytest.raises(PlanError) as caught:
        check_options(runtime, {"op": "run", **plan})
    assert message in str(caught.value)


@pytest.mark.parametrize("runtime", [*RUNTIMES])
def test_every_runtime_computes_on_the_cpu(runtime):
    check_options(runtime, {"op": "run", "device": "cpu", "mode": None})


def test_the_first_runtime_that_is_there_is_taken(monkeypatch):
    monkeypatch.setattr(runtimes.importlib.util, "find_spec", lambda name: name == "torch" or None)
    monkeypatch.setattr(runtimes.importlib, "import_module", lambda name, package=None: SimpleNamespace(name=name))
    prepared = []
    kinds = {name: SimpleNamespace(prepare=lambda plan, name=name: prepared.append(name)) for name in RUNTIMES}
    monkeypatch.setattr(runtimes, "session_class", kinds.get)
    name, module = runtimes.import_runtime(AUTO[".keras"], {})
    assert (name, module.name, prepared) == ("keras-torch", "keras", ["keras-torch"])


def test_versions_tell_the_backend_and_packages_of_another_name(monkeypatch):
    def missing(name: str) -> str:
        raise runtimes.importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(runtimes.importlib.metadata, "version", missing)
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(__version__="2.9"))
    module = SimpleNamespace(__version__="1.2")
    assert version_of("onnxruntime", module) == "1.2"
    assert version_of("keras-torch", module) == "1.2 (torch 2.9)"
    assert version_of("tflite-micro", SimpleNamespace()) == "unknown"


def test_a_choice_reads_well():
    assert [either(["a"]), either(["a", "b"]), either(["a", "b", "c"])] == ["a", "a or b", "a, b or c"]


@pytest.mark.cold
def test_the_interpreter_inside_tensorflow_runs_and_keeps_states(models, tmp_path):
    x = np.random.default_rng(0).standard_normal((2, BATCH, TIME, FEATURES)).astype(np.float32)
    y = run_calls(tmp_path, models["fused_lstm"], {"x": x}, TENSORFLOW)["y"]
    weights, states = lstm_weights(), [(np.zeros(UNITS), np.zeros(UNITS))] * BATCH
    for call in range(2):
        for row in range(BATCH):
            for t in range(TIME):
                states[row] = lstm_step(x[call, row, t], *states[row], weights)
                np.testing.assert_allclose(y[call, row, t], states[row][0], atol=2 * TOLERANCE, rtol=0)


@pytest.mark.cold
def test_the_interpreter_inside_tensorflow_observes_and_is_quiet(models, tmp_path):
    x = np.array([[[1, 2, 3], [4, 5, 8]]], np.float32)
    np.savez(tmp_path / "in.npz", x=x)
    plan = {"op": "observe", "model": models["affine"], "inputs": tmp_path / "in.npz", "ranges": tmp_path / "r.npz"}
    ready, result = work(plan, TENSORFLOW)
    assert (ready["runtime"], ready["runtime_version"][0].isdigit()) == (TENSORFLOW, True)
    with np.load(tmp_path / "r.npz") as ranges:
        index = result["outputs"][0]["index"]
        assert (ranges["min"][index], ranges["max"][index]) == (3, 17)


@pytest.mark.cold
def test_what_tensorflow_says_about_its_interpreter_is_no_reason_of_an_error(models):
    done = start(f'{{"protocol": 1, "op": "load", "runtime": "{TENSORFLOW}", "model": "{models["affine"]}"}}')
    assert done.returncode == 0
    assert "deprecated" not in done.stderr
    assert all(
        line.startswith(("WARNING:", "INFO:")) or re.match(r"I\d{4} ", line)
        for line in done.stderr.splitlines()
        if line
    )


@pytest.mark.cold
def test_a_file_that_is_no_model_is_refused_by_tensorflow(tmp_path):
    path = tmp_path / "m.tflite"
    path.write_bytes(b"this is not a flatbuffer at all")
    assert refuse({"op": "load", "model": path}, TENSORFLOW).startswith("ValueError: ")
