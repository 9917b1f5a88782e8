"""Carrier -> UNIDIRECTIONAL_SEQUENCE_LSTM with float state: precisions float32, float16 and dynamic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgelstm.converters.graph import ABSENT, Array, Graph, quantization
from edgelstm.converters.lowering import activations
from edgelstm.converters.lowering.calls import CARRIER_PREFIX, LstmCall
from edgelstm.converters.lowering.states import StateWriter, add_dequantize
from edgelstm.converters.lowering.streaming import KINDS, StreamStates
from edgelstm.converters.lowering.weights import GATES, LstmWeights, quantize_symmetric, read_weights
from edgelstm.errors import LoweringError
from edgelstm.runtime.runtimes import RuntimeFamily

_FLOAT_VERSION, _HYBRID_VERSION = 1, 3  # op_version.cc: 3 since asymmetric quantization of inputs exists

# Positions of the carrier's inputs and outputs.
X, HIDDEN, CELL, KERNEL, RECURRENT_KERNEL, BIAS = range(6)
SEQUENCE, FINAL_CELL = range(2)


@dataclass(frozen=True)
class FusedLstm:
    """Where a fused LSTM stands in the graph, for whoever observes a run.

    Attributes:
        call: The call.
        weights: Its weights.
        input: Tensor index of x, shape (batch, time, features).
        output: Tensor index of the hidden state of every step, shape (batch, time, units).
        hidden_state: Tensor index of the hidden state before the first step, shape (batch, units): of a
            streaming model the variable tensor.
        cell_state: The same for the cell state.
    """

    call: LstmCall
    weights: LstmWeights
    input: int
    output: int
    hidden_state: int
    cell_state: int


def find_carriers(graph: Graph, calls: Sequence[LstmCall]) -> list[tuple[LstmCall, Any]]:
    """The carriers in a graph, each with its call; calls whose results nobody uses are gone.

    Raises:
        LoweringError: If a carrier stands inside a loop, where a fused operator cannot keep its state.
    """
    by_name = {call.carrier: call for call in calls}
    for subgraph in graph.model.subgraphs[1:]:
        for operator in subgraph.operators or []:
            name = graph.custom_name(operator)
            if name in by_name:
                raise LoweringError(
                    f"Layer {by_name[name].layer!r} is called inside a loop of the model, where the fused LSTM cannot "
                    "run. Call it on the whole sequence, or write the loop as Python code over fixed steps."
                )
    found = [(by_name.get(graph.custom_name(operator) or ""), operator) for operator in graph.operators]
    return sorted(((call, operator) for call, operator in found if call is not None), key=lambda pair: pair[0].index)


def foreign_operators(graph: Graph) -> list[str]:
    """Names of custom operators that no built-in runtime has: TensorFlow operators left over."""
    names = {
        str(entry.customCode.decode("utf-8", "replace"))
        for entry in graph.model.operatorCodes
        if entry.builtinCode == schema.BuiltinOperator.CUSTOM and entry.customCode
    }
    return sorted(name for name in names if not name.startswith(CARRIER_PREFIX))


def fuse_float(graph: Graph, calls: Sequence[LstmCall], *, streaming: bool = False) -> list[FusedLstm]:
    """Replaces every carrier by a fused LSTM in float32, for whoever observes a run.

    Args:
        graph: The converter's result; changed in place. Indices of its tensors stay as they are.
        calls: The calls found by tracing, all of them such as the operator can run.
        streaming: Whether states stay from call to call.

    Returns:
        The LSTMs, in tracing order.
    """
    states = StateWriter(graph)
    carriers = find_carriers(graph, calls)
    stream = StreamStates(graph, [call for call, _ in carriers]) if streaming else None
    fused = [fuse(graph, states, call, carrier, precision="float32", stream=stream) for call, carrier in carriers]
    graph.remove(carrier for _, carrier in carriers)
    graph.sort()
    return fused


def why_not_fused(call: LstmCall, family: RuntimeFamily | None = None) -> str | None:
    """Why the fused operator cannot compute a call; None if it can.

    Args:
        call: The call.
        family: The runtimes that the operator is for; None for TensorFlow Lite's own kernel.
    """
    if call.recurrent_activation not in activations.FUSED_GATES:
        return f"recurrent_activation={call.recurrent_activation!r}, and the fused operator's gates are sigmoid"
    if call.activation not in activations.FUSED:
        return f"activation={call.activation!r}, and the fused operator knows {', '.join(activations.FUSED)}"
    known = family.lstm_activations if family else None
    if family and known is not None and call.activation not in known:
        names = ", ".join(sorted(known))
        return f"activation={call.activation!r}, and the fused operator of {family.title} knows {names}"
    return None


def fuse(
    graph: Graph,
    states: StateWriter,
    call: LstmCall,
    carrier: Any,
    *,
    precision: str,
    stream: StreamStates | None = None,
) -> FusedLstm:
    """Puts a fused LSTM beside a carrier, which is left to the caller to remove.

    Args:
        graph: The graph.
        states: Writes the initial states.
        call: The call.
        carrier: Its carrier.
        precision: "float32", "float16" or "dynamic": how the weights are stored; those that the converter stored in
            float16 stay so for "float32".
        stream: For a streaming model, whose states are left as they are between calls.
    """
    x, hidden, cell = carrier.inputs[:KERNEL]
    weights = read_weights(graph, call, *carrier.inputs[KERNEL:])
    batch = graph.shape(x)[0]
    inputs = [x, *_weight_inputs(graph, call, weights, precision)]
    state_inputs = []
    for kind, initial in zip(KINDS, (hidden, cell), strict=True):
        state = graph.add_tensor(f"{call.layer}/{kind}_state", [batch, call.units], np.float32, variable=True)
        if stream:
            stream.keep(call, kind, state)
        else:
            states.write(state, plain_float(graph, initial), x)
        state_inputs.append(state)
    outputs = [carrier.outputs[SEQUENCE]]
    version = _HYBRID_VERSION if precision == "dynamic" else _FLOAT_VERSION
    add_lstm(graph, call, [*inputs, *state_inputs], outputs, version=version)
    if graph.is_used(carrier.outputs[FINAL_CELL]):
        states.read(state_inputs[1], carrier.outputs[FINAL_CELL], outputs[0])
    before = state_inputs if stream else [hidden, cell]
    return FusedLstm(call, weights, x, outputs[0], *before)


def plain_float(graph: Graph, tensor: int) -> int:
    """The tensor itself, or for a constant that was stored in float16 a float32 constant in its place."""
    value = graph.float_constant(tensor)
    if value is None or not value[1]:
        return tensor
    return graph.add_constant("edgelstm/initial_state", value[0])


def _weight_inputs(graph: Graph, call: LstmCall, weights: LstmWeights, precision: str) -> list[int]:
    """Inputs 1 to 17 of the operator: kernels, recurrent kernels, no peepholes, biases, no projection."""
    half = weights.half or precision == "float16"

    def matrix(name: str, value: Array) -> int:
        if precision != "dynamic":
            return _float_constant(graph, name, value, half=half)
        stored, scale = quantize_symmetric(value)
        return graph.add_constant(name, stored, quantization=quantization(scale))

    named = [(f"{call.layer}/{gate}_gate", position) for position, gate in enumerate(GATES)]
    kernels = [matrix(f"{name}/kernel", weights.kernels[i]) for name, i in named]
    recurrent = [matrix(f"{name}/recurrent_kernel", weights.recurrent_kernels[i]) for name, i in named]
    biases = [_float_constant(graph, f"{name}/bias", weights.biases[i], half=half) for name, i in named]
    return [*kernels, *recurrent, ABSENT, ABSENT, ABSENT, *biases, ABSENT, ABSENT]


def _float_constant(graph: Graph, name: str, value: Array, *, half: bool) -> int:
    if not half:
        return graph.add_constant(name, value.astype(np.float32))
    stored = graph.add_constant(f"{name}/float16", value.astype(np.float16))
    output = graph.add_tensor(name, value.shape, np.float32)
    add_dequantize(graph, stored, output)
    return output


def add_lstm(
    graph: Graph,
    call: LstmCall,
    inputs: Sequence[int],
    outputs: Sequence[int],
    *,
    version: int,
    intermediates: Sequence[int] = (),
) -> None:
    """Adds the fused operator: 20 inputs up to the states, and four absent layer normalisation weights."""
    options = schema.UnidirectionalSequenceLSTMOptionsT()
    options.fusedActivationFunction = activations.FUSED[call.activation]
    options.cellClip = 0.0  # Keras does not clip; the stock converter writes 10
    options.projClip = 0.0
    options.timeMajor = False
    options.asymmetricQuantizeInputs = version == _HYBRID_VERSION
    graph.add_operator(
        schema.BuiltinOperator.UNIDIRECTIONAL_SEQUENCE_LSTM,
        [*inputs, *[ABSENT] * 4],
        outputs,
        version=version,
        options=options,
        options_type=schema.BuiltinOptions.UnidirectionalSequenceLSTMOptions,
        intermediates=intermediates,
    )
