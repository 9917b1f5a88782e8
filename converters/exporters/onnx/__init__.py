"""Our own exporter to ONNX: LSTM layers become LSTM nodes, with nothing around them that is a loop.

A model is traced like for a .tflite file, and the operators of the float32 flatbuffer become those of ONNX, one after
the other. Beside `exporters.EXPORTERS`, because the result is no flatbuffer.
"""

from __future__ import annotations

from edgelstm.converters.exporters.onnx.export import ExportedOnnx, export_onnx, to_onnx
from edgelstm.converters.exporters.onnx.serialize import OPSET
from edgelstm.converters.exporters.onnx.verify import verify_onnx

__all__ = ["OPSET", "ExportedOnnx", "export_onnx", "to_onnx", "verify_onnx"]
