"""TensorFlow Lite's operators in ONNX: one file for each family, one table."""

from __future__ import annotations

from edgelstm.converters.exporters.onnx.operators import (
    activations,
    arithmetic,
    comparisons,
    convolutions,
    indexing,
    matrices,
    reductions,
    shapes,
)
from edgelstm.converters.exporters.onnx.step import Translation

FAMILIES = (activations, arithmetic, comparisons, convolutions, indexing, matrices, reductions, shapes)

TRANSLATIONS: dict[int, Translation] = {
    code: translation for family in FAMILIES for code, translation in family.TRANSLATIONS.items()
}
"""By `BuiltinOperator` code."""
