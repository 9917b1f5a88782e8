"""Recurrent layers in every setting: ONNX's operators answer as Keras' loops do, all steps and final states."""

from __future__ import annotations

import functools
import itertools
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

from tests.converters.exporters.onnx.flatbuffers import Array
from tests.converters.exporters.onnx.models import CONTROL_FLOW, answers, assert_close, attribute, export, nodes
from tests.converters.forms import LeakyCell
from tests.converters.tiny import functional

pytestmark = pytest.mark.usefixtures("conversion_in_this_process")

TIME, FEATURES, UNITS = 7, 5, 3
MASK = np.asarray(
    [[int(step) for step in row] for row in ("0011111", "1110000", "0110101", "0000000", "1111111")], bool
)
BATCH = len(MASK)
SETTINGS = [
    {"go_backwards": backwards, "unroll": unroll, "zero_output_for_mask": zero_output}
    for backwards, unroll, zero_output in itertools.product((False, True), repeat=3)
]
ACTIVATIONS = ("tanh", "relu", "linear", "elu", "softsign", "sigmoid", "hard_sigmoid")
# Of gates only those that are bounded: with others states grow without end, and their roundings with them.
GATES = ("hard_sigmoid", "sigmoid", "softsign", "tanh", "hard_sigmoid", "softsign", "sigmoid")


def data() -> list[Array]:
    rng = np.random.default_rng(0)
    x, h, c = (rng.normal(size=(BATCH, *shape)).astype(np.float32) for shape in ((TIME, FEATURES), (UNITS,), (UNITS,)))
    return [x, MASK, h, c]


def built(calls: list[Any]) -> keras.Model:
    """Returns a model of many layers side by side, each of them called by a function of (x, mask, h, c)."""
    inputs = [
        keras.Input((TIME, FEATURES), name="x"),
        keras.Input((TIME,), name="mask", dtype="bool"),
        keras.Input((UNITS,), name="h"),
        keras.Input((UNITS,), name="c"),
    ]
    outputs = [tensor for call in calls for tensor in keras.tree.flatten(call(*inputs))]
    return functional(inputs, outputs)


def calls_of(make: Any, num_states: int, settings: list[dict[str, Any]]) -> list[Any]:
    """Returns calls of layers with and without masks, with and without initial states."""

    def call(setting: dict[str, Any], masked: bool, given: bool) -> Any:
        def build(x: Any, mask: Any, *states: Any) -> Any:
            layer = make(return_sequences=True, return_state=True, **setting)
            return layer(x, mask=mask if masked else None, initial_state=list(states[:num_states]) if given else None)

        return build

    return [
        call(setting, masked, given)
        for setting, masked, given in itertools.product(settings, (False, True), (False, True))
        if masked or not setting.get("zero_output_for_mask")
    ]


def check(model: keras.Model, **options: Any) -> Any:
    """Compares a file with Keras, eagerly, and returns it."""
    exported = export(model, batch=BATCH, free_batch=False, **options)
    assert_close(answers(exported, *data()), keras.tree.flatten(model(data())))
    assert not {node.op_type for node in exported.model.graph.node} & CONTROL_FLOW
    return exported


KINDS = {
    "LSTM": (lambda **settings: layers.LSTM(UNITS, **settings), 2),
    "GRU": (lambda **settings: layers.GRU(UNITS, **settings), 1),
    "RNN": (lambda **settings: layers.SimpleRNN(UNITS, **settings), 1),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_setting_answers_as_keras(kind):
    make, num_states = KINDS[kind]
    # What is around the operators is the same for all kinds, and tried out with one of them.
    exported = check(built(calls_of(make, num_states, SETTINGS if kind == "LSTM" else SETTINGS[::3])))
    assert nodes(exported, kind)
    assert exported.trace.notes == []


def test_the_last_output_alone_answers_as_keras():
    settings = [{**setting, "units": UNITS} for setting in SETTINGS]
    calls = [
        lambda x, mask, h, c, setting=setting: layers.LSTM(**setting)(x, mask=mask, initial_state=[h, c])
        for setting in settings
    ]
    check(built(calls))


@pytest.mark.parametrize("kind", KINDS)
def test_every_activation_answers_as_keras(kind):
    make, num_states = KINDS[kind]
    gates = GATES if kind != "RNN" else [None] * len(ACTIVATIONS)
    settings = [
        {
            "activation": activation,
            **({"recurrent_activation": gate} if gate else {}),
            "go_backwards": position % 2 == 1,
        }
        for position, (activation, gate) in enumerate(zip(ACTIVATIONS, gates, strict=True))
    ]
    exported = check(built(calls_of(make, num_states, settings)[::3]))
    assert exported.trace.notes == []


def test_gates_of_keras_2_answer_as_keras():
    from edgelstm.converters.legacy_functions import hard_sigmoid_of_keras_2

    settings = [{"recurrent_activation": hard_sigmoid_of_keras_2}]
    exported = check(built([*calls_of(KINDS["LSTM"][0], 2, settings), *calls_of(KINDS["GRU"][0], 1, settings)]))
    assert len(nodes(exported, "LSTM")) == len(nodes(exported, "GRU")) == 4


def test_relu6_answers_as_keras():
    def call(x: Any, mask: Any, h: Any, c: Any) -> Any:
        layer = layers.LSTM(UNITS, activation="relu6", return_sequences=True, return_state=True)
        return layer(layers.Rescaling(9.0)(x), mask=mask, initial_state=[h, c])

    exported = check(built([call]))
    assert len(nodes(exported, "LSTM")) == 1
    assert np.concatenate([output.ravel() for output in answers(exported, *data())]).max() > 5


def test_a_gru_without_reset_after_answers_as_keras():
    exported = check(built(calls_of(KINDS["GRU"][0], 1, [{"reset_after": False}, {"use_bias": False}])))
    assert {attribute(node, "linear_before_reset") or 0 for node in nodes(exported, "GRU")} == {0, 1}


def test_what_onnx_does_not_have_is_written_out_step_by_step():
    def call(x: Any, mask: Any, h: Any, c: Any, **settings: Any) -> Any:
        layer = layers.LSTM(UNITS, activation="hard_tanh", return_sequences=True, return_state=True, **settings)
        return layer(x, mask=mask, initial_state=[h, c])

    calls = [
        *(functools.partial(call, **setting) for setting in SETTINGS),
        lambda x, mask, h, c: layers.RNN(LeakyCell(UNITS), return_sequences=True, return_state=True)(x),
        lambda x, mask, h, c: layers.RNN([LeakyCell(UNITS), layers.LSTMCell(2)], return_state=True)(x, mask=mask),
        lambda x, mask, h, c: layers.GRU(UNITS, activation="softplus", return_state=True)(x, initial_state=h),
    ]
    exported = check(built(calls))
    assert not nodes(exported, "LSTM", "GRU", "RNN")
    assert len(exported.trace.notes) == len(calls)
    assert all("is written out step by step" in note for note in exported.trace.notes)


@pytest.mark.parametrize("backwards", [False, True])
def test_stacked_cells_answer_as_keras(backwards):
    def cells() -> list[Any]:
        return [layers.LSTMCell(UNITS), layers.GRUCell(4), layers.SimpleRNNCell(2)]

    def call(x: Any, mask: Any, h: Any, c: Any, masked: bool = True) -> Any:
        layer = layers.RNN(cells(), return_sequences=True, return_state=True, go_backwards=backwards)
        return layer(x, mask=mask if masked else None)

    exported = check(built([call, lambda *inputs: call(*inputs, masked=False)]))
    assert len(nodes(exported, "LSTM", "GRU", "RNN")) == 6


@pytest.mark.parametrize("padding, mask", [("pre", MASK[[0, 3, 4, 0, 3]]), ("post", MASK[[1, 3, 4, 1, 3]])])
def test_a_promise_about_padding_answers_as_keras(padding, mask):
    calls = calls_of(KINDS["LSTM"][0], 2, SETTINGS[::3])
    model = built(calls)
    exported = export(model, batch=BATCH, free_batch=False, padding=padding)
    x, _, h, c = data()
    assert_close(answers(exported, x, mask, h, c), keras.tree.flatten(model([x, mask, h, c])))
    assert not nodes(exported, "TopK")


def test_right_padding_needs_no_gathering_in_front_of_the_layer():
    tokens = keras.Input((TIME,), name="tokens", dtype="int32")
    model = functional(tokens, layers.LSTM(UNITS)(layers.Embedding(9, FEATURES, mask_zero=True)(tokens)))
    exported = export(model, padding="post")
    assert not nodes(exported, "TopK", "GatherND")
    lengths = nodes(exported, "LSTM")[0].input[4]
    assert lengths in {value for node in exported.model.graph.node for value in node.output}


def test_masks_are_not_looked_at_without_padding():
    tokens = keras.Input((TIME,), name="tokens", dtype="int32")
    model = functional(tokens, layers.LSTM(UNITS)(layers.Embedding(9, FEATURES, mask_zero=True)(tokens)))
    exported = export(model, padding="none")
    assert not nodes(exported, "TopK", "GatherND", "ReduceSum")
    assert list(nodes(exported, "LSTM")[0].input)[4:] == []


def test_what_a_masked_step_holds_does_not_matter():
    model = built([lambda x, mask, h, c: layers.Bidirectional(layers.LSTM(UNITS, return_state=True))(x, mask=mask)])
    exported = export(model, batch=BATCH, free_batch=False)
    x, mask, h, c = data()
    rubbish = np.where(mask[:, :, np.newaxis], x, np.float32(1e30))
    for clean, other in zip(answers(exported, x, mask, h, c), answers(exported, rubbish, mask, h, c), strict=True):
        np.testing.assert_array_equal(clean, other)
