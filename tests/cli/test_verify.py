from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from recorder import Recorder


@pytest.fixture
def verify(replace):
    """The library's function, replaced; its report says that all is well."""
    report = SimpleNamespace(passed=True, to_json=lambda: {"passed": True}, summary=lambda: "equal on 2 runtimes")
    recorder = Recorder(report)
    replace("verifying", verify=recorder)
    return recorder


def test_agreement_ends_with_0_and_the_summary(run, verify):
    assert run("verify", "m.keras", "m.tflite") == (0, "equal on 2 runtimes\n", "")
    assert verify.args == (Path("m.keras"), Path("m.tflite"))
    assert verify.kwargs == {"data": None, "weights": None, "custom": ()}


def test_every_option_reaches_the_library(run, verify):
    done = run(
        "verify",
        "m.keras",
        "m.tflite",
        "--data",
        "d.npz",
        "--weights",
        "w.h5",
        "--custom",
        "layers:Attention",
        "--json",
    )
    assert verify.kwargs == {"data": Path("d.npz"), "weights": Path("w.h5"), "custom": ("layers:Attention",)}
    assert (done.code, json.loads(done.out), done.err) == (0, {"passed": True}, "")


@pytest.mark.parametrize("options, out", [([], "equal on 2 runtimes\n"), (["--json"], '{\n  "passed": true\n}\n')])
def test_disagreement_ends_with_1_and_still_prints_the_report(run, verify, options, out):
    verify.result.passed = False
    done = run("verify", "m.keras", "m.tflite", *options)
    assert done == (1, out, "edgelstm: error: m.tflite does not answer as m.keras does.\n")
