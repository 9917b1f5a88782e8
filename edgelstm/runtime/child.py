"""Runs the worker in a child process, so that a crash of a native runtime costs that process and not this one.

What goes in and out is documented in `edgelstm.targets.worker`.
"""

from __future__ import annotations

import atexit
import functools
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgelstm.errors import ModelRunError
from edgelstm.runtime.interpreters import python_for

PROTOCOL = 1
DEFAULT_TIMEOUT_S = 120.0

_MAIN = """import time

began_ns = time.time_ns()

import sys

from edgelstm_worker.program import main

sys.exit(main(began_ns))
"""
"""What a Python runs of the worker's file: the time first."""

_NOTICE = re.compile(r"INFO:|WARNING:|[IW]\d{4} |  ")
"""Begins lines on stderr that do not explain an end; glog writes its level, then month and day."""


def run_worker(
    plan: dict[str, Any],
    *,
    python: str | None = None,
    timeout_s: float = DEFAULT_TIMEOUT_S,
    script: str | None = None,
    environment: Mapping[str, str] | None = None,
    cores: Sequence[int] | None = None,
) -> list[dict[str, Any]]:
    """Runs one plan in a worker of its own.

    Args:
        plan: What to do; `edgelstm.targets.worker` says what it may hold. "protocol" need not be given.
        python: The Python to start. None: the one that has plan["runtime"].
        timeout_s: Seconds after which the worker is stopped.
        script: Another worker's file, which speaks in the same events; with one, python is needed.
        environment: Variables to set beside those of this process.
        cores: Numbers of the processors on which the worker shall stay: "cores" of the plan.

    Returns:
        The events in order. The last one is the result.

    Raises:
        ModelRunError: If the model, the runtime or the plan was refused, or the worker crashed, ran too long or
            answered something else.
        MissingExtraError: If no Python has the runtime.
    """
    model = str(plan.get("model"))
    python = python or python_for(plan.get("runtime") or "auto", model)
    command = [python, "-I", "-B", script or str(worker_file())]
    try:
        variables = None if environment is None else {**os.environ, **environment}
        status, output, notes = communicate(command, _plan_text(plan, cores), timeout_s, variables)
    except subprocess.TimeoutExpired as error:
        raise ModelRunError(
            f"{model}: {_runtime(plan, [])} was stopped after {timeout_s:g} s. Give it fewer calls or more time."
        ) from error
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise ModelRunError(
            f"{model}: the worker cannot be started, {python}: {reason}. Name another Python, or none."
        ) from error
    return conclude(plan, python, status, output, notes)


def conclude(plan: dict[str, Any], python: str, status: int, output: str, notes: str) -> list[dict[str, Any]]:
    """Says how a worker ended, wherever it ran.

    Args:
        plan: Its plan.
        python: The Python that was started, as a person knows it.
        status: Exit status; negative for the number of a signal.
        output: What it wrote to stdout.
        notes: What it wrote to stderr.

    Returns:
        The events in order. The last one is the result.

    Raises:
        ModelRunError: If there is no result.
    """
    events = _parse(output)
    if status == 0 and events and events[-1]["event"] == "result":
        return events
    raise ModelRunError(f"{plan.get('model')}: {_what_went_wrong(plan, python, status, events, output, notes)}")


def _plan_text(plan: dict[str, Any], cores: Sequence[int] | None) -> str:
    """Returns what goes to the worker's stdin, with the time at which it is started if it asks for times."""
    added: dict[str, Any] = {} if cores is None else {"cores": list(cores)}
    if plan.get("op") == "bench":
        added["started_ns"] = time.time_ns()
    return json.dumps({"protocol": PROTOCOL, **added, **plan}, default=os.fspath)


@functools.cache
def worker_file() -> Path:
    """Packs the worker into one file that a Python of any version and machine can run, once per process.

    Returns:
        Path of the file, which goes away with this process. The same sources make the same bytes.
    """
    spec = importlib.util.find_spec("edgelstm.targets")
    assert spec is not None
    assert spec.submodule_search_locations
    sources = Path(spec.submodule_search_locations[0]) / "worker"
    folder = tempfile.mkdtemp(prefix="edgelstm-")
    atexit.register(_remove, folder, os.getpid())
    path = Path(folder) / "worker.pyz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(zipfile.ZipInfo("__main__.py"), _MAIN)
        for source in sorted(sources.glob("*.py")):
            archive.writestr(zipfile.ZipInfo(f"edgelstm_worker/{source.name}"), source.read_bytes())
    return path


def _remove(folder: str, process: int) -> None:
    """Removes a folder, unless this is a copy of the process that made it."""
    if os.getpid() == process:
        shutil.rmtree(folder, ignore_errors=True)


def communicate(
    command: Sequence[str], text: str, timeout_s: float, environment: Mapping[str, str] | None = None
) -> tuple[int, str, str]:
    """Runs a command and returns its exit status, stdout and stderr; after an exception nothing of it is left running.

    Args:
        command: The program and its arguments.
        text: What it reads from stdin.
        timeout_s: Seconds after which it is stopped, with all that it started in its session.
        environment: All its variables; None for those of this process.

    Raises:
        OSError: If it cannot be started.
        subprocess.TimeoutExpired: If it takes longer.
    """
    # A session of its own, so that whatever the command starts is stopped with it.
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,
        env=environment,
    ) as process:
        try:
            output, notes = process.communicate(text, timeout=timeout_s)
        finally:
            # Only while it has not been waited for: until then its number is not given to another process.
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)
    return process.returncode, output, notes


def _what_went_wrong(
    plan: dict[str, Any], python: str, status: int, events: list[dict[str, Any]], output: str, notes: str
) -> str:
    """Puts into words how a worker ended that brought no result."""
    runtime = _runtime(plan, events)
    if status == -signal.SIGKILL:
        return (
            f"{runtime} was killed, as the system does when memory runs out{_because(notes)}. "
            "Use a smaller model or a smaller batch, or close other programs."
        )
    if status < 0:
        return (
            f"{runtime} crashed ({_signal_name(-status)}){_because(notes)}. "
            "The file is damaged or uses something this runtime cannot run: export it again, or use another runtime."
        )
    if status == 1 and events and events[-1]["event"] == "error":
        return f"{runtime} failed: {str(events[-1].get('message')).rstrip('.')}."
    if status != 0:
        return (
            f"the worker ended with status {status}{_because(notes)}. "
            f"Check that {python} starts, and has numpy and the runtime."
        )
    return (
        f"the worker answered {_shorten(output)!r} instead of a result{_because(notes)}. "
        f"Check that {python} is a Python."
    )


def _parse(output: str) -> list[dict[str, Any]]:
    """Returns the events on stdout, an empty list if there is anything else."""
    events = []
    for line in output.splitlines():
        try:
            event = json.loads(line)
        except ValueError:
            return []
        if not isinstance(event, dict) or "event" not in event:
            return []
        events.append(event)
    return events


def _runtime(plan: dict[str, Any], events: list[dict[str, Any]]) -> str:
    """Names the runtime as exactly as it is known."""
    if events and events[0]["event"] == "ready":
        return f"{events[0].get('runtime')} {events[0].get('runtime_version')}"
    name = plan.get("runtime", "auto")
    return "the runtime" if name == "auto" else str(name)


def _because(notes: str) -> str:
    """Returns ': ' and the last line on stderr that is no notice, or nothing."""
    lines = [line for line in notes.splitlines() if line.strip() and not _NOTICE.match(line)]
    return f": {_shorten(lines[-1].strip().rstrip('.'))}" if lines else ""


def _shorten(text: str, limit: int = 200) -> str:
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
