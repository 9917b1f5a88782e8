"""A profile of this machine, made while it runs: what the method is compared with measurement on."""

from __future__ import annotations

import os
import platform
import time
from pathlib import Path

import numpy as np

from edgelstm.errors import TargetError
from edgelstm.targets.profile.device import Device

CPU_INFO = Path("/proc/cpuinfo")
CACHES = Path("/sys/devices/system/cpu/cpu0/cache")

L3_READ_BYTES = 2**22
"""What is read to see how fast the third cache is: larger than second caches, smaller than what a machine shares."""

COPY_BYTES = 2**26
"""What is copied to see how fast main memory is: larger than caches."""


def host_device(clock_ghz: float, clock_source: str) -> Device:
    """Makes a profile of this machine.

    Args:
        clock_ghz: Its clock under load, which a virtual machine does not tell.
        clock_source: Where that comes from.

    Raises:
        TargetError: If this is no x86 machine under Linux.
    """
    if platform.machine() != "x86_64" or not CPU_INFO.exists():
        raise TargetError("A profile of this machine can be made on x86 under Linux only: kernels differ elsewhere.")
    words = _cpu_words()
    flags = set(words.get("flags", "").split())
    wide = 16 if {"avx2", "fma"} <= flags else 4  # multiply-accumulates: two units of eight, or one of four
    wide = 32 if "avx512f" in flags else wide
    wide_int8 = 4 * wide if "avx512_vnni" in flags or "avx_vnni" in flags else 2 * wide
    sizes = _cache_sizes()
    copied = 1e-9 / _seconds_per_byte(COPY_BYTES, is_copy=True)
    read = 1e-9 / _seconds_per_byte(L3_READ_BYTES, is_copy=False) / clock_ghz
    values: dict[str, tuple[float, str]] = {
        "clock_ghz": (clock_ghz, clock_source),
        "cores": (os.cpu_count() or 1, "the system"),
        "issue_width": (6, "AMD Software Optimization Guide for family 19h: six macro operations a cycle"),
        "float32_macs_per_cycle": (8, "SSE, what kernels built into the runtime use: two products and two sums of 4"),
        "int8_macs_per_cycle": (16, "SSSE3: PMADDUBSW of 16 products, two a cycle, each with PMADDWD and PADDD"),
        "wide_float32_macs_per_cycle": (wide, "flags of the processor"),
        "wide_int8_macs_per_cycle": (wide_int8, "flags of the processor"),
        "load_bytes_per_cycle": (64, "AMD Software Optimization Guide for family 19h: two loads of 32 bytes"),
        "l1_bytes": (sizes[1], "the system"),
        "l2_bytes": (sizes[2], "the system"),
        "l2_bytes_per_cycle": (32, "AMD Software Optimization Guide for family 19h: 32 bytes a cycle"),
        "l3_bytes": (sizes[3], "the system"),
        "l3_bytes_per_cycle": (round(read, 2), f"numpy reads {L3_READ_BYTES} bytes again and again"),
        "copy_gb_per_s": (round(copied, 2), f"numpy copies {COPY_BYTES} bytes"),
        "ram_bytes": (os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), "the system"),
        "flash_bytes": (0, "none"),
        "upper_factor": (1.0, "the machine of the comparison itself"),
    }
    return Device(
        name="this-machine",
        title="this machine",
        cpu=words.get("model name", "unknown"),
        architecture="x86",
        **{name: value for name, (value, _) in values.items()},  # type: ignore[arg-type]
        sources={name: source for name, (_, source) in values.items()},
    )


def _cpu_words() -> dict[str, str]:
    first = CPU_INFO.read_text(encoding="ascii", errors="replace").split("\n\n", maxsplit=1)[0]
    pairs = (line.partition(":") for line in first.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def _cache_sizes() -> dict[int, int]:
    """Returns the sizes of the data caches of a core by level, 0 where there is none."""
    sizes = dict.fromkeys((1, 2, 3), 0)
    for index in CACHES.glob("index*"):
        if (index / "type").read_text().strip() != "Instruction":
            level, size = int((index / "level").read_text()), (index / "size").read_text().strip()
            sizes[level] = int(size.rstrip("KM")) * (2**20 if size.endswith("M") else 2**10)
    return sizes


def _seconds_per_byte(num_bytes: int, *, is_copy: bool) -> float:
    """Returns the shortest time of several passes, for each byte."""
    source = np.ones(num_bytes // 4, np.float32)
    target = np.empty_like(source)
    shortest = float("inf")
    for _ in range(30):
        started = time.perf_counter()
        if is_copy:
            np.copyto(target, source)
        else:
            source.max()
        shortest = min(shortest, time.perf_counter() - started)
    return shortest / num_bytes
