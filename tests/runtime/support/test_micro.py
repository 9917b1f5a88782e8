"""The rule of TensorFlow Lite Micro, operator by operator against the runtime itself."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ai_edge_litert import schema_py_generated as schema

from edgelstm.runtime.inspection import inspect
from edgelstm.runtime.support.facts import Facts, read_facts
from edgelstm.runtime.support.micro import micro_rule
from tests.one_operator import Op, Tensor, one_operator

DTYPES = ("float32", "int8", "int16", "int32", "int64", "bool")
SCALES = {"int8": 0.5, "int16": 0.5}
AXIS = Tensor("axis", "int32", (1,), [1])

RUN = """
import json, os, sys
import numpy as np
from tflite_micro import runtime

ran = []
for name, (path, dtypes) in json.load(open(sys.argv[1])).items():
    child = os.fork()
    if not child:
        try:
            interpreter = runtime.Interpreter.from_file(path, arena_size=100_000)
            for index, dtype in enumerate(dtypes):
                interpreter.set_input(np.ones((2, 4), dtype), index)
            interpreter.invoke()
        except Exception:
            os._exit(1)
        os._exit(0)
    if os.waitpid(child, 0)[1] == 0:
        ran.append(name)
print("RAN", json.dumps(ran))
"""


def tensor(name: str, dtype: str, *shape: int) -> Tensor:
    return Tensor(name, dtype, shape or (2, 4), None, SCALES.get(dtype))


def unary(operator: str, options: Any = None) -> Callable[[str], bytes]:
    return lambda dtype: one_operator(getattr(Op, operator), [tensor("x", dtype)], [tensor("y", dtype)], options)


def binary(operator: str, options: Any = None, output: str | None = None) -> Callable[[str], bytes]:
    return lambda dtype: one_operator(
        getattr(Op, operator), [tensor("a", dtype), tensor("b", dtype)], [tensor("y", output or dtype)], options
    )


def reduction(operator: str) -> Callable[[str], bytes]:
    return lambda dtype: one_operator(
        getattr(Op, operator), [tensor("x", dtype), AXIS], [tensor("y", dtype, 2)], schema.ReducerOptionsT()
    )


def arg_max(dtype: str) -> bytes:
    options = schema.ArgMaxOptionsT()
    options.outputType = schema.TensorType.INT32
    axis = Tensor("axis", "int32", (), 1)
    return one_operator(Op.ARG_MAX, [tensor("x", dtype), axis], [Tensor("y", "int32", (2,))], options)


def gather(dtype: str) -> bytes:
    indices = Tensor("indices", "int32", (2,), [1, 0])
    return one_operator(Op.GATHER, [tensor("x", dtype), indices], [tensor("y", dtype)], schema.GatherOptionsT())


def select(dtype: str) -> bytes:
    condition = Tensor("condition", "bool", (2, 4), [[True, False] * 2] * 2)
    inputs = [condition, tensor("a", dtype), tensor("b", dtype)]
    return one_operator(Op.SELECT_V2, inputs, [tensor("y", dtype)], schema.SelectV2OptionsT())


def split(dtype: str) -> bytes:
    options = schema.SplitOptionsT()
    options.numSplits = 2
    halves = [tensor("y", dtype, 2, 2), tensor("z", dtype, 2, 2)]
    return one_operator(Op.SPLIT, [Tensor("axis", "int32", (), 1), tensor("x", dtype)], halves, options)


def cumsum(dtype: str) -> bytes:
    axis = Tensor("axis", "int32", (), 1)
    return one_operator(Op.CUMSUM, [tensor("x", dtype), axis], [tensor("y", dtype)], schema.CumsumOptionsT())


def transpose(dtype: str) -> bytes:
    permutation = Tensor("permutation", "int32", (2,), [1, 0])
    inputs = [tensor("x", dtype), permutation]
    return one_operator(Op.TRANSPOSE, inputs, [tensor("y", dtype, 4, 2)], schema.TransposeOptionsT())


def slice_(dtype: str) -> bytes:
    parts = [Tensor(name, "int32", (2,), value) for name, value in (("begin", [0, 1]), ("size", [2, 2]))]
    return one_operator(Op.SLICE, [tensor("x", dtype), *parts], [tensor("y", dtype, 2, 2)], schema.SliceOptionsT())


def reverse(dtype: str) -> bytes:
    return one_operator(Op.REVERSE_V2, [tensor("x", dtype), AXIS], [tensor("y", dtype)], schema.ReverseV2OptionsT())


def expand(dtype: str) -> bytes:
    inputs = [tensor("x", dtype), Tensor("axis", "int32", (), 1)]
    return one_operator(Op.EXPAND_DIMS, inputs, [tensor("y", dtype, 2, 1, 4)], schema.ExpandDimsOptionsT())


def concatenation(dtype: str) -> bytes:
    options = schema.ConcatenationOptionsT()
    options.axis = 1
    return one_operator(Op.CONCATENATION, [tensor("a", dtype), tensor("b", dtype)], [tensor("y", dtype, 2, 8)], options)


def pack(dtype: str) -> bytes:
    options = schema.PackOptionsT()
    options.valuesCount = 2
    return one_operator(Op.PACK, [tensor("a", dtype), tensor("b", dtype)], [tensor("y", dtype, 2, 2, 4)], options)


def cast(dtype: str) -> bytes:
    return one_operator(Op.CAST, [tensor("x", dtype)], [tensor("y", "float32")], schema.CastOptionsT())


MAKERS: dict[str, Callable[[str], bytes]] = {
    "ADD": binary("ADD", schema.AddOptionsT()),
    "MUL": binary("MUL", schema.MulOptionsT()),
    "SUB": binary("SUB", schema.SubOptionsT()),
    "MAXIMUM": binary("MAXIMUM", schema.MaximumMinimumOptionsT()),
    "LESS": binary("LESS", schema.LessOptionsT(), "bool"),
    "GREATER": binary("GREATER", schema.GreaterOptionsT(), "bool"),
    "EQUAL": binary("EQUAL", schema.EqualOptionsT(), "bool"),
    "RELU": unary("RELU"),
    "ZEROS_LIKE": unary("ZEROS_LIKE", schema.ZerosLikeOptionsT()),
    "NEG": unary("NEG", schema.NegOptionsT()),
    "SUM": reduction("SUM"),
    "MEAN": reduction("MEAN"),
    "REDUCE_MAX": reduction("REDUCE_MAX"),
    "ARG_MAX": arg_max,
    "CAST": cast,
    "CONCATENATION": concatenation,
    "CUMSUM": cumsum,
    "EXPAND_DIMS": expand,
    "GATHER": gather,
    "PACK": pack,
    "REVERSE_V2": reverse,
    "SELECT_V2": select,
    "SLICE": slice_,
    "SPLIT": split,
    "TRANSPOSE": transpose,
}


def files(folder: Path) -> Iterator[tuple[str, Path, Facts]]:
    for operator, make in MAKERS.items():
        for dtype in DTYPES:
            path = folder / f"{operator}-{dtype}.tflite"
            path.write_bytes(make(dtype))
            yield f"{operator} {dtype}", path, read_facts(inspect(path), path)


def test_micro_takes_the_types_that_the_rule_says(run_python, tmp_path):
    pytest.importorskip("tflite_micro")
    cases = {name: (path, facts) for name, path, facts in files(tmp_path)}
    listed = {
        name: (str(path), [each.dtype for each in facts.inspection.inputs]) for name, (path, facts) in cases.items()
    }
    (tmp_path / "cases.json").write_text(json.dumps(listed))
    done = run_python(RUN, tmp_path / "cases.json")
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("RAN ")]
    ran = set(json.loads(line.removeprefix("RAN ")))
    predicted = {name for name, (_, facts) in cases.items() if micro_rule(facts).right == "yes"}
    assert len(ran) > len(cases) / 3
    assert ran == predicted


def facts_of(tmp_path: Path, content: bytes) -> Facts:
    path = tmp_path / "m.tflite"
    path.write_bytes(content)
    return read_facts(inspect(path), path)


@pytest.mark.parametrize(
    "operator, dtype, why",
    [("GATHER", "int16", "its GATHER takes no int16"), ("SPLIT", "bool", "its SPLIT takes no bool")],
)
def test_the_reason_names_operator_and_type(tmp_path, operator, dtype, why):
    verdict = micro_rule(facts_of(tmp_path, MAKERS[operator](dtype)))
    assert (verdict.loads, verdict.why, verdict.cure) == ("no", why, "micro")


def test_more_than_ten_parts_are_too_many_for_a_concatenation(tmp_path):
    parts = [tensor(f"x{number}", "float32") for number in range(11)]
    content = one_operator(Op.CONCATENATION, parts, [tensor("y", "float32", 22, 4)], schema.ConcatenationOptionsT())
    assert micro_rule(facts_of(tmp_path, content)).why == "its CONCATENATION takes fewer than 11 inputs"


def test_five_axes_are_too_many_for_a_strided_slice(tmp_path):
    bounds = [Tensor(name, "int32", (5,), [1] * 5) for name in ("begin", "end", "strides")]
    inputs, output = [tensor("x", "float32", 1, 1, 1, 1, 4), *bounds], tensor("y", "float32", 1, 1, 1, 1, 4)
    content = one_operator(Op.STRIDED_SLICE, inputs, [output], schema.StridedSliceOptionsT())
    assert micro_rule(facts_of(tmp_path, content)).why == "its STRIDED_SLICE takes fewer than 5 axes"


def test_float_values_and_int8_weights_do_not_mix(tmp_path):
    weights = Tensor("w", "int8", (3, 4), [[1] * 4] * 3, 1.0)
    inputs = [tensor("x", "float32"), weights]
    content = one_operator(Op.FULLY_CONNECTED, inputs, [tensor("y", "float32", 2, 3)], schema.FullyConnectedOptionsT())
    assert micro_rule(facts_of(tmp_path, content)).why == "its FULLY_CONNECTED takes no float values with int8 weights"


def test_what_is_missing_is_named_once(tmp_path):
    facts = facts_of(tmp_path, MAKERS["ADD"]("float32"))
    (use,) = facts.operators
    others = tuple(dataclasses.replace(use, name=name) for name in ("TOPK_V2", "TOPK_V2", "SELECT", "TILE"))
    assert micro_rule(dataclasses.replace(facts, operators=others)).why == (
        "it has no TOPK_V2, it has no SELECT and 1 more"
    )


def test_computed_sizes_make_it_hang(tmp_path):
    facts = dataclasses.replace(facts_of(tmp_path, MAKERS["ADD"]("float32")), has_computed_sizes=True)
    assert (micro_rule(facts).loads, micro_rule(facts).right) == ("yes", "no")


def test_open_sizes_stay_as_they_stand_in_the_file(tmp_path):
    facts = dataclasses.replace(facts_of(tmp_path, MAKERS["ADD"]("float32")), has_open_sizes=True)
    assert micro_rule(facts).why == "only in the sizes that stand in the file: nothing can be resized"
