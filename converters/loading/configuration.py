"""Walking through the configuration of a model, as JSON gives it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def dictionaries(config: Any) -> Iterator[tuple[dict[str, Any], str]]:
    """Yields every dictionary in a configuration, outer ones first, and what to call the layer that it belongs to.

    A file can nest its configuration as deep as it likes, so this does not recurse.
    """
    waiting = [(config, "the model")]
    while waiting:
        value, layer = waiting.pop()
        if isinstance(value, dict):
            layer = _layer_name(value) or layer
            yield value, layer
            waiting += [(inner, layer) for inner in reversed(value.values())]
        elif isinstance(value, list):
            waiting += [(inner, layer) for inner in reversed(value)]


def _layer_name(entry: Mapping[str, Any]) -> str | None:
    inner = entry.get("config")
    name = entry.get("name") or (inner.get("name") if isinstance(inner, dict) else None)
    # Data types, optimizers and the like have names too, but are no layers.
    is_part = entry.get("module") not in (None, "keras.layers", "keras.models") and str(entry["module"])[:6] == "keras."
    if "class_name" not in entry or not isinstance(name, str) or is_part or entry["class_name"] == "DTypePolicy":
        return None
    return f"the layer {name!r}"
