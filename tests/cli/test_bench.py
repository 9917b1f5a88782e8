from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from recorder import Recorder

from edgelstm.errors import ModelRunError

pytestmark = pytest.mark.cold


@pytest.fixture
def bench(replace):
    """The library's function, replaced."""
    recorder = Recorder(SimpleNamespace(to_json=lambda: {"p50_us": 120.5}, summary=lambda: "p50 120.5 us"))
    replace("targets.cpu", bench=recorder)
    return recorder


def test_defaults(run, bench):
    assert run("bench", "m.tflite") == (0, "p50 120.5 us\n", "")
    assert bench.args == (Path("m.tflite"),)
    assert bench.kwargs == {"threads": 1, "runtime": "auto", "plan": "full"}


def test_every_option_reaches_the_library(run, bench):
    done = run("bench", "m.tflite", "--threads", "2", "--runtime", "tflite-runtime", "--plan", "quick", "--json")
    assert bench.kwargs == {"threads": 2, "runtime": "tflite-runtime", "plan": "quick"}
    assert (done.code, json.loads(done.out), done.err) == (0, {"p50_us": 120.5}, "")


@pytest.mark.parametrize(
    "option, value, allowed", [("--threads", "0", "x>=1"), ("--threads", "-1", "x>=1"), ("--plan", "long", "'full'")]
)
def test_a_wrong_value_is_wrong_usage(run, bench, option, value, allowed):
    done = run("bench", "m.tflite", option, value)
    assert (done.code, done.out) == (2, "")
    assert allowed in done.err


def test_a_crash_is_one_line(run, bench):
    bench.result = ModelRunError("ai-edge-litert crashed on m.tflite (SIGSEGV).")
    assert run("bench", "m.tflite") == (1, "", "edgelstm: error: ai-edge-litert crashed on m.tflite (SIGSEGV).\n")
