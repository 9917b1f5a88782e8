"""Clustering: the weights of a matrix share a few values, so that the file packs well."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np

from edgelstm.converters.loading.keras_import import import_keras
from edgelstm.converters.stages.base import Array, Outcome, Setting, Stage, Workshop
from edgelstm.converters.stages.cloning import copy_weights, independent_copy
from edgelstm.converters.stages.matrices import choose, notes_on_others, parse_overrides
from edgelstm.errors import SettingError

_MOST = 256
_ROUNDS = 300


class Cluster(Stage):
    """Weight sharing by k-means.

    Each variable of weights gets at most `clusters` distinct values, zero included. Which weights share a value is
    settled once, by k-means over the weights. The values are then trained: after every step of the optimizer, each
    weight becomes the mean of the weights that it shares its value with. With plain gradient descent this moves a value
    by the mean of the gradients of its weights, where the source takes their sum; optimizers that divide by the size of
    gradients, such as Adam, hardly tell the two apart.

    Source: Han, Mao and Dally, "Deep Compression", 2016, section 3 (k-means, the three ways to begin, training).
    """

    name: ClassVar[str] = "cluster"
    title: ClassVar[str] = "let the weights share a few values"
    settings: ClassVar[Mapping[str, Setting]] = {
        "clusters": Setting(16, "most distinct values of a matrix", 2, _MOST),
        "init": Setting("linear", "where k-means begins", choices=("linear", "kmeans++", "density")),
        "keep_zeros": Setting(True, "keep weights that are zero at zero"),
        "layers": Setting("all", "names or classes of layers to cluster, with commas between"),
        "overrides": Setting("", "clusters of single layers: layer=32, other=0"),
        "epochs": Setting(3, "epochs of training the shared values", 0),
        "learning_rate": Setting(0.0, "of that training; 0 for that of the data", 0),
    }

    def __init__(self, **values: Any) -> None:
        super().__init__(**values)
        self._overrides = parse_overrides(self._where("overrides"), self.word("overrides"))
        for selector, value in self._overrides.items():
            if value and (value != int(value) or not 2 <= value <= _MOST):
                raise SettingError(
                    f"{self._where('overrides')} for {selector!r} must be 0 or a whole number from 2 to {_MOST}, "
                    f"not {value:g}."
                )

    def apply(self, model: Any, workshop: Workshop) -> Outcome:
        """Returns a model with shared weights; see `Stage.apply`."""
        work = independent_copy(model)
        where = (self._where("layers"), self._where("overrides"))
        chosen = choose(work, where, self.word("layers"), self.number("clusters"), self._overrides)
        for number, (matrix, clusters) in enumerate(chosen):
            weights = matrix.read()
            groups = self._groups(weights, int(clusters), np.random.default_rng([workshop.seed, number]))
            _share(matrix.variable, groups, pinned=bool(self.values["keep_zeros"]) and bool(np.any(weights == 0)))
        workshop.finetune(work, epochs=int(self.number("epochs")), learning_rate=self.number("learning_rate") or None)
        result = independent_copy(model)
        copy_weights(work, result)
        matrices = [matrix for matrix, _ in chosen]
        counts = {matrix.name: len(np.unique(matrix.read())) for matrix in matrices}
        figures = {"distinct_values": max(counts.values()), "layers": counts}
        return Outcome(result, notes_on_others(work, matrices), figures)

    def weaker(self) -> Self | None:
        """Four times as many values, up to 256."""
        clusters = int(self.number("clusters"))
        return self.but(clusters=min(4 * clusters, _MOST)) if clusters < _MOST else None

    def _where(self, setting: str) -> str:
        return f"Setting {setting!r} of stage {self.name!r}"

    def _groups(self, weights: Array, clusters: int, rng: np.random.Generator) -> Array:
        """Returns the group of each weight, shape (weights,), int32; 0 is that of zeros where they are kept."""
        flat = weights.astype(np.float64).ravel()
        zeros = flat == 0
        if not self.values["keep_zeros"] or not zeros.any():
            return kmeans(flat, clusters, self.word("init"), rng)[1]
        groups = np.zeros(flat.shape, np.int32)
        if not zeros.all():
            groups[~zeros] = 1 + kmeans(flat[~zeros], clusters - 1, self.word("init"), rng)[1]
        return groups


def kmeans(values: Array, clusters: int, init: str, rng: np.random.Generator) -> tuple[Array, Array]:
    """Lloyd's algorithm on a line.

    Args:
        values: Shape (n,), float64, n at least 1.
        clusters: At most so many.
        init: "linear": evenly from the least to the greatest value; "density": evenly over the sorted values;
            "kmeans++": drawn, each with a probability that grows with the squared distance to those before.
            A centre that loses its values moves to the value that is farthest from its centre.
        rng: For "kmeans++".

    Returns:
        The centres in rising order, shape (k,) with k at most `clusters`, and of each value the number of its centre,
        shape (n,), int32. Centres without values are left out.

    Source: Han et al. 2016, section 3.2 (linear, density); Arthur and Vassilvitskii 2007 (kmeans++).
    """
    points, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    if len(points) <= clusters:
        return points, inverse.astype(np.int32).ravel()
    centres = _begin(points, counts, clusters, init, rng)
    masses = np.concatenate([[0.0], np.cumsum(counts)])
    moments = np.concatenate([[0.0], np.cumsum(counts * points)])
    edges = np.searchsorted(points, (centres[1:] + centres[:-1]) / 2)
    for _ in range(_ROUNDS):
        limits = np.concatenate([[0], edges, [len(points)]])
        mass = np.diff(masses[limits])
        centres = np.where(mass > 0, np.diff(moments[limits]) / np.maximum(mass, 1), centres)
        if not mass.all():
            centres = _refilled(points, centres, np.diff(limits))
        before, edges = edges, np.searchsorted(points, (centres[1:] + centres[:-1]) / 2)
        if np.array_equal(before, edges):
            break
    used, numbers = np.unique(np.searchsorted(edges, np.arange(len(points)), side="right"), return_inverse=True)
    return centres[used], numbers.ravel()[inverse.ravel()].astype(np.int32)


def _refilled(points: Array, centres: Array, sizes: Array) -> Array:
    """Moves centres without values to the values that are farthest from theirs."""
    distances = np.abs(points - np.repeat(centres, sizes))
    farthest = np.argsort(-distances, kind="stable")[: np.count_nonzero(sizes == 0)]
    return np.sort(np.concatenate([centres[sizes > 0], points[farthest]]))


def _begin(points: Array, counts: Array, clusters: int, init: str, rng: np.random.Generator) -> Array:
    """Returns the first centres in rising order, shape (clusters,)."""
    if init == "linear":
        return np.linspace(points[0], points[-1], clusters)
    if init == "density":
        quantiles = (np.arange(clusters) + 0.5) / clusters
        return np.asarray(points[np.searchsorted(np.cumsum(counts), quantiles * counts.sum())])
    centres = [rng.choice(points, p=counts / counts.sum())]
    distances = np.full(len(points), np.inf)
    while len(centres) < clusters:
        distances = np.minimum(distances, (points - centres[-1]) ** 2)
        odds = distances * counts
        centres.append(rng.choice(points, p=odds / odds.sum()))
    return np.sort(centres)


def _share(variable: Any, groups: Array, *, pinned: bool) -> None:
    """Makes the weights of a variable share values, now and after every step of training.

    Args:
        variable: A Keras variable.
        groups: The group of each weight, shape (weights,), int32.
        pinned: Whether group 0 is zero and stays so.
    """
    keras = import_keras()
    ops, constraint, shape = keras.ops, variable.constraint, tuple(variable.shape)
    sizes = np.bincount(groups)
    factors = 1 / np.maximum(sizes, 1)  # a group without weights has no value
    if pinned:
        factors[0] = 0
    # Variables, because constants would be written into every compiled step.
    members = keras.Variable(groups, trainable=False, dtype="int32")

    def project(weights: Any) -> Any:
        new = weights if constraint is None else constraint(weights)
        flat = ops.cast(ops.reshape(new, (-1,)), "float64")
        means = ops.segment_sum(flat, members.value, num_segments=len(sizes)) * ops.convert_to_tensor(factors)
        return ops.cast(ops.reshape(ops.take(means, members.value), shape), weights.dtype)

    variable.assign(project(variable))
    variable.constraint = project
