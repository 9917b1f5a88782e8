"""Programs for any batch size, made of two programs for certain ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgelstm.converters.exporters.onnx.batch import batch_sizes, with_free_batch
from edgelstm.converters.exporters.onnx.program import Port, Program
from tests.converters.exporters.onnx.programs import ints, node, outputs, program, run
from tests.converters.tiny import floats

SIZES = (11, 13)


def merged(make: Any) -> Program | None:
    """Returns the program of any batch size of make(batch), None if there is none."""
    one, other = (make(size) for size in SIZES)
    return with_free_batch(one, other, SIZES)


def check(make: Any, *batches: int, **shape: int) -> None:
    """Expects the program of any batch size to answer as that of each does."""
    found = merged(make)
    assert found is not None
    assert found.inputs[0].shape[0] == "batch"
    for batch in batches or (1, 2, 11, 12):
        x = floats(batch, 6)
        np.testing.assert_array_equal(run(found, x)[0], run(make(batch), x)[0])


def of(batch: int, op: str, *constants: Any, rank: int = 2, swapped: bool = False, **attributes: Any) -> Program:
    """Returns a program of one operator on an input and constants."""
    result = program((batch, 6))
    values = [result.add_constant(np.asarray(constant)) for constant in constants]
    inputs = [*values, "x:0"] if swapped else ["x:0", *values]
    return outputs(result, node(result, op, *inputs, **attributes), ranks=(rank,))


def test_batch_sizes_stand_out():
    assert batch_sizes({11, 17, 5}) == (13, 19)
    assert batch_sizes(set(range(100))) == (47, 53)


def test_a_reshape_finds_out_the_batch():
    check(lambda batch: of(batch, "Reshape", np.asarray([batch, 3, 2]), rank=3))
    check(lambda batch: of(batch, "Reshape", np.asarray([batch * 2, 3])))


def test_shapes_are_computed():
    check(lambda batch: of(batch, "Expand", np.asarray([5, batch, 6]), rank=3))


def test_rows_are_repeated():
    rows = floats(1, 6)
    check(lambda batch: of(batch, "Add", np.tile(rows, (batch, 1))))
    check(lambda batch: of(batch, "Concat", np.tile(floats(3, 6), (batch, 1)), axis=0))


def test_outputs_may_be_multiples_of_the_batch():
    def make(batch: int) -> Program:
        result = of(batch, "Reshape", np.asarray([batch * 3, 2]))
        result.outputs = [Port("y", result.outputs[0].value, np.float32, (batch * 3, 2))]
        return result

    found = merged(make)
    assert found is not None
    assert found.outputs[0].shape == ("3*batch", 2)
    assert run(found, floats(4, 6))[0].shape == (12, 2)


@pytest.mark.parametrize(
    "make",
    [
        lambda batch: of(batch, "Relu" if batch == 11 else "Tanh"),
        lambda batch: of(batch, "Softmax", axis=0 if batch == 11 else 1),
        lambda batch: of(batch, "Mul", np.float32(1 / batch)),
        lambda batch: of(batch, "Expand", np.asarray([batch * batch, batch, 6]), rank=3),
        lambda batch: of(batch, "Expand", np.asarray([batch - 1, batch, 6]), rank=3),
        lambda batch: of(batch, "Add", floats(batch, 1)),
        lambda batch: of(batch, "Gather", np.arange(batch - 1), axis=0),
    ],
    ids=["operator", "attribute", "float", "square", "less_one", "rows", "length"],
)
def test_other_differences_are_no_batch(make):
    assert merged(make) is None


def test_a_program_that_reads_no_batch_has_none():
    def make(batch: int) -> Program:
        result = program((5, 6))
        return outputs(result, node(result, "Reshape", "x:0", ints(result, 5, 6)), ranks=(2,))

    assert merged(make) is None
