"""Runs Arm programs on this machine, in a userland that `userland.set_up` made.

    with Emulator.open("arm64", "pi4") as emulator:
        done = emulator.run(["python3.11", "-c", "print(1)"], timeout_s=60)
        done = emulator.run([str(program), "--flag"], counted=True); done.marks

Programs are the userland's, by name, or files of this machine compiled for Arm. They see this machine's files, but for
those that the userland has: libraries, /proc/cpuinfo and /sys/devices/system/cpu. They start no other Arm programs,
unless binfmt_misc of this machine's kernel knows how.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from edgelstm.errors import TargetError
from edgelstm.runtime.child import communicate
from edgelstm.targets.emulated.boards import BOARDS, DEFAULT_BOARDS, Board, core_of
from edgelstm.targets.emulated.counts import Counters, read_marks
from edgelstm.targets.emulated.pins import ARCHITECTURES, PYTHON
from edgelstm.targets.emulated.userland import in_use

ENVIRONMENT = {
    "PATH": "/usr/bin:/bin",
    "HOME": "/",
    "LC_ALL": "C.UTF-8",
    "PYTHONHASHSEED": "0",
    "PYTHONDONTWRITEBYTECODE": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
}
"""All that programs see of an environment: what differs from run to run would change the counts."""

_OWN_NOTICE = "qemu: uncaught target signal"
"""How the emulator begins what it says of a program's end, which the status tells."""


@dataclass(frozen=True)
class Completed:
    """A program that has ended.

    Attributes:
        status: Its exit status, or minus the number of the signal that ended it.
        stdout: What it wrote.
        stderr: What it wrote there.
        marks: Number and counters of each moment that it marked, in order, if it was counted.
    """

    status: int
    stdout: str
    stderr: str
    marks: list[tuple[int, Counters]] = field(default_factory=list)


class Emulator:
    """A userland and a board.

    Attributes:
        board: The board.
        core: Name of the emulated processor.
        python: The userland's Python.

    Args:
        folder: The userland.
        architecture: "arm64" or "armhf".
        board: What it describes itself as.
    """

    def __init__(self, folder: Path, architecture: str, board: Board) -> None:
        self.board = board
        self.core = core_of(board, architecture)
        self.python = folder / f"debian/usr/bin/python{PYTHON}"
        self._folder = folder
        self._program = ARCHITECTURES[architecture].emulator

    @classmethod
    @contextmanager
    def open(cls, architecture: str, board: str | None = None) -> Iterator[Emulator]:
        """Finds the userland of an architecture, which is not replaced until the context is left.

        Args:
            architecture: "arm64" or "armhf".
            board: Name of a board; None for the architecture's usual one.

        Raises:
            TargetError: If it is not set up.
        """
        with in_use(architecture) as folder:
            yield cls(folder, architecture, BOARDS[board or DEFAULT_BOARDS[architecture]])

    def run(
        self,
        argv: Sequence[str],
        *,
        stdin: str = "",
        timeout_s: float = 600.0,
        counted: bool = False,
        environment: Mapping[str, str] | None = None,
    ) -> Completed:
        """Runs a program to its end; whatever it started in its session is stopped with it.

        Args:
            argv: The program, as a path of this machine or the name of one in the userland, and its arguments.
            stdin: What it reads.
            timeout_s: Seconds after which it is stopped.
            counted: Whether its instructions are counted. It is slower then.
            environment: Variables beyond `ENVIRONMENT`.

        Raises:
            TargetError: If the emulator does not start.
            subprocess.TimeoutExpired: If the program takes longer.
        """
        with tempfile.TemporaryDirectory(prefix="edgelstm-") as folder:
            counts = Path(folder) / "counts"
            plugin = ["-plugin", f"{self._folder / 'insn.so'},out={counts}"] if counted else []
            command = self._command([*plugin, *self._located(argv)])
            status, stdout, stderr = communicate(command, stdin, timeout_s, {**ENVIRONMENT, **(environment or {})})
            if counted and not counts.exists():
                raise TargetError(f"The emulator {self._program} cannot count: {(stderr or 'no message').strip()}.")
            notes = "".join(line for line in stderr.splitlines(keepends=True) if not line.startswith(_OWN_NOTICE))
            return Completed(status, stdout, notes, read_marks(counts) if counted else [])

    def _command(self, arguments: list[str]) -> list[str]:
        """Returns what runs the emulator with some arguments.

        Raises:
            TargetError: If there is no emulator.
        """
        emulator = self._folder / "emulator"
        # By its own loader: the emulator then has the libraries of its release, whatever this machine's are.
        program = [emulator / "loader", "--library-path", emulator / "lib", emulator / self._program]
        options = ["-cpu", self.core, "-L", self._folder / "boards" / self.board.name]
        if not (emulator / "loader").exists():
            raise TargetError(
                f"{self._folder} is damaged: it has no emulator. Set it up again: edgelstm targets setup "
                f"emulated:{self._folder.name} --again."
            )
        # The emulator writes the memory of programs that crash to the current folder, unless that is forbidden.
        return ["/bin/sh", "-c", 'ulimit -c 0; exec "$@"', "sh", *map(str, [*program, *options]), *arguments]

    def _located(self, argv: Sequence[str]) -> list[str]:
        """Returns argv with the program's place on this machine; the emulator does not look for it in the userland."""
        found = self._folder / "debian/usr/bin" / argv[0]
        return [str(found) if "/" not in argv[0] else argv[0], *argv[1:]]
