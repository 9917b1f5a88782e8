from __future__ import annotations

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from edgelstm.converters.flatbuffer import BUFFER_ALIGNMENT
from edgelstm.converters.graph import ABSENT, FILE_IDENTIFIER, Graph, quantization
from tests.tiny_models import fused_lstm

Op = schema.BuiltinOperator
SHAPE = [2, 3]


def empty_graph() -> Graph:
    model = schema.ModelT()
    model.version = 3
    model.buffers = [schema.BufferT()]
    model.operatorCodes = []
    subgraph = schema.SubGraphT()
    subgraph.tensors, subgraph.operators, subgraph.inputs, subgraph.outputs = [], [], [], []
    model.subgraphs = [subgraph]
    return Graph(model)


def chain_graph() -> tuple[Graph, dict[str, int]]:
    """y = |-x|, and beside it a dead branch that ends in two operators."""
    graph = empty_graph()
    tensors = {name: graph.add_tensor(name, SHAPE, np.float32) for name in ("dead", "x", "middle", "deader", "y")}
    tensors["addend"] = graph.add_constant("addend", np.ones(SHAPE, np.float32))
    graph.subgraph.inputs, graph.subgraph.outputs = [tensors["x"]], [tensors["y"]]
    graph.add_operator(Op.EXP, [tensors["x"]], [tensors["dead"]])
    graph.add_operator(Op.NEG, [tensors["x"]], [tensors["middle"]])
    graph.add_operator(Op.ADD, [tensors["dead"], tensors["addend"]], [tensors["deader"]])
    graph.add_operator(Op.ABS, [tensors["middle"]], [tensors["y"]])
    sign(graph)
    return graph, tensors


def sign(graph: Graph) -> None:
    signature = schema.SignatureDefT()
    signature.signatureKey = b"serving_default"
    for side in ("inputs", "outputs"):
        entries = []
        for tensor in getattr(graph.subgraph, side):
            entry = schema.TensorMapT()
            entry.name, entry.tensorIndex = graph.tensor(tensor).name, tensor
            entries.append(entry)
        setattr(signature, side, entries)
    graph.model.signatureDefs = [signature]


def signed(graph: Graph, side: str) -> list[tuple[bytes, int]]:
    return [(entry.name, int(entry.tensorIndex)) for entry in getattr(graph.model.signatureDefs[0], side)]


def codes(graph: Graph) -> list[int]:
    return [graph.code(operator) for operator in graph.operators]


def names(graph: Graph) -> list[str]:
    return [tensor.name if isinstance(tensor.name, str) else tensor.name.decode() for tensor in graph.subgraph.tensors]


def reread(graph: Graph) -> Graph:
    return Graph.from_bytes(graph.to_bytes())


# Reading and writing


def test_a_file_that_was_read_is_written_byte_for_byte():
    graph, _ = chain_graph()
    data = graph.to_bytes()
    assert data[4:8] == FILE_IDENTIFIER
    assert Graph.from_bytes(data).to_bytes() == data


def test_a_converted_file_does_not_change_from_the_first_writing_on():
    once = Graph.from_bytes(fused_lstm()).to_bytes()
    assert Graph.from_bytes(once).to_bytes() == once


@pytest.mark.parametrize("sizes", [(1, 3, 17), (16, 5), (1000, 1, 1)])
def test_every_buffer_is_aligned(sizes):
    graph, _ = chain_graph()
    for size in sizes:
        graph.add_constant(f"bytes_{size}", np.arange(size).astype(np.int8))
    data = graph.to_bytes()
    model = schema.Model.GetRootAs(data, 0)
    found = []
    for index in range(model.BuffersLength()):
        buffer = model.Buffers(index)
        if buffer.DataLength():
            found.append(buffer.DataLength())
            table = buffer._tab
            assert table.Vector(table.Offset(4)) % BUFFER_ALIGNMENT == 0
    assert found == [24, *sizes]


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int64, np.int32, np.int16, np.int8, np.uint8, np.bool_])
def test_constants_of_every_type_come_back(dtype):
    graph = empty_graph()
    value = np.arange(6).reshape(2, 3).astype(dtype)
    index = graph.add_constant("value", value)
    got = reread(graph).constant(index)
    assert got is not None
    assert got.dtype == dtype
    np.testing.assert_array_equal(got, value)


def test_a_constant_without_axes_comes_back():
    graph = empty_graph()
    index = graph.add_constant("value", np.array(7, np.int32))
    got = reread(graph).constant(index)
    assert got is not None
    assert (got.shape, int(got)) == ((), 7)


def test_absent_computed_and_variable_tensors_are_no_constants():
    graph, tensors = chain_graph()
    variable = graph.add_constant("state", np.ones(2, np.float32))
    graph.tensor(variable).isVariable = True
    for tensor in (ABSENT, tensors["x"], tensors["middle"], variable):
        assert graph.constant(tensor) is None


def test_float_constant_sees_through_dequantize_of_float16():
    graph = empty_graph()
    value = np.array([0.1, 2.0], np.float16)
    behind = graph.add_tensor("float", [2], np.float32)
    graph.add_operator(Op.DEQUANTIZE, [graph.add_constant("half", value)], [behind])
    got = graph.float_constant(behind)
    assert got is not None
    assert (got[0].dtype, got[1]) == (np.float32, True)
    np.testing.assert_array_equal(got[0], value.astype(np.float32))
    assert graph.constant(behind) is None


def test_float_constant_of_float32_is_said_to_be_no_float16():
    graph = empty_graph()
    got = graph.float_constant(graph.add_constant("value", np.array([0.1], np.float32)))
    assert got is not None
    assert not got[1]


def test_float_constant_does_not_take_int8_for_float16():
    graph = empty_graph()
    stored = graph.add_constant("stored", np.array([3], np.int8), quantization=quantization(0.5))
    behind = graph.add_tensor("float", [1], np.float32)
    graph.add_operator(Op.DEQUANTIZE, [stored], [behind])
    assert graph.float_constant(behind) is None


def test_quantization_parameters_come_back():
    graph = empty_graph()
    index = graph.add_tensor("x", SHAPE, np.int8, quantization=quantization(0.25, -3))
    found = reread(graph).tensor(index).quantization
    assert (float(found.scale[0]), int(found.zeroPoint[0])) == (0.25, -3)


def test_operators_share_codes_by_kind_and_version():
    graph, tensors = chain_graph()
    before = len(graph.model.operatorCodes)
    graph.add_operator(Op.NEG, [tensors["x"]], [graph.add_tensor("z", SHAPE, np.float32)])
    assert len(graph.model.operatorCodes) == before
    graph.add_operator(Op.NEG, [tensors["x"]], [graph.add_tensor("z", SHAPE, np.float32)], version=2)
    assert len(graph.model.operatorCodes) == before + 1


def test_codes_beyond_a_byte_are_written_as_the_schema_demands():
    graph = empty_graph()
    operator = graph.add_operator(Op.CUMSUM, [], [])
    entry = graph.model.operatorCodes[operator.opcodeIndex]
    assert (entry.builtinCode, entry.deprecatedBuiltinCode) == (Op.CUMSUM, 127)
    assert codes(reread(graph)) == [Op.CUMSUM]


# Rewiring


def test_replace_rewires_operators_outputs_and_signature_but_no_producer():
    graph, tensors = chain_graph()
    graph.replace(tensors["y"], tensors["middle"])
    assert graph.subgraph.outputs == [tensors["middle"]]
    assert signed(graph, "outputs") == [(b"y", tensors["middle"])]
    graph.replace(tensors["x"], tensors["addend"])
    assert [operator.inputs[0] for operator in graph.consumers(tensors["addend"])] == [tensors["addend"]] * 2 + [
        tensors["dead"]
    ]
    assert graph.subgraph.inputs == [tensors["x"]]
    assert signed(graph, "inputs") == [(b"x", tensors["x"])]
    assert graph.producer(tensors["y"]) is not None


def test_is_used_knows_readers_and_outputs():
    graph, tensors = chain_graph()
    assert graph.is_used(tensors["middle"])
    assert graph.is_used(tensors["y"])
    assert not graph.is_used(tensors["deader"])


# Putting in order


def test_sort_puts_producers_first():
    graph, _ = chain_graph()
    graph.subgraph.operators = graph.operators[::-1]
    graph.sort()
    order = codes(graph)
    assert order.index(Op.NEG) < order.index(Op.ABS)
    assert order.index(Op.EXP) < order.index(Op.ADD)
    assert len(order) == 4


def test_sort_keeps_the_order_of_what_is_in_order():
    graph, _ = chain_graph()
    before = codes(graph)
    graph.sort()
    assert codes(graph) == before


def test_sort_moves_only_what_must_move():
    graph = empty_graph()
    x, late, *others = (graph.add_tensor(name, SHAPE, np.float32) for name in "xlabcd")
    reader = graph.add_operator(Op.ABS, [late], [others[0]])
    independent = [graph.add_operator(Op.NEG, [x], [tensor]) for tensor in others[1:]]
    producer = graph.add_operator(Op.EXP, [x], [late])
    graph.sort()
    assert [id(operator) for operator in graph.operators] == [
        *(id(operator) for operator in independent),
        id(producer),
        id(reader),
    ]


def test_sort_counts_an_operator_that_is_read_twice_once():
    graph = empty_graph()
    x, twice, product = (graph.add_tensor(name, SHAPE, np.float32) for name in "xtp")
    graph.add_operator(Op.MUL, [twice, twice], [product])
    graph.add_operator(Op.NEG, [x], [twice])
    graph.sort()
    assert codes(graph) == [Op.NEG, Op.MUL]


def test_sort_refuses_a_cycle():
    graph = empty_graph()
    a, b = (graph.add_tensor(name, SHAPE, np.float32) for name in "ab")
    graph.add_operator(Op.NEG, [a], [b])
    graph.add_operator(Op.ABS, [b], [a])
    with pytest.raises(AssertionError, match="cycle"):
        graph.sort()


# Pruning


def test_prune_operators_drops_dead_operators_and_their_codes_and_keeps_the_others():
    graph, tensors = chain_graph()
    graph.prune_operators()
    assert codes(graph) == [Op.NEG, Op.ABS]
    assert [entry.builtinCode for entry in graph.model.operatorCodes] == [Op.NEG, Op.ABS]
    assert signed(graph, "inputs") == [(b"x", tensors["x"])]
    assert signed(graph, "outputs") == [(b"y", tensors["y"])]


def test_prune_operators_keeps_an_operator_with_one_output_in_use():
    graph = empty_graph()
    x, used, unused = (graph.add_tensor(name, SHAPE, np.float32) for name in ("x", "used", "unused"))
    graph.add_operator(Op.SPLIT, [x], [unused, used])
    graph.subgraph.outputs = [used]
    graph.prune_operators()
    assert codes(graph) == [Op.SPLIT]


def test_prune_operators_keeps_writers_of_a_state_that_is_read():
    graph = empty_graph()
    x, state, y = (graph.add_tensor(name, SHAPE, np.float32) for name in ("x", "state", "y"))
    graph.tensor(state).isVariable = True
    graph.add_operator(Op.GATHER, [x], [state])
    graph.add_operator(Op.ADD, [x, state], [y])
    graph.subgraph.outputs = [y]
    graph.prune_operators()
    assert codes(graph) == [Op.GATHER, Op.ADD]


def test_codes_of_other_subgraphs_survive_pruning():
    graph, _ = chain_graph()
    body = empty_graph()
    operator = schema.OperatorT()
    operator.opcodeIndex = graph._operator_code(Op.LOGISTIC, 1)
    operator.inputs, operator.outputs = [], []
    body.subgraph.operators = [operator]
    graph.model.subgraphs.append(body.subgraph)
    graph.prune_operators()
    assert Op.LOGISTIC in [entry.builtinCode for entry in graph.model.operatorCodes]
    assert graph.code(operator) == Op.LOGISTIC


def test_prune_tensors_drops_unread_tensors_and_buffers_only():
    graph, _ = chain_graph()
    graph.prune_operators()
    graph.prune_tensors()
    assert names(graph) == ["x", "middle", "y"]
    assert len(graph.model.buffers) == 1
    assert [operator.inputs + operator.outputs for operator in graph.operators] == [[0, 1], [1, 2]]
    assert (graph.subgraph.inputs, graph.subgraph.outputs) == ([0], [2])
    assert signed(graph, "inputs") == [(b"x", 0)]
    assert signed(graph, "outputs") == [(b"y", 2)]


def test_prune_tensors_keeps_inputs_that_nobody_reads():
    graph, tensors = chain_graph()
    graph.subgraph.inputs.append(tensors["dead"])
    graph.remove([operator for operator in graph.operators if tensors["dead"] in operator.outputs])
    sign(graph)
    graph.prune_operators()
    graph.prune_tensors()
    assert {name for name, _ in signed(graph, "inputs")} == {b"x", b"dead"}
    assert [names(graph)[index] for _, index in signed(graph, "inputs")] == ["x", "dead"]


def test_prune_tensors_keeps_absent_inputs_intermediates_and_constants():
    graph = empty_graph()
    graph.add_constant("unread", np.zeros(9, np.float32))
    x, y = (graph.add_tensor(name, SHAPE, np.float32) for name in "xy")
    value = np.arange(6, dtype=np.float32).reshape(SHAPE)
    constant, inner = graph.add_constant("weights", value), graph.add_tensor("inner", [0], np.float32)
    graph.add_operator(Op.ADD, [x, ABSENT, constant], [y], intermediates=[inner])
    graph.subgraph.inputs, graph.subgraph.outputs = [x], [y]
    graph.prune_tensors()
    operator = graph.operators[0]
    assert operator.inputs[1] == ABSENT
    assert names(graph)[operator.intermediates[0]] == "inner"
    np.testing.assert_array_equal(graph.constant(operator.inputs[2]), value)
    assert names(graph) == ["x", "y", "weights", "inner"]
    assert len(graph.model.buffers) == 2


def test_buffers_of_metadata_and_of_other_subgraphs_survive_pruning():
    graph, _ = chain_graph()
    for content in (b"meta", b"unread", b"body"):
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(content, np.uint8)
        graph.model.buffers.append(buffer)
    count = len(graph.model.buffers)
    entry = schema.MetadataT()
    entry.name, entry.buffer = b"about", count - 3
    graph.model.metadata = [entry]
    body = empty_graph()
    body.add_tensor("weights", [4], np.int8)
    body.tensor(0).buffer = count - 1
    graph.model.subgraphs.append(body.subgraph)
    graph.prune_operators()
    graph.prune_tensors()
    assert bytes(graph.model.buffers[graph.model.metadata[0].buffer].data) == b"meta"
    assert bytes(graph.model.buffers[body.tensor(0).buffer].data) == b"body"
    assert len(graph.model.buffers) == 3


def test_a_pruned_graph_can_be_written_and_read():
    graph, _ = chain_graph()
    graph.prune_operators()
    graph.prune_tensors()
    assert codes(reread(graph)) == [Op.NEG, Op.ABS]


def test_pruning_gives_tensors_without_a_value_the_empty_buffer():
    graph, tensors = chain_graph()
    for name in ("x", "y"):
        graph.model.buffers.append(schema.BufferT())
        graph.tensor(tensors[name]).buffer = len(graph.model.buffers) - 1
    graph.model.buffers[-1].data = np.zeros(0, np.uint8)
    graph.prune_operators()
    graph.prune_tensors()
    assert [tensor.buffer for tensor in graph.subgraph.tensors] == [0, 0, 0]
    assert len(graph.model.buffers) == 1


def test_pruning_drops_quantization_without_numbers_only():
    graph, tensors = chain_graph()
    said = schema.QuantizationParametersT()
    said.min, said.max = np.zeros(1, np.float32), np.ones(1, np.float32)
    nothing = schema.QuantizationParametersT()
    nothing.scale = np.zeros(0, np.float32)
    given = {"x": quantization(0.5), "middle": nothing, "y": said}
    for name, parameters in given.items():
        graph.tensor(tensors[name]).quantization = parameters
    graph.prune_operators()
    graph.prune_tensors()
    assert [tensor.quantization for tensor in graph.subgraph.tensors] == [given["x"], None, said]


def test_strip_names_keeps_inputs_outputs_and_those_that_are_asked_for():
    graph, _ = chain_graph()
    body = graph.add_subgraph("body")
    for name in ("x", "inner", "state"):
        body.add_tensor(name, SHAPE, np.float32)
    body.subgraph.inputs = [0]
    graph.strip_names(keep=["deader", "state"])
    assert [tensor.name for tensor in graph.subgraph.tensors] == [None, b"x", None, b"deader", b"y", None]
    assert [tensor.name for tensor in body.subgraph.tensors] == [None, None, b"state"]
    assert signed(reread(graph), "inputs") == [(b"x", 1)]
    assert [tensor.name for tensor in reread(graph).subgraph.tensors] == [None, b"x", None, b"deader", b"y", None]
