"""Approximate gates: hard sigmoids computed as sigmoids, with the difference measured and said."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from edgelstm.converters.calibration import MAX_SAMPLES, calls_of, generate_data
from edgelstm.converters.graph import Array
from edgelstm.converters.lowering.signature import Signature
from edgelstm.converters.parity import decision_agreement
from edgelstm.converters.policies import sigmoid_gates
from edgelstm.converters.reference import expected_outputs
from edgelstm.errors import LoweringError


@contextlib.contextmanager
def approximated_gates(
    model: Any, signature: Signature, data: Mapping[str, Array] | None, *, padding: str
) -> Iterator[list[str]]:
    """Lets the hard sigmoid gates of a model be sigmoids for a while.

    Args:
        model: The Keras model.
        signature: Inputs of the file.
        data: The user's data by input name, samples first; without it the difference is measured on generated
            inputs.
        padding: What was promised about masked steps.

    Yields:
        A sentence with the measured difference.

    Raises:
        LoweringError: If no LSTM of the model has such gates.
    """
    samples = data or generate_data(model, signature.inputs, padding=padding)
    calls = calls_of(samples, signature.inputs, limit=MAX_SAMPLES)
    exact = expected_outputs(model, signature, calls)
    with sigmoid_gates(model) as layers:
        if not layers:
            raise LoweringError(
                "No LSTM of this model has gates with a hard sigmoid, so there is nothing to approximate: leave "
                "--approximate-gates out."
            )
        approximate = expected_outputs(model, signature, calls)
        origin = "your data" if data else "generated inputs, which say little: give --calibration F.npz"
        yield [_sentence(layers, exact, approximate, origin)]


def _sentence(layers: list[str], exact: list[Array], approximate: list[Array], origin: str) -> str:
    differences = [np.abs(one - other) for one, other in zip(exact, approximate, strict=True)]
    largest = max(float(difference.max(initial=0.0)) for difference in differences)
    mean = float(np.mean([difference.mean() for difference in differences]))
    agreements = [decision_agreement(one, other) for one, other in zip(approximate, exact, strict=True)]
    known = [agreement for agreement in agreements if agreement is not None]
    decisions = f", with the same decision in {min(known):.1%} of the calls" if known else ""
    return (
        f"APPROXIMATE: the gates of {', '.join(layers)} are sigmoids in this file and hard sigmoids in the model. "
        f"Answers differ from the model's by up to {largest:.3g} (mean {mean:.3g}){decisions}, on {origin}."
    )
