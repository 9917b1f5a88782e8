"""Carriers -> ONNX's LSTM, GRU and RNN: weights laid out anew, states, lengths, directions."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgelstm.converters.exporters.onnx.program import ABSENT
from edgelstm.converters.exporters.onnx.step import Step
from edgelstm.converters.graph import Array
from edgelstm.converters.lowering.onnx_lstm import OnnxActivation, OnnxCall
from edgelstm.errors import LoweringError

# Where each of ONNX's gates stands in Keras: i, o, f, c out of i, f, c, o; update, reset, candidate in both.
GATES = {"LSTM": (0, 3, 1, 2), "GRU": (0, 1, 2), "RNN": (0,)}
DEFAULT_ACTIVATIONS = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"], "RNN": ["Tanh"]}


def recurrent(step: Step, call: OnnxCall) -> list[str]:
    """Adds the operator for a call; values in and out keep the batch in front, as the carrier has them.

    Raises:
        LoweringError: If a weight is not a constant of the model.
    """
    first_state = 2 if call.masked else 1
    states = [_initial_state(step, first_state + position) for position in range(call.num_states)]
    weights = _weights(step, call, first_state + call.num_states)
    names = [
        step.program.add_constant(array[np.newaxis], f"{call.layer}/{kind}") if array is not None else ABSENT
        for kind, array in weights.items()
    ]
    inputs = [step.transpose(step.input(0), [1, 0, 2]), *names, step.input(1) if call.masked else ABSENT, *states]
    while inputs[-1] == ABSENT:
        inputs.pop()
    sequence, *final = step.program.add_node(
        call.operator, inputs, outputs=1 + call.num_states, layer=call.layer, **_attributes(call)
    )
    sequence = step.add("Squeeze", sequence, step.vector([1]))
    return [step.transpose(sequence, [1, 0, 2]), *(step.add("Squeeze", state, step.vector([0])) for state in final)]


def _attributes(call: OnnxCall) -> dict[str, Any]:
    attributes: dict[str, Any] = {"hidden_size": call.units, "direction": "reverse" if call.backwards else "forward"}
    attributes |= _activation_attributes(call.functions, call.operator)
    if call.operator == "GRU":
        attributes["linear_before_reset"] = int(call.reset_after)
    return attributes


def _activation_attributes(functions: tuple[OnnxActivation, ...], operator: str) -> dict[str, Any]:
    """Names and parameters of activations; nothing where they are the operator's own."""
    names = [function.name for function in functions]
    if names == DEFAULT_ACTIVATIONS[operator]:
        return {}
    alphas = [function.alpha for function in functions if function.alpha is not None]
    betas = [function.beta for function in functions if function.beta is not None]
    parameters = {"activation_alpha": alphas, "activation_beta": betas}
    return {"activations": names, **{name: values for name, values in parameters.items() if values}}


def _initial_state(step: Step, position: int) -> str:
    """(1, batch, units), or nothing for zeros."""
    value = step.constant(position)
    if value is not None and not value.any():
        return ABSENT
    return step.add("Unsqueeze", step.input(position), step.vector([0]))


def _weights(step: Step, call: OnnxCall, position: int) -> dict[str, Array | None]:
    """W (gates * units, features), R (gates * units, units) and B (2 * gates * units,), None for a bias of zeros."""
    kernel, recurrent_kernel, bias = (_constant(step, call, position + offset) for offset in range(3))
    rows = bias if bias.ndim == 2 else np.stack([bias, np.zeros_like(bias)])  # a GRU of Keras may have both
    by_gate = [_gates(row[np.newaxis], call.operator)[:, 0] for row in rows]
    return {
        "W": _gates(kernel, call.operator),
        "R": _gates(recurrent_kernel, call.operator),
        "B": np.concatenate(by_gate) if bias.any() else None,
    }


def _constant(step: Step, call: OnnxCall, position: int) -> Array:
    value = step.constant(position)
    if value is None:
        raise LoweringError(
            f"Layer {call.layer!r}: its weights are computed while the model runs, and ONNX's {call.operator} is "
            "exported with constants. Fold the computation into the weights before converting."
        )
    return value


def _gates(matrix: Array, operator: str) -> Array:
    """(inputs, gates * units) with Keras' gates -> (gates * units, inputs) with ONNX's."""
    blocks = np.split(matrix, len(GATES[operator]), axis=1)
    return np.concatenate([blocks[gate] for gate in GATES[operator]], axis=1).T
