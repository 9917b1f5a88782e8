"""The contract of an engine: something on this machine that runs a model file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

Result = dict[str, Any]
"""What ran: at least "runtime_version" and, as a worker describes tensors, "inputs" and "outputs"."""


class Run(Protocol):
    """Runs calls one after the other in one process and never resets, so that what a call leaves reaches the next."""

    def __call__(self, file: Path, calls: Mapping[str, Any], *, timeout_s: float) -> tuple[dict[str, Any], Result]:
        """Runs a file.

        Args:
            file: The .tflite file.
            calls: Arrays by input name, shape (calls, *input shape with batch).
            timeout_s: Seconds after which it is stopped.

        Returns:
            Arrays by output name as the engine gives them, shape (calls, *output shape), and the result.

        Raises:
            ModelRunError: If the engine refuses the file, fails, crashes or runs too long. The message names the file
                and the engine.
            MissingExtraError: If the engine is not installed.
        """


class RunSequences(Protocol):
    """Runs sequences of calls in one process: a state begins anew with each sequence and survives within it."""

    def __call__(
        self, file: Path, calls: Mapping[str, Any], *, sequence: int, carry: Mapping[str, str], timeout_s: float
    ) -> tuple[dict[str, Any], Result]:
        """Runs a file as `Run` does, but for the states.

        Args:
            file: The .tflite file.
            calls: Arrays by input name, shape (sequences * sequence, *input shape with batch), without those in carry.
            sequence: Calls in a sequence. Before each sequence all variables are reset.
            carry: Names of outputs by the names of the inputs that take them in the next call. They begin at zero.
            timeout_s: Seconds after which it is stopped.
        """


@dataclass(frozen=True)
class Engine:
    """Something that runs a model file.

    Attributes:
        name: The word for it in tables and on the command line.
        title: What people call it.
        requirement: How to get it, the end of a sentence: "pip install …".
        is_here: Says whether it is installed, without starting it.
        version: Returns its version; to be asked only where it is installed.
        run: Runs a file.
        run_sequences: Runs a file that keeps states; None for an engine that takes no such file.
    """

    name: str
    title: str
    requirement: str
    is_here: Callable[[], bool]
    version: Callable[[], str]
    run: Run
    run_sequences: RunSequences | None = None
