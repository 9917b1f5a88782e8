"""Cutting given units: a model without units that answer zero answers as before."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers, ops

from edgelstm.converters.layers import layers_inside
from edgelstm.converters.stages.surgery import named_layers
from edgelstm.converters.stages.units.choice import groups, left_alone
from edgelstm.converters.stages.units.cut import cut
from edgelstm.converters.stages.units.trace import Trace
from tests.converters.forms import BY_NAME as FORMS
from tests.converters.forms import set_random_weights
from tests.converters.stages.unit_cases import BY_NAME, CASES, FEATURES, TIME, Case

# Float32 sums in another order: about 1e-7 of values around 1.
TOLERANCE = 1e-6

# For each kind of layer, in which of the blocks of its weights a unit must be zero so that it always answers zero: the
# candidate of an LSTM (gates i, f, c, o) and of a GRU (gates z, r, h).
CANDIDATES = {"LSTM": (4, 2), "LSTMCell": (4, 2), "GRU": (3, 2)}


def roots_of(trace: Trace, gone: Mapping[str, tuple[int, ...]]) -> np.ndarray:
    """The units by their numbers."""
    roots, sources = trace.ties.roots(), {source.name: source for source in trace.sources}
    return np.array([root for name, indices in gone.items() for root in roots[sources[name].ids[list(indices)]]])


def makers(model: Any, gone: Mapping[str, tuple[int, ...]]) -> list[tuple[Any, tuple[int, ...]]]:
    """The layers that make the units."""
    found = []
    for name, indices in gone.items():
        layer = named_layers(model).get(name)
        if layer is None:
            path, _, part = name.rpartition("/")
            layer = next(each for each in layers_inside(named_layers(model)[path]) if each.name == part)
        found.append((layer, indices))
    return found


def silence(model: Any, gone: Mapping[str, tuple[int, ...]]) -> None:
    """Makes units answer zero, whatever comes in."""
    for layer, indices in makers(model, gone):
        blocks, candidate = CANDIDATES.get(type(layer).__name__, (1, 0))
        holder = layer.output_dense if isinstance(layer, layers.MultiHeadAttention) else layer
        for variable in holder.trainable_variables:
            if variable.name in ("kernel", "recurrent_kernel", "bias", "embeddings"):
                value = variable.numpy().copy()
                value[..., np.array(indices) + candidate * (value.shape[-1] // blocks)] = 0
                variable.assign(value)
    for layer in layers_inside(model):
        if isinstance(layer, layers.BatchNormalization):
            for variable in (layer.beta, layer.moving_mean):
                value = variable.numpy().copy()
                value[
                    list(next(iter(gone.values())) if layer.name != "norm" or "conv" not in gone else gone["conv"])
                ] = 0
                variable.assign(value)


def answers(model: Any, case: Case, seed: int = 0) -> list[np.ndarray]:
    """All outputs of a call from rest."""
    for layer in layers_inside(model):
        if getattr(layer, "stateful", False) and hasattr(layer, "reset_state"):
            layer.reset_state()
    data = case.data(seed)
    made = model(data if len(data) > 1 else data[0], training=False)
    return [np.asarray(each) for each in (made if isinstance(made, list) else [made])]


def shapes(model: Any) -> list[tuple[int, ...]]:
    return sorted(tuple(variable.shape) for variable in model.weights)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_model_without_silent_units_answers_as_before(case: Case) -> None:
    model = case.build()
    silence(model, case.gone)
    before, weights = answers(model, case), [variable.numpy().copy() for variable in model.variables]
    trace = Trace(model)

    smaller = cut(trace, roots_of(trace, case.gone))

    for old, new in zip(before, answers(smaller, case), strict=True):
        np.testing.assert_allclose(new, old, rtol=0, atol=TOLERANCE * max(1, np.abs(old).max()), equal_nan=False)
    assert np.abs(before[0]).max() > 0.01
    assert shapes(smaller) == shapes(case.build(case.left))
    assert smaller.count_params() == case.build(case.left).count_params() < model.count_params()
    assert [layer.name for layer in smaller.layers] == [layer.name for layer in model.layers]
    model.reset_states() if hasattr(model, "reset_states") else None
    for variable, value in zip(model.variables, weights, strict=True):
        if "state" not in variable.path.split("/")[-1]:
            np.testing.assert_array_equal(variable.numpy(), value)
    assert not {id(each) for each in model.variables} & {id(each) for each in smaller.variables}


@pytest.mark.parametrize("case", [case for case in CASES if len(case.gone) > 1], ids=lambda case: case.name)
def test_units_that_meet_go_together(case: Case) -> None:
    """Asking for the units of one layer takes exactly those of the others with it that are the same in the table."""
    trace = Trace(case.build())
    roots, sources = trace.ties.roots(), {source.name: source for source in trace.sources}
    (first, asked), *others = case.gone.items()
    alone = {first: case.gone[first]}
    gone = set(roots_of(trace, alone).tolist())
    for name, indices in others:
        found = tuple(np.flatnonzero([root in gone for root in roots[sources[name].ids]]).tolist())
        shared = set(roots[sources[name].ids].tolist()) & set(roots[sources[first].ids].tolist())
        assert found == (
            tuple(index for index in indices if roots[sources[name].ids[index]] in shared) if shared else ()
        )
    assert len(gone) == len(asked)


@pytest.mark.parametrize("case", CASES[::4], ids=lambda case: case.name)
def test_the_data_see_every_exchanged_row(case: Case) -> None:
    """Turning any axis along which units lie, of any weight, by one changes the answer: so would any wrong cut."""
    model = case.build()
    before, trace = answers(model, case), Trace(model)
    for variable in model.weights:
        if id(variable) in trace.uncounted and "moving" not in variable.name:
            continue
        for axis, ids in trace.variables.get(id(variable), {}).items():
            value = variable.numpy().copy()
            if ids.any() and len(ids) > 1:
                variable.assign(np.roll(value, 1, axis))
                after = answers(model, case)
                variable.assign(value)
                far = max(np.abs(new - old).max() for new, old in zip(after, before, strict=True))
                assert far > 100 * TOLERANCE, (variable.path, axis)


@pytest.mark.parametrize(
    "name", ["stack", "bidirectional_concat", "flatten", "convolution", "several_readers", "cells"]
)
def test_a_model_without_units_that_nothing_reads_answers_as_before(name: str) -> None:
    case = BY_NAME[name]
    model = case.build()
    trace = Trace(model)
    gone = roots_of(trace, case.gone)
    for layer in layers_inside(model):
        for variable in layer.weights:
            reads = trace.variables.get(id(variable), {}).get(len(variable.shape) - 2)
            if variable.name in ("kernel", "recurrent_kernel") and reads is not None:
                value = variable.numpy().copy()
                value[..., np.isin(trace.ties.roots()[reads], gone), :] = 0
                variable.assign(value)
    for old, new in zip(answers(model, case), answers(cut(trace, gone), case), strict=True):
        np.testing.assert_allclose(new, old, rtol=0, atol=TOLERANCE, equal_nan=False)


def test_layer_normalization_is_over_the_units_that_are_left() -> None:
    x = keras.Input((TIME, FEATURES))
    sequence = layers.LSTM(6, return_sequences=True, name="a")(x)
    model = keras.Model(x, layers.Dense(3, name="answer")(layers.LayerNormalization(name="norm")(sequence)))
    set_random_weights(model, np.random.default_rng(0), 0.5)
    silence(model, {"a": (1, 4)})
    left = [0, 2, 3, 5]
    norm, answer = layers.LayerNormalization(), layers.Dense(3)
    reference = keras.Model(x, answer(norm(ops.take(sequence, left, axis=-1))))
    norm.set_weights([each[left] for each in model.get_layer("norm").get_weights()])
    kernel, bias = model.get_layer("answer").get_weights()
    answer.set_weights([kernel[left], bias])

    trace = Trace(model)
    smaller = cut(trace, roots_of(trace, {"a": (1, 4)}))

    data = np.random.default_rng(1).normal(size=(3, TIME, FEATURES)).astype("float32")
    np.testing.assert_allclose(smaller(data), reference(data), rtol=0, atol=TOLERANCE)
    assert np.abs(np.asarray(reference(data)) - np.asarray(model(data))).max() > 100 * TOLERANCE


def _custom(x: Any) -> Any:
    class Mystery(layers.Layer):
        def call(self, inputs: Any) -> Any:
            return inputs

    return layers.Dense(2)(Mystery(name="mystery")(x))


@pytest.mark.parametrize(
    "read, reason",
    [
        (lambda x: x, "is an output"),
        (lambda x: layers.Dense(2)(layers.Softmax()(x)), "mixes its channels"),
        (lambda x: layers.Dense(2)(layers.Activation("softmax")(x)), "cannot be cut"),
        (lambda x: layers.Dense(2)(layers.Lambda(lambda y: 2 * y)(x)), "Lambda"),
        (lambda x: layers.Dense(2)(x[:, :, :3]), "takes a part"),
        (lambda x: layers.Dense(2)(ops.max(x, axis=-1, keepdims=True)), "runs along it"),
        (lambda x: layers.Dense(2)(x + np.arange(6, dtype="float32")), "meets it with something"),
        (lambda x: layers.Dense(2)(layers.Reshape((TIME * 2, 3))(x)), "mixes it with another axis"),
        (lambda x: layers.Dense(2)(layers.Conv1D(4, 1, groups=2)(x)), "Conv1D"),
        (lambda x: layers.LSTM(3)(layers.Permute((2, 1))(x)), "runs along it"),
        (_custom, "Mystery 'mystery'"),
    ],
)
def test_what_cannot_be_cut_is_left_alone(read: Callable[[Any], Any], reason: str) -> None:
    x = keras.Input((TIME, FEATURES))
    trace = Trace(keras.Model(x, read(layers.LSTM(6, return_sequences=True, name="a")(x))))
    assert reason in left_alone(trace, ("lstm",))["a"]


def test_added_to_an_input_it_is_left_alone() -> None:
    x = keras.Input((TIME, 6))
    summed = layers.Add()([x, layers.LSTM(6, return_sequences=True, name="a")(x)])
    trace = Trace(keras.Model(x, layers.Dense(2)(summed)))
    assert "cannot be cut" in left_alone(trace, ("lstm",))["a"]


@pytest.mark.parametrize("activation", ["softmax", lambda x: x, keras.layers.Softmax()])
def test_units_that_an_activation_mixes_are_left_alone(activation: Any) -> None:
    x = keras.Input((TIME, FEATURES))
    trace = Trace(keras.Model(x, layers.Dense(2)(layers.LSTM(6, activation=activation, name="a")(x))))
    assert "mixes" in left_alone(trace, ("lstm",))["a"]


def test_groups_of_some_kinds() -> None:
    trace = Trace(BY_NAME["frames"].build())
    assert [group.names for group in groups(trace, ("lstm",))] == [("a",)]
    assert [group.names for group in groups(trace, ("lstm", "conv"))] == [("frames/conv",), ("a",)]
    assert [group.names for group in groups(trace, ("lstm", "conv"), {"frames"})] == [("frames/conv",)]


@pytest.mark.parametrize("name", ["bidirectional_two_kinds", "custom_cell", "conv_lstm", "states_in_and_out"])
def test_forms_of_which_nothing_can_be_cut(name: str) -> None:
    assert not groups(Trace(FORMS[name].build()), ("lstm", "rnn"))
