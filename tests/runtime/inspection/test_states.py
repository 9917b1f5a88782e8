"""What counts as a reset of the state on every call."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgelstm.runtime.inspection import Inspection, inspect

BATCH = 2  # of the models in conftest.py
HIDDEN_STATE, CELL_STATE = 18, 19

Edit = Callable[[Any], None]
Edited = Callable[[str, Edit], Inspection]


def _leaks(inspection: Inspection) -> bool:
    return "state-leaks" in {warning.code for warning in inspection.warnings}


def test_a_reset_before_the_operator_makes_it_self_resetting(edited: Edited) -> None:
    inspection = edited("float32", lambda editor: editor.add_reset())
    assert inspection.lstms[0].state == "self-resetting"
    assert not _leaks(inspection)


def test_without_a_reset_the_state_leaks(models: dict[str, Path]) -> None:
    for name in ("float32", "float16", "dynamic", "int8"):
        assert _leaks(inspect(models[name])), name


def _reset_after(editor: Any) -> None:
    editor.add_reset()
    operators = editor.graph.operators
    operators.append(operators.pop(1))


def _reset_by_constant(editor: Any) -> None:
    lstm = editor.lstm
    value = editor.add_tensor([BATCH, 32], "FLOAT16", bytes(2 * BATCH * 32))
    for state in (HIDDEN_STATE, CELL_STATE):
        editor.insert("DEQUANTIZE", [value], [int(lstm.inputs[state])])


def _constant_after_reset(editor: Any) -> None:
    _reset_by_constant(editor)
    editor.add_reset()


def _carry_on(editor: Any) -> None:
    editor.add_reset(states=(HIDDEN_STATE,))
    lstm, source = editor.lstm, int(editor.graph.inputs[0])
    cell, scaled = int(lstm.inputs[CELL_STATE]), editor.add_tensor([BATCH, 32], "FLOAT32")
    editor.insert("ADD", [scaled, source], [cell])
    editor.insert("MUL", [cell, source], [scaled])


@pytest.mark.parametrize(
    "edit",
    [
        pytest.param(lambda editor: editor.add_reset(states=(HIDDEN_STATE,)), id="only the hidden state"),
        pytest.param(lambda editor: editor.add_reset(states=(CELL_STATE,)), id="only the cell state"),
        pytest.param(lambda editor: editor.add_reset(index_from="SHAPE"), id="from the shape of the input alone"),
        pytest.param(_reset_by_constant, id="from a constant"),
        pytest.param(_constant_after_reset, id="from a constant in the end"),
        pytest.param(_reset_after, id="after the operator"),
        pytest.param(_carry_on, id="from the state itself"),
    ],
)
def test_writes_that_do_not_reset_both_states_leak(edited: Edited, edit: Edit) -> None:
    inspection = edited("float32", edit)
    assert inspection.lstms[0].state == "leaking"
    assert _leaks(inspection)
