"""The configuration of a model: read from JSON, and walked through."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from edgelstm.converters.loading.reasons import reason
from edgelstm.errors import LoadError


def parse_configuration(read: Callable[[], str | bytes], name: str, path: Path) -> dict[str, Any]:
    """Parses a JSON object out of a model file.

    Args:
        read: Gives the text; what it raises for damaged text, a ValueError, is told as damage.
        name: What the text is called in the file.
        path: The file.

    Raises:
        LoadError: If the text is damaged or is no JSON object.
    """
    try:
        value = json.loads(read())
    except (ValueError, RecursionError) as error:
        raise LoadError(
            f"Cannot load {path}: its {name} is damaged ({reason(error)}). Save the model again."
        ) from error
    if not isinstance(value, dict):
        raise LoadError(f"Cannot load {path}: its {name} holds no model. Save the model again with model.save().")
    return value


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
