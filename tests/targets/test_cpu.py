from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgelstm
from edgelstm.errors import EdgeLSTMError, ModelRunError
from edgelstm.runtime.interpreters import python_for
from edgelstm.targets import cpu, find_target
from edgelstm.targets.base import Target
from edgelstm.targets.bench import bench
from edgelstm.targets.cpu import CpuTarget, choose_cores
from edgelstm.targets.plans import PLANS, BenchPlan, find_plan
from edgelstm.targets.subjects import Settings
from edgelstm.targets.text import describe
from tests.tiny_models import TinyModels

pytestmark = pytest.mark.cold

SHORT = BenchPlan(warmup_s=0.01, max_s=0.02, min_runs=40, max_runs=2000, num_processes=2)


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    return TinyModels(tmp_path_factory.mktemp("models"))


@pytest.fixture
def worker_answers(monkeypatch):
    """Replaces the worker. Returns the plans that it got; call it with changes of its result."""
    plans: list[dict[str, Any]] = []

    def replace(**changes: Any) -> list[dict[str, Any]]:
        result = {
            "event": "result",
            "samples_ns": [100_000, 101_000, 99_000] * 20,
            "warmup_ns": [150_000],
            "load_us": 900.0,
            "first_invoke_us": 400.0,
            "base_rss_bytes": 40 * 2**20,
            "peak_rss_bytes": 46 * 2**20,
            "outputs_finite": True,
            "machine": {"cpu": "Abacus", "governor": None, "num_cores": 4},
            **changes,
        }
        ready = {
            "event": "ready",
            "runtime": "ai-edge-litert",
            "runtime_version": "9.8",
            "python": "3.11.0",
            "numpy": "2.0.0",
            "load_us": 900.0,
        }

        def run_worker(plan: dict[str, Any], *, timeout_s: float) -> list[dict[str, Any]]:
            plans.append({**plan, "timeout_s": timeout_s})
            return [ready, result]

        monkeypatch.setattr(cpu, "run_worker", run_worker)
        return plans

    return replace


@pytest.fixture
def model_file(tmp_path):
    path = tmp_path / "m.tflite"
    path.write_bytes(b"12345")
    return path


def test_it_is_what_the_package_calls_bench():
    assert edgelstm.bench is bench


def test_the_table_of_targets_knows_it():
    assert isinstance(find_target("cpu"), CpuTarget)
    assert issubclass(CpuTarget, Target)


@pytest.mark.parametrize("runtime", ["ai-edge-litert", "tflite-runtime"])
def test_a_measurement_holds_all_that_a_reader_needs(models, runtime):
    try:
        python_for(runtime)
    except EdgeLSTMError:
        pytest.skip(f"no Python has {runtime}; EDGELSTM_RUNTIMES={runtime}=/path/to/python names one")
    path = models["fused_lstm"]
    measured = bench(str(path), runtime=runtime, plan=SHORT)
    assert (measured.kind, measured.target, measured.artifact) == ("measured", "cpu", path)
    assert (measured.runtime, measured.settings.threads, measured.plan) == (runtime, 1, SHORT)
    assert measured.size_bytes == path.stat().st_size
    assert measured.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert measured.runtime_version[0].isdigit()
    assert len(measured.processes) == 2
    samples_us = np.concatenate([process.samples_ns for process in measured.processes]) / 1e3
    assert measured.statistics.num_samples == len(samples_us) >= 80
    medians = [np.median(process.samples_ns) / 1e3 for process in measured.processes]
    assert min(medians) * 0.999 <= measured.p50_us <= max(medians) * 1.001
    assert measured.statistics.p50_low_us <= measured.p50_us <= measured.statistics.p50_high_us
    assert measured.machine["num_cores"] >= 1
    content = json.loads(json.dumps(measured.to_json(), allow_nan=False))
    assert content["processes"][1]["samples_ns"] == measured.processes[1].samples_ns
    assert content["statistics"]["p50_us"] == measured.p50_us
    assert content["artifact"] == str(path)


def test_the_plan_reaches_every_worker(worker_answers, model_file, monkeypatch):
    plans = worker_answers()
    monkeypatch.setattr(cpu, "choose_cores", lambda threads: [6, 7])
    target = CpuTarget(timeout_s=5)
    plan = BenchPlan(warmup_s=0.1, max_s=0.2, min_runs=3, max_runs=4, num_processes=3)
    delegate = model_file.with_name("d.so")
    delegate.touch()
    settings = Settings("tflite-runtime", threads=2, batch=8, length=50, delegate=str(delegate), seed=7)
    target.measure(model_file, plan, settings)
    assert plans == 3 * [
        {
            "op": "bench",
            "model": str(model_file),
            "runtime": "tflite-runtime",
            "threads": 2,
            "batch": 8,
            "length": 50,
            "delegate": {"library": str(delegate), "options": {}},
            "device": "cpu",
            "cores": [6, 7],
            "plan": {"warmup_s": 0.1, "max_s": 0.2, "min_runs": 3, "max_runs": 4, "max_warmup_s": 0.5},
            "seed": 7,
            "timeout_s": 5,
        }
    ]


def test_times_by_operator_are_asked_for(worker_answers, model_file):
    plans = worker_answers()
    CpuTarget(pin=False).measure(model_file, PLANS["quick"].with_operators(True))
    assert plans[0]["profile"] is True
    assert "cores" not in plans[0]


@pytest.mark.parametrize(
    "free, siblings, threads, cores",
    [
        ({0, 1, 2, 3}, {}, 1, [3]),
        ({0, 1, 2, 3}, {}, 2, [2, 3]),
        ({0, 1, 2, 3}, {0: "0,2", 2: "0,2", 1: "1,3", 3: "1,3"}, 2, [0, 1]),
        ({0, 1, 2, 3}, {0: "0,2", 2: "0,2", 1: "1,3", 3: "1,3"}, 3, [1, 2, 3]),
        ({0, 1}, {}, 2, []),
        ({5}, {}, 1, []),
    ],
)
def test_workers_are_kept_on_cores_of_their_own(monkeypatch, tmp_path, free, siblings, threads, cores):
    for number, text in siblings.items():
        (tmp_path / str(number)).write_text(f"{text}\n", encoding="ascii")
    monkeypatch.setattr(cpu, "SIBLINGS", str(tmp_path / "{}"))
    monkeypatch.setattr(cpu.os, "sched_getaffinity", lambda _: free)
    assert choose_cores(threads) == cores


@pytest.mark.parametrize(
    "changes, warning",
    [
        ({"samples_ns": [1000, 2000]}, "The samples are not stable: there are only 2 samples"),
        ({"outputs_finite": False}, "The model answered NaN or an infinity to random input"),
        ({"machine": {"governor": "powersave", "num_cores": 4}}, "The processor's governor is 'powersave'"),
        ({"machine": {"governor": None, "num_cores": 1}}, "2 threads share 1 cores. Measure with threads=1"),
        ({"machine": {"governor": None, "num_cores": 4, "load_average": 5.2}}, "Other programs were running: the load"),
        ({"warmup_stable": False}, "The calls had not become stable when the warm-up ended."),
        ({"conditions": [{"throttled": "0x0"}, {"throttled": "throttled=0x50005"}]}, "The device throttled during"),
        ({"conditions": [{"temperature_c": 60.0}, {"temperature_c": 82.5}]}, "The device was 82 °C hot"),
    ],
)
def test_what_makes_numbers_doubtful_is_said(worker_answers, model_file, changes, warning):
    worker_answers(**changes)
    measured = bench(model_file, threads=2, plan="quick")
    assert [text.startswith(warning) for text in measured.warnings] == [True]
    assert f"warning: {warning}" in " ".join(describe(measured).split())


def test_unknown_memory_is_left_out(worker_answers, model_file):
    worker_answers(base_rss_bytes=None, peak_rss_bytes=None)
    measured = bench(model_file, plan="quick")
    assert describe(measured).splitlines()[-1] == "  start       load 900 µs, first call 400 µs"
    assert measured.warnings == ()


def test_the_named_plans_are_known():
    assert find_plan("quick") is PLANS["quick"]
    assert PLANS["full"].num_processes > PLANS["quick"].num_processes
    assert find_plan(SHORT) is SHORT


def test_an_unknown_plan_lists_the_known(models):
    with pytest.raises(ValueError, match=r"Plan 'long' is not known\. Give a BenchPlan or one of 'quick', 'full'"):
        bench(models["affine"], plan="long")


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"max_s": -1}, "measures nothing"),
        ({"min_runs": 0}, "measures nothing"),
        ({"num_processes": 0}, "measures nothing"),
        ({"max_runs": 10, "min_runs": 11}, "max_runs is 10, less than min_runs 11"),
    ],
)
def test_a_plan_that_measures_nothing_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        BenchPlan(**{"warmup_s": 0.0, "max_s": 1.0, **changes})


def test_zero_threads_are_refused(models):
    with pytest.raises(ValueError, match="threads is 0, but must be at least 1"):
        bench(models["affine"], threads=0)


def test_a_missing_model_is_one_sentence(tmp_path):
    with pytest.raises(ModelRunError, match=r"none\.tflite: cannot be read: no such file or directory\.$"):
        bench(tmp_path / "none.tflite")


def test_a_damaged_model_is_one_sentence(tmp_path):
    path: Path = tmp_path / "m.tflite"
    path.write_bytes(b"this is not a flatbuffer at all")
    with pytest.raises(ModelRunError, match=r"m\.tflite: ai-edge-litert failed: "):
        bench(path, runtime="ai-edge-litert", plan="quick")


def test_measuring_does_not_bring_a_runtime_into_this_process(models, run_python):
    code = (
        "import sys, edgelstm; print(edgelstm.bench(sys.argv[1], plan='quick').p50_us > 0);"
        "print({'tensorflow', 'keras', 'ai_edge_litert'} & set(sys.modules))"
    )
    done = run_python(code, models["affine"])
    assert done.stdout == "True\nset()\n", done.stderr


def test_a_delegate_that_is_missing_is_one_sentence(model_file):
    with pytest.raises(ModelRunError, match=r"Delegate none\.so: there is no such file\. Give the path"):
        bench(model_file, delegate="none.so", plan="quick")
