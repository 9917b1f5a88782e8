"""Native conversion in a child process: whatever happens there becomes one sentence, and never a file."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from edgelstm.converters import native
from edgelstm.converters.lowering.signature import model_signature
from edgelstm.converters.lowering.trace import trace_model
from edgelstm.errors import ConversionError, OutputError
from tests.converters.tiny import classifier

pytestmark = pytest.mark.cold

NO_MODEL = Path("/no/such/folder")
JOBS = {
    "conversion": lambda **options: native.convert_saved_model(NO_MODEL, "float32", **options),
    "int8 quantization": lambda **options: native.quantize(b"no model", **options),
}
every_job = pytest.mark.parametrize("what", JOBS)


@pytest.fixture
def worker(tmp_path, monkeypatch):
    """Puts a program in place of the native worker while the test runs."""

    def replace(code: str) -> None:
        path = tmp_path / "worker.py"
        path.write_text(code)
        monkeypatch.setattr(native, "WORKER", path)

    return replace


@pytest.fixture(scope="module")
def saved_model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("traced") / "saved_model"
    model = classifier()
    trace_model(model, model_signature(model), folder)
    return folder


@every_job
@pytest.mark.parametrize("name", ["SIGSEGV", "SIGABRT", "SIGKILL"])
def test_a_crash_is_told_by_the_name_of_its_signal(worker, what, name):
    worker(f"import os, signal\nos.kill(os.getpid(), signal.{name})")
    with pytest.raises(ConversionError, match=rf"The native {what} crashed \({name}\).*--quantize dynamic or float16"):
        JOBS[what]()


@every_job
def test_a_converter_that_hangs_is_stopped_in_time(worker, what):
    worker("import time\ntime.sleep(60)")
    started = time.monotonic()
    with pytest.raises(
        ConversionError, match=rf"The native {what} did not end within 1 s and was stopped\. .*--timeout"
    ):
        JOBS[what](timeout_s=1)
    assert time.monotonic() - started < 10


def test_a_converter_that_hangs_is_not_left_running(worker, tmp_path):
    alive = tmp_path / "alive"
    worker(f"import time\ntime.sleep(3)\nopen({str(alive)!r}, 'w')")
    with pytest.raises(ConversionError, match="did not end"):
        JOBS["conversion"](timeout_s=1)
    time.sleep(3)
    assert not alive.exists()


@every_job
def test_a_converter_that_writes_nothing_has_refused(worker, what):
    worker("")
    with pytest.raises(ConversionError, match=rf"The native {what} was refused.*it gave no reason\."):
        JOBS[what]()


@pytest.mark.parametrize(
    "log, reason",
    [
        (
            "loading\\nloc(x): error: 'tf.Odd' op is odd\\nTraceback\\nRuntimeError: conversion failed",
            "'tf.Odd' op is odd",
        ),
        ("Traceback\\nValueError: no such tag", "ValueError: no such tag"),
        ("only one line", "only one line"),
    ],
)
def test_the_telling_line_of_the_log_is_the_reason(worker, log, reason):
    worker(f"import sys\nsys.stderr.write('{log}')\nsys.exit(1)".replace("'tf.Odd'", "\\'tf.Odd\\'"))
    with pytest.raises(ConversionError) as raised:
        JOBS["conversion"]()
    assert str(raised.value) == f"The native conversion was refused by TensorFlow's converter: {reason}"


def test_an_endless_reason_is_shortened(worker):
    worker("import sys\nsys.exit('x' * 10_000)")
    with pytest.raises(ConversionError, match=r"x{200,}\.\.\.$") as raised:
        JOBS["conversion"]()
    assert len(str(raised.value)) < 400


def test_a_log_that_is_no_text_does_no_harm(worker):
    worker("import sys\nsys.stderr.buffer.write(bytes([0xff, 0xfe]))\nsys.exit(1)")
    with pytest.raises(ConversionError, match="was refused"):
        JOBS["conversion"]()


def test_a_result_beside_a_failure_is_no_result(worker):
    worker("import json, sys\nopen(json.load(open(sys.argv[1]))['output'], 'wb').write(b'half')\nsys.exit(1)")
    with pytest.raises(ConversionError, match="was refused"):
        JOBS["conversion"]()


def test_a_missing_saved_model_is_refused_by_the_real_converter():
    with pytest.raises(ConversionError, match=r"The native conversion was refused .*/no/such/folder"):
        JOBS["conversion"]()


def test_something_else_than_a_model_is_refused_by_the_real_quantizer_or_crashes_it():
    with pytest.raises(ConversionError, match=r"The native int8 quantization (was refused|crashed)"):
        JOBS["int8 quantization"]()


def test_a_full_scratch_folder_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "write_bytes", full_disk)
    with pytest.raises(OutputError, match=r"Cannot write the temporary file .*job\.json: No space left.*Free space"):
        JOBS["conversion"]()


def full_disk(path: Path, data: bytes) -> int:
    raise OSError(28, "No space left on device", str(path))


# Stands in for the worker: like it, but the short way to TensorFlow's converter fails.
WITHOUT_SHORT_WAY = """
import importlib, importlib.util, sys
spec = importlib.util.spec_from_file_location("worker", {worker!r})
worker = importlib.util.module_from_spec(spec)
spec.loader.exec_module(worker)
real = importlib.import_module
failures = []
def import_module(name, package=None):
    if name in worker.MODULES and getattr(sys.modules["tensorflow"], "__file__", None) is None:
        failures.append(name)
        raise ImportError("not this way")
    return real(name, package)
importlib.import_module = import_module
status = worker.main(sys.argv[1])
assert failures and sys.modules["tensorflow"].__file__
sys.exit(status)
"""


def test_both_ways_to_the_converter_give_the_same_bytes(saved_model, worker):
    short = native.convert_saved_model(saved_model, "float32")
    worker(WITHOUT_SHORT_WAY.format(worker=str(native.WORKER)))
    assert native.convert_saved_model(saved_model, "float32") == short


def test_converting_again_gives_the_same_bytes_for_the_same_folder(saved_model):
    first, second = (native.convert_saved_model(saved_model, "dynamic") for _ in range(2))
    assert first == second
    assert first[4:8] == b"TFL3"
