"""Takes out what a program does twice or for nothing: equal nodes; transposes, reshapes and reversals that cancel.

The translation of each operator is simple because it leaves that to this file.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

import numpy as np

from edgelstm.converters.exporters.onnx.program import Node, Program
from edgelstm.converters.graph import Array

# Operators that treat every element alike, or every pair of elements that broadcasting puts together.
ELEMENTWISE = {
    *("Abs", "Add", "And", "Cast", "Ceil", "Clip", "Cos", "Div", "Elu", "Equal", "Erf", "Exp", "Floor", "Greater"),
    *("GreaterOrEqual", "LeakyRelu", "Less", "LessOrEqual", "Log", "Max", "Min", "Mul", "Neg", "Not", "Or", "Pow"),
    *("Reciprocal", "Relu", "Round", "Sigmoid", "Sign", "Sin", "Sqrt", "Sub", "Sum", "Tanh", "Where"),
}
SINKABLE = ELEMENTWISE | {"Concat", "Transpose"}
INDEX_FINDERS = ("TopK", "ArgMax", "ArgMin")


def simplify(program: Program) -> None:
    """Runs all passes until none of them finds anything; changes the program in place."""
    passes: Sequence[Callable[[Program], bool]] = (
        merge_equal_constants,
        merge_equal_nodes,
        drop_casts_of_indices,
        drop_reversals,
        merge_transposes,
        sink_transposes,
        merge_reshapes,
    )
    program.drop_unread()
    while any(found(program) for found in passes):
        program.drop_unread()


def merge_equal_constants(program: Program) -> bool:
    """Keeps one of all constants with the same type, shape and bytes: weights of shared layers, say."""
    first: dict[tuple[str, tuple[int, ...], bytes], str] = {}
    replaced = {}
    for name, array in program.constants.items():
        kept = first.setdefault((array.dtype.str, array.shape, array.tobytes()), name)
        if kept != name:
            replaced[name] = kept
    for name in replaced:
        del program.constants[name]
    program.rename(replaced)
    return bool(replaced)


def merge_equal_nodes(program: Program) -> bool:
    """Keeps one of all nodes that compute the same from the same values."""
    first: dict[tuple[object, ...], Node] = {}
    replaced: dict[str, str] = {}
    kept = []
    for node in program.nodes:
        node.inputs = [replaced.get(value, value) for value in node.inputs]
        key = (node.op, tuple(node.inputs), len(node.outputs), repr(sorted(node.attributes.items())))
        same = first.setdefault(key, node)
        if same is node:
            kept.append(node)
        else:
            replaced |= dict(zip(node.outputs, same.outputs, strict=True))
    program.nodes = kept
    program.rename(replaced)
    return bool(replaced)


def drop_casts_of_indices(program: Program) -> bool:
    """Indices are found as int64, and int64 is what reads them: int32 between is for TensorFlow Lite."""
    producers = program.producers()
    changed = False
    for node in program.nodes:
        inner = producers.get(node.inputs[0]) if node.op == "Cast" and node.attributes["to"] == np.int64 else None
        if inner is not None and inner.op == "Cast" and inner.attributes["to"] == np.int32:
            source = producers.get(inner.inputs[0])
            if source is not None and source.op in INDEX_FINDERS and inner.inputs[0] == source.outputs[-1]:
                program.rename({node.outputs[0]: inner.inputs[0]})
                changed = True
    return changed


def drop_reversals(program: Program) -> bool:
    """What is reversed twice is as it was: Bidirectional reverses what a layer gives out that reads backwards."""
    producers = program.producers()
    replaced = {}
    for node in program.nodes:
        inner = producers.get(node.inputs[0]) if _is_reversal(program, node) else None
        if inner is not None and _is_reversal(program, inner) and _axes(program, inner) == _axes(program, node):
            replaced[node.outputs[0]] = inner.inputs[0]
    program.rename(replaced)
    return bool(replaced)


def _is_reversal(program: Program, node: Node) -> bool:
    """Whether a node is a Slice that takes everything from the last to the first."""
    if node.op != "Slice" or not all(value in program.constants for value in node.inputs[1:]):
        return False
    starts, ends, _, steps = (program.constants[value] for value in node.inputs[1:])
    return bool((starts == -1).all() and (ends == np.iinfo(np.int64).min).all() and (steps == -1).all())


def _axes(program: Program, node: Node) -> list[int]:
    return sorted(int(axis) for axis in program.constants[node.inputs[3]])


def merge_transposes(program: Program) -> bool:
    """Two transposes in a row are one, or none."""
    producers = program.producers()
    changed = False
    for node in program.nodes:
        if node.op != "Transpose":
            continue
        order = node.attributes["perm"]
        inner = producers.get(node.inputs[0])
        if order == sorted(order):
            program.rename({node.outputs[0]: node.inputs[0]})
            changed = True
        elif inner is not None and inner.op == "Transpose":
            node.inputs = [inner.inputs[0]]
            node.attributes["perm"] = [inner.attributes["perm"][axis] for axis in order]
            changed = True
    return changed


def sink_transposes(program: Program) -> bool:
    """Moves transposes behind operators that do not care, where they meet others.

    An operator all of whose computed inputs are transposed alike reads what stands in front of the transposes, and
    its result is transposed instead: if only such operators read them, so that the transposes go.
    """
    producers = program.producers()
    held = {port.value for port in program.outputs}
    held |= {value for node in program.nodes if node.op not in SINKABLE for value in node.inputs}
    nodes: list[Node] = []
    for node in program.nodes:
        order = _common_order(program, node, producers, held)
        if order is None:
            nodes.append(node)
            continue
        inputs = [
            _untransposed(program, value, order) if value in program.constants else producers[value].inputs[0]
            for value in node.inputs
        ]
        attributes = dict(node.attributes)
        if node.op == "Concat":
            attributes["axis"] = order[attributes["axis"]]
        inner = program.new_value(node.op)
        behind = Node("Transpose", [inner], node.outputs, {"perm": list(order)})
        nodes += [Node(node.op, inputs, [inner], attributes, node.layer), behind]
        producers[node.outputs[0]] = behind
    changed = len(nodes) > len(program.nodes)
    program.nodes = nodes
    return changed


def _common_order(
    program: Program, node: Node, producers: Mapping[str, Node], held: Collection[str]
) -> list[int] | None:
    """How all computed inputs of a node are transposed, None if they are not, or if their transposes have to stay."""
    computed = [value for value in node.inputs if value not in program.constants]
    before = [producers.get(value) for value in computed]
    if node.op not in ELEMENTWISE | {"Concat"} or not before or any(value in held for value in computed):
        return None
    orders = [each.attributes["perm"] if each is not None and each.op == "Transpose" else None for each in before]
    order: list[int] | None = orders[0]
    if order is None or any(other != order for other in orders):
        return None
    fixed = [program.constants[value] for value in node.inputs if value in program.constants]
    return order if all(array.ndim <= len(order) for array in fixed) else None


def _untransposed(program: Program, value: str, order: Sequence[int]) -> str:
    """A constant as it goes with what stands in front of a transpose."""
    array: Array = program.constants[value]
    if array.ndim == 0:
        return value
    full = array.reshape([1] * (len(order) - array.ndim) + list(array.shape))
    return program.add_constant(full.transpose(np.argsort(order)))


def merge_reshapes(program: Program) -> bool:
    """Two reshapes in a row are one, or none where the shape is what it was."""
    producers = program.producers()
    replaced = {}
    changed = False
    for node in program.nodes:
        inner = producers.get(node.inputs[0]) if node.op == "Reshape" else None
        if node.op == "Reshape" and _same_shape(program, node.inputs[0], node.outputs[0]):
            replaced[node.outputs[0]] = node.inputs[0]
        elif inner is not None and inner.op == "Reshape":
            node.inputs[0] = inner.inputs[0]
            changed = True
    program.rename(replaced)
    return changed or bool(replaced)


def _same_shape(program: Program, one: str, other: str) -> bool:
    shape = program.shapes.get(one)
    return shape is not None and shape == program.shapes.get(other)
