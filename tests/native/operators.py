"""Files of one LSTM operator in every precision, put together without a converter.

input -> UNIDIRECTIONAL_SEQUENCE_LSTM -> output        states: hidden, cell
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema

from tests.one_operator import Op, pack

PRECISIONS = ("float32", "float16", "dynamic", "int8")
GATES = ("input", "forget", "cell", "output")
CELL_SCALE = 2.0**-11
Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Lstm:
    """An LSTM operator.

    Attributes:
        precision: One of PRECISIONS.
        time: Time steps.
        batch: Sequences.
        features: Values of a time step.
        units: Values of the output.
        time_major: Whether time is the first axis of the input.
        num_inputs: Of the operator: 24, or 20 as in old files.
        cell_clip: Limit of the cell state; 0 for none.
        asymmetric: Whether dynamic inputs are quantized with a zero point.
        seed: Of the weights.
        parts: Names of what is added: "cifg", "peephole", "projection", "layer_norm", "relu".
    """

    precision: str
    time: int
    batch: int
    features: int
    units: int
    time_major: bool = False
    num_inputs: int = 24
    cell_clip: float = 0.0
    asymmetric: bool = True
    seed: int = 0
    parts: tuple[str, ...] = ()

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Shape of the input."""
        return (self.time, self.batch, self.features) if self.time_major else (self.batch, self.time, self.features)


class _File:
    """A file in the making."""

    def __init__(self) -> None:
        self.model, self.graph = schema.ModelT(), schema.SubGraphT()
        self.model.version, self.model.subgraphs = 3, [self.graph]
        self.model.buffers, self.model.operatorCodes = [schema.BufferT()], []
        self.graph.tensors, self.graph.operators = [], []

    def tensor(
        self, name: str, dtype: str, shape: tuple[int, ...], value: Array | None = None,
        scale: float | None = None, zero_point: int = 0, *, variable: bool = False,
    ) -> int:  # fmt: skip
        made = schema.TensorT()
        made.name, made.shape, made.hasRank, made.isVariable = name.encode(), list(shape), True, variable
        made.type = getattr(schema.TensorType, dtype.upper())
        if value is not None:
            made.buffer = len(self.model.buffers)
            self.model.buffers.append(schema.BufferT())
            self.model.buffers[-1].data = np.frombuffer(np.asarray(value, dtype).tobytes(), np.uint8)
        if scale is not None:
            made.quantization = schema.QuantizationParametersT()
            made.quantization.scale, made.quantization.zeroPoint = [scale], [zero_point]
        self.graph.tensors.append(made)
        return len(self.graph.tensors) - 1

    def operator(self, code: int, version: int, inputs: list[int], outputs: list[int], options: Any = None) -> Any:
        operator_code, made = schema.OperatorCodeT(), schema.OperatorT()
        operator_code.builtinCode, operator_code.deprecatedBuiltinCode = code, min(code, 127)
        operator_code.version = version
        made.opcodeIndex = len(self.model.operatorCodes)
        made.inputs, made.outputs = inputs, outputs
        if options is not None:
            made.builtinOptions = options
            made.builtinOptionsType = getattr(schema.BuiltinOptions, type(options).__name__.removesuffix("T"))
        self.model.operatorCodes.append(operator_code)
        self.graph.operators.append(made)
        return made


def lstm_model(lstm: Lstm) -> Any:
    """Returns a model of the schema's objects with one LSTM operator, and a DEQUANTIZE for each float16 constant."""
    file, draw = _File(), np.random.default_rng(lstm.seed)
    is_int8 = lstm.precision == "int8"
    activations = "int8" if is_int8 else "float32"
    input_scale, state_scale, state_zero = 0.02, 1 / 128, -3
    x = file.tensor("input", activations, lstm.input_shape, None, input_scale if is_int8 else None, 5)

    def matrix(name: str, depth: int, gate: int) -> int:
        # Gates of different sizes of weights, so that swapped ones are seen.
        value = draw.normal(0, (0.8 + 0.2 * gate) / np.sqrt(depth), (lstm.units, depth))
        if lstm.precision in ("dynamic", "int8"):
            scale = float(np.abs(value).max() / 127)
            return file.tensor(name, "int8", value.shape, np.round(value / scale), scale)
        return constant(name, value)

    def constant(name: str, value: Array) -> int:
        if lstm.precision != "float16":
            return file.tensor(name, "float32", value.shape, value)
        half = file.tensor(f"{name}/float16", "float16", value.shape, value)
        whole = file.tensor(name, "float32", value.shape)
        file.operator(Op.DEQUANTIZE, 2, [half], [whole], schema.DequantizeOptionsT())
        return whole

    def bias(gate: int, weights: int) -> int:
        value = draw.normal(0.2 * gate - 0.3, 0.3, lstm.units)
        if not is_int8:
            return constant(f"{GATES[gate]}/bias", value)
        scale = input_scale * float(file.graph.tensors[weights].quantization.scale[0])
        return file.tensor(f"{GATES[gate]}/bias", "int32", value.shape, np.round(value / scale), scale)

    inputs = [-1] * lstm.num_inputs
    inputs[0] = x
    inputs[1:5] = [matrix(f"{GATES[gate]}/kernel", lstm.features, gate) for gate in range(4)]
    inputs[5:9] = [matrix(f"{GATES[gate]}/recurrent_kernel", lstm.units, gate) for gate in range(4)]
    inputs[12:16] = [bias(gate, inputs[1 + gate]) for gate in range(4)]
    _add_parts(file, lstm, inputs, draw)
    states = (lstm.batch, lstm.units)
    inputs[18] = file.tensor(
        "hidden", activations, states, None, state_scale if is_int8 else None, state_zero, variable=True
    )
    inputs[19] = file.tensor(
        "cell", "int16" if is_int8 else "float32", states, None, CELL_SCALE if is_int8 else None, variable=True
    )
    shape = (*lstm.input_shape[:2], lstm.units)
    y = file.tensor("output", activations, shape, None, state_scale if is_int8 else None, state_zero)
    options = schema.UnidirectionalSequenceLSTMOptionsT()
    options.fusedActivationFunction = (
        schema.ActivationFunctionType.RELU if "relu" in lstm.parts else schema.ActivationFunctionType.TANH
    )
    options.cellClip, options.timeMajor, options.asymmetricQuantizeInputs = (
        lstm.cell_clip,
        lstm.time_major,
        lstm.asymmetric,
    )
    made = file.operator(Op.UNIDIRECTIONAL_SEQUENCE_LSTM, 3, inputs, [y], options)
    if is_int8:
        made.intermediates = [
            *(file.tensor(f"{name}/intermediate", "int16", (), None, 2.0**-12) for name in GATES),
            file.tensor("hidden/intermediate", "int8", (), None, state_scale, state_zero),
        ]
    file.graph.inputs, file.graph.outputs = [x], [y]
    return file.model


def _add_parts(file: _File, lstm: Lstm, inputs: list[int], draw: np.random.Generator) -> None:
    """Adds what not every LSTM has, in float32."""
    if "cifg" in lstm.parts:
        inputs[1] = inputs[5] = inputs[12] = -1
    if "peephole" in lstm.parts:
        for place in (9, 10, 11)[1 if "cifg" in lstm.parts else 0 :]:
            inputs[place] = file.tensor(f"peephole{place}", "float32", (lstm.units,), draw.normal(0, 0.3, lstm.units))
    if "projection" in lstm.parts:
        square = (lstm.units, lstm.units)
        inputs[16] = file.tensor("projection", "float32", square, draw.normal(0, 0.1, square))
    if "layer_norm" in lstm.parts:
        for place in range(20, 24):
            inputs[place] = file.tensor(f"norm{place}", "float32", (lstm.units,), draw.normal(1, 0.2, lstm.units))


def lstm_file(lstm: Lstm) -> bytes:
    """Returns a file with one LSTM operator."""
    return pack(lstm_model(lstm))
