from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from recorder import Recorder

from edgelstm.errors import LoadError


@pytest.fixture
def examine(replace):
    """The library's function, replaced."""
    found = SimpleNamespace(
        to_json=lambda: {"operators": {"ADD": 1}}, to_text=lambda width: f"text of {width} columns", contradictions=()
    )
    recorder = Recorder(found)
    replace("runtime.support", examine=recorder)
    return recorder


def test_text(run, examine):
    assert run("inspect", "m.tflite") == (0, "text of 80 columns\n", "")
    assert (examine.args, examine.kwargs) == ((Path("m.tflite"),), {"run": False})


def test_json(run, examine):
    done = run("inspect", "m.tflite", "--json")
    assert (done.code, json.loads(done.out), done.err) == (0, {"operators": {"ADD": 1}}, "")


def test_a_run_is_asked_for(run, examine):
    run("inspect", "m.tflite", "--run")
    assert examine.kwargs == {"run": True}


def test_a_run_that_contradicts_a_rule_is_a_warning(run, examine):
    examine.result.contradictions = ("Micro: a run ended otherwise than the rule says.",)
    done = run("inspect", "m.tflite", "--run", "--json")
    assert (done.code, json.loads(done.out)) == (0, {"operators": {"ADD": 1}})
    assert done.err == "edgelstm: warning: Micro: a run ended otherwise than the rule says.\n"


def test_a_file_that_is_no_model(run, examine):
    examine.result = LoadError("m.png is no .tflite file.")
    assert run("inspect", "m.png", "--json") == (1, "", "edgelstm: error: m.png is no .tflite file.\n")
