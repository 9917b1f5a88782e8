"""The stage distill: its students, and what they learn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers, ops
from numpy.typing import NDArray

import edgelstm
from edgelstm.compression.learning import read_learning
from edgelstm.compression.workshop import TrainingWorkshop
from edgelstm.converters.stages.distill import Distill
from edgelstm.converters.stages.students.losses import kind_of
from edgelstm.errors import CalibrationError, EdgeLSTMError, SettingError, StageError
from tests.converters.forms import BY_NAME as FORMS
from tests.converters.stages.teachers import (
    CLASSES,
    FEATURES,
    TEACHERS,
    TIME,
    WORDS,
    examples,
    forecaster,
    mixed,
    tagger,
)
from tests.converters.stages.workshop import TinyWorkshop
from tests.converters.tiny import floats, sequential

Array = NDArray[Any]


def reader(units: int = 8) -> keras.Model:
    return sequential(
        layers.Input((TIME, FEATURES), name="x"),
        layers.LSTM(units, name="lstm"),
        layers.Dense(2, activation="softmax", name="answer"),
    )


def sums(count: int, seed: int) -> tuple[Array, Array]:
    """Sequences, and whether the first two features rise above the others."""
    x = floats(count, TIME, FEATURES, seed=seed)
    return x, (x[:, :, :2].sum(axis=(1, 2)) > x[:, :, 2:].sum(axis=(1, 2))).astype(np.int64)


@pytest.fixture(scope="module")
def trained() -> keras.Model:
    keras.utils.set_random_seed(0)
    model, (x, y) = reader(), sums(600, 1)
    model.compile(keras.optimizers.Adam(0.02), loss="sparse_categorical_crossentropy")
    model.fit(x, y, epochs=6, verbose=0)
    return model


def noisy(count: int = 240, **arguments: Any) -> TinyWorkshop:
    """Two labels of three are drawn anew."""
    (x, y), rng = sums(count, 2), np.random.default_rng(3)
    wrong = rng.random(count) < 2 / 3
    return TinyWorkshop({"x": x}, np.where(wrong, rng.integers(0, 2, count), y), **arguments)


def agreement(one: keras.Model, other: keras.Model) -> float:
    x, _ = sums(1000, 9)
    decisions = [np.asarray(each(x)).argmax(axis=1) for each in (one, other)]
    return float((decisions[0] == decisions[1]).mean())


def test_a_student_of_the_teacher_is_nearer_to_it_than_one_of_noisy_labels(trained: keras.Model) -> None:
    settings = {"student": "lstm", "units": 4, "epochs": 12, "learning_rate": 0.03}
    before, config = trained.get_weights(), trained.get_config()
    taught = Distill(alpha=1.0, **settings).apply(trained, noisy())
    alone = Distill(alpha=0.0, **settings).apply(trained, noisy())
    assert agreement(trained, taught.model) > agreement(trained, alone.model) + 0.05
    assert agreement(trained, taught.model) > 0.9
    # The teacher is as it was.
    for value, kept in zip(trained.get_weights(), before, strict=True):
        np.testing.assert_array_equal(value, kept)
    assert trained.get_config() == config
    assert not {id(each) for each in trained.variables} & {id(each) for each in taught.model.variables}
    assert not taught.notes
    assert taught.figures["parameters"] == [4 * 8 * 13 + 18, 4 * 4 * 9 + 10]
    assert taught.figures["examples"] == [192, 0]
    shop = noisy()
    np.testing.assert_allclose(taught.figures["loss"], [shop.loss(reader_like(trained)), shop.loss(taught.model)])


def reader_like(model: keras.Model) -> keras.Model:
    copy = reader()
    copy.set_weights(model.get_weights())
    return copy


def test_a_cut_student_begins_with_what_it_has_of_the_teacher(trained: keras.Model) -> None:
    asked: dict[str, Any] = {}
    shop = noisy()
    shop.finetune = lambda model, **arguments: asked.update(arguments)
    outcome = Distill(fraction=0.25, layers="lstm", epochs=7, learning_rate=0.5).apply(trained, shop)
    assert (asked["epochs"], asked["learning_rate"], asked["name"]) == (7, 0.5, "distill")
    assert asked["examples"] is None
    lstm = outcome.model.get_layer("lstm")
    assert lstm.units == 6
    old = trained.get_layer("lstm").get_weights()[0]
    assert all((np.abs(column[:, None] - old).max(axis=0) == 0).any() for column in lstm.get_weights()[0].T)
    fresh = Distill(fraction=0.25, fresh=True).apply(trained, shop).model
    again = Distill(fraction=0.25, fresh=True).apply(trained, shop).model
    for one, same, other in zip(fresh.weights, again.weights, outcome.model.weights, strict=True):
        np.testing.assert_array_equal(one, same)
        assert one.shape == other.shape
    assert not np.isin(fresh.get_layer("lstm").get_weights()[0], old).any()

    copy = Distill(fraction=0.0).apply(trained, shop).model
    np.testing.assert_array_equal(copy.get_layer("lstm").get_weights()[0], old)
    assert copy.get_layer("lstm") is not trained.get_layer("lstm")


def test_a_copy_that_asks_the_teacher_alone_has_nothing_to_learn(trained: keras.Model) -> None:
    """At the least of a divergence is no slope: the copy stays the teacher."""
    outcome = Distill(fraction=0.0, alpha=1.0, epochs=1, learning_rate=1e-4, hidden=0.0).apply(trained, noisy())
    for one, other in zip(outcome.model.weights, trained.weights, strict=True):
        np.testing.assert_allclose(one.numpy(), other.numpy(), atol=2e-3)


def convert(model: keras.Model, shop: TinyWorkshop, folder: Path) -> None:
    """Saves, loads and converts in every precision; conversion compares the file with the model."""
    model.save(folder / "student.keras")
    loaded = keras.saving.load_model(folder / "student.keras")
    np.testing.assert_array_equal(shop_answers(loaded, shop), shop_answers(model, shop))
    for precision in ("float32", "dynamic", "int8"):
        edgelstm.convert(
            model,
            folder / f"{precision}.tflite",
            quantize=precision,
            calibration=shop.train.x if precision == "int8" else None,
        )


def shop_answers(model: keras.Model, shop: TinyWorkshop) -> Array:
    return np.asarray(model(shop.feed(model, shop.validation)))


@pytest.mark.parametrize("name", TEACHERS)
def test_students_built_anew(name: str, tmp_path: Path) -> None:
    teacher = TEACHERS[name]()
    shop = examples(teacher)
    outcome = Distill(student="lstm", depth=2, embedding=5, hidden=0.5, epochs=1).apply(teacher, shop)
    student = outcome.model
    assert [each.name for each in student.inputs] == [each.name for each in teacher.inputs]
    assert student.output_names == teacher.output_names
    assert student.output_shape == teacher.output_shape
    lstms = [each for each in student.layers if isinstance(each, layers.LSTM)]
    assert [each.units for each in lstms] == [2 if name == "tagger" else 3] * 2
    kinds = {type(each).__name__ for each in student.layers}
    assert not kinds & {"Bidirectional", "MultiHeadAttention", "LayerNormalization"}
    assert kind_of(student.outputs[0], shop_answers(student, shop)) == kind_of(
        teacher.outputs[0], shop_answers(teacher, shop)
    )
    if name != "forecaster":
        table = next(each for each in student.layers if isinstance(each, layers.Embedding))
        assert (table.input_dim, table.output_dim) == (WORDS, 5)
        assert table.mask_zero == (name == "tagger")
    if name == "mixed":
        np.testing.assert_array_equal(student.get_layer("normal").mean, np.ones((1, 1, FEATURES)))
    assert np.isfinite(outcome.figures["loss"]).all()
    assert outcome.figures["parameters"] == [teacher.count_params(), student.count_params()]
    if name == "tagger":
        convert(student, shop, tmp_path)


def test_a_cut_student_is_saved_loaded_and_converted(tmp_path: Path) -> None:
    teacher = forecaster()
    shop = examples(teacher)
    student = Distill(epochs=1, hidden=0.2).apply(teacher, shop).model
    assert student.count_params() < teacher.count_params()
    assert [each.name for each in student.layers] == [each.name for each in teacher.layers]
    convert(student, shop, tmp_path)


def test_masked_steps_do_not_count() -> None:
    """What the teacher answers behind the end of a text reaches no weight of the student."""
    teacher, kept = tagger(), {}
    shop = examples(teacher)
    shop.finetune = lambda model, **arguments: kept.update(model=model, **arguments)
    Distill(fraction=0.0, temperature=1.0).apply(teacher, shop)
    ids = shop.train.x["ids"]
    rows = ops.convert_to_tensor(kept["targets"][: len(ids)])
    made = np.array(kept["model"](ids))
    plain = np.asarray(kept["loss"](rows, ops.convert_to_tensor(made)))
    padded = np.repeat(ids == 0, CLASSES, axis=1)
    changed = np.where(padded, 1 / CLASSES, made)
    np.testing.assert_array_equal(np.asarray(kept["loss"](rows, ops.convert_to_tensor(changed))), plain)
    assert (np.asarray(kept["loss"](rows, ops.convert_to_tensor(np.where(padded, made, 1 / CLASSES)))) != plain).all()
    # The mean over examples is that of Keras over the steps that count.
    everything = np.concatenate([shop.train.x["ids"], shop.validation.x["ids"]])
    loss = keras.losses.SparseCategoricalCrossentropy()
    labels = np.concatenate([shop.train.y, shop.validation.y])
    all_made = kept["model"](everything)
    own = np.asarray(kept["loss"](ops.convert_to_tensor(kept["targets"]), all_made)).mean()
    answers = ops.reshape(all_made, (-1, TIME, CLASSES))
    wanted = loss(labels, answers, sample_weight=(everything != 0).astype("float32")) * everything.size
    np.testing.assert_allclose(own, 0.3 * wanted / (everything != 0).sum(), rtol=1e-5)


@pytest.mark.parametrize("sequences", [False, True])
def test_hidden_states_are_learnt_through_a_projection(sequences: bool) -> None:
    """The projection can be perfect for a copy, so that hidden states come near; without weight they do not."""
    teacher = tagger() if sequences else forecaster()
    shop, seen = examples(teacher), []
    plain = shop.finetune

    def finetune(model: Any, *, loss: Any = None, targets: Any = None, **arguments: Any) -> None:
        seen.append((model, targets))
        plain(model, loss=loss, targets=targets, **arguments)

    shop.finetune = finetune
    settings = {"fraction": 0.0, "alpha": 1.0, "epochs": 15, "learning_rate": 0.03}
    names = {each.name for each in teacher.layers}
    student = Distill(hidden=1.0, **settings).apply(teacher, shop).model
    assert {each.name for each in student.layers} == names
    (model, targets), width = seen[0], 10 if sequences else 6
    states = targets[:, -width * (TIME if sequences else 1) :]
    inside = keras.Model(teacher.inputs[0], [each.output for each in teacher.layers][-2])
    x = np.concatenate([shop.train.x[teacher.inputs[0].name], shop.validation.x[teacher.inputs[0].name]])
    np.testing.assert_allclose(states, np.asarray(inside(x)).reshape(len(x), -1), atol=1e-6)
    mine = np.asarray(model(x))[:, -states.shape[1] :]
    assert ((mine - states) ** 2).mean() < 0.2 * states.var()


def test_examples_without_labels_are_answered_by_the_teacher_alone(trained: keras.Model, tmp_path: Path) -> None:
    shop, asked = noisy(60), {}
    shop.finetune = lambda model, **arguments: asked.update(arguments)
    more = floats(7, TIME, FEATURES, seed=12)
    np.savez(tmp_path / "more.npz", anything=more)
    stage = Distill(fraction=0.0, unlabelled=str(tmp_path / "more.npz"), noise=0.1, copies=2, alpha=0.5)
    outcome = stage.apply(trained, shop)
    x, targets = asked["examples"].x["x"], asked["targets"]
    count = len(shop.train)
    assert len(asked["examples"]) == len(x) == 3 * count + 7
    assert len(targets) == len(x) + len(shop.validation)
    assert outcome.figures["examples"] == [count, 2 * count + 7]
    np.testing.assert_array_equal(x[:count], shop.train.x["x"])
    np.testing.assert_array_equal(x[-7:], more)
    # Rows hold label, its weight, the weight of the one step, and the answers.
    np.testing.assert_array_equal(targets[:, 1], [1] * count + [0] * (2 * count + 7) + [1] * len(shop.validation))
    np.testing.assert_array_equal(targets[:count, 0], shop.train.y)
    everything = np.concatenate([x, shop.validation.x["x"]])
    np.testing.assert_allclose(targets[:, 3:], np.asarray(trained(everything)), atol=1e-6)
    assert [each.rpartition("-")[2] for each in shop.made] == ["answers"]


def test_examples_that_do_not_fit_are_refused(trained: keras.Model, tmp_path: Path) -> None:
    path = tmp_path / "more.npz"

    def refused(error: type[EdgeLSTMError], match: str, model: keras.Model = trained, **arrays: Any) -> None:
        if arrays:
            np.savez(path, **arrays)
        shop = noisy(20) if model is trained else examples(model)
        with pytest.raises(error, match=match):
            Distill(unlabelled=str(path)).apply(model, shop)

    refused(CalibrationError, "There is no data file")
    refused(StageError, r"has no input 'x'; it has a, b", a=np.zeros(3), b=np.zeros(3))
    refused(StageError, r"input 'x' has examples of shape \(3,\), and .* have \(6, 4\)", x=np.zeros((2, 3)))
    refused(StageError, "holds NaN", x=np.full((2, TIME, FEATURES), np.nan))
    refused(StageError, "ids from 0 to 20, .* knows those from 0 to 19", tagger(), ids=np.array([[0, 20, 0, 0, 0, 0]]))
    different = {"ids": np.ones((2, TIME)), "x": np.ones((2, TIME, FEATURES)), "plain": np.ones((3, 3))}
    refused(StageError, "different numbers of examples: 2 of 'ids', 2 of 'x', 3 of 'plain'", mixed(), **different)


def test_a_student_from_a_file(trained: keras.Model, tmp_path: Path) -> None:
    path = tmp_path / "student.keras"

    def model(*stack: Any, name: str = "x", shape: tuple[int | None, ...] = (None, FEATURES)) -> keras.Model:
        made = keras.Sequential([layers.Input(shape, name=name), *stack])
        made.save(path)
        return made

    own = model(layers.LSTM(2), layers.Dense(2, activation="softmax"))
    shop = noisy(60)
    outcome = Distill(student=str(path), epochs=1).apply(trained, shop)
    assert [tuple(each.shape) for each in outcome.model.weights] == [tuple(each.shape) for each in own.weights]
    assert not np.array_equal(outcome.model.get_weights()[0], own.get_weights()[0])

    def refused(match: str) -> None:
        with pytest.raises(StageError, match=match):
            Distill(student=str(path)).apply(trained, shop)

    model(layers.LSTM(2), layers.Dense(2, activation="softmax"), name="other")
    refused("student.keras takes other, and model .* takes x")
    model(layers.LSTM(2), layers.Dense(2, activation="softmax"), shape=(None, 5))
    refused(r"input 'x' has the shape \(any, 5\), and examples have \(6, 4\)")
    model(layers.LSTM(2), layers.Dense(3, activation="softmax"))
    refused(r"the output has the shape \(3\), and the model's has \(2,\)")
    model(layers.LSTM(2), layers.Dense(2))
    refused("ends with the activation 'linear', .* 'softmax' is needed")


def test_students_that_cannot_be_built_are_refused() -> None:
    shop = TinyWorkshop({"x": floats(10, 4, 4, 1)}, floats(10, 1), loss_name="mean_squared_error")
    pictures = sequential(layers.Input((4, 4, 1), name="x"), layers.Conv2D(2, 3), layers.Flatten(), layers.Dense(1))
    with pytest.raises(StageError, match=r"'x' of shape \(4, 4, 1\) .* neither ids for an Embedding, nor a sequence"):
        Distill(student="lstm").apply(pictures, shop)
    with pytest.raises(StageError, match="has no recurrent layer of its own"):
        Distill(hidden=1.0).apply(pictures, shop)
    with pytest.raises(StageError, match="subclassed"):
        Distill().apply(FORMS["subclassed"].build(), shop)
    with pytest.raises(StageError, match="has 2 outputs; stage 'distill' needs one"):
        Distill().apply(FORMS["inputs_and_outputs_by_name"].build(), shop)
    plain = sequential(layers.Input((4,), name="x"), layers.Dense(2), layers.Dense(1))
    with pytest.raises(StageError, match="no input that is a sequence"):
        Distill(student="lstm").apply(plain, TinyWorkshop({"x": floats(10, 4)}, floats(10, 1), loss_name="mse"))


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(
        SettingError, match=r"'student' .* must be 'cut', 'lstm' or the path of a .keras file, not 'gru'"
    ):
        Distill(student="gru")
    with pytest.raises(SettingError, match=r"'forward' .* does not change a student from a file"):
        Distill(student="a.keras", forward=True)
    with pytest.raises(SettingError, match="alpha 0 learns from labels alone, and the examples of 'noise'"):
        Distill(alpha=0.0, noise=0.1)


def test_answers_that_are_no_numbers_are_refused() -> None:
    model = forecaster()
    model.get_layer("ahead").bias.assign([np.nan, 0])
    with pytest.raises(StageError, match=r"Answers of model .* hold NaN"):
        Distill().apply(model, examples(model))


def test_weaker_stages_take_larger_students() -> None:
    assert Distill(fraction=0.5).weaker().values["fraction"] == 0.25
    assert Distill(fraction=0.05).weaker() is None
    assert Distill(student="lstm", units=4).weaker().values["units"] == 8
    assert Distill(student="a.keras").weaker() is None


class StoppedError(Exception):
    pass


def test_an_interrupted_training_goes_on_and_the_teacher_is_asked_once(
    trained: keras.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, y = sums(80, 5)
    np.savez(tmp_path / "data.npz", x=x, y=y)
    learning = read_learning(str(tmp_path / "data.npz"), trained)
    stage = Distill(fraction=0.5, epochs=3, noise=0.1, hidden=0.1)
    predict, asked = keras.Model.predict, []

    def counting(model: Any, given: Any, **arguments: Any) -> Any:
        asked.append(len(given))
        return predict(model, given, **arguments)

    monkeypatch.setattr(keras.Model, "predict", counting)

    def run(folder: str, stop: str = "never") -> Any:
        def takes(line: str) -> None:
            if line.startswith(stop):
                raise StoppedError

        (tmp_path / folder).mkdir(exist_ok=True)
        return stage.apply(trained, TrainingWorkshop(learning, tmp_path / folder, takes)).model

    whole = run("whole")
    assert asked == [56 + 56 + 12]
    with pytest.raises(StoppedError):
        run("stopped", "epoch 3")
    resumed = run("stopped")
    assert asked == [124] * 2
    for one, other in zip(whole.get_weights(), resumed.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_what_is_kept_belongs_to_a_teacher_and_its_examples() -> None:
    shop, teacher = examples(forecaster()), forecaster()
    shop.finetune = lambda *_, **__: None

    def asked(**settings: Any) -> str:
        shop.made.clear()
        Distill(fraction=0.0, **settings).apply(teacher, shop)
        return shop.made[0]

    first = asked()
    assert asked(temperature=3.0) == first
    assert asked(noise=0.1) != first
    teacher.get_layer("ahead").bias.assign([1.0, 0.0])
    assert asked() != first


@pytest.mark.parametrize("loss", ["sparse_categorical_crossentropy", "binary_crossentropy", "mean_squared_error"])
def test_the_loss_of_labels_is_that_of_the_data(loss: str, tmp_path: Path) -> None:
    """The mean of `label_loss` is what the workshop reports as the loss."""
    kinds = {"sparse_categorical_crossentropy": (3, "softmax"), "binary_crossentropy": (1, "sigmoid")}
    width, activation = kinds.get(loss, (1, "linear"))
    model = sequential(layers.Input((TIME, FEATURES), name="x"), layers.LSTM(3), layers.Dense(width, activation))
    x, y = sums(40, 6)
    np.savez(tmp_path / "data.npz", x=x, y=x[:, 0, 0] if loss == "mean_squared_error" else y)
    shop = TrainingWorkshop(read_learning(str(tmp_path / "data.npz"), model))
    losses = shop.label_loss(shop.validation.y, model(shop.validation.x["x"]))
    assert losses.shape == (6,)
    np.testing.assert_allclose(np.mean(losses), shop.loss(model), rtol=1e-5)
