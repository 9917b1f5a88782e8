from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from edgelstm.errors import EdgeLSTMError, ModelRunError
from edgelstm.runtime.child import run_worker
from edgelstm.runtime.interpreters import python_for
from tests.tiny_models import TinyModels

pytestmark = pytest.mark.cold


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    return TinyModels(tmp_path_factory.mktemp("models"))


@pytest.fixture
def fake_python(tmp_path):
    """Makes a "Python" that ignores its arguments and runs other code."""

    def make(code: str) -> str:
        path = tmp_path / "python"
        path.write_text(f"#!{sys.executable} -S\nimport os, signal, sys, time\n{code}\n")
        path.chmod(0o755)
        return str(path)

    return make


PLAN: dict[str, Any] = {"op": "load", "model": "m.tflite", "runtime": "ai-edge-litert"}
READY = {"event": "ready", "runtime": "ai-edge-litert", "runtime_version": "9.8"}


def message_of(plan: dict[str, Any], **options: Any) -> str:
    with pytest.raises(ModelRunError) as caught:
        run_worker(plan, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_events_come_back_in_order(models):
    ready, result = run_worker({**PLAN, "model": models["affine"]})
    assert (ready["event"], result["event"]) == ("ready", "result")
    assert [tensor["name"] for tensor in result["inputs"]] == ["x"]


def test_the_plan_goes_in_with_its_protocol(fake_python):
    python = fake_python("import json; print(json.dumps({'event': 'result', 'plan': json.load(sys.stdin)}))")
    assert run_worker({**PLAN, "model": Path("m.tflite")}, python=python)[-1]["plan"] == {"protocol": 1, **PLAN}


def test_the_worker_is_started_isolated(fake_python):
    python = fake_python("import json; print(json.dumps({'event': 'result', 'arguments': sys.argv[1:]}))")
    *flags, path = run_worker(PLAN, python=python)[-1]["arguments"]
    assert flags == ["-I", "-B"]
    assert Path(path).name == "worker.pyz"


def test_another_worker_is_started_the_same_way(fake_python):
    python = fake_python("import json; print(json.dumps({'event': 'result', 'arguments': sys.argv[1:]}))")
    assert run_worker(PLAN, python=python, script="/a/script.py")[-1]["arguments"] == ["-I", "-B", "/a/script.py"]


def test_a_refused_plan_is_one_sentence(tmp_path):
    path = tmp_path / "none.tflite"
    assert message_of({**PLAN, "model": path}) == f"{path}: ai-edge-litert failed: the model file does not exist."


def test_a_crash_names_signal_runtime_and_model(fake_python):
    code = f"print('{json.dumps(READY)}', flush=True); os.kill(os.getpid(), signal.SIGSEGV)"
    assert message_of(PLAN, python=fake_python(code)) == (
        "m.tflite: ai-edge-litert 9.8 crashed (SIGSEGV). The file is damaged or uses something this runtime cannot "
        "run: export it again, or use another runtime."
    )


def test_the_last_words_on_stderr_are_reported_and_notices_are_not(fake_python):
    code = (
        "print('INFO: Created', 'check failed: x > 0.', 'INFO: Bye', '', sep='\\n', file=sys.stderr, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGABRT)"
    )
    assert "ai-edge-litert crashed (SIGABRT): check failed: x > 0. The file" in message_of(
        PLAN, python=fake_python(code)
    )


def test_a_crash_after_the_result_is_a_crash(fake_python):
    code = 'print(\'{"event": "result"}\', flush=True); os.kill(os.getpid(), signal.SIGBUS)'
    assert "crashed (SIGBUS)" in message_of(PLAN, python=fake_python(code))


def test_a_runtime_not_known_yet_is_not_named(fake_python):
    python = fake_python("os.kill(os.getpid(), signal.SIGKILL)")
    assert message_of({"op": "load", "model": "m.tflite"}, python=python).startswith(
        "m.tflite: the runtime crashed (SIGKILL). "
    )


def test_an_exit_status_is_reported(fake_python):
    python = fake_python("sys.exit('no module named numpy')")
    assert message_of(PLAN, python=python) == (
        "m.tflite: the worker ended with status 1: no module named numpy. "
        f"Check that {python} starts, and has numpy and the runtime."
    )


@pytest.mark.parametrize(
    "output",
    [
        "",
        "hello",
        "{}",
        "[1]",
        '{"event": "ready"}',
        'hello\n{"event": "result"}',
        '{"event": "result"}\nbye',
        "\udcff",
    ],
)
def test_garbage_is_not_taken_for_a_result(fake_python, output):
    python = fake_python(f"sys.stdout.buffer.write({output!r}.encode(errors='surrogateescape'))")
    message = message_of(PLAN, python=python)
    assert message.startswith("m.tflite: the worker answered '")
    assert message.endswith(f"' instead of a result. Check that {python} is a Python.")


def test_long_garbage_is_shortened(fake_python):
    assert len(message_of(PLAN, python=fake_python("print('x' * 10_000)"))) < 500


def test_a_hanging_worker_is_stopped_with_all_that_it_started(fake_python, tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    code = (
        "import subprocess\n"
        f"os.set_inheritable(writer := os.open({str(pipe)!r}, os.O_WRONLY), True)\n"
        f"subprocess.Popen([{sys.executable!r}, '-S', '-c', 'import time; time.sleep(60)'], close_fds=False)\n"
        "os.write(writer, b'both run'); time.sleep(60)"
    )
    started = time.monotonic()
    message = message_of(PLAN, python=fake_python(code), timeout_s=2)
    assert message == "m.tflite: ai-edge-litert was stopped after 2 s. Give it fewer calls or more time."
    assert time.monotonic() - started < 20
    assert os.read(reader, 100) == b"both run"
    assert is_closed(reader)
    os.close(reader)


def is_closed(reader: int) -> bool:
    """Whether all processes that could write into a pipe are gone, within a few seconds."""
    for _ in range(50):
        try:
            return os.read(reader, 1) == b""
        except BlockingIOError:
            time.sleep(0.1)
    return False


def test_a_grandchild_that_keeps_the_pipes_open_does_not_keep_us(fake_python):
    code = 'if os.fork() == 0:\n    time.sleep(60)\nprint(\'{"event": "result"}\', flush=True); os._exit(0)'
    started = time.monotonic()
    assert "stopped after 2 s" in message_of(PLAN, python=fake_python(code), timeout_s=2)
    assert time.monotonic() - started < 20


def test_a_worker_that_does_not_read_its_plan_is_no_broken_pipe(fake_python):
    python = fake_python('os.close(0); print(\'{"event": "result"}\')')
    assert run_worker({**PLAN, "padding": "x" * 1_000_000}, python=python) == [{"event": "result"}]


@pytest.mark.parametrize("python", ["/nowhere/python", os.devnull])
def test_a_python_that_cannot_be_started_is_named(python):
    assert message_of(PLAN, python=python).startswith(f"m.tflite: the worker cannot be started, {python}: ")


@pytest.mark.parametrize("runtime", ["ai-edge-litert", "tflite-runtime"])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.2, 0.5, 0.9])
def test_a_truncated_model_is_one_sentence(models, tmp_path, runtime, share):
    try:
        python = python_for(runtime)
    except EdgeLSTMError:
        pytest.skip(f"no Python has {runtime}; EDGELSTM_RUNTIMES={runtime}=/path/to/python names one")
    content = models["fused_lstm"].read_bytes()
    path = tmp_path / "short.tflite"
    path.write_bytes(content[: int(share * len(content))])
    message = message_of({"op": "load", "model": path, "runtime": runtime}, python=python)
    assert message.startswith(f"{path}: {runtime} ")


def test_a_signal_is_what_it_is():
    # What the tests above call SIGSEGV is how a segmentation fault in native code ends a process.
    done = subprocess.run(
        [sys.executable, "-c", "import ctypes; ctypes.string_at(0)"], capture_output=True, check=False
    )
    assert done.returncode == -signal.SIGSEGV
