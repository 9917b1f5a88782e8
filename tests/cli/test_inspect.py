from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from recorder import Recorder

from edgelstm.errors import LoadError


@pytest.fixture
def inspect(replace):
    """The library's function, replaced."""
    recorder = Recorder(SimpleNamespace(to_json=lambda: {"operators": {"ADD": 1}}))
    replace("runtime.inspection", inspect=recorder, format_text=lambda found: f"operators {found.to_json()}")
    return recorder


def test_text(run, inspect):
    assert run("inspect", "m.tflite") == (0, "operators {'operators': {'ADD': 1}}\n", "")
    assert (inspect.args, inspect.kwargs) == ((Path("m.tflite"),), {})


def test_json(run, inspect):
    done = run("inspect", "m.tflite", "--json")
    assert (done.code, json.loads(done.out), done.err) == (0, {"operators": {"ADD": 1}}, "")


def test_a_file_that_is_no_model(run, inspect):
    inspect.result = LoadError("m.png is no .tflite file.")
    assert run("inspect", "m.png", "--json") == (1, "", "edgelstm: error: m.png is no .tflite file.\n")
