"""Full integer form: the graph around the LSTMs by TensorFlow's quantizer, the LSTMs themselves here.

TensorFlow's quantizer sees the cell state only at the end of a sequence, gives one LSTM several scales
where its output has two readers, and refuses files that read the cell state. So the carriers are cut
out before it runs: what they read becomes an output of the graph, what they write an input. Afterwards
each LSTM is put back in its integer form, with scales chosen from ranges observed over all time steps.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgelstm.converters.graph import ABSENT, DTYPES, Array, Graph, quantization
from edgelstm.converters.lowering import activations
from edgelstm.converters.lowering.calls import LstmCall
from edgelstm.converters.lowering.cells import IntegerCell
from edgelstm.converters.lowering.forms import STEPWISE_FORMS, Steps, takes_last_step
from edgelstm.converters.lowering.fused import (
    BIAS,
    CELL,
    FINAL_CELL,
    HIDDEN,
    KERNEL,
    SEQUENCE,
    X,
    add_lstm,
    find_carriers,
    why_not_fused,
)
from edgelstm.converters.lowering.operators import Operators
from edgelstm.converters.lowering.scales import repair_scales
from edgelstm.converters.lowering.states import StateWriter, add_dequantize, add_quantize
from edgelstm.converters.lowering.streaming import (
    CELL_STATE,
    HIDDEN_STATE,
    KINDS,
    StreamStates,
    check_streaming,
)
from edgelstm.converters.lowering.weights import GATES, LstmWeights, quantize_symmetric, read_weights
from edgelstm.errors import LoweringError

# The integer kernel's tanh exists for cell states with 0 to 6 integer bits; beyond, it answers rubbish.
SMALLEST_CELL_EXPONENT = 0  # scale 2^-15
LARGEST_CELL_EXPONENT = 6  # scale 2^-9
INT32_MAX = 2**31 - 1


@dataclass(frozen=True)
class Ranges:
    """What activations were seen to do over the calibration data.

    Attributes:
        low: Smallest value of each tensor of the float graph, by tensor index; NaN where none was seen.
        high: Largest value.
        cell_peak: Largest |c| over all steps, the initial state included, by call index.
    """

    low: Array
    high: Array
    cell_peak: Mapping[int, float]

    def of(self, *tensors: int) -> tuple[float, float]:
        """The range that covers some tensors and zero."""
        lows = [float(self.low[tensor]) for tensor in tensors if not math.isnan(self.low[tensor])]
        highs = [float(self.high[tensor]) for tensor in tensors if not math.isnan(self.high[tensor])]
        low, high = min([0.0, *lows]), max([0.0, *highs])
        return (low, high) if high - low > 1e-6 else (low, low + 1.0)


@dataclass
class _Cut:
    """One LSTM taken out of the graph; values are positions in the cut graph's inputs and outputs."""

    call: LstmCall
    weights: LstmWeights
    batch: int
    x: int
    hidden: int | Array
    cell: int | Array
    sequence: int
    final_cell: int | None
    x_range: tuple[float, float]
    output_range: tuple[float, float]
    cell_exponent: int


def check_integer(calls: Sequence[LstmCall], instead: str = "--quantize dynamic or float16") -> None:
    """Refuses calls that the integer kernel would compute wrongly.

    Args:
        calls: The calls.
        instead: What to use instead.

    Raises:
        LoweringError: Naming the layer and the precision to use instead.
    """
    for call in calls:
        if why_not_fused(call):
            raise LoweringError(
                f"Layer {call.layer!r} cannot be int8: {why_not_fused(call)}, and integers have no other. "
                f"Use {instead}{_approximately(call)}."
            )
        if call.activation not in activations.INTEGER:
            raise LoweringError(
                f"Layer {call.layer!r}: activation {call.activation!r} cannot be int8, because the integer kernel "
                f"always computes tanh. Use {instead}, or retrain with activation='tanh'."
            )
        if call.freeze_weight is not None:
            raise LoweringError(
                f"Layer {call.layer!r} returns its final states behind a mask, and integer gates cannot hold the cell "
                f"state over masked steps. Use {instead}, or --padding none if no input is padded."
            )


def _approximately(call: LstmCall) -> str:
    hard = call.recurrent_activation in activations.HARD_SIGMOIDS
    return ", or --approximate-gates for sigmoids in their place" if hard else ""


def cell_exponent(peak: float) -> int:
    """Integer bits of the int16 cell state: the smallest power of two that covers the peak, within 0 to 6."""
    needed = math.ceil(math.log2(peak)) if peak > 0 else 0
    return min(max(needed, SMALLEST_CELL_EXPONENT), LARGEST_CELL_EXPONENT)


def cut_carriers(graph: Graph, calls: Sequence[LstmCall], ranges: Ranges, *, streaming: bool = False) -> list[_Cut]:
    """Takes the carriers out of a float graph and writes the observed ranges into it, for the quantizer.

    Args:
        graph: The converter's float32 result; changed in place: carriers become inputs and outputs behind
            the model's own ones, and signatures are dropped.
        calls: The calls found by tracing.
        ranges: Observed on the fused float form of the same graph (same tensor indices).
        streaming: Whether hidden states start as zeros of the runtime, which then must have zero point 0.

    Returns:
        What was taken out, for `restore_lstms`.
    """
    carriers = find_carriers(graph, calls)
    cuts = []
    covering: dict[int, tuple[float, float]] = {}
    inputs, outputs = graph.subgraph.inputs, graph.subgraph.outputs

    def tap(tensor: int, own: int) -> int:
        if tensor not in outputs[own:]:
            outputs.append(tensor)
        return int(outputs.index(tensor, own))

    own = len(outputs)
    for call, carrier in carriers:
        x, hidden, cell = carrier.inputs[X], carrier.inputs[HIDDEN], carrier.inputs[CELL]
        sequence, final_cell = carrier.outputs[SEQUENCE], carrier.outputs[FINAL_CELL]
        hidden_value, cell_value = graph.constant(hidden), graph.constant(cell)
        output_range = ranges.of(sequence, hidden)
        if streaming:
            check_streaming(graph, call, [hidden, cell])
            output_range = _symmetric(output_range)
        covering[sequence] = output_range
        inputs.append(sequence)
        cut = _Cut(
            call=call,
            weights=read_weights(graph, call, *carrier.inputs[KERNEL : BIAS + 1]),
            batch=graph.shape(x)[0],
            x=tap(x, own),
            hidden=tap(hidden, own) if hidden_value is None else hidden_value,
            cell=tap(cell, own) if cell_value is None else cell_value,
            sequence=len(inputs) - 1,
            final_cell=None,
            x_range=ranges.of(x),
            output_range=output_range,
            cell_exponent=cell_exponent(ranges.cell_peak[call.index]),
        )
        if graph.is_used(final_cell):
            inputs.append(final_cell)
            cut.final_cell = len(inputs) - 1
        cuts.append(cut)
    graph.remove(carrier for _, carrier in carriers)
    graph.prune_operators()
    _write_ranges(graph, ranges, covering)
    graph.model.signatureDefs = []
    return cuts


def _symmetric(limits: tuple[float, float]) -> tuple[float, float]:
    """The range of 255 steps around zero point 0 that covers a range; -128 stands for one step below it."""
    peak = max(-limits[0], limits[1])
    return -peak * 128 / 127, peak


def _write_ranges(graph: Graph, ranges: Ranges, covering: Mapping[int, tuple[float, float]]) -> None:
    for index, tensor in enumerate(graph.subgraph.tensors):
        if tensor.type != schema.TensorType.FLOAT32 or graph.constant(index) is not None:
            continue
        if index >= len(ranges.low) or math.isnan(ranges.low[index]):
            continue
        low, high = covering.get(index) or ranges.of(index)
        tensor.quantization = schema.QuantizationParametersT()
        tensor.quantization.min = np.asarray([low], np.float32)
        tensor.quantization.max = np.asarray([high], np.float32)


def restore_lstms(
    graph: Graph,
    cuts: Sequence[_Cut],
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
    cut: _Cut,
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
    cut: _Cut,
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


def asymmetric(limits: tuple[float, float]) -> tuple[float, int]:
    """Scale and zero point of an int8 tensor over a range that contains zero, as TensorFlow's quantizer rounds them.

    Source: gemmlowp's quantization example, which computes the zero point from the end of the range that
    gives the smaller rounding error.
    """
    low, high = (float(np.float32(limit)) for limit in limits)
    scale = (high - low) / 255
    from_low, from_high = -128 - low / scale, 127 - high / scale
    better = from_low if 128 + abs(low / scale) < 127 + abs(high / scale) else from_high
    return float(np.float32(scale)), int(np.clip(round(better), -128, 127))


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
    source = _unquantized(graph, outputs[initial])
    result = graph.add_tensor(f"{call.layer}/initial_state", graph.shape(source), dtype, quantization=parameters)
    add_quantize(graph, source, result)
    return result


def _unquantized(graph: Graph, tensor: int) -> int:
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


def integer_io(graph: Graph, types: Collection[str] | None = None) -> list[str]:
    """Lets int8 inputs and outputs of the model stand for float ones where quantization is all that lies between.

    A given cell state is int16, because its 8 highest bits are not enough.

    Args:
        graph: The quantized graph; changed in place.
        types: Types that the runtime takes as inputs and outputs; None for all.

    Returns:
        Sentences about inputs and outputs that had to stay float.
    """
    notes = []
    for position, tensor in enumerate(graph.subgraph.inputs):
        if graph.tensor(tensor).type == schema.TensorType.FLOAT32:
            notes += _integer_input(graph, position, tensor, types)
    for position, tensor in enumerate(graph.subgraph.outputs):
        if graph.tensor(tensor).type == schema.TensorType.FLOAT32:
            notes += _integer_output(graph, position, tensor)
    graph.remove([operator for operator in graph.operators if set(operator.outputs) & set(graph.subgraph.inputs)])
    graph.prune_operators()
    return notes


def _integer_input(graph: Graph, position: int, tensor: int, types: Collection[str] | None) -> list[str]:
    name = graph.tensor(tensor).name.decode("utf-8", "replace")
    readers = graph.consumers(tensor)
    if not readers or any(graph.code(reader) != schema.BuiltinOperator.QUANTIZE for reader in readers):
        return [f"Input {name!r} stays float32: the model compares or indexes with its exact values."]
    quantized = sorted(
        (reader.outputs[0] for reader in readers), key=lambda output: graph.tensor(output).type, reverse=True
    )
    first, *others = quantized  # int8 before int16
    dtype = np.dtype(DTYPES[graph.tensor(first).type]).name
    if types is not None and dtype not in types:
        return [f"Input {name!r} stays float32: it becomes {dtype}, which the runtime does not take."]
    for other in others:
        _read_instead(graph, first, other)
    _swap(graph, "inputs", position, first)
    return []


def _integer_output(graph: Graph, position: int, tensor: int) -> list[str]:
    operator = graph.producer(tensor)
    if operator is None or graph.code(operator) != schema.BuiltinOperator.DEQUANTIZE:
        return [
            f"Output {graph.tensor(tensor).name.decode('utf-8', 'replace')!r} stays float32: it is computed in float."
        ]
    source = operator.inputs[0]
    if graph.tensor(source).type == schema.TensorType.INT16:
        scale = 256 * float(graph.tensor(source).quantization.scale[0])  # the 8 highest bits
        source = Operators(graph).quantize(source, np.int8, scale)
    _swap(graph, "outputs", position, source)
    return []


def _read_instead(graph: Graph, tensor: int, other: int) -> None:
    """Lets the readers of another quantized version of a value read this one, requantized if types or scales differ."""
    entry, own = graph.tensor(other), graph.tensor(tensor)
    one, two = entry.quantization, own.quantization
    if (entry.type, one.scale[0], one.zeroPoint[0]) == (own.type, two.scale[0], two.zeroPoint[0]):
        graph.replace(other, tensor)
        return
    requantized = graph.add_tensor(
        "edgelstm/requantized", graph.shape(other), DTYPES[entry.type], quantization=entry.quantization
    )
    graph.replace(other, requantized)
    add_quantize(graph, tensor, requantized)


def _swap(graph: Graph, side: str, position: int, tensor: int) -> None:
    old = getattr(graph.subgraph, side)[position]
    getattr(graph.subgraph, side)[position] = tensor
    for signature in graph.model.signatureDefs or []:
        for entry in getattr(signature, side):
            if entry.tensorIndex == old:
                entry.tensorIndex = tensor
                graph.tensor(tensor).name = entry.name
