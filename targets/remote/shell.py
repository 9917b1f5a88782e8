"""Runs scripts on a device."""

from __future__ import annotations

import math
import os
import re
import shlex
import signal
import subprocess
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from edgelstm.errors import TargetError
from edgelstm.targets.remote.exchange import MARK, end_group, exchange

SCRIPTS = Path(__file__).parent
END = "edgelstm-ends"
"""Printed after all else, with the exit status: not every connection tells a lost script from one that ended well."""

LOST, NO_SPACE, DAMAGED, NO_FOLDER = 96, 95, 94, 97
"""How the scripts end when the folder is gone, the disk full, a file not what was sent, or no folder can be made."""

# Any login shell takes this line, fish and csh too. The script comes first on stdin, after its length, and leaves the
# rest to whom it starts: dd, unlike head, never reads too much.
_GRACE_S = 10.0
"""Seconds that a device has to say that its script took too long, before the connection counts as the reason."""

# What would move a terminal's cursor, change the order of what is read, or cannot be written at all.
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")

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


class NoShellError(TargetError):
    """The local program was started, but brought no shell there."""


class Shell(ABC):
    """A way to run command lines on a device.

    Attributes:
        name: Of the target, for errors.
        folders: Where to make a folder there, the best place first; $TMPDIR there comes before them.
        pythons: Where to look for a Python there, in this order.
    """

    name: str
    folders: tuple[str, ...]
    pythons: tuple[str, ...]

    @abstractmethod
    def command(self, line: str, *, first: bool = False) -> list[str]:
        """Returns the local command that runs a line there; the first one lasts as long as the connection."""

    @abstractmethod
    def explain(self, notes: str) -> str:
        """Says in a sentence why there was no connection, given what the local command wrote to stderr."""

    @abstractmethod
    def how_to_set_up(self, runtime: str | None = None) -> str:
        """Says what to do when there is no runtime there, or not this one, in a sentence without its full stop."""

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
        return self._popen(first=True), pack(script, arguments)

    def run(
        self,
        script: str,
        *arguments: str,
        content: bytes = b"",
        timeout_s: float = 60.0,
        limit_s: float | None = None,
    ) -> Done:
        """Runs a script to its end.

        Args:
            script: Name of a file beside this one.
            arguments: Its arguments.
            content: What it reads from stdin.
            timeout_s: Seconds after which the local command is stopped; what runs there may go on.
            limit_s: Seconds after which the device itself ends the script and all it started, with signal 9, whether
                or not there is a connection then. Such a script reads nothing.

        Raises:
            NoShellError: If there is no connection.
            TargetError: If the local program cannot be started, the connection was lost, or the device answers more
                than it may.
            subprocess.TimeoutExpired: If it takes longer.
        """
        with self._popen() as process:
            try:
                text = pack(script, arguments, tell_status=True, limit_s=limit_s)
                output, notes = exchange(process, text + content, name=self.name, timeout_s=timeout_s)
            finally:
                end_group(process)
        return self._done(read_text(output), read_text(notes))

    def ask(self, script: str, *arguments: str, timeout_s: float = 60.0) -> str:
        """Runs a script that answers quickly and returns what it writes to stdout; one that hangs is ended there.

        Raises:
            TargetError: If there is no connection, or no answer.
        """
        try:
            done = self.run(script, *arguments, timeout_s=timeout_s + _GRACE_S, limit_s=timeout_s)
        except subprocess.TimeoutExpired:
            done = Done(-signal.SIGKILL, "", "")
        if done.status == -signal.SIGKILL:
            raise TargetError(
                f"{self.name}: it did not answer within {timeout_s:g} s. Check that it is not short of memory."
            )
        return done.output

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
            raise TargetError(self.cannot_start(error)) from error

    def _done(self, output: str, notes: str) -> Done:
        before, mark, after = output.partition(f"{MARK}\n")
        if not mark:
            raise NoShellError(self.explain(notes if notes.strip() else before))
        after, mark, status = after.rpartition(f"\n{END} ")
        if not mark:
            raise TargetError(self.lost(notes))
        if not re.fullmatch(r"[0-9]{1,3}\n?", status):
            raise TargetError(self.lost(notes))
        # Where sh was told of a signal it ends with 128, that of ksh with 256, and the signal's number.
        number = int(status)
        base = 256 if number > 256 else 128
        return Done(base - number if base < number < base + signal.NSIG else number, after, notes)

    def cannot_start(self, error: OSError) -> str:
        """Says in a sentence that the local program cannot be started."""
        program = Path(self.command("")[0])
        reason = (error.strerror or str(error)).lower()
        return f"{self.name}: {program} here cannot be started: {reason}. Install {program.name} anew, then run again."

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


def pack(script: str, arguments: tuple[str, ...], *, tell_status: bool = False, limit_s: float | None = None) -> bytes:
    """Returns what `_LINE` reads there: the length of the script and the script, which sets its own arguments."""
    body = [f"set -- {shlex.join(arguments)}", *_lines(script)]
    if limit_s is not None:
        # The watcher leaves the outputs alone, or the connection would last as long as it does.
        watcher = f"( sleep {math.ceil(limit_s)}; end_tree $script ) < /dev/null > /dev/null 2>&1 &"
        body = ["(", *body, ") < /dev/null &", "script=$!", watcher, "watcher=$!", "wait $script", "status=$?"]
        body += ["{ end_tree $watcher; wait $watcher; } 2> /dev/null"]
    elif tell_status:
        body = ["(", *body, ")", "status=$?"]
    if tell_status:
        body += [f"printf '\\n{END} %d\\n' $status"]
    content = "\n".join([f"echo {MARK}", "umask 077", *_lines("common.sh"), *body, ""]).encode()
    return f"{len(content)}\n".encode() + content


def _lines(script: str) -> list[str]:
    """Returns a script without comments and indents, which need not travel; no line of these scripts is text."""
    lines = (line.strip() for line in (SCRIPTS / script).read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def read_text(received: bytes) -> str:
    """Decodes what came from a device."""
    return printable(received.decode(errors="replace"))


def printable(text: str) -> str:
    """Replaces what is no text: whoever reads it later shows it on a terminal. Line ends become newlines."""
    return _UNPRINTABLE.sub("\ufffd", text.replace("\r\n", "\n").replace("\r", "\n"))


def read_number(text: str) -> int:
    """Returns the whole number that a script of ours printed last, 0 if it could not tell."""
    number = re.search(r"([0-9]{1,15})\s*\Z", text)
    return int(number[1]) if number else 0


def last_line(text: str) -> str:
    """Returns the last line that says something, without its full stop."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1].rstrip(".") if lines else ""
