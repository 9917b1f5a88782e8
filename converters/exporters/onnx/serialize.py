"""A program as an ONNX model: names, initializers, checks. The same program gives the same bytes."""

from __future__ import annotations

import json
from importlib.metadata import version
from typing import Any

import numpy as np

from edgelstm.converters.exporters.onnx.program import ABSENT, RECURRENT, Program
from edgelstm.converters.lowering.signature import unique
from edgelstm.errors import ConversionError, MissingExtraError

# 17 has everything that is needed here (LSTM as of 14, GatherND with batch_dims, Shape with bounds), and ONNX Runtime
# takes it from 1.12 (2022) on. Later versions bring nothing for LSTMs, and shut out older runtimes.
OPSET = 17
IR_VERSION = 8  # what goes with opset 17; runtimes refuse newer ones than they know
MAX_BYTES = 2**31 - 2**20  # of protobuf, less what the nodes take


def import_onnx() -> Any:
    """The package onnx.

    Raises:
        MissingExtraError: If it is not installed.
    """
    try:
        import onnx
    except ImportError as error:
        raise MissingExtraError(
            f"Exporting to ONNX needs the package onnx ({error}): pip install 'edgelstm[convert]'"
        ) from error
    return onnx


def to_model(program: Program, name: str) -> Any:
    """Writes a program as an `onnx.ModelProto` and checks it.

    Args:
        program: The program; nothing in it that nobody reads.
        name: Name of the graph.

    Raises:
        ConversionError: If the weights are too large for one file, or ONNX's own checks fail.
        MissingExtraError: If onnx is not installed.
    """
    onnx = import_onnx()
    size = sum(array.nbytes for array in program.constants.values())
    if size > MAX_BYTES:
        raise ConversionError(
            f"The model's weights take {size / 2**30:.1f} GB, and an ONNX file holds at most 2 GB. "
            "Make the model smaller, or export its parts."
        )
    names = _names(program)
    nodes = [
        onnx.helper.make_node(
            node.op,
            [names[value] for value in node.inputs],
            [names[value] for value in node.outputs],
            name=label,
            **{key: _attribute(onnx, value) for key, value in sorted(node.attributes.items())},
        )
        for node, label in zip(program.nodes, _labels(program), strict=True)
    ]
    nodes += [
        onnx.helper.make_node("Identity", [names[port.value]], [port.name], name=f"output/{port.name}")
        for port in program.outputs
        if names[port.value] != port.name
    ]
    graph = onnx.helper.make_graph(
        nodes,
        name,
        [_value_info(onnx, port) for port in program.inputs],
        [_value_info(onnx, port) for port in program.outputs],
        [onnx.numpy_helper.from_array(array, names[value]) for value, array in program.constants.items()],
    )
    model = onnx.helper.make_model(
        graph,
        opset_imports=[onnx.helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="edgelstm",
        producer_version=version("edgelstm"),
    )
    layers = [node.layer for node in program.nodes if node.op in RECURRENT]
    onnx.helper.set_model_props(model, {"edgelstm": version("edgelstm"), "edgelstm.layers": json.dumps(layers)})
    _check(onnx, model)
    return model


def _names(program: Program) -> dict[str, str]:
    """Names in the file: ports as users know them, weights after their layers, everything else after its operator."""
    names = {ABSENT: ABSENT} | {port.value: port.name for port in program.inputs}
    written = {value for node in program.nodes for value in node.outputs}
    for port in program.outputs:
        if port.value in written:
            names.setdefault(port.value, port.name)
    # Colons keep these apart from ports, whose names have none.
    counted: dict[str, int] = {}
    for value in [*program.constants, *(value for node in program.nodes for value in node.outputs)]:
        if value not in names:
            hint = value.rpartition(":")[0]
            counted[hint] = counted.get(hint, -1) + 1
            names[value] = f"{hint}:{counted[hint]}"
    return names


def _labels(program: Program) -> list[str]:
    """Names of nodes: the path of the layer, or the operator and a number."""
    counted: dict[str, int] = {}
    labels = []
    for node in program.nodes:
        label = node.layer
        if not label:
            counted[node.op] = counted.get(node.op, -1) + 1
            label = f"{node.op}:{counted[node.op]}"
        labels.append(label)
    return unique(labels)


def _attribute(onnx: Any, value: Any) -> Any:
    return onnx.helper.np_dtype_to_tensor_dtype(value) if isinstance(value, np.dtype) else value


def _value_info(onnx: Any, port: Any) -> Any:
    return onnx.helper.make_tensor_value_info(
        port.name, onnx.helper.np_dtype_to_tensor_dtype(np.dtype(port.dtype)), list(port.shape)
    )


def _check(onnx: Any, model: Any) -> None:
    try:
        onnx.checker.check_model(model, full_check=True)
        onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ConversionError(f"The exported ONNX model is not valid ({reason}). Please report the model.") from error
