"""The table of what a model can be made for."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from ai_edge_litert import schema_py_generated as schema

from edgelstm.converters.exporters import EXPORTERS
from edgelstm.errors import LoweringError
from edgelstm.runtime.engines import ENGINES
from edgelstm.runtime.runtimes import FAMILIES, MICRO_OPERATORS, MICRO_TYPES, family, value_position
from edgelstm.runtime.support import PLATFORMS, RUNTIMES
from tests.one_operator import Tensor, one_operator

MICRO = FAMILIES["micro"]
BUILTINS = {name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
DTYPES = {"bool", "float32", "int8", "int16", "int32", "int64", "uint8"}


def test_the_interpreter_is_the_default_and_takes_everything():
    first = next(iter(FAMILIES.values()))
    assert (first.name, first.form, first.precisions) == ("interpreter", "fused", tuple(EXPORTERS))
    assert first.takes("TOPK_V2", "int64")
    assert first.takes_size("CONCATENATION", 1000, 8)
    assert first.interface_types is None


@pytest.mark.parametrize("each", FAMILIES.values(), ids=FAMILIES)
def test_the_form_follows_from_what_a_runtime_takes(each):
    assert each.form == ("fused" if each.variables else "loop" if each.subgraphs else "unrolled")
    assert bool(each.why_form) == (each.form != "fused")
    assert bool(each.why_precisions) == (each.precisions != tuple(EXPORTERS))
    assert set(each.precisions) <= set(EXPORTERS)
    assert set(each.engines) <= set(ENGINES)
    assert "ai-edge-litert" in each.engines


def test_the_operators_of_micro_are_operators():
    assert MICRO_OPERATORS <= BUILTINS
    assert MICRO_TYPES.keys() <= MICRO_OPERATORS
    assert set().union(*MICRO_TYPES.values()) <= DTYPES


@pytest.mark.parametrize(
    "operator, dtype, takes",
    [
        ("GATHER", "float32", True),
        ("GATHER", "int16", False),
        ("ARG_MAX", "int32", False),
        ("WHILE", "int64", True),
        ("TOPK_V2", None, False),
        ("GATHER", None, True),
    ],
)
def test_micro_takes_some_types(operator, dtype, takes):
    assert MICRO.takes(operator, dtype) == takes


@pytest.mark.parametrize(
    "operator, num_inputs, rank, takes",
    [
        ("CONCATENATION", 10, 2, True),
        ("CONCATENATION", 11, 2, False),
        ("STRIDED_SLICE", 4, 4, True),
        ("STRIDED_SLICE", 4, 5, False),
        ("ADD", 2, 6, True),
        ("ADD", 2, 7, False),
    ],
)
def test_micro_takes_some_sizes(operator, num_inputs, rank, takes):
    assert MICRO.takes_size(operator, num_inputs, rank) == takes


def test_values_are_not_always_the_first_input():
    assert [value_position(name) for name in ("ADD", "SPLIT", "SELECT_V2", "FILL")] == [0, 1, 1, 1]


def test_a_precision_that_is_not_computed_is_refused():
    MICRO.check_precision("int8")
    with pytest.raises(LoweringError, match=r"TensorFlow Lite Micro cannot run dynamic: .* Use float32 or int8\."):
        MICRO.check_precision("dynamic")


def test_an_unknown_family_names_the_known_ones():
    assert family("web").title == "LiteRT.js"
    with pytest.raises(ValueError, match=r"'tpu' is not known\. Known are interpreter, compiled, web, mediapipe"):
        family("tpu")


def test_the_page_about_runtimes_names_all_of_them():
    page = (Path(__file__).parents[2] / "docs" / "runtimes.md").read_text()
    assert all(f"| `{name}`" in page for name in FAMILIES)
    for runtime in RUNTIMES.values():
        assert runtime.title.removesuffix(" (browser)").removesuffix(" delegate").removeprefix("LiteRT ") in page
        assert all(source in page for source in runtime.sources)
    assert all(f"| {platform} |" in page for platform in PLATFORMS)


PROBE = """
import json, os, sys
from tflite_micro import runtime

known = []
for name, path in json.load(open(sys.argv[1])).items():
    read, write = os.pipe()
    child = os.fork()  # operators without options crash, after they have been found
    if not child:
        os.dup2(write, 2)
        try:
            runtime.Interpreter.from_file(path, arena_size=100_000)
        except Exception:
            pass
        os._exit(0)
    os.waitpid(child, 0)
    os.close(write)
    with os.fdopen(read, errors="replace") as log:
        if "Didn't find op for builtin opcode" not in log.read():
            known.append(name)
print(json.dumps(known))
"""


@pytest.mark.matrix
def test_micro_has_these_operators_and_no_others(run_python, tmp_path):
    pytest.importorskip("tflite_micro")
    x, y = Tensor("x", "float32", (1,)), Tensor("y", "float32", (1,))
    paths = {}
    for name in sorted(BUILTINS - {"CUSTOM", "DELEGATE", "PLACEHOLDER_FOR_GREATER_OP_CODES"}):
        paths[name] = str(tmp_path / f"{name}.tflite")
        (tmp_path / f"{name}.tflite").write_bytes(one_operator(getattr(schema.BuiltinOperator, name), [x], [y]))
    (tmp_path / "paths.json").write_text(json.dumps(paths))
    done = run_python(PROBE, tmp_path / "paths.json")
    assert done.returncode == 0, done.stderr
    known = set(json.loads(re.findall(r"^\[.*\]$", done.stdout, re.MULTILINE)[-1]))
    assert known == MICRO_OPERATORS
