from __future__ import annotations

from pathlib import Path

import pytest

from edgelstm.targets.naming import name_all
from edgelstm.targets.subjects import Settings
from tests.targets.made import measured


def names_of(*paths):
    return name_all([measured(artifact=Path(path)) for path in paths])


def names_with(*ways):
    return name_all([measured(settings=Settings(**way)) for way in ways])


@pytest.mark.parametrize(
    "paths, names",
    [
        (["x/m.tflite"], ["m"]),
        (["m.tflite", "m.tflite"], ["m", "m"]),
        (["x/a.tflite", "y/b.tflite"], ["a", "b"]),
        (["m.tflite", "m.onnx"], ["m.tflite", "m.onnx"]),
        (["m.int8.tflite", "m.float.tflite"], ["m.int8", "m.float"]),
        (["old/m.tflite", "new/m.tflite"], ["old/m", "new/m"]),
        (["old/m.tflite", "new/m.tflite", "x/n.tflite"], ["old/m", "new/m", "n"]),
        (["a/x/m.tflite", "b/x/m.tflite", "b/y/m.tflite"], ["a/x/m", "b/x/m", "y/m"]),
        (["m.tflite", "x/m.tflite", "/y/x/m.tflite"], ["m", "x/m", "y/x/m"]),
        (["a/m.tflite", "b/m.tflite", "m.onnx"], ["a/m.tflite", "b/m.tflite", "m.onnx"]),
        (["/m.tflite", "m.tflite"], ["/m", "m"]),
    ],
)
def test_files_go_by_the_shortest_that_tells_them_apart(paths, names):
    assert names_of(*paths) == names
    assert names_of(*paths[::-1]) == names[::-1]


def test_settings_are_named_where_they_differ():
    assert names_with({"threads": 1}, {"threads": 2}) == ["m, 1 thread", "m, 2 threads"]
    assert names_with({"batch": 8}, {"batch": 64}) == ["m, batch 8", "m, batch 64"]
    assert names_with({"length": 8}, {}) == ["m, length 8", "m"]
    assert names_with({"mode": "jit"}, {"mode": "eager"}) == ["m, jit", "m, eager"]
    assert names_with({}, {"dtype": "float16"}) == ["m", "m, float16"]
    assert names_with({}, {"delegate": "build/libx.so"}) == ["m", "m, libx.so"]
    assert names_with({"threads": 2, "batch": 8}, {"threads": 2, "batch": 8}) == ["m", "m"]


def test_runtimes_are_named_where_they_differ():
    made = [measured(runtime="tflite-runtime"), measured(runtime="ai-edge-litert")]
    assert name_all(made) == ["m, tflite-runtime", "m, ai-edge-litert"]
    assert name_all(made[:1]) == ["m"]
