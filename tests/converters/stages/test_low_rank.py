from __future__ import annotations

import numpy as np
import pytest

from edgelstm.converters.stages.low_rank import LowRank, largest_saving, saves

RNG = np.random.default_rng(0)
WEIGHTS = RNG.normal(size=(9, 24)) * np.geomspace(1, 20, 24)
INPUTS = RNG.normal(size=(500, 9)) @ (RNG.normal(size=(9, 9)) * np.geomspace(0.05, 5, 9))
MOMENT = INPUTS.T @ INPUTS


def test_the_error_of_weights_is_that_of_the_theorem_of_eckart_and_young():
    cut = LowRank(WEIGHTS)
    singular = np.linalg.svd(WEIGHTS, compute_uv=False)
    for rank in range(1, 10):
        left, right = cut.factors(rank)
        assert left.shape == (9, rank)
        assert right.shape == (rank, 24)
        error = np.linalg.norm(WEIGHTS - left @ right)
        np.testing.assert_allclose(error, np.sqrt((singular[rank:] ** 2).sum()), atol=1e-9)
        np.testing.assert_allclose(cut.error(rank), error, atol=1e-9)


def test_the_error_of_outputs_is_the_least_that_any_matrix_of_the_rank_has():
    # The least error of outputs is what the singular values of the outputs themselves leave: X W' has rank r.
    cut = LowRank(WEIGHTS, MOMENT)
    singular = np.linalg.svd(INPUTS @ WEIGHTS, compute_uv=False)
    for rank in range(1, 9):
        left, right = cut.factors(rank)
        error = np.linalg.norm(INPUTS @ (WEIGHTS - left @ right))
        np.testing.assert_allclose(error, np.sqrt((singular[rank:] ** 2).sum()), rtol=1e-4)
        plain_left, plain_right = LowRank(WEIGHTS).factors(rank)
        assert error < 0.99 * np.linalg.norm(INPUTS @ (WEIGHTS - plain_left @ plain_right))


def test_weights_of_rows_are_a_diagonal_moment():
    counts = RNG.integers(1, 50, 9).astype(float)
    rows, matrix = LowRank(WEIGHTS, counts).factors(4), LowRank(WEIGHTS, np.diag(counts)).factors(4)
    np.testing.assert_allclose(rows[0] @ rows[1], matrix[0] @ matrix[1], rtol=1e-6)


def test_full_rank_gives_the_matrix_back_where_the_data_leave_inputs_out():
    inputs = INPUTS.copy()
    inputs[:, 3:6] = 0
    left, right = LowRank(WEIGHTS, inputs.T @ inputs).factors(9)
    np.testing.assert_allclose(left @ right, WEIGHTS, rtol=1e-6, atol=1e-8)


def test_the_rank_for_an_energy_is_the_least_that_keeps_it():
    cut = LowRank(WEIGHTS)
    for energy in (0.3, 0.8, 0.9, 0.99, 1.0):
        rank = cut.rank_for(energy)
        assert cut.kept(rank) >= energy - 1e-9
        assert rank == 1 or cut.kept(rank - 1) < energy


def test_energy_1_finds_the_rank_of_float32_weights():
    weights = (RNG.normal(size=(20, 3)) @ RNG.normal(size=(3, 40))).astype(np.float32)
    assert LowRank(weights).rank_for(1.0) == 3


def test_a_matrix_of_zeros_has_factors():
    left, right = LowRank(np.zeros((4, 6))).factors(LowRank(np.zeros((4, 6))).rank_for(0.9))
    assert np.array_equal(left @ right, np.zeros((4, 6)))


@pytest.mark.parametrize("rows, columns", [(9, 24), (24, 9), (2, 2), (1, 50), (64, 512), (3, 6)])
def test_the_largest_rank_that_saves_is_the_last(rows, columns):
    rank = largest_saving(rows, columns)
    assert rank == 0 or saves(rank, rows, columns)
    assert not saves(rank + 1, rows, columns)
