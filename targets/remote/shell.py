"""Runs scripts on a device."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from edgelstm.errors import TargetError

SCRIPTS = Path(__file__).parent
MARK = "edgelstm-begins"
"""Printed before all else, since the files that a login shell reads may print something, too."""

END = "edgelstm-ends"
"""Printed after all else, with the exit status: not every connection tells a lost script from one that ended well."""

LOST, NO_SPACE, DAMAGED, NO_FOLDER = 96, 95, 94, 97
"""How the scripts end when the folder is gone, the disk full, a file not what was sent, or no folder can be made."""

# Any login shell takes this line, fish and csh too. The script comes first on stdin, after its length, and leaves the
# rest to whom it starts: dd, unlike head, never reads too much.
_LINE = """exec sh -c 'read -r n; eval "$(dd bs=1 count=$n 2>/dev/null)"'"""


@dataclass(frozen=True)
class Done:
    """How a script ended.

    Attributes:
        status: Its exit status, -N if signal N ended it.
        output: What it wrote to stdout.
        notes: What it, or the connection, wrote to stderr.
    """

    status: int
    output: str
    notes: str


class Shell(ABC):
    """A way to run command lines on a device.

    Attributes:
        name: Of the target, for errors.
        umask: Of what is written there.
        folders: Where to make a folder there, the best place first; $TMPDIR there comes before them.
        pythons: Where to look for a Python there, in this order; one may be several words.
    """

    name: str
    umask: str = "077"
    folders: tuple[str, ...]
    pythons: tuple[str, ...]

    @abstractmethod
    def command(self, line: str, *, first: bool = False) -> list[str]:
        """Returns the local command that runs a line there; the first one lasts as long as the connection."""

    @abstractmethod
    def explain(self, notes: str) -> str:
        """Says in a sentence why there was no connection, given what the local command wrote to stderr."""

    @abstractmethod
    def how_to_set_up(self) -> str:
        """Says what to do when there is no runtime there, beginning with a capital letter."""

    def send(self, path: Path, destination: str, timeout_s: float) -> bool:
        """Copies a file by a way of its own, where there is a better one than stdin, and says whether there is.

        Raises:
            TargetError: If it cannot be copied.
            subprocess.TimeoutExpired: If it takes longer.
        """
        return False

    def start(self, script: str, *arguments: str) -> tuple[subprocess.Popen[bytes], bytes]:
        """Starts the script that lasts as long as the connection.

        Returns:
            The process, and what must be written to it first.

        Raises:
            TargetError: If the local program cannot be started.
        """
        return self._popen(first=True), pack(script, arguments, umask=self.umask)

    def run(self, script: str, *arguments: str, content: bytes = b"", timeout_s: float = 60.0) -> Done:
        """Runs a script to its end.

        Args:
            script: Name of a file beside this one.
            arguments: Its arguments.
            content: What it reads from stdin.
            timeout_s: Seconds after which the local command is stopped; what runs there may go on.

        Raises:
            TargetError: If there is no connection.
            subprocess.TimeoutExpired: If it takes longer.
        """
        with self._popen() as process:
            try:
                text = pack(script, arguments, umask=self.umask, tell_status=True)
                output, notes = process.communicate(text + content, timeout=timeout_s)
            finally:
                if process.returncode is None:
                    process.kill()
        return self._done(output.decode(errors="replace"), notes.decode(errors="replace"))

    def ask(self, script: str, *arguments: str, timeout_s: float = 60.0) -> str:
        """Runs a script that answers quickly and returns what it writes to stdout.

        Raises:
            TargetError: If there is no connection, or no answer.
        """
        try:
            return self.run(script, *arguments, timeout_s=timeout_s).output
        except subprocess.TimeoutExpired as error:
            raise TargetError(
                f"{self.name}: it did not answer within {timeout_s:g} s. Check that it is not short of memory."
            ) from error

    def _popen(self, *, first: bool = False) -> subprocess.Popen[bytes]:
        command = self.command(_LINE, first=first)
        try:
            # A session of its own: Ctrl-C at the terminal must not end the connection before its end is tidy.
            return subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
                env={**os.environ, "LC_ALL": "C", "SSH_ASKPASS_REQUIRE": "never"},
            )
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise TargetError(f"{self.name}: {command[0]} cannot be started: {reason}.") from error

    def _done(self, output: str, notes: str) -> Done:
        before, mark, after = output.partition(f"{MARK}\n")
        if not mark:
            raise TargetError(self.explain(notes if notes.strip() else before))
        after, mark, status = after.rpartition(f"\n{END} ")
        if not mark:
            raise TargetError(self.lost(notes))
        # Where sh was told of a signal it ends with 128 and the signal's number.
        number = int(status.split()[0])
        return Done(128 - number if 128 < number < 128 + signal.NSIG else number, after, notes)

    def lost(self, notes: str = "") -> str:
        """Says in a sentence that the connection ended."""
        reason = last_line(notes)
        return (
            f"{self.name}: the connection was lost{f' ({reason})' if reason else ''}. Check the network and the power "
            "of the device, then run the same again."
        )

    def fail_lost(self, notes: str = "") -> NoReturn:
        """Raises the error that says that the connection ended."""
        raise TargetError(self.lost(notes))


def pack(script: str, arguments: tuple[str, ...], *, umask: str = "077", tell_status: bool = False) -> bytes:
    """Returns what `_LINE` reads there: the length of the script and the script, which sets its own arguments."""
    texts = [(SCRIPTS / name).read_text(encoding="utf-8") for name in ("common.sh", script)]
    # Comments and indents need not travel; no line of these scripts is text.
    lines = [line.strip() for text in texts for line in text.splitlines()]
    body = [f"set -- {shlex.join(arguments)}", *(line for line in lines if line and not line.startswith("#"))]
    if tell_status:
        body = ["(", *body, ")", f"printf '\\n{END} %d\\n' $?"]
    content = "\n".join([f"echo {MARK}", f"umask {umask}", *body, ""]).encode()
    return f"{len(content)}\n".encode() + content


def last_line(text: str) -> str:
    """Returns the last line that says something, without its full stop."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1].rstrip(".") if lines else ""
