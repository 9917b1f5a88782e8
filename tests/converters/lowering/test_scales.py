"""Operators that only copy quantized values are given the scales that their kernels assume."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from keras import layers

import edgelstm
from edgelstm.converters.graph import DTYPES, Graph, quantization
from edgelstm.converters.lowering.scales import COPYING, repair_scales
from tests.converters.test_graph import empty_graph
from tests.converters.tiny import FEATURES, TIME, UNITS, Array, floats, functional, run_calls

Op = schema.BuiltinOperator
Options = schema.BuiltinOptions
FINE, COARSE = (0.01, -10), (0.02, 20)  # scale and zero point; both hold -1.18 to 1.37
X = np.linspace(-1, 1, 12, dtype=np.float32).reshape(1, 4, 3)


def add(graph: Graph, name: str, parameters: tuple[float, int], shape: Any = X.shape) -> int:
    return graph.add_tensor(name, shape, np.int8, quantization=quantization(*parameters))


def add_input(graph: Graph, name: str, parameters: tuple[float, int]) -> int:
    tensor = add(graph, name, parameters)
    graph.subgraph.inputs.append(tensor)
    return tensor


def reverse(graph: Graph) -> None:
    y, axis = add(graph, "y", COARSE), graph.add_constant("axis", np.array([1], np.int32))
    options = schema.ReverseV2OptionsT()
    x = add_input(graph, "x", FINE)
    graph.add_operator(Op.REVERSE_V2, [x, axis], [y], version=2, options=options, options_type=Options.ReverseV2Options)
    graph.subgraph.outputs = [y]


def split(graph: Graph) -> None:
    y, z = (add(graph, name, scale, (1, 2, 3)) for name, scale in (("y", COARSE), ("z", FINE)))
    options = schema.SplitOptionsT()
    options.numSplits = 2
    axis, x = graph.add_constant("axis", np.array(1, np.int32)), add_input(graph, "x", FINE)
    graph.add_operator(Op.SPLIT, [axis, x], [y, z], version=2, options=options, options_type=Options.SplitOptions)
    graph.subgraph.outputs = [y, z]


def concatenation(graph: Graph) -> None:
    y, options = add(graph, "y", COARSE, (1, 8, 3)), schema.ConcatenationOptionsT()
    options.axis = 1
    inputs = [add_input(graph, "x", FINE), add_input(graph, "z", COARSE)]
    graph.add_operator(
        Op.CONCATENATION, inputs, [y], version=2, options=options, options_type=Options.ConcatenationOptions
    )
    graph.subgraph.outputs = [y]


def selection(graph: Graph) -> None:
    """y = x where x is in the even rows, else a constant 0.5."""
    y = add(graph, "y", COARSE)
    rows = np.array([True, False, True, False]).reshape(1, 4, 1)
    stored = np.full((1, 4, 3), 50 + FINE[1], np.int8)
    constant = graph.add_constant("half", stored, quantization=quantization(*FINE))
    inputs = [graph.add_constant("rows", rows), add_input(graph, "x", FINE), constant]
    options = schema.SelectV2OptionsT()
    graph.add_operator(Op.SELECT_V2, inputs, [y], options=options, options_type=Options.SelectV2Options)
    graph.subgraph.outputs = [y]


EXPECTED: dict[Callable[[Graph], None], Callable[[], dict[str, Array]]] = {
    reverse: lambda: {"y": X[:, ::-1]},
    split: lambda: {"y": X[:, :2], "z": X[:, 2:]},
    concatenation: lambda: {"y": np.concatenate([X, 0.5 * X], axis=1)},
    selection: lambda: {"y": np.where(np.array([1, 0, 1, 0]).reshape(1, 4, 1), X, 0.5)},
}
every_graph = pytest.mark.parametrize("build", EXPECTED, ids=lambda build: build.__name__)


def built(build: Callable[[Graph], None]) -> Graph:
    graph = empty_graph()
    build(graph)
    return graph


def answers(graph: Graph, folder: Path) -> dict[str, Array]:
    graph.sort()
    path = folder / "model.tflite"
    path.write_bytes(graph.to_bytes())
    inputs = {"x": X[np.newaxis], "z": 0.5 * X[np.newaxis]}
    names = [graph.tensor(tensor).name.decode() for tensor in graph.subgraph.inputs]
    return {name: array[0] for name, array in run_calls(path, {name: inputs[name] for name in names}).items()}


@every_graph
def test_repaired_operators_answer_rightly(build, tmp_path):
    graph = built(build)
    assert repair_scales(graph) == 1
    got = answers(graph, tmp_path)
    for name, expected in EXPECTED[build]().items():
        # Half a step of the input's scale, and half a step of the output's.
        np.testing.assert_allclose(got[name], expected, rtol=0, atol=FINE[0] / 2 + COARSE[0] / 2 + 1e-6)


@pytest.mark.parametrize("build", [reverse, selection], ids=lambda build: build.__name__)
def test_without_repair_the_kernel_answers_wrongly(build, tmp_path):
    got = answers(built(build), tmp_path)["y"]
    assert np.abs(got - EXPECTED[build]()["y"]).max() > 0.3


@every_graph
def test_a_second_repair_finds_nothing(build):
    graph = built(build)
    repair_scales(graph)
    before = len(graph.operators)
    assert repair_scales(graph) == 0
    assert len(graph.operators) == before


@every_graph
def test_scales_of_inputs_and_outputs_of_the_graph_stay(build):
    graph = built(build)
    ends = graph.subgraph.inputs + graph.subgraph.outputs
    before = [float(graph.tensor(tensor).quantization.scale[0]) for tensor in ends]
    repair_scales(graph)
    assert graph.subgraph.inputs + graph.subgraph.outputs == ends
    assert [float(graph.tensor(tensor).quantization.scale[0]) for tensor in ends] == before


def test_a_constant_is_requantized_when_converting_not_when_running():
    graph = built(selection)
    repair_scales(graph)
    operator = next(each for each in graph.operators if graph.code(each) == Op.SELECT_V2)
    value = graph.constant(operator.inputs[2])
    assert value is not None
    np.testing.assert_array_equal(value, np.full((1, 4, 3), round(0.5 / COARSE[0]) + COARSE[1]))


def test_a_constant_outside_the_new_range_is_clipped_not_wrapped():
    graph = built(selection)
    operator = graph.operators[0]
    graph.tensor(operator.inputs[2]).quantization = quantization(1.0, 0)
    repair_scales(graph)
    value = graph.constant(operator.inputs[2])
    assert value is not None
    np.testing.assert_array_equal(value, 127)


def test_float_and_integer_tensors_are_left_alone():
    graph = empty_graph()
    for dtype in (np.float32, np.int32):
        x, y = (graph.add_tensor(name, [2], dtype) for name in "xy")
        graph.add_operator(Op.RESHAPE, [x], [y])
    assert repair_scales(graph) == 0


def differing_copies(graph: Graph) -> list[int]:
    """Codes of copying operators whose int8 inputs and outputs differ in scale or zero point."""
    found = []
    for operator in graph.operators:
        positions = COPYING.get(graph.code(operator), ())
        moved = operator.inputs if positions is None else [operator.inputs[position] for position in positions]
        tensors = [graph.tensor(tensor) for tensor in (*moved, *operator.outputs)]
        quantized = [each.quantization for each in tensors if DTYPES[each.type] in (np.int8, np.int16)]
        parameters = {(float(each.scale[0]), int(each.zeroPoint[0])) for each in quantized}
        found += [graph.code(operator)] if len(parameters) > 1 else []
    return found


def test_copies_in_a_bidirectional_int8_file_have_one_scale_and_its_answers_are_right(tmp_path):
    x = keras.Input((TIME, FEATURES), name="x")
    y = layers.Bidirectional(layers.LSTM(UNITS, return_sequences=True))(x)
    model = functional(x, layers.Bidirectional(layers.LSTM(UNITS, return_sequences=True), merge_mode="ave")(y))
    data = floats(40, TIME, FEATURES)
    path = edgelstm.convert(model, tmp_path / "b.tflite", quantize="int8", calibration=data, verify=False).path
    graph = Graph.from_bytes(path.read_bytes())
    assert Op.REVERSE_V2 in [graph.code(operator) for operator in graph.operators]
    assert differing_copies(graph) == []
    got = run_calls(path, {"x": data[:5, np.newaxis]})["output"]
    # A constant offset, which is what differing scales give, shows in the mean.
    assert abs(float((got[:, 0] - model(data[:5])).numpy().mean())) < 0.01
    np.testing.assert_allclose(got[:, 0], model(data[:5]), rtol=0, atol=0.08)
