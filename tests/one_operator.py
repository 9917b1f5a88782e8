"""Files of one operator, put together without a converter, for tests of what engines take and refuse."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

Op = schema.BuiltinOperator


class Tensor(NamedTuple):
    """A tensor of the file.

    Attributes:
        name: Its name; inputs and outputs go by it.
        dtype: A name of numpy.
        shape: Its shape.
        value: Its value if it is a constant.
        scale: Its scale if it is quantized.
        zero_point: Its zero point.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    value: Any = None
    scale: float | None = None
    zero_point: int = 0


def one_operator(
    code: int, inputs: Sequence[Tensor], outputs: Sequence[Tensor], options: Any = None, *, signature: bool = True
) -> bytes:
    """Returns a file with one operator.

    Args:
        code: A member of `Op`.
        inputs: Inputs of the operator; those without a value are the inputs of the file.
        outputs: Outputs of the operator and of the file.
        options: An object of the schema, named …OptionsT.
        signature: Whether the file has a signature.
    """
    tensors = [*inputs, *outputs]
    buffers, operator, operator_code = [schema.BufferT()], schema.OperatorT(), schema.OperatorCodeT()
    graph, model = schema.SubGraphT(), schema.ModelT()
    graph.tensors = [_tensor(tensor, buffers) for tensor in tensors]
    graph.inputs = [index for index, tensor in enumerate(inputs) if tensor.value is None]
    graph.outputs = list(range(len(inputs), len(tensors)))
    operator.inputs, operator.outputs = list(range(len(inputs))), graph.outputs
    if options is not None:
        operator.builtinOptions = options
        operator.builtinOptionsType = getattr(schema.BuiltinOptions, type(options).__name__.removesuffix("T"))
    operator_code.builtinCode, operator_code.deprecatedBuiltinCode, operator_code.version = code, min(code, 127), 1
    graph.operators, model.operatorCodes = [operator], [operator_code]
    model.version, model.subgraphs, model.buffers = 3, [graph], buffers
    model.signatureDefs = [_signature(graph, tensors)] if signature else []
    return pack(model)


def pack(model: Any) -> bytes:
    """Returns a model of the schema's objects as a file."""
    builder = flatbuffers.Builder(0)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def unpack(content: bytes) -> Any:
    """Returns a file as a model of the schema's objects."""
    return schema.ModelT.InitFromPackedBuf(content, 0)


def _tensor(tensor: Tensor, buffers: list[Any]) -> Any:
    made = schema.TensorT()
    made.name, made.shape, made.hasRank = tensor.name.encode(), list(tensor.shape), True
    made.type = getattr(schema.TensorType, tensor.dtype.upper())
    if tensor.value is not None:
        made.buffer = len(buffers)
        buffers.append(schema.BufferT())
        buffers[-1].data = np.frombuffer(np.asarray(tensor.value, tensor.dtype).tobytes(), np.uint8)
    if tensor.scale is not None:
        made.quantization = schema.QuantizationParametersT()
        made.quantization.scale, made.quantization.zeroPoint = [tensor.scale], [tensor.zero_point]
    return made


def _signature(graph: Any, tensors: Sequence[Tensor]) -> Any:
    def entry(index: int) -> Any:
        made = schema.TensorMapT()
        made.name, made.tensorIndex = tensors[index].name, index
        return made

    made = schema.SignatureDefT()
    made.signatureKey, made.subgraphIndex = "serving_default", 0
    made.inputs, made.outputs = [entry(index) for index in graph.inputs], [entry(index) for index in graph.outputs]
    return made


def accumulator(shape: tuple[int, ...] = (2, 3)) -> bytes:
    """Returns total = x + state, floats of one shape: with total carried to state, the sum of all calls."""
    x, state, total = (Tensor(name, "float32", shape) for name in ("x", "state", "total"))
    return one_operator(Op.ADD, [x, state], [total], schema.AddOptionsT())
