"""Putting LSTMs in integer form into the graph that TensorFlow's quantizer returned."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgelstm.converters.graph import ABSENT, Array, Graph, quantization
from edgelstm.converters.lowering.calls import LstmCall
from edgelstm.converters.lowering.cells import IntegerCell
from edgelstm.converters.lowering.forms import STEPWISE_FORMS, Steps, takes_last_step
from edgelstm.converters.lowering.fused import add_lstm
from edgelstm.converters.lowering.integer.cutting import Cut
from edgelstm.converters.lowering.integer.ranges import asymmetric
from edgelstm.converters.lowering.operators import Operators
from edgelstm.converters.lowering.scales import repair_scales
from edgelstm.converters.lowering.states import StateWriter, add_dequantize, add_quantize
from edgelstm.converters.lowering.streaming import CELL_STATE, HIDDEN_STATE, KINDS, StreamStates
from edgelstm.converters.lowering.weights import GATES, LstmWeights, quantize_symmetric

INT32_MAX = 2**31 - 1


def restore_lstms(
    graph: Graph,
    cuts: Sequence[Cut],
    *,
    own_inputs: int,
    own_outputs: int,
    form: str = "fused",
    stream: StreamStates | None = None,
    gathers_int16: bool = True,
    int8_inputs: bool = False,
) -> None:
    """Puts the LSTMs, in integer form, into the graph that the quantizer returned.

    Args:
        graph: The quantized cut graph; changed in place.
        cuts: What `cut_carriers` took out.
        own_inputs: Number of the model's own inputs; those behind them stand for LSTM results.
        own_outputs: Number of the model's own outputs.
        form: What they become, one of `forms.FORMS`.
        stream: For a streaming model, whose states stay from call to call.
        gathers_int16: Whether the runtime has GATHER for int16.
        int8_inputs: Whether the model's inputs are to become int8.
    """
    inputs, outputs = list(graph.subgraph.inputs), list(graph.subgraph.outputs)
    states, operators = StateWriter(graph, gathers_int16=gathers_int16), Operators(graph)
    for cut in cuts:
        if form == "fused":
            _restore(graph, states, cut, inputs, outputs, stream)
        else:
            x = outputs[cut.x]
            if int8_inputs and x in inputs[:own_inputs]:
                x, _ = _as_int8(graph, x, cut.x_range, f"{cut.call.layer}/input")
            _restore_steps(operators, STEPWISE_FORMS[form], cut, x, inputs, outputs, stream)
    repair_scales(graph)
    graph.subgraph.inputs = graph.subgraph.inputs[:own_inputs]
    graph.subgraph.outputs = graph.subgraph.outputs[:own_outputs]
    graph.prune_operators()


def _restore(
    graph: Graph,
    states: StateWriter,
    cut: Cut,
    inputs: list[int],
    outputs: list[int],
    stream: StreamStates | None,
) -> None:
    call, units = cut.call, cut.call.units
    x, x_scale = _as_int8(graph, outputs[cut.x], cut.x_range, f"{call.layer}/input")
    placeholder = inputs[cut.sequence]
    output, scale, zero_point = _output(graph, call, placeholder, cut.output_range)
    output_quantization = quantization(scale, zero_point)
    cell_scale = 2.0 ** (cut.cell_exponent - 15)

    hidden_state = graph.add_tensor(
        f"{call.layer}/hidden_state", [cut.batch, units], np.int8, quantization=output_quantization, variable=True
    )
    cell_state = graph.add_tensor(
        f"{call.layer}/cell_state", [cut.batch, units], np.int16, quantization=quantization(cell_scale), variable=True
    )
    for state, initial, dtype, step, zero in (
        (hidden_state, cut.hidden, np.int8, scale, zero_point),
        (cell_state, cut.cell, np.int16, cell_scale, 0),
    ):
        if not stream:
            states.write(state, _initial_state(graph, call, initial, outputs, dtype, step, zero), x)
    if stream:
        for kind, state in zip(KINDS, (hidden_state, cell_state), strict=True):
            stream.keep(call, kind, state)

    add_lstm(
        graph,
        call,
        [x, *_integer_weights(graph, call, cut.weights, x_scale), hidden_state, cell_state],
        [output],
        version=1,
        intermediates=_intermediates(graph, call, output_quantization),
    )
    if cut.final_cell is not None:
        copied = graph.add_tensor(
            f"{call.layer}/final_cell", [cut.batch, units], np.int16, quantization=quantization(cell_scale)
        )
        states.read(cell_state, copied, output)
        add_dequantize(graph, copied, inputs[cut.final_cell])


def _restore_steps(
    operators: Operators,
    steps: Steps,
    cut: Cut,
    x: int,
    inputs: list[int],
    outputs: list[int],
    stream: StreamStates | None,
) -> None:
    """Writes an LSTM out in int16 steps on int8 weights; all but x between float tensors that the quantizer left."""
    graph = operators.graph
    hidden_peak = max(1.0, *map(abs, cut.output_range))  # a given state may be larger than any computed one
    cell = IntegerCell(cut.call, cut.weights, max(map(abs, cut.x_range)), cut.cell_exponent, hidden_peak)
    x = operators.quantize(x, np.int16, cell.x_scale)
    scales = cell.hidden_scale, cell.cell_scale
    if stream:
        given = [stream.give(cut.call, kind, cut.batch) for kind in KINDS]
        hidden, state = (
            operators.quantize(tensor, np.int16, scale) for tensor, scale in zip(given, scales, strict=True)
        )
    else:
        hidden, state = (
            _initial_state(graph, cut.call, initial, outputs, np.int16, scale, 0)
            for initial, scale in zip((cut.hidden, cut.cell), scales, strict=True)
        )
    sequence = inputs[cut.sequence]
    quantizers, slices = _last_step_readers(graph, sequence)
    wants_all = len(quantizers) < len(graph.consumers(sequence)) or sequence in graph.subgraph.outputs
    result = steps(operators, cell, x, hidden, state, outputs=wants_all)
    for taken in slices:
        last = operators.result(graph.shape(result.hidden), np.float32)
        add_dequantize(graph, result.hidden, last)
        add_quantize(graph, operators.reshaped(last, graph.shape(taken.outputs[0])), taken.outputs[0])
    graph.remove([*quantizers, *slices])
    if result.outputs is not None:
        add_dequantize(graph, result.outputs, sequence)
    if cut.final_cell is not None:
        add_dequantize(graph, result.cell, inputs[cut.final_cell])
    if stream:
        stream.take(cut.call, HIDDEN_STATE, result.hidden)
        stream.take(cut.call, CELL_STATE, result.cell)


def _last_step_readers(graph: Graph, sequence: int) -> tuple[list[Any], list[Any]]:
    """QUANTIZE operators whose readers take the last step of a sequence alone, and these readers."""
    quantizers, slices = [], []
    for operator in graph.consumers(sequence):
        readers = graph.consumers(operator.outputs[0])
        only_quantizes = (
            graph.code(operator) == schema.BuiltinOperator.QUANTIZE
            and operator.outputs[0] not in graph.subgraph.outputs
        )
        if only_quantizes and all(takes_last_step(graph, reader) for reader in readers):
            quantizers.append(operator)
            slices += readers
    return quantizers, slices


def _as_int8(graph: Graph, tensor: int, limits: tuple[float, float], name: str) -> tuple[int, float]:
    """An int8 version of a float tensor that the quantizer gave out, and its scale."""
    operator = graph.producer(tensor)
    if operator is not None and graph.code(operator) == schema.BuiltinOperator.DEQUANTIZE:
        source = operator.inputs[0]
        if graph.tensor(source).type == schema.TensorType.INT8:
            return source, float(graph.tensor(source).quantization.scale[0])
    scale, zero_point = asymmetric(limits)
    result = graph.add_tensor(name, graph.shape(tensor), np.int8, quantization=quantization(scale, zero_point))
    add_quantize(graph, tensor, result)
    return result, scale


def _output(graph: Graph, call: LstmCall, placeholder: int, limits: tuple[float, float]) -> tuple[int, float, int]:
    """The operator's int8 output in place of a float placeholder: index, scale, zero point."""
    readers = graph.consumers(placeholder)
    quantizers = [reader for reader in readers if graph.code(reader) == schema.BuiltinOperator.QUANTIZE]
    scale, zero_point = asymmetric(limits)
    same = [operator for operator in quantizers if _has_parameters(graph, operator.outputs[0], scale, zero_point)]
    if same:  # the quantizer's own rounding of the same range
        scale = float(graph.tensor(same[0].outputs[0]).quantization.scale[0])
    parameters = quantization(scale, zero_point)
    output = graph.add_tensor(f"{call.layer}/output", graph.shape(placeholder), np.int8, quantization=parameters)
    for operator in quantizers:
        if operator in same:
            graph.replace(operator.outputs[0], output)
        else:
            add_quantize(graph, output, operator.outputs[0])
    graph.remove(quantizers)
    add_dequantize(graph, output, placeholder)  # for readers that stay in float; pruned where there is none
    return output, scale, zero_point


def _has_parameters(graph: Graph, tensor: int, scale: float, zero_point: int) -> bool:
    """Whether a tensor has these quantization parameters, up to float rounding of the scale."""
    found = graph.tensor(tensor).quantization
    return math.isclose(float(found.scale[0]), scale, rel_tol=1e-5) and int(found.zeroPoint[0]) == zero_point


def _initial_state(
    graph: Graph, call: LstmCall, initial: int | Array, outputs: list[int], dtype: Any, scale: float, zero_point: int
) -> int:
    """A tensor that holds the initial state in the state's own type and scale."""
    parameters = quantization(scale, zero_point)
    if not isinstance(initial, int):
        limits = np.iinfo(dtype)
        stored = np.clip(np.round(initial / scale) + zero_point, limits.min, limits.max).astype(dtype)
        return graph.add_constant(f"{call.layer}/initial_state", stored, quantization=parameters)
    source = unquantized(graph, outputs[initial])
    result = graph.add_tensor(f"{call.layer}/initial_state", graph.shape(source), dtype, quantization=parameters)
    add_quantize(graph, source, result)
    return result


def unquantized(graph: Graph, tensor: int) -> int:
    """Skips a QUANTIZE and DEQUANTIZE that only pass a float tensor on: an 8-bit detour."""
    last = graph.producer(tensor)
    if last is None or graph.code(last) != schema.BuiltinOperator.DEQUANTIZE:
        return tensor
    first = graph.producer(last.inputs[0])
    if first is None or graph.code(first) != schema.BuiltinOperator.QUANTIZE:
        return tensor
    source = int(first.inputs[0])
    return source if graph.tensor(source).type == schema.TensorType.FLOAT32 else tensor


def _integer_weights(graph: Graph, call: LstmCall, weights: LstmWeights, x_scale: float) -> list[int]:
    """Inputs 1 to 17: int8 kernels, int8 recurrent kernels, no peepholes, int32 biases, no projection."""
    kernels, recurrent, biases = [], [], []
    for position, gate in enumerate(GATES):
        name = f"{call.layer}/{gate}_gate"
        stored, scale = quantize_symmetric(weights.kernels[position])
        kernels.append(graph.add_constant(f"{name}/kernel", stored, quantization=quantization(scale)))
        bias_scale = x_scale * scale  # the kernel adds the bias to the accumulator of the input product
        bias = np.clip(np.round(weights.biases[position] / bias_scale), -INT32_MAX, INT32_MAX).astype(np.int32)
        biases.append(graph.add_constant(f"{name}/bias", bias, quantization=quantization(bias_scale)))
        stored, scale = quantize_symmetric(weights.recurrent_kernels[position])
        recurrent.append(graph.add_constant(f"{name}/recurrent_kernel", stored, quantization=quantization(scale)))
    return [*kernels, *recurrent, ABSENT, ABSENT, ABSENT, *biases, ABSENT, ABSENT]


def _intermediates(graph: Graph, call: LstmCall, output_quantization: Any) -> list[int]:
    """Four unused gate intermediates, and the hidden state before projection, which has the output's scale."""
    unused = [graph.add_tensor(f"{call.layer}/{gate}_intermediate", [0], np.float32) for gate in GATES]
    hidden = graph.add_tensor(f"{call.layer}/hidden_intermediate", [0], np.int8, quantization=output_quantization)
    return [*unused, hidden]
