from __future__ import annotations

import json
from pathlib import Path

import pytest
from recorder import Recorder

from edgelstm.errors import SettingError, TargetError
from edgelstm.targets.base import Availability, SetupOptions

pytestmark = pytest.mark.cold

FOUND = [
    Availability("cpu", True, "this machine, 2 cores."),
    Availability("gpu", False, "this machine has no GPU that a driver shows, " + 3 * "and it goes on for long " + "."),
]


def test_what_can_be_reached_and_why_not_the_rest(run, replace):
    replace("targets", list_targets=lambda: FOUND)
    done = run("targets")
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert lines[0] == "+ cpu: this machine, 2 cores."
    assert lines[1].startswith("- gpu: this machine has no GPU")
    assert lines[2].startswith("    ")
    assert max(map(len, lines)) <= 80


def test_the_same_for_machines(run, replace):
    replace("targets", list_targets=lambda: FOUND)
    assert json.loads(run("targets", "--json").out)[0] == {
        "name": "cpu",
        "reachable": True,
        "text": "this machine, 2 cores.",
    }


def test_every_kind_is_listed_within_seconds(run):
    done = run("targets", "--json")
    names = [each["name"] for each in json.loads(done.out)]
    assert {"cpu", "gpu"} <= set(names)
    assert len(names) == len(set(names))


def test_setup_reaches_the_library(run, replace):
    recorder = Recorder("emulated:arm64 is ready.")
    replace("targets", set_up=recorder)
    done = run("targets", "setup", "emulated:arm64", "--wheels", "w", "--runtime", "tflite-runtime", "--again")
    assert done == (0, "emulated:arm64 is ready.\n", "")
    assert recorder.args[:2] == ("emulated:arm64", SetupOptions(Path("w"), "tflite-runtime", True))
    run("targets", "setup", "ssh://board", "--download")
    assert recorder.args[:2] == ("ssh://board", SetupOptions(options={"download": "yes"}))


@pytest.mark.parametrize("error, code", [(SettingError("no such target."), 2), (TargetError("no network."), 1)])
def test_what_goes_wrong_is_one_line(run, replace, error, code):
    replace("targets", set_up=Recorder(error))
    done = run("targets", "setup", "ssh://board")
    assert (done.code, done.out) == (code, "")
    assert str(error) in done.err


def test_what_needs_no_setup_is_wrong_usage(run):
    done = run("targets", "setup", "cpu")
    assert (done.code, done.out) == (2, "")
    assert "Target 'cpu' needs no setup" in done.err
