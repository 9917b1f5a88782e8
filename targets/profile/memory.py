"""Whether a model fits into a device."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from edgelstm.errors import ModelRunError
from edgelstm.targets.profile.cost import stored_bytes
from edgelstm.targets.profile.device import Device

if TYPE_CHECKING:
    from edgelstm.targets.profile.work import Work

RUNTIME_BYTES = 40 * 2**20
"""A Python with numpy and the runtime, before it has a model: measured on x86 under Linux, rounded."""

MICRO_CODE_BYTES = 150 * 1024
"""The program around a model: TensorFlow Lite Micro with the operators of an LSTM (a judgement)."""

MICRO_ARENA_SHARE = 1.3
"""How much larger an arena is than the tensors in it: scratch memory, and what the runtime keeps (a judgement)."""


def check_memory(path: Path, work: Work, device: Device) -> None:
    """Checks that a model fits.

    Raises:
        ModelRunError: If it does not.
    """
    if device.is_micro:
        _check(path, device, "of flash", work.file_bytes + MICRO_CODE_BYTES, device.flash_bytes)
        _check(path, device, "of RAM in one piece", int(work.live_bytes * MICRO_ARENA_SHARE), device.ram_bytes)
        return
    packed = sum(stored_bytes(piece, device) for piece in work.pieces if not _is_fused(piece.kernel))
    needed = RUNTIME_BYTES + work.file_bytes + work.expanded_bytes + packed + work.live_bytes
    _check(path, device, "of memory", needed, device.ram_bytes)


def _is_fused(kernel: str | None) -> bool:
    return kernel is None or kernel.startswith("lstm")


def _check(path: Path, device: Device, what: str, needed: int, present: int) -> None:
    if needed > present:
        raise ModelRunError(
            f"{path}: needs about {_readable(needed)} {what}, but {device.title} has {_readable(present)}. "
            "Make the model smaller (edgelstm compress) or take a larger device."
        )


def _readable(num_bytes: int) -> str:
    return f"{num_bytes / 2**20:,.1f} MiB" if num_bytes >= 2**20 else f"{num_bytes / 2**10:,.0f} KiB"
