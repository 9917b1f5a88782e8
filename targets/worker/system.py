"""What the system tells in its files."""

from __future__ import annotations

from pathlib import Path

SYSTEM_ROOT = Path("/")
"""Where /sys and /proc are."""


def read_text(path: str | Path) -> str | None:
    """Returns the text of a system file, None if it cannot be read.

    Args:
        path: From the root of the system, with or without a slash before it.
    """
    try:
        return (SYSTEM_ROOT / str(path).lstrip("/")).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None


def read_word(path: str | Path) -> str | None:
    """Returns the text of a system file without blanks around it, None if it cannot be read or is empty."""
    return (read_text(path) or "").strip("\0 \n") or None


def read_number(path: str | Path) -> int | None:
    """Returns the whole number in a system file, None if there is none."""
    try:
        return int(read_text(path) or "")
    except ValueError:
        return None


def folders(pattern: str) -> list[str]:
    """Returns the paths, from the root of the system, that a pattern fits, in order."""
    return sorted(f"/{path.relative_to(SYSTEM_ROOT)}" for path in SYSTEM_ROOT.glob(pattern.lstrip("/")))
