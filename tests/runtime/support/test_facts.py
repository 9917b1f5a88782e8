"""What is read from a file before any rule looks at it."""

from __future__ import annotations

import pytest
from ai_edge_litert import schema_py_generated as schema

from edgelstm.errors import LoadError
from edgelstm.runtime.inspection import inspect
from edgelstm.runtime.support.facts import OperatorUse, read_facts
from tests import tiny_models
from tests.one_operator import Op, Tensor, accumulator, one_operator, pack, unpack


def facts_of(tmp_path, content, **options):
    path = tmp_path / "m.tflite"
    path.write_bytes(content)
    return read_facts(inspect(path, **options), path)


def test_an_operator_is_told_with_its_types_and_its_version(tmp_path):
    facts = facts_of(tmp_path, accumulator())
    assert facts.operators == (OperatorUse("ADD", 1, False, ("float32", "float32"), ("float32",), 2),)
    assert facts.operator_counts == {"ADD": 1}
    assert (facts.num_graphs, facts.num_variables, facts.state) == (1, 0, "none")
    assert facts.last_operators == {"ADD"}
    assert (facts.has_open_sizes, facts.has_computed_sizes, facts.shares_outputs) == (False, False, False)
    assert facts.metadata == frozenset()


def test_every_way_to_use_an_operator_is_told_once(tmp_path):
    facts = facts_of(tmp_path, tiny_models.unrolled_lstm())
    assert len(facts.operators) == len(set(facts.operators)) < sum(facts.operator_counts.values())
    assert facts.operator_counts["LOGISTIC"] == 3 * tiny_models.TIME


def test_a_fused_operator_without_a_reset_leaks(tmp_path):
    facts = facts_of(tmp_path, tiny_models.fused_lstm())
    assert (facts.num_variables, facts.state, facts.variable_writers) == (2, "leaking", frozenset())
    assert facts_of(tmp_path, tiny_models.fused_lstm(), streaming=True).state == "streaming"


def counter(writer: str | None) -> bytes:
    """Returns y = x + v with a variable v, which an operator writes first if one is named."""
    x, y = (Tensor(name, "float32", (2, 3)) for name in "xy")
    model = unpack(one_operator(Op.ADD, [x, Tensor("v", "float32", (2, 3))], [y], schema.AddOptionsT()))
    graph = model.subgraphs[0]
    graph.tensors[1].isVariable = True
    graph.inputs = [0]
    model.signatureDefs[0].inputs = model.signatureDefs[0].inputs[:1]
    if writer:
        code, operator = schema.OperatorCodeT(), schema.OperatorT()
        code.builtinCode = code.deprecatedBuiltinCode = getattr(Op, writer)
        code.version = 1
        model.operatorCodes.append(code)
        operator.opcodeIndex, operator.inputs, operator.outputs = 1, [0], [1]
        graph.operators.insert(0, operator)
    return pack(model)


def test_any_operator_may_keep_a_variable(tmp_path):
    assert facts_of(tmp_path, counter(None)).state == "leaking"
    written = facts_of(tmp_path, counter("RELU"))
    assert (written.state, written.variable_writers) == ("self-resetting", {"RELU"})


@pytest.mark.parametrize("name", ["ASSIGN_VARIABLE", "RANDOM_UNIFORM"])
def test_other_memory_and_random_numbers_are_not_followed(tmp_path, name):
    content = one_operator(getattr(Op, name), [Tensor("x", "float32", (2,))], [Tensor("y", "float32", (2,))])
    assert facts_of(tmp_path, content).state == "unknown"


def test_open_inputs_are_no_computed_sizes(tmp_path):
    facts = facts_of(tmp_path, tiny_models.affine(None))
    assert (facts.has_open_sizes, facts.has_computed_sizes) == (True, False)
    model = unpack(accumulator())
    model.subgraphs[0].tensors[2].shapeSignature = [-1, 3]
    facts = facts_of(tmp_path, pack(model))
    assert (facts.has_open_sizes, facts.has_computed_sizes) == (False, True)


def test_outputs_are_followed_through_copies(tmp_path):
    def reshaped(again: bool) -> bytes:
        model = unpack(accumulator())
        graph, code, operator = model.subgraphs[0], schema.OperatorCodeT(), schema.OperatorT()
        code.builtinCode = code.deprecatedBuiltinCode = Op.RESHAPE
        model.operatorCodes.append(code)
        graph.tensors.append(graph.tensors[2])
        operator.opcodeIndex, operator.inputs, operator.outputs = 1, [2 if again else 3], [3]
        graph.operators.append(operator)
        model.signatureDefs[0].outputs[0].tensorIndex = 3
        return pack(model)

    assert facts_of(tmp_path, reshaped(True)).last_operators == {"ADD"}
    assert facts_of(tmp_path, reshaped(False)).last_operators == {"RESHAPE"}, "a circle ends"


def test_metadata_is_told_by_name(tmp_path):
    model = unpack(accumulator())
    entry = schema.MetadataT()
    entry.name, entry.buffer = b"TFLITE_METADATA", 0
    model.metadata = [entry]
    assert facts_of(tmp_path, pack(model)).metadata == {"TFLITE_METADATA"}


def test_a_file_without_a_signature_has_the_outputs_of_its_graph(tmp_path):
    model = unpack(accumulator())
    model.signatureDefs = []
    assert facts_of(tmp_path, pack(model)).last_operators == {"ADD"}


def test_a_file_that_changes_in_between_is_an_error(tmp_path):
    path = tmp_path / "m.tflite"
    path.write_bytes(accumulator())
    inspection = inspect(path)
    path.write_bytes(accumulator()[:60])
    with pytest.raises(LoadError, match=r"m\.tflite is damaged, or was changed while it was read"):
        read_facts(inspection, path)
