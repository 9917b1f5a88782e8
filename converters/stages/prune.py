"""Pruning: the smallest weights become zeros, more and more of them while the model is trained on."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar, Self

import numpy as np

from edgelstm.converters.loading.keras_import import import_keras
from edgelstm.converters.stages.base import Array, Outcome, Setting, Stage, Workshop
from edgelstm.converters.stages.cloning import copy_weights, independent_copy
from edgelstm.converters.stages.matrices import Matrix, choose, notes_on_others, parse_overrides
from edgelstm.errors import MissingExtraError, SettingError

LEAST_SPARSITY = 1 / 3
"""With less zeros a file packs hardly better."""

_INSTALL = 'Install what pruning needs with: pip install "edgelstm[convert]"'


class Prune(Stage):
    """Gradual magnitude pruning.

    Every `every` steps of the ramp, the weights with the smallest magnitudes become zeros, as many as the schedule asks
    for by then. What is zero stays zero. The model is then trained on with fixed zeros. Each variable (the kernel of an
    LSTM, its recurrent kernel, ...) reaches its sparsity by itself: of its n blocks, round(sparsity * n) become zeros,
    but at least one stays.

    Blocks lie in the matrices of (inputs, outputs): the four gates of an LSTM and the positions of a convolution have a
    matrix each, and no block reaches from one into the next. What is left at an edge is a block, too. The magnitude of
    a block is the mean of its weights' absolute values.

    Source: Zhu and Gupta, "To prune, or not to prune", 2017 (schedule and magnitudes); the schedules themselves are
    those of tensorflow-model-optimization. Mishra et al., "Accelerating Sparse Deep Neural Networks", 2021 (N:M).
    """

    name: ClassVar[str] = "prune"
    title: ClassVar[str] = "set the smallest weights to zero"
    settings: ClassVar[Mapping[str, Setting]] = {
        "sparsity": Setting(0.8, "share of zeros in the end", 0, 1, open=True),
        "initial": Setting(0.0, "share of zeros at the beginning of the ramp", 0, 1),
        "schedule": Setting("polynomial", "how the share grows", choices=("polynomial", "constant")),
        "power": Setting(3.0, "exponent of the polynomial; more prunes earlier", 0, open=True),
        "block": Setting("1x1", "inputs x outputs that become zeros together, such as 1x4"),
        "pattern": Setting("", "N:M keeps N of M weights along the inputs; instead of sparsity and block"),
        "layers": Setting("all", "names or classes of layers to prune, with commas between"),
        "overrides": Setting("", "sparsity of single layers: layer=0.5, other=0"),
        "ramp_epochs": Setting(3, "epochs in which zeros become more", 0),
        "every": Setting(10, "steps from one pruning to the next", 1),
        "epochs": Setting(3, "epochs of training with fixed zeros afterwards", 0),
        "learning_rate": Setting(0.0, "of both trainings; 0 for that of the data", 0),
    }

    def __init__(self, **values: Any) -> None:
        super().__init__(**values)
        self._block = _block(self._where("block"), self.word("block"))
        self._pattern = _pattern(self._where("pattern"), self.word("pattern"))
        self._overrides = parse_overrides(self._where("overrides"), self.word("overrides"))
        self._check()

    def apply(self, model: Any, workshop: Workshop) -> Outcome:
        """Returns a model with zeros; see `Stage.apply`."""
        schedules = _schedules()
        work = independent_copy(model)
        where = (self._where("layers"), self._where("overrides"))
        chosen = choose(work, where, self.word("layers"), self._final, self._overrides)
        for matrix, _ in chosen:
            _hold_zeros(matrix.variable)

        def prune(step: int, steps: int) -> None:
            if step == steps or step % self.number("every") == 0:
                for matrix, final in chosen:
                    self._prune(matrix, self._share(schedules, final, step, steps), final)

        rate = self.number("learning_rate") or None
        prune(0, 1)
        ramp_epochs, epochs = int(self.number("ramp_epochs")), int(self.number("epochs"))
        workshop.finetune(work, epochs=ramp_epochs, learning_rate=rate, keep="last", after_step=prune, name="ramp")
        prune(1, 1)
        workshop.finetune(work, epochs=epochs, learning_rate=rate, name="fixed zeros")
        prune(1, 1)
        result = independent_copy(model)
        copy_weights(work, result)
        notes = (*notes_on_others(work, [matrix for matrix, _ in chosen]), *self._notes(chosen))
        return Outcome(result, notes, _figures([matrix for matrix, _ in chosen]))

    def weaker(self) -> Self | None:
        """Twice as many weights that stay, as long as a third becomes zero; a pattern has nothing weaker."""
        sparsity = 2 * self.number("sparsity") - 1
        if self.word("pattern") or sparsity < LEAST_SPARSITY:
            return None
        return self.but(sparsity=sparsity, initial=min(self.number("initial"), sparsity))

    def _where(self, setting: str) -> str:
        return f"Setting {setting!r} of stage {self.name!r}"

    @property
    def _final(self) -> float:
        if self._pattern is None:
            return self.number("sparsity")
        kept, group = self._pattern
        return 1 - kept / group

    def _check(self) -> None:
        """Refuses settings that contradict each other."""
        if self._pattern and self._block != (1, 1):
            raise SettingError(f"{self._where('pattern')} has blocks of its own: leave out the setting 'block'.")
        for selector, value in self._overrides.items():
            where = f"{self._where('overrides')} for {selector!r}"
            if self._pattern and value:
                raise SettingError(f"{where} must be 0 where a pattern is set, not {value:g}.")
            if not 0 <= value < 1:
                raise SettingError(f"{where} must be at least 0 and less than 1, not {value:g}.")
        if self.number("initial") > self._final:
            raise SettingError(
                f"{self._where('initial')} must be at most the final sparsity {self._final:g}, "
                f"not {self.number('initial'):g}."
            )

    def _share(self, schedules: Any, final: float, step: int, steps: int) -> float:
        """The share of zeros after a step: exactly `final` after the last."""
        if step >= steps:
            return final
        if self.word("schedule") == "constant":
            schedule = schedules.ConstantSparsity(final, 0)
        else:
            initial = min(self.number("initial"), final)
            schedule = schedules.PolynomialDecay(initial, final, 0, steps, self.number("power"))
        return float(schedule(step)[1])

    def _prune(self, matrix: Matrix, share: float, final: float) -> None:
        weights = matrix.read()
        pieces = np.abs(matrix.view.split(weights).astype(np.float64))
        if self._pattern is None:
            zeros = block_zeros(pieces, share, self._block)
        else:
            zeros = pattern_zeros(pieces, min(share / final, 1.0), *self._pattern)
        weights[matrix.view.join(zeros, weights.shape)] = 0
        matrix.variable.assign(weights)

    def _notes(self, chosen: list[tuple[Matrix, float]]) -> list[str]:
        whole = [matrix.name for matrix, _ in chosen if not np.any(matrix.read() == 0)]
        return [f"{name} has too few weights or blocks to prune any of them." for name in whole]


def block_zeros(magnitudes: Array, share: float, block: tuple[int, int]) -> Array:
    """Returns which weights become zeros, so that round(share * n) of n blocks do, but not all.

    Args:
        magnitudes: Absolute values, shape (pieces, rows, columns), float64.
        share: Of the blocks.
        block: Rows and columns of a block. The last ones of a matrix may be smaller.

    Returns:
        Shape (pieces, rows, columns), bool. Of equal blocks, the first ones become zeros.
    """
    _, rows, columns = magnitudes.shape
    row_starts, column_starts = np.arange(0, rows, block[0]), np.arange(0, columns, block[1])
    heights, widths = np.diff([*row_starts, rows]), np.diff([*column_starts, columns])
    sums = np.add.reduceat(np.add.reduceat(magnitudes, row_starts, axis=1), column_starts, axis=2)
    means = sums / np.outer(heights, widths)
    zeros = _smallest(means.ravel(), min(round(share * means.size), means.size - 1)).reshape(means.shape)
    return zeros.repeat(heights, axis=1).repeat(widths, axis=2)


def pattern_zeros(magnitudes: Array, progress: float, kept: int, group: int) -> Array:
    """Returns which weights become zeros, so that in the end of each `group` weights of a column `kept` stay.

    Args:
        magnitudes: Absolute values, shape (pieces, rows, columns), float64.
        progress: From 0 to 1, the share of those zeros that are due now, the smallest ones first.
        kept: Weights that stay. Of a last group with fewer than `group` weights, as many of them as there are.
        group: Weights that follow each other along the rows.

    Returns:
        Shape (pieces, rows, columns), bool.
    """
    pieces, rows, columns = magnitudes.shape
    missing = -rows % group
    padded = np.pad(magnitudes, ((0, 0), (0, missing), (0, 0)), constant_values=-1)
    groups = padded.reshape(pieces, -1, group, columns)
    ranks = groups.argsort(axis=2, kind="stable").argsort(axis=2, kind="stable")
    due = (ranks < group - kept).reshape(padded.shape)[:, :rows]
    candidates = magnitudes[due]
    zeros = np.zeros(magnitudes.shape, bool)
    zeros[due] = _smallest(candidates, round(progress * candidates.size))
    return zeros


def _smallest(values: Array, count: int) -> Array:
    """Returns which of the values are the `count` smallest, of equal ones the first."""
    if count <= 0:
        return np.zeros(values.shape, bool)
    edge = np.partition(values, count - 1)[count - 1]
    chosen = values < edge
    chosen[np.flatnonzero(values == edge)[: count - int(chosen.sum())]] = True
    return np.asarray(chosen)


def _figures(matrices: list[Matrix]) -> dict[str, Any]:
    zeros = {matrix.name: np.asarray(matrix.read() == 0) for matrix in matrices}
    count = sum(each.size for each in zeros.values())
    return {
        "sparsity": sum(int(each.sum()) for each in zeros.values()) / count,
        "weights": count,
        "layers": {name: float(each.mean()) for name, each in zeros.items()},
    }


def _hold_zeros(variable: Any) -> None:
    """Makes a variable keep its zeros in training.

    Which weights are zeros is read from the weights in every step, before they change, so an interrupted training that
    is given its weights back goes on with the same zeros. Keras reads the regularizer before and calls the constraint
    after the step; those that the variable has keep working.
    """
    keras = import_keras()
    keep = keras.Variable(np.asarray(variable.numpy() != 0), trainable=False, dtype="bool")
    regularizer, constraint = variable.regularizer, variable.constraint
    ops = keras.ops

    def remember(weights: Any) -> Any:
        keep.assign(ops.not_equal(weights, 0))
        return ops.zeros((), "float32") if regularizer is None else regularizer(weights)

    def restore(weights: Any) -> Any:
        new = weights if constraint is None else constraint(weights)
        return ops.where(keep, new, ops.zeros_like(new))

    variable.regularizer, variable.constraint = remember, restore


def _block(where: str, text: str) -> tuple[int, int]:
    found = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", text.strip())
    if found is None:
        raise SettingError(f"{where} must be two numbers from 1 on with an x between, such as 1x4, not {text!r}.")
    return int(found[1]), int(found[2])


def _pattern(where: str, text: str) -> tuple[int, int] | None:
    if not text.strip():
        return None
    found = re.fullmatch(r"([1-9]\d*):([1-9]\d*)", text.strip())
    if found is None or int(found[1]) >= int(found[2]):
        raise SettingError(f"{where} must be N:M with N from 1 on and less than M, such as 2:4, not {text!r}.")
    return int(found[1]), int(found[2])


def _schedules() -> ModuleType:
    """Loads the file of tensorflow-model-optimization with its schedules, and nothing else of that package.

    Importing the package sets TF_USE_LEGACY_KERAS for the whole process, loads tf_keras, and fails on Pythons without
    distutils. This file needs none of that.

    Raises:
        MissingExtraError: If the package is not installed, or is laid out otherwise.
    """
    import_keras()
    name = "edgelstm.converters.stages._tfmot_schedules"
    if name in sys.modules:
        return sys.modules[name]
    package = importlib.util.find_spec("tensorflow_model_optimization")
    if package is None or not package.submodule_search_locations:
        raise MissingExtraError(f"Pruning needs tensorflow-model-optimization, which is not installed. {_INSTALL}")
    path = Path(package.submodule_search_locations[0], "python/core/sparsity/keras/pruning_schedule.py")
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (OSError, ImportError) as error:
        raise MissingExtraError(
            f"The schedules of tensorflow-model-optimization cannot be loaded from {path}: {error}. {_INSTALL}"
        ) from error
    sys.modules[name] = module
    return module
