"""Small programs written by hand, and runs of them."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from edgelstm.converters.exporters.onnx.program import Port, Program
from edgelstm.converters.exporters.onnx.serialize import to_model
from tests.converters.exporters.onnx.flatbuffers import Array, run_model


def program(*shapes: tuple[int, ...]) -> Program:
    """Returns a program without nodes that has inputs x0, x1, … of float32."""
    result = Program()
    for position, shape in enumerate(shapes):
        result.inputs.append(Port(f"x{position}", f"x:{position}", np.float32, shape))
        result.shapes[f"x:{position}"] = shape
    return result


def node(result: Program, op: str, *inputs: str, **attributes: Any) -> str:
    """Adds a node and returns its output."""
    return result.add_node(op, inputs, **attributes)[0]


def ints(result: Program, *values: int) -> str:
    return result.add_constant(np.asarray(values, np.int64))


def outputs(result: Program, *values: str, ranks: tuple[int, ...] = ()) -> Program:
    """Makes values the program's outputs, of any shape and, unless said otherwise, three axes."""
    result.outputs = []
    for position, (value, rank) in enumerate(zip(values, ranks or [3] * len(values), strict=True)):
        shape = tuple(f"axis_{position}_{axis}" for axis in range(rank))
        result.outputs.append(Port(f"y{position}", value, np.float32, shape))
    return result


def run(result: Program, *arrays: Array) -> list[Array]:
    return run_model(to_model(result, "test"), list(arrays))


def copied(result: Program) -> Program:
    return copy.deepcopy(result)


def operators(result: Program) -> list[str]:
    return [each.op for each in result.nodes]
