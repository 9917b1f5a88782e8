"""Students of distillation: losses against numpy, tables, noise, and models that read forward only."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from keras import layers, ops
from numpy.typing import NDArray

from edgelstm.converters.stages.distill import Distill
from edgelstm.converters.stages.students.examples import noisy_copies
from edgelstm.converters.stages.students.forward import forward_only
from edgelstm.converters.stages.students.losses import Targets, divergence, kind_of
from edgelstm.converters.stages.students.made import low_rank_rows
from edgelstm.converters.stages.students.reading import readings
from edgelstm.errors import StageError
from tests.converters.stages.teachers import (
    CLASSES,
    FEATURES,
    TIME,
    WORDS,
    examples,
    forecaster,
    mixed,
    tagger,
)
from tests.converters.tiny import floats, functional

Array = NDArray[Any]


def softmax(logits: Array) -> Array:
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def sigmoid(logits: Array) -> Array:
    return 1 / (1 + np.exp(-logits))


def divergence_of_logits(kind: str, teacher: Array, student: Array, temperature: float) -> Array:
    """Hinton, Vinyals and Dean 2015: logits are divided by T, and the divergence multiplied by its square."""
    if kind == "classes":
        p, q = softmax(teacher / temperature), softmax(student / temperature)
        return temperature**2 * (p * np.log(p / q)).sum(axis=-1)
    p, q = sigmoid(teacher / temperature), sigmoid(student / temperature)
    return temperature**2 * (p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))).mean(axis=-1)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
@pytest.mark.parametrize("kind, chances", [("classes", softmax), ("tags", sigmoid)])
def test_softened_probabilities_are_those_of_softened_logits(kind: str, chances: Any, temperature: float) -> None:
    teacher, student = (3 * floats(4, 5, CLASSES, seed=seed).astype(np.float64) for seed in (1, 2))
    p, q = (ops.convert_to_tensor(chances(each).astype(np.float32)) for each in (teacher, student))
    made = np.asarray(divergence(kind, temperature)(p, q))
    wanted = divergence_of_logits(kind, teacher, student, temperature)
    np.testing.assert_allclose(made, wanted, rtol=1e-4, atol=1e-5)  # float32 near 1 knows logits to 5 digits
    other = divergence_of_logits(kind, teacher, student, 2.0)
    assert (np.abs(wanted - other) > 1e-3).any()


def test_numbers_are_compared_by_squares_whatever_the_temperature() -> None:
    teacher, student = floats(4, 5, 2, seed=1), floats(4, 5, 2, seed=2)
    made = np.asarray(divergence("numbers", 7.0)(teacher, ops.convert_to_tensor(student)))
    np.testing.assert_allclose(made, ((teacher - student) ** 2).mean(axis=-1), rtol=1e-5)


@pytest.mark.parametrize("kind", ["classes", "tags"])
def test_certain_answers_have_a_finite_loss_and_slope(kind: str) -> None:
    import tensorflow as tf

    student = tf.Variable([[0.0, 1.0], [1.0, 0.0], [0.4, 0.6]])
    with tf.GradientTape() as tape:
        loss = divergence(kind, 2.0)(tf.constant([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), student)
    assert np.isfinite(loss.numpy()).all()
    assert loss.numpy()[0] > 10
    assert loss.numpy()[1] == 0
    assert np.isfinite(tape.gradient(loss, student).numpy()).all()


def test_the_whole_loss_of_steps_with_masks_labels_and_hidden_states() -> None:
    rng = np.random.default_rng(0)
    teacher, student = (2 * rng.normal(size=(5, 4, CLASSES)) for _ in range(2))
    labels, weights = rng.integers(0, CLASSES, (5, 4)), np.array([1, 1, 0, 1, 0], np.float32)
    mask = np.arange(4) < np.array([4, 1, 2, 3, 4])[:, None]
    states, mine = rng.normal(size=(5, 3, 2)), rng.normal(size=(5, 3, 2))
    targets = Targets(labels, weights, softmax(teacher), mask, states)
    loss = targets.loss("classes", 2.0, 0.7, 0.3, keras.losses.sparse_categorical_crossentropy)
    made = np.concatenate([softmax(student).reshape(5, -1), mine.reshape(5, -1)], axis=1)
    found = np.asarray(loss(ops.convert_to_tensor(targets.joined()), ops.convert_to_tensor(made.astype(np.float32))))

    counts = mask * mask.size / mask.sum()
    chance = np.take_along_axis(softmax(student), labels[..., None], axis=-1)[..., 0]
    wanted = 0.7 * (counts * divergence_of_logits("classes", teacher, student, 2.0)).mean(axis=1)
    wanted += 0.3 * weights * (counts * -np.log(chance)).mean(axis=1)
    wanted += 0.3 * ((states - mine) ** 2).mean(axis=(1, 2))
    np.testing.assert_allclose(found, wanted, rtol=1e-5)
    # The masked labels and those without weight change nothing.
    other = np.where(mask & (weights[:, None] > 0), labels, (labels + 1) % CLASSES)
    joined = Targets(other, weights, softmax(teacher), mask, states).joined()
    np.testing.assert_array_equal(found, np.asarray(loss(joined, ops.convert_to_tensor(made.astype(np.float32)))))


def test_with_alpha_1_labels_are_not_asked() -> None:
    targets = Targets(np.zeros(2), np.ones(2), np.eye(2), np.ones(2, bool), np.zeros((2, 0)))

    def never(*_: Any) -> Any:
        raise AssertionError

    loss = targets.loss("classes", 1.0, 1.0, 0.0, never)
    np.testing.assert_array_equal(np.asarray(loss(targets.joined(), ops.eye(2))), [0, 0])


def test_kinds_of_answers() -> None:
    x = keras.Input((2,))
    shares = softmax(floats(6, 3))
    for output, answers, kind in [
        (layers.Dense(3, activation="softmax")(x), shares, "classes"),
        (layers.Softmax()(layers.Dense(3)(x)), shares, "classes"),
        (layers.Dense(3, activation="sigmoid")(x), floats(6, 3) ** 2, "tags"),
        (layers.Activation("sigmoid")(layers.Dense(1)(x)), floats(6, 1) ** 2, "tags"),
        (keras.Sequential([keras.Input((2,)), layers.Dense(1, activation="sigmoid")])(x), np.ones((6, 1)), "tags"),
        (layers.Dense(1)(x), np.ones((6, 1)), "numbers"),
        (layers.Dense(3, activation="tanh")(x), floats(6, 3), "numbers"),
    ]:
        assert kind_of(output, answers) == kind


def test_tables_begin_with_as_much_of_the_teacher_as_fits() -> None:
    table = floats(WORDS, 8)
    rows = low_rank_rows(table, 5)
    values = np.linalg.svd(table, compute_uv=False)
    assert rows.shape == (WORDS, 5)
    np.testing.assert_allclose((rows**2).sum(), (values[:5] ** 2).sum(), rtol=1e-5)
    products = rows @ rows.T - table @ table.T
    np.testing.assert_allclose(np.linalg.norm(products), np.linalg.norm(values[5:] ** 2), rtol=1e-4)

    shop, teacher = examples(tagger()), tagger()
    shop.finetune = lambda *_, **__: None
    embedding = teacher.get_layer("table").embeddings.numpy()
    found = Distill(student="lstm", embedding=5).apply(teacher, shop).model.get_layer("words").embeddings
    np.testing.assert_array_equal(found, low_rank_rows(embedding, 5))
    fresh = Distill(student="lstm", embedding=5, fresh=True).apply(teacher, shop).model.get_layer("words").embeddings
    assert not np.isclose(fresh, found).any()


def test_noisy_copies() -> None:
    model = mixed()
    x = {name: np.concatenate([array] * 50) for name, array in examples(model).train.x.items()}
    x["x"] = x["x"] * np.array([1, 10, 100, 0], np.float32)
    x["lengths"] = np.arange(len(x["x"]))
    first, second = noisy_copies(x, readings(model), 0.3, 2, seed=1)
    again, _ = noisy_copies(x, readings(model), 0.3, 2, seed=1)
    np.testing.assert_array_equal(first["x"], again["x"])
    assert not np.array_equal(first["x"], second["x"])
    spread = (first["x"] - x["x"]).std(axis=(0, 1))
    np.testing.assert_allclose(spread, 0.3 * x["x"].std(axis=(0, 1)), rtol=0.05)
    np.testing.assert_array_equal(first["lengths"], x["lengths"])
    padding = x["ids"] == 0
    np.testing.assert_array_equal(first["ids"] == 0, padding)
    changed = (first["ids"] != x["ids"])[~padding].mean()
    assert 0.26 < changed < 0.3  # now and then the same word is drawn
    assert set(np.unique(first["ids"])) <= set(np.unique(x["ids"]))
    assert {name: array.dtype for name, array in first.items()} == {name: array.dtype for name, array in x.items()}


def test_masked_steps_get_no_noise() -> None:
    model = functional(
        inputs := keras.Input((TIME, FEATURES), name="x"), layers.Dense(2)(layers.LSTM(3)(layers.Masking(-1.0)(inputs)))
    )
    x = floats(20, TIME, FEATURES)
    x[:, 4:] = -1
    (copy,) = noisy_copies({"x": x}, readings(model), 0.5, 1, seed=0)
    np.testing.assert_array_equal(copy["x"][:, 4:], x[:, 4:])
    assert (copy["x"][:, :4] != x[:, :4]).all()


def test_a_forward_student_is_the_teacher_without_its_backward_half() -> None:
    teacher = tagger()
    forward, notes = forward_only(teacher)
    assert not notes
    assert type(forward.get_layer("both")).__name__ == "LSTM"
    ids = examples(teacher).train.x["ids"]
    # The same teacher whose backward half answers nothing.
    silent = tagger()
    backward = silent.get_layer("both").backward_layer
    backward.set_weights([np.zeros_like(each) for each in backward.get_weights()])
    real = ids != 0
    np.testing.assert_allclose(np.asarray(forward(ids))[real], np.asarray(silent(ids))[real], atol=1e-6)
    assert [each.shape for each in forward.get_layer("both").get_weights()] == [(8, 20), (5, 20), (20,)]
    assert (
        Distill(forward=True, fraction=0.4, epochs=1).apply(teacher, examples(teacher)).model.get_layer("both").units
        == 3
    )


@pytest.mark.parametrize("merge", ["sum", "ave", "mul", "concat"])
@pytest.mark.parametrize("kind", [layers.GRU, layers.SimpleRNN, layers.LSTM])
def test_forward_layers_of_every_kind(kind: Any, merge: str) -> None:
    x = keras.Input((TIME, FEATURES), name="x")
    inner = layers.Bidirectional(kind(3, return_sequences=True), merge_mode=merge, name="inner")
    outer = layers.Bidirectional(kind(2), merge_mode=merge, name="outer")
    model = functional(x, layers.Dense(2, name="answer")(outer(inner(x))))
    forward, _ = forward_only(model)
    assert [forward.get_layer(name).units for name in ("inner", "outer")] == [3, 2]
    y = floats(4, TIME, FEATURES)
    plain = [kind.from_config(each.forward_layer.get_config()) for each in (inner, outer)]
    kept = [each.forward_layer.get_weights() for each in (inner, outer)]
    kept[1][0] = kept[1][0][:3]
    hidden = y
    for layer, weights in zip(plain, kept, strict=True):
        layer.build(hidden.shape)
        layer.set_weights(weights)
        hidden = np.asarray(layer(hidden))
    kernel, bias = model.get_layer("answer").get_weights()
    np.testing.assert_allclose(np.asarray(forward(y)), hidden @ kernel[:2] + bias, atol=1e-5)


def test_what_cannot_become_forward_is_refused() -> None:
    x = keras.Input((TIME, FEATURES), name="x")
    with pytest.raises(StageError, match="no Bidirectional layer"):
        forward_only(forecaster())
    both = layers.Bidirectional(layers.LSTM(2), name="both")
    with pytest.raises(StageError, match="'both' cannot lose its backward half: it is an output of the model"):
        forward_only(functional(x, both(x)))
    states = layers.Bidirectional(layers.LSTM(2, return_state=True), name="both")
    with pytest.raises(StageError, match="'both' cannot become a forward one: it has several answers"):
        forward_only(functional(x, layers.Dense(2)(states(x)[0])))
    added = layers.Add()([both(x), layers.Dense(4, name="side")(layers.Flatten()(x))])
    with pytest.raises(StageError, match="added to, or multiplied with, units of 'side'"):
        forward_only(functional(x, layers.Dense(2)(added)))
