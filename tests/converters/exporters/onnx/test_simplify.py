"""Passes: what goes, what has to stay, and that the answers are the same, bit by bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgelstm.converters.exporters.onnx.operators.shapes import BACKWARDS
from edgelstm.converters.exporters.onnx.program import Program
from edgelstm.converters.exporters.onnx.simplify import simplify
from tests.converters.exporters.onnx.programs import copied, ints, node, operators, outputs, program, run
from tests.converters.tiny import floats

X = floats(2, 3, 4)


def turned(result: Program, value: str, *order: int) -> str:
    return node(result, "Transpose", value, perm=list(order))


def reversed_along(result: Program, value: str, *axes: int) -> str:
    ends = [[-1] * len(axes), [BACKWARDS] * len(axes), list(axes), [-1] * len(axes)]
    return node(result, "Slice", value, *(ints(result, *numbers) for numbers in ends))


def check(result: Program, *left: str, arrays: Any = (X,)) -> Program:
    """Simplifies a program, and expects certain operators to be left and its answers to stay."""
    before = copied(result)
    before.drop_unread()
    right = run(before, *arrays)
    simplify(result)
    assert sorted(operators(result)) == sorted(left)
    for one, other in zip(run(result, *arrays), right, strict=True):
        np.testing.assert_array_equal(one, other)
    return result


def test_equal_constants_and_nodes_are_one():
    result = program((2, 3, 4))
    sums = [node(result, "Add", "x:0", result.add_constant(np.full(4, 2, np.float32))) for _ in range(3)]
    both = node(result, "Concat", *(node(result, "Tanh", value) for value in sums), axis=0)
    assert len(check(outputs(result, both), "Add", "Tanh", "Concat").constants) == 1


def test_constants_that_differ_in_type_or_shape_only_stay_apart():
    result = program((2, 3, 4))
    arrays = [np.zeros((1, 1, 4), np.float32), np.zeros((1, 4), np.float32), np.zeros(4, np.int32)]
    value = "x:0"
    for array in arrays:
        constant = result.add_constant(array)
        value = node(
            result,
            "Add",
            value,
            constant if array.dtype == np.float32 else node(result, "Cast", constant, to=np.dtype("f4")),
        )
    simplify(outputs(result, value))
    assert len(result.constants) == 3


def test_nodes_that_differ_in_an_attribute_stay_apart():
    result = program((2, 3, 4))
    values = [node(result, "Softmax", "x:0", axis=axis) for axis in (1, 2)]
    check(outputs(result, *values), "Softmax", "Softmax")


def test_what_nobody_reads_goes():
    result = program((2, 3, 4))
    node(result, "Tanh", node(result, "Exp", "x:0"))
    check(outputs(result, node(result, "Relu", "x:0")), "Relu")


def test_transposes_in_a_row_are_one_or_none():
    result = program((2, 3, 4))
    there_and_back = turned(result, turned(result, "x:0", 1, 2, 0), 2, 0, 1)
    twice = turned(result, turned(result, "x:0", 1, 2, 0), 1, 2, 0)
    check(outputs(result, node(result, "Relu", there_and_back), twice), "Relu", "Transpose")


def test_a_transpose_of_nothing_goes_even_when_it_is_an_output():
    result = program((2, 3, 4))
    check(outputs(result, turned(result, node(result, "Relu", "x:0"), 0, 1, 2)), "Relu")


def test_transposes_sink_through_elementwise_operators():
    result = program((2, 3, 4), (2, 3, 4))
    a, b = turned(result, "x:0", 1, 0, 2), turned(result, "x:1", 1, 0, 2)
    swish = node(result, "Mul", a, node(result, "Sigmoid", a))
    scaled = node(result, "Mul", swish, result.add_constant(floats(2, 4)))
    joined = node(result, "Concat", scaled, b, axis=2)
    back = turned(result, joined, 1, 0, 2)
    check(outputs(result, back), "Sigmoid", "Mul", "Mul", "Concat", arrays=(X, floats(2, 3, 4, seed=1)))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_concatenation_follows_its_axis(axis):
    result = program((2, 3, 4), (2, 3, 4))
    joined = node(result, "Concat", *(turned(result, f"x:{k}", 1, 2, 0) for k in range(2)), axis=axis)
    check(outputs(result, joined), "Concat", "Transpose", arrays=(X, floats(2, 3, 4, seed=1)))


def test_transposes_that_others_read_stay():
    result = program((2, 3, 4))
    a = turned(result, "x:0", 1, 0, 2)
    check(outputs(result, node(result, "Relu", a), a), "Transpose", "Relu")
    result = program((2, 3, 4))
    a = turned(result, "x:0", 1, 0, 2)
    flat = node(result, "Reshape", a, ints(result, 3, 1, 8))
    check(outputs(result, node(result, "Relu", a), flat), "Transpose", "Relu", "Reshape")


def test_transposes_that_differ_stay():
    result = program((3, 3, 3))
    both = node(result, "Add", turned(result, "x:0", 1, 0, 2), turned(result, "x:0", 2, 1, 0))
    check(outputs(result, both), "Transpose", "Transpose", "Add", arrays=(floats(3, 3, 3),))


def test_constants_with_more_axes_keep_transposes():
    result = program((3, 4))
    wide = node(result, "Add", turned(result, "x:0", 1, 0), result.add_constant(floats(2, 4, 3)))
    check(outputs(result, wide, ranks=(3,)), "Transpose", "Add", arrays=(floats(3, 4),))


def test_reversals_cancel_only_along_the_same_axes():
    result = program((2, 3, 4))
    same = reversed_along(result, reversed_along(result, "x:0", 1, 2), 2, 1)
    other = reversed_along(result, reversed_along(result, "x:0", 1), 2)
    check(outputs(result, node(result, "Relu", same), other), "Slice", "Slice", "Relu")


def test_slices_that_do_not_reverse_stay():
    result = program((2, 3, 4))
    numbers = [ints(result, number) for number in (-1, 0, 1, -1)]  # stops in front of the first
    check(outputs(result, node(result, "Slice", node(result, "Slice", "x:0", *numbers), *numbers)), "Slice", "Slice")


def test_reshapes_in_a_row_are_one_or_none():
    result = program((2, 3, 4))
    flat = node(result, "Reshape", "x:0", ints(result, 24))
    result.shapes[flat] = (24,)
    back = node(result, "Reshape", flat, ints(result, 2, 3, 4))
    result.shapes[back] = (2, 3, 4)
    other = node(result, "Reshape", flat, ints(result, 4, 3, 2))
    result.shapes[other] = (4, 3, 2)
    check(outputs(result, node(result, "Relu", back), other), "Relu", "Reshape")


def test_indices_lose_their_way_through_int32():
    result = program((2, 3, 4))
    found = result.add_node("TopK", ["x:0", ints(result, 2)], outputs=2, axis=-1)[1]
    narrow = node(result, "Cast", found, to=np.dtype(np.int32))
    wide = node(result, "Cast", narrow, to=np.dtype(np.int64))
    picked = node(result, "GatherElements", "x:0", wide, axis=2)
    check(outputs(result, picked), "TopK", "GatherElements")


def test_numbers_that_are_no_indices_keep_their_casts():
    result = program((2, 3, 4))
    wide = node(result, "Cast", "x:0", to=np.dtype(np.int64))
    narrow = node(result, "Cast", wide, to=np.dtype(np.int32))
    again = node(result, "Cast", node(result, "Cast", narrow, to=np.dtype(np.int64)), to=np.dtype(np.float32))
    check(outputs(result, again), "Cast", "Cast", "Cast", "Cast")
