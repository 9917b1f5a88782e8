"""factorize: a layer that reads many features reads few mixtures of them instead.

The kernel W of a layer, shape (features, columns), becomes A B of shapes (features, rank) and (rank, columns): a Dense
without bias computes x A, and the layer itself, with the kernel B, reads that. Recurrent kernels stay as they are: a
factor in the middle of a recurrence is a projection of the hidden state (H. Sak et al., 2014), which Keras' LSTM does
not have.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np

from edgelstm.converters.loading.keras_import import import_keras
from edgelstm.converters.stages.base import Outcome, Setting, Stage, Workshop
from edgelstm.converters.stages.low_rank import LowRank, largest_saving, saves
from edgelstm.converters.stages.moments import input_moments
from edgelstm.converters.stages.narrowing import (
    assign_side_by_side,
    copy_all_but_kernels,
    readers_inside,
    side_by_side,
    unbuilt,
)
from edgelstm.converters.stages.surgery import named_layers, rebuild
from edgelstm.errors import SettingError, StageError

MOST_ENERGY = 0.99
"""Beyond it a guard looks for no weaker stage."""


@dataclass(frozen=True, eq=False)
class _Cut:
    """A layer whose kernel can be cut.

    Attributes:
        path: Of the layer.
        layer: The layer.
        low_rank: Of the kernels side by side.
    """

    path: str
    layer: Any
    low_rank: LowRank

    @property
    def shape(self) -> tuple[int, int]:
        rows, columns = self.low_rank.matrix.shape
        return rows, columns

    @property
    def largest(self) -> int:
        """The largest rank that saves something; 0 where none does."""
        return largest_saving(*self.shape)


class Factorize(Stage):
    """Cuts input kernels into two narrow factors, at a rank chosen by energy, by hand or by accuracy."""

    name = "factorize"
    title = "input kernels as products of two narrow ones (low rank)"
    settings: ClassVar[Mapping[str, Setting]] = {
        "energy": Setting(0.9, "share of squared singular values to keep", low=1e-6, high=1),
        "rank": Setting(0, "the same rank for every layer; 0 for that of the energy", low=0),
        "max_loss": Setting(
            0.0, "the lowest ranks by which the validation loss rises by no more than this share; 0 for none", low=0
        ),
        "data_aware": Setting(True, "least error of what layers compute on the data, rather than of their weights"),
        "layers": Setting("lstm", "which kinds of layers", choices=("lstm", "all")),
        "only": Setting("", "names of the only layers to factorize, with commas between"),
        "epochs": Setting(3, "passes of fine-tuning", low=0),
        "learning_rate": Setting(0.0, "of fine-tuning; 0 for that of the data", low=0),
    }

    def __init__(self, **values: Any) -> None:
        super().__init__(**values)
        if self.number("rank") and self.number("max_loss"):
            raise SettingError(
                f"Stage {self.name!r} was given both a rank and max_loss, which chooses the ranks. Leave one out."
            )

    def apply(self, model: Any, workshop: Workshop) -> Outcome:
        """Returns the model with factors, fine-tuned.

        Raises:
            StageError: If no layer can be factorized, or one of `only` does not exist.
            EdgeLSTMError: If fine-tuning fails.
        """
        layers, notes = self._layers(model)
        moments = input_moments(model, layers, workshop) if self.values["data_aware"] else {}
        cuts = [
            _Cut(path, layer, LowRank(side_by_side(readers_inside(layer)), moments.get(path)))
            for path, layer in layers.items()
        ]
        ranks = self._ranks_by_loss(model, cuts, workshop) if self.number("max_loss") else self._ranks(cuts)
        chosen = [cut for cut in cuts if ranks.get(cut.path)]
        notes += [self._left_alone(cut) for cut in cuts if cut not in chosen]
        if not chosen:
            raise StageError(f"Nothing in model {model.name!r} can be factorized. {' '.join(notes)}")
        for cut in chosen:
            workshop.report(f"{cut.path}: rank {ranks[cut.path]} of {cut.low_rank.full}")
        new = _factorized(model, chosen, ranks)
        workshop.finetune(
            new, epochs=int(self.number("epochs")), learning_rate=self.number("learning_rate") or None, name="factors"
        )
        figures = {
            "parameters": [int(model.count_params()), int(new.count_params())],
            "layers": {cut.path: _figures(cut, ranks[cut.path]) for cut in chosen},
        }
        return Outcome(new, tuple(notes), figures)

    def weaker(self) -> Self | None:
        """Twice the rank, or half the loss or energy that may go."""
        if self.number("rank"):
            return self.but(rank=2 * int(self.number("rank")))
        if self.number("max_loss"):
            return self.but(max_loss=self.number("max_loss") / 2)
        return self.but(energy=(1 + self.number("energy")) / 2) if self.number("energy") < MOST_ENERGY else None

    def _layers(self, model: Any) -> tuple[dict[str, Any], list[str]]:
        """The layers of the chosen kinds by path, and notes on those that must stay."""
        found, notes = {}, []
        for path, layer in named_layers(model).items():
            inner = readers_inside(layer)
            if not inner or not (self.values["layers"] == "all" or all(_is_lstm(each) for each in inner)):
                continue
            if any(each.kernel_constraint is not None for each in inner):
                notes.append(
                    f"Layer {path!r} is left as it is: its kernel has a constraint, which factors would break."
                )
                continue
            found[path] = layer
        wanted = [name.strip() for name in self.word("only").split(",") if name.strip()]
        for name in wanted:
            if name not in found:
                raise StageError(
                    f"Model {model.name!r} has no layer {name!r} that can be factorized. "
                    + (f"There are {', '.join(map(repr, found))}." if found else "There is none.")
                )
        if not found and not notes:
            raise StageError(f"Model {model.name!r} has no layer that can be factorized: no {self._kinds()}.")
        return {path: each for path, each in found.items() if not wanted or path in wanted}, notes

    def _kinds(self) -> str:
        return "LSTM" if self.values["layers"] == "lstm" else "recurrent layer and no Dense"

    def _ranks(self, cuts: Sequence[_Cut]) -> dict[str, int]:
        """Ranks of the layers in which they save something: the fixed one, or those of the energy."""
        fixed = int(self.number("rank"))
        ranks = {cut.path: fixed or cut.low_rank.rank_for(self.number("energy")) for cut in cuts}
        return {cut.path: ranks[cut.path] for cut in cuts if saves(ranks[cut.path], *cut.shape)}

    def _ranks_by_loss(self, model: Any, cuts: Sequence[_Cut], workshop: Workshop) -> dict[str, int]:
        """The lowest ranks for a loss, one layer after the other, each in the company of those cut before.

        Every layer may use up the same part of what the loss may rise by in all.
        """
        trial, _ = rebuild(model, lambda layer: None)
        same = named_layers(trial)
        before, ranks = workshop.loss(trial), {}
        for number, cut in enumerate(cuts, 1):
            limit = before + abs(before) * self.number("max_loss") * number / len(cuts)
            readers = readers_inside(same[cut.path])

            def is_good(rank: int, cut: _Cut = cut, readers: list[Any] = readers, limit: float = limit) -> bool:
                assign_side_by_side(readers, cut.low_rank.cut(rank))
                return workshop.loss(trial) <= limit

            ranks[cut.path] = rank = _lowest(is_good, cut.largest)
            assign_side_by_side(readers, cut.low_rank.cut(rank) if rank else cut.low_rank.matrix)
        return ranks

    def _left_alone(self, cut: _Cut) -> str:
        rows, columns = cut.shape
        start = f"Layer {cut.path!r} is left as it is: "
        if not cut.largest:
            return f"{start}no rank makes two factors smaller than its kernel of {rows} x {columns}."
        if self.number("max_loss"):
            return f"{start}no rank that saves anything (up to {cut.largest}) keeps the loss within its bound."
        rank = int(self.number("rank")) or cut.low_rank.rank_for(self.number("energy"))
        return f"{start}at rank {rank} two factors are no smaller than its kernel of {rows} x {columns}."


def _is_lstm(reader: Any) -> bool:
    return type(reader) is import_keras().layers.LSTMCell


def _lowest(is_good: Callable[[int], bool], most: int) -> int:
    """The lowest good number up to `most`, by bisection: 0 where not even that one is good."""
    if most < 1 or not is_good(most):
        return 0
    bad, good = 0, most
    while good - bad > 1:
        middle = (bad + good) // 2
        if is_good(middle):
            good = middle
        else:
            bad = middle
    return good


def _factorized(model: Any, cuts: Sequence[_Cut], ranks: Mapping[str, int]) -> Any:
    """Returns the model with two factors in the place of each kernel."""
    keras = import_keras()
    by_layer = {id(cut.layer): cut for cut in cuts}
    names = {path.rpartition("/")[2] for path in named_layers(model)}

    def change(layer: Any) -> tuple[Any, Any] | None:
        cut = by_layer.get(id(layer))
        if cut is None:
            return None
        name = f"{layer.name}_factor"
        while name in names:
            name += "_factor"
        names.add(name)
        rank = ranks[cut.path]
        dense = keras.layers.Dense(rank, use_bias=False, name=name, dtype=layer.dtype_policy, trainable=layer.trainable)
        return dense, unbuilt(layer)

    new, made = rebuild(model, change)
    for cut in cuts:
        dense, layer = made[cut.path]
        left, right = cut.low_rank.factors(ranks[cut.path])
        dense.kernel.assign(left.astype(np.float32))
        copy_all_but_kernels(cut.layer, layer)
        assign_side_by_side(readers_inside(layer), right)
    return new


def _figures(cut: _Cut, rank: int) -> dict[str, Any]:
    rows, columns = cut.shape
    return {
        "rank": rank,
        "of": cut.low_rank.full,
        "energy": cut.low_rank.kept(rank),
        "kernel": [rows * columns, rank * (rows + columns)],
    }
