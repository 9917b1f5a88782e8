"""The conditions under which the machine computes: clock, temperature, throttling."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from collections.abc import Callable
from typing import Any

from .system import folders, read_number, read_word

NS_PER_S = 1_000_000_000
INTERVAL_NS = NS_PER_S
THROTTLED_INTERVAL_NS = 2 * NS_PER_S
"""Least times between two readings during the calls, and between two starts of vcgencmd during them."""

PROCESSOR = re.compile(r"cpu|soc|pkg|core|big|little|cluster|tsens", re.IGNORECASE)
"""Fits the types of thermal zones that are the processor's: cpu-thermal, x86_pkg_temp, soc_thermal, …"""


class Conditions:
    """Readings of the machine's state; "conditions" of op "bench".

    Attributes:
        entries: The readings so far.
    """

    def __init__(self, core: int = 0, clock_ns: Callable[[], int] = time.perf_counter_ns) -> None:
        self.entries: list[dict[str, Any]] = []
        self._cpufreq = f"/sys/devices/system/cpu/cpu{core}/cpufreq"
        self._zones = [
            f"{zone}/temp"
            for zone in folders("/sys/class/thermal/thermal_zone*")
            if PROCESSOR.search(read_word(f"{zone}/type") or "")
        ]
        self._vcgencmd = shutil.which("vcgencmd")
        self._throttled: str | None = None
        self._clock_ns = clock_ns
        self._begun_ns = clock_ns()
        self._throttled_ns = self._begun_ns - THROTTLED_INTERVAL_NS

    def read(self, at: str) -> None:
        """Adds a reading.

        Args:
            at: "before", "during" or "after" the timed calls.
        """
        now_ns = self._clock_ns()
        temperatures = [read_number(zone) for zone in self._zones]
        highest = max((each for each in temperatures if each is not None), default=None)
        self.entries.append(
            {
                "at": at,
                "elapsed_s": (now_ns - self._begun_ns) / NS_PER_S,
                "governor": read_word(f"{self._cpufreq}/scaling_governor"),
                "clock_khz": read_number(f"{self._cpufreq}/scaling_cur_freq"),
                "temperature_c": None if highest is None else highest / 1000,
                "throttled": self._read_throttled(now_ns, is_due=at != "during"),
            }
        )

    def _read_throttled(self, now_ns: int, is_due: bool) -> str | None:
        """Returns what vcgencmd says; unless that is due, what it said when it was last asked, for two seconds."""
        is_due = is_due or now_ns - self._throttled_ns >= THROTTLED_INTERVAL_NS
        if self._vcgencmd is not None and is_due:
            self._throttled_ns = now_ns
            self._throttled = ask(self._vcgencmd, "get_throttled")
        return self._throttled


def ask(*command: str) -> str | None:
    """Returns what a command prints, None if it fails or takes longer than a second."""
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=1, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None
