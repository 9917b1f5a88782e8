"""Two directions in one node: when they are merged, when not, and that the answers are the same."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

from edgelstm.converters.exporters.onnx.directions import merge_directions
from edgelstm.converters.exporters.onnx.program import Program
from tests.converters.exporters.onnx.models import answers, assert_close, attribute, export, nodes
from tests.converters.exporters.onnx.programs import copied, node, operators, outputs, program, run
from tests.converters.tiny import floats, functional

TIME, BATCH, FEATURES, UNITS = 5, 2, 3, 4


def recurrent(result: Program, value: str, direction: str, layer: str = "both/one", **attributes: Any) -> str:
    """Adds an LSTM with random weights and returns its last hidden state."""
    seed = len(result.nodes)
    weights = [
        result.add_constant(floats(1, *shape, seed=seed + k))
        for k, shape in enumerate(((4 * UNITS, FEATURES), (4 * UNITS, UNITS), (8 * UNITS,)))
    ]
    states = attributes.pop("states", [])
    outputs_ = result.add_node(
        "LSTM", [value, *weights, *(["", *states] if states else [])], outputs=3, layer=layer,
        hidden_size=UNITS, direction=direction, **attributes,
    )  # fmt: skip
    return outputs_[1]


def directions(result: Program) -> list[str]:
    return [each.attributes["direction"] for each in result.nodes if each.op == "LSTM"]


def check(result: Program, *arrays: Any) -> None:
    """Merges, and expects the same answers."""
    result.drop_unread()
    right = run(copied(result), *arrays)
    merge_directions(result)
    for one, other in zip(run(result, *arrays), right, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-6)


def test_a_pair_becomes_one_node():
    result = program((TIME, BATCH, FEATURES))
    found = [recurrent(result, "x:0", direction, f"both/{direction}") for direction in ("reverse", "forward")]
    check(outputs(result, *found), floats(TIME, BATCH, FEATURES))
    assert directions(result) == ["bidirectional"]
    assert [each.layer for each in result.nodes if each.op == "LSTM"] == ["both"]


def test_layers_that_belong_together_are_merged_first():
    result = program((TIME, BATCH, FEATURES))
    kinds = [("forward", "a/f"), ("reverse", "b/r"), ("reverse", "a/r"), ("forward", "b/f")]
    found = [recurrent(result, "x:0", direction, layer) for direction, layer in kinds]
    check(outputs(result, *found), floats(TIME, BATCH, FEATURES))
    assert sorted(each.layer for each in result.nodes if each.op == "LSTM") == ["a", "b"]


def test_strangers_are_merged_under_both_names():
    result = program((TIME, BATCH, FEATURES))
    found = [recurrent(result, "x:0", direction, direction) for direction in ("forward", "reverse")]
    check(outputs(result, *found), floats(TIME, BATCH, FEATURES))
    assert next(each.layer for each in result.nodes if each.op == "LSTM") == "forward + reverse"


@pytest.mark.parametrize("first, second", [("forward", "reverse"), ("reverse", "forward")])
def test_directions_that_depend_on_each_other_stay_apart(first, second):
    result = program((TIME, BATCH, FEATURES))
    h = recurrent(result, "x:0", first)
    found = recurrent(result, "x:0", second, states=[node(result, "Tanh", h)])
    check(outputs(result, found), floats(TIME, BATCH, FEATURES))
    assert directions(result) == [first, second]


def test_other_inputs_stay_apart():
    result = program((TIME, BATCH, FEATURES), (TIME, BATCH, FEATURES))
    found = [recurrent(result, "x:0", "forward"), recurrent(result, "x:1", "reverse")]
    check(outputs(result, *found), floats(TIME, BATCH, FEATURES), floats(TIME, BATCH, FEATURES, seed=1))
    assert directions(result) == ["forward", "reverse"]


def test_a_state_of_one_direction_leaves_the_other_at_zero():
    result = program((TIME, BATCH, FEATURES), (1, BATCH, UNITS))
    found = [recurrent(result, "x:0", "forward"), recurrent(result, "x:0", "reverse", states=["x:1", "x:1"])]
    check(outputs(result, *found), floats(TIME, BATCH, FEATURES), floats(1, BATCH, UNITS))
    assert directions(result) == ["bidirectional"]


def test_activations_of_both_are_kept():
    result = program((TIME, BATCH, FEATURES))
    settings = {
        "activations": ["HardSigmoid", "Elu", "Elu"],
        "activation_alpha": [0.2, 1.0, 1.0],
        "activation_beta": [0.5],
    }
    found = [recurrent(result, "x:0", "forward"), recurrent(result, "x:0", "reverse", **settings)]
    check(outputs(result, *found), floats(TIME, BATCH, FEATURES))
    merged = next(each for each in result.nodes if each.op == "LSTM")
    assert merged.attributes["activations"] == ["Sigmoid", "Tanh", "Tanh", "HardSigmoid", "Elu", "Elu"]


def test_the_program_is_in_an_order_that_runs():
    result = program((TIME, BATCH, FEATURES), (1, BATCH, UNITS))
    first = recurrent(result, "x:0", "forward")
    state = node(result, "Tanh", "x:1")
    second = recurrent(result, "x:0", "reverse", states=[state, state])
    check(outputs(result, first, second), floats(TIME, BATCH, FEATURES), floats(1, BATCH, UNITS))
    assert operators(result).index("Tanh") < operators(result).index("LSTM")


def bidirectional(**settings: Any) -> keras.Model:
    x, h = keras.Input((TIME, FEATURES), name="x"), keras.Input((UNITS,), name="h")
    layer = layers.Bidirectional(layers.LSTM(UNITS, **settings.pop("forward", {})), **settings)
    return functional([x, h], [layer(x), layer(x, initial_state=[h, 2 * h, 3 * h, 4 * h])])


@pytest.mark.usefixtures("conversion_in_this_process")
@pytest.mark.parametrize(
    "settings, expected",
    [
        ({}, [b"bidirectional"] * 2),
        ({"forward": {"use_bias": False}}, [b"bidirectional"] * 2),
        (
            {
                "forward": {"activation": "elu", "recurrent_activation": "hard_sigmoid"},
                "backward_layer": layers.LSTM(UNITS, go_backwards=True, activation="softsign", use_bias=False),
            },
            [b"bidirectional"] * 2,
        ),
        ({"backward_layer": layers.LSTM(2, go_backwards=True)}, None),
    ],
    ids=["plain", "no_bias", "two_kinds", "two_sizes"],
)
def test_bidirectional_layers_answer_as_keras(settings, expected):
    if expected is None:
        x = keras.Input((TIME, FEATURES), name="x")
        model = functional(x, layers.Bidirectional(layers.LSTM(UNITS), **settings)(x))
        arrays = [floats(1, TIME, FEATURES)]
    else:
        model, arrays = bidirectional(**settings), [floats(1, TIME, FEATURES), floats(1, UNITS)]
    exported = export(model)
    assert_close(answers(exported, *arrays), keras.tree.flatten(model(arrays if len(arrays) > 1 else arrays[0])))
    found = sorted(attribute(each, "direction") for each in nodes(exported, "LSTM"))
    assert found == (expected or [b"forward", b"reverse"])
