"""What tests over ssh share."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

from edgelstm.targets.plans import BenchPlan
from tests.targets.fake_board import FakeBoard

SHORT = BenchPlan(warmup_s=0.01, max_s=0.02, min_runs=40, max_runs=2000)
LONG = BenchPlan(warmup_s=0.01, max_s=60, min_runs=40, max_runs=10**9)
PYTHONS = ("python3", *(f"python3.{minor}" for minor in range(9, 15)))


def write_program(folder: Path, name: str, text: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    path.chmod(0o755)


def give_python(board: FakeBoard, text: str = f'exec {sys.executable} "$@"') -> None:
    """Leaves the board one Python, whatever this machine has."""
    for name in PYTHONS:
        write_program(board.bin, name, "exit 127")
    write_program(board.bin, "python3", text)


def left_behind(board: FakeBoard) -> list[str]:
    """Returns what lies on the board that is not of the test's own making, and what runs there.

    A process that was killed may be seen for a moment longer.
    """
    deadline = time.monotonic() + 2
    while board.processes() and time.monotonic() < deadline:
        time.sleep(0.02)
    files = [str(path) for folder in (board.temporary, board.home) for path in folder.iterdir()]
    return files + list(board.processes().values())


def wait_until(condition: Callable[[], bool], timeout_s: float = 15) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


def is_measuring(board: FakeBoard) -> bool:
    return any("worker.pyz" in command for command in board.processes().values())
