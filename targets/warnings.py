"""What makes measured numbers doubtful, in sentences that say what to try."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgelstm.targets.statistics import Statistics
from edgelstm.targets.subjects import Settings

HOT_C = 80.0
"""A Raspberry Pi lowers its clock from 80 °C on (Raspberry Pi documentation, "Frequency management and thermal
control")."""

OWN_LOAD = 0.5
"""What earlier rounds of the same run add to the load average, at most, beyond one for each thread."""

# Bits of `vcgencmd get_throttled`; source: Raspberry Pi documentation, "vcgencmd".
UNDER_VOLTAGE, CAPPED, THROTTLED, SOFT_LIMIT = 0x1, 0x2, 0x4, 0x8
_THROTTLING = {
    UNDER_VOLTAGE: "its supply voltage was too low (use the official power supply)",
    CAPPED: "its clock was capped",
    THROTTLED: "it was throttled because of heat (cool it)",
    SOFT_LIMIT: "it reached its soft temperature limit (cool it)",
}


def warnings_of(statistics: Statistics, results: list[dict[str, Any]], settings: Settings) -> list[str]:
    """Says what makes a measurement doubtful.

    Args:
        statistics: Of all samples.
        results: The last event of each worker.
        settings: How the model was run.
    """
    warnings = [] if statistics.stable else [statistics.stability]
    if not all(result.get("outputs_finite", True) for result in results):
        warnings.append("The model answered NaN or an infinity to random input: check it before believing its speed.")
    if any(result.get("warmup_stable") is False for result in results):
        warnings.append("The calls had not become stable when the warm-up ended. Measure longer.")
    machine = results[0]["machine"]
    conditions = [result.get("conditions") or [] for result in results]
    return warnings + _machine_warnings(machine, settings.threads) + _condition_warnings(conditions)


def _machine_warnings(machine: dict[str, Any], threads: int) -> list[str]:
    warnings = []
    governor, num_cores = machine["governor"], machine["num_cores"]
    if governor is not None and governor != "performance":
        warnings.append(
            f"The processor's governor is {governor!r}, so its clock varies. "
            "Try: sudo cpupower frequency-set -g performance."
        )
    load = machine.get("load_average")
    if load is not None and load > threads + OWN_LOAD:
        warnings.append(
            f"Other programs were running: the load average was {load:.1f} when the measurement began. Close them, or "
            "measure later."
        )
    if num_cores is not None and threads > num_cores:
        warnings.append(f"{threads} threads share {num_cores} cores. Measure with threads={num_cores} or fewer.")
    return warnings


def _condition_warnings(conditions: list[list[dict[str, Any]]]) -> list[str]:
    """Says what the device itself reports, process by process: a run that throttled is marked as such."""
    flags = 0
    for process in conditions:
        flags |= throttled_during([entry.get("throttled") for entry in process])
    reasons = [reason for bit, reason in _THROTTLING.items() if flags & bit]
    if reasons:
        return [f"The device throttled during the run: {' and '.join(reasons)}. Do not compare these numbers."]
    hottest = max((entry.get("temperature_c") or 0.0 for process in conditions for entry in process), default=0.0)
    if hottest >= HOT_C:
        return [f"The device was {hottest:.0f} °C hot, so its clock may have been lowered. Cool it and measure again."]
    return []


def throttled_during(readings: Sequence[str | None]) -> int:
    """Returns what was wrong during a run, as bits: what a reading tells of its moment, and what became true between.

    Args:
        readings: What `vcgencmd get_throttled` said, in order: "throttled=0x50005". Bits 0 to 3 tell of the moment, the
            same ones 16 higher of all time since the device was started.
    """
    words = [_word(reading) for reading in readings]
    flags = 0
    for word in words:
        flags |= word & 0xF
    return flags | ((words[-1] & ~words[0]) >> 16 & 0xF if words else 0)


def _word(reading: str | None) -> int:
    try:
        return int((reading or "0").rpartition("=")[2], 16)
    except ValueError:
        return 0
