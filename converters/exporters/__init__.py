"""Exporters: a traced Keras model in, a flatbuffer of one precision out. One file each, one table."""

from __future__ import annotations

from edgelstm.converters.exporters import dynamic, float16, float32, int8
from edgelstm.converters.exporters.base import Exported, Exporter, Job

EXPORTERS: dict[str, Exporter] = {
    "float32": float32.export,
    "float16": float16.export,
    "dynamic": dynamic.export,
    "int8": int8.export,
}

__all__ = ["EXPORTERS", "Exported", "Exporter", "Job"]
