"""Layers with a precision of their own: which can have one, which was asked for, and whose an operator is."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from edgelstm.converters.graph import ABSENT, Graph
from edgelstm.converters.layers import layers_inside
from edgelstm.converters.lowering.calls import Trace
from edgelstm.converters.lowering.recurrent import why_loop
from edgelstm.errors import LoweringError

COARSE_TO_FINE = ("int8", "dynamic", "float16", "float32")
"""Precisions, that with the largest error first."""

_MOST_NAMED = 12


def precision_layers(model: Any) -> list[str]:
    """The layers of a model that can have a precision of their own.

    Args:
        model: A built Keras model.

    Returns:
        Paths in graph order, "encoder/lstm" for a layer in a model or a wrapper: LSTMs, and layers whose weights are
        the matrices of one operator. A `TimeDistributed` layer around one of the latter stands for it.
    """
    found = list(_weighted(model, ""))
    last = {id(layer): path for layer, path in found}
    return list(dict.fromkeys(path for layer, path in found if not hasattr(layer, "cell") or last[id(layer)] == path))


def _weighted(layer: Any, prefix: str) -> Iterator[tuple[Any, str]]:
    """Layers with their paths; a recurrent layer that two models share is called by its last path when it is traced."""
    from keras import layers

    kinds = (
        *(layers.Dense, layers.EinsumDense, layers.Embedding, layers.Conv1D, layers.Conv2D, layers.DepthwiseConv1D),
        *(layers.DepthwiseConv2D, layers.SeparableConv1D, layers.SeparableConv2D, layers.Conv1DTranspose),
        layers.Conv2DTranspose,
    )
    for child in layers_inside(layer, recursive=False):
        path = f"{prefix}{child.name}"
        if isinstance(child, layers.RNN):
            if why_loop(child) is None:
                yield child, path
        elif isinstance(child, kinds) or (isinstance(child, layers.TimeDistributed) and isinstance(child.layer, kinds)):
            yield child, path
        else:
            yield from _weighted(child, f"{path}/")


def resolve_layers(given: Mapping[str, str], trace: Trace) -> dict[str, str]:
    """The precision of every layer that has one of its own.

    Args:
        given: Precisions by the name or path of a layer, which stands for all layers inside it; of two names, the one
            that is nearer to a layer decides.
        trace: What tracing found.

    Returns:
        Precisions by the paths of `precision_layers`; those that are int8, the default of their file, are left out.

    Raises:
        LoweringError: If a name is no layer's, or its layer has no weights that can be stored in one or another way.
    """
    able = list(dict.fromkeys([*trace.weighted, *(call.layer for call in trace.calls)]))
    for name in given:
        if not any(is_inside(path, name) for path in able):
            raise LoweringError(_refusal(name, able, trace))
    resolved = {}
    for path in able:
        names = [name for name in given if is_inside(path, name)]
        if names and given[max(names, key=len)] != "int8":
            resolved[path] = given[max(names, key=len)]
    return resolved


def scope_name(name: str) -> str:
    """The name of a layer as TensorFlow's scopes take it."""
    cleaned = re.sub(r"[^A-Za-z0-9_./>-]", "_", name)
    return cleaned if re.match(r"[A-Za-z0-9.]", cleaned) else f"x{cleaned}"


def is_inside(path: str, name: str) -> bool:
    """Whether a layer has a name or path, or is in a layer that has it."""
    return path == name or path.startswith(f"{name}/")


def _refusal(name: str, able: Sequence[str], trace: Trace) -> str:
    loop = next((loop for loop in trace.loops if is_inside(loop.layer, name)), None)
    if loop is not None:
        return f"Layer {loop.layer!r} cannot have a precision of its own: {loop.reason}, so it stays Keras' own loop."
    listed = ", ".join(able[:_MOST_NAMED]) + (f" and {len(able) - _MOST_NAMED} more" if able[_MOST_NAMED:] else "")
    there = f"Layers that can: {listed}." if able else "No layer of this model can."
    if name in trace.paths.values():
        return f"Layer {name!r} has no weights that could have a precision of their own. {there}"
    near = [path for path in able if path.endswith(f"/{name}")] or difflib.get_close_matches(name, able, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return f"There is no layer {name!r} to give a precision of its own.{hint} {there}"


def coarsest(precisions: Iterable[str]) -> str:
    """The precision with the largest error among some."""
    return min(precisions, key=COARSE_TO_FINE.index)


def layer_of(graph: Graph, operator: Any, weights: int, layers: Sequence[str]) -> str | None:
    """The layer that an operator stems from, by the scopes that TensorFlow gave its tensors.

    The name of the weights comes first, because the converter computes a bias in the operator behind it, where it can.
    Equal weights of two layers are one constant without a name; then the name of the output decides, in which the
    layer's own part is behind that of the layer before it.

    Args:
        graph: The converter's result.
        operator: The operator.
        weights: Its constant tensor of weights, `ABSENT` if it has none.
        layers: Paths of the layers that it may stem from.

    Returns:
        A path, or None if it stems from none of the layers.
    """
    for tensor in (weights, *operator.outputs):
        if tensor == ABSENT:
            continue
        for name in reversed(graph.tensor(tensor).name.decode("utf-8", "replace").split(";")):
            scopes = [re.sub(r"_\d+$", "", scope) for scope in name.split("/")[1:-1]]
            found = [(length, path) for path in layers if (length := _match(scopes, path))]
            if found:
                return max(found, key=lambda pair: pair[0])[1]
    return None


def _match(scopes: Sequence[str], path: str) -> int:
    """How many scopes name a layer; 0 if they do not.

    A scope is the name of a layer and the number of its call. The first scope is the outermost layer, the last one the
    layer itself; between them, those of models inside `TimeDistributed` may be missing.
    """
    parts = [scope_name(part) for part in path.split("/")]
    for length in range(len(scopes), 0, -1):
        if scopes[0] == parts[0] and scopes[length - 1] == parts[-1]:
            rest = iter(parts)
            if all(scope in rest for scope in scopes[:length]):
                return length
    return 0
