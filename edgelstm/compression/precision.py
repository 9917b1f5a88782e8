"""Precisions of a file: which to try where one loses too much, and which layers to spare by measured sensitivity."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np

from edgelstm.compression.recipe import Export
from edgelstm.compression.session import Session
from edgelstm.converters.lowering.mixed import COARSE_TO_FINE, precision_layers
from edgelstm.errors import EdgeLSTMError
from edgelstm.training.feeding import keras_predict

MAX_LAYERS = 12
"""So many layers are measured, the first of the model."""

ENOUGH = 0.9
"""A precision does for a layer if it takes away this share of the error that float32 takes away."""


def finer(precision: str) -> tuple[str, ...]:
    """Returns the precisions that are finer than one, the coarsest first."""
    return COARSE_TO_FINE[COARSE_TO_FINE.index(precision) + 1 :]


def ladder(session: Session, export: Export) -> Iterator[Export]:
    """Returns ways to export the model of a session, from what was asked for to float32.

    After a precision that loses too much come files in which the most sensitive layers have a finer one, one layer
    after the other; then the next precision.
    """
    yield export
    if not export.layers:
        yield from mixed(session, export)
    for precision in finer(export.quantize):
        yield dataclasses.replace(export, quantize=precision, layers={})


def mixed(session: Session, export: Export) -> Iterator[Export]:
    """Returns exports in which ever more layers have a finer precision than the file, the most sensitive first.

    How sensitive a layer is, the mean difference between the answers of file and Keras model on validation examples
    says: how much smaller it is with this layer in float32. At most half of the layers are spared; beyond that the
    next precision is as small.
    """
    session.report(f"{export}: looking for sensitive layers")
    layers = precision_layers(session.model)[:MAX_LAYERS]
    spared: dict[str, str] = {}
    if len(layers) < 2 or export.quantize == "float32":
        return
    chosen = _sensitive(session, export, layers)
    for layer, precision in chosen[: max(1, len(layers) // 2)]:
        spared[layer] = precision
        yield dataclasses.replace(export, layers=dict(spared))


def _sensitive(session: Session, export: Export, layers: list[str]) -> list[tuple[str, str]]:
    """The layers that gain anything by a finer precision, with the coarsest that does, the greatest gain first."""
    x = session.learning.data.validation.x
    right = np.asarray(keras_predict(session.model)(x))

    def error(spared: dict[str, str]) -> float:
        try:
            answers = session.answers(dataclasses.replace(export, layers=spared), x)
        except EdgeLSTMError:
            return float("inf")
        return float(np.abs(answers - right).mean())

    whole = error({})
    found: list[tuple[float, str, str]] = []
    for layer in layers:
        gain = whole - error({layer: "float32"})
        if not gain > 0:
            continue
        between = finer(export.quantize)[:-1]
        enough = [precision for precision in between if whole - error({layer: precision}) >= ENOUGH * gain]
        found.append((gain, layer, enough[0] if enough else "float32"))
    return [(layer, precision) for _, layer, precision in sorted(found, key=lambda each: -each[0])]
