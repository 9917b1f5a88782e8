"""Userlands for tests: built once on a machine, where that can be done."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache
from pathlib import Path

import pytest

from edgelstm.errors import TargetError
from edgelstm.targets.emulated.emulator import Emulator
from edgelstm.targets.emulated.userland import set_up
from tests.targets.board_userland import give_up


@pytest.fixture(scope="session")
def emulator() -> Iterator[Callable[[str], Emulator]]:
    """Returns the emulator of an architecture; skips the test where it cannot be set up."""
    held = ExitStack()

    @cache
    def find(architecture: str) -> Emulator | str:
        try:
            set_up(architecture)
        except TargetError as error:
            return str(error)
        return held.enter_context(Emulator.open(architecture))

    def find_or_give_up(architecture: str) -> Emulator:
        found = find(architecture)
        return give_up(found) if isinstance(found, str) else found

    with held:
        yield find_or_give_up


@pytest.fixture
def empty_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Makes edgelstm believe that nothing is set up."""
    monkeypatch.setenv("EDGELSTM_HOME", str(tmp_path / "home"))
    return tmp_path / "home"
