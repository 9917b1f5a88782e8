from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgelstm.targets.emulated.comparison import (
    DYNAMIC_TOLERANCE,
    FLOAT_TOLERANCE,
    Comparison,
    compare_outputs,
    tolerance_of,
)
from tests.one_operator import Op, Tensor, accumulator, one_operator

RNG = np.random.default_rng(0)
FLOATS = RNG.uniform(-2, 2, (1, 2, 50)).astype(np.float32)
FLOATS.flat[0], FLOATS.flat[1] = -2.0, 2.0
INTEGERS = RNG.integers(-128, 127, (1, 2000)).astype(np.int8)


def compare(there: np.ndarray, here: np.ndarray, tolerance: float = FLOAT_TOLERANCE) -> Comparison:
    return compare_outputs({"y": there}, {"y": here}, "litert 1", tolerance)


def test_the_same_outputs_agree() -> None:
    assert compare(FLOATS, FLOATS) == Comparison("litert 1", 0.0, 1.0)


@pytest.mark.parametrize("difference, agrees", [(0.9e-5, True), (1.1e-5, False)])
def test_floats_may_differ_by_a_share_of_their_range(difference: float, agrees: bool) -> None:
    other = FLOATS.astype(np.float64)
    other[0, 1, 3] += 4 * difference  # the range is 4
    found = compare(other, FLOATS.astype(np.float64))
    assert found.largest_difference == pytest.approx(difference)
    assert found.equal_share == 0.99
    assert (found.problem is None) is agrees


def test_a_difference_is_put_into_a_sentence() -> None:
    found = compare(FLOATS + np.float32(0.4), FLOATS)
    assert found.problem == (
        "The answers differ from those of litert 1 on this machine: 'y' by up to 0.1 of its range, more than 1e-05. "
        "Compare both with the Keras model before you trust either."
    )


def test_dynamic_range_models_may_differ_more() -> None:
    other = FLOATS + np.float32(4 * 4e-4)
    assert compare(other, FLOATS).problem is not None
    assert compare(other, FLOATS, DYNAMIC_TOLERANCE).problem is None


@pytest.mark.parametrize("num_different, agrees", [(2, True), (3, False)])
def test_one_integer_in_a_thousand_may_differ(num_different: int, agrees: bool) -> None:
    other = INTEGERS.copy()
    other[0, :num_different] += 1
    assert (compare(other, INTEGERS).problem is None) is agrees


def test_a_nan_on_one_side_is_a_difference_and_on_both_is_none() -> None:
    other = FLOATS.copy()
    other[0, 0, 5] = np.nan
    found = compare(other, FLOATS)
    assert (found.largest_difference, found.problem is not None) == (None, True)
    assert "NaN" in str(found.problem)
    assert compare(other, other).problem is None


def test_an_infinity_of_the_other_sign_is_a_difference() -> None:
    one, other = FLOATS.copy(), FLOATS.copy()
    one[0, 0, 5], other[0, 0, 5] = np.inf, -np.inf
    assert compare(one, other).problem is not None
    assert compare(one, one).problem is None


def test_a_constant_output_is_compared_by_its_size() -> None:
    constant = np.full((1, 4), 100.0, np.float32)
    assert compare(constant + np.float32(1e-4), constant).problem is None
    assert compare(constant + np.float32(1e-1), constant).problem is not None


@pytest.mark.parametrize("there", [{"z": FLOATS}, {"y": FLOATS[:, :1]}, {}])
def test_other_names_or_shapes_are_a_difference(there: dict[str, np.ndarray]) -> None:
    assert "other names or shapes" in str(compare_outputs(there, {"y": FLOATS}, "litert 1", 1.0).problem)


def test_it_goes_through_json() -> None:
    found = compare(FLOATS + 1, FLOATS)
    assert Comparison(**found.to_json()) == found


def test_the_tolerance_depends_on_the_dtypes_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "m.tflite"
    path.write_bytes(accumulator())
    assert tolerance_of(path) == FLOAT_TOLERANCE
    weights = Tensor("w", "int8", (2, 3), np.ones((2, 3), np.int8), scale=0.1)
    path.write_bytes(one_operator(Op.DEQUANTIZE, [weights], [Tensor("y", "float32", (2, 3))]))
    assert tolerance_of(path) == DYNAMIC_TOLERANCE
    path.write_bytes(b"no model")
    assert tolerance_of(path) == FLOAT_TOLERANCE
