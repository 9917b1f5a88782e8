"""Which processes there are, where the system has /proc."""

from __future__ import annotations

import os
from pathlib import Path


def processes_of(mark: str) -> list[str]:
    """Command lines of the processes, other than this one, that hold a text."""
    lines = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if mark in line and folder.name != str(os.getpid()):
            lines.append(line)
    return lines


def children_of(parent: int) -> list[int]:
    """Numbers of the processes that a process has started, those included that ended and were not waited for."""
    children = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            status = (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()
        except OSError:
            continue
        if int(status[1]) == parent:
            children.append(int(folder.name))
    return children
