"""What an Android device tells of itself."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgelstm.errors import TargetError
from edgelstm.targets.remote.shell import Shell

_SCRIPT = str(Path(__file__).parent / "facts.sh")

THERMAL_STATUS = ("none", "light", "moderate", "severe", "critical", "emergency", "shutdown")
"""Android's PowerManager.THERMAL_STATUS_*: from "light" on the device slows down so that it stays cool."""

_NUMBERS = ("num_cores", "clock_khz", "load_average", "thermal_status")
_NOT_TOLD = ("", "<unknown>", "<unsupported>")
"""What the kernel says of a clock that it cannot read."""


@dataclass(frozen=True)
class Facts:
    """What was read at one moment; None, or 0 for the thermal status, where the device does not tell.

    Attributes:
        machine: "machine" of a measurement.
        clock_khz: Of its fastest core.
        temperature_c: Of the hottest processor sensor.
        thermal_status: An index of `THERMAL_STATUS`.
        read_at_s: When, on this machine's clock.
    """

    machine: dict[str, Any]
    clock_khz: int | None
    temperature_c: float | None
    thermal_status: int
    read_at_s: float

    def condition(self, at: str, began: Facts) -> dict[str, Any]:
        """Returns an entry of "conditions" of a worker's result."""
        return {
            "at": at,
            "elapsed_s": self.read_at_s - began.read_at_s,
            "governor": self.machine["governor"],
            "clock_khz": self.clock_khz,
            "temperature_c": self.temperature_c,
            "throttled": None,
            "thermal_status": self.thermal_status,
        }


def read_facts(shell: Shell) -> Facts:
    """Reads what the device tells now.

    Raises:
        TargetError: If there is no connection, or the answer is nonsense.
    """
    pairs = [line.partition("=")[::2] for line in shell.ask(_SCRIPT).splitlines() if "=" in line]
    try:
        return _facts([(name, value.strip()) for name, value in pairs if value.strip() not in _NOT_TOLD])
    except ValueError as error:
        raise TargetError(
            f"{shell.name}: it told nonsense of itself ({error}). Start it anew, then run the same again."
        ) from error


def _facts(pairs: list[tuple[str, str]]) -> Facts:
    """Makes facts of what was told.

    Raises:
        ValueError: If a number is none.
    """
    told = dict(pairs)
    numbers = {name: _number(name, told[name]) for name in _NUMBERS if name in told}
    temperatures = [_celsius(_number(name, value)) for name, value in pairs if name == "temperature"]
    device = " ".join(told[name] for name in ("maker", "model") if name in told)
    return Facts(
        machine={
            "device": device or None,
            "cpu": told.get("soc") or told.get("platform"),
            "num_cores": int(numbers.get("num_cores", 0)) or None,
            "governor": told.get("governor"),
            "system": f"Android {told['release']}" if "release" in told else "Android",
            "architecture": told.get("architecture"),
            "load_average": numbers.get("load_average"),
        },
        clock_khz=int(numbers["clock_khz"]) if "clock_khz" in numbers else None,
        temperature_c=max(temperatures, default=None),
        thermal_status=min(max(int(numbers.get("thermal_status", 0)), 0), len(THERMAL_STATUS) - 1),
        read_at_s=time.monotonic(),
    )


def phone_warnings(warnings: list[str], governor: str | None, statuses: list[int]) -> list[str]:
    """Says what makes numbers of a phone doubtful, in words that fit a phone.

    Args:
        warnings: What is said of any device.
        governor: Of the processor.
        statuses: The thermal status, each time it was read.
    """
    kept = [text for text in warnings if "cpupower" not in text]
    if governor and governor != "performance":
        kept.append(
            f"The phone's governor is {governor!r}, so its clock varies. Measure with plan='full', keep the screen on, "
            "and compare within one run only."
        )
    worst = max(statuses, default=0)
    if worst:
        kept.append(
            f"The phone throttled during the run: its thermal status was {THERMAL_STATUS[worst]!r}. Let it cool, off "
            "the charger, and do not compare these numbers."
        )
    return kept


def _celsius(value: float) -> float:
    """Returns a temperature in °C: most kernels tell it in thousandths, some in tenths or whole degrees."""
    return value / 1000 if abs(value) >= 1000 else value / 10 if abs(value) >= 200 else value


def _number(name: str, text: str) -> float:
    """Reads a number.

    Raises:
        ValueError: If it is none.
    """
    if not re.fullmatch(r"-?[0-9]{1,15}(\.[0-9]{1,15})?", text):
        raise ValueError(f"{name} is {text[:40]!r}")
    return float(text)
