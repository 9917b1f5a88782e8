"""What "bench" takes and tells beyond the durations."""

from __future__ import annotations

import os
import time
from typing import Any

import numpy as np
import pytest

from edgelstm.runtime.child import run_worker
from edgelstm.targets.worker import bench, program, system
from edgelstm.targets.worker.arrays import random_feeds, sizes_of
from edgelstm.targets.worker.plan import PlanError
from edgelstm.targets.worker.session import Session, plain_tensor
from tests.targets.worker.running import refuse, work
from tests.tiny_models import BATCH, FEATURES, TIME, TinyModels

pytestmark = pytest.mark.cold

SHORT = {"warmup_s": 0.01, "max_s": 0.01, "min_runs": 7, "max_runs": 50}


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    return TinyModels(tmp_path_factory.mktemp("models"))


class FakeSession(Session):
    """Adds up what it is fed, and says what it was asked for."""

    def __init__(self, **shapes: tuple[int, ...]) -> None:
        self.inputs = {name: plain_tensor(k, shape, "float32") for k, (name, shape) in enumerate(shapes.items())}
        self.outputs = {"total": plain_tensor(0, (), "float32")}
        self.load_us = 5.0
        self.log: list[Any] = []
        self.fed: dict[str, Any] = {}
        self.total = np.float32(0)

    def resize(self, feeds: dict[str, Any]) -> None:
        self.log.append({name: array.shape[1:] for name, array in feeds.items()})

    def feed(self, arrays: dict[str, Any]) -> None:
        self.fed = arrays

    def invoke(self) -> None:
        self.total = np.float32(sum(array.sum() for array in self.fed.values()))
        self.log.append(float(self.total))

    def reset(self) -> None:
        self.log.append("reset")

    def read_outputs(self) -> dict[str, Any]:
        return {"total": self.total}

    def profile(self, calls: int) -> list[dict[str, Any]]:
        self.log.append(("profile", calls))
        return [{"name": "sum"}]


def test_a_result_has_all_that_the_protocol_promises(models):
    before_ns = time.time_ns()
    plan = {"op": "bench", "model": models["fused_lstm"], "plan": SHORT, "started_ns": before_ns}
    result = work(plan)[-1]
    assert result["warmup_stable"] in (True, False)
    assert 10 < result["overhead_ns"] < 1000  # 1 % of 0.1 ms
    assert 10 < result["prepare_ns"] < 1_000_000
    assert result["shapes"] == {"x": [BATCH, TIME, FEATURES]}
    assert (result["machine"]["num_cores"] >= 1, result["machine"]["cores"]) == (True, None)
    assert [entry["at"] for entry in result["conditions"]] == ["before", "after"]
    assert result["conditions"][0]["elapsed_s"] < result["conditions"][1]["elapsed_s"] < 60
    assert (result["arena_bytes"], result["operators"]) == (None, None)
    cold = result["cold_start"]
    assert list(cold) == ["process_us", "import_us", "load_us", "first_invoke_us"]
    assert (cold["load_us"], cold["first_invoke_us"]) == (result["load_us"], result["first_invoke_us"])
    assert all(time_us > 0 for time_us in cold.values())
    assert sum(cold.values()) < (time.time_ns() - before_ns) / 1e3


def test_conditions_are_read_once_per_second_between_timed_calls(models):
    limits = {"warmup_s": 0.1, "max_s": 2.5}
    told = work({"op": "bench", "model": models["affine"], "plan": {**limits, "max_runs": 10**7}})[-1]["conditions"]
    assert [entry["at"] for entry in told] == ["before", "during", "during", "after"]
    elapsed = [entry["elapsed_s"] for entry in told]
    assert np.diff(elapsed[1:3]) == pytest.approx(1.0, abs=0.5)
    assert set(told[1]) == {"at", "elapsed_s", "governor", "clock_khz", "temperature_c", "throttled"}


def test_the_parent_tells_when_it_started_the_process(models):
    result = run_worker({"op": "bench", "model": models["affine"], "plan": SHORT})[-1]
    assert 1e3 < result["cold_start"]["process_us"] < 60e6


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="the system keeps no process on cores")
def test_a_worker_stays_on_its_cores(models):
    core = max(os.sched_getaffinity(0))
    plan = {"op": "bench", "model": models["affine"], "plan": SHORT}
    machine = run_worker(plan, cores=[core])[-1]["machine"]
    assert (machine["num_cores"], machine["cores"]) == (len(os.sched_getaffinity(0)), [core])
    message = refuse({**plan, "cores": [9999]})
    assert message.startswith("the process cannot stay on cores [9999]: the machine lets it use ")
    assert "cores is [-1], but must be numbers of processors" in refuse({**plan, "cores": [-1]})
    assert "the plan needs 'cores', a list, not 1" in refuse({**plan, "cores": 1})


def test_a_batch_is_measured_where_the_file_leaves_it_free(models):
    plan = {"op": "bench", "plan": SHORT, "batch": 4}
    assert work({**plan, "model": models["affine_free"]})[-1]["inputs"][0]["shape"] == [4, 3]
    assert refuse({**plan, "model": models["affine"]}) == (
        "a batch of 4 does not fit input 'x': its batch is fixed at 2: convert it again with --batch 4"
    )
    assert work({**plan, "model": models["affine"], "batch": 2})[-1]["inputs"][0]["shape"] == [2, 3]


@pytest.mark.parametrize(
    "shapes, sizes, wanted",
    [
        ({"x": (-1, -1, 3)}, (4, 7), {"x": [4, 7, 3]}),
        ({"x": (-1, -1, 3)}, (None, 7), {"x": [1, 7, 3]}),
        ({"x": (2, -1, 3), "h": (2, 5)}, (2, 7), {"x": [2, 7, 3], "h": [2, 5]}),
        ({"x": (1, 7, 3), "h": (1, 5)}, (None, 7), {"x": [1, 7, 3], "h": [1, 5]}),
        ({"x": (-1, -1), "flag": (), "n": (-1,)}, (4, 7), {"x": [4, 7], "flag": [], "n": [4]}),
        ({"x": (-1, 7, 3), "flag": (), "n": (-1,)}, (None, None), {"x": [1, 7, 3], "flag": [], "n": [1]}),
    ],
)
def test_sizes_go_where_they_belong(shapes, sizes, wanted):
    session = FakeSession(**shapes)
    assert sizes_of(session, *sizes) == wanted
    feeds = random_feeds(session, 0, *sizes)
    assert {name: list(array.shape[1:]) for name, array in feeds.items()} == wanted


@pytest.mark.parametrize(
    "shapes, sizes, message",
    [
        ({"a": (-1, 3), "b": (1, 3)}, (4, None), "a batch of 4 does not fit input 'b': its batch is fixed at 1"),
        ({"x": (1, 10, 3)}, (None, 7), "length is fixed at 10: convert it again with --length 7"),
        ({"x": (-1,)}, (None, 7), "no input of the model has a length to choose"),
        ({"x": (-1, -1, 3)}, (None, None), "^input 'x' leaves its length open: give --length N$"),
        ({"h": (2, 5), "x": (2, -1)}, (2, None), "^input 'x' leaves its length open: give --length N$"),
    ],
)
def test_sizes_that_are_fixed_are_refused(shapes, sizes, message):
    with pytest.raises(PlanError, match=message):
        sizes_of(FakeSession(**shapes), *sizes)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"batch": 0}, "batch is 0, but must be at least 1"),
        ({"length": 1.5}, "the plan needs 'length', a int, not 1.5"),
        ({"batch": 2, "inputs": "a.npz"}, "batch and length are for random input, but the plan names inputs"),
        ({"plan": {"max_warmup": 1}}, "plan of bench does not know 'max_warmup', only max_runs, max_s, max_warmup_s"),
        ({"profile": 1}, "the plan needs 'profile', a bool, not 1"),
    ],
)
def test_what_bench_cannot_do_is_refused(change, message):
    with pytest.raises(PlanError, match=message):
        bench.bench(FakeSession(x=(2, 3)), {"plan": {}, **change})


def test_inputs_are_fed_in_turn_and_reset_comes_first(tmp_path):
    np.savez(tmp_path / "in.npz", x=np.arange(6, dtype=np.float32).reshape(3, 2, 1))
    session = FakeSession(x=(2, 1))
    plan = {"plan": {"min_runs": 4, "max_runs": 4}, "inputs": str(tmp_path / "in.npz"), "reset": True}
    result = bench.bench(session, plan)
    assert session.log[0] == {"x": (2, 1)}
    # The first call, then the timed ones from the beginning.
    assert session.log[1:11:2] == ["reset"] * 5
    assert session.log[2:11:2] == [1.0, 1.0, 5.0, 9.0, 1.0]
    # Then what is done around calls that do nothing.
    assert session.log[11:] == ["reset"] * 201
    assert result["shapes"] == {"x": [2, 1]}
    assert (len(result["samples_ns"]), result["warmup_ns"], result["warmup_stable"]) == (4, [], None)


def test_a_length_that_is_open_is_an_error_unless_the_inputs_are_given(tmp_path):
    session, limits = FakeSession(x=(-1, -1, 1)), {"plan": {"max_runs": 1}}
    with pytest.raises(PlanError, match="input 'x' leaves its length open: give --length N"):
        bench.bench(session, limits)
    np.savez(tmp_path / "in.npz", x=np.ones((1, 2, 6, 1), np.float32))
    assert bench.bench(session, {**limits, "inputs": str(tmp_path / "in.npz")})["shapes"] == {"x": [2, 6, 1]}
    assert bench.bench(session, {**limits, "length": 9})["shapes"] == {"x": [1, 9, 1]}


def test_the_outputs_are_looked_at_before_inputs_are_set_without_a_call(monkeypatch):
    session = FakeSession(x=(2,))
    feed = session.feed

    def overwrite(arrays: dict[str, Any]) -> None:
        feed(arrays)
        session.total = np.float32(np.nan)

    monkeypatch.setattr(session, "feed", overwrite)
    assert bench.bench(session, {"plan": {"max_runs": 3}})["outputs_finite"] is True


def test_integers_are_all_one_for_a_model_that_masks(monkeypatch):
    session = FakeSession(x=(3, 40), tokens=(3, 40))
    session.inputs["tokens"]["dtype"] = "int32"
    assert set(np.unique(random_feeds(session, 0)["tokens"])) == {0, 1}
    monkeypatch.setattr(session, "masks", lambda: True)
    feeds = random_feeds(session, 0)
    assert set(np.unique(feeds["tokens"])) == {1}
    assert len(np.unique(feeds["x"])) == 120


def test_operators_are_timed_by_further_calls_after_the_timed_ones():
    session = FakeSession(x=(2,))
    result = bench.bench(session, {"plan": {"min_runs": 3, "max_runs": 3}, "profile": True})
    assert result["operators"] == [{"name": "sum"}]
    assert session.log[-1] == ("profile", bench.PROFILED_CALLS)  # inputs alone come later, and are not logged
    assert len([entry for entry in session.log if isinstance(entry, float)]) == 1 + 3
    assert bench.bench(session, {"plan": {}})["operators"] is None


def test_things_between_calls_are_done_when_they_are_due():
    seen: list[tuple[str, int]] = []
    between = bench.seldom(
        {lambda now: seen.append(("often", now)): 10, lambda now: seen.append(("seldom", now)): 25}, begun_ns=100
    )
    for now in (101, 109, 110, 115, 124, 125, 126, 190, 191):
        between(now)
    assert seen == [("often", 110), ("often", 124), ("seldom", 125), ("often", 190), ("seldom", 190)]


def test_energy_is_that_of_the_timed_calls(tmp_path, monkeypatch):
    monkeypatch.setattr(system, "SYSTEM_ROOT", tmp_path)
    folder = tmp_path / "sys/class/hwmon/hwmon0"
    folder.mkdir(parents=True)
    (folder / "name").write_text("ina226")
    (folder / "power1_input").write_text("3000000")
    session = FakeSession(x=(2,))
    invoke = session.invoke
    monkeypatch.setattr(session, "invoke", lambda: (time.sleep(0.01), invoke())[1])
    consumed = bench.bench(session, {"plan": {"min_runs": 12, "max_runs": 12}})["energy"]
    assert (consumed["source"], consumed["calls"]) == ("ina:ina226", 12)
    assert 0.12 <= consumed["seconds"] < 5
    assert consumed["joules"] == pytest.approx(3 * consumed["seconds"])


def test_the_start_of_the_process_is_what_the_system_tells(tmp_path, monkeypatch):
    monkeypatch.setattr(system, "SYSTEM_ROOT", tmp_path)
    assert program.process_start_us({}, time.time_ns()) is None
    (tmp_path / "proc/self").mkdir(parents=True)
    ticks = os.sysconf("SC_CLK_TCK")
    # Field 22, of a process whose name is made to mislead, started 2 s before now.
    (tmp_path / "proc/self/stat").write_text(f"7 (a) b 1) R {' '.join(['0'] * 18)} {98 * ticks} 5 6\n")
    (tmp_path / "proc/uptime").write_text("100.00 5.00\n")
    told_us = program.process_start_us({}, time.time_ns() - 500_000_000)
    assert told_us == pytest.approx(1.5e6, abs=2e5)
    assert program.process_start_us({"started_ns": 1000}, 501_000) == 500.0
