"""Keras models exported to ONNX, and how their answers compare."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import keras
import numpy as np

from edgelstm.converters.exporters.onnx import ExportedOnnx, to_onnx
from edgelstm.converters.lowering.signature import model_signature
from edgelstm.converters.native.worker import convert
from tests.converters.exporters.onnx.flatbuffers import Array, session

RECURRENT = ("LSTM", "GRU", "RNN")
CONTROL_FLOW = {"Loop", "Scan", "If", "SequenceMap"}


def export(model: keras.Model, *, batch: int = 1, length: int | None = None, **options: Any) -> ExportedOnnx:
    with tempfile.TemporaryDirectory() as folder:
        return to_onnx(model, model_signature(model, batch=batch, length=length), Path(folder), **options)


def run_calls(exported: ExportedOnnx, calls: list[list[Array]]) -> list[list[Array]]:
    """Runs calls one after the other in one session; whole numbers in floats become what the file takes."""
    opened = session(exported.model)
    kinds = {"tensor(int32)": np.int32, "tensor(float)": np.float32}
    entries = [(entry.name, kinds.get(entry.type)) for entry in opened.get_inputs()]
    return [
        list(
            opened.run(None, {name: a.astype(kind or a.dtype) for (name, kind), a in zip(entries, arrays, strict=True)})
        )
        for arrays in calls
    ]


def answers(exported: ExportedOnnx, *arrays: Array) -> list[Array]:
    return run_calls(exported, [list(arrays)])[0]


def assert_close(found: list[Array], right: list[Any], tolerance: float = 1e-5) -> None:
    assert len(found) == len(right)
    for position, (answer, wanted) in enumerate(zip(found, right, strict=True)):
        assert answer.shape == tuple(wanted.shape)
        np.testing.assert_allclose(
            answer, np.asarray(wanted), rtol=tolerance, atol=tolerance, equal_nan=False, err_msg=f"output {position}"
        )


def nodes(exported: ExportedOnnx, *kinds: str) -> list[Any]:
    """Returns the nodes of certain types."""
    return [node for node in exported.model.graph.node if node.op_type in kinds]


def attribute(node: Any, name: str) -> Any:
    """Returns an attribute of a node, None if it has none of that name."""
    return next((each.s or each.i or list(each.strings) for each in node.attribute if each.name == name), None)


def constants(exported: ExportedOnnx) -> dict[str, Any]:
    """Returns the initializers by name."""
    return {each.name: each for each in exported.model.graph.initializer}


def convert_here(saved_model: Path, precision: str, *, timeout_s: float) -> bytes:
    """Stands in for `native.convert_saved_model`: this process has TensorFlow loaded already."""
    del timeout_s
    return convert({"saved_model": str(saved_model), "precision": precision})
