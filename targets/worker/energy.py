"""Energy, from counters of the processor or sensors of the board."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from typing import Any

from .system import folders, read_number, read_word

NS_PER_S = 1_000_000_000
INTERVAL_NS = NS_PER_S // 20
"""Least time between two readings."""

INA = re.compile(r"ina[23]\d\d")
"""Fits the names of sensors of current and voltage that boards have on their supply."""


class Meter(ABC):
    """Sums up energy between its start and its last reading.

    Attributes:
        source: What is read, as in the result.
    """

    def __init__(self, source: str) -> None:
        self.source = source
        self._joules = 0.0
        self._begun_ns = self._last_ns = 0

    @abstractmethod
    def read_joules(self, seconds: float) -> float | None:
        """Returns the energy since the last reading, that many seconds ago; None if it cannot be read any more."""

    def start(self, now_ns: int) -> None:
        """Begins to count."""
        self.read_joules(0.0)
        self._joules, self._begun_ns, self._last_ns = 0.0, now_ns, now_ns

    def update(self, now_ns: int) -> None:
        """Takes a reading."""
        joules = self.read_joules((now_ns - self._last_ns) / NS_PER_S)
        self._joules += float("nan") if joules is None else joules
        self._last_ns = now_ns

    def result(self, calls: int) -> dict[str, Any] | None:
        """Returns "energy" of op "bench" up to the last reading; None if one failed."""
        if self._joules != self._joules:  # NaN
            return None
        seconds = (self._last_ns - self._begun_ns) / NS_PER_S
        return {
            "source": self.source,
            "joules": self._joules,
            "seconds": seconds,
            "calls": calls,
            "idle_watts": None,
        }


class RaplMeter(Meter):
    """The counters of Intel's and AMD's processors, one per package, in µJ. They start anew at their maximum."""

    def __init__(self, packages: dict[str, str]) -> None:
        super().__init__(f"rapl:{'+'.join(packages)}")
        self._paths = list(packages.values())
        self._ranges = [read_number(f"{path}/max_energy_range_uj") or 0 for path in self._paths]
        self._last: list[int | None] = [None] * len(self._paths)

    def read_joules(self, seconds: float) -> float | None:
        """Adds up what all counters moved."""
        del seconds
        total = 0
        for k, path in enumerate(self._paths):
            now, last = read_number(f"{path}/energy_uj"), self._last[k]
            self._last[k] = now
            if now is None:
                return None
            if last is not None:
                total += now - last if now >= last else now - last + self._ranges[k]
        return total / 1e6


class InaMeter(Meter):
    """A sensor of power, integrated by the trapezoidal rule."""

    def __init__(self, name: str, path: str) -> None:
        super().__init__(f"ina:{name}")
        self._path = path
        self._last_watts: float | None = None

    def read_joules(self, seconds: float) -> float | None:
        """Returns mean power times time."""
        watts, last = self.read_watts(), self._last_watts
        self._last_watts = watts
        if watts is None:
            return None
        return (watts + (watts if last is None else last)) / 2 * seconds

    def read_watts(self) -> float | None:
        """Returns the power, in hwmon's units: µW, or mV times mA."""
        power = read_number(f"{self._path}/power1_input")
        if power is not None:
            return power / 1e6
        voltage, current = read_number(f"{self._path}/in1_input"), read_number(f"{self._path}/curr1_input")
        return None if voltage is None or current is None else voltage * current / 1e6


def find_meter() -> Meter | None:
    """Returns what measures energy on this machine, None if nothing does or it cannot be read (often only by root)."""
    packages = {}
    for path in folders("/sys/class/powercap/intel-rapl:*"):
        name = read_word(f"{path}/name") or ""
        if name.startswith("package-") and read_number(f"{path}/energy_uj") is not None:
            packages[name] = path
    if packages:
        return RaplMeter(packages)
    for path in folders("/sys/class/hwmon/hwmon*"):
        name = read_word(f"{path}/name") or ""
        if INA.match(name):
            meter = InaMeter(name, path)
            if meter.read_watts() is not None:
                return meter
    return None
