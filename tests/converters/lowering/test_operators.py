"""Every operator that cells are written in: what it computes, its shape, type and version, on every interpreter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from edgelstm.converters.graph import Graph, quantization
from edgelstm.converters.lowering.operators import Operators
from edgelstm.converters.lowering.states import add_dequantize
from edgelstm.runtime.calls import run_calls
from edgelstm.runtime.interpreters import is_available
from tests.converters.lowering.one_cell import Array, add_input, empty_graph, finished, start

Op = schema.BuiltinOperator
SCALE = 2.0**-12
X = np.random.default_rng(0).uniform(-3, 3, (2, 4)).astype(np.float32)
Y = np.random.default_rng(1).uniform(-3, 3, (2, 4)).astype(np.float32)
CUBE = np.arange(24, dtype=np.float32).reshape(2, 3, 4) / 8
WEIGHTS = np.random.default_rng(2).integers(-127, 128, (3, 4)).astype(np.int8)


class Example(NamedTuple):
    """One operator.

    Attributes:
        write: Adds it, given the tensors of x, y and cube, and returns what it gives.
        wanted: What that is.
        tolerance: Half a step of an integer result, or float rounding.
    """

    write: Callable[[Operators, int, int, int], int]
    wanted: Array
    tolerance: float = 1e-6


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def int16(operators: Operators, tensor: int) -> int:
    """The tensor in steps of 2^-12, which hold everything here."""
    return operators.quantize(tensor, np.int16, SCALE)


def int8(operators: Operators, tensor: int) -> int:
    return operators.quantize(tensor, np.int8, 3 / 127)


def hybrid(operators: Operators, x: int) -> int:
    return operators.fully_connected(x, operators.constant(WEIGHTS, np.int8, scale=1.0), None, version=9)


def int16_product(operators: Operators, x: int) -> int:
    weights = operators.constant(WEIGHTS, np.int8, scale=1 / 127)
    return operators.fully_connected(int16(operators, x), weights, None, scale=2.0**-11, version=7)


def float_product(operators: Operators, x: int) -> int:
    weights = operators.constant(WEIGHTS, np.float32)
    return operators.fully_connected(x, weights, operators.constant([1, 2, 3], np.float32))


PRODUCT = X.astype(np.float64) @ WEIGHTS.T.astype(np.float64)
HYBRID_TOLERANCE = 127 * 4 * np.ptp(X) / 255  # half a step of each of four values, times weights of at most 127

EXAMPLES: dict[str, Example] = {
    "add": Example(lambda o, x, y, _: o.add(x, y), X + Y),
    "add_row": Example(lambda o, x, _, __: o.add(x, o.constant([1, 2, 3, 4], np.float32)), X + np.arange(1, 5)),
    "add_relu6": Example(
        lambda o, x, y, _: o.add(x, y, activation=schema.ActivationFunctionType.RELU6), np.clip(X + Y, 0, 6)
    ),
    "add_int16": Example(lambda o, x, y, _: o.add(int16(o, x), int16(o, y), scale=SCALE), X + Y, 2 * SCALE),
    "mul": Example(lambda o, x, y, _: o.mul(x, y), X * Y),
    "mul_int16": Example(
        lambda o, x, y, _: o.mul(int16(o, x), int16(o, y), scale=4 * SCALE), X * Y, 3 * SCALE + 2 * SCALE
    ),
    "div": Example(lambda o, x, y, _: o.div(x, y), X / Y, 1e-4),
    "logistic": Example(lambda o, x, *_: o.unary(Op.LOGISTIC, x), sigmoid(X), 1e-5),
    "tanh": Example(lambda o, x, *_: o.unary(Op.TANH, x), np.tanh(X), 1e-5),
    "logistic_int16": Example(
        lambda o, x, *_: o.unary(Op.LOGISTIC, int16(o, x), scale=2.0**-15), sigmoid(X), 4 * 2.0**-15 + SCALE / 8
    ),
    "tanh_int16": Example(
        lambda o, x, *_: o.unary(Op.TANH, int16(o, x), scale=2.0**-15), np.tanh(X), 4 * 2.0**-15 + SCALE / 2
    ),
    "fully_connected": Example(lambda o, x, *_: float_product(o, x), PRODUCT + np.arange(1, 4), 1e-3),
    "fully_connected_hybrid": Example(lambda o, x, *_: hybrid(o, x), PRODUCT, HYBRID_TOLERANCE),
    "fully_connected_int16": Example(lambda o, x, *_: int16_product(o, x), PRODUCT / 127, 4 * SCALE),
    # A step and not half of one: the kernel rounds twice.
    "quantize_int16_to_int16": Example(lambda o, x, *_: o.quantize(int16(o, x), np.int16, 4 * SCALE), X, 4 * SCALE),
    "quantize_int8_to_int16": Example(lambda o, x, *_: o.quantize(int8(o, x), np.int16, SCALE), X, 0.51 * 3 / 127),
    "quantize_int16_to_int8": Example(lambda o, x, *_: o.quantize(int16(o, x), np.int8, 3 / 127), X, 0.51 * 3 / 127),
    "reshape": Example(lambda o, x, *_: o.reshape(x, [4, 2]), X.reshape(4, 2)),
    "split": Example(lambda o, x, *_: o.split(x, 4)[2], X[:, 2:3]),
    "split_int8": Example(lambda o, x, *_: o.split(int8(o, x), 2)[1], X[:, 2:], 0.51 * 3 / 127),
    "split_int16": Example(lambda o, x, *_: o.split(int16(o, x), 2)[1], X[:, 2:], 0.51 * SCALE),
    "slice": Example(lambda o, _, __, c: o.slice(c, [0, 1, 2], [2, 2, 1]), CUBE[:, 1:3, 2:3]),
    "slice_int8": Example(lambda o, x, *_: o.slice(int8(o, x), [1, 0], [1, 3]), X[1:, :3], 0.51 * 3 / 127),
    "slice_int16": Example(lambda o, x, *_: o.slice(int16(o, x), [1, 0], [1, 3]), X[1:, :3], 0.51 * SCALE),
    "gather": Example(lambda o, _, __, c: o.gather(c, o.constant(2), axis=1), CUBE[:, 2]),
    "gather_int8": Example(lambda o, x, *_: o.gather(int8(o, x), o.constant(1), axis=0), X[1], 0.51 * 3 / 127),
    "gather_int16": Example(lambda o, x, *_: o.gather(int16(o, x), o.constant(3), axis=1), X[:, 3], 0.51 * SCALE),
    "concat": Example(lambda o, x, y, _: o.concat([x, y, x], axis=1), np.concatenate([X, Y, X], axis=1)),
    "concat_int8": Example(
        lambda o, x, y, _: o.concat([int8(o, x), int8(o, y)], axis=0), np.concatenate([X, Y]), 0.51 * 3 / 127
    ),
    "concat_int16": Example(
        lambda o, x, y, _: o.concat([int16(o, x), int16(o, y)], axis=0), np.concatenate([X, Y]), 0.51 * SCALE
    ),
    "update_slice": Example(
        lambda o, x, _, c: o.update_slice(c, o.reshape(x, [2, 1, 4]), o.constant([0, 1, 0])),
        np.concatenate([CUBE[:, :1], X[:, np.newaxis], CUBE[:, 2:]], axis=1),
    ),
    "fill": Example(lambda o, x, *_: o.concat([x, o.fill([2, 3], np.float32)], axis=1), np.pad(X, ((0, 0), (0, 3)))),
    "fill_int16": Example(
        lambda o, x, *_: o.concat([int16(o, x), o.fill([2, 3], np.int16, scale=SCALE)], axis=1),
        np.pad(X, ((0, 0), (0, 3))),
        0.51 * SCALE,
    ),
}


def example_graph(names: list[str]) -> tuple[Graph, dict[str, list[Any]]]:
    """Returns a graph with the inputs x, y and cube and an output for each example, and the shapes as told."""
    graph = empty_graph()
    operators = Operators(graph)
    inputs = [add_input(graph, name, value.shape) for name, value in (("x", X), ("y", Y), ("cube", CUBE))]
    told = {}
    for name in names:
        result = EXAMPLES[name].write(operators, *inputs)
        told[name] = [operators.shape(result), operators.dtype(result)]
        output = result
        if operators.dtype(result) != np.float32:
            output = graph.add_tensor("", graph.shape(result), np.float32)
            add_dequantize(graph, result, output)
        graph.tensor(output).name = name.encode()
        graph.subgraph.outputs.append(output)
    return graph, told


@pytest.mark.parametrize("delegates", [True, False], ids=["xnnpack", "builtin"])
@pytest.mark.parametrize("name", EXAMPLES)
def test_an_operator_computes_what_it_says_in_the_shape_it_says(name, delegates):
    graph, told = example_graph([name])
    got = start(finished(graph), delegates=delegates)(x=X, y=Y, cube=CUBE)[name]
    assert list(got.shape) == told[name][0]
    np.testing.assert_allclose(got, EXAMPLES[name].wanted, rtol=0, atol=EXAMPLES[name].tolerance, equal_nan=False)


# Only files for runtimes that take loops and int8 inputs need it, and these are newer.
NOT_IN_2_14 = {"quantize_int8_to_int16"}


@pytest.mark.parametrize("runtime, missing", [("tflite-runtime", NOT_IN_2_14), ("litert-compiled", set())])
def test_all_operators_run_on_other_runtimes(runtime, missing, tmp_path):
    if not is_available(runtime):
        pytest.skip(f"{runtime} is not installed")
    examples = {name: example for name, example in EXAMPLES.items() if name not in missing}
    path = tmp_path / "m.tflite"
    path.write_bytes(finished(example_graph(list(examples))[0]))
    got, _ = run_calls(path, {"x": X[np.newaxis], "y": Y[np.newaxis], "cube": CUBE[np.newaxis]}, runtime=runtime)
    for name, example in examples.items():
        np.testing.assert_allclose(got[name][0], example.wanted, rtol=0, atol=example.tolerance, err_msg=name)


# TensorFlow Lite's op_version.cc: the version that brought the type. A lower one is refused by no runtime, but says
# that older runtimes could run the file; a higher one is refused by runtimes that could.
VERSIONS = {
    "add": (Op.ADD, 1),
    "add_int16": (Op.ADD, 3),
    "mul": (Op.MUL, 1),
    "mul_int16": (Op.MUL, 4),
    "logistic": (Op.LOGISTIC, 1),
    "logistic_int16": (Op.LOGISTIC, 3),
    "tanh": (Op.TANH, 1),
    "tanh_int16": (Op.TANH, 3),
    "fully_connected": (Op.FULLY_CONNECTED, 1),
    "fully_connected_hybrid": (Op.FULLY_CONNECTED, 9),
    "fully_connected_int16": (Op.FULLY_CONNECTED, 7),
    "split": (Op.SPLIT, 1),
    "split_int8": (Op.SPLIT, 2),
    "split_int16": (Op.SPLIT, 4),
    "slice": (Op.SLICE, 1),
    "slice_int8": (Op.SLICE, 2),
    "slice_int16": (Op.SLICE, 4),
    "gather": (Op.GATHER, 1),
    "gather_int8": (Op.GATHER, 2),
    "gather_int16": (Op.GATHER, 4),
    "concat": (Op.CONCATENATION, 1),
    "concat_int8": (Op.CONCATENATION, 2),
    "concat_int16": (Op.CONCATENATION, 3),
    "fill": (Op.FILL, 1),
    "fill_int16": (Op.FILL, 3),
    "update_slice": (Op.DYNAMIC_UPDATE_SLICE, 1),
    "quantize_int16_to_int16": (Op.QUANTIZE, 2),
    "quantize_int16_to_int8": (Op.QUANTIZE, 1),
}


@pytest.mark.parametrize("name", VERSIONS)
def test_operators_have_the_version_that_brought_their_type(name):
    graph, _ = example_graph([name])
    code, version = VERSIONS[name]
    codes = [graph.model.operatorCodes[each.opcodeIndex] for each in graph.operators if graph.code(each) == code]
    assert codes[-1].version == version


# What is written once


def test_equal_constants_are_one_tensor_unless_type_shape_scale_or_name_differ():
    operators = Operators(empty_graph())
    first = operators.constant([1, 2])
    assert operators.constant(np.array([1, 2])) == first
    others = [
        operators.constant([1, 2], np.float32),
        operators.constant([[1, 2]]),
        operators.constant([1, 2], name="named"),
        operators.constant([1, 2], np.int8, scale=0.5),
        operators.constant([1, 2], np.int8, scale=0.25),
        operators.constant([2, 1]),
    ]
    assert len({first, *others}) == 7


def test_nothing_is_written_where_nothing_is_to_be_done():
    graph = empty_graph()
    operators = Operators(graph)
    x = add_input(graph, "x", (2, 4))
    assert operators.split(x, 1) == [x]
    assert operators.concat([x], axis=1) == x
    assert operators.reshaped(x, [2, 4]) == x
    assert graph.operators == []
    assert operators.reshaped(x, [4, 2]) != x


def test_moved_values_keep_their_scale_and_zero_point():
    graph = empty_graph()
    operators = Operators(graph)
    x = graph.add_tensor("x", [2, 4], np.int8, quantization=quantization(0.5, 7))
    moved = [operators.reshape(x, [8]), *operators.split(x, 2), operators.slice(x, [0, 0], [1, 1])]
    for tensor in moved:
        parameters = graph.tensor(tensor).quantization
        assert (parameters.scale[0], parameters.zeroPoint[0]) == (0.5, 7)


def test_zeros_take_no_space_however_many():
    sizes = []
    for count in (10, 100_000):
        graph = empty_graph()
        operators = Operators(graph)
        x = add_input(graph, "x", (1, 1))
        graph.subgraph.outputs = [operators.concat([x, operators.fill([1, count], np.float32)], axis=1)]
        sizes.append(len(finished(graph)))
    assert abs(sizes[1] - sizes[0]) < 100


def test_a_loop_runs_as_often_as_its_condition_says():
    graph = empty_graph()
    operators = Operators(graph)
    x = add_input(graph, "x", (2, 4))
    condition, body = (Operators(graph.add_subgraph(name)) for name in ("condition", "body"))
    for inner in (condition, body):
        inner.graph.subgraph.inputs = [
            inner.graph.add_tensor("", [], np.int32),
            inner.graph.add_tensor("", [2, 4], np.float32),
        ]
    turn, value = condition.graph.subgraph.inputs
    condition.graph.subgraph.outputs = [condition.less(turn, condition.constant(5))]
    turn, value = body.graph.subgraph.inputs
    body.graph.subgraph.outputs = [
        body.add(turn, body.constant(1)),
        body.add(value, body.constant([1.0], np.float32)),
    ]
    _, result = operators.while_loop([operators.constant(0), x], condition.graph, body.graph)
    graph.tensor(result).name = b"y"
    graph.subgraph.outputs = [result]
    np.testing.assert_allclose(start(finished(graph))(x=X)["y"], X + 5, rtol=1e-6)
