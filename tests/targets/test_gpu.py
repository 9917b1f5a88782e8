from __future__ import annotations

import sys
from pathlib import Path

import pytest

from edgelstm.errors import ModelRunError, TargetError
from edgelstm.targets import find_target, gpu
from edgelstm.targets.gpu import GpuTarget
from edgelstm.targets.subjects import Settings, Subject
from tests.targets.made import PLAN, processes

SMI = """#!{python}
import sys
assert sys.argv[1].startswith("--query-gpu=name,driver_version,"), sys.argv
print("Abacus 9000, 550.54, 81559 MiB, 41, 1980 MHz, 90.1 W")
"""


@pytest.fixture
def driver(monkeypatch, tmp_path):
    """Makes this machine look as if it had a GPU, with a driver and nvidia-smi."""
    device, smi = tmp_path / "nvidia0", tmp_path / "nvidia-smi"
    device.touch()
    smi.write_text(SMI.format(python=sys.executable), encoding="utf-8")
    smi.chmod(0o755)
    monkeypatch.setattr(gpu, "_DEVICES", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")


@pytest.fixture
def no_driver(monkeypatch, tmp_path):
    monkeypatch.setattr(gpu, "_DEVICES", tmp_path)


def subject(name: str, **settings) -> Subject:
    return Subject(Path(name), Settings(**settings))


def test_without_a_gpu_it_says_so_in_one_line(no_driver):
    (availability,) = gpu.KIND.available()
    assert not availability.reachable
    assert availability.text.startswith("this machine has no GPU that a driver shows")
    with (
        pytest.raises(TargetError, match=r"^gpu: this machine has no GPU .* so none was measured\.$"),
        GpuTarget().open(),
    ):
        pass


def test_a_gpu_that_no_runtime_sees_is_one_sentence(driver, monkeypatch):
    monkeypatch.setattr(gpu, "sees_gpu", lambda runtime: False)
    with pytest.raises(TargetError, match=r"no runtime that sees it\. Install one that does"), GpuTarget().open():
        pass


def test_the_runtime_is_the_first_that_sees_the_gpu(driver, monkeypatch):
    monkeypatch.setattr(gpu, "sees_gpu", lambda runtime: runtime in ("keras-jax", "keras-torch"))
    target = GpuTarget()
    with target.open_place() as place:
        plan = target.worker_plan(subject("m.keras", batch=64, mode="jit", dtype="float16"), PLAN, place)
        assert (plan["runtime"], plan["device"], plan["batch"], plan["mode"]) == ("keras-jax", "gpu", 64, "jit")
        with pytest.raises(
            ModelRunError, match=r"m\.tflite: nothing here runs it on the GPU\. Give .* \.h5 or \.keras"
        ):
            target.worker_plan(subject("m.tflite"), PLAN, place)
        with pytest.raises(ModelRunError, match="nothing here runs it"):
            target.worker_plan(subject("m.onnx"), PLAN, place)
        assert target.worker_plan(subject("m.keras", runtime="keras-torch"), PLAN, place)["runtime"] == "keras-torch"


def test_keras_models_run_compiled_and_eager_in_both_precisions_and_batches():
    settings = [each.settings for each in GpuTarget().variants(subject("m.keras"))]
    assert len(set(settings)) == 8
    assert {each.batch for each in settings} == {1, 64}
    assert {each.mode for each in settings} == {"jit", "eager"}
    assert {each.dtype for each in settings} == {"float32", "float16"}
    chosen = GpuTarget().variants(subject("m.keras", batch=8, mode="graph", dtype="float32"))
    assert [each.settings.batch for each in chosen] == [8]
    assert len(GpuTarget().variants(subject("m.onnx"))) == 1


def test_the_gpu_is_named_in_the_measurement(driver):
    process = processes(100.0)[0]
    ready = {"runtime": "keras-jax", "runtime_version": "1", "python": "3", "numpy": "2"}
    machine = {"governor": None, "num_cores": 2}
    result = {
        "samples_ns": process.samples_ns,
        "warmup_ns": [],
        "load_us": 1.0,
        "first_invoke_us": 1.0,
        "machine": machine,
    }
    measured = GpuTarget().conclude(subject("m.keras"), PLAN, [{"ready": ready, "result": result}])
    assert measured.target == "gpu"
    assert measured.machine["gpu"]["name"] == "Abacus 9000"
    assert gpu.KIND.available()[0].text == "Abacus 9000."


def test_a_runtime_that_is_not_installed_sees_nothing(monkeypatch):
    monkeypatch.setattr(gpu, "is_available", lambda name: False)
    assert not gpu.sees_gpu("keras-jax")


@pytest.mark.parametrize("code, seen", [("seen = [1]", True), ("seen = []", False), ("raise ImportError", False)])
def test_a_runtime_is_asked_in_a_process_of_its_own(monkeypatch, code, seen):
    monkeypatch.setattr(gpu, "is_available", lambda name: True)
    monkeypatch.setattr(gpu, "python_for", lambda name: sys.executable)
    monkeypatch.setitem(gpu.SEES_GPU, "keras-jax", code)
    assert gpu.sees_gpu("keras-jax") is seen


def test_the_table_of_targets_knows_it():
    assert isinstance(find_target("gpu"), GpuTarget)
