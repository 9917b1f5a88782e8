"""Starts child processes of tests from one that has their imports behind it: thousands of them save 0.3 s each.

Each is still a process of its own (`fork`), with its own stdin, stdout, stderr and folder, and may crash alone.

    python warm.py CODE      the server: runs the code, then forks a child for each request on stdin
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import os
import signal
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import CodeType, ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pytest

IMPORTS = """
import contextlib, importlib
for name in {}:
    with contextlib.suppress(ImportError):
        importlib.import_module(name)
"""
RUN_ARCHIVE = b"import runpy, sys; runpy.run_path(sys.argv[0], run_name='__main__')"
RUNTIMES = ("numpy", "ai_edge_litert.interpreter", "ai_edge_litert.compiled_model", "tflite_runtime.interpreter")
WORKER = tuple(f"edgelstm_worker.{name}" for name in ("program", "interpreter", "compiled", "run", "observe", "bench"))
PARTS_OF_THE_WORKER = """
import importlib, sys
sys.path.insert(0, {!r})
for name in {}:
    importlib.import_module(name)
"""
PARTS_OF_TENSORFLOW = """
import runpy, sys
runpy.run_path({!r})[{!r}]()
if sys.modules["tensorflow"].__spec__ is None:  # its place only: the script looks for it again
    del sys.modules["tensorflow"]
"""
WITHOUT_KERAS = """
import os, sys
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
sys.modules["keras"] = sys.modules["tf_keras"] = None
import tensorflow
"""


class WarmPython:
    """A Python that starts scripts quickly.

    Args:
        command: The Python and its flags, as in `[python, "-I", "-B"]`.
        code: What to run beforehand.
    """

    def __init__(self, command: Sequence[str], code: str) -> None:
        self._server = subprocess.Popen(
            [*command, __file__, code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            encoding="utf-8",
        )
        atexit.register(self.stop)

    def run(
        self, arguments: Sequence[str], content: bytes, timeout_s: float, folder: Path | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        """Runs a script with arguments to its end.

        Raises:
            subprocess.TimeoutExpired: If it runs longer than timeout_s.
        """
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        with tempfile.TemporaryDirectory(prefix="edgelstm-") as place:
            files = [Path(place) / name for name in ("stdin", "stdout", "stderr")]
            files[0].write_bytes(content)
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
            return subprocess.CompletedProcess(
                list(arguments), answer["status"], *(file.read_bytes() for file in files[1:])
            )

    def stop(self) -> None:
        """Ends the server."""
        self._server.kill()
        self._server.communicate()


def start_children_warm(patch: pytest.MonkeyPatch) -> dict[str, Callable[..., Any]]:
    """Has the runs and conversions of this process done by servers.

    Returns:
        The functions that did it before, by their names.
    """
    from edgelstm.converters import scripts
    from edgelstm.runtime import child

    runs, scripted, prepared = child.communicate, scripts.start, _preparations()

    def communicate(
        command: Sequence[str], text: str, timeout_s: float, environment: Mapping[str, str] | None = None
    ) -> tuple[int, str, str]:
        python, *flags, script = command
        if script != str(child.worker_file()) or environment or not os.access(python, os.X_OK):
            return runs(command, text, timeout_s, environment)
        server = warm_python((python, *flags), PARTS_OF_THE_WORKER.format(script, WORKER) + IMPORTS.format(RUNTIMES))
        done = server.run([script], text.encode(), timeout_s)
        return done.returncode, done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace")

    def start(
        script: str | Path, *arguments: str | Path, timeout_s: float, content: bytes = b"", folder: Path | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        if str(script) not in prepared:
            return scripted(script, *arguments, timeout_s=timeout_s, content=content, folder=folder)
        server = warm_python((sys.executable, "-P", "-B"), prepared[str(script)])
        return server.run([str(script), *map(str, arguments)], content, timeout_s, folder)

    patch.setattr(child, "communicate", communicate)
    patch.setattr(scripts, "start", start)
    return {"edgelstm.runtime.child.communicate": runs, "edgelstm.converters.scripts.start": scripted}


def _preparations() -> dict[str, str]:
    """What to run before which script."""
    from edgelstm.converters import native
    from edgelstm.converters.exporters.onnx import verify as onnx_verify
    from edgelstm.converters.exporters.saved_model import verify as saved_model_verify
    from edgelstm.converters.loading import hdf5_probe
    from edgelstm.converters.loading.saved_model import checkpoint_program

    return {
        str(native.WORKER): PARTS_OF_TENSORFLOW.format(str(native.WORKER), "load_converter"),
        checkpoint_program.__file__: PARTS_OF_TENSORFLOW.format(checkpoint_program.__file__, "load_reader"),
        hdf5_probe.__file__: "import h5py, numpy",
        str(onnx_verify.WORKER): IMPORTS.format(("numpy", "onnxruntime", "onnx.reference")),
        str(saved_model_verify.WORKER): WITHOUT_KERAS,
    }


@functools.cache
def warm_python(command: tuple[str, ...], code: str) -> WarmPython:
    """Returns the only server of this process for a Python and what it runs beforehand."""
    return WarmPython(command, code)


def serve(code: str) -> None:
    """Answers requests until stdin ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    exec(code, {})
    programs: dict[bytes, CodeType] = {}
    for line in sys.stdin:
        request = json.loads(line)
        script = Path(request["arguments"][0])
        source = RUN_ARCHIVE if zipfile.is_zipfile(script) else script.read_bytes()
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
    serve(sys.argv[1])
