"""What the Interpreters and LiteRT's newer runtimes take, by changes of a file that all of them take."""

from __future__ import annotations

import dataclasses

import pytest

from edgelstm.runtime.inspection import InspectionWarning, TensorSummary, inspect
from edgelstm.runtime.support.facts import OperatorUse, read_facts
from edgelstm.runtime.support.interpreters import KERNEL_TRAPS
from edgelstm.runtime.support.table import RUNTIMES
from tests.one_operator import accumulator

INTERPRETERS = ("ai-edge-litert", "tflite-runtime")
LITERT = ("litert-compiled", "litertjs")


@pytest.fixture
def taken(tmp_path):
    path = tmp_path / "m.tflite"
    path.write_bytes(accumulator())
    return read_facts(inspect(path), path)


def judge(name, facts, **changes):
    return RUNTIMES[name].rule(dataclasses.replace(facts, **changes))


def uses(*names: str, version: int = 1, is_custom: bool = False) -> tuple[OperatorUse, ...]:
    return tuple(OperatorUse(name, version, is_custom, ("float32",), ("float32",), 2) for name in names)


@pytest.mark.parametrize("name", [*INTERPRETERS, *LITERT])
def test_a_plain_file_is_taken(taken, name):
    verdict = judge(name, taken)
    assert (verdict.loads, verdict.right, verdict.why, verdict.cure) == ("yes", "yes", "", None)


@pytest.mark.parametrize("name", [*INTERPRETERS, *LITERT])
def test_operators_that_are_missing_are_named(taken, name):
    operators = (*uses("FlexSplit", is_custom=True), *uses("BUILTIN 250"), *uses("ADD", version=60))
    verdict = judge(name, taken, operators=operators)
    assert (verdict.loads, verdict.cure) == ("no", None)
    assert verdict.why == ("it does not know the custom operator FlexSplit, BUILTIN 250, ADD of version 60")
    many = judge(name, taken, operators=uses("A", "B", "C", "D", "A"))
    assert many.why == "it does not know A, B, C and 1 more"


@pytest.mark.parametrize("name", INTERPRETERS)
def test_their_own_custom_operators_are_known(taken, name):
    assert judge(name, taken, operators=uses("Mfcc", is_custom=True)).loads == "yes"


@pytest.mark.parametrize("name", LITERT)
def test_whether_the_others_have_them_is_not(taken, name):
    assert judge(name, taken, operators=uses("Mfcc", is_custom=True)).loads == "unknown"


@pytest.mark.parametrize("name", [*INTERPRETERS, *LITERT])
def test_other_memory_leaves_the_answers_open(taken, name):
    assert judge(name, taken, state="unknown").right == "unknown"


@pytest.mark.parametrize("name", INTERPRETERS)
@pytest.mark.parametrize("state, right", [("leaking", "reset"), ("streaming", "yes"), ("self-resetting", "yes")])
def test_a_state_has_to_be_reset_or_is_meant_to_stay(taken, name, state, right):
    verdict = judge(name, taken, state=state, num_variables=2)
    assert (verdict.loads, verdict.right) == ("yes", right)
    assert ("reset the variable tensors" in verdict.why) == (state != "self-resetting")


@pytest.mark.parametrize("name", INTERPRETERS)
@pytest.mark.parametrize("code", KERNEL_TRAPS)
def test_a_trap_of_the_kernel_is_wrong(taken, name, code):
    trap = InspectionWarning(code, "warning", "", "")
    inspection = dataclasses.replace(taken.inspection, warnings=(trap,))
    assert judge(name, taken, inspection=inspection).right == "no"


@pytest.mark.parametrize("name", LITERT)
def test_variable_tensors_are_refused(taken, name):
    verdict = judge(name, taken, num_variables=1)
    assert verdict.why == "its loader refuses variable tensors, in which the LSTM operator keeps its state"
    assert verdict.cure == {"litert-compiled": "compiled", "litertjs": "web"}[name]


@pytest.mark.parametrize(
    "dtype, takes",
    [
        ("float32", LITERT),
        ("int32", LITERT),
        ("uint8", LITERT),
        ("int8", ("litert-compiled",)),
        ("float16", ("litert-compiled",)),
        ("bool", ("litert-compiled",)),
        ("int64", ()),
        ("int16", ()),
    ],
)
@pytest.mark.parametrize("position", ["inputs", "outputs"])
def test_inputs_and_outputs_have_few_types(taken, dtype, takes, position):
    (signature,) = taken.inspection.signatures
    signature = dataclasses.replace(signature, **{position: (TensorSummary("x", (2,), dtype, None, None),)})
    inspection = dataclasses.replace(taken.inspection, signatures=(signature,))
    verdicts = {name: judge(name, taken, inspection=inspection) for name in LITERT}
    assert tuple(name for name, verdict in verdicts.items() if verdict.loads == "yes") == takes
    refusals = {verdict.why for verdict in verdicts.values() if verdict.loads == "no"}
    assert refusals <= {f"it takes no inputs or outputs of {dtype}"}


def test_only_the_browser_wants_fixed_sizes(taken):
    assert judge("litert-compiled", taken, has_open_sizes=True).right == "yes"
    verdict = judge("litertjs", taken, has_open_sizes=True)
    assert (verdict.loads, verdict.cure) == ("no", "web")


@pytest.mark.parametrize("name", LITERT)
def test_outputs_that_share_a_tensor_get_lost(taken, name):
    verdict = judge(name, taken, shares_outputs=True)
    assert (verdict.loads, verdict.right) == ("yes", "no")


def test_the_old_runtime_lacks_a_type(taken):
    update = OperatorUse("DYNAMIC_UPDATE_SLICE", 1, False, ("int16", "int16", "int32"), ("int16",), 3)
    assert judge("tflite-runtime", taken, operators=(update,)).why == "its DYNAMIC_UPDATE_SLICE takes no int16"
    assert judge("ai-edge-litert", taken, operators=(update,)).loads == "yes"
