"""Results as text of at most 80 columns, but for long names of files."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from edgelstm.targets.harness import BenchResult
from edgelstm.targets.measurement import Estimate, InstructionCount, Measurement, ProcessSamples
from edgelstm.targets.naming import name_all
from edgelstm.targets.regression import RegressionReport
from edgelstm.targets.statistics import Statistics

WIDTH = 80
_EMULATED = "instructions counted under emulation, not a latency"
_ONE_PROCESS = "  One process each: --plan full tells how sure the ratios are."
_ESTIMATED = "estimated from the device's peak rates, not measured"


def describe(measurement: Measurement) -> str:
    """Returns what a person wants to know first of one measurement, in a few lines."""
    head = f"{measurement.artifact.name} ({measurement.size_bytes:,} bytes), {measurement.kind} on {measurement.target}"
    machine = measurement.machine.get("device") if measurement.kind != "measured" else None
    lines = [
        head,
        f"  machine     {machine or _machine(measurement)}, {measurement.settings.describe()}",
        *([f"  runtime     {measurement.runtime} {measurement.runtime_version}"] if _has_runtime(measurement) else []),
    ]
    if measurement.statistics:
        lines += _latency_lines(measurement.statistics, measurement.processes, measurement.settings.batch)
    if measurement.count:
        lines += _count_lines(measurement.count)
    if measurement.estimate:
        lines += _estimate_lines(measurement.estimate)
    return "\n".join([*lines, *(line for text in measurement.warnings for line in _wrapped(f"warning: {text}"))])


def format_result(result: BenchResult) -> str:
    """Returns all that was measured: in full for one measurement, else one table for each target."""
    if len(result.measurements) == 1:
        return describe(result.measurements[0])
    ratios = {comparison.other: comparison.ratio for comparison in result.comparisons}
    blocks = []
    for target in dict.fromkeys(measurement.target for measurement in result.measurements):
        rows = [(index, each) for index, each in enumerate(result.measurements) if each.target == target]
        first = rows[0][1]
        header, cells = _COLUMNS[first.kind]
        table = [("", "KiB", *header, "ratio", "")]
        names = name_all([each for _, each in rows])
        for name, (index, each) in zip(names, rows, strict=True):
            ratio = ratios.get(index)
            value = f"{ratio.value:.2f}" if ratio else "1"
            spread = f"{ratio.low:.2f}-{ratio.high:.2f}" if ratio and ratio.is_known and ratio.low != ratio.high else ""
            table.append((name, f"{each.size_bytes / 1024:.1f}", *cells(each), value, spread))
        note = [_ONE_PROCESS] if len(rows) > 1 and len(first.processes) == 1 else []
        warnings = _warnings(names, [each for _, each in rows])
        blocks.append("\n".join([*_title(first), *_table(table), *note, *warnings]))
    return "\n\n".join(blocks)


def format_regressions(report: RegressionReport) -> str:
    """Returns what became of each model since the earlier run, the slower ones first."""
    order = {"slower": 0, "unsure": 1, "same": 2, "faster": 3}
    changes = sorted(report.changes, key=lambda change: order[change.verdict])
    rows = [("", "target", "new/old", "", "")]
    for each in changes:
        spread = f"{each.ratio.low:.3f}-{each.ratio.high:.3f}" if each.ratio.low != each.ratio.high else ""
        rows.append(
            (f"{each.artifact} ({each.settings})", each.target, f"{each.ratio.value:.3f}", spread, each.verdict)
        )
    lines = _table(rows) if changes else ["Nothing was measured in both."]
    lines += [f"only in the old run: {title}" for title in report.missing]
    lines += [f"only in the new run: {title}" for title in report.added]
    num_slower = sum(change.verdict == "slower" for change in changes)
    verdict = f"{num_slower} of {len(changes)} slower beyond the noise" if num_slower else "no regression"
    if report.missing:
        verdict += f", {len(report.missing)} not measured any more"
    return "\n".join([*lines, f"{verdict[0].upper()}{verdict[1:]}."])


def format_us(duration_us: float) -> str:
    """Returns a duration in a unit that leaves one to three digits before the point."""
    for factor, unit in ((1.0, "µs"), (1e3, "ms")):
        if duration_us < 999.5 * factor:
            return f"{duration_us / factor:.3g} {unit}"
    return f"{duration_us / 1e6:.3g} s"


def _machine(measurement: Measurement) -> str:
    machine = measurement.machine
    gpu = machine.get("gpu")
    if gpu:
        return str(gpu.get("name"))
    device, cpu = machine.get("device"), machine.get("cpu") or "unknown processor"
    return f"{device} ({cpu})" if device and measurement.target != "cpu" else str(cpu)


def _has_runtime(measurement: Measurement) -> bool:
    return measurement.kind != "estimated"


def _title(measurement: Measurement) -> list[str]:
    version = f"{measurement.runtime} {measurement.runtime_version}"
    if measurement.kind == "measured":
        return _wrapped(f"{measurement.target}: {_machine(measurement)}, {version}")
    device = measurement.machine.get("device") or measurement.machine.get("cpu")
    if measurement.kind == "emulated":
        return [*_wrapped(f"{measurement.target}: {device}, {version}"), f"  {_EMULATED}"]
    return [*_wrapped(f"{measurement.target}: {device}"), f"  {_ESTIMATED}"]


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, subsequent_indent="  ", break_on_hyphens=False, break_long_words=False)


def _latency_lines(statistics: Statistics, processes: Sequence[ProcessSamples], batch: int | None) -> list[str]:
    first = min(processes, key=lambda process: process.load_us)
    per_s = 1e6 * (batch or 1) / statistics.p50_us
    rate = f"{f'{per_s:,.0f}' if per_s >= 100 else f'{per_s:.3g}'} {'inputs' if batch else 'calls'}/s"
    return [
        f"  median      {format_us(statistics.p50_us)} ({statistics.confidence:.0%} confidence "
        f"{format_us(statistics.p50_low_us)} to {format_us(statistics.p50_high_us)}), {rate}",
        f"  p90, p99    {format_us(statistics.p90_us)}, {format_us(statistics.p99_us)}",
        f"  min, max    {format_us(statistics.min_us)}, {format_us(statistics.max_us)} of "
        f"{statistics.num_samples} calls",
        *_start_lines(first),
        *_memory_lines(first),
        *_energy_lines(processes),
    ]


def _start_lines(process: ProcessSamples) -> list[str]:
    parts = f"load {format_us(process.load_us)}, first call {format_us(process.first_invoke_us)}"
    cold = process.cold_start or {}
    whole = [cold.get(name) for name in ("process_us", "import_us", "load_us", "first_invoke_us")]
    known = [value for value in whole if value is not None]
    total = f"{format_us(sum(known))} to the first answer: " if len(known) == len(whole) else ""
    return [f"  start       {total}{parts}"]


def _memory_lines(process: ProcessSamples) -> list[str]:
    if process.base_rss_bytes is None or process.peak_rss_bytes is None:
        return []
    model_bytes = process.peak_rss_bytes - process.base_rss_bytes
    arena = f", arena {process.arena_bytes / 1024:.1f} KiB" if process.arena_bytes else ""
    return [f"  memory      {model_bytes / 2**20:.1f} MiB for runtime and model{arena}"]


def _energy_lines(processes: Sequence[ProcessSamples]) -> list[str]:
    read = [process.energy for process in processes if process.energy and process.energy.get("calls")]
    if not read:
        return []
    joules, calls = (sum(entry[key] for entry in read) for key in ("joules", "calls"))
    seconds = sum(entry["seconds"] for entry in read)
    return [
        f"  energy      {1e3 * joules / calls:.3g} mJ a call, {joules / seconds:.3g} W ({read[0]['source']}, "
        "the whole machine's share included)"
    ]


def _count_lines(count: InstructionCount) -> list[str]:
    spread = "the same" if count.least == count.most else f"{count.least:,} to {count.most:,}"
    return [
        f"  processor   {count.cpu}, emulated",
        f"  counted     {count.instructions:,} instructions in one inference",
        f"              ({count.inferences} inferences, {spread})",
        "              This is no latency: only a board tells how long they take.",
    ]


def _estimate_lines(estimate: Estimate) -> list[str]:
    parts = ", ".join(f"{name} {format_us(value)}" for name, value in estimate.parts.items())
    return [
        f"  estimated   {format_us(estimate.latency_us)} (error band {format_us(estimate.low_us)} to "
        f"{format_us(estimate.high_us)})",
        *textwrap.wrap(parts, WIDTH, initial_indent="  of it       ", subsequent_indent=14 * " "),
        *textwrap.wrap(
            estimate.band, WIDTH, initial_indent="  band        ", subsequent_indent=14 * " ", break_on_hyphens=False
        ),
    ]


def _measured_cells(measurement: Measurement) -> tuple[str, ...]:
    statistics = measurement.statistics
    assert statistics
    return tuple(format_us(value) for value in (statistics.p50_us, statistics.p90_us, statistics.p99_us))


def _emulated_cells(measurement: Measurement) -> tuple[str, ...]:
    assert measurement.count
    return (f"{measurement.count.instructions:,}",)


def _estimated_cells(measurement: Measurement) -> tuple[str, ...]:
    estimate = measurement.estimate
    assert estimate
    return format_us(estimate.latency_us), f"{format_us(estimate.low_us)} to {format_us(estimate.high_us)}"


_COLUMNS = {
    "measured": (("median", "p90", "p99"), _measured_cells),
    "emulated": (("instructions",), _emulated_cells),
    "estimated": (("estimate", "error band"), _estimated_cells),
}
"""Header and cells of a table, by the kind of its numbers."""


def _warnings(names: Sequence[str], measurements: Sequence[Measurement]) -> list[str]:
    """Returns every warning once, with the names of those that it is about."""
    about: dict[str, list[str]] = {}
    for name, measurement in zip(names, measurements, strict=True):
        for text in measurement.warnings:
            about.setdefault(text, []).append(name)
    return [line for text in about for line in _wrapped(f"warning: {_join(about[text], len(names))}: {text}")]


def _join(names: Sequence[str], num_all: int) -> str:
    return "all" if 1 < num_all == len(names) else "; ".join(names)


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    columns = [column for column in zip(*rows, strict=True) if any(column)]
    widths = [max(map(len, column)) for column in columns]
    rows = list(zip(*columns, strict=True))
    return [
        "  "
        + "  ".join(
            cell.ljust(width) if index == 0 else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
