from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest

from edgelstm.targets.worker import count
from edgelstm.targets.worker.plan import PlanError
from tests.targets.worker.running import run_calls, work
from tests.targets.worker.test_bench import FakeSession
from tests.tiny_models import TinyModels


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    return TinyModels(tmp_path_factory.mktemp("models"))


def test_marks_stand_around_every_call_after_three():
    session = FakeSession(x=(2,))
    result = count.count(session, {"calls": 2, "seed": 3}, mark=lambda number: session.log.append(f"mark {number}"))
    call = session.log[1]
    assert session.log[1:] == [call] * 3 + ["mark 0", "mark 0", call, "mark 1", call, "mark 2"]
    assert result == {"calls": 2}


def test_without_a_number_one_call_is_made():
    marks: list[Any] = []
    assert count.count(FakeSession(x=(2,)), {}, mark=marks.append) == {"calls": 1}
    assert marks == [0, 0, 1]


def test_the_outputs_are_those_of_the_last_call(tmp_path):
    np.savez(tmp_path / "in.npz", x=np.array([[1.0, 2.0], [30.0, 40.0]], np.float32))
    plan = {"calls": 2, "inputs": str(tmp_path / "in.npz"), "outputs": str(tmp_path / "out.npz")}
    count.count(FakeSession(x=(2,)), plan, mark=lambda number: None)
    with np.load(tmp_path / "out.npz") as answers:
        np.testing.assert_array_equal(answers["total"], [70.0])


def test_a_length_that_is_open_has_to_be_given():
    marks: list[Any] = []
    with pytest.raises(PlanError, match="input 'x' leaves its length open: give --length N"):
        count.count(FakeSession(x=(-1, -1, 3)), {}, mark=marks.append)
    assert marks == []
    assert count.count(FakeSession(x=(-1, -1, 3)), {"length": 4}, mark=marks.append) == {"calls": 1}


@pytest.mark.skipif(sys.platform != "linux", reason="marks are for Linux")
def test_a_mark_changes_nothing_on_this_machine(models, tmp_path):
    x = np.random.default_rng(0).standard_normal((1, 2, 3)).astype(np.float32)
    expected = run_calls(tmp_path, models["affine"], {"x": x}, "ai-edge-litert")["y"]
    plan = {"op": "count", "model": models["affine"], "inputs": tmp_path / "in.npz", "calls": 5}
    result = work({**plan, "outputs": tmp_path / "counted.npz"})[-1]
    assert result["calls"] == 5
    assert [tensor["name"] for tensor in result["outputs"]] == ["y"]
    with np.load(tmp_path / "counted.npz") as answers:
        np.testing.assert_array_equal(answers["y"], expected)


@pytest.mark.skipif(sys.platform != "linux", reason="marks are for Linux")
def test_a_mark_is_a_call_that_the_system_does_not_know():
    assert count.system_mark()(7) == -1


def test_other_systems_are_refused(monkeypatch):
    monkeypatch.setattr(count.sys, "platform", "darwin")
    with pytest.raises(PlanError, match="op 'count' is for an emulated Linux, not darwin"):
        count.count(FakeSession(x=(2,)), {})


@pytest.mark.parametrize("calls, message", [(0, "calls is 0, but must be at least 1"), ("3", "the plan needs 'calls'")])
def test_a_wrong_number_of_calls_is_refused(calls, message):
    with pytest.raises(PlanError, match=message):
        count.count(FakeSession(x=(2,)), {"calls": calls}, mark=lambda number: None)
