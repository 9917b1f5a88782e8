"""Operators that a runtime lacks are replaced by others that compute the same, or refused by name."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from edgelstm.converters.graph import Graph
from edgelstm.converters.lowering.adaptation import adapt, separate_outputs
from edgelstm.converters.lowering.operators import Operators
from edgelstm.errors import LoweringError
from edgelstm.runtime.engines import find_engine, run_on
from edgelstm.runtime.runtimes import FAMILIES
from tests.converters.lowering.one_cell import add_input, empty_graph, finished, sign, start

Op = schema.BuiltinOperator
MICRO, COMPILED, INTERPRETER = FAMILIES["micro"], FAMILIES["compiled"], FAMILIES["interpreter"]
TOKENS = np.array([[3, -1, 0, -8, 7], [-2, 5, -5, 1, 0]], np.int32)
FLOATS = np.array([[-3.0, -1.0, -0.5, 0.0, 0.5], [1.0, 1.5, 9.0, -0.0, 2.0]], np.float32)


def add(graph: Graph, code: int, inputs: list[int], shape: Any, dtype: Any, options: Any = None) -> int:
    output = graph.add_tensor("", shape, dtype)
    kind = getattr(schema.BuiltinOptions, type(options).__name__.removesuffix("T")) if options else 0
    graph.add_operator(code, inputs, [output], options=options, options_type=kind)
    return output


def finish(graph: Graph, output: int, name: str = "y") -> None:
    graph.tensor(output).name = name.encode()
    graph.subgraph.outputs.append(output)
    sign(graph)


def select_of_tokens(code: int = Op.SELECT) -> Graph:
    """Returns how Keras lets negative tokens count from the end of a vocabulary of 8."""
    graph = empty_graph()
    operators = Operators(graph)
    tokens = add_input(graph, "x", TOKENS.shape, np.int32)
    negative = operators.less(tokens, operators.constant(0))
    moved = operators.add(tokens, operators.constant(8))
    options = schema.SelectOptionsT() if code == Op.SELECT else schema.SelectV2OptionsT()
    finish(graph, add(graph, code, [negative, moved, tokens], TOKENS.shape, np.int32, options))
    return graph


def select_of_floats() -> Graph:
    """Returns the positive values, -7 in place of the others."""
    graph = empty_graph()
    operators = Operators(graph)
    x = add_input(graph, "x", FLOATS.shape)
    positive = add(
        graph, Op.GREATER, [x, operators.constant(0, np.float32)], FLOATS.shape, np.bool_, schema.GreaterOptionsT()
    )
    others = operators.constant(np.full(FLOATS.shape, -7), np.float32)
    finish(graph, add(graph, Op.SELECT, [positive, x, others], FLOATS.shape, np.float32, schema.SelectOptionsT()))
    return graph


def any_positive() -> Graph:
    """Returns which rows hold a value above 1."""
    graph = empty_graph()
    operators = Operators(graph)
    x = add_input(graph, "x", FLOATS.shape)
    above = add(
        graph, Op.GREATER, [x, operators.constant(1, np.float32)], FLOATS.shape, np.bool_, schema.GreaterOptionsT()
    )
    options = schema.ReducerOptionsT()
    options.keepDims = True
    reduced = add(graph, Op.REDUCE_ANY, [above, operators.constant([1])], [2, 1], np.bool_, options)
    cast = schema.CastOptionsT()
    cast.inDataType, cast.outDataType = schema.TensorType.BOOL, schema.TensorType.FLOAT32
    finish(graph, add(graph, Op.CAST, [reduced], [2, 1], np.float32, cast))
    return graph


def clipped() -> Graph:
    graph = empty_graph()
    finish(graph, Operators(graph).unary(Op.RELU_N1_TO_1, add_input(graph, "x", FLOATS.shape)))
    return graph


REPLACED = {
    "SELECT of tokens": (select_of_tokens, TOKENS, np.where(TOKENS < 0, TOKENS + 8, TOKENS), Op.SELECT),
    "SELECT_V2 of tokens": (
        lambda: select_of_tokens(Op.SELECT_V2), TOKENS, np.where(TOKENS < 0, TOKENS + 8, TOKENS), Op.SELECT_V2
    ),
    "SELECT of floats": (select_of_floats, FLOATS, np.where(FLOATS > 0, FLOATS, -7), Op.SELECT),
    "REDUCE_ANY": (any_positive, FLOATS, np.array([[0.0], [1.0]]), Op.REDUCE_ANY),
    "RELU_N1_TO_1": (clipped, FLOATS, np.clip(FLOATS, -1, 1), Op.RELU_N1_TO_1),
}  # fmt: skip


def codes(graph: Graph) -> list[int]:
    return [graph.code(operator) for operator in graph.operators]


@pytest.mark.parametrize("name", REPLACED)
def test_what_micro_lacks_is_replaced_by_what_computes_the_same(name):
    build, x, wanted, code = REPLACED[name]
    before, after = build(), build()
    adapt(after, MICRO)
    assert code in codes(before)
    assert code not in codes(after)
    for graph in (before, after):
        np.testing.assert_array_equal(start(finished(graph))(x=x)["y"], wanted)


@pytest.mark.parametrize("name", REPLACED)
def test_what_was_replaced_runs_on_micro(name, tmp_path):
    engine = find_engine("tflite-micro")
    if not engine.is_here():
        pytest.skip(f"{engine.name} is not installed: {engine.requirement}")
    build, x, wanted, _ = REPLACED[name]
    graph = build()
    adapt(graph, MICRO)
    path = tmp_path / "m.tflite"
    path.write_bytes(finished(graph))
    got, _ = run_on(engine.name, path, {"x": np.stack([x, 0 * x, x])}, timeout_s=60)
    np.testing.assert_array_equal(got["y"][0], wanted)
    np.testing.assert_array_equal(got["y"][2], wanted)


@pytest.mark.parametrize("name", REPLACED)
def test_runtimes_that_have_an_operator_keep_it(name):
    build, _, _, code = REPLACED[name]
    graph = build()
    adapt(graph, COMPILED)
    assert code in codes(graph)


def test_a_select_by_rows_is_not_mistaken_for_one_by_elements():
    graph = empty_graph()
    operators = Operators(graph)
    tokens, rows = add_input(graph, "x", (2, 5), np.int32), add_input(graph, "rows", (2,), np.bool_)
    moved = operators.add(tokens, operators.constant(8))
    finish(graph, add(graph, Op.SELECT, [rows, moved, tokens], (2, 5), np.int32, schema.SelectOptionsT()))
    with pytest.raises(LoweringError, match="TensorFlow Lite Micro has no SELECT, which"):
        adapt(graph, MICRO)


def test_operators_inside_of_loops_are_replaced_too():
    graph = empty_graph()
    operators = Operators(graph)
    x = add_input(graph, "x", FLOATS.shape)
    condition, body = (Operators(graph.add_subgraph(name)) for name in ("condition", "body"))
    for inner in (condition, body):
        turn, value = (
            inner.graph.add_tensor("", shape, dtype) for shape, dtype in (([], np.int32), (FLOATS.shape, np.float32))
        )
        inner.graph.subgraph.inputs = [turn, value]
    turn, value = condition.graph.subgraph.inputs
    condition.graph.subgraph.outputs = [condition.less(turn, condition.constant(2))]
    turn, value = body.graph.subgraph.inputs
    raised = body.add(value, body.constant([0.25], np.float32))
    body.graph.subgraph.outputs = [body.add(turn, body.constant(1)), body.unary(Op.RELU_N1_TO_1, raised)]
    _, result = operators.while_loop([operators.constant(0), x], condition.graph, body.graph)
    finish(graph, result)
    adapt(graph, MICRO)
    assert Op.RELU_N1_TO_1 not in codes(Graph(graph.model, body.graph.position))
    wanted = np.clip(np.clip(FLOATS + 0.25, -1, 1) + 0.25, -1, 1)
    np.testing.assert_array_equal(start(finished(graph))(x=FLOATS)["y"], wanted)


# Refusals


def one(code: int, dtype: Any = np.float32, shape: tuple[int, ...] = (2, 5)) -> Graph:
    graph = empty_graph()
    finish(graph, add(graph, code, [add_input(graph, "x", shape, dtype)], shape, dtype))
    return graph


def joined(count: int) -> Graph:
    graph = empty_graph()
    operators = Operators(graph)
    x = add_input(graph, "x", (2, 1))
    finish(graph, operators.concat([x] * count, axis=1))
    return graph


REFUSED = {
    "TensorFlow Lite Micro has no GELU, which this model needs": lambda: one(Op.GELU),
    "TensorFlow Lite Micro has no EXP of int8, which this model needs": lambda: one(Op.EXP, np.int8),
    "TensorFlow Lite Micro has no CONCATENATION of 12 inputs and 2 axes, which": lambda: joined(12),
}  # fmt: skip


@pytest.mark.parametrize("text", REFUSED)
def test_what_has_no_counterpart_is_refused_by_name_and_type(text):
    with pytest.raises(
        LoweringError, match=rf"{text}.*Replace the layers that use it, or convert for another --runtime"
    ):
        adapt(REFUSED[text](), MICRO)
    adapt(REFUSED[text](), INTERPRETER)


def test_all_that_is_missing_is_named_at_once():
    graph = one(Op.GELU)
    finish(graph, add(graph, Op.SIGN, graph.subgraph.inputs[:1], (2, 5), np.float32), "z")
    with pytest.raises(LoweringError, match="has no GELU, SIGN, which"):
        adapt(graph, MICRO)


def test_the_type_is_that_of_the_values_not_of_an_index_or_a_condition():
    graph = empty_graph()
    operators = Operators(graph)
    condition, x = add_input(graph, "condition", (2, 5), np.bool_), add_input(graph, "x", (2, 5))
    finish(
        graph,
        add(graph, Op.SELECT_V2, [condition, x, operators.mul(x, x)], (2, 5), np.float32, schema.SelectV2OptionsT()),
    )
    adapt(graph, MICRO)
    assert Op.SELECT_V2 in codes(graph)


def test_mediapipe_takes_no_second_graph():
    graph = one(Op.EXP)
    graph.add_subgraph("body")
    with pytest.raises(LoweringError, match=r"MediaPipe Tasks takes no file with a loop or a branch.*--runtime"):
        adapt(graph, FAMILIES["mediapipe"])


@pytest.mark.parametrize(
    "family, dtype", [("web", np.int8), ("web", np.bool_), ("compiled", np.int64), ("mediapipe", np.int8)]
)
def test_inputs_of_types_that_a_runtime_does_not_take_are_refused(family, dtype):
    title, name = FAMILIES[family].title, np.dtype(dtype).name
    with pytest.raises(
        LoweringError, match=f"{title} takes no input of {name}, and 'x' is one: give it another dtype.*--runtime"
    ):
        adapt(one(Op.NEG, dtype), FAMILIES[family])


def test_outputs_of_types_that_a_runtime_does_not_take_are_refused():
    graph = empty_graph()
    cast = schema.CastOptionsT()
    cast.inDataType, cast.outDataType = schema.TensorType.FLOAT32, schema.TensorType.INT64
    finish(graph, add(graph, Op.CAST, [add_input(graph, "x", (2, 5))], (2, 5), np.int64, cast), "count")
    adapt(graph, INTERPRETER)
    with pytest.raises(LoweringError, match=r"LiteRT\.js takes no output of int64, and 'count' is one"):
        adapt(graph, FAMILIES["web"])


# Outputs


def shared_outputs() -> Graph:
    """Returns a graph whose outputs are one tensor twice, its input, and another one."""
    graph = empty_graph()
    operators = Operators(graph)
    x = add_input(graph, "x", FLOATS.shape)
    y = operators.mul(x, operators.constant([2.0], np.float32))
    graph.subgraph.outputs = [y, y, x, operators.unary(Op.ABS, y), y]
    sign(graph)
    names = ("first", "second", "echo", "absolute", "third")
    for entry, name in zip(graph.model.signatureDefs[0].outputs, names, strict=True):
        entry.name = name.encode()
    return graph


SHARED = {
    "first": 2 * FLOATS,
    "second": 2 * FLOATS,
    "echo": FLOATS,
    "absolute": np.abs(2 * FLOATS),
    "third": 2 * FLOATS,
}


def test_every_output_gets_a_tensor_of_its_own_with_its_name():
    graph = shared_outputs()
    separate_outputs(graph)
    outputs = graph.subgraph.outputs
    assert len(set(outputs)) == len(outputs)
    assert not set(outputs) & set(graph.subgraph.inputs)
    assert [graph.tensor(tensor).name.decode() for tensor in outputs] == list(SHARED)
    assert [entry.tensorIndex for entry in graph.model.signatureDefs[0].outputs] == outputs
    assert graph.tensor(graph.subgraph.inputs[0]).name == b"x"
    got = start(finished(graph))(x=FLOATS)
    for name, wanted in SHARED.items():
        np.testing.assert_array_equal(got[name], wanted)


def test_outputs_of_their_own_are_left_as_they_are():
    graph = one(Op.EXP)
    before = finished(graph)
    separate_outputs(graph)
    assert finished(graph) == before


@pytest.mark.parametrize("engine", ["litert-compiled", "litertjs"])
def test_runtimes_that_mix_up_shared_outputs_give_them_all(engine, tmp_path):
    found = find_engine(engine)
    if not found.is_here():
        pytest.skip(f"{found.name} is not installed: {found.requirement}")
    graph = shared_outputs()
    separate_outputs(graph)
    path = tmp_path / "m.tflite"
    path.write_bytes(finished(graph))
    got, _ = run_on(engine, path, {"x": np.stack([FLOATS, 0 * FLOATS, FLOATS])}, timeout_s=120)
    assert set(got) == set(SHARED)
    for name, wanted in SHARED.items():
        np.testing.assert_array_equal(got[name], np.stack([wanted, 0 * wanted, wanted]))


def test_a_copied_output_keeps_its_quantization():
    graph = empty_graph()
    operators = Operators(graph)
    x = add_input(graph, "x", (1, 3))
    y = operators.quantize(x, np.int8, 0.5)
    graph.subgraph.outputs = [y, y]
    sign(graph)
    separate_outputs(graph)
    for tensor in graph.subgraph.outputs:
        parameters = graph.tensor(tensor).quantization
        assert (parameters.scale[0], parameters.zeroPoint[0]) == (0.5, 0)
