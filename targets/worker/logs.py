"""What native code logs, as the reasons of its errors."""

from __future__ import annotations

import atexit
import os
import re
import tempfile
from collections.abc import Callable
from typing import Any

from .plan import PlanError, first_line
from .session import Session


class NativeLog:
    """What native code writes to stderr from now on; it goes on to stderr when the process ends."""

    def __init__(self) -> None:
        self._stderr = os.dup(2)
        # No context manager: it takes the place of stderr until the process ends.
        self._file = tempfile.TemporaryFile()  # noqa: SIM115
        self._num_read = 0
        os.dup2(self._file.fileno(), 2)
        atexit.register(self._pass_on)

    def read(self) -> list[str]:
        """Returns the lines written since the last time, but for empty ones and notices."""
        size = os.fstat(self._file.fileno()).st_size
        text = os.pread(self._file.fileno(), size - self._num_read, self._num_read).decode(errors="replace")
        self._num_read = size
        lines = [line.strip() for line in text.splitlines()]
        return [line for line in lines if line and not line.startswith(("INFO:", "WARNING:", "└"))]

    def _pass_on(self) -> None:
        os.dup2(self._stderr, 2)
        self._file.seek(0)
        os.write(2, self._file.read())
        self._file.close()


class LoggingSession(Session):
    """A model in a runtime whose exceptions say only that something failed: it has logged the reason.

    Attributes:
        log: What the runtime logs.
    """

    def __init__(self) -> None:
        self.log = NativeLog()

    def attempt(self, function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """Calls the runtime.

        Raises:
            PlanError: If it fails, with the reason that it logged.
        """
        try:
            return function(*arguments, **options)
        except (RuntimeError, ValueError) as error:
            raise PlanError(reason_of(self.log.read()) or first_line(error)) from error


def reason_of(lines: list[str]) -> str:
    """Returns why a runtime failed: what it logged first, and at which operator; nothing if it logged nothing."""
    said = [re.sub(r"^(ERROR: )?(\[\S+:\d+\] )?", "", line).rstrip(".") for line in lines]
    where = next((line for line in said if line.startswith("Node ")), None)
    return "; ".join(dict.fromkeys([*said[:1], where or said[0]])) if said else ""
