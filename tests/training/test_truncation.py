"""Steps of truncated back-propagation against a reference that is written out, one time step after the other."""

from __future__ import annotations

import dataclasses
import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from edgelstm.tasks import load_task
from edgelstm.tasks.base import Split
from edgelstm.training.runs import build_model
from edgelstm.training.truncation import truncated

BATCH, TIME, FEATURES, RATE = 4, 6, 3, 0.5
TOLERANCE = 2e-6  # float32; two orders of adding up gradients of weights near 1

per_step = pytest.mark.parametrize("per_step", [True, False], ids=["each step", "last step"])


def small_model(per_step):
    keras.utils.set_random_seed(1)
    x = keras.Input((TIME, FEATURES), name="x")
    hidden = keras.layers.LSTM(5, return_sequences=True, name="first")(x)
    hidden = keras.layers.LSTM(4, return_sequences=per_step, name="second")(hidden)
    return keras.Model(x, keras.layers.Dense(3, activation="softmax", name="answer")(hidden))


def examples(per_step):
    generator = np.random.default_rng(2)
    x = generator.normal(size=(BATCH, TIME, FEATURES)).astype(np.float32) * 2
    shape = (BATCH, TIME) if per_step else (BATCH,)
    return Split({"x": x}, generator.integers(0, 3, shape).astype(np.int32))


def one_step(model, split, weights, chunk):
    """One step of the wrapper: logged loss; weights are in the model."""
    setup = load_task("rows").setup(settings={"truncate": chunk, "batch_size": BATCH})
    trained = truncated(model, setup, split)
    trained.compile(keras.optimizers.SGD(RATE), loss="sparse_categorical_crossentropy", weighted_metrics=["accuracy"])
    return trained.train_on_batch(split.x["x"], split.y, sample_weight=weights, return_dict=True)


def lstm_step(x, state, kernel, recurrent, bias):
    """Keras' equations, gates in the order i, f, c, o."""
    hidden, cell = state
    i, f, c, o = tf.split(x @ kernel + hidden @ recurrent + bias, 4, axis=1)
    cell = tf.sigmoid(f) * cell + tf.sigmoid(i) * tf.tanh(c)
    return tf.sigmoid(o) * tf.tanh(cell), cell


def run_chunk(x, states, variables):
    """Answers of each step, logits, and the states after the last one."""
    answers = []
    for step in range(x.shape[1]):
        value = x[:, step]
        for layer in range(2):
            states[layer] = lstm_step(value, states[layer], *variables[3 * layer : 3 * layer + 3])
            value = states[layer][0]
        answers.append(value @ variables[6] + variables[7])
    return answers, states


def reference_step(weights, split, chunk):
    """Weights after a step of truncated back-propagation with gradient descent, and the losses of its updates."""
    variables, losses = [tf.Variable(weight) for weight in weights], []
    x, y = tf.constant(split.x["x"]), split.y
    states = [(tf.zeros((len(split), units)), tf.zeros((len(split), units))) for units in (5, 4)]
    for start in range(0, TIME, chunk):
        states = [tuple(tf.stop_gradient(state) for state in pair) for pair in states]
        with tf.GradientTape() as tape:
            logits, states = run_chunk(x[:, start : start + chunk], states, variables)
            wanted = y[:, start : start + chunk].T if y.ndim == 2 else [y]
            given = logits if y.ndim == 2 else logits[-1:]
            pairs = zip(wanted, given, strict=True)
            loss = tf.reduce_mean([tf.nn.sparse_softmax_cross_entropy_with_logits(*pair) for pair in pairs])
        if y.ndim == 2 or start + chunk == TIME:
            losses.append(float(loss))
            for variable, gradient in zip(variables, tape.gradient(loss, variables), strict=True):
                variable.assign_sub(RATE * gradient)
    return [variable.numpy() for variable in variables], losses


def assert_equal(model, expected):
    for variable, value in zip(model.trainable_variables, expected, strict=True):
        np.testing.assert_allclose(variable.numpy(), value, rtol=0, atol=TOLERANCE, err_msg=variable.path)


def difference(one, other):
    return max(np.abs(a - b).max() for a, b in zip(one, other, strict=True))


@per_step
@pytest.mark.parametrize("chunk", [1, 2, 3, 6])
def test_a_step_is_the_reference_chunk_by_chunk(per_step, chunk):
    model, split = small_model(per_step), examples(per_step)
    expected, losses = reference_step(model.get_weights(), split, chunk)
    figures = one_step(model, split, None, chunk)
    assert_equal(model, expected)
    assert figures["loss"] == pytest.approx(np.mean(losses), abs=1e-6)


@per_step
def test_the_data_see_where_gradients_are_cut(per_step):
    weights, split = small_model(per_step).get_weights(), examples(per_step)
    steps = [reference_step(weights, split, chunk)[0] for chunk in (1, 2, 3, 6)]
    for one, other in itertools.combinations(steps, 2):
        assert difference(one, other) > 100 * TOLERANCE


@per_step
def test_examples_that_fill_up_a_batch_count_for_nothing(per_step):
    # The ordinary step would see a last batch of three; the fourth example is here twice, the second time for nothing.
    model, split = small_model(per_step), examples(per_step)
    expected, losses = reference_step(model.get_weights(), split.take(slice(3)), 2)
    figures = one_step(model, split, np.array([1, 1, 1, 0], np.float32), 2)
    assert_equal(model, expected)
    assert figures["loss"] == pytest.approx(np.mean(losses), abs=1e-6)


def test_weights_of_examples_act_as_in_the_ordinary_step():
    weights = np.array([0.5, 2.0, 1.25, 0.25], np.float32)
    split, ordinary, cut = examples(per_step=False), small_model(per_step=False), small_model(per_step=False)
    for model, chunk in ((ordinary, 0), (cut, 3)):
        one_step(model, split, weights, chunk)
    # Gradients of the last layer do not depend on where they are cut before it.
    for name in ("kernel", "bias"):
        one, other = (getattr(model.get_layer("answer"), name).numpy() for model in (ordinary, cut))
        np.testing.assert_allclose(other, one, rtol=0, atol=TOLERANCE)


@per_step
def test_a_chunk_as_long_as_the_sequence_is_the_ordinary_step(per_step):
    models, split = [small_model(per_step) for _ in range(2)], examples(per_step)
    for model, chunk in zip(models, (0, TIME), strict=True):
        one_step(model, split, None, chunk)
    assert_equal(models[1], models[0].get_weights())


@per_step
def test_states_do_not_go_from_batch_to_batch(per_step):
    split, model = examples(per_step), small_model(per_step)
    before = model.get_weights()
    expected, _ = reference_step(before, split, 2)
    expected, _ = reference_step(expected, split, 2)
    setup = load_task("rows").setup(settings={"truncate": 2, "batch_size": BATCH})
    trained = truncated(model, setup, split)
    trained.compile(keras.optimizers.SGD(RATE), loss="sparse_categorical_crossentropy")
    for _ in range(2):
        trained.train_on_batch(split.x["x"], split.y)
    assert_equal(model, expected)


@pytest.mark.parametrize("chunk, num_filled", [(0, 0), (4, 149)])
def test_logged_figures_are_means_over_all_examples(chunk, num_filled):
    from edgelstm.training.fitting import fit

    task = load_task("rows")
    settings = {"units": 4, "epochs": 1, "batch_size": 256, "learning_rate": 1e-12, "truncate": chunk}
    setup = task.setup(settings={**settings, "dropout": 0, "recurrent_dropout": 0})
    data = task.data(setup)
    assert not num_filled or 5 * 256 - len(data.train) == num_filled
    data = dataclasses.replace(data, validation=data.test)  # 540 examples: more than one batch
    model = build_model(task, setup, data)
    (figures,) = fit(model, task, data, setup).history
    for prefix, split in (("", data.train), ("val_", data.validation)):
        answers = model.predict(split.x["rows"], verbose=0)
        losses = -np.log(answers[np.arange(len(split)), split.y])
        assert figures[f"{prefix}loss"] == pytest.approx(losses.mean(), abs=1e-5)
        assert figures[f"{prefix}accuracy"] == pytest.approx((answers.argmax(axis=1) == split.y).mean(), abs=1e-6)


def test_layers_that_see_all_steps_are_refused():
    x = keras.Input((TIME, FEATURES), name="x")
    hidden = keras.layers.Bidirectional(keras.layers.LSTM(4, return_sequences=True), name="both")(x)
    model = keras.Model(x, keras.layers.Dense(3)(hidden))
    setup = load_task("rows").setup(settings={"truncate": 2})
    with pytest.raises(ValueError, match=r"its layer 'both' \(Bidirectional\) sees all of them"):
        truncated(model, setup, examples(per_step=True))


def test_a_length_that_is_no_multiple_is_refused():
    setup = load_task("rows").setup(settings={"truncate": 4})
    with pytest.raises(ValueError, match="'truncate' is 4, and sequences have 6 steps: it must divide that number"):
        truncated(small_model(per_step=True), setup, examples(per_step=True))


def test_values_of_y_for_the_last_step_do_not_teach_a_model_that_answers_at_each():
    setup = load_task("rows").setup(settings={"truncate": 2})
    with pytest.raises(ValueError, match="'truncate' needs y to have a value for each step"):
        truncated(small_model(per_step=True), setup, examples(per_step=False))
