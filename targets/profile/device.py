"""The numbers of a device that is not here, each with its source: one TOML file in `profiles/` per device."""

from __future__ import annotations

import dataclasses
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from edgelstm.errors import SettingError, TargetError

FOLDER = Path(__file__).parent / "profiles"

Architecture = Literal["arm", "cortex-m", "x86"]


@dataclass(frozen=True)
class Device:
    """What the method needs to know of a device.

    Attributes:
        name: Name of the profile.
        title: Name for people.
        cpu: The core that computes.
        architecture: Which kernels the runtimes have for it: "arm" (NEON), "cortex-m" (TensorFlow Lite Micro) or "x86".
        clock_ghz: Clock of that core.
        cores: How many such cores a runtime may use.
        issue_width: Instructions that can begin in one cycle.
        float32_macs_per_cycle: Peak of the instructions that the kernels built into a runtime use.
        int8_macs_per_cycle: The same of int8, without dot product instructions.
        wide_float32_macs_per_cycle: Peak of the widest instructions, which XNNPACK chooses when it starts.
        wide_int8_macs_per_cycle: The same of int8: with dot product instructions where there are any.
        load_bytes_per_cycle: What can be loaded from the first cache.
        l1_bytes: First data cache of a core.
        l2_bytes: Second cache, 0 if there is none.
        l2_bytes_per_cycle: What can be read from it.
        l3_bytes: Third cache, 0 if there is none.
        l3_bytes_per_cycle: What can be read from it.
        copy_gb_per_s: Bytes that memcpy copies in main memory; of a microcontroller, bytes read from its flash.
        ram_bytes: Memory for a program and its data.
        upper_factor: How much farther the upper end of the error band is than the lower: what is known of how much
            estimates for such a core are too low.
        flash_bytes: Memory that holds the program and the model, 0 where both are files.
        sources: Where each number comes from, by name.
    """

    name: str
    title: str
    cpu: str
    architecture: Architecture
    clock_ghz: float
    cores: int
    issue_width: float
    float32_macs_per_cycle: float
    int8_macs_per_cycle: float
    wide_float32_macs_per_cycle: float
    wide_int8_macs_per_cycle: float
    load_bytes_per_cycle: float
    l1_bytes: int
    l2_bytes: int
    l2_bytes_per_cycle: float
    l3_bytes: int
    l3_bytes_per_cycle: float
    copy_gb_per_s: float
    ram_bytes: int
    flash_bytes: int
    upper_factor: float
    sources: dict[str, str]

    @property
    def is_micro(self) -> bool:
        """Whether it runs TensorFlow Lite Micro."""
        return self.architecture == "cortex-m"

    def read_bytes_per_cycle(self, working_set: int, stream: float) -> float:
        """Returns what can be read of data that are read again and again.

        Args:
            working_set: Their size in bytes; they are taken to lie in the smallest memory that holds them.
            stream: Bytes that are read from main memory in the time in which memcpy copies one.
        """
        if working_set <= self.l1_bytes:
            return self.load_bytes_per_cycle
        if working_set <= self.l2_bytes:
            return self.l2_bytes_per_cycle
        if working_set <= self.l3_bytes:
            return self.l3_bytes_per_cycle
        return self.copy_gb_per_s / self.clock_ghz * stream


NUMBERS = tuple(
    field.name
    for field in dataclasses.fields(Device)
    if field.name not in ("name", "title", "cpu", "architecture", "sources")
)
"""What a profile gives as a table of value and source."""

_MAY_BE_ZERO = frozenset(
    {"l2_bytes", "l2_bytes_per_cycle", "l3_bytes", "l3_bytes_per_cycle", "flash_bytes", "wide_int8_macs_per_cycle"}
)
_WHOLE = frozenset(name for name in NUMBERS if name.endswith("_bytes") or name == "cores")


def device_names() -> list[str]:
    """Returns the names of all profiles."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def find_device(name: str) -> Device:
    """Reads a profile.

    Raises:
        SettingError: If there is none of that name.
        TargetError: If its file is damaged.
    """
    if name not in device_names():
        raise SettingError(f"There is no profile {name!r}. There are {', '.join(device_names())}.")
    return read_device(FOLDER / f"{name}.toml")


def read_device(path: Path) -> Device:
    """Reads a profile from a file.

    Raises:
        TargetError: If it cannot be read, lacks a number or the source of one, or has what no profile has.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise TargetError(f"{path} is no profile: {error}. Install edgelstm again.") from error
    words = {key: _word(path, document, key) for key in ("title", "cpu", "architecture")}
    if words["architecture"] not in ("arm", "cortex-m", "x86"):
        raise TargetError(f"{path}: architecture {words['architecture']!r} is not arm, cortex-m or x86.")
    values, sources = {}, {}
    for key in NUMBERS:
        values[key], sources[key] = _number(path, document, key)
    if unknown := sorted(document.keys() - {*words, *NUMBERS}):
        raise TargetError(f"{path}: {', '.join(unknown)} is nothing that a profile has; remove it.")
    return Device(name=path.stem, **words, **values, sources=sources)  # type: ignore[arg-type]


def _word(path: Path, document: dict[str, Any], key: str) -> str:
    word = document.get(key)
    if not isinstance(word, str) or not word:
        raise TargetError(f"{path}: {key} is missing; write it as text.")
    return word


def _number(path: Path, document: dict[str, Any], key: str) -> tuple[float, str]:
    entry = document.get(key)
    if not isinstance(entry, dict) or entry.keys() != {"value", "source"}:
        raise TargetError(f"{path}: {key} needs a value and a source: {key} = {{ value = …, source = '…' }}.")
    value, source = entry["value"], entry["source"]
    if isinstance(value, bool) or not isinstance(value, int if key in _WHOLE else (int, float)) or value < 0:
        raise TargetError(f"{path}: {key} is {value!r}, but must be a number that is not negative.")
    if not value and key not in _MAY_BE_ZERO:
        raise TargetError(f"{path}: {key} is 0, but must be more.")
    if not isinstance(source, str) or not source.strip():
        raise TargetError(f"{path}: {key} has no source; say where the number comes from.")
    return value, source
