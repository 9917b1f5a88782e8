"""Operators added to a graph one by one, each returning the tensor it computes: what cells are written in.

Shapes are static and known, so every result gets its shape here. Types follow the first input; a quantized
result is given its scale. Versions are those of TensorFlow Lite's op_version.cc for the types used here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgelstm.converters.graph import DTYPES, Graph, quantization

_Op = schema.BuiltinOperator
_Activation = schema.ActivationFunctionType
_FLOAT32, _INT8, _INT16 = (np.dtype(dtype) for dtype in (np.float32, np.int8, np.int16))

# Operator versions by operator and type of the first data input; 1 where nothing is said.
_VERSIONS: dict[int, dict[Any, int]] = {
    _Op.ADD: {_INT16: 3},
    _Op.MUL: {_INT16: 4},
    _Op.LOGISTIC: {_INT16: 3},
    _Op.TANH: {_INT16: 3},
    _Op.SPLIT: {_INT8: 2, _INT16: 4},
    _Op.SLICE: {_INT8: 2, _INT16: 4},
    _Op.GATHER: {_INT8: 2, _INT16: 4},
    _Op.CONCATENATION: {_INT8: 2, _INT16: 3},
}


class Operators:
    """Adds operators to one graph."""

    def __init__(self, graph: Graph) -> None:
        """Starts without constants of its own."""
        self.graph = graph
        self._constants: dict[Any, int] = {}

    def shape(self, tensor: int) -> list[int]:
        """The static shape of a tensor."""
        return self.graph.shape(tensor)

    def dtype(self, tensor: int) -> np.dtype[Any]:
        """The dtype of a tensor."""
        found: np.dtype[Any] = np.dtype(DTYPES[self.graph.tensor(tensor).type])
        return found

    def constant(self, value: Any, dtype: Any = np.int32, *, name: str = "", scale: float | None = None) -> int:
        """A constant, the same tensor for the same value."""
        array = np.asarray(value, dtype)
        key = (name, array.dtype.str, array.shape, array.tobytes(), scale)
        if key not in self._constants:
            parameters = None if scale is None else quantization(scale)
            self._constants[key] = self.graph.add_constant(name, array, quantization=parameters)
        return self._constants[key]

    def result(self, shape: Sequence[int], dtype: Any, scale: float | None = None, name: str = "") -> int:
        """A new tensor without a value, symmetrically quantized if it has a scale."""
        parameters = None if scale is None else quantization(scale)
        return self.graph.add_tensor(name, shape, dtype, quantization=parameters)

    # -- arithmetic

    def add(self, a: int, b: int, *, scale: float | None = None, activation: int = _Activation.NONE) -> int:
        """A + b, broadcast, followed by a fused activation."""
        options = schema.AddOptionsT()
        options.potScaleInt16 = False
        return self._binary(_Op.ADD, schema.BuiltinOptions.AddOptions, options, a, b, scale, activation)

    def mul(self, a: int, b: int, *, scale: float | None = None) -> int:
        """A * b, broadcast."""
        return self._binary(
            _Op.MUL, schema.BuiltinOptions.MulOptions, schema.MulOptionsT(), a, b, scale, _Activation.NONE
        )

    def div(self, a: int, b: int) -> int:
        """A / b, broadcast."""
        return self._binary(
            _Op.DIV, schema.BuiltinOptions.DivOptions, schema.DivOptionsT(), a, b, None, _Activation.NONE
        )

    def _binary(
        self, code: int, options_type: int, options: Any, a: int, b: int, scale: float | None, activation: int
    ) -> int:
        options.fusedActivationFunction = activation
        shape = np.broadcast_shapes(self.shape(a), self.shape(b))
        output = self.result(shape, self.dtype(a), scale)
        return self._emit(code, [a, b], output, options_type=options_type, options=options, typed_by=a)

    def unary(self, code: int, tensor: int, *, scale: float | None = None) -> int:
        """An operator without options on every element: LOGISTIC, TANH, RELU, …"""
        output = self.result(self.shape(tensor), self.dtype(tensor), scale)
        return self._emit(code, [tensor], output, typed_by=tensor)

    def fully_connected(
        self, x: int, weights: int, bias: int | None, *, scale: float | None = None, version: int = 1
    ) -> int:
        """X times weights plus bias: (rows, features), (units, features), (units,) -> (rows, units)."""
        options = schema.FullyConnectedOptionsT()
        options.asymmetricQuantizeInputs = self.dtype(x) == _FLOAT32 and self.dtype(weights) == _INT8
        output = self.result([self.shape(x)[0], self.shape(weights)[0]], self.dtype(x), scale)
        self.graph.add_operator(
            _Op.FULLY_CONNECTED,
            [x, weights, -1 if bias is None else bias],
            [output],
            version=version,
            options=options,
            options_type=schema.BuiltinOptions.FullyConnectedOptions,
        )
        return output

    def quantize(self, tensor: int, dtype: Any, scale: float) -> int:
        """A float32, int8 or int16 tensor in another type or scale."""
        output = self.result(self.shape(tensor), dtype, scale)
        options = schema.QuantizeOptionsT()
        version = 2 if self.dtype(output) == _INT16 else 1
        return self._emit(
            _Op.QUANTIZE,
            [tensor],
            output,
            options_type=schema.BuiltinOptions.QuantizeOptions,
            options=options,
            version=version,
        )

    # -- moving values

    def reshape(self, tensor: int, shape: Sequence[int]) -> int:
        """The same values in another shape."""
        options = schema.ReshapeOptionsT()
        options.newShape = np.asarray(shape, np.int32)
        output = self._moved(tensor, shape)
        return self._emit(
            _Op.RESHAPE,
            [tensor, self.constant(shape)],
            output,
            options_type=schema.BuiltinOptions.ReshapeOptions,
            options=options,
        )

    def copy(self, tensor: int, output: int) -> None:
        """Writes the same values into a tensor of the same shape."""
        options = schema.ReshapeOptionsT()
        options.newShape = np.asarray(self.shape(output), np.int32)
        self._emit(
            _Op.RESHAPE,
            [tensor, self.constant(self.shape(output))],
            output,
            options_type=schema.BuiltinOptions.ReshapeOptions,
            options=options,
        )

    def reshaped(self, tensor: int, shape: Sequence[int]) -> int:
        """The tensor itself where it has the shape already, else `reshape`."""
        return tensor if self.shape(tensor) == list(shape) else self.reshape(tensor, shape)

    def split(self, tensor: int, pieces: int) -> list[int]:
        """Equal pieces of the last axis."""
        if pieces == 1:
            return [tensor]
        shape = self.shape(tensor)
        piece = [*shape[:-1], shape[-1] // pieces]
        outputs = [self._moved(tensor, piece) for _ in range(pieces)]
        options = schema.SplitOptionsT()
        options.numSplits = pieces
        self.graph.add_operator(
            _Op.SPLIT,
            [self.constant(len(shape) - 1), tensor],
            outputs,
            version=self._version(_Op.SPLIT, tensor),
            options=options,
            options_type=schema.BuiltinOptions.SplitOptions,
        )
        return outputs

    def slice(self, tensor: int, begin: Sequence[int], size: Sequence[int]) -> int:
        """A block of a tensor."""
        output = self._moved(tensor, size)
        return self._emit(
            _Op.SLICE,
            [tensor, self.constant(begin), self.constant(size)],
            output,
            options_type=schema.BuiltinOptions.SliceOptions,
            options=schema.SliceOptionsT(),
            typed_by=tensor,
        )

    def gather(self, tensor: int, index: int, *, axis: int) -> int:
        """What stands at a scalar index of an axis; the axis goes."""
        shape = self.shape(tensor)
        options = schema.GatherOptionsT()
        options.axis = axis
        output = self._moved(tensor, [*shape[:axis], *shape[axis + 1 :]])
        return self._emit(
            _Op.GATHER,
            [tensor, index],
            output,
            options_type=schema.BuiltinOptions.GatherOptions,
            options=options,
            typed_by=tensor,
        )

    def concat(self, tensors: Sequence[int], *, axis: int) -> int:
        """Tensors of one type and scale joined along an axis; one alone stays as it is."""
        if len(tensors) == 1:
            return tensors[0]
        shape = self.shape(tensors[0])
        shape[axis] = sum(self.shape(tensor)[axis] for tensor in tensors)
        options = schema.ConcatenationOptionsT()
        options.axis = axis
        output = self._moved(tensors[0], shape)
        return self._emit(
            _Op.CONCATENATION,
            list(tensors),
            output,
            options_type=schema.BuiltinOptions.ConcatenationOptions,
            options=options,
            typed_by=tensors[0],
        )

    def update_slice(self, tensor: int, update: int, begin: int) -> int:
        """The tensor with a block overwritten from a computed position on, shape (ndim,) int32."""
        output = self._moved(tensor, self.shape(tensor))
        return self._emit(_Op.DYNAMIC_UPDATE_SLICE, [tensor, update, begin], output)

    def _moved(self, tensor: int, shape: Sequence[int]) -> int:
        return self.graph.add_tensor("", shape, self.dtype(tensor), quantization=self.graph.tensor(tensor).quantization)

    def fill(self, shape: Sequence[int], dtype: Any, *, scale: float | None = None) -> int:
        """Zeros, which take no space in the file."""
        output = self.result(shape, dtype, scale)
        zero = self.constant(0, dtype, scale=scale)
        version = 3 if self.dtype(output) == _INT16 else 1
        options_type, options = schema.BuiltinOptions.FillOptions, schema.FillOptionsT()
        return self._emit(
            _Op.FILL, [self.constant(shape), zero], output, options_type=options_type, options=options, version=version
        )

    # -- control

    def less(self, a: int, b: int) -> int:
        """A < b for int32."""
        output = self.result(self.shape(a), np.bool_)
        return self._emit(
            _Op.LESS, [a, b], output, options_type=schema.BuiltinOptions.LessOptions, options=schema.LessOptionsT()
        )

    def while_loop(self, inputs: Sequence[int], condition: Graph, body: Graph) -> list[int]:
        """Runs a body as long as a condition holds; results have the shapes and types of the inputs."""
        outputs = [self._moved(tensor, self.shape(tensor)) for tensor in inputs]
        options = schema.WhileOptionsT()
        options.condSubgraphIndex, options.bodySubgraphIndex = condition.position, body.position
        self.graph.add_operator(
            _Op.WHILE,
            list(inputs),
            outputs,
            options=options,
            options_type=schema.BuiltinOptions.WhileOptions,
        )
        return outputs

    def _emit(
        self,
        code: int,
        inputs: list[int],
        output: int,
        *,
        options_type: int = 0,
        options: Any = None,
        typed_by: int | None = None,
        version: int = 1,
    ) -> int:
        if typed_by is not None:
            version = self._version(code, typed_by)
        self.graph.add_operator(code, inputs, [output], version=version, options=options, options_type=options_type)
        return output

    def _version(self, code: int, tensor: int) -> int:
        return _VERSIONS.get(code, {}).get(self.dtype(tensor), 1)
