"""A file examined as a whole, run or not."""

from __future__ import annotations

import json

import pytest

from edgelstm.errors import LoadError
from edgelstm.runtime import support
from edgelstm.runtime.support import examine
from edgelstm.runtime.support.base import Verdict
from edgelstm.runtime.support.runs import Runs
from tests import tiny_models
from tests.one_operator import accumulator


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "m.tflite"
    path.write_bytes(accumulator())
    return path


def test_looking_at_a_file_does_not_run_it(path, monkeypatch):
    monkeypatch.setattr("subprocess.Popen", None)
    found = examine(path)
    assert {entry.basis for entry in found.support if entry.kind == "runtime"} == {"rule"}
    assert found.contradictions == ()


def test_runs_take_the_place_of_rules(path, monkeypatch):
    ran = Runs({"ai-edge-litert": Verdict("yes", "no", "it rained")}, ("Something is wrong.",))
    monkeypatch.setattr("edgelstm.runtime.support.runs.run_everywhere", lambda *_: ran)
    found = examine(path, run=True)
    first = found.support[0]
    assert (first.name, first.right, first.basis, first.why) == ("ai-edge-litert", "no", "run", "it rained")
    assert found.contradictions == ("Something is wrong.",)


def test_json_and_text_hold_both(path):
    found = examine(path)
    document = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert document["size_bytes"] == path.stat().st_size
    assert [entry["name"] for entry in document["support"]] == [entry.name for entry in found.support]
    assert document["contradictions"] == []
    text = found.to_text(60)
    assert "\n\nOperators\n  1  ADD\n" in text
    assert "\n\nRuntimes                 loads  right on every call" in text
    assert max(map(len, text.split("\n"))) <= 60


def test_a_real_file_is_really_run(tmp_path):
    path = tmp_path / "m.tflite"
    path.write_bytes(tiny_models.fused_lstm())
    found = {entry.name: entry for entry in examine(path, run=True).support}
    assert (found["ai-edge-litert"].right, found["ai-edge-litert"].basis) == ("reset", "run")
    assert (found["litert-compiled"].loads, found["litert-compiled"].basis) == ("no", "run")


def test_what_is_no_model_is_refused(tmp_path):
    (tmp_path / "m.tflite").write_bytes(b"PK\x03\x04 and more")
    with pytest.raises(LoadError, match="zip archive"):
        support.examine(tmp_path / "m.tflite")
