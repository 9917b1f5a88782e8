"""How LSTM operators are described."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from edgelstm.runtime.inspection import Inspection, LstmSummary, inspect

BATCH, TIME = 2, 4  # of the models in conftest.py
HIDDEN_STATE, CELL_STATE = 18, 19

Edited = Callable[[str, Callable[[Any], None]], Inspection]


def _the_lstm(inspection: Inspection) -> LstmSummary:
    (lstm,) = inspection.lstms
    return lstm


def test_the_fused_operator_is_described(models: dict[str, Path]) -> None:
    lstm = _the_lstm(inspect(models["float32"]))
    assert lstm.kind == "UNIDIRECTIONAL_SEQUENCE_LSTM"
    assert (lstm.index, lstm.graph) == (0, 0)
    assert (lstm.batch, lstm.time, lstm.features, lstm.units) == (BATCH, TIME, 40, 32)
    assert (lstm.activation, lstm.time_major, lstm.cell_clip) == ("tanh", False, 10.0)
    assert lstm.state == "leaking"
    assert (lstm.input_scale, lstm.output_scale, lstm.hidden_scale, lstm.cell_scale) == (None, None, None, None)


@pytest.mark.parametrize("precision", ["float32", "float16", "dynamic", "int8"])
def test_the_precision_is_the_one_it_was_converted_to(models: dict[str, Path], precision: str) -> None:
    assert _the_lstm(inspect(models[precision])).precision == precision


def test_int8_scales_are_those_of_the_states(models: dict[str, Path]) -> None:
    lstm = _the_lstm(inspect(models["sequence_int8"]))
    assert lstm.cell_scale is not None
    assert math.log2(lstm.cell_scale).is_integer()
    assert lstm.hidden_scale == lstm.output_scale == lstm.intermediate_scale
    assert lstm.input_scale == inspect(models["sequence_int8"]).inputs[0].scale


def test_two_directions_are_two_operators(models: dict[str, Path]) -> None:
    inspection = inspect(models["two_directions"])
    assert [(lstm.index, lstm.units) for lstm in inspection.lstms] == [(0, 5), (1, 5)]
    assert {operator.name: operator.count for operator in inspection.operators}["REVERSE_V2"] == 2


def test_time_major_swaps_batch_and_time(edited: Edited) -> None:
    def make_time_major(editor: Any) -> None:
        editor.lstm.builtinOptions.timeMajor = True

    lstm = _the_lstm(edited("float32", make_time_major))
    assert (lstm.time_major, lstm.batch, lstm.time) == (True, TIME, BATCH)


def test_a_bidirectional_operator_has_four_states(edited: Edited) -> None:
    def make_bidirectional(editor: Any, *, states: int = 4) -> None:
        operator = editor.lstm
        h, c = (int(operator.inputs[state]) for state in (HIDDEN_STATE, CELL_STATE))
        operator.opcodeIndex = editor.operator_code("BIDIRECTIONAL_SEQUENCE_LSTM")
        editor.add_reset()
        more = [editor.add_tensor([BATCH, 32], "FLOAT32") for _ in range(states - 2)]
        directions = [int(index) for index in operator.inputs[1:18]] * 2
        operator.inputs = np.array([operator.inputs[0], *directions, h, c, *(more or [h, c])], np.int32)
        operator.builtinOptions = schema.BidirectionalSequenceLSTMOptionsT()
        operator.builtinOptions.fusedActivationFunction = schema.ActivationFunctionType.TANH
        operator.builtinOptionsType = schema.BuiltinOptions.BidirectionalSequenceLSTMOptions

    lstm = _the_lstm(edited("float32", make_bidirectional))
    assert (lstm.kind, lstm.features, lstm.units) == ("BIDIRECTIONAL_SEQUENCE_LSTM", 40, 32)
    assert lstm.state == "leaking", "the states of the second direction are not reset"
    both_reset = _the_lstm(edited("float32", lambda editor: make_bidirectional(editor, states=2)))
    assert both_reset.state == "self-resetting"


def test_the_old_operator_runs_one_step(edited: Edited) -> None:
    def make_old(editor: Any, *, kernel: int) -> None:
        operator = editor.lstm
        operator.opcodeIndex = editor.operator_code("LSTM")
        operator.builtinOptions = schema.LSTMOptionsT()
        operator.builtinOptions.kernelType = kernel
        operator.builtinOptions.fusedActivationFunction = schema.ActivationFunctionType.TANH
        operator.builtinOptionsType = schema.BuiltinOptions.LSTMOptions
        if kernel == schema.LSTMKernelType.BASIC:
            weights = editor.add_tensor([4 * 6, 8 + 6], "FLOAT32", bytes(4 * 24 * 14))
            state = [editor.add_tensor([BATCH, 6], "FLOAT32") for _ in range(2)]
            bias = editor.add_tensor([24], "FLOAT32", bytes(4 * 24))
            operator.inputs = np.array([operator.inputs[0], state[0], weights, bias, state[1]], np.int32)

    full = _the_lstm(edited("float32", lambda editor: make_old(editor, kernel=schema.LSTMKernelType.FULL)))
    assert (full.kind, full.batch, full.time, full.units, full.state) == ("LSTM", BATCH, 1, 32, "leaking")
    basic = edited("float32", lambda editor: make_old(editor, kernel=schema.LSTMKernelType.BASIC))
    lstm = _the_lstm(basic)
    assert (lstm.features, lstm.units, lstm.state) == (8, 6, "explicit")
    assert basic.warnings == ()
