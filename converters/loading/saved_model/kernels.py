"""Single operations of TensorFlow, as a file describes them, run through TensorFlow's public functions for them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from edgelstm.converters.loading.saved_model.program import Node

OF_VARIABLES = {"ResourceGather": "GatherV2", "ResourceGatherNd": "GatherNd"}
"""Operations that read a variable by its handle, and what they are on its value."""
MAX_ELEMENTS = 1 << 26
"""How large what an operation makes of a few numbers may be: a file of some bytes could ask for terabytes."""


def apply(node: Node, tensors: Sequence[Any], *, limited: bool = False) -> dict[str, list[Any]]:
    """Runs an operation, or adds it to the graph that is being traced.

    Args:
        node: The operation.
        tensors: Its inputs.
        limited: Whether the size of its outputs is bounded first; the inputs must have their values then.

    Returns:
        Its outputs, by the operation's names for them.

    Raises:
        ValueError: If the inputs are not those that the operation takes.
    """
    import tensorflow as tf
    from tensorflow.python.eager import context, execute
    from tensorflow.python.framework import op_def_registry

    if node.operation in OF_VARIABLES:
        node, tensors = _on_values(node, tensors)
    definition = op_def_registry.get(node.operation)
    if definition is None:
        raise ValueError(f"TensorFlow {tf.__version__} has no operation {node.operation}")
    if limited:
        _check_size(node, tensors)
    node = _complete(node, definition)
    _check_inputs(node, definition, tensors)
    if not tf.executing_eagerly():
        graph = tf.compat.v1.get_default_graph()
        results = graph.create_op(node.operation, list(tensors), attrs=node.attributes).outputs
    else:
        counts = [_count(node, output) for output in definition.output_arg]
        values = [value for name in node.attributes for value in (name, _eager_attribute(node, name))]
        results = execute.execute(
            node.operation, sum(counts), inputs=list(tensors), attrs=tuple(values), ctx=context.context()
        )
    return _by_name(node, definition, list(results))


def attribute(node: Node, name: str) -> Any:
    """An attribute of a node as TensorFlow's functions take it.

    Raises:
        ValueError: If the node has none of that name.
    """
    import tensorflow as tf

    if name not in node.attributes:
        raise ValueError(f"{node.name!r} has no attribute {name!r}")
    value = node.attributes[name]
    kind = value.WhichOneof("value")
    if kind is None:
        raise ValueError(f"the attribute {name!r} of {node.name!r} has no value")
    if kind == "type":
        return tf.as_dtype(value.type)
    if kind == "shape":
        return tf.TensorShape(value.shape)
    if kind != "list":
        return getattr(value, kind)
    items = value.list
    if items.type:
        return [tf.as_dtype(item) for item in items.type]
    if items.shape:
        return [tf.TensorShape(item) for item in items.shape]
    return list(items.i or items.f or items.b or items.s)


def constant_of(node: Node) -> Any:
    """The value of a Const node, outside any graph."""
    import tensorflow as tf

    content = attribute(node, "value")
    _check_elements(node, _product(dimension.size for dimension in content.tensor_shape.dim))
    with tf.init_scope():
        return tf.constant(tf.make_ndarray(content))


def shape_answer(node: Node, shapes: Sequence[Any]) -> list[Any]:
    """What Shape, ShapeN, Size or Rank answer for static shapes."""
    import tensorflow as tf

    dtype = attribute(node, "out_type") if "out_type" in node.attributes else tf.int32
    answers: dict[str, Callable[[Any], Any]] = {"Rank": len, "Size": lambda shape: shape.num_elements()}
    answer = answers.get(node.operation, lambda shape: shape.as_list())
    with tf.init_scope():
        return [tf.constant(answer(shape), dtype) for shape in shapes]


def is_eager(tensor: Any) -> bool:
    """Whether a tensor has its value."""
    import tensorflow as tf

    return isinstance(tensor, tf.__internal__.EagerTensor)


def _on_values(node: Node, tensors: Sequence[Any]) -> tuple[Node, list[Any]]:
    """The operation on a variable's value that stands for one on its handle."""
    import tensorflow as tf
    from tensorflow.core.framework.attr_value_pb2 import AttrValue

    values, indices = tensors
    attributes = {
        "Tparams": AttrValue(type=values.dtype.as_datatype_enum),
        "Tindices": AttrValue(type=indices.dtype.as_datatype_enum),
    }
    if node.operation == "ResourceGatherNd":
        return Node(node.name, "GatherNd", node.inputs, attributes), [values, indices]
    attributes["Taxis"] = AttrValue(type=tf.int32.as_datatype_enum)
    attributes["batch_dims"] = AttrValue(i=attribute(node, "batch_dims") if "batch_dims" in node.attributes else 0)
    return Node(node.name, "GatherV2", node.inputs, attributes), [values, indices, tf.constant(0)]


def _complete(node: Node, definition: Any) -> Node:
    """The node with all attributes that its operation has and no others; files leave out default values."""
    attributes = {}
    for entry in definition.attr:
        if entry.name in node.attributes:
            attributes[entry.name] = node.attributes[entry.name]
        elif entry.HasField("default_value"):
            attributes[entry.name] = entry.default_value
    return Node(node.name, node.operation, node.inputs, attributes)


def _check_inputs(node: Node, definition: Any, tensors: Sequence[Any]) -> None:
    taken = sum(_count(node, entry) for entry in definition.input_arg)
    if taken != len(tensors):
        raise ValueError(f"{node.name!r} has {len(tensors)} inputs, and {node.operation} takes {taken}")


def _count(node: Node, entry: Any) -> int:
    """How many tensors an input or output of an operation is."""
    if entry.number_attr:
        return int(attribute(node, entry.number_attr))
    return len(attribute(node, entry.type_list_attr)) if entry.type_list_attr else 1


def _by_name(node: Node, definition: Any, tensors: list[Any]) -> dict[str, list[Any]]:
    outputs = {}
    for entry in definition.output_arg:
        count = _count(node, entry)
        outputs[entry.name], tensors = tensors[:count], tensors[count:]
    return outputs


def _eager_attribute(node: Node, name: str) -> Any:
    """An attribute as operations that run at once take it: types by their numbers."""
    import tensorflow as tf

    value = attribute(node, name)
    if isinstance(value, list):
        return [item.as_datatype_enum if isinstance(item, tf.DType) else item for item in value]
    if isinstance(value, tf.TensorShape):
        return value.as_proto()
    return value.as_datatype_enum if isinstance(value, tf.DType) else value


def _check_size(node: Node, tensors: Sequence[Any]) -> None:
    """Refuses operations that make much out of little."""
    elements = 0.0
    if node.operation == "Fill":
        elements = _product(tensors[0])
    elif node.operation == "BroadcastTo":
        elements = _product(tensors[1])
    elif node.operation == "Tile":
        elements = _product(tensors[0].shape) * _product(tensors[1])
    elif node.operation == "Range":
        start, limit, delta = (float(tensor) for tensor in tensors)
        elements = abs((limit - start) / delta) if delta else 0.0
    elif node.operation == "LinSpace":
        elements = float(tensors[2])
    elif node.operation == "OneHot":
        elements = _product(tensors[0].shape) * float(tensors[1])
    _check_elements(node, elements)


def _check_elements(node: Node, elements: float) -> None:
    if not 0 <= elements <= MAX_ELEMENTS:
        raise ValueError(f"{node.name!r} would make a constant of {elements:.0f} elements")


def _product(sizes: Any) -> float:
    return float(math.prod(int(size) for size in sizes))
