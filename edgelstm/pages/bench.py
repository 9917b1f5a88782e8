"""What `edgelstm bench` measured, as one page."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgelstm.artifact import write_file
from edgelstm.errors import OutputError
from edgelstm.pages import plots
from edgelstm.targets.harness import BenchResult
from edgelstm.targets.measurement import Measurement
from edgelstm.targets.naming import name_all
from edgelstm.targets.text import (
    format_us,
    further_rows,
    operator_times,
    silent_runtimes,
)

LABELS = {
    "measured": "measured",
    "emulated": "emulated: instruction counts, no latency",
    "estimated": "estimated, not measured",
}
_SETTINGS = ("threads", "batch", "length")

_CSS = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1d2430; max-width: 66rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; margin-bottom: 0; } h2 { font-size: 1.2rem; margin-top: 2.4rem; } h3 { font-size: 1rem; }
.kind { font-size: .8rem; font-weight: 600; padding: .1rem .5rem; border-radius: 1rem; margin-left: .5rem;
  vertical-align: middle; }
.measured { background: #dcebf3; } .emulated { background: #f9ead5; } .estimated { background: #ece3f2; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; display: block; overflow-x: auto;
  margin: 1rem 0; }
th, td { padding: .25rem .55rem; text-align: right; border-bottom: 1px solid #e6e8eb; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; } th { font-weight: 600; color: #566070; }
.note { color: #566070; } .warning { background: #fff4d6; padding: .3rem .7rem; margin: .3rem 0; }
svg { width: 100%; height: auto; } code { font-size: .85rem; overflow-wrap: anywhere; }
"""


def check_page(path: Path) -> None:
    """Finds out, before long work, whether a page can be written.

    Raises:
        MissingExtraError: If matplotlib is not installed.
        OutputError: If its folder is missing.
    """
    plots.check_plots()
    if not path.parent.is_dir():
        raise OutputError(f"Cannot write {path}: there is no folder {path.parent}. Create it, or name another.")


def write_page(path: Path, result: BenchResult, *, command: str) -> None:
    """Writes a page, whole or not at all.

    Args:
        path: The file.
        result: What was measured, at least one measurement.
        command: The command line that made it.

    Raises:
        OutputError: If it cannot be written.
    """
    write_file(path, _page(result, command).encode())


def _page(result: BenchResult, command: str) -> str:
    sections = []
    for target in dict.fromkeys(measurement.target for measurement in result.measurements):
        indices = [index for index, each in enumerate(result.measurements) if each.target == target]
        sections.append(_section(result, indices))
    failures = "".join(
        f'<p class="warning">{_text(each.artifact.name)} on {_text(each.target)}: {_text(each.message)}</p>'
        for each in result.failures
    )
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>edgelstm bench</title><style>{_CSS}</style></head><body>"
        f'<h1>edgelstm bench</h1><p class="note"><code>{_text(command)}</code></p>'
        + "".join(sections)
        + (f"<h2>Not measured</h2>{failures}" if failures else "")
        + "</body></html>\n"
    )


def _section(result: BenchResult, indices: Sequence[int]) -> str:
    """Returns what one target told."""
    first = result.measurements[indices[0]]
    chosen = [result.measurements[index] for index in indices]
    names = name_all(chosen)
    named = list(zip(names, chosen, strict=True))
    warnings = dict.fromkeys(f"{name}: {text}" for name, each in named for text in each.warnings)
    parts = [
        f'<h2>{_text(first.target)}<span class="kind {first.kind}">{LABELS[first.kind]}</span></h2>',
        f'<p class="note">{_text(_machine(first))}</p>',
        _table(result, indices, names),
        *([_html_table(further_rows(names, chosen))] if first.kind == "measured" else []),
        *(f'<p class="note">{_text(text)}</p>' for text in silent_runtimes(chosen)),
        *(f'<p class="warning">{_text(warning)}</p>' for warning in warnings),
        *_plots(first.kind, named),
    ]
    return "\n".join(parts)


def _plots(kind: str, named: plots.Named) -> Iterable[str]:
    if kind == "emulated":
        counts = [each.count.instructions / 1e6 for _, each in named if each.count]
        names = [name for name, _ in named]
        label = "million instructions in one inference, counted under emulation"
        yield "<h3>Instructions</h3>" + plots.draw_bars(names, counts, label, lambda value: f"{value:.3g}")
        return
    if kind == "measured":
        yield "<h3>Latency</h3>" + plots.draw_distributions(named)
        if any(plots.has_samples(each) for _, each in named):
            yield "<h3>In order</h3>" + plots.draw_course(named)
    if len({each.sha256 for _, each in named}) > 1:
        yield "<h3>Size against latency</h3>" + plots.draw_tradeoff(named)
    for setting in _SETTINGS:
        series = _series(named, setting)
        if series:
            yield f"<h3>Scaling over {setting}</h3>" + plots.draw_scaling(series, setting)
    for name, each in named:
        times = operator_times(each)
        if times:
            labels, values = [key for key, _, _ in times], [time_us for _, time_us, _ in times]
            bars = plots.draw_bars(labels, values, "µs in one inference", lambda value: f"{value:.3g}")
            yield f"<h3>Operators of {_text(name)}</h3>{bars}"
    if kind == "estimated":
        parts = [each.estimate.parts for _, each in named if each.estimate]
        bars = plots.draw_parts([name for name, _ in named], parts, "estimated µs of one call")
        yield f"<h3>Where the time goes, by the estimate</h3>{bars}"


def _series(named: plots.Named, setting: str) -> list[tuple[str, list[tuple[int, float]]]]:
    """Returns latencies in µs over the values of one setting, for what differs in nothing else."""
    latencies: dict[object, dict[int, float]] = {}
    models: dict[object, Measurement] = {}
    neutral: dict[str, Any] = {setting: 1}
    for _, each in named:
        value = getattr(each.settings, setting)
        if value is None:
            continue
        alike = replace(each, settings=replace(each.settings, **neutral))
        key = (each.sha256, each.artifact, each.runtime, alike.settings)
        models.setdefault(key, alike)
        latencies.setdefault(key, {}).setdefault(value, _latency_us(each))
    keys = [key for key, points in latencies.items() if len(points) > 1]
    names = name_all([models[key] for key in keys])
    return [(name, list(latencies[key].items())) for name, key in zip(names, keys, strict=True)]


def _latency_us(measurement: Measurement) -> float:
    if measurement.statistics:
        return measurement.statistics.p50_us
    assert measurement.estimate
    return measurement.estimate.latency_us


def _table(result: BenchResult, indices: Sequence[int], names: Sequence[str]) -> str:
    ratios = {comparison.other: comparison.ratio for comparison in result.comparisons}
    kind = result.measurements[indices[0]].kind
    header = {
        "measured": ("median", "95 % confidence", "min", "p90", "p99", "max", "calls"),
        "emulated": ("instructions", "multiply-adds", "loads", "stores"),
        "estimated": ("estimate", "error band"),
    }[kind]
    rows = [("", "KiB", *header, "ratio")]
    for name, index in zip(names, indices, strict=True):
        each, ratio = result.measurements[index], ratios.get(index)
        against = "1" if ratio is None else f"{ratio.value:.2f}"
        if ratio and ratio.is_known and ratio.low != ratio.high:
            against += f" ({ratio.low:.2f} to {ratio.high:.2f})"
        rows.append((name, f"{each.size_bytes / 1024:,.1f}", *_cells(each), against))
    return _html_table(rows)


def _html_table(rows: Sequence[Sequence[str]]) -> str:
    head, *body = ["".join(f"<{tag}>{_text(cell)}</{tag}>" for cell in row) for row, tag in _tagged(rows)]
    return f"<table><tr>{head}</tr>{''.join(f'<tr>{row}</tr>' for row in body)}</table>"


def _tagged(rows: Sequence[Sequence[str]]) -> Iterable[tuple[Sequence[str], str]]:
    return ((row, "td" if number else "th") for number, row in enumerate(rows))


def _cells(measurement: Measurement) -> tuple[str, ...]:
    if statistics := measurement.statistics:
        times = (statistics.min_us, statistics.p90_us, statistics.p99_us, statistics.max_us)
        low, high = format_us(statistics.p50_low_us), format_us(statistics.p50_high_us)
        band = "one process" if len(measurement.processes) == 1 else f"{low} to {high}"
        return format_us(statistics.p50_us), band, *map(format_us, times), str(statistics.num_samples)
    if count := measurement.count:
        parts = (count.parts.get(name) for name in ("multiply_adds", "loads", "stores"))
        return f"{count.instructions:,}", *("" if part is None else f"{part:,}" for part in parts)
    estimate = measurement.estimate
    assert estimate
    return format_us(estimate.latency_us), f"{format_us(estimate.low_us)} to {format_us(estimate.high_us)}"


def _machine(measurement: Measurement) -> str:
    """Returns what is known of the machine, in a line."""
    machine = measurement.machine
    gpu = machine.get("gpu") or {}
    known = [gpu.get("name"), machine.get("device"), machine.get("cpu"), machine.get("system")]
    cores = machine.get("num_cores")
    parts = [str(value) for value in known if value] + ([f"{cores} cores"] if cores else [])
    versions = [f"{measurement.runtime} {measurement.runtime_version}"] if measurement.kind != "estimated" else []
    return ", ".join([*dict.fromkeys(parts), *versions, *(f"{k} {v}" for k, v in measurement.versions.items())])


def _text(text: str) -> str:
    return html.escape(text)
