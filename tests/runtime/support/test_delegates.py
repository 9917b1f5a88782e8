"""What delegates are said to take; nothing here runs one."""

from __future__ import annotations

import dataclasses

import pytest

from edgelstm.runtime.inspection import inspect
from edgelstm.runtime.support.facts import OperatorUse, read_facts
from edgelstm.runtime.support.table import RUNTIMES
from tests import tiny_models
from tests.one_operator import accumulator

DELEGATES = {name: runtime for name, runtime in RUNTIMES.items() if runtime.is_delegate}


@pytest.fixture
def plain(tmp_path):
    path = tmp_path / "m.tflite"
    path.write_bytes(accumulator())
    return read_facts(inspect(path), path)


@pytest.fixture
def fused(tmp_path):
    path = tmp_path / "m.tflite"
    path.write_bytes(tiny_models.fused_lstm())
    return read_facts(inspect(path), path)


def with_operators(facts, *uses: OperatorUse):
    return dataclasses.replace(facts, operators=uses, operator_counts={use.name: 1 for use in uses})


@pytest.mark.parametrize("runtime", DELEGATES.values(), ids=DELEGATES)
def test_every_delegate_is_documented(runtime):
    assert (runtime.basis, runtime.engine) == ("documented", None)
    assert runtime.sources
    assert all(source.startswith("https://") for source in runtime.sources)


@pytest.mark.parametrize("name", ["gpu-delegate", "core-ml-delegate"])
def test_the_lstm_stays_on_the_cpu(fused, name):
    verdict = DELEGATES[name].rule(fused)
    assert (verdict.loads, verdict.right, verdict.why) == ("yes", "reset", "the LSTM stays on the CPU")


def test_hexagon_computes_integers_only(fused, plain):
    rule = DELEGATES["hexagon-delegate"].rule
    assert rule(fused).why == "everything stays on the CPU: it computes int8 only"
    integers = OperatorUse("ADD", 2, False, ("int8", "int8"), ("int8",), 2)
    assert rule(with_operators(plain, integers)).why == "it can take 1 of 1 operators at most"


def test_nnapi_may_take_a_float_lstm_and_no_other(fused):
    rule = DELEGATES["nnapi-delegate"].rule
    assert (rule(fused).loads, rule(fused).right) == ("yes", "unknown")
    (lstm,) = [use for use in fused.operators if "LSTM" in use.name]
    for changes in ({"version": 3}, {"inputs": ("float32", "int8", "int8")}):
        other = with_operators(fused, dataclasses.replace(lstm, **changes))
        assert (rule(other).right, rule(other).why) == ("reset", "the LSTM stays on the CPU")


@pytest.mark.parametrize("name", DELEGATES)
def test_loops_stay_on_the_cpu(plain, name):
    loop = OperatorUse("WHILE", 1, False, ("int8",), ("int8",), 2)
    assert DELEGATES[name].rule(with_operators(plain, loop)).why == "the loop stays on the CPU"


@pytest.mark.parametrize("name", DELEGATES)
def test_what_the_interpreter_refuses_no_delegate_helps(plain, name):
    verdict = DELEGATES[name].rule(with_operators(plain, OperatorUse("ADD", 60, False, (), (), 2)))
    assert (verdict.loads, verdict.why) == ("no", "it does not know ADD of version 60")


def test_operators_are_counted(plain):
    assert DELEGATES["gpu-delegate"].rule(plain).why == "it can take 1 of 1 operators at most"
    assert DELEGATES["nnapi-delegate"].rule(plain).right == "unknown"
