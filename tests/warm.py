"""Starts child processes of tests from one that has their imports behind it: thousands of them save 0.3 s each.

Each is still a process of its own (`fork`), with its own stdin, stdout, stderr and folder, and may crash alone.

    python warm.py MODULE…      the server: imports what it can, then forks a child for each request on stdin
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import importlib
import json
import os
import runpy
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from types import CodeType, ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pytest


RUNTIMES = ("numpy", "ai_edge_litert.interpreter", "ai_edge_litert.compiled_model", "tflite_runtime.interpreter")


class WarmPython:
    """A Python that starts scripts quickly.

    Args:
        command: The Python and its flags, as in `[python, "-I", "-B"]`.
        imports: Modules to import beforehand, where it has them, and files whose function `load_converter` to call.
    """

    def __init__(self, command: Sequence[str], imports: Sequence[str] = ()) -> None:
        self._server = subprocess.Popen(
            [*command, __file__, *imports],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            encoding="utf-8",
        )
        atexit.register(self.stop)

    def run(
        self, arguments: Sequence[str], text: str, timeout_s: float, folder: Path | None = None
    ) -> tuple[int, str, str]:
        """Runs a script with arguments and returns its exit status, stdout and stderr.

        Raises:
            subprocess.TimeoutExpired: If it runs longer than timeout_s.
        """
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        with tempfile.TemporaryDirectory(prefix="edgelstm-") as place:
            files = [Path(place) / name for name in ("stdin", "stdout", "stderr")]
            files[0].write_text(text, encoding="utf-8")
            request = {
                "arguments": list(arguments),
                "files": [str(file) for file in files],
                "folder": str(folder or Path.cwd()),
                "environment": dict(os.environ),
                "timeout_s": timeout_s,
            }
            print(json.dumps(request), file=self._server.stdin, flush=True)
            answer = json.loads(self._server.stdout.readline())
            if answer["timed_out"]:
                raise subprocess.TimeoutExpired(list(arguments), timeout_s)
            output, notes = (file.read_text(encoding="utf-8", errors="replace") for file in files[1:])
            return answer["status"], output, notes

    def stop(self) -> None:
        self._server.kill()
        self._server.communicate()


def start_children_warm(patch: pytest.MonkeyPatch) -> dict[str, Callable[..., Any]]:
    """Has the runs and conversions of this process done by the servers of `warm_python`.

    Returns:
        The functions that did it before, by their names.
    """
    from edgelstm.converters import native
    from edgelstm.runtime import child

    runs, converter = child._communicate, native._start

    def communicate(command: Sequence[str], text: str, timeout_s: float) -> tuple[int, str, str]:
        python, *flags, script = command
        if script != child._worker_path() or not os.access(python, os.X_OK):
            return runs(command, text, timeout_s)
        return warm_python((python, *flags), RUNTIMES).run([script], text, timeout_s)

    def start(program: list[str], timeout_s: float, folder: Path) -> tuple[int, str]:
        python = warm_python((sys.executable, "-P", "-B"), (str(native.WORKER),))
        status, _, notes = python.run(program, "", timeout_s, folder)
        return status, notes

    patch.setattr(child, "_communicate", communicate)
    patch.setattr(native, "_start", start)
    return {"edgelstm.runtime.child._communicate": runs, "edgelstm.converters.native._start": converter}


@functools.cache
def warm_python(command: tuple[str, ...], imports: tuple[str, ...]) -> WarmPython:
    """Returns the only server of this process for a Python."""
    return WarmPython(command, imports)


def serve(names: Sequence[str]) -> None:
    """Answers requests until stdin ends."""
    for name in names:
        with contextlib.suppress(ImportError):
            if name.endswith(".py"):
                runpy.run_path(name)["load_converter"]()
                if sys.modules["tensorflow"].__spec__ is None:  # its place only: the script looks for it again
                    del sys.modules["tensorflow"]
            else:
                importlib.import_module(name)
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    programs: dict[bytes, CodeType] = {}
    for line in sys.stdin:
        request = json.loads(line)
        script = Path(request["arguments"][0])
        source = script.read_bytes()
        if source not in programs:
            programs[source] = compile(source, script, "exec")
        child = os.fork()
        if child == 0:
            _become(request, programs[source])
        print(json.dumps(_wait(child, request["timeout_s"])), file=answers, flush=True)


def _become(request: dict[str, Any], program: CodeType) -> None:
    """Runs the script as `python SCRIPT ARGUMENTS…` does, and ends this process."""
    status = 1
    try:
        os.setsid()
        for descriptor, (path, flags) in enumerate(
            zip(request["files"], (os.O_RDONLY, os.O_WRONLY | os.O_CREAT, os.O_WRONLY | os.O_CREAT), strict=True)
        ):
            os.dup2(os.open(path, flags), descriptor)
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
        os.chdir(request["folder"])
        os.environ.clear()
        os.environ.update(request["environment"])
        sys.argv = request["arguments"]
        sys.modules["__main__"] = main = ModuleType("__main__")
        main.__file__ = sys.argv[0]
        exec(program, main.__dict__)
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
    finally:
        with contextlib.suppress(BaseException):
            atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _wait(child: int, timeout_s: float) -> dict[str, Any]:
    """Waits for a child and returns how it ended, as `subprocess` tells it; after timeout_s it is killed."""
    timed_out = False

    def kill(*_: Any) -> None:
        nonlocal timed_out
        timed_out = True
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)

    signal.signal(signal.SIGALRM, kill)
    signal.setitimer(signal.ITIMER_REAL, timeout_s)
    _, status = os.waitpid(child, 0)
    signal.setitimer(signal.ITIMER_REAL, 0)
    return {"status": os.waitstatus_to_exitcode(status), "timed_out": timed_out}


if __name__ == "__main__":
    serve(sys.argv[1:])
