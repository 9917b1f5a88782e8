"""A folder and a Python on a device: where workers run."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgelstm.errors import ModelRunError, TargetError
from edgelstm.runtime.child import PROTOCOL, worker_file
from edgelstm.runtime.interpreters import PACKAGES
from edgelstm.targets.remote.events import read_events
from edgelstm.targets.remote.guard import BEAT_S, WATCH_S, Guard
from edgelstm.targets.remote.pythons import RemotePython, choose_python
from edgelstm.targets.remote.shell import DAMAGED, LOST, NO_SPACE, Done, NoShellError, Shell, last_line, read_number

SLOWEST_BYTES_PER_S = 50_000
"""A connection that is slower is taken for a hang."""

LONGEST_NAME = 100
"""Characters of a file's own name that are kept there: no usual file system takes more than 255, some only 143."""

KILLED = -9


@dataclass(frozen=True)
class _Sent:
    path: str
    shown: str


class RemotePlace:
    """A device with a connection; see `edgelstm.targets.workers.Place`.

    Attributes:
        shell: How to reach it.
        folder: Path of the folder there, which goes away with the connection.
    """

    def __init__(self, shell: Shell, *, beat_s: float = BEAT_S, watch_s: int = WATCH_S) -> None:
        """Connects; `close` ends it.

        Raises:
            TargetError: If the device cannot be reached, or no folder can be made there.
        """
        self.shell = shell
        self._guard = Guard(shell, beat_s=beat_s, watch_s=watch_s)
        self.folder = self._guard.folder
        self._sent: dict[tuple[str, int, int], _Sent] = {}
        self._python: RemotePython | None = None
        self._num_runs = 0

    def close(self) -> None:
        """Removes the folder and ends the connection."""
        self._guard.close()

    @property
    def python(self) -> RemotePython:
        """The Python there, looked for once.

        Raises:
            TargetError: If there is none with a runtime.
        """
        if self._python is None:
            self._python = choose_python(self.shell)
        return self._python

    def send(self, path: Path) -> str:
        """Copies a file there once, checks that it arrived whole, and returns its path there; see `Place.send`."""
        try:
            status = path.stat()
            key = (str(path.resolve()), status.st_size, status.st_mtime_ns)
            if key not in self._sent:
                self._sent[key] = _Sent(self._copy(path, path.read_bytes()), str(path))
        except OSError as error:
            raise ModelRunError(f"{path}: cannot be read: {(error.strerror or str(error)).lower()}.") from error
        return self._sent[key].path

    def run_worker(self, plan: dict[str, Any], *, timeout_s: float) -> list[dict[str, Any]]:
        """Runs one plan; see `Place.run_worker`."""
        python = self.python
        shown = {**plan, "model": f"{self._shown(plan.get('model'))} on {self.shell.name}"}
        self._check_runtime(shown["model"], str(plan.get("runtime", "auto")), python)
        script = self.send(worker_file())
        text = json.dumps({"protocol": PROTOCOL, **plan}).encode()
        try:
            done = self.run([python.command, "-I", "-B", script], content=text, timeout_s=timeout_s)
        except subprocess.TimeoutExpired as error:
            runtime = plan.get("runtime", "auto")
            raise ModelRunError(
                f"{shown['model']}: {'the runtime' if runtime == 'auto' else runtime} was stopped after "
                f"{timeout_s:g} s. Give it fewer calls or more time."
            ) from error
        if done.status == KILLED:
            raise ModelRunError(f"{shown['model']}: {self._why_killed()}")
        return read_events(shown, python.command, done)

    def run(self, command: list[str], *, content: bytes = b"", timeout_s: float) -> Done:
        """Runs a command there, in the folder, and ends it and all it started if it takes too long or is interrupted.

        Raises:
            TargetError: If the connection was lost, or the disk there is full.
            subprocess.TimeoutExpired: If it takes longer.
        """
        self._guard.check()
        self._num_runs += 1
        name = str(self._num_runs)
        try:
            done = self.shell.run("run.sh", self.folder, name, *command, content=content, timeout_s=timeout_s)
        except NoShellError as error:
            raise TargetError(self.shell.lost()) from error  # it was there before
        except TargetError:
            raise
        except BaseException:
            self._stop(name)
            raise
        if done.status == LOST:
            self.shell.fail_lost(done.notes)
        if done.status == NO_SPACE:
            raise TargetError(f"{self.shell.name}: nothing can be written to {self.folder}: {last_line(done.notes)}.")
        return done

    def _stop(self, name: str) -> None:
        try:
            self.shell.run("stop.sh", self.folder, name, timeout_s=30)
        except (subprocess.TimeoutExpired, TargetError):
            self._guard.close()  # then the guard there ends it, as soon as it notices

    def _copy(self, path: Path, content: bytes) -> str:
        """Writes a file there under a name made of its hash, and of its own so that messages can be understood."""
        self._guard.check()
        digest, size_bytes = hashlib.sha256(content).hexdigest(), len(content)
        name = f"{digest[:12]}-{re.sub(r'[^A-Za-z0-9._-]', '_', path.name)[-LONGEST_NAME:]}"
        timeout_s = 60 + size_bytes / SLOWEST_BYTES_PER_S
        python = self._python.command if self._python else "python3"
        try:
            arguments = [self.folder, name, digest, python]
            if self.shell.send(path, f"{self.folder}/{name}.part", timeout_s):
                arguments, content = [*arguments, "is-there"], b""
            done = self.shell.run("send.sh", *arguments, content=content, timeout_s=timeout_s)
        except subprocess.TimeoutExpired as error:
            raise TargetError(
                f"{self.shell.name}: {path.name} ({size_bytes:,} bytes) did not arrive within {timeout_s:.0f} s. "
                "Check the network."
            ) from error
        self._check_copy(done, path, size_bytes)
        return f"{self.folder}/{name}"

    def _check_copy(self, done: Done, path: Path, size_bytes: int) -> None:
        if done.status == 0:
            return
        if done.status == NO_SPACE:
            free = read_number(done.output)
            raise TargetError(
                f"{self.shell.name}: {path.name} ({size_bytes:,} bytes) cannot be written to {self.folder}, where "
                f"{free:,} KiB are free: {last_line(done.notes)}. Free some space there, or set TMPDIR there to a "
                "larger place."
            )
        if done.status == DAMAGED:
            raise TargetError(f"{self.shell.name}: {path.name} did not arrive as it was sent. Check its disk or card.")
        self.shell.fail_lost(done.notes)

    def _shown(self, remote: Any) -> str:
        """Returns the name here of a file there."""
        return next((sent.shown for sent in self._sent.values() if sent.path == remote), str(remote))

    def _check_runtime(self, shown: str, runtime: str, python: RemotePython) -> None:
        package = PACKAGES.get(runtime)
        if package is not None and package.module.partition(".")[0] not in python.packages:
            raise ModelRunError(
                f"{shown}: {python.text} there has no {runtime}. {self.shell.how_to_set_up(runtime)}, or leave out "
                "--runtime to use what is there."
            )

    def _why_killed(self) -> str:
        memory = self.shell.ask("memory.sh").split()
        free = f" ({memory[0]} of {memory[1]} MiB are free now)" if len(memory) == 2 else ""
        return (
            f"the worker was killed there, as Linux does when memory runs out{free}. Use a smaller model or a smaller "
            "batch, or end other programs there."
        )
