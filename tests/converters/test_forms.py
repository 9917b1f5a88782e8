"""The catalogue itself: its models build, save, load, and would show a mistake."""

from __future__ import annotations

import functools
import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from tests.converters.forms import BY_NAME, FORMS, Form, call_model, inputs_for, lstm_cells
from tests.lstm_reference import GATES, LstmWeights, lstm_reference, swap_gates

GATE_PAIRS = list(itertools.combinations(GATES, 2))
# Between float64 sums row by row and Keras' float32 matrix products, values of about 1: a few float32 roundings.
REFERENCE_TOLERANCE = 1e-6

# Keras copies its variables in a way that numpy 2 complains about when it saves them.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")

every_form = pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)


@functools.cache
def built(name: str) -> keras.Model:
    return BY_NAME[name].build()


class Answers:
    """The answers of a model over all calls; compiled, because it is asked for every pair of gates."""

    def __init__(self, form: Form, model: keras.Model):
        self.form, self.model = form, model

        def run(data: object) -> list[tf.Tensor]:
            return tf.nest.flatten(model(data, training=False))

        self.run = tf.function(run, autograph=False) if form.traceable else run

    def __call__(self, inputs: list[np.ndarray]) -> list[np.ndarray]:
        """Returns every output, in one fixed order, each of shape (calls, batch, …)."""
        calls = [self._call([array[call] for array in inputs]) for call in range(len(inputs[0]))]
        return [np.stack(output) for output in zip(*calls, strict=True)]

    def _call(self, arrays: list[np.ndarray]) -> list[np.ndarray]:
        for layer in self.model._flatten_layers():
            if isinstance(layer, layers.RNN) and layer.stateful:
                layer.reset_state()
        tensors = [tf.constant(array) for array in arrays]
        if self.form.by_name:
            data = dict(zip((each.name for each in self.form.inputs), tensors, strict=True))
        else:
            data = tensors if len(tensors) > 1 else tensors[0]
        return [output.numpy() for output in self.run(data)]


@functools.cache
def answers(name: str) -> Answers:
    return Answers(BY_NAME[name], built(name))


def difference(one: list[np.ndarray], other: list[np.ndarray]) -> float:
    return max(float(np.abs(a - b).max()) for a, b in zip(one, other, strict=True))


def test_the_catalogue_is_large_and_its_names_are_unique():
    assert len(FORMS) == len(BY_NAME) >= 55


@every_form
def test_answers_are_finite_and_react_to_every_input(form):
    inputs = inputs_for(form, built(form.name))
    right = answers(form.name)(inputs)
    assert all(np.isfinite(output).all() for output in right)
    for position, array in enumerate(inputs):
        changed = [np.roll(array, 1, axis=0) if other == position else same for other, same in enumerate(inputs)]
        assert difference(right, answers(form.name)(changed)) > 100 * form.tolerance


@every_form
def test_swapped_gates_are_seen(form):
    inputs = inputs_for(form, built(form.name))
    right = answers(form.name)(inputs)
    for cell in lstm_cells(built(form.name)):
        for weight in cell.weights:
            if weight.name in form.blind:
                continue
            value = weight.numpy().copy()
            for a, b in GATE_PAIRS:
                weight.assign(swap_gates(value, a, b))
                wrong = answers(form.name)(inputs)
                weight.assign(value)
                assert difference(right, wrong) > 100 * form.tolerance, (weight.path, a, b)


@every_form
def test_swapped_inputs_and_outputs_are_seen(form):
    inputs = inputs_for(form, built(form.name))
    right = answers(form.name)(inputs)
    for a, b in itertools.combinations(range(len(inputs)), 2):
        if inputs[a].shape == inputs[b].shape and inputs[a].dtype == inputs[b].dtype:
            swapped = list(inputs)
            swapped[a], swapped[b] = inputs[b], inputs[a]
            assert difference(right, answers(form.name)(swapped)) > 100 * form.tolerance, (a, b)
    for one, other in itertools.combinations(right, 2):
        # The last output of an LSTM and its final hidden state are one and the same.
        assert (
            one.shape != other.shape or np.array_equal(one, other) or difference([one], [other]) > 100 * form.tolerance
        )


@pytest.mark.parametrize("form", FORMS[::10], ids=lambda form: form.name)
def test_a_second_build_has_the_same_answers(form):
    inputs = [array[0] for array in inputs_for(form, built(form.name))]
    one, two = call_model(form, built(form.name), inputs), call_model(form, form.build(), inputs)
    for a, b in zip(tf.nest.flatten(one), tf.nest.flatten(two), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    "form, suffix",
    [(form, suffix) for form in FORMS for suffix in form.formats],
    ids=lambda value: getattr(value, "name", value),
)
def test_saved_and_loaded_it_answers_the_same(form, suffix, tmp_path):
    path = tmp_path / f"model{suffix}"
    built(form.name).save(path)
    loaded = keras.saving.load_model(path, compile=False)
    inputs = [array[0] for array in inputs_for(form, built(form.name))]
    right, again = call_model(form, built(form.name), inputs), call_model(form, loaded, inputs)
    for a, b in zip(tf.nest.flatten(right), tf.nest.flatten(again), strict=True):
        # Not bit by bit: Keras does not save `implementation`, which decides the order of sums.
        np.testing.assert_allclose(a, b, rtol=REFERENCE_TOLERANCE, atol=REFERENCE_TOLERANCE, equal_nan=False)


@pytest.mark.parametrize("name", [form.name for form in FORMS if any("masked" in each.kind for each in form.inputs)])
def test_masked_inputs_have_every_pattern(name):
    form = BY_NAME[name]
    for each, array in zip(form.inputs, inputs_for(form, built(name)), strict=True):
        if not each.kind.startswith("masked"):
            continue
        valid = (
            array.astype(bool).reshape(*array.shape[:2], array.shape[2], -1).any(axis=-1).reshape(-1, array.shape[2])
        )
        first, last, gaps = valid[:, 0], valid[:, -1], (~valid).any(axis=1)
        seen = {
            "none": (~gaps).any(),
            "wholly": (~valid.any(axis=1)).any(),
            "leading": (~first & last & (np.diff(valid.astype(int)) >= 0).all(axis=1)).any(),
            "trailing": (first & ~last & (np.diff(valid.astype(int)) <= 0).all(axis=1)).any(),
            "interspersed": ((np.abs(np.diff(valid.astype(int))).sum(axis=1)) > 1).any(),
        }
        assert {pattern for pattern, here in seen.items() if here} == set(form.patterns)


def reference_weights(layer: keras.layers.LSTM) -> LstmWeights:
    return LstmWeights(*(np.asarray(weight, np.float64) for weight in layer.cell.weights))


def reference_layer(**arguments: object) -> keras.layers.LSTM:
    layer = layers.LSTM(6, return_sequences=True, return_state=True, **arguments)
    layer.build((None, 9, 4))
    rng = np.random.default_rng(3)
    for weight in layer.weights:
        weight.assign(rng.normal(0, 0.5, weight.shape))
    return layer


def reference_data() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Returns x, mask, h and c for five rows, one of each pattern of masks."""
    rng = np.random.default_rng(4)
    mask = np.array(
        [[int(step) for step in row] for row in ("001111111", "111100000", "011011010", "000000000", "111111111")]
    )
    x, h, c = (rng.normal(size=shape).astype(np.float32) for shape in ((5, 9, 4), (5, 6), (5, 6)))
    return x, mask.astype(bool), h, c


@pytest.mark.parametrize("go_backwards", [False, True])
@pytest.mark.parametrize("masking", ["none", "repeat", "zero"])
@pytest.mark.parametrize("with_states", [False, True])
def test_the_reference_agrees_with_keras(go_backwards, masking, with_states):
    layer = reference_layer(go_backwards=go_backwards, zero_output_for_mask=masking == "zero")
    x, mask, h, c = reference_data()
    masked = {} if masking == "none" else {"mask": mask}
    outputs, final_h, final_c = layer(x, initial_state=[h, c] if with_states else None, **masked)
    ours = lstm_reference(
        x,
        reference_weights(layer),
        **({"h": h, "c": c} if with_states else {}),
        **masked,
        go_backwards=go_backwards,
        zero_output_for_mask=masking == "zero",
    )
    for right, mine in ((outputs, ours.outputs), (final_h, ours.h), (final_c, ours.c)):
        np.testing.assert_allclose(mine, np.asarray(right), rtol=0, atol=REFERENCE_TOLERANCE, equal_nan=False)
    np.testing.assert_array_equal(ours.last_output, ours.outputs[:, -1])


def test_the_reference_agrees_with_keras_on_relu():
    layer = reference_layer(activation="relu")
    x = reference_data()[0]
    ours = lstm_reference(x, reference_weights(layer), activation=lambda value: np.maximum(value, 0.0))
    # Without tanh the values reach about 10, and so do their roundings.
    np.testing.assert_allclose(ours.outputs, np.asarray(layer(x)[0]), rtol=1e-5, atol=1e-5, equal_nan=False)


@pytest.mark.parametrize("a, b", GATE_PAIRS)
def test_the_reference_sees_swapped_gates(a, b):
    weights = reference_weights(reference_layer())
    x = reference_data()[0]
    right, wrong = lstm_reference(x, weights), lstm_reference(x, weights.swap(a, b))
    for one, other in zip(right, wrong, strict=True):
        assert np.abs(one - other).max() > 100 * REFERENCE_TOLERANCE
