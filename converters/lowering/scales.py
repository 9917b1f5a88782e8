"""Operators that copy quantized values must not change their scale; TensorFlow's quantizer forgets some.

It gives the input and the output of REVERSE_V2, for one, scales of their own, though the kernel only
moves bytes: a bidirectional layer then answers with a constant offset. Here every copying operator is
checked, and a QUANTIZE put where scales differ.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgelstm.converters.graph import DTYPES, Graph, quantization
from edgelstm.converters.lowering.states import add_quantize

_Op = schema.BuiltinOperator

# Operators that move values without computing, and the positions of the inputs they move; None for all.
COPYING: dict[int, tuple[int, ...] | None] = {
    _Op.RESHAPE: (0,),
    _Op.SQUEEZE: (0,),
    _Op.EXPAND_DIMS: (0,),
    _Op.TRANSPOSE: (0,),
    _Op.REVERSE_V2: (0,),
    _Op.REVERSE_SEQUENCE: (0,),
    _Op.GATHER: (0,),
    _Op.GATHER_ND: (0,),
    _Op.SLICE: (0,),
    _Op.STRIDED_SLICE: (0,),
    _Op.SPLIT: (1,),
    _Op.SPLIT_V: (0,),
    _Op.UNPACK: (0,),
    _Op.PAD: (0,),
    _Op.MIRROR_PAD: (0,),
    _Op.TILE: (0,),
    _Op.BROADCAST_TO: (0,),
    _Op.SPACE_TO_BATCH_ND: (0,),
    _Op.BATCH_TO_SPACE_ND: (0,),
    _Op.SPACE_TO_DEPTH: (0,),
    _Op.DEPTH_TO_SPACE: (0,),
    _Op.RESIZE_NEAREST_NEIGHBOR: (0,),
    _Op.MAX_POOL_2D: (0,),
    _Op.REDUCE_MAX: (0,),
    _Op.REDUCE_MIN: (0,),
    _Op.CONCATENATION: None,
    _Op.PACK: None,
    _Op.MAXIMUM: None,
    _Op.MINIMUM: None,
    _Op.SELECT: (1, 2),
    _Op.SELECT_V2: (1, 2),
}
_QUANTIZED = (schema.TensorType.INT8, schema.TensorType.INT16)


def repair_scales(graph: Graph) -> int:
    """Puts a QUANTIZE between the scales of every copying operator where they differ.

    Operators with one moved input get it behind them, operators that join several inputs before them.

    Returns:
        Number of operators repaired.
    """
    repaired = 0
    for operator in list(graph.operators):
        if graph.code(operator) not in COPYING or graph.tensor(operator.outputs[0]).type not in _QUANTIZED:
            continue
        positions = COPYING[graph.code(operator)]
        joins = positions is None or len(positions) > 1
        moved = range(len(operator.inputs)) if positions is None else positions
        repaired += _repair_inputs(graph, operator, moved) if joins else _repair_outputs(graph, operator, moved[0])
    return repaired


def _parameters(graph: Graph, tensor: int) -> tuple[float, int]:
    found = graph.tensor(tensor).quantization
    return float(found.scale[0]), int(found.zeroPoint[0])


def _repair_outputs(graph: Graph, operator: Any, position: int) -> int:
    wanted = _parameters(graph, operator.inputs[position])
    repaired = 0
    for index, output in enumerate(operator.outputs):
        if graph.tensor(output).type in _QUANTIZED and _parameters(graph, output) != wanted:
            copied = _tensor_like(graph, output, wanted)
            operator.outputs[index] = copied
            add_quantize(graph, copied, output)
            repaired = 1
    return repaired


def _repair_inputs(graph: Graph, operator: Any, positions: Any) -> int:
    wanted = _parameters(graph, operator.outputs[0])
    repaired = 0
    for position in positions:
        source = operator.inputs[position]
        if graph.tensor(source).type not in _QUANTIZED or _parameters(graph, source) == wanted:
            continue
        operator.inputs[position] = _requantized(graph, source, wanted)
        repaired = 1
    return repaired


def _requantized(graph: Graph, source: int, wanted: tuple[float, int]) -> int:
    value = graph.constant(source)
    if value is not None:
        scale, zero_point = _parameters(graph, source)
        limits = np.iinfo(value.dtype)
        real = (value.astype(np.float64) - zero_point) * scale
        stored = np.clip(np.round(real / wanted[0]) + wanted[1], limits.min, limits.max).astype(value.dtype)
        name = graph.tensor(source).name.decode()
        return graph.add_constant(f"{name}/requantized", stored, quantization=quantization(*wanted))
    result = _tensor_like(graph, source, wanted)
    add_quantize(graph, source, result)
    return result


def _tensor_like(graph: Graph, tensor: int, parameters: tuple[float, int]) -> int:
    entry = graph.tensor(tensor)
    name = f"{entry.name.decode()}/requantized"
    return graph.add_tensor(name, graph.shape(tensor), DTYPES[entry.type], quantization=quantization(*parameters))
