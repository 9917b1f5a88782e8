"""Fits the coefficients of edgelstm/native/kernels/activations.h and prints them.

    python tests/native/fit_activations.py

tanh(x) / x is P(x^2) / Q(x^2) with the least maximum of the relative error: a linear least-squares problem in the
coefficients once Q's last values divide both sides, solved again and again with weights that grow where the error is
largest (Lawson, "Contributions to the theory of linear least maximum approximation", 1961). sigmoid(x) - 1/2 is
tanh(x / 2) / 2, so it shares the fits.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


class Fit(NamedTuple):
    """A fit: its largest relative error, and the coefficients from the constant one up."""

    error: float
    p: Array
    q: Array


def fit_tanh(p_degree: int, q_degree: int, limit: float, *, rounds: int = 600, num_points: int = 12_000) -> Fit:
    """Fits tanh(x) / x for 0 < x <= limit."""
    nodes = np.cos(np.pi * (np.arange(num_points) + 0.5) / num_points)
    x = np.concatenate([limit * (nodes + 1) / 2, np.linspace(1e-3, limit, num_points)])
    truth, largest = np.tanh(x) / x, np.max(x) ** 2
    u = x**2 / largest
    powers_p, powers_q = (np.vander(u, degree + 1, increasing=True) for degree in (p_degree, q_degree))
    weights, divisor, best = np.ones_like(x), np.ones_like(x), None
    for _ in range(rounds):
        scale = np.sqrt(weights) / divisor
        matrix = np.concatenate([powers_p / truth[:, None], -powers_q[:, 1:]], axis=1) * scale[:, None]
        solution = np.linalg.lstsq(matrix, scale, rcond=None)[0]
        p, q = solution[: p_degree + 1], np.concatenate([[1.0], solution[p_degree + 1 :]])
        error = np.abs(powers_p @ p / (powers_q @ q) / truth - 1)
        if best is None or error.max() < best.error:
            best = Fit(
                float(error.max()), p / largest ** np.arange(p_degree + 1), q / largest ** np.arange(q_degree + 1)
            )
        divisor = np.abs(powers_q @ q)
        weights = weights * (error / error.max()) ** 0.7 + 1e-14
        weights /= weights.mean()
    assert best is not None
    return best


def sigmoid_of(fit: Fit) -> Fit:
    """The fit of (sigmoid(x) - 1/2) / x out of that of tanh."""
    quarters = [0.25 ** np.arange(len(part)) for part in (fit.p, fit.q)]
    return Fit(fit.error, fit.p * quarters[0] / 4, fit.q * quarters[1])


def main() -> None:
    precise = fit_tanh(4, 4, 9.02)
    fits = {
        "Precise tanh": precise,
        "Precise sigmoid": sigmoid_of(precise),
        "Coarse tanh": fit_tanh(3, 3, 8.0),
        "Coarse sigmoid": sigmoid_of(fit_tanh(2, 2, 4.0)),
    }
    for name, fit in fits.items():
        print(f"{name}: relative error {fit.error:.2g}")
        for letter, values in (("P", fit.p), ("Q", fit.q)):
            print(f"  {letter} = {', '.join(f'{value:.9g}f' for value in values)}")


if __name__ == "__main__":
    main()
