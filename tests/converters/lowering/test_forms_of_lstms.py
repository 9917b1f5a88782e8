"""Carriers become the form that a runtime takes, whoever reads what of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from edgelstm.converters.graph import Graph
from edgelstm.converters.lowering.calls import LstmCall
from edgelstm.converters.lowering.forms import FORMS, form_of, place_float, takes_last_step
from edgelstm.converters.lowering.fused import find_carriers, why_not_fused
from edgelstm.errors import LoweringError
from edgelstm.runtime.runtimes import FAMILIES
from tests.converters.lowering.one_cell import Array, Case, add_input, empty_graph, finished, random_case, sign, start

Op = schema.BuiltinOperator
TIME, UNITS = 6, 4
PRECISIONS = ("float32", "float16", "dynamic")
TOLERANCES = {"float32": 2e-6, "float16": 3e-3, "dynamic": 0.03}  # as of cells

every_form = pytest.mark.parametrize("form", FORMS)


def call(index: int = 0, activation: str = "tanh", gate: str = "sigmoid") -> LstmCall:
    return LstmCall(index, f"m/lstm_{index}", UNITS, activation, recurrent_activation=gate)


def add_carrier(graph: Graph, case: Case, lstm: LstmCall, states: tuple[int, int] | None = None) -> tuple[int, int]:
    """Adds a carrier as the converter leaves it, x an input of the graph; returns all outputs and the final c."""
    batch, time, _ = case.x.shape
    x = add_input(graph, f"x_{lstm.index}", case.x.shape)
    if states is None:
        states = tuple(graph.add_constant(name, getattr(case, name)) for name in "hc")  # type: ignore[assignment]
    given = case.weights
    weights = [
        graph.add_constant(name, np.asarray(value, np.float32))
        for name, value in (("kernel", given.kernel), ("recurrent", given.recurrent_kernel), ("bias", given.bias))
    ]
    outputs = [graph.add_tensor("sequence", [batch, time, UNITS], np.float32)]
    outputs.append(graph.add_tensor("final_cell", [batch, UNITS], np.float32))
    code = schema.OperatorCodeT()
    code.builtinCode, code.deprecatedBuiltinCode, code.version = Op.CUSTOM, Op.CUSTOM, 1
    code.customCode = lstm.carrier.encode()
    graph.model.operatorCodes.append(code)
    operator = schema.OperatorT()
    operator.opcodeIndex = len(graph.model.operatorCodes) - 1
    operator.inputs, operator.outputs = [x, *states, *weights], outputs
    graph.operators.append(operator)
    return outputs[0], outputs[1]


def add_slice(graph: Graph, tensor: int, begin: Any, end: Any, strides: Any = (1, 1, 1), **masks: int) -> Any:
    """Adds a STRIDED_SLICE of a sequence and returns the operator."""
    shape = graph.shape(tensor)
    options = schema.StridedSliceOptionsT()
    for name, value in masks.items():
        setattr(options, name, value)
    places: list[Any] = []
    for axis in range(3):
        first = None if options.beginMask >> axis & 1 else begin[axis]
        last = None if options.endMask >> axis & 1 else end[axis]
        places.append(begin[axis] if options.shrinkAxisMask >> axis & 1 else slice(first, last, strides[axis]))
    output = graph.add_tensor("slice", np.zeros(shape)[tuple(places)].shape, np.float32)
    constants = [graph.add_constant("", np.asarray(value, np.int32)) for value in (begin, end, strides)]
    return graph.add_operator(
        Op.STRIDED_SLICE,
        [tensor, *constants],
        [output],
        options=options,
        options_type=schema.BuiltinOptions.StridedSliceOptions,
    )


def last_step(graph: Graph, sequence: int) -> int:
    """What Keras' outputs[:, -1, :] becomes."""
    slicing = add_slice(graph, sequence, [0, -1, 0], [0, 0, 0], beginMask=5, endMask=5, shrinkAxisMask=2)
    return int(slicing.outputs[0])


def named(graph: Graph, **outputs: int) -> None:
    for name, tensor in outputs.items():
        graph.tensor(tensor).name = name.encode()
        graph.subgraph.outputs.append(tensor)
    sign(graph)


def codes(graph: Graph) -> list[int]:
    graphs = [Graph(graph.model, position) for position in range(len(graph.model.subgraphs))]
    return [each.code(operator) for each in graphs for operator in each.operators]


def run(graph: Graph, **inputs: Array) -> dict[str, Array]:
    content = finished(graph)
    answers = [start(content)(**inputs) for _ in range(1)]
    again = start(content)
    for _ in range(3):  # fused operators reset themselves
        answers.append(again(**inputs))
    for answer in answers:
        for name, value in answer.items():
            np.testing.assert_array_equal(value, answers[0][name])
    return answers[0]


# Which operator takes the last step and nothing else


@pytest.mark.parametrize(
    "begin, end, strides, masks, right",
    [
        ([0, -1, 0], [0, 0, 0], (1, 1, 1), {"beginMask": 5, "endMask": 5, "shrinkAxisMask": 2}, True),
        ([0, TIME - 1, 0], [2, TIME, UNITS], (1, 1, 1), {}, True),
        ([0, -1, 0], [2, TIME, UNITS], (1, 1, 1), {}, True),
        ([0, -1, 0], [0, 0, 0], (1, 1, 1), {"beginMask": 5, "endMask": 7}, True),
        ([0, TIME - 1, 0], [0, 0, 0], (1, TIME, 1), {"beginMask": 5, "endMask": 7}, True),
        ([0, -2, 0], [0, 0, 0], (1, 1, 1), {"beginMask": 5, "endMask": 5, "shrinkAxisMask": 2}, False),
        ([0, 0, 0], [0, 0, 0], (1, 1, 1), {"beginMask": 5, "endMask": 5, "shrinkAxisMask": 2}, False),
        ([0, -2, 0], [0, 0, 0], (1, 1, 1), {"beginMask": 5, "endMask": 7}, False),
        ([0, -1, 0], [1, TIME, UNITS], (1, 1, 1), {}, False),
        ([0, -1, 1], [2, TIME, UNITS], (1, 1, 1), {}, False),
        ([0, -1, 0], [0, 0, 0], (-1, 1, 1), {"beginMask": 5, "endMask": 5, "shrinkAxisMask": 2}, False),
        ([0, -1, 0], [0, 0, 0], (1, 1, -1), {"beginMask": 5, "endMask": 5, "shrinkAxisMask": 2}, False),
        ([0, -1, 0], [0, 0, 0], (1, -1, 1), {"beginMask": 5, "endMask": 7}, False),
        ([0, -1, 0], [0, 0, 0], (1, 1, 2), {"beginMask": 5, "endMask": 5, "shrinkAxisMask": 2}, False),
        ([1, -1, 0], [0, 0, 0], (1, 1, 1), {"beginMask": 4, "endMask": 4, "shrinkAxisMask": 3}, False),
    ],
)  # fmt: skip
def test_the_last_step_is_recognized_however_it_is_written(begin, end, strides, masks, right):
    graph = empty_graph()
    sequence = add_input(graph, "sequence", (2, TIME, UNITS))
    operator = add_slice(graph, sequence, begin, end, strides, **masks)
    assert takes_last_step(graph, operator) is right
    # And that is what the runtime takes.
    graph.subgraph.outputs = [operator.outputs[0]]
    graph.tensor(operator.outputs[0]).name = b"taken"
    x = np.random.default_rng(0).normal(size=(2, TIME, UNITS)).astype(np.float32)
    taken = start(finished(graph))(sequence=x)["taken"]
    assert np.array_equal(taken.ravel(), x[:, -1].ravel()) is right


def test_a_slice_at_a_computed_place_is_not_the_last_step():
    graph = empty_graph()
    sequence, begin = add_input(graph, "sequence", (2, TIME, UNITS)), add_input(graph, "begin", (3,), np.int32)
    operator = add_slice(graph, sequence, [0, -1, 0], [0, 0, 0], beginMask=5, endMask=5, shrinkAxisMask=2)
    operator.inputs[1] = begin
    assert not takes_last_step(graph, operator)


@pytest.mark.parametrize("mask", ["ellipsisMask", "newAxisMask"])
def test_slices_with_axes_left_open_are_left_alone(mask):
    graph = empty_graph()
    sequence = add_input(graph, "sequence", (2, TIME, UNITS))
    operator = add_slice(graph, sequence, [0, -1, 0], [0, 0, 0], beginMask=5, endMask=5, shrinkAxisMask=2)
    setattr(operator.builtinOptions, mask, 1)
    assert not takes_last_step(graph, operator)


# What readers get


READERS = {
    "all": ("outputs",),
    "last": ("last",),
    "final_cell": ("c",),
    "last_twice": ("last", "last_again"),
    "all_and_last": ("outputs", "last", "c"),
    "last_and_another_step": ("last", "third"),
}


def read(graph: Graph, case: Case, lstm: LstmCall, wanted: tuple[str, ...], **options: Any) -> dict[str, Array]:
    """Places a carrier with some readers and returns what they get."""
    sequence, final_cell = add_carrier(graph, case, lstm)
    makers = {
        "outputs": lambda: sequence,
        "c": lambda: final_cell,
        "last": lambda: last_step(graph, sequence),
        "last_again": lambda: int(add_slice(graph, sequence, [0, TIME - 1, 0], [2, TIME, UNITS]).outputs[0]),
        "third": lambda: int(add_slice(graph, sequence, [0, 2, 0], [2, 3, UNITS]).outputs[0]),
    }
    named(graph, **{name: makers[name]() for name in wanted})
    place_float(graph, [lstm], **options)
    return run(graph, x_0=case.x)


@pytest.mark.parametrize("precision", PRECISIONS)
@every_form
@pytest.mark.parametrize("wanted", READERS.values(), ids=READERS)
def test_readers_get_what_they_read_of_the_carrier(wanted, form, precision):
    case = random_case(time=TIME)
    got = read(empty_graph(), case, call(), wanted, form=form, precision=precision)
    expected = case.expected()
    values = {
        "outputs": expected.outputs,
        "last": expected.h,
        "last_again": expected.h[:, np.newaxis],
        "third": expected.outputs[:, 2:3],
        "c": expected.c,
    }
    assert set(got) == set(wanted)
    for name in wanted:
        np.testing.assert_allclose(got[name], values[name], rtol=0, atol=TOLERANCES[precision])


@pytest.mark.parametrize("form", ["loop", "unrolled"])
def test_steps_that_nobody_reads_are_not_collected(form):
    for wanted, kept in ((("last", "c"), False), (("last", "third"), True), (("outputs",), True)):
        graph = empty_graph()
        read(graph, random_case(time=TIME), call(), wanted, form=form, precision="float32")
        written = codes(graph)
        collecting = Op.DYNAMIC_UPDATE_SLICE if form == "loop" else Op.CONCATENATION
        assert (collecting in written) is kept
        assert Op.STRIDED_SLICE not in written or "third" in wanted


def test_each_form_is_made_of_its_operators():
    for form, precision in ((form, precision) for form in FORMS for precision in PRECISIONS):
        graph = empty_graph()
        read(graph, random_case(time=TIME), call(), ("outputs", "c"), form=form, precision=precision)
        written = codes(graph)
        assert (Op.UNIDIRECTIONAL_SEQUENCE_LSTM in written) is (form == "fused")
        assert (Op.WHILE in written) is (form == "loop")
        assert len(graph.model.subgraphs) == (3 if form == "loop" else 1)
        variables = [tensor for subgraph in graph.model.subgraphs for tensor in subgraph.tensors if tensor.isVariable]
        assert len(variables) == (2 if form == "fused" else 0)
        assert Op.CUSTOM not in written


@every_form
def test_computed_states_go_from_one_lstm_to_the_next(form):
    """An encoder's final states are a decoder's initial ones; both in one graph."""
    first, second = random_case(time=TIME, seed=1), random_case(time=TIME, features=5, seed=2)
    graph = empty_graph()
    sequence, cell = add_carrier(graph, first, call(0))
    hidden = last_step(graph, sequence)
    outputs, final = add_carrier(graph, second, call(1), states=(hidden, cell))
    named(graph, outputs=outputs, c=final)
    place_float(graph, [call(0), call(1)], form=form, precision="float32")
    got = run(graph, x_0=first.x, x_1=second.x)
    encoded = first.expected()
    wanted = Case(second.x, encoded.h, encoded.c, second.weights).expected()
    np.testing.assert_allclose(got["outputs"], wanted.outputs, rtol=0, atol=5e-6)
    np.testing.assert_allclose(got["c"], wanted.c, rtol=0, atol=5e-6)


def test_calls_that_nobody_reads_are_gone():
    graph = empty_graph()
    sequence, _ = add_carrier(graph, random_case(time=TIME), call(1))
    named(graph, outputs=sequence)
    assert [found.index for found, _ in find_carriers(graph, [call(0), call(1)])] == [1]


def test_a_carrier_inside_of_a_loop_is_refused():
    graph = empty_graph()
    inner = graph.add_subgraph("body")
    add_carrier(inner, random_case(time=TIME), call())
    with pytest.raises(LoweringError, match="Layer 'm/lstm_0' is called inside a loop of the model"):
        place_float(graph, [call()], form="loop", precision="float32")


# Activations that the fused operator does not compute


@pytest.mark.parametrize(
    "activation, gate, reason",
    [
        ("tanh", "sigmoid", None),
        ("relu", "sigmoid", None),
        ("linear", "sigmoid", "activation='linear', and the fused operator knows tanh, relu, relu6, hard_tanh"),
        ("tanh", "hard_sigmoid", "recurrent_activation='hard_sigmoid', and the fused operator's gates are sigmoid"),
    ],
)
def test_what_the_fused_operator_cannot_compute_becomes_a_loop(activation, gate, reason):
    lstm = call(activation=activation, gate=gate)
    assert why_not_fused(lstm) == reason
    assert form_of(lstm, "fused") == ("fused" if reason is None else "loop")
    assert form_of(lstm, "unrolled") == "unrolled"
    graph = empty_graph()
    read(graph, random_case(time=TIME), lstm, ("outputs",), form="fused", precision="float32")
    assert (Op.WHILE in codes(graph)) is (reason is not None)


@pytest.mark.parametrize("activation", ["relu", "relu6", "hard_tanh"])
def test_on_tensorflow_lite_micro_only_tanh_is_fused(activation):
    micro = FAMILIES["micro"]
    assert form_of(call(activation=activation), "fused", FAMILIES["interpreter"]) == "fused"
    assert form_of(call(activation=activation), "fused", micro) == "loop"
    assert form_of(call(), "fused", micro) == "fused"
    reason = why_not_fused(call(activation=activation), micro)
    assert reason == f"activation={activation!r}, and the fused operator of TensorFlow Lite Micro knows tanh"
