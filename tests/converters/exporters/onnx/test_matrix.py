"""Every form as an ONNX file: it answers as Keras does, with one node for each recurrent layer and no loops."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

from edgelstm.converters.exporters.onnx import ExportedOnnx
from edgelstm.converters.lowering.calls import Trace
from tests.converters.exporters.onnx.models import (
    CONTROL_FLOW,
    RECURRENT,
    assert_close,
    attribute,
    export,
    nodes,
    run_calls,
)
from tests.converters.forms import FORMS, Array, Form, call_model, inputs_for

pytestmark = [pytest.mark.matrix, pytest.mark.usefixtures("conversion_in_this_process")]

CALLS = 5
# Forms whose model itself fixes the batch size.
FIXED_BATCH = ("lstm_stateful", "subclassed", "fixed_batch")
# Without an operator in ONNX: no activation there is -1 below; the cells are not ONNX's.
STEPWISE = ("hard_tanh", "conv_lstm", "custom_cell")


def keras_answers(form: Form, model: keras.Model, exported: ExportedOnnx, arrays: list[Array]) -> list[Array]:
    """Returns Keras' answers to one call, in the order of the file's outputs."""
    found = call_model(form, model, arrays)
    return [found[name] for name in exported.trace.outputs] if isinstance(found, dict) else found


def bidirectional_layers(model: keras.Model, trace: Trace) -> set[str]:
    """Returns the paths of Bidirectional layers both of whose layers have the same size: one node can be both."""
    found = [layer for layer in model._flatten_layers() if isinstance(layer, layers.Bidirectional)]
    return {trace.path(layer) for layer in found if layer.forward_layer.cell.units == layer.backward_layer.cell.units}


def assert_nodes(form: Form, model: keras.Model, exported: ExportedOnnx) -> None:
    operators = {node.op_type for node in exported.model.graph.node}
    assert not operators & CONTROL_FLOW
    recurrent: list[Any] = nodes(exported, *RECURRENT)
    both_ways = [node.name for node in recurrent if attribute(node, "direction") == b"bidirectional"]
    assert set(both_ways) == bidirectional_layers(model, exported.trace)
    assert len(recurrent) == len(exported.trace.calls) - len(both_ways)
    if form.name in STEPWISE:
        assert not recurrent
        assert "step by step" in exported.trace.notes[0]
    elif form.fused:
        assert "LSTM" in operators
    elif form.loops:
        assert recurrent
    assert exported.trace.loops == []


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_the_file_answers_as_keras(form):
    model = form.build()
    exported = export(model, batch=form.batch, length=form.options.get("length"))
    assert_nodes(form, model, exported)
    assert exported.free_batch == (form.name not in FIXED_BATCH)
    inputs = inputs_for(form, model, calls=CALLS)
    calls = [[array[call] for array in inputs] for call in (*range(CALLS), 0)]
    right = [keras_answers(form, model, exported, arrays) for arrays in calls]
    if exported.free_batch:  # all calls at once
        calls.append([np.concatenate(arrays) for arrays in zip(*calls, strict=True)])
        right.append([np.concatenate(arrays) for arrays in zip(*right, strict=True)])
    found = run_calls(exported, calls)
    for answer, wanted in zip(found, right, strict=True):
        assert_close(answer, wanted, form.tolerance)
    for first, again in zip(found[0], found[CALLS], strict=True):
        np.testing.assert_array_equal(first, again)
