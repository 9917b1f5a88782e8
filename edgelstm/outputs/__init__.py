"""What a conversion can write: one file each, one table."""

from __future__ import annotations

from edgelstm.artifact import check_output
from edgelstm.options import ONNX, SAVED_MODEL, TFLITE
from edgelstm.outputs import onnx, saved_model, tflite
from edgelstm.outputs.base import Order, Output, Prepared, prepare

OUTPUTS: dict[str, Output] = {
    TFLITE: Output(check_output, tflite.write),
    ONNX: Output(check_output, onnx.write),
    SAVED_MODEL: Output(saved_model.check, saved_model.write, free_length=True),
}

__all__ = ["OUTPUTS", "Order", "Output", "Prepared", "prepare"]
