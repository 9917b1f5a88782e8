"""A flatbuffer with carriers -> a program of ONNX operators, one operator after the other."""

from __future__ import annotations

from collections.abc import Sequence

from ai_edge_litert.schema_py_generated import BuiltinOperator

from edgelstm.converters.exporters.onnx.operators import TRANSLATIONS
from edgelstm.converters.exporters.onnx.program import Port, Program
from edgelstm.converters.exporters.onnx.recurrent import recurrent
from edgelstm.converters.exporters.onnx.step import Step, operator_name, value_type
from edgelstm.converters.graph import Graph
from edgelstm.converters.lowering.calls import LstmCall
from edgelstm.converters.lowering.onnx_lstm import OnnxCall
from edgelstm.errors import ConversionError

LOOPS = (BuiltinOperator.WHILE, BuiltinOperator.IF, BuiltinOperator.CALL_ONCE)


def translate(graph: Graph, calls: Sequence[LstmCall], inputs: Sequence[str], outputs: Sequence[str]) -> Program:
    """Translates every operator of a graph.

    Args:
        graph: A float32 flatbuffer, operators in an order in which they can run.
        calls: The calls that its carriers stand for.
        inputs: Names of its inputs; the names of its tensors do not count.
        outputs: Names of its outputs.

    Raises:
        ConversionError: If an operator has no translation.
        LoweringError: If a carrier cannot become an ONNX operator.
    """
    by_carrier = {call.carrier: call for call in calls if isinstance(call, OnnxCall)}
    _require_known(graph, set(by_carrier))
    program = Program()
    values: dict[int, str] = {}
    for name, tensor in zip(inputs, graph.subgraph.inputs, strict=True):
        values[tensor] = program.new_value("input")
        program.inputs.append(_port(graph, name, tensor, values[tensor]))
    for operator in graph.operators:
        for tensor in operator.inputs:
            _add_constant(program, graph, values, tensor)
        step = Step(program, graph, operator, values)
        call = by_carrier.get(graph.custom_name(operator) or "")
        results = recurrent(step, call) if call else TRANSLATIONS[graph.code(operator)](step)
        for tensor, value in zip(operator.outputs, [results] if isinstance(results, str) else results, strict=True):
            values[tensor] = value
            program.shapes[value] = tuple(graph.shape(tensor))
    for name, tensor in zip(outputs, graph.subgraph.outputs, strict=True):
        _add_constant(program, graph, values, tensor)
        program.outputs.append(_port(graph, name, tensor, values[tensor]))
    program.drop_unread()  # constants that became attributes
    return program


def _require_known(graph: Graph, carriers: set[str]) -> None:
    """Refuses a graph that holds anything without a translation, before the work begins."""
    codes = {graph.code(operator) for operator in graph.operators if graph.custom_name(operator) not in carriers}
    loops = sorted(operator_name(code) for code in codes.intersection(LOOPS))
    if loops:
        raise ConversionError(
            f"The model itself holds control flow ({', '.join(loops)}), which is not exported to ONNX: write the loop "
            "as Python code over fixed steps, or convert to .tflite."
        )
    unknown = sorted(operator_name(code) for code in codes - set(TRANSLATIONS))
    if unknown:
        raise ConversionError(
            f"The model uses {', '.join(unknown)}, which edgelstm does not export to ONNX. "
            "Replace the layers that use them, or convert to .tflite."
        )


def _add_constant(program: Program, graph: Graph, values: dict[int, str], tensor: int) -> None:
    if tensor in values:
        return
    value = graph.constant(tensor)
    if value is not None:
        values[tensor] = program.add_constant(value)


def _port(graph: Graph, name: str, tensor: int, value: str) -> Port:
    return Port(name, value, value_type(graph, tensor), tuple(graph.shape(tensor)))
