"""Removing whole hidden units of LSTMs: the model is simply smaller, on every runtime."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any, ClassVar, Self

from edgelstm.converters.stages.base import Outcome, Setting, Stage, Workshop
from edgelstm.converters.stages.surgery import named_layers, rebuild
from edgelstm.converters.stages.units.choice import Group, Names, groups, kept_units, least_units, left_alone
from edgelstm.converters.stages.units.cut import cut
from edgelstm.converters.stages.units.importance import lasso_penalty, norms, taylor, weights_of
from edgelstm.converters.stages.units.trace import Trace
from edgelstm.errors import StageError

LEAST_FRACTION = 0.05
"""A cut below this is not worth a training."""

_KINDS = {"lstm": ("lstm",), "all": ("lstm", "rnn", "dense", "conv")}


class PruneUnits(Stage):
    """Removes the least important units, with all weights that belong to them.

    A unit is a column in all four gates of an LSTM, a row of its recurrent kernel, and a row of everything that reads
    it. Units that meet (in a sum, or as an initial state) go together.
    """

    name: ClassVar[str] = "prune-units"
    title: ClassVar[str] = "removes whole units of LSTMs"
    settings: ClassVar[Mapping[str, Setting]] = {
        "fraction": Setting(0.5, "share of the units of each layer that goes", low=0, high=1, open=True),
        "layers": Setting(
            "lstm", "LSTMs, or hidden Dense, Conv and other recurrent layers as well", choices=tuple(_KINDS)
        ),
        "only": Setting("", "names of layers of any kind, with commas; empty for all"),
        "importance": Setting("norm", "what a unit is judged by", choices=("norm", "taylor", "lasso")),
        "lasso": Setting(1e-3, "factor of the group-lasso penalty, for importance 'lasso'", low=0, high=10),
        "lasso_epochs": Setting(5, "epochs with this penalty", low=1, high=10_000),
        "steps": Setting(1, "cuts, each with fine-tuning after it", low=1, high=100),
        "epochs": Setting(3, "epochs of fine-tuning after each cut", low=0, high=10_000),
        "learning_rate": Setting(0.0, "of fine-tuning; 0 for that of the data", low=0, high=10),
        "multiple_of": Setting(1, "the units that stay are rounded up to a multiple of it", low=1, high=4096),
        "min_units": Setting(1, "at least so many units stay", low=1, high=1_000_000),
    }

    def apply(self, model: Any, workshop: Workshop) -> Outcome:
        """Returns the model without some units; see `Stage.apply`."""
        trace = Trace(model)
        only = self._only(model)
        # Whoever names a layer wants it cut, whatever its kind.
        found = groups(trace, _KINDS["all" if only else self.word("layers")], only)
        kept = {group.names: self._kept(group) for group in found}
        if not any(kept[group.names] < len(group.roots) for group in found):
            raise StageError(self._nothing(model, trace, found, only))
        smaller = self._lasso(model, workshop) if self.word("importance") == "lasso" else model
        for step in range(1, int(self.number("steps")) + 1):
            smaller = self._step(smaller, workshop, found, kept, step)
        return Outcome(smaller, self._notes(trace, only), _figures(trace, Trace(smaller)))

    def weaker(self) -> Self | None:
        """Half the fraction, down to 5 %."""
        half = self.number("fraction") / 2
        return self.but(fraction=half) if half >= LEAST_FRACTION else None

    def _kept(self, group: Group) -> int:
        return kept_units(
            group, self.number("fraction"), int(self.number("multiple_of")), int(self.number("min_units"))
        )

    def _step(self, model: Any, workshop: Workshop, start: list[Group], kept: Mapping[Names, int], step: int) -> Any:
        """Cuts as much as is due at one of the steps, and fine-tunes."""
        trace, steps = Trace(model), int(self.number("steps"))
        due = {
            group.names: len(group.roots) - round((len(group.roots) - kept[group.names]) * step / steps)
            for group in start
        }
        by_slope = self.word("importance") == "taylor"
        worth = taylor(trace, workshop.train, workshop.label_loss) if by_slope else norms(trace)
        smaller = cut(trace, least_units(trace, due, groups(trace, _KINDS["all"]), worth))
        workshop.report(f"Step {step} of {steps}: {_sizes(Trace(smaller))}.")
        workshop.finetune(
            smaller, epochs=int(self.number("epochs")), learning_rate=self._learning_rate(), name=f"step {step}"
        )
        return smaller

    def _lasso(self, model: Any, workshop: Workshop) -> Any:
        """Returns a copy of a model, trained with a penalty that drives whole units to zero."""
        copy, _ = rebuild(model, lambda _: None)
        trace = Trace(copy)
        weight = next(each for each in weights_of(trace) if each.trainable)
        before, weight.regularizer = weight.regularizer, lasso_penalty(trace, self.number("lasso"))
        try:
            workshop.finetune(
                copy,
                epochs=int(self.number("lasso_epochs")),
                learning_rate=self._learning_rate(),
                keep="last",
                name="lasso",
            )
        finally:
            weight.regularizer = before
        return copy

    def _learning_rate(self) -> float | None:
        return self.number("learning_rate") or None

    def _only(self, model: Any) -> set[str]:
        """Returns the paths of the layers that the setting `only` names."""
        layers = named_layers(model)
        chosen: set[str] = set()
        for name in filter(None, (each.strip() for each in self.word("only").split(","))):
            paths = {path for path in layers if name in (path, path.rpartition("/")[2])}
            if not paths:
                near = difflib.get_close_matches(name, layers, n=1, cutoff=0)
                raise StageError(
                    f"Model {model.name!r} has no layer {name!r}, which setting 'only' names; the nearest is "
                    f"{near[0]!r}."
                    if near
                    else f"Model {model.name!r} has no layers."
                )
            chosen |= paths
        return chosen

    def _nothing(self, model: Any, trace: Trace, found: list[Group], only: set[str]) -> str:
        if found:
            sizes = ", ".join(f"{'+'.join(group.names)} with {len(group.roots)}" for group in found)
            return (
                f"No unit of model {model.name!r} goes with fraction {self.number('fraction'):g}, multiple_of "
                f"{self.values['multiple_of']} and min_units {self.values['min_units']}: the layers are {sizes}."
            )
        reasons = "; ".join(self._notes(trace, only)) or f"it has no layers for layers {self.word('layers')!r}"
        return f"No unit of model {model.name!r} can be cut: {reasons.rstrip('.')}."

    def _notes(self, trace: Trace, only: set[str]) -> tuple[str, ...]:
        """Tells which layers were left alone; a Dense or Conv layer that makes an output goes without saying."""
        kinds = _KINDS["all"] if only else ("lstm",)
        paths = {source.name: source.path for source in trace.sources}
        return tuple(
            f"Layer {name!r} keeps its units: {reason}."
            for name, reason in left_alone(trace, kinds).items()
            if not only or paths[name] in only
        )


def _sizes(trace: Trace) -> str:
    return ", ".join(f"{each.name} {len(each.ids)}" for each in trace.sources if each.kind != "other")


def _figures(before: Trace, after: Trace) -> dict[str, Any]:
    left = {each.name: len(each.ids) for each in after.sources}
    units = {each.name: [len(each.ids), left[each.name]] for each in before.sources}
    return {
        "parameters": [int(each.model.count_params()) for each in (before, after)],
        "layers": {name: sizes for name, sizes in units.items() if sizes[0] != sizes[1]},
    }
