"""The machine that the worker runs on."""

from __future__ import annotations

import os
import platform
from typing import Any

from .system import read_text, read_word

DEVICE_NAMES = ("/proc/device-tree/model", "/sys/firmware/devicetree/base/model", "/sys/class/dmi/id/product_name")
"""Where a board, or a PC, tells its name."""


def memory_bytes(field: str) -> int | None:
    """Returns a size in bytes out of /proc/self/status: "VmRSS" for now, "VmHWM" for the peak; None if not there.

    Not getrusage, whose peak on Linux starts with that of the process that started this one.
    """
    for line in (read_text("/proc/self/status") or "").splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    return None


def count_cores() -> int | None:
    """Returns how many processors this process can use now, None if the system does not tell."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count()


def describe_machine() -> dict[str, Any]:
    """Returns "machine" of op "bench", but for what it was before this process was kept on its cores."""
    return {
        "device": next(filter(None, map(read_word, DEVICE_NAMES)), None),
        "cpu": cpu_name(),
        "governor": read_word("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "system": f"{platform.system()} {platform.release()}",
        "architecture": platform.machine(),
        "load_average": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    }


def cpu_name() -> str | None:
    """Returns the name of the processor, None if the system does not tell."""
    fields: dict[str, str] = {}
    for line in (read_text("/proc/cpuinfo") or "").splitlines():
        key, _, value = line.partition(":")
        fields.setdefault(key.strip(), value.strip())
    part = fields.get("CPU part")
    arm = f"Arm implementer {fields.get('CPU implementer')} part {part}" if part else None
    return fields.get("model name") or fields.get("Hardware") or arm or platform.processor() or None
