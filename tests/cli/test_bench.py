from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
from recorder import Recorder

from edgelstm import native
from edgelstm.errors import ModelRunError, SettingError
from edgelstm.targets.documents import read_measurements, to_document, write_document
from edgelstm.targets.harness import BenchResult, Failure
from edgelstm.targets.plans import PLANS
from tests.targets.made import PLAN, estimated, measured

pytestmark = pytest.mark.cold

FAILURE = Failure("ssh://pi@board", Path("m.tflite"), "1 thread", "ssh://pi@board: no route.")


@pytest.fixture
def bench(replace):
    """The library's function, replaced."""
    recorder = Recorder(BenchResult(PLAN, (measured(100.0),), ()))
    replace("targets.bench", bench_all=recorder)
    return recorder


def test_defaults(run, bench):
    done = run("bench", "m.tflite")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("m.tflite (5,000 bytes), measured on cpu\n")
    assert bench.args == ((Path("m.tflite"),),)
    assert bench.kwargs["targets"] == ("cpu",)
    assert bench.kwargs["plan"] == PLANS["full"]
    (settings,) = bench.kwargs["matrix"].settings()
    assert (settings.runtime, settings.threads, settings.batch, settings.delegate) == ("auto", 1, None, None)


def test_every_combination_reaches_the_library(run, bench):
    done = run(
        *("bench", "a.tflite", "b.tflite", "--target", "cpu", "--target", "profile:x", "--runtime", "tflite-runtime"),
        *(
            "--threads",
            "1",
            "--threads",
            "2",
            "--batch",
            "8",
            "--length",
            "50",
            "--plan",
            "quick",
            "--operators",
            "--timeout",
            "30",
        ),
        *(
            "--delegate",
            "none",
            "--delegate",
            "d.so",
            "--delegate",
            "edgelstm",
            "--mode",
            "jit",
            "--dtype",
            "float16",
            "--json",
        ),
    )
    assert (done.code, done.err) == (0, "")
    assert json.loads(done.out)["measurements"][0]["target"] == "cpu"
    assert bench.args == ((Path("a.tflite"), Path("b.tflite")),)
    assert bench.kwargs["targets"] == ("cpu", "profile:x")
    assert bench.kwargs["plan"] == PLANS["quick"].with_operators(True)
    assert bench.kwargs["timeout_s"] == 30
    ways = bench.kwargs["matrix"].settings()
    delegates = (None, "d.so", str(native.library_path()))
    assert [(each.threads, each.delegate) for each in ways] == list(itertools.product((1, 2), delegates))
    assert {(each.runtime, each.batch, each.length, each.mode, each.dtype) for each in ways} == {
        ("tflite-runtime", 8, 50, "jit", "float16")
    }


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["m.tflite", "--threads", "0"], "x>=1"),
        (["m.tflite", "--threads", "-1"], "x>=1"),
        (["m.tflite", "--plan", "long"], "'full'"),
        (["m.tflite", "--mode", "fast"], "'eager'"),
        ([], "Give at least one model file."),
        (["m.tflite", "--timeout", "0"], "x>0"),
        (["--compare", "a.json", "b.json", "--tolerance", "nan"], "--tolerance is a number of percent"),
        (["--compare", "a.json", "b.json", "-o", "c.json"], "--compare takes two outputs of earlier runs"),
        (["m.tflite", "--compare", "a.json", "b.json"], "--compare takes two outputs of earlier runs"),
    ],
)
def test_a_wrong_value_is_wrong_usage(run, bench, arguments, message):
    done = run("bench", *arguments)
    assert (done.code, done.out) == (2, "")
    assert message in done.err


def test_an_unknown_target_is_wrong_usage(run):
    done = run("bench", "m.tflite", "--target", "cpuu")
    assert (done.code, done.out) == (2, "")
    assert "Target 'cpuu' is not known, only cpu, gpu" in done.err
    assert "Did you mean cpu?" in done.err


def test_an_unknown_runtime_is_wrong_usage(run):
    done = run("bench", "m.tflite", "--runtime", "tflight")
    assert (done.code, done.out) == (2, "")
    assert "Runtime 'tflight' is not known, only ai-edge-litert, tflite-runtime, " in done.err


def test_a_file_that_is_missing_is_one_line(run):
    done = run("bench", "none.tflite")
    assert done == (1, "", "edgelstm: error: none.tflite: cannot be read: no such file or directory.\n")


def test_a_crash_is_one_line(run, bench):
    bench.result = ModelRunError("ai-edge-litert crashed on m.tflite (SIGSEGV).")
    assert run("bench", "m.tflite") == (1, "", "edgelstm: error: ai-edge-litert crashed on m.tflite (SIGSEGV).\n")


def test_an_impossible_setting_is_wrong_usage(run, bench):
    bench.result = SettingError("emulated:arm64 counts with one thread.")
    done = run("bench", "m.tflite")
    assert (done.code, done.out) == (2, "")
    assert "counts with one thread" in done.err


def test_what_is_finished_is_shown_and_kept_when_something_fails(run, bench, tmp_path):
    bench.result = BenchResult(PLAN, (measured(100.0),), (FAILURE,))
    journal = tmp_path / "o.json.partial"
    journal.touch()
    done = run("bench", "m.tflite", "-o", tmp_path / "o.json")
    assert done.code == 1
    assert "measured on cpu" in done.out
    assert done.err == "edgelstm: error: ssh://pi@board: no route.\n"
    assert bench.kwargs["journal_path"] == journal
    assert journal.exists()
    assert len(read_measurements(tmp_path / "o.json")) == 1


def test_the_journal_goes_when_all_is_measured(run, bench, tmp_path):
    journal = tmp_path / "o.json.partial"
    journal.touch()
    assert run("bench", "m.tflite", "-o", tmp_path / "o.json").code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["o.json"]


def test_an_interruption_says_how_to_go_on(run, bench, tmp_path):
    bench.result = KeyboardInterrupt()
    done = run("bench", "m.tflite", "-o", tmp_path / "o.json")
    assert done.code == 130
    assert f"the same command goes on from {tmp_path / 'o.json.partial'}" in " ".join(done.err.split())


def test_a_page_is_written(run, bench, tmp_path):
    bench.result = BenchResult(PLAN, (measured(100.0), estimated(50.0)), ())
    assert run("bench", "m.tflite", "--html", tmp_path / "o.html").code == 0
    assert (tmp_path / "o.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def test_a_page_that_cannot_be_written_is_said_before_measuring(run, bench, tmp_path):
    done = run("bench", "m.tflite", "--html", tmp_path / "none" / "o.html")
    assert done.code == 1
    assert "there is no folder" in done.err
    assert bench.args == ()


@pytest.fixture
def outputs(tmp_path):
    """Writes two documents and returns their paths."""

    def write(old_us: float, new_us: float) -> tuple[Path, Path]:
        paths = tmp_path / "old.json", tmp_path / "new.json"
        for path, value, seed in zip(paths, (old_us, new_us), (0, 1), strict=True):
            document = to_document(BenchResult(PLAN, (measured(value, seed=seed),), ()), version="1")
            write_document(path, document)
        return paths

    return write


def test_a_regression_ends_with_one(run, outputs):
    done = run("bench", "--compare", *outputs(100.0, 130.0))
    assert (done.code, done.err) == (1, "")
    assert done.out.endswith("1 of 1 slower beyond the noise.\n")
    assert run("bench", "--compare", *outputs(100.0, 130.0), "--tolerance", "50").code == 0


def test_no_regression_ends_with_zero(run, outputs):
    done = run("bench", "--compare", *outputs(100.0, 101.0), "--json")
    assert (done.code, done.err) == (0, "")
    assert json.loads(done.out)["regression"] is False
