"""Results as text of at most 80 columns, but for long names of files."""

from __future__ import annotations

from collections.abc import Sequence

from edgelstm.targets.harness import BenchResult
from edgelstm.targets.layout import entry, indented, table, without_empty, wrapped
from edgelstm.targets.measurement import Estimate, InstructionCount, Measurement, ProcessSamples
from edgelstm.targets.naming import name_all
from edgelstm.targets.statistics import Statistics

MAX_OPERATORS = 10
_MAX_OPERATOR_WIDTH = 50
_WHOLE_FROM = 100
_EMULATED = "instructions counted under emulation, not a latency"
_ONE_PROCESS = "  One process each: --plan full tells how sure the ratios are."
_ESTIMATED = "estimated from the device's peak rates, not measured"


def describe(measurement: Measurement) -> str:
    """Returns what a person wants to know first of one measurement, in a few lines."""
    head = f"{measurement.artifact.name} ({measurement.size_bytes:,} bytes), {measurement.kind} on {measurement.target}"
    machine = measurement.machine.get("device") if measurement.kind != "measured" else None
    version = f"{measurement.runtime} {measurement.runtime_version}"
    lines = [
        *wrapped(head),
        *entry("machine", f"{machine or _machine(measurement)}, {measurement.settings.describe()}"),
        *(entry("runtime", version) if _has_runtime(measurement) else []),
    ]
    if measurement.statistics:
        lines += _latency_lines(measurement.statistics, measurement.processes, measurement.settings.batch)
    if measurement.count:
        lines += _count_lines(measurement.count)
    if measurement.estimate:
        lines += _estimate_lines(measurement.estimate)
    lines += _operator_table(measurement)
    lines += [line for text in silent_runtimes([measurement]) for line in entry("operators", text)]
    return "\n".join([*lines, *(line for text in measurement.warnings for line in wrapped(f"warning: {text}"))])


def format_result(result: BenchResult) -> str:
    """Returns all that was measured: in full for one measurement, else tables for each target."""
    if len(result.measurements) == 1:
        return describe(result.measurements[0])
    targets = dict.fromkeys(measurement.target for measurement in result.measurements)
    return "\n\n".join(_format_target(result, target) for target in targets)


def _format_target(result: BenchResult, target: str) -> str:
    ratios = {comparison.other: comparison.ratio for comparison in result.comparisons}
    indices = [index for index, each in enumerate(result.measurements) if each.target == target]
    chosen = [result.measurements[index] for index in indices]
    names, first = name_all(chosen), chosen[0]
    header, cells = _COLUMNS[first.kind]
    rows = [("", "KiB", *header, "ratio", "")]
    for name, index, each in zip(names, indices, chosen, strict=True):
        ratio = ratios.get(index)
        value = f"{ratio.value:.2f}" if ratio else "1"
        spread = f"{ratio.low:.2f}-{ratio.high:.2f}" if ratio and ratio.is_known and ratio.low != ratio.high else ""
        rows.append((name, f"{each.size_bytes / 1024:.1f}", *cells(each), value, spread))
    lines = [*_title(first), *table(rows)]
    lines += [_ONE_PROCESS] if len(chosen) > 1 and len(first.processes) == 1 else []
    if first.kind == "measured" and len(chosen) > 1:
        lines += ["", *table(further_rows(names, chosen))]
    for name, each in zip(names, chosen, strict=True):
        operators = _operator_table(each)
        lines += ["", *indented(f"{name}:"), *operators] if operators else []
    lines += [line for text in silent_runtimes(chosen) for line in indented(text)]
    return "\n".join([*lines, *_warnings(names, chosen)])


def further_rows(names: Sequence[str], measurements: Sequence[Measurement]) -> list[tuple[str, ...]]:
    """Returns what measured models tell besides the times of their calls.

    Args:
        names: One for each.
        measurements: All of the kind "measured".

    Returns:
        A header, then a row for each; columns of which nothing is known are left out.
    """
    rows = [("", "start", "load", "first call", "memory", "calls/s", "inputs/s", "mJ/call")]
    for name, measurement in zip(names, measurements, strict=True):
        assert measurement.statistics
        batch, energy = measurement.settings.batch, _energy(measurement.processes)
        rate = _per_s(measurement.statistics, batch)
        rates = ("", rate) if batch else (rate, "")
        times = _process_cells(measurement.processes)
        rows.append((name, *times, *rates, _number(energy[0]) if energy else ""))
    return without_empty(rows)


def operator_times(measurement: Measurement) -> list[tuple[str, float, float]]:
    """Returns what the operators take, the longest first.

    Returns:
        Name, µs in one inference (the mean over the processes that tell) and share of all operators, for each of the
        `MAX_OPERATORS` that take the most.
    """
    told = [process.operators for process in measurement.processes if process.operators]
    totals: dict[str, float] = {}
    for each in (each for operators in told for each in operators):
        name = f"{each['operator']} {each['name']}".strip()
        inferences = each.get("inferences") or each["calls"] or 1
        totals[name] = totals.get(name, 0.0) + each["total_us"] / inferences / len(told)
    whole = sum(totals.values()) or 1.0
    longest = sorted(totals.items(), key=lambda item: -item[1])[:MAX_OPERATORS]
    return [(name, time_us, time_us / whole) for name, time_us in longest]


def silent_runtimes(measurements: Sequence[Measurement]) -> list[str]:
    """Returns a sentence about the runtimes that were asked for times by operator and told none, if there are any."""
    asked = [each for each in measurements if each.kind == "measured" and each.plan.operators]
    silent = dict.fromkeys(each.runtime for each in asked if not operator_times(each))
    if not silent:
        return []
    if len(silent) == len({each.runtime for each in measurements}):
        return [f"no runtime here tells times by operator ({', '.join(silent)})"]
    return [f"no times by operator from {', '.join(silent)}"]


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
        return wrapped(f"{measurement.target}: {_machine(measurement)}, {version}")
    device = measurement.machine.get("device") or measurement.machine.get("cpu")
    if measurement.kind == "emulated":
        return [*wrapped(f"{measurement.target}: {device}, {version}"), f"  {_EMULATED}"]
    return [*wrapped(f"{measurement.target}: {device}"), f"  {_ESTIMATED}"]


def _latency_lines(statistics: Statistics, processes: Sequence[ProcessSamples], batch: int | None) -> list[str]:
    rate = f"{_per_s(statistics, batch)} {'inputs' if batch else 'calls'}/s"
    median = f"{format_us(statistics.p50_us)} ({_confidence(statistics, len(processes))}), {rate}"
    ends = f"{format_us(statistics.min_us)}, {format_us(statistics.max_us)} of {statistics.num_samples} calls"
    return [
        *entry("median", median),
        *entry("p90, p99", f"{format_us(statistics.p90_us)}, {format_us(statistics.p99_us)}"),
        *entry("min, max", ends),
        *_start_lines(processes),
        *_memory_lines(processes),
        *_energy_lines(processes),
    ]


def _confidence(statistics: Statistics, num_processes: int) -> str:
    """Returns how surely the median is known; what one process tells holds for that process alone."""
    if num_processes == 1:
        return "one process"
    low, high = format_us(statistics.p50_low_us), format_us(statistics.p50_high_us)
    return f"{statistics.confidence:.0%} confidence {low} to {high}"


def _per_s(statistics: Statistics, batch: int | None) -> str:
    return _number(1e6 * (batch or 1) / statistics.p50_us)


def _number(value: float) -> str:
    """Returns three digits, or all of those before the point."""
    return f"{value:,.0f}" if value >= _WHOLE_FROM else f"{value:.3g}"


def _fastest(processes: Sequence[ProcessSamples]) -> ProcessSamples | None:
    """Returns the process that loaded the model in the least time: the others were disturbed."""
    return min(processes, key=lambda process: process.load_us, default=None)


def _process_cells(processes: Sequence[ProcessSamples]) -> tuple[str, str, str, str]:
    process = _fastest(processes)
    if process is None:
        return "", "", "", ""
    start_us, memory_bytes = _start_us(process), _memory_bytes(process)
    start = "" if start_us is None else format_us(start_us)
    memory = "" if memory_bytes is None else f"{memory_bytes / 2**20:.1f} MiB"
    return start, format_us(process.load_us), format_us(process.first_invoke_us), memory


def _start_us(process: ProcessSamples) -> float | None:
    """Returns the time from the start of the process to the first answer, None if a part of it is not known."""
    cold = process.cold_start or {}
    parts = [cold.get(name) for name in ("process_us", "import_us", "load_us", "first_invoke_us")]
    known = [part for part in parts if part is not None]
    return sum(known) if len(known) == len(parts) else None


def _memory_bytes(process: ProcessSamples) -> int | None:
    """Returns what runtime and model take, None if the system does not tell."""
    if process.base_rss_bytes is None or process.peak_rss_bytes is None:
        return None
    return process.peak_rss_bytes - process.base_rss_bytes


def _energy(processes: Sequence[ProcessSamples]) -> tuple[float, float, str] | None:
    """Returns mJ in one call, watts and what was read, None if nothing was."""
    read = [process.energy for process in processes if process.energy and process.energy.get("calls")]
    if not read:
        return None
    joules, calls, seconds = (sum(entry[key] for entry in read) for key in ("joules", "calls", "seconds"))
    return 1e3 * joules / calls, joules / seconds, str(read[0]["source"])


def _start_lines(processes: Sequence[ProcessSamples]) -> list[str]:
    if not processes:
        return []
    start, load, first_call, _ = _process_cells(processes)
    total = f"{start} to the first answer: " if start else ""
    return entry("start", f"{total}load {load}, first call {first_call}")


def _memory_lines(processes: Sequence[ProcessSamples]) -> list[str]:
    process, memory = _fastest(processes), _process_cells(processes)[-1]
    if process is None or not memory:
        return []
    arena = f", arena {process.arena_bytes / 1024:.1f} KiB" if process.arena_bytes else ""
    return entry("memory", f"{memory} for runtime and model{arena}")


def _energy_lines(processes: Sequence[ProcessSamples]) -> list[str]:
    energy = _energy(processes)
    if energy is None:
        return []
    call_mj, watts, source = energy
    return entry(
        "energy", f"{_number(call_mj)} mJ a call, {_number(watts)} W ({source}, the whole machine's share included)"
    )


def _operator_table(measurement: Measurement) -> list[str]:
    times = operator_times(measurement)
    rows = [(_shortened(name), f"{time_us:,.1f}", f"{share:.0%}") for name, time_us, share in times]
    return table([("operator", "µs in one inference", "share"), *rows]) if rows else []


def _shortened(name: str) -> str:
    """Returns the operator and the end of its name if that is long: graphs name their nodes like paths."""
    operator, _, node = name.partition(" ")
    room = max(_MAX_OPERATOR_WIDTH - len(operator) - 2, 1)
    return name if len(name) <= _MAX_OPERATOR_WIDTH else f"{operator} …{node[-room:]}"


def _count_lines(count: InstructionCount) -> list[str]:
    spread = "the same" if count.least == count.most else f"{count.least:,} to {count.most:,}"
    return [
        *entry("processor", f"{count.cpu}, emulated"),
        *entry("counted", f"{count.instructions:,} instructions in one inference"),
        *entry("", f"({count.inferences} inferences, {spread})"),
        *entry("", "This is no latency: only a board tells how long they take."),
    ]


def _estimate_lines(estimate: Estimate) -> list[str]:
    band = f"error band {format_us(estimate.low_us)} to {format_us(estimate.high_us)}"
    return [
        *entry("estimated", f"{format_us(estimate.latency_us)} ({band})"),
        *entry("of it", ", ".join(f"{name} {format_us(value)}" for name, value in estimate.parts.items())),
        *entry("band", estimate.band),
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
    return [line for text in about for line in wrapped(f"warning: {_join(about[text], len(names))}: {text}")]


def _join(names: Sequence[str], num_all: int) -> str:
    return "all" if 1 < num_all == len(names) else "; ".join(names)
