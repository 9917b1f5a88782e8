from __future__ import annotations

import json

import pytest

from edgelstm.errors import LoadError, OutputError
from edgelstm.targets.documents import read_measurements, to_document, write_document
from edgelstm.targets.harness import BenchResult
from tests.targets.made import PLAN, emulated, estimated, measured

RESULT = BenchResult(PLAN, (measured(100.0), measured(120.0, name="n.tflite"), emulated(1000), estimated(5.0)), ())


def test_what_is_written_is_read_again(tmp_path):
    path = tmp_path / "out.json"
    write_document(path, to_document(RESULT, version="1.2", command=["edgelstm", "bench"]))
    assert tuple(read_measurements(path)) == RESULT.measurements
    document = json.loads(path.read_text(encoding="utf-8"))
    assert (document["format"], document["edgelstm"]) == ("edgelstm-bench-1", "1.2")
    assert document["comparisons"][0]["other"] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["out.json"]


@pytest.mark.parametrize(
    "content, message",
    [
        (None, r"Cannot read .*: no such file or directory\."),
        ("hello", "is not a JSON file"),
        ("[]", "is of format None, not 'edgelstm-bench-1'"),
        ('{"format": "edgelstm-bench-99"}', "is of format 'edgelstm-bench-99'"),
        ('{"format": "edgelstm-bench-1"}', "is damaged: 'measurements' is missing"),
        ('{"format": "edgelstm-bench-1", "measurements": 3}', "is damaged: 'int' object is not iterable"),
        ('{"format": "edgelstm-bench-1", "measurements": [{"kind": "measured"}]}', "is damaged: target is missing"),
        ('{"format": "edgelstm-bench-1", "measurements": [3]}', "is damaged: Measurement is int, not an object"),
    ],
)
def test_what_is_no_document_is_one_sentence(tmp_path, content, message):
    path = tmp_path / "out.json"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    with pytest.raises(LoadError, match=message):
        read_measurements(path)


def test_a_folder_that_is_missing_is_one_sentence(tmp_path):
    with pytest.raises(OutputError, match=r"Cannot write .*out\.json: no such file or directory\."):
        write_document(tmp_path / "none" / "out.json", {})


@pytest.mark.parametrize(
    "change, message",
    [
        ({"kind": "guessed"}, "kind cannot be 'guessed'"),
        ({"statistics": None}, "a model that is measured has no numbers"),
        ({"processes": [{"samples_ns": ["a"], "warmup_ns": [], "load_us": 1, "first_invoke_us": 1}]}, "samples_ns"),
        ({"processes": [{"samples_ns": [0], "warmup_ns": [], "load_us": 1, "first_invoke_us": 1}]}, "not positive"),
        ({"settings": {"delegate": [1]}}, "delegate cannot be"),
        ({"settings": {"threads": 0}}, "threads is 0"),
    ],
)
def test_values_that_cannot_be_are_named(tmp_path, change, message):
    path = tmp_path / "out.json"
    entry = {**measured(100.0).to_json(), **change}
    path.write_text(json.dumps({"format": "edgelstm-bench-1", "measurements": [entry]}), encoding="utf-8")
    with pytest.raises(LoadError, match=message):
        read_measurements(path)


def test_keys_of_a_later_version_are_left_out(tmp_path):
    path = tmp_path / "out.json"
    entry = {**measured(100.0).to_json(), "later": 1}
    path.write_text(json.dumps({"format": "edgelstm-bench-1", "measurements": [entry]}), encoding="utf-8")
    assert read_measurements(path) == [measured(100.0)]
