"""Flatbuffers of one operator, run by the TFLite interpreter and, translated, by ONNX Runtime."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray

from edgelstm.converters.exporters.onnx.program import Program
from edgelstm.converters.exporters.onnx.serialize import to_model
from edgelstm.converters.exporters.onnx.simplify import simplify
from edgelstm.converters.exporters.onnx.translate import translate
from edgelstm.converters.graph import Graph

Array = NDArray[Any]
VERSIONS = {schema.BuiltinOperator.BROADCAST_TO: 2}  # the interpreter has no version 1 of these


@dataclass(frozen=True)
class Fixed:
    """An input that is a constant of the file."""

    value: Any
    dtype: Any = np.int32

    def array(self) -> Array:
        return np.asarray(self.value, self.dtype)


def empty_graph() -> Graph:
    model = schema.ModelT()
    model.version, model.description = 3, b"test"
    model.buffers, model.operatorCodes = [schema.BufferT()], []
    subgraph = schema.SubGraphT()
    subgraph.tensors, subgraph.operators, subgraph.inputs, subgraph.outputs = [], [], [], []
    model.subgraphs = [subgraph]
    return Graph(model)


def options(name: str, **fields: Any) -> tuple[Any, int]:
    """Returns an operator's options and their type: name is that of the table without "Options"."""
    result = getattr(schema, f"{name}OptionsT")()
    for key, value in fields.items():
        assert hasattr(result, key), key
        setattr(result, key, value)
    return result, getattr(schema.BuiltinOptions, f"{name}Options")


def one_operator(
    code: int,
    inputs: list[Array | Fixed],
    given: tuple[Any, int] = (None, 0),
    outputs: tuple[Any, ...] = (np.float32,),
) -> Graph:
    """Returns a flatbuffer of one operator; the shapes of its outputs are those that the interpreter finds."""
    graph = empty_graph()
    indices = []
    for position, each in enumerate(inputs):
        if isinstance(each, Fixed):
            indices.append(graph.add_constant(f"constant{position}", each.array()))
        else:
            indices.append(graph.add_tensor(f"x{position}", each.shape, each.dtype))
            graph.subgraph.inputs.append(indices[-1])
    results = [graph.add_tensor(f"y{position}", (), dtype) for position, dtype in enumerate(outputs)]
    version = VERSIONS.get(code, 1)
    graph.add_operator(code, indices, results, options=given[0], options_type=given[1], version=version)
    graph.subgraph.outputs = results
    for index, answer in zip(results, interpret(graph, inputs), strict=True):
        graph.tensor(index).shape = np.asarray(answer.shape, np.int32)
    return graph


def fed(inputs: list[Array | Fixed]) -> list[Array]:
    return [each for each in inputs if not isinstance(each, Fixed)]


def interpret(graph: Graph, inputs: list[Array | Fixed]) -> list[Array]:
    interpreter = Interpreter(model_content=graph.to_bytes())
    interpreter.allocate_tensors()
    for detail, array in zip(interpreter.get_input_details(), fed(inputs), strict=True):
        interpreter.set_tensor(detail["index"], array)
    interpreter.invoke()
    return [interpreter.get_tensor(detail["index"]) for detail in interpreter.get_output_details()]


def translated(graph: Graph) -> Program:
    names = [
        [graph.tensor(index).name.decode() for index in indices]
        for indices in (graph.subgraph.inputs, graph.subgraph.outputs)
    ]
    program = translate(graph, [], *names)
    simplify(program)
    return program


def session(model: Any) -> onnxruntime.InferenceSession:
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = 1
    settings.log_severity_level = 3
    return onnxruntime.InferenceSession(model.SerializeToString(), settings, providers=["CPUExecutionProvider"])


def run_model(model: Any, arrays: list[Array]) -> list[Array]:
    opened = session(model)
    return list(opened.run(None, {entry.name: a for entry, a in zip(opened.get_inputs(), arrays, strict=True)}))


def both(graph: Graph, inputs: list[Array | Fixed]) -> tuple[list[Array], list[Array]]:
    """Returns the answers of the interpreter and of ONNX Runtime."""
    return interpret(graph, inputs), run_model(to_model(translated(graph), "test"), fed(inputs))
