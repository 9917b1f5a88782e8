"""Each trap is seen where it is, and not where it is not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from edgelstm.runtime.inspection import Inspection, inspect

HIDDEN_STATE, CELL_STATE = 18, 19

Edit = Callable[[Any], None]
Edited = Callable[[str, Edit], Inspection]


def _codes(inspection: Inspection) -> set[str]:
    return {warning.code for warning in inspection.warnings}


def _set_options(**options: Any) -> Edit:
    def edit(editor: Any) -> None:
        for name, value in options.items():
            setattr(editor.lstm.builtinOptions, name, value)

    return edit


def test_cell_clip_is_seen(models: dict[str, Path], edited: Edited) -> None:
    clipped = inspect(models["float32"])
    assert "cell-clip" in _codes(clipped)
    assert "clipped at 10," in next(w.message for w in clipped.warnings if w.code == "cell-clip")
    assert "cell-clip" not in _codes(edited("float32", _set_options(cellClip=0.0)))


@pytest.mark.parametrize(
    "exponent, expected",
    [
        (-16, {"cell-scale-too-small"}),
        (-15, set()),
        (-9, set()),
        (-8, {"cell-scale-too-large"}),
    ],
)
def test_cell_scales_outside_the_kernel_are_seen(edited: Edited, exponent: int, expected: set[str]) -> None:
    def set_cell_scale(editor: Any) -> None:
        editor.quantization(editor.lstm.inputs[CELL_STATE]).scale = [2.0**exponent]

    inspection = edited("int8", set_cell_scale)
    assert inspection.lstms[0].cell_scale == 2.0**exponent
    assert _codes(inspection) & {"cell-scale-too-small", "cell-scale-too-large"} == expected


@pytest.mark.parametrize("which", ["output", "hidden", "intermediate"])
def test_scales_that_disagree_are_seen(models: dict[str, Path], edited: Edited, which: str) -> None:
    def change(editor: Any) -> None:
        operator = editor.lstm
        tensors = {
            "output": operator.outputs[0],
            "hidden": operator.inputs[HIDDEN_STATE],
            "intermediate": operator.intermediates[4],
        }
        editor.quantization(int(tensors[which])).scale = [0.01]

    assert "lstm-scales-disagree" in _codes(edited("int8", change))
    assert "lstm-scales-disagree" not in _codes(inspect(models["int8"]))


def test_a_projection_has_a_scale_of_its_own(edited: Edited) -> None:
    def add_projection(editor: Any) -> None:
        operator = editor.lstm
        editor.quantization(int(operator.intermediates[4])).scale = [0.01]
        operator.inputs = np.array(operator.inputs)
        operator.inputs[16] = editor.add_tensor([32, 32], "INT8", bytes(1024))

    assert "lstm-scales-disagree" not in _codes(edited("int8", add_projection))


@pytest.mark.parametrize(
    "precision, activation, name, expected",
    [
        ("int8", "RELU", "relu", {"int8-activation"}),
        ("int8", "NONE", "linear", {"int8-activation"}),
        ("int8", "TANH", "tanh", set()),
        ("float32", "NONE", "linear", {"linear-activation"}),
        ("dynamic", "NONE", "linear", {"linear-activation"}),
        ("float32", "RELU", "relu", set()),
        ("float32", "RELU6", "relu6", set()),
        ("float16", "RELU_N1_TO_1", "hard_tanh", set()),
    ],
)
def test_activations_that_the_kernel_does_not_compute_are_seen(
    edited: Edited, precision: str, activation: str, name: str, expected: set[str]
) -> None:
    value = getattr(schema.ActivationFunctionType, activation)
    inspection = edited(precision, _set_options(fusedActivationFunction=value))
    assert inspection.lstms[0].activation == name
    assert _codes(inspection) & {"int8-activation", "linear-activation"} == expected


def test_an_lstm_that_stayed_float32_beside_int8_weights_is_seen(models: dict[str, Path]) -> None:
    inspection = inspect(models["half_dynamic"])
    assert inspection.lstms[0].precision == "float32"
    assert "lstm-stayed-float32" in _codes(inspection)
    for name in ("float32", "float16", "dynamic", "int8"):
        assert "lstm-stayed-float32" not in _codes(inspect(models[name])), name


def test_a_loop_with_the_gates_of_an_lstm_is_noted(models: dict[str, Path]) -> None:
    inspection = inspect(models["loop"])
    assert [loop.looks_like_lstm for loop in inspection.loops] == [True]
    assert [(warning.code, warning.severity) for warning in inspection.warnings] == [("lstm-as-loop", "note")]


def test_another_loop_is_not_noted(models: dict[str, Path]) -> None:
    inspection = inspect(models["counting_loop"])
    assert [loop.looks_like_lstm for loop in inspection.loops] == [False]
    assert inspection.warnings == ()


def test_flex_operators_and_tensor_lists_are_seen(models: dict[str, Path]) -> None:
    inspection = inspect(models["tensor_list"])
    assert inspection.uses_flex
    assert {o.name: o.kind for o in inspection.operators}["FlexTensorListReserve"] == "flex"
    assert {"flex-operators", "leftover-variables"} <= _codes(inspection)


@pytest.mark.parametrize("name", ["VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE"])
def test_variables_left_behind_are_seen(edited: Edited, name: str) -> None:
    inspection = edited("dense", lambda editor: editor.insert(name, [], []))
    (warning,) = inspection.warnings
    assert warning.code == "leftover-variables"
    assert name in warning.message


def test_every_warning_has_a_sentence_and_an_advice(models: dict[str, Path]) -> None:
    for path in models.values():
        for warning in inspect(path).warnings:
            assert warning.message.endswith(".")
            assert warning.message.count(". ") == 0
            assert warning.advice.endswith(".")
