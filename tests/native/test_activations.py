"""The coefficients of tanh and sigmoid in the kernels, in float64; activations_test.cc checks what float32 adds."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from tests.native.fit_activations import fit_tanh

HEADER = Path(__file__).parents[2] / "edgelstm" / "native" / "kernels" / "activations.h"


def coefficients(fit: str, function: str) -> list[np.ndarray]:
    body = re.search(rf"struct {fit} {{(.*?)}};\n\n", HEADER.read_text(encoding="utf-8"), re.DOTALL)
    assert body is not None
    found = [re.search(rf"k{function}{letter}\[\] = {{([^}}]*)}}", body[1]) for letter in "PQ"]
    return [np.array([float(part.strip(" f")) for part in each[1].split(",")]) for each in found if each]


@pytest.mark.parametrize("fit, limit, bound", [("Precise", 9.02, 2.3e-8), ("Coarse", 8, 2.8e-6)])
def test_tanh(fit, limit, bound):
    x = np.linspace(1e-4, limit, 100_001)
    p, q = coefficients(fit, "Tanh")
    ratio = x * np.polyval(p[::-1], x * x) / np.polyval(q[::-1], x * x)
    assert np.abs(ratio / np.tanh(x) - 1).max() <= bound


@pytest.mark.parametrize("fit, limit, bound", [("Precise", 18.04, 1.1e-8), ("Coarse", 8, 6.8e-6)])
def test_sigmoid(fit, limit, bound):
    x = np.linspace(1e-4, limit, 100_001)
    p, q = coefficients(fit, "Sigmoid")
    ratio = 0.5 + x * np.polyval(p[::-1], x * x) / np.polyval(q[::-1], x * x)
    assert np.abs(ratio - 1 / (1 + np.exp(-x))).max() <= bound


def test_the_fit_finds_them_again():
    fit = fit_tanh(2, 2, 4.0, rounds=200, num_points=2000)
    p, q = coefficients("Coarse", "Sigmoid")
    powers = 4.0 ** np.arange(3)
    np.testing.assert_allclose(fit.p, p * powers * 4, rtol=1e-3)
    np.testing.assert_allclose(fit.q, q * powers, rtol=1e-3)
