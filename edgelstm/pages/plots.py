"""Plots of measurements, as SVG text."""

from __future__ import annotations

import functools
import io
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ParamSpec

import numpy as np

from edgelstm.errors import MissingExtraError
from edgelstm.pictures.base import BLUE, GREEN, GREY, ORANGE, new_figure
from edgelstm.targets.measurement import Measurement

MAX_POINTS = 400
"""Samples drawn for each measurement; the JSON holds all."""

COLORS = (BLUE, ORANGE, GREEN, "#8b5a9f", "#b0413e", "#5b7f8f", GREY)
WIDTH = 9.0
_LINE_HEIGHT, _GAP = 0.15, 0.065
"""Of legends: one line, and what is between two names; inches, as `WIDTH`."""
NAME_WIDTH = 34
"""Characters after which a name goes on in the next line."""

_STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "edgelstm",
    "font.family": "sans-serif",
    "font.size": 9.5,
    "text.parse_math": False,  # names of files are no formulas, whatever is in them
}

Named = Sequence[tuple[str, Measurement]]
P = ParamSpec("P")


def check_plots() -> None:
    """Finds out, before long work, whether plots can be drawn.

    Raises:
        MissingExtraError: If matplotlib is not installed.
    """
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise MissingExtraError('Pages with plots need matplotlib: pip install "edgelstm[train]".') from error


def _styled(draw: Callable[P, str]) -> Callable[P, str]:
    """Lets a plot be made in the style of the page: matplotlib reads some of it when it makes a text."""

    @functools.wraps(draw)
    def draw_styled(*args: P.args, **kwargs: P.kwargs) -> str:
        import matplotlib as mpl

        with mpl.rc_context(_STYLE):
            return draw(*args, **kwargs)

    return draw_styled


def has_samples(measurement: Measurement) -> bool:
    """Says whether single calls are known; some programs tell a summary only."""
    return any(measurement.groups_ns())


@_styled
def draw_distributions(measurements: Named) -> str:
    """Draws every sample, the middle 80 % as a box and the median as a line, on a logarithmic axis.

    Where single samples are not known: from least to most a thin line, from the median to nine in ten the box.
    """
    figure, axis = _new(0.6 * len(measurements) + 1.1)
    rng = np.random.default_rng(0)
    for row, (_, measurement) in enumerate(measurements):
        color, statistics = COLORS[row % len(COLORS)], measurement.statistics
        assert statistics
        if has_samples(measurement):
            samples = np.concatenate(measurement.groups_ns()) / 1e3
            shown = rng.choice(samples, min(len(samples), MAX_POINTS), replace=False)
            axis.plot(shown, row + rng.uniform(-0.28, 0.28, len(shown)), ".", color=color, alpha=0.25, markersize=3)
            left = float(np.percentile(samples, 10))
        else:
            axis.plot([statistics.min_us, statistics.max_us], [row, row], color=color, linewidth=1)
            left = statistics.p50_us
        p50, width = statistics.p50_us, statistics.p90_us - left
        axis.barh(row, width, left=left, height=0.62, color=color, alpha=0.2, edgecolor=color)
        axis.plot([p50, p50], [row - 0.36, row + 0.36], color=color, linewidth=2)
        axis.annotate(_time(p50), (p50, row - 0.38), ha="center", va="bottom", fontsize=8.5)
    _name_rows(axis, [name for name, _ in measurements])
    axis.set_xscale("log")
    _time_axis(axis.xaxis)
    told = {has_samples(measurement): None for _, measurement in measurements}
    axis.set_xlabel("time of one call: " + "; ".join(_DISTRIBUTION[key] for key in sorted(told, reverse=True)))
    return _svg(figure)


_DISTRIBUTION = {
    True: "each dot a call, box 10 to 90 %, line the median",
    False: "without dots only a summary is known: least to most, box 50 to 90 %",
}
"""What a row shows, by whether single samples are known."""


@_styled
def draw_course(measurements: Named) -> str:
    """Draws the samples in the order they were taken, the warm-up pale, so that drift and throttling are seen.

    Args:
        measurements: Those without samples are left out.
    """
    figure, axis = _new(3.2)
    for index, (name, measurement) in enumerate(measurements):
        color, start = COLORS[index % len(COLORS)], 0.0
        labelled = next((group for group in measurement.groups_ns() if group), None)
        for process in measurement.processes:
            for samples, alpha in ((process.warmup_ns, 0.25), (process.samples_ns, 0.9)):
                if not samples:
                    continue
                taken = np.asarray(samples, np.float64)
                step = max(1, len(taken) // MAX_POINTS)
                smooth = [float(np.median(taken[i : i + step])) / 1e3 for i in range(0, len(taken), step)]
                at = start + np.cumsum(taken)[::step][: len(smooth)] / 1e9
                label = _label(name) if samples is labelled else None
                axis.plot(at, smooth, color=color, alpha=alpha, linewidth=1, label=label)
                start += float(taken.sum()) / 1e9
    axis.set_yscale("log")
    _time_axis(axis.yaxis)
    axis.set_xlabel("seconds of calls, one process after the other; pale: warm-up")
    axis.set_ylabel("time of one call")
    _legend(axis)
    return _svg(figure)


@_styled
def draw_tradeoff(measurements: Named) -> str:
    """Draws size against latency; where scores are known each point says its own."""
    figure, axis = _new(3.6)
    for index, (name, measurement) in enumerate(measurements):
        size, color = measurement.size_bytes / 1024, COLORS[index % len(COLORS)]
        statistics, estimate = measurement.statistics, measurement.estimate
        if statistics:
            value, low, high = statistics.p50_us, statistics.p50_low_us, statistics.p50_high_us
        else:
            assert estimate
            value, low, high = estimate.latency_us, estimate.low_us, estimate.high_us
        ends = [[max(value - low, 0.0)], [max(high - value, 0.0)]]
        axis.errorbar(size, value, yerr=ends, fmt="o", color=color, capsize=3, markersize=7, label=_label(name))
        score = _score(measurement.accuracy or {})
        if score:
            axis.annotate(score, (size, value), xytext=(8, 6), textcoords="offset points", fontsize=8.5)
            axis.margins(x=0.25)  # room for it
    axis.set_xscale("log")
    axis.set_yscale("log")
    _time_axis(axis.yaxis)
    _logarithmic(axis.xaxis, lambda value: f"{value:g}")
    axis.set_xlabel("size of the file in KiB")
    axis.set_ylabel("time of one call")
    _legend(axis)
    return _svg(figure)


@_styled
def draw_scaling(series: Sequence[tuple[str, Sequence[tuple[int, float]]]], axis_name: str) -> str:
    """Draws how the latency grows.

    Args:
        series: Names, each with its points: value of the setting, latency in µs.
        axis_name: The setting: "threads", "batch" or "length".
    """
    figure, axis = _new(3.2)
    for index, (name, points) in enumerate(series):
        places, latencies = zip(*sorted(points), strict=True)
        axis.plot(places, latencies, "o-", color=COLORS[index % len(COLORS)], label=_label(name))
    values = sorted({value for _, points in series for value, _ in points})
    axis.set_xscale("log", base=2)
    axis.set_xticks(values, [str(value) for value in values])
    axis.set_yscale("log")
    _time_axis(axis.yaxis)
    axis.set_xlabel(axis_name)
    axis.set_ylabel("time of one call")
    _legend(axis)
    return _svg(figure)


@_styled
def draw_bars(names: Sequence[str], values: Sequence[float], label: str, text: Callable[[float], str]) -> str:
    """Draws one bar for each name.

    Args:
        names: From top to bottom.
        values: Their lengths.
        label: What the lengths are.
        text: Writes a length.
    """
    figure, axis = _new(_row_height(names) * len(names) + 1.0)
    axis.barh(range(len(names)), values, height=0.6, color=BLUE, alpha=0.85)
    for row, value in enumerate(values):
        axis.annotate(text(value), (value, row), xytext=(4, 0), textcoords="offset points", va="center", fontsize=8.5)
    _name_rows(axis, names)
    axis.set_xlim(0, 1.18 * (max(values) or 1.0))
    axis.set_xlabel(label)
    axis.xaxis.set_major_formatter(lambda value, _: text(value))
    return _svg(figure)


@_styled
def draw_parts(names: Sequence[str], parts: Sequence[Mapping[str, float]], label: str) -> str:
    """Draws one bar for each name, made of its parts.

    Args:
        names: From top to bottom.
        parts: Lengths by name of the part.
        label: What the lengths are.
    """
    figure, axis = _new(_row_height(names) * len(names) + 1.0)
    lefts = np.zeros(len(names))
    for index, part in enumerate(dict.fromkeys(part for each in parts for part in each)):
        values = np.array([each.get(part, 0.0) for each in parts])
        axis.barh(
            range(len(names)), values, left=lefts, height=0.6, color=COLORS[index % len(COLORS)], label=_label(part)
        )
        lefts += values
    _name_rows(axis, names)
    axis.set_xlabel(label)
    _legend(axis)
    return _svg(figure)


def _new(height: float) -> tuple[Any, Any]:
    figure = new_figure(WIDTH, height)
    axis = figure.subplots()
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(color="#e6e8eb", linewidth=0.7)
    axis.set_axisbelow(True)
    return figure, axis


def _score(accuracy: Mapping[str, Any]) -> str:
    """Returns the score that a card tells, empty if it tells none."""
    metric, value = accuracy.get("metric"), accuracy.get("value")
    return f"{metric} {value:.4g}" if metric and isinstance(value, (int, float)) else ""


def _row_height(names: Sequence[str]) -> float:
    """Returns the height of a bar with its space, in inches, so that no name touches the next."""
    return max(0.42, 0.17 * max(_folded(name).count("\n") + 1 for name in names) + 0.08)


def _name_rows(axis: Any, names: Sequence[str]) -> None:
    axis.set_yticks(range(len(names)), map(_folded, names))
    axis.set_ylim(len(names) - 0.4, -0.6)
    axis.grid(visible=False, axis="y")


def _legend(axis: Any) -> None:
    """Names the series at the right, in a figure that is high enough for all names."""
    handles = axis.get_legend_handles_labels()[0]
    names = [_folded(handle.get_label()) for handle in handles]
    num_lines = sum(name.count("\n") + 1 for name in names)
    least_height = _LINE_HEIGHT * num_lines + _GAP * len(names) + 0.6
    axis.figure.set_figheight(max(axis.figure.get_figheight(), least_height))
    axis.legend(handles, names, frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=8.5)


def _label(name: str) -> str:
    """Returns a label that legends do not leave out, as they do if it begins with "_"."""
    return f" {name}"


def _folded(name: str) -> str:
    """Returns a name in several lines if it is long: what it takes, the plot loses."""
    return textwrap.fill(name, NAME_WIDTH, break_on_hyphens=False)


def _time_axis(axis: Any) -> None:
    _logarithmic(axis, _time)


def _logarithmic(axis: Any, text: Callable[[float], str]) -> None:
    """Labels 1, 2 and 5 of each order of magnitude."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=12))
    axis.set_major_formatter(FuncFormatter(lambda value, _: text(value)))
    axis.set_minor_formatter(NullFormatter())


def _time(value_us: float) -> str:
    return f"{value_us:.3g} µs" if value_us < 1000 else f"{value_us / 1000:.3g} ms"


def _svg(figure: Any) -> str:
    file = io.StringIO()
    figure.savefig(file, format="svg", metadata={"Date": None})
    text = file.getvalue()
    return text[text.index("<svg") :]
