"""Whether a rebuilt Keras model answers as the SavedModel's own graph does: two ways to read one folder.

The configuration says what the layers are called, the graph what they computed. Where a newer Keras gives the same
words another meaning, only the graph tells.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edgelstm.converters.calibration import generate_data
from edgelstm.converters.loading.hdf5 import Array
from edgelstm.converters.loading.saved_model.signature import Input, ServingSignature
from edgelstm.converters.lowering.signature import TensorSpec, model_signature
from edgelstm.errors import EdgeLSTMError

TOLERANCE = 1e-4
"""Of the largest output: float32 sums in another order, carried on by the recurrence, are below 1e-5."""
LOW_PRECISION_TOLERANCE = 2e-2
"""The same for graphs that compute in half precision."""
_ROWS, _STEPS = 3, 9


def largest_disagreement(model: Any, served: Any, signature: ServingSignature) -> float | None:
    """Runs both on the same random inputs.

    Args:
        model: The rebuilt model.
        served: The signature as a model.
        signature: The signature.

    Returns:
        The largest difference as a part of what is allowed, so that more than 1 is too much; None if inputs and
        outputs of the two cannot be matched, or one of them does not run on such inputs.
    """
    import tensorflow as tf

    outputs = _matched(_output_names(model), signature.outputs)
    inputs = _matched(_input_names(model), [entry.name for entry in signature.inputs])
    if inputs is None or outputs is None:
        return None
    try:
        data = _data(model, signature.inputs)
        expected = served(data, training=False)
        actual = _answers(model, [data[name] for name in inputs])
    except (ValueError, TypeError, tf.errors.OpError, EdgeLSTMError):  # random inputs need not suit a model
        return None
    allowed = TOLERANCE if _single_precision(model) else LOW_PRECISION_TOLERANCE
    differences = [
        _difference(got, np.asarray(expected[name], np.float64)) for got, name in zip(actual, outputs, strict=True)
    ]
    return max(differences) / allowed


def _input_names(model: Any) -> list[str]:
    """Names of the input layers, in the order in which the model takes their values."""
    import keras

    structure = getattr(model, "_inputs_struct", None)
    return [str(tensor.name) for tensor in keras.tree.flatten(model.inputs if structure is None else structure)]


def _output_names(model: Any) -> list[str]:
    """Names of the layers that give the outputs; a Sequential keeps them inside."""
    return list((getattr(model, "_functional", None) or model).output_names)


def _matched(in_model: Sequence[str], in_signature: Sequence[str]) -> list[str] | None:
    """The signature's names in the model's order; None if they are others."""
    if len(in_model) == len(in_signature) == 1:
        return list(in_signature)
    return list(in_model) if sorted(in_model) == sorted(in_signature) else None


def _data(model: Any, inputs: Sequence[Input]) -> dict[str, Array]:
    """Random inputs by name; token numbers within the vocabulary, masked steps where the model masks."""
    specs = []
    for entry in inputs:
        batch, *sizes = entry.shape or (1,)
        specs.append(TensorSpec(entry.name, (batch or _ROWS, *(size or _STEPS for size in sizes)), entry.dtype))
    return generate_data(model, specs, padding="auto", samples=max(spec.shape[0] for spec in specs))


def _answers(model: Any, values: list[Array]) -> list[Array]:
    import keras

    packed = model_signature(model, batch=len(values[0]), length=_STEPS).pack(values)
    return [np.asarray(tensor, np.float64) for tensor in keras.tree.flatten(model(packed, training=False))]


def _single_precision(model: Any) -> bool:
    layers = getattr(model, "layers", [])
    return all(str(layer.compute_dtype) in ("float32", "float64", "None") for layer in layers)


def _difference(got: Array, wanted: Array) -> float:
    """Largest difference as a part of the largest output, infinite where the two are not alike at all."""
    if got.shape != wanted.shape or not np.array_equal(np.isfinite(got), np.isfinite(wanted)):
        return np.inf
    finite = np.isfinite(wanted)
    scale = max(1.0, float(np.abs(wanted[finite]).max(initial=0.0)))
    return float(np.abs(got[finite] - wanted[finite]).max(initial=0.0)) / scale
