"""How a float graph stores its weights where layers have precisions of their own: as TensorFlow's converter does it.

float16  a constant of half precision behind DEQUANTIZE, which runtimes run once
dynamic  an int8 constant; the operator quantizes its input while it runs, and what is looked up is dequantized
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgelstm.converters.graph import ABSENT, Array, Graph, quantization
from edgelstm.converters.lowering.calls import CARRIER_PREFIX
from edgelstm.converters.lowering.cells import quantize_rows
from edgelstm.converters.lowering.mixed import layer_of
from edgelstm.converters.lowering.states import add_dequantize
from edgelstm.converters.lowering.weights import quantize_symmetric
from edgelstm.errors import LoweringError

_Op = schema.BuiltinOperator
LARGEST_HALF = float(np.finfo(np.float16).max)
SMALLEST_MATRIX = 1024  # elements; from there on the stock converter makes int8 of what has no precision of its own


@dataclass(frozen=True)
class WeightInput:
    """Where an operator has its weights.

    Attributes:
        position: Among its inputs.
        version: The operator's, for float input and int8 weights (TensorFlow Lite's op_version.cc); None where runtimes
            before 2.17 do not compute that, so that int8 weights have to be dequantized for it.
        axis: The axis along which int8 weights have scales of their own; None where one scale is for all.
    """

    position: int
    version: int | None
    axis: int | None = None


WEIGHT_INPUTS: dict[int, WeightInput] = {
    _Op.FULLY_CONNECTED: WeightInput(1, 9),
    _Op.BATCH_MATMUL: WeightInput(1, 4),
    _Op.CONV_2D: WeightInput(1, 5, axis=0),
    _Op.DEPTHWISE_CONV_2D: WeightInput(1, 6, axis=3),
    _Op.TRANSPOSE_CONV: WeightInput(1, None),
    _Op.GATHER: WeightInput(0, 2),
}


def weights_of(graph: Graph, operator: Any) -> int:
    """The tensor of an operator's float32 weights, `ABSENT` if it has none."""
    found = WEIGHT_INPUTS.get(graph.code(operator))
    tensor = ABSENT if found is None else int(operator.inputs[found.position])
    value = graph.constant(tensor)
    return tensor if value is not None and value.dtype == np.float32 and value.ndim >= 2 else ABSENT


def weighted_operators(graph: Graph, known: Sequence[str], layers: Mapping[str, str]) -> list[tuple[Any, str]]:
    """The operators with weights of layers that have a precision of their own, each with that precision.

    Args:
        graph: The converter's float32 result.
        known: Paths of all layers that can have one.
        layers: Precisions by path, without those of LSTMs.

    Raises:
        LoweringError: If the weights of a layer are not found in the graph.
    """
    found, seen = [], set()
    for operator in graph.operators:
        weights = weights_of(graph, operator)
        layer = None if weights == ABSENT else layer_of(graph, operator, weights, known)
        if layer is not None and layer in layers:
            seen.add(layer)
            found.append((operator, layers[layer]))
    missing = [layer for layer in layers if layer not in seen]
    if missing:
        raise LoweringError(
            f"Layer {missing[0]!r} cannot have a precision of its own: no operator of the converted model has its "
            "weights as a constant. Leave it out."
        )
    return found


class WeightStore:
    """Stores weights in one graph; operators that share a constant share what becomes of it."""

    def __init__(self, graph: Graph) -> None:
        """Starts with nothing stored."""
        self._graph = graph
        self._halves: dict[int, int] = {}
        self._integers: dict[tuple[int, int | None], int] = {}

    def store(self, operator: Any, precision: str) -> None:
        """Stores an operator's float32 weights, and for float16 its bias, in another precision.

        Args:
            operator: An operator for which `weights_of` finds weights; replaced by another one for "dynamic".
            precision: "float32", "float16" or "dynamic".
        """
        if precision == "float16":
            self.halve(operator)
        elif precision == "dynamic":
            self._quantize(operator)

    def halve(self, operator: Any) -> None:
        """Puts float16 constants behind DEQUANTIZE in the place of an operator's float32 ones."""
        operator.inputs = [self._half(tensor) for tensor in operator.inputs]

    def _half(self, tensor: int) -> int:
        if tensor not in self._halves:
            value = self._graph.constant(tensor)
            if value is None or value.dtype != np.float32 or value.size < 2 or np.abs(value).max() > LARGEST_HALF:
                return tensor
            name = self._graph.tensor(tensor).name.decode("utf-8", "replace")
            stored = self._graph.add_constant(f"{name}/float16", value.astype(np.float16))
            self._halves[tensor] = self._graph.add_tensor(name, value.shape, np.float32)
            add_dequantize(self._graph, stored, self._halves[tensor])
        return self._halves[tensor]

    def _quantize(self, operator: Any) -> None:
        graph, found = self._graph, WEIGHT_INPUTS[self._graph.code(operator)]
        inputs, outputs = list(operator.inputs), list(operator.outputs)
        inputs[found.position] = stored = self._integer(inputs[found.position], found.axis)
        if found.version is None:
            name = graph.tensor(stored).name.decode("utf-8", "replace")
            operator.inputs[found.position] = graph.add_tensor(f"{name}/float32", graph.shape(stored), np.float32)
            add_dequantize(graph, stored, operator.inputs[found.position])
            return
        if graph.code(operator) == _Op.GATHER:
            name, parameters = (
                graph.tensor(outputs[0]).name.decode("utf-8", "replace"),
                graph.tensor(stored).quantization,
            )
            rows = graph.add_tensor(f"{name}/int8", graph.shape(outputs[0]), np.int8, quantization=parameters)
            add_dequantize(graph, rows, outputs[0])
            outputs = [rows]
        options = operator.builtinOptions
        if hasattr(options, "asymmetricQuantizeInputs"):
            options.asymmetricQuantizeInputs = True
        graph.add_operator(
            graph.code(operator),
            inputs,
            outputs,
            version=max(found.version, int(graph.model.operatorCodes[operator.opcodeIndex].version)),
            options=options,
            options_type=operator.builtinOptionsType,
        )
        graph.remove([operator])

    def _integer(self, tensor: int, axis: int | None) -> int:
        if (tensor, axis) not in self._integers:
            value = self._graph.constant(tensor)
            assert value is not None, "weights are constant"
            stored, parameters = _quantized(value, axis)
            name = self._graph.tensor(tensor).name.decode("utf-8", "replace")
            self._integers[tensor, axis] = self._graph.add_constant(f"{name}/int8", stored, quantization=parameters)
        return self._integers[tensor, axis]


def _quantized(value: Array, axis: int | None) -> tuple[Array, Any]:
    """Symmetric int8 with its quantization parameters: one scale, or one for each position along an axis."""
    if axis is None:
        stored, scale = quantize_symmetric(value)
        return stored, quantization(scale)
    moved = np.moveaxis(value, axis, 0)
    rows, scales = quantize_rows(moved.reshape(len(moved), -1))
    parameters = schema.QuantizationParametersT()
    parameters.scale, parameters.zeroPoint = scales, np.zeros(len(scales), np.int64)
    parameters.quantizedDimension = axis
    return np.moveaxis(rows.reshape(moved.shape), 0, axis), parameters


def store_weights(graph: Graph, precision: str, known: Sequence[str], layers: Mapping[str, str]) -> None:
    """Stores the weights of everything but LSTMs, whose carriers keep theirs until they are replaced.

    Args:
        graph: The converter's float32 result; changed in place.
        precision: Of what has none of its own: "float32", "float16" or "dynamic".
        known: Paths of all layers that can have one.
        layers: Precisions by path, without those of LSTMs.

    Raises:
        LoweringError: If the weights of a layer are not found in the graph.
    """
    own = weighted_operators(graph, known, layers)
    named = {id(operator) for operator, _ in own}
    others = [
        operator for operator in graph.operators if id(operator) not in named and not _is_carrier(graph, operator)
    ]
    store = WeightStore(graph)
    for operator, chosen in own:
        store.store(operator, chosen)
    if precision == "float16":
        for operator in others:
            store.halve(operator)
        for position in range(1, len(graph.model.subgraphs)):
            _halve_all(Graph(graph.model, position))
    elif precision == "dynamic":
        for operator in others:
            value = graph.constant(weights_of(graph, operator))
            if value is not None and value.size >= SMALLEST_MATRIX:
                store.store(operator, "dynamic")
    graph.sort()


def _halve_all(graph: Graph) -> None:
    """`WeightStore.halve` for the condition or the body of a loop."""
    store = WeightStore(graph)
    for operator in list(graph.operators):
        store.halve(operator)
    graph.sort()


def _is_carrier(graph: Graph, operator: Any) -> bool:
    return (graph.custom_name(operator) or "").startswith(CARRIER_PREFIX)
