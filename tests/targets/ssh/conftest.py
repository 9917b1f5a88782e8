from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from edgelstm.targets.ssh import SshTarget
from tests.one_operator import accumulator
from tests.targets.fake_board import FakeBoard, fake_board
from tests.targets.ssh.helpers import give_python


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "sum.tflite"
    path.write_bytes(accumulator())
    return path


@pytest.fixture
def start_board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., FakeBoard]]:
    """Starts boards on this machine's userland whose Python is that of the tests."""
    with contextlib.ExitStack() as stack:

        def start(name: str = "first", **options: Any) -> FakeBoard:
            (tmp_path / name).mkdir()
            board = stack.enter_context(fake_board(None, tmp_path / name, **options))
            give_python(board)
            monkeypatch.setenv("EDGELSTM_SSH_CONFIG", str(board.ssh_config))
            return board

        yield start


@pytest.fixture
def board(start_board: Callable[..., FakeBoard]) -> FakeBoard:
    return start_board()


@pytest.fixture
def target(board: FakeBoard) -> SshTarget:
    return SshTarget(board.target)
