"""The encodings of plain values in old configurations, undone."""

from __future__ import annotations

from typing import Any


def plain(value: Any) -> Any:
    """Returns a copy of a value from JSON with tuples, shapes and NumPy numbers in plain form.

    Keras 2 wrote a tuple as {"class_name": "__tuple__", "items": [...]}, a shape as {"class_name": "TensorShape", ...}
    and a NumPy number as {"type": "ndarray", "value": ...}.
    """
    if isinstance(value, list):
        return [plain(inner) for inner in value]
    if not isinstance(value, dict):
        return value
    if value.get("class_name") in ("__tuple__", "TensorShape") and isinstance(value.get("items"), list):
        return plain(value["items"])
    if value.keys() == {"type", "value"} and value["type"] == "ndarray":
        return plain(value["value"])
    return {name: plain(inner) for name, inner in value.items()}
