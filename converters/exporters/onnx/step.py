"""One operator of a flatbuffer, as the function sees it that translates it to ONNX."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgelstm.converters.exporters.onnx.program import Program
from edgelstm.converters.graph import DTYPES, Array, Graph
from edgelstm.errors import ConversionError

NO_ACTIVATION = schema.ActivationFunctionType.NONE
LAST = np.iinfo(np.int64).max
"""The end of a Slice that takes everything up to the end."""

# TensorFlow Lite's types that no quantization is needed for; NumPy has the same names as ONNX.
VALUE_TYPES: dict[int, Any] = {**DTYPES, schema.TensorType.FLOAT64: np.float64, schema.TensorType.UINT32: np.uint32}

_NAMES: dict[int, str] = {code: name for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)}


@dataclass(frozen=True)
class Step:
    """An operator of the flatbuffer on its way into a program.

    Attributes:
        program: What nodes are added to.
        graph: The flatbuffer.
        operator: The operator.
        values: Values of the program by tensor index, as far as they are computed.
    """

    program: Program
    graph: Graph
    operator: Any
    values: Mapping[int, str]

    # -- reading

    @property
    def options(self) -> Any:
        """The operator's built-in options."""
        return self.operator.builtinOptions

    @property
    def name(self) -> str:
        """The operator's name in TensorFlow Lite."""
        return self.graph.custom_name(self.operator) or operator_name(self.graph.code(self.operator))

    @property
    def num_inputs(self) -> int:
        """Number of inputs, without those left out at the end."""
        return len([index for index in self.operator.inputs if index >= 0])

    def has(self, position: int) -> bool:
        """Whether an optional input is given."""
        return position < len(self.operator.inputs) and self.operator.inputs[position] >= 0

    def input(self, position: int = 0) -> str:
        """The value of an input."""
        return self.values[self.operator.inputs[position]]

    def inputs(self) -> list[str]:
        """The values of all inputs."""
        return [self.values[index] for index in self.operator.inputs if index >= 0]

    def shape(self, position: int = 0) -> list[int]:
        """Shape of an input."""
        return self.graph.shape(self.operator.inputs[position])

    def dtype(self, position: int = 0) -> np.dtype[Any]:
        """Element type of an input."""
        return value_type(self.graph, int(self.operator.inputs[position]))

    def output_shape(self, position: int = 0) -> list[int]:
        """Shape of an output."""
        return self.graph.shape(self.operator.outputs[position])

    def output_dtype(self, position: int = 0) -> np.dtype[Any]:
        """Element type of an output."""
        return value_type(self.graph, self.operator.outputs[position])

    def constant(self, position: int) -> Array | None:
        """The value of a constant input, None for one that is computed."""
        return self.graph.constant(self.operator.inputs[position])

    def integers(self, position: int) -> list[int]:
        """The values of an input that must be constant: axes, paddings, permutations.

        Raises:
            ConversionError: If it is computed.
        """
        value = self.constant(position)
        if value is None:
            raise self.refusal(f"its input {position} is computed while the model runs")
        return [int(number) for number in value.reshape(-1)]

    def axis(self, value: int, ndim: int | None = None) -> int:
        """An axis of the first input, or of so many dimensions, counted from the front."""
        ndim = len(self.shape()) if ndim is None else ndim
        return value + ndim if value < 0 else value

    # -- writing

    def add(self, op: str, *inputs: str, **attributes: Any) -> str:
        """Adds a node with one output."""
        return self.program.add_node(op, inputs, **attributes)[0]

    def number(self, value: Any, dtype: Any = None) -> str:
        """Adds a scalar constant, of the first input's type if no other is given."""
        return self.program.add_constant(np.asarray(value, dtype or self.dtype()))

    def vector(self, values: Sequence[int]) -> str:
        """Adds a constant list of int64, in which ONNX takes shapes and axes."""
        return self.program.add_constant(np.asarray(values, np.int64))

    def cast(self, value: str, dtype: Any) -> str:
        """Adds a Cast."""
        return self.add("Cast", value, to=np.dtype(dtype))

    def reshape(self, value: str, shape: Sequence[int]) -> str:
        """Adds a Reshape to a static shape."""
        result = self.add("Reshape", value, self.vector(shape))
        self.program.shapes[result] = tuple(shape)
        return result

    def transpose(self, value: str, order: Sequence[int]) -> str:
        """Adds a Transpose; axis k of the result is axis order[k] of the value."""
        return self.add("Transpose", value, perm=[int(axis) for axis in order])

    def slice(self, value: str, starts: Sequence[int], ends: Sequence[int], axes: Sequence[int], strides: Any) -> str:
        """Adds a Slice."""
        return self.add("Slice", value, *(self.vector(numbers) for numbers in (starts, ends, axes, strides)))

    def refusal(self, reason: str) -> ConversionError:
        """The error for an operator that cannot be translated as it is used here."""
        name = self.graph.tensor(self.operator.outputs[0]).name.decode("utf-8", "replace").split(";")[0]
        return ConversionError(
            f"Operator {self.name} ({name[:100]}) cannot be exported to ONNX: {reason}. "
            "Replace the layer that uses it, or convert to .tflite."
        )


Translation = Callable[[Step], str | list[str]]
"""Adds nodes for an operator and returns the values of its outputs."""


def value_type(graph: Graph, tensor: int) -> np.dtype[Any]:
    """The element type of a tensor.

    Raises:
        ConversionError: If ONNX has no such type, or it is a quantized one.
    """
    entry = graph.tensor(tensor)
    if entry.type not in VALUE_TYPES:
        kinds = {code: name for name, code in vars(schema.TensorType).items() if isinstance(code, int)}
        name = entry.name.decode("utf-8", "replace")
        raise ConversionError(
            f"Tensor {name!r} is of type {kinds.get(entry.type, entry.type)}, which cannot be exported to ONNX: "
            "let the model compute in float32, int32, int64 or bool."
        )
    dtype: np.dtype[Any] = np.dtype(VALUE_TYPES[entry.type])
    return dtype


def operator_name(code: int) -> str:
    """The name of a built-in operator."""
    name: str = _NAMES.get(code, f"number {code}")
    return name
