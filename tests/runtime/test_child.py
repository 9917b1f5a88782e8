from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest

from edgelstm.errors import EdgeLSTMError, ModelRunError
from edgelstm.runtime import interpreters
from edgelstm.runtime.child import conclude, run_worker, worker_file
from edgelstm.runtime.interpreters import python_for
from edgelstm.targets import worker
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


def test_the_worker_is_one_file_whose_bytes_depend_on_its_source_alone(monkeypatch, run_python):
    code = "from edgelstm.runtime.child import worker_file; import hashlib; path = worker_file()\n"
    code += "print(path, hashlib.sha256(path.read_bytes()).hexdigest())"
    told = [run_python(code).stdout.split() for _ in range(2)]
    (path, sha256), (other, same) = told
    assert path != other
    assert sha256 == same == hashlib.sha256(worker_file().read_bytes()).hexdigest()
    assert not Path(path).parent.exists()
    with zipfile.ZipFile(worker_file()) as archive:
        names = archive.namelist()
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    assert names[:2] == ["__main__.py", "edgelstm_worker/__init__.py"]
    assert {f"edgelstm_worker/{Path(path).name}" for path in Path(worker.__file__).parent.glob("*.py")} == set(
        names[1:]
    )


def test_the_workers_file_stays_when_a_copy_of_the_process_ends(run_python):
    code = (
        "import os, sys; from edgelstm.runtime.child import worker_file; path = worker_file()\n"
        "child = os.fork()\n"
        "if child == 0: sys.exit()\n"
        "os.waitpid(child, 0); print(path.exists())"
    )
    assert run_python(code).stdout == "True\n"


def test_variables_and_cores_reach_the_worker(fake_python, monkeypatch):
    monkeypatch.setenv("EDGELSTM_TEST_KEPT", "yes")
    code = (
        "import json; names = ('EDGELSTM_TEST_KEPT', 'EDGELSTM_TEST_ADDED'); plan = json.load(sys.stdin)\n"
        "print(json.dumps({'event': 'result', 'told': [os.environ.get(name) for name in names], 'plan': plan}))"
    )
    result = run_worker(PLAN, python=fake_python(code), environment={"EDGELSTM_TEST_ADDED": "too"}, cores=(0, 1))[-1]
    assert result["told"] == ["yes", "too"]
    assert result["plan"] == {"protocol": 1, "cores": [0, 1], **PLAN}
    assert "EDGELSTM_TEST_ADDED" not in os.environ


def test_a_bench_is_told_when_its_process_was_started(fake_python):
    python = fake_python("import json; print(json.dumps({'event': 'result', 'plan': json.load(sys.stdin)}))")
    before = time.time_ns()
    started = run_worker({**PLAN, "op": "bench"}, python=python)[-1]["plan"]["started_ns"]
    assert before <= started <= time.time_ns()
    assert run_worker({**PLAN, "op": "bench", "started_ns": 7}, python=python)[-1]["plan"]["started_ns"] == 7


def test_auto_looks_for_a_python_that_has_a_runtime_for_the_file(fake_python, monkeypatch):
    python = fake_python('print(\'{"event": "result"}\')')
    monkeypatch.setattr(interpreters, "_is_here", lambda name: name == "ai-edge-litert")
    monkeypatch.setenv(interpreters.VARIABLE, f"onnxruntime={python}")
    assert run_worker({"op": "load", "model": Path("m.onnx")}) == [{"event": "result"}]


def test_a_worker_that_ran_elsewhere_is_judged_in_the_same_words():
    result = {"event": "result", "calls": 3}
    lines = f"{json.dumps(READY)}\n{json.dumps(result)}\n"
    assert conclude(PLAN, "python3 on pi", 0, lines, "") == [READY, result]
    ended = [
        (-11, json.dumps(READY), "", "m.tflite: ai-edge-litert 9.8 crashed (SIGSEGV). The file is damaged or uses"),
        (1, '{"event": "error", "message": "no model."}', "", "m.tflite: ai-edge-litert failed: no model."),
        (
            127,
            "",
            "sh: python3: not found",
            "m.tflite: the worker ended with status 127: sh: python3: not found. Check ",
        ),
        (0, "motd\n" + lines, "", "m.tflite: the worker answered 'motd"),
    ]
    for status, output, notes, message in ended:
        with pytest.raises(ModelRunError) as caught:
            conclude(PLAN, "python3 on pi", status, output, notes)
        assert str(caught.value).startswith(message)


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


@pytest.mark.parametrize("notice", ["I0101 00:00:00 a.cc:1] x", "W1122 06:33:01.12 9 a.cc:1] x", "WARNING: x", "  x"])
def test_notices_of_every_month_are_not_the_last_words(fake_python, notice):
    code = f"print('out of tensors', {notice!r}, sep='\\n', file=sys.stderr, flush=True); sys.exit(3)"
    assert "status 3: out of tensors. Check" in message_of(PLAN, python=fake_python(code))


@pytest.mark.parametrize("words", ["I0 is no register", "Wrong shape", "E1122 06:33:01 a.cc:1] lost", "W12345 is odd"])
def test_what_only_resembles_a_notice_is_reported(fake_python, words):
    code = f"print({words!r}, file=sys.stderr, flush=True); sys.exit(3)"
    assert f"status 3: {words}. Check" in message_of(PLAN, python=fake_python(code))


def test_a_crash_after_the_result_is_a_crash(fake_python):
    code = 'print(\'{"event": "result"}\', flush=True); os.kill(os.getpid(), signal.SIGBUS)'
    assert "crashed (SIGBUS)" in message_of(PLAN, python=fake_python(code))


def test_a_runtime_not_known_yet_is_not_named(fake_python):
    python = fake_python("os.kill(os.getpid(), signal.SIGKILL)")
    assert message_of({"op": "load", "model": "m.tflite"}, python=python).startswith(
        "m.tflite: the runtime was killed, as the system does when memory runs out. Use a smaller model"
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
