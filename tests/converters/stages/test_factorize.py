from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

import edgelstm
from edgelstm.converters.stages.factorize import Factorize
from edgelstm.converters.stages.narrowing import assign_side_by_side, readers_inside, side_by_side
from edgelstm.converters.stages.surgery import named_layers
from edgelstm.errors import SettingError, StageError
from tests.converters.forms import TwoReaders
from tests.converters.stages.workshop import TinyWorkshop
from tests.converters.tiny import floats, functional, sequential

TIME, FEATURES, UNITS, CLASSES = 6, 14, 5, 3
KERNEL = FEATURES * 4 * UNITS


def one_lstm(**arguments: Any) -> keras.Model:
    return sequential(
        layers.Input((TIME, FEATURES), name="x"),
        layers.LSTM(UNITS, name="lstm", **arguments),
        layers.Dense(CLASSES, activation="softmax", name="answer"),
    )


def bidirectional() -> keras.Model:
    x = keras.Input((TIME, FEATURES), name="x")
    both = layers.Bidirectional(layers.LSTM(UNITS, return_sequences=True), name="both")(layers.Masking()(x))
    last = layers.LSTM(7, name="last")(both)
    return functional(x, layers.Dense(CLASSES, activation="softmax", name="answer")(last))


def shared_and_nested() -> keras.Model:
    left, right = keras.Input((TIME, FEATURES), name="left"), keras.Input((TIME, FEATURES), name="right")
    shared = layers.LSTM(UNITS, name="shared", return_sequences=True)
    inner = keras.Sequential([keras.Input((TIME, UNITS)), layers.LSTM(11, name="deep")], name="inner")
    joined = layers.Concatenate()([inner(shared(left)), inner(shared(right))])
    outputs = {"answer": layers.Dense(CLASSES, activation="softmax", name="answer")(joined), "seen": shared(right)}
    return functional([left, right], outputs)


def states_and_masks() -> keras.Model:
    x, mask = keras.Input((TIME, FEATURES), name="x"), keras.Input((TIME,), name="mask", dtype="bool")
    start = layers.Dense(UNITS, name="start")(x[:, 0])
    answer = layers.LSTM(UNITS, name="lstm")(x, mask=mask, initial_state=[start, start])
    return functional([x, mask], layers.Dense(CLASSES, activation="softmax", name="answer")(answer))


def wrapped() -> keras.Model:
    x = keras.Input((4, TIME, FEATURES), name="x")
    each = layers.TimeDistributed(layers.LSTM(UNITS), name="each")(x)
    every = layers.TimeDistributed(layers.Dense(12, activation="tanh"), name="every")(each)
    cell = layers.RNN(layers.LSTMCell(UNITS), name="cell")(every)
    gated = layers.GRU(UNITS, name="gated")(every)
    return functional(x, layers.Dense(CLASSES, activation="softmax", name="answer")(cell + gated))


MODELS = [one_lstm, bidirectional, shared_and_nested, states_and_masks, wrapped]


def data(model: keras.Model, count: int = 60, seed: int = 0) -> dict[str, Any]:
    """Inputs with features that go together, as those of real data do."""
    arrays = {}
    for number, tensor in enumerate(model.inputs):
        shape, rng = (count, *tensor.shape[1:]), np.random.default_rng([seed, number])
        values = rng.normal(size=shape)
        if tensor.dtype == "bool":
            values = np.arange(shape[1]) >= rng.integers(0, shape[1], (count, 1))
        else:
            values = values @ (rng.normal(size=(shape[-1],) * 2) * np.geomspace(2, 0.1, shape[-1]))
        arrays[tensor.name] = values.astype(tensor.dtype)
    return arrays


def workshop_for(model: keras.Model) -> TinyWorkshop:
    x = data(model)
    return TinyWorkshop(x, np.random.default_rng(1).integers(0, CLASSES, len(next(iter(x.values())))))


def answers(model: keras.Model, seed: int = 3) -> list[Any]:
    fed = data(model, 8, seed)
    return [np.array(each) for each in keras.tree.flatten(model(list(fed.values()) if len(fed) > 1 else fed["x"]))]


def make_low_rank(model: keras.Model, rank: int) -> None:
    for layer in named_layers(model).values():
        if readers := readers_inside(layer):
            rows, columns = side_by_side(readers).shape
            if min(rows, columns) > rank:
                assign_side_by_side(readers, 0.3 * floats(rows, rank, seed=rows) @ floats(rank, columns, seed=columns))


@pytest.mark.parametrize("build", MODELS)
@pytest.mark.parametrize("data_aware", [True, False])
def test_kernels_of_low_rank_are_factorized_without_a_loss(build, data_aware):
    model = build()
    make_low_rank(model, 2)
    before = answers(model)
    outcome = Factorize(energy=1.0, layers="all", data_aware=data_aware, epochs=0).apply(model, workshop_for(model))
    for got, expected in zip(answers(outcome.model), before, strict=True):
        np.testing.assert_allclose(got, expected, atol=1e-5)
    assert {figures["rank"] for figures in outcome.figures["layers"].values()} == {2}
    assert outcome.model.count_params() < model.count_params()
    assert set(named_layers(model)) < set(named_layers(outcome.model))
    assert [tensor.name for tensor in outcome.model.inputs] == [tensor.name for tensor in model.inputs]
    assert getattr(outcome.model, "output_names", None) == getattr(model, "output_names", None)


@pytest.mark.parametrize("build", MODELS)
def test_the_model_that_went_in_stays_as_it_was(build):
    model = build()
    model.get_layer("answer").trainable = False
    before = [np.array(variable) for variable in model.variables], model.get_config(), len(model.trainable_variables)
    outcome = Factorize(rank=1, layers="all", epochs=int(build is one_lstm)).apply(model, workshop_for(model))
    for variable, value in zip(model.variables, before[0], strict=True):
        np.testing.assert_array_equal(np.array(variable), value)
    assert (model.get_config(), len(model.trainable_variables)) == before[1:]
    assert not {id(variable) for variable in model.variables} & {id(variable) for variable in outcome.model.variables}
    assert not outcome.model.get_layer("answer").trainable


def test_a_frozen_layer_has_frozen_factors():
    model = one_lstm()
    model.get_layer("lstm").trainable = False
    new = Factorize(rank=2, epochs=1).apply(model, workshop_for(model)).model
    assert not new.get_layer("lstm_factor").trainable
    assert not new.get_layer("lstm").trainable
    error = np.abs(product(new) - kernel(model)).max()
    assert error == pytest.approx(
        np.abs(product(Factorize(rank=2, epochs=0).apply(model, workshop_for(model)).model) - kernel(model)).max()
    )


def kernel(model: keras.Model) -> Any:
    return np.array(model.get_layer("lstm").cell.kernel, np.float64)


def product(model: keras.Model) -> Any:
    return np.array(model.get_layer("lstm_factor").kernel, np.float64) @ kernel(model)


@pytest.mark.parametrize("rank", [1, 3, 7])
def test_the_error_of_what_the_layer_computes_is_the_least_there_is(rank):
    model = one_lstm()
    shop = workshop_for(model)
    x = shop.train.x["x"].reshape(-1, FEATURES).astype(np.float64)
    least = np.linalg.svd(x @ kernel(model), compute_uv=False)[rank:]
    errors = {}
    for aware in (True, False):
        outcome = Factorize(rank=rank, data_aware=aware, epochs=0).apply(model, shop)
        errors[aware] = np.linalg.norm(x @ (kernel(model) - product(outcome.model)))
    assert errors[True] == pytest.approx(np.sqrt((least**2).sum()), rel=1e-3)
    assert errors[False] > 1.02 * errors[True]
    weights = np.linalg.svd(kernel(model), compute_uv=False)[rank:]
    assert np.linalg.norm(kernel(model) - product(outcome.model)) == pytest.approx(
        np.sqrt((weights**2).sum()), rel=1e-5
    )


def test_steps_that_a_layer_does_not_read_have_no_say():
    model = states_and_masks()
    shop = workshop_for(model)
    x, mask = shop.train.x["x"], shop.train.x["mask"]
    x[~mask] = 100 * np.random.default_rng(5).normal(size=(int((~mask).sum()), FEATURES))
    outcome = Factorize(rank=3, epochs=0).apply(model, shop)
    least = np.linalg.svd(x[mask].astype(np.float64) @ kernel(model), compute_uv=False)[3:]
    error = np.linalg.norm(x[mask] @ (kernel(model) - product(outcome.model)))
    assert error == pytest.approx(np.sqrt((least**2).sum()), rel=1e-3)


def test_the_numbers_of_weights_are_those_of_the_formula():
    model = bidirectional()
    outcome = Factorize(rank=4, epochs=0).apply(model, workshop_for(model))
    both, last = FEATURES * 8 * UNITS, 2 * UNITS * 28
    both_after, last_after = 4 * (FEATURES + 8 * UNITS), 4 * (2 * UNITS + 28)
    assert outcome.figures["layers"]["both"]["kernel"] == [both, both_after]
    assert outcome.figures["layers"]["last"]["kernel"] == [last, last_after]
    saved = both - both_after + last - last_after
    assert outcome.model.count_params() == model.count_params() - saved
    assert outcome.figures["parameters"] == [model.count_params(), outcome.model.count_params()]


def test_the_factors_of_both_directions_share_what_stands_in_front():
    outcome = Factorize(rank=4, epochs=0, only="both").apply(bidirectional(), workshop_for(bidirectional()))
    layer = outcome.model.get_layer("both")
    assert outcome.model.get_layer("both_factor").kernel.shape == (FEATURES, 4)
    assert layer.forward_layer.cell.kernel.shape == layer.backward_layer.cell.kernel.shape == (4, 4 * UNITS)
    assert list(outcome.figures["layers"]) == ["both"]


def test_a_layer_that_would_not_shrink_is_left_alone():
    model = one_lstm()
    outcome = Factorize(rank=2, layers="all", epochs=0).apply(model, workshop_for(model))
    assert outcome.notes == ("Layer 'answer' is left as it is: at rank 2 two factors are no smaller than its kernel "
                             "of 5 x 3.",)  # fmt: skip
    assert list(outcome.figures["layers"]) == ["lstm"]


def test_a_kernel_with_a_constraint_is_left_alone():
    model = sequential(
        layers.Input((TIME, FEATURES), name="x"),
        layers.LSTM(UNITS, return_sequences=True, kernel_constraint="non_neg", name="bound"),
        layers.LSTM(9, name="free"),
        layers.Dense(CLASSES, activation="softmax"),
    )
    outcome = Factorize(rank=1, epochs=0).apply(model, workshop_for(model))
    assert list(outcome.figures["layers"]) == ["free"]
    assert "'bound' is left as it is: its kernel has a constraint" in outcome.notes[0]


def test_fine_tuning_is_that_of_the_settings_and_repeatable():
    model = one_lstm()
    shops = workshop_for(model), workshop_for(model)
    runs = [Factorize(rank=1, epochs=2).apply(model, shop).model for shop in shops]
    assert shops[0].trainings == [{"epochs": 2, "keep": "best", "name": "factors"}]
    for first, second in zip(runs[0].get_weights(), runs[1].get_weights(), strict=True):
        np.testing.assert_array_equal(first, second)
    untrained = Factorize(rank=1, epochs=0).apply(model, shops[0]).model
    assert shops[0].loss(runs[0]) < shops[0].loss(untrained)


def taught() -> tuple[keras.Model, TinyWorkshop]:
    """A model, and its own answers to learn: whatever answers otherwise has a higher loss."""
    model = sequential(
        layers.Input((TIME, FEATURES), name="x"),
        layers.LSTM(UNITS + 5, return_sequences=True, name="first"),
        layers.LSTM(7, name="last"),
        layers.Dense(CLASSES, activation="softmax", name="answer"),
    )
    answer = model.get_layer("answer")
    answer.kernel.assign(4 * np.array(answer.kernel))
    x = data(model, 200)
    return model, TinyWorkshop(x, np.array(model(x["x"])), loss_name="categorical_crossentropy")


def test_ranks_chosen_by_accuracy_are_the_lowest_that_keep_the_loss():
    model, shop = taught()
    share = 0.05
    outcome = Factorize(max_loss=share, epochs=0).apply(model, shop)
    limit = shop.loss(model) * (1 + share)
    assert shop.loss(outcome.model) <= limit
    assert list(outcome.figures["layers"]) == ["first", "last"]
    rank = outcome.figures["layers"]["last"]["rank"]
    front, last = outcome.model.get_layer("last_factor"), outcome.model.get_layer("last")
    assert rank > 1
    # One rank less of the layer that was cut last, by hand: too much.
    reached = np.array(front.kernel) @ np.array(last.cell.kernel)
    inputs = keras.Model(outcome.model.inputs[0], front.input)(shop.train.x["x"])
    right = np.linalg.svd(np.concatenate(np.array(inputs)) @ reached)[2]
    last.cell.kernel.assign(np.array(last.cell.kernel) @ right[: rank - 1].T @ right[: rank - 1])
    assert shop.loss(outcome.model) > limit


def test_no_rank_may_be_good_enough():
    model, shop = taught()
    with pytest.raises(StageError, match=r"no rank that saves anything \(up to 10\) keeps the loss within its bound"):
        Factorize(max_loss=1e-6, epochs=0).apply(model, shop)


@pytest.mark.parametrize("build", [bidirectional, shared_and_nested])
@pytest.mark.parametrize("precision", ["float32", "dynamic", "int8"])
def test_the_result_converts(build, precision, tmp_path):
    model = build()
    new = Factorize(rank=2, layers="all", epochs=0).apply(model, workshop_for(model)).model
    artifact = edgelstm.convert(
        new, tmp_path / "a.tflite", quantize=precision, calibration=data(new) if precision == "int8" else None
    )
    assert artifact.path.stat().st_size > 0


def test_plain_keras_loads_the_result(tmp_path: Path):
    new = Factorize(rank=2, layers="all", epochs=0).apply(bidirectional(), workshop_for(bidirectional())).model
    new.save(tmp_path / "a.keras")
    with zipfile.ZipFile(tmp_path / "a.keras") as archive:
        assert b"edgelstm" not in archive.read("config.json")
    x = data(new, 4)["x"]
    np.testing.assert_allclose(keras.models.load_model(tmp_path / "a.keras")(x), new(x), atol=1e-6)


def test_models_of_a_fixed_batch_are_measured_in_whole_batches():
    x = keras.Input(batch_shape=(7, TIME, FEATURES), name="x")
    model = functional(x, layers.Dense(CLASSES)(layers.LSTM(UNITS, stateful=True, name="lstm")(x)))
    make_low_rank(model, 2)
    shop = workshop_for(one_lstm())
    new = Factorize(energy=1.0, epochs=0).apply(model, shop).model
    for seed in range(2):  # states go on from call to call
        batch = data(one_lstm(), 7, seed)["x"]
        np.testing.assert_allclose(new(batch), model(batch), atol=1e-5)


@pytest.mark.parametrize(
    "values, sentence",
    [
        ({"energy": 0}, "Setting 'energy' of stage 'factorize' must be at least 1e-06 and at most 1, not 0.0."),
        ({"energy": 1.5}, "must be at least 1e-06 and at most 1"),
        ({"rank": -1}, "must be at least 0"),
        ({"layers": "some"}, "must be one of lstm, all"),
        ({"rank": 2, "max_loss": 0.1}, "both a rank and max_loss"),
    ],
)
def test_impossible_settings_are_refused(values, sentence):
    with pytest.raises(SettingError, match=sentence):
        Factorize(**values)


def test_a_rank_that_saves_nothing_is_refused():
    model = one_lstm()
    with pytest.raises(StageError, match="at rank 9 two factors are no smaller than its kernel of 14 x 20"):
        Factorize(rank=9).apply(model, workshop_for(model))


def test_a_model_without_lstm_is_refused():
    model = sequential(layers.Input((FEATURES,), name="x"), layers.Dense(CLASSES, activation="softmax"))
    with pytest.raises(StageError, match="has no layer that can be factorized: no LSTM"):
        Factorize().apply(model, workshop_for(model))


def test_a_layer_that_is_not_there_is_named():
    model = bidirectional()
    with pytest.raises(StageError, match=r"no layer 'lost' that can be factorized\. There are 'both', 'last'"):
        Factorize(only="both, lost").apply(model, workshop_for(model))


def test_a_subclassed_model_is_refused():
    model = TwoReaders()
    model(floats(2, TIME, FEATURES))
    shop = TinyWorkshop({"x": floats(10, TIME, FEATURES)}, np.zeros(10, int))
    with pytest.raises(StageError, match="subclassed model"):
        Factorize().apply(model, shop)
