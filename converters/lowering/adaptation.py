"""A finished graph made to fit a runtime that does not have every built-in operator.

Operators are replaced by others that compute exactly the same; what is left without a counterpart is refused by name.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgelstm.converters.graph import DTYPES, Graph
from edgelstm.converters.lowering.operators import Operators
from edgelstm.errors import LoweringError
from edgelstm.runtime.runtimes import RuntimeFamily, value_position

_Op = schema.BuiltinOperator
_NAMES = {value: name for name, value in vars(_Op).items() if isinstance(value, int)}


def adapt(graph: Graph, family: RuntimeFamily) -> None:
    """Replaces operators that a family of runtimes lacks, and refuses those without a replacement.

    Args:
        graph: The finished graph; changed in place, with the graphs of its loops.
        family: The runtimes.

    Raises:
        LoweringError: Naming the operators, or the input or output of a type that the runtimes do not take.
    """
    separate_outputs(graph)
    graphs = [Graph(graph.model, position) for position in range(len(graph.model.subgraphs))]
    for each in graphs:
        for operator in list(each.operators):
            replace = _REPLACEMENTS.get(each.code(operator))
            if replace and not family.takes(*_kind(each, operator)) and replace(each, operator):
                each.remove([operator])
        each.prune_operators()
    if len(graphs) > 1 and not family.subgraphs:
        raise LoweringError(
            f"{family.title} takes no file with a loop or a branch, and a layer of this model computes one: write it "
            "over fixed steps, or convert for another --runtime."
        )
    missing = {
        text for each in graphs for operator in each.operators if (text := _missing(each, operator, family)) is not None
    }
    if missing:
        raise LoweringError(
            f"{family.title} has no {', '.join(sorted(missing))}, which this model needs there. Replace the layers "
            "that use it, or convert for another --runtime."
        )
    _check_interface(graph, family)


def separate_outputs(graph: Graph) -> None:
    """Gives every output of the model a tensor of its own, which is no input.

    LiteRT's CompiledModel leaves all but one of the outputs on one tensor unwritten, and garbles an output that is an
    input, both without an error. LiteRT.js gives one of them only.
    """
    operators = Operators(graph)
    taken = set(graph.subgraph.inputs)
    for position, tensor in enumerate(graph.subgraph.outputs):
        if tensor in taken:
            graph.subgraph.outputs[position] = operators.reshape(tensor, graph.shape(tensor))
        taken.add(graph.subgraph.outputs[position])
    for signature in graph.model.signatureDefs or []:
        for entry, tensor in zip(signature.outputs, graph.subgraph.outputs, strict=True):
            entry.tensorIndex = tensor
            graph.tensor(tensor).name = entry.name


def _kind(graph: Graph, operator: Any) -> tuple[str, str | None]:
    """Name of an operator and element type that it computes in."""
    name = _NAMES[graph.code(operator)]
    given = operator.inputs[value_position(name) :]
    first = next((tensor for tensor in given if tensor >= 0), None)
    return name, None if first is None else _dtype(graph, first)


def _dtype(graph: Graph, tensor: int) -> str:
    return str(np.dtype(DTYPES[graph.tensor(tensor).type]).name)


def _missing(graph: Graph, operator: Any, family: RuntimeFamily) -> str | None:
    """What a family of runtimes lacks for an operator; None if nothing."""
    name, dtype = _kind(graph, operator)
    if not family.takes(name, dtype):
        return f"{name} of {dtype}" if dtype and family.takes(name) else name
    inputs = [tensor for tensor in operator.inputs if tensor >= 0]
    rank = max((len(graph.shape(tensor)) for tensor in inputs), default=0)
    return None if family.takes_size(name, len(inputs), rank) else f"{name} of {len(inputs)} inputs and {rank} axes"


def _check_interface(graph: Graph, family: RuntimeFamily) -> None:
    for kind, tensors in (("input", graph.subgraph.inputs), ("output", graph.subgraph.outputs)):
        for tensor in tensors:
            dtype = _dtype(graph, tensor)
            if family.interface_types is not None and dtype not in family.interface_types:
                name = graph.tensor(tensor).name.decode("utf-8", "replace")
                raise LoweringError(
                    f"{family.title} takes no {kind} of {dtype}, and {name!r} is one: give it another dtype in the "
                    "model, or convert for another --runtime."
                )


def _replace_select(graph: Graph, operator: Any) -> bool:
    """SELECT(t < 0, t + n, t), how Keras lets negative tokens count from the end -> t + (t < 0) * n."""
    condition, moved, tokens = operator.inputs
    addition = graph.producer(moved)
    if (
        addition is None
        or graph.code(addition) != _Op.ADD
        or addition.inputs[0] != tokens
        or graph.constant(addition.inputs[1]) is None
        or graph.tensor(tokens).type != schema.TensorType.INT32
        or graph.shape(condition) != graph.shape(tokens)
    ):
        return _replace_select_v1(graph, operator)
    operators = Operators(graph)
    negative = graph.add_tensor("", graph.shape(condition), np.int32)
    options = schema.CastOptionsT()
    options.inDataType, options.outDataType = schema.TensorType.BOOL, schema.TensorType.INT32
    graph.add_operator(
        _Op.CAST, [condition], [negative], options=options, options_type=schema.BuiltinOptions.CastOptions
    )
    graph.replace(operator.outputs[0], operators.add(tokens, operators.mul(negative, addition.inputs[1])))
    return True


def _replace_select_v1(graph: Graph, operator: Any) -> bool:
    """SELECT on a condition of the same shape, or of a scalar, is SELECT_V2."""
    condition, one, _ = operator.inputs
    if graph.code(operator) != _Op.SELECT or graph.shape(condition) not in ([], graph.shape(one)):
        return False
    graph.add_operator(
        _Op.SELECT_V2,
        operator.inputs,
        operator.outputs,
        options=schema.SelectV2OptionsT(),
        options_type=schema.BuiltinOptions.SelectV2Options,
    )
    return True


def _replace_reduce_any(graph: Graph, operator: Any) -> bool:
    """Any of some is not all of their opposites."""
    tensor, axes = operator.inputs
    opposite = graph.add_tensor("", graph.shape(tensor), np.bool_)
    none = graph.add_tensor("", graph.shape(operator.outputs[0]), np.bool_)
    for source, target in ((tensor, opposite), (none, operator.outputs[0])):
        graph.add_operator(
            _Op.LOGICAL_NOT,
            [source],
            [target],
            options=schema.LogicalNotOptionsT(),
            options_type=schema.BuiltinOptions.LogicalNotOptions,
        )
    graph.add_operator(
        _Op.REDUCE_ALL,
        [opposite, axes],
        [none],
        options=operator.builtinOptions,
        options_type=schema.BuiltinOptions.ReducerOptions,
    )
    return True


def _replace_clip(graph: Graph, operator: Any) -> bool:
    """The values between -1 and 1 by a minimum and a maximum."""
    operators = Operators(graph)
    (tensor,) = operator.inputs
    low = operators.result(graph.shape(tensor), operators.dtype(tensor))
    for code, source, limit, target in (
        (_Op.MINIMUM, tensor, 1.0, low),
        (_Op.MAXIMUM, low, -1.0, operator.outputs[0]),
    ):
        graph.add_operator(
            code,
            [source, operators.constant(limit, np.float32)],
            [target],
            options=schema.MaximumMinimumOptionsT(),
            options_type=schema.BuiltinOptions.MaximumMinimumOptions,
        )
    return True


_REPLACEMENTS: dict[int, Callable[[Graph, Any], bool]] = {
    _Op.SELECT: _replace_select,
    _Op.SELECT_V2: _replace_select,
    _Op.REDUCE_ANY: _replace_reduce_any,
    _Op.RELU_N1_TO_1: _replace_clip,
}
