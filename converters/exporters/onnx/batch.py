"""A free batch axis: what two programs of one model, traced with two batch sizes, do not have in common.

TensorFlow Lite's files have static shapes, so a model is traced twice. Wherever a constant of one program holds a
multiple of its batch size and that of the other one the same multiple of its own, the batch size is computed or
left open. Any other difference means that the model does something else with other batch sizes.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from edgelstm.converters.exporters.onnx.program import Node, Port, Program
from edgelstm.converters.graph import Array

AXIS = "batch"
"""Name of the free axis in the file."""

_PRIMES = (11, 13, 17, 19, 23, 29, 31, 37, 41, 43)
FREE = -1  # how Reshape is told to find out a size


def batch_sizes(taken: set[int]) -> tuple[int, int]:
    """Two batch sizes that stand out: primes that are no other size of the model's inputs."""
    first, second, *_ = [prime for prime in _PRIMES if prime not in taken] + [47, 53]
    return first, second


def with_free_batch(one: Program, other: Program, sizes: tuple[int, int]) -> Program | None:
    """Makes one program for any batch size out of two for certain ones.

    Args:
        one: Traced with the first batch size; becomes the result.
        other: Traced with the second one.
        sizes: The batch sizes.

    Returns:
        The program, or None if the two differ in more than batch sizes.
    """
    if [_structure(node) for node in one.nodes] != [_structure(node) for node in other.nodes]:
        return None
    ports = [
        _free_ports(mine, others, sizes) for mine, others in ((one.inputs, other.inputs), (one.outputs, other.outputs))
    ]
    if any(port is None for side in ports for port in side) or list(one.constants) != list(other.constants):
        return None
    one.inputs, one.outputs = ([port for port in side if port is not None] for side in ports)
    rows = [port.value for port in one.inputs if port.shape and port.shape[0] == AXIS]
    if not rows:
        return None
    before: list[Node] = []
    for name in list(one.constants):
        if not _free_constant(one, name, other.constants[name], sizes, rows[0], before):
            return None
    one.nodes[:0] = before
    differing = {value: shape for value, shape in one.shapes.items() if other.shapes.get(value) != shape}
    for value in differing:  # sizes of one batch must not be taken for those of all
        del one.shapes[value]
    return one


def _structure(node: Node) -> tuple[object, ...]:
    return node.op, node.inputs, node.outputs, node.attributes, node.layer


def _free_ports(mine: list[Port], others: list[Port], sizes: tuple[int, int]) -> list[Port | None]:
    return [_free_port(port, twin, sizes) for port, twin in zip(mine, others, strict=True)]


def _free_port(port: Port, twin: Port, sizes: tuple[int, int]) -> Port | None:
    """The port with names instead of sizes that are multiples of the batch; None if it differs otherwise."""
    if len(port.shape) != len(twin.shape):
        return None
    shape: list[int | str] = []
    for size, other in zip(port.shape, twin.shape, strict=True):
        times = 0 if size == other else _multiple(int(size), int(other), sizes)
        if times is None:
            return None
        shape.append(size if times == 0 else AXIS if times == 1 else f"{times}*{AXIS}")
    return dataclasses.replace(port, shape=tuple(shape))


def _multiple(one: int, other: int, sizes: tuple[int, int]) -> int | None:
    """How many times the batch size both are, None if they are not."""
    times = one // sizes[0]
    return times if (one, other) == (times * sizes[0], times * sizes[1]) else None


def _free_constant(
    program: Program, name: str, other: Array, sizes: tuple[int, int], rows: str, before: list[Node]
) -> bool:
    """Replaces a constant that depends on the batch size; False if it cannot be."""
    array = program.constants[name]
    if array.dtype != other.dtype or array.ndim != other.ndim:
        return False
    if array.shape == other.shape:
        return array.tobytes() == other.tobytes() or _free_numbers(program, name, other, sizes, rows, before)
    return _free_rows(program, name, other, sizes, rows, before)


def _free_numbers(
    program: Program, name: str, other: Array, sizes: tuple[int, int], rows: str, before: list[Node]
) -> bool:
    """Numbers that are multiples of the batch size: shapes, bounds of slices."""
    array = program.constants[name]
    differ = array != other
    multiples = array // sizes[0] if array.dtype == np.int64 and array.ndim == 1 else None
    if multiples is None or not np.array_equal(array[differ], multiples[differ] * sizes[0]):
        return False
    if not np.array_equal(other[differ], multiples[differ] * sizes[1]):
        return False
    readers = [
        (node, position) for node in program.nodes for position, value in enumerate(node.inputs) if value == name
    ]
    if differ.sum() == 1 and all(node.op == "Reshape" and position == 1 for node, position in readers):
        program.constants[name] = np.where(differ, FREE, array)
        return True
    scale = program.add_constant(np.where(differ, multiples, 0))
    offset = program.add_constant(np.where(differ, 0, array))
    batch = _node(program, before, "Shape", [rows], start=0, end=1)
    product = _node(program, before, "Mul", [batch, scale])
    program.rename({name: _node(program, before, "Add", [product, offset])})
    return True


def _free_rows(
    program: Program, name: str, other: Array, sizes: tuple[int, int], rows: str, before: list[Node]
) -> bool:
    """A constant that repeats the same rows once for each row of the batch."""
    array = program.constants[name]
    axes = [axis for axis, (size, twin) in enumerate(zip(array.shape, other.shape, strict=True)) if size != twin]
    times = _multiple(array.shape[axes[0]], other.shape[axes[0]], sizes)
    if len(axes) > 1 or times is None:
        return False
    kept = np.take(array, range(times), axis=axes[0])
    repeats = [[size if axis == axes[0] else 1 for axis in range(array.ndim)] for size in sizes]
    if any(
        np.tile(kept, tiles).tobytes() != whole.tobytes() for tiles, whole in zip(repeats, (array, other), strict=True)
    ):
        return False
    batch = _node(program, before, "Shape", [rows], start=0, end=1)
    ones = [[1] * axes[0], [1] * (array.ndim - axes[0] - 1)]
    parts = [program.add_constant(np.asarray(part, np.int64)) for part in ones]
    counts = _node(program, before, "Concat", [parts[0], batch, parts[1]], axis=0)
    program.rename({name: _node(program, before, "Tile", [program.add_constant(kept), counts])})
    return True


def _node(program: Program, before: list[Node], op: str, inputs: list[str], **attributes: int) -> str:
    value = program.new_value(op)
    before.append(Node(op, inputs, [value], attributes))
    return value
