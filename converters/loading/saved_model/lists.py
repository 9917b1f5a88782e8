"""Lists of tensors, which loops read their steps from and write their outputs to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from edgelstm.converters.loading.saved_model.kernels import apply
from edgelstm.converters.loading.saved_model.program import Node
from edgelstm.converters.loading.saved_model.values import Items, Kind, Value

GraphTensor = Callable[[Value], Any]
"""Gives the tensor of a value in the graph that is being traced, as `Replay.graph_tensor` does."""


def growing(items: Items | None) -> Items | None:
    """What stays known of a list that is written to: nothing, if it was made of items that were there."""
    return None if items is None or items.stacked is not None else items


def _reserve(graph_tensor: GraphTensor, node: Node, inputs: list[Value]) -> list[Value]:
    """A list whose items are not there yet: in a graph it is made when their shape is known."""
    import tensorflow as tf

    def reserve(shape: Any) -> Any:
        arguments = [_sizes(shape) or inputs[0], *inputs[1:]]
        return apply(node, [graph_tensor(value) for value in arguments])["handle"][0]

    items = Items(count=inputs[1], reserve=reserve)
    return [Value(items.reserved() if tf.executing_eagerly() else None, Kind.DYNAMIC, items=items)]


def _list_of(graph_tensor: GraphTensor, node: Node, inputs: list[Value]) -> list[Value]:
    items = Items(inputs[0].tensor.shape[1:], stacked=inputs[0])
    tensors = [graph_tensor(value) for value in (inputs[0], _sizes(items.shape) or inputs[1])]
    return [Value(apply(node, tensors)["output_handle"][0], Kind.DYNAMIC, items=items)]


def _set_item(graph_tensor: GraphTensor, node: Node, inputs: list[Value]) -> list[Value]:
    tensors = [graph_tensor(value) for value in inputs]
    items = growing(inputs[0].items)
    if items is not None:
        items.learn(tensors[2].shape)
    return [Value(apply(node, tensors)["output_handle"][0], Kind.DYNAMIC, items=items)]


def _read_list(graph_tensor: GraphTensor, node: Node, inputs: list[Value]) -> list[Value]:
    """An item of a list, or all of them stacked."""
    known = inputs[0].items.stacked if inputs[0].items is not None else None
    if node.operation == "TensorListStack" and known is not None:
        return [known]
    position = 2 if node.operation == "TensorListGetItem" else 1
    given = list(inputs)
    if inputs[0].items is not None:
        given[position] = _sizes(inputs[0].items.shape) or inputs[position]
    outputs = apply(node, [graph_tensor(value) for value in given])
    return [Value(tensor, Kind.DYNAMIC) for tensors in outputs.values() for tensor in tensors]


def _sizes(shape: Any) -> Value | None:
    """A static shape as a value; None if it is not known."""
    import tensorflow as tf

    if shape is None or not shape.is_fully_defined():
        return None
    with tf.init_scope():
        return Value(tf.constant(shape.as_list(), tf.int32), Kind.STATIC)


LIST_OPERATIONS: dict[str, Callable[[GraphTensor, Node, list[Value]], list[Value]]] = {
    "TensorListFromTensor": _list_of,
    "TensorListGetItem": _read_list,
    "TensorListReserve": _reserve,
    "TensorListSetItem": _set_item,
    "TensorListStack": _read_list,
}
