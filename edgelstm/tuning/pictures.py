"""Pictures of a study: its course, the losses by setting, what matters most, and the losses by epoch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgelstm.pictures.base import BLUE, GREY, ORANGE, new_figure, save_figure
from edgelstm.tasks.settings import Setting
from edgelstm.tuning.entries import COMPLETE, PRUNED, Entry
from edgelstm.tuning.results import best_of
from edgelstm.tuning.space import Space

_LOSS = "validation loss"
_MAX_COLUMNS = 4
_MAX_NAMED = 12
_SEED = 0


def draw_study(study: Any, entries: Sequence[Entry], space: Space, folder: Path) -> list[Path]:
    """Draws history.png, slices.png and epochs.png, and importances.png where it can be said what matters.

    Args:
        study: The study of Optuna.
        entries: Its trials, at least one of them complete.
        space: What was searched.
        folder: Where the pictures are written.

    Returns:
        The pictures.

    Raises:
        OutputError: If they cannot be written.
    """
    figures = {
        "history": _history(entries),
        "slices": _slices(entries, space),
        "epochs": _epochs(entries),
        "importances": _importances(study, entries, space),
    }
    paths = []
    for name, figure in figures.items():
        path = folder / f"{name}.png"
        if figure is None:
            path.unlink(missing_ok=True)
        else:
            save_figure(figure, path)
            paths.append(path)
    return paths


def _history(entries: Sequence[Entry]) -> Any:
    figure, axis = _figure(6.5, 4.0)
    _scatter(axis, entries, lambda each: each.number)
    numbers: list[int] = []
    lowest: list[float] = []
    for each in entries:
        if each.state == COMPLETE and each.loss is not None:
            numbers.append(each.number)
            lowest.append(min([each.loss, *lowest[-1:]]))
    axis.step(
        [*numbers, len(entries)], [*lowest, lowest[-1]], where="post", color=GREY, label="lowest so far", zorder=1
    )
    axis.set_xlabel("trial")
    axis.set_ylabel(_LOSS)
    axis.set_xlim(0.5, len(entries) + 0.5)
    axis.xaxis.get_major_locator().set_params(integer=True)
    _legend(figure, axis)
    return figure


def _slices(entries: Sequence[Entry], space: Space) -> Any:
    columns = min(_MAX_COLUMNS, len(space))
    rows = math.ceil(len(space) / columns)
    figure, axes = _figure(max(5.0, 3.2 * columns), 3.2 * rows + 0.4, rows, columns)
    flat = list(axes.flat) if len(space) > 1 else [axes]
    for index, (axis, (name, where)) in enumerate(zip(flat, space.items(), strict=False)):
        value = _place(name, where)
        shown = [each for each in entries if name in each.settings]
        _scatter(axis, shown, value)
        _name_values(axis, where)
        axis.set_xlabel(name)
        if index % columns == 0:
            axis.set_ylabel(_LOSS)
    for axis in flat[len(space) :]:
        axis.set_visible(False)
    _legend(figure, flat[0])
    return figure


def _epochs(entries: Sequence[Entry]) -> Any:
    figure, axis = _figure(6.5, 4.0)
    best = best_of(entries)
    for each in entries:
        if each.state not in (COMPLETE, PRUNED) or not each.losses:
            continue
        ended = each.state == PRUNED
        epochs, losses = [epoch + 1 for epoch in each.losses], list(each.losses.values())
        if each is best:
            axis.plot(epochs, losses, "o-", markersize=3, color=BLUE, linewidth=2.2, label="best trial", zorder=3)
        else:
            color, label = (ORANGE, "ended early") if ended else (GREY, "complete")
            axis.plot(epochs, losses, "-", color=color, linewidth=0.9, alpha=0.8, label=label)
        if ended:
            axis.plot(epochs[-1:], losses[-1:], "x", color=ORANGE, markersize=5)
    axis.set_xlabel("epoch")
    axis.set_ylabel(_LOSS)
    axis.xaxis.get_major_locator().set_params(integer=True)
    _legend(figure, axis)
    return figure


def _importances(study: Any, entries: Sequence[Entry], space: Space) -> Any:
    """Shares of the variance of the loss; nothing if there is too little to say so."""
    import optuna

    losses = {each.loss for each in entries if each.state == COMPLETE}
    varied = [name for name in space if len({each.settings.get(name) for each in entries}) > 1]
    if len(losses) < 2 or not varied:
        return None
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=_SEED)
    try:
        shares: Mapping[str, float] = optuna.importance.get_param_importances(study, evaluator=evaluator)
    except (ImportError, RuntimeError, ValueError):  # too few trials for the forest that is asked
        return None
    ordered = sorted(shares.items(), key=lambda item: item[1])
    figure, axis = _figure(6.5, 1.2 + 0.4 * len(ordered))
    bars = axis.barh([name for name, _ in ordered], [share for _, share in ordered], color=BLUE, height=0.6)
    axis.bar_label(bars, [f"{share:.0%}" for _, share in ordered], padding=4)
    axis.set_xlim(0, 1.12 * max(shares.values()))
    axis.xaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
    axis.set_xlabel(f"share of the variation of the {_LOSS}")
    return figure


def _figure(width: float, height: float, rows: int = 1, columns: int = 1) -> tuple[Any, Any]:
    figure = new_figure(width, height)
    axes = figure.subplots(rows, columns, sharey=rows * columns > 1)
    for axis in figure.axes:
        axis.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _scatter(axis: Any, entries: Sequence[Entry], place: Any) -> None:
    """One dot for each trial with a loss: complete, ended early, and the best one."""
    best = best_of(entries)
    kinds = [
        (COMPLETE, "complete", {"color": BLUE, "s": 28}),
        (PRUNED, "ended early", {"edgecolors": ORANGE, "facecolors": "none", "s": 28}),
    ]
    for state, label, style in kinds:
        shown = [each for each in entries if each.state == state and each.loss is not None and each is not best]
        if shown:
            axis.scatter([place(each) for each in shown], [each.loss for each in shown], label=label, **style)
    if best is not None:
        axis.scatter([place(best)], [best.loss], marker="*", s=170, color=BLUE, label="best trial", zorder=3)


def _place(name: str, where: Any) -> Any:
    """Where a trial stands on the axis of a setting: its value, or the position of a value that is no number."""
    if isinstance(where, tuple):
        return lambda each: where.index(each.settings[name])
    return lambda each: each.settings[name]


def _name_values(axis: Any, where: Any) -> None:
    if not isinstance(where, tuple):
        axis.margins(x=0.08)
        if where.log:
            axis.set_xscale("log")
        elif float(where.low).is_integer() and float(where.high).is_integer() and where.high - where.low >= 4:
            axis.xaxis.get_major_locator().set_params(integer=True)
        return
    axis.set_xlim(-0.6, len(where) - 0.4)
    every = math.ceil(len(where) / _MAX_NAMED)
    labels = [_label(value) for value in where]
    leaning = sum(map(len, labels[::every])) > 24
    axis.set_xticks(
        range(0, len(where), every), labels[::every], rotation=35 if leaning else 0, ha="right" if leaning else "center"
    )


def _label(value: Setting) -> str:
    text = str(value)
    return text if len(text) <= 16 else f"{text[:15]}…"


def _legend(figure: Any, axis: Any) -> None:
    """One entry for each kind, above the picture."""
    handles, labels = axis.get_legend_handles_labels()
    found = dict(zip(labels, handles, strict=True))
    order = [name for name in ("best trial", "complete", "ended early", "lowest so far") if name in found]
    figure.legend([found[name] for name in order], order, loc="outside upper left", ncols=len(order), frameon=False)
