"""The stage prune-units: which units it takes, and what comes out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

import edgelstm
from edgelstm.converters.stages.prune_units import PruneUnits
from edgelstm.converters.stages.units.importance import norms, taylor
from edgelstm.converters.stages.units.trace import Trace
from edgelstm.errors import EdgeLSTMError, SettingError, StageError
from tests.converters.forms import BY_NAME as FORMS
from tests.converters.forms import call_model, inputs_for, set_random_weights
from tests.converters.stages.unit_cases import BY_NAME
from tests.converters.stages.workshop import TinyWorkshop

TIME, FEATURES, UNITS = 6, 4, 8


def lstm_parameters(features: int, units: int) -> int:
    """Hochreiter and Schmidhuber 1997, with forget gates: four gates, each with a kernel, a recurrent one, a bias."""
    return 4 * units * (features + units + 1)


def two_lstms() -> Any:
    keras.utils.set_random_seed(1)
    x = keras.Input((TIME, FEATURES), name="x")
    sequence = layers.LSTM(UNITS, return_sequences=True, name="first")(x)
    y = layers.Dense(3, activation="softmax", name="answer")(layers.LSTM(6, name="second")(sequence))
    model = keras.Model(x, y)
    set_random_weights(model, np.random.default_rng(0), 0.4)
    return model


def workshop(count: int = 100, **arguments: Any) -> TinyWorkshop:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(count, TIME, FEATURES)).astype("float32")
    return TinyWorkshop({"x": x}, (x[:, :, 0].mean(axis=1) > 0).astype("int64") + (x[:, -1, 1] > 0.5), **arguments)


def plant(model: Any, name: str, unit: int) -> None:
    """Makes a unit of an LSTM useless: it hardly answers, and what reads it hardly listens."""
    layer = model.get_layer(name)
    kernel, recurrent, bias = (each.numpy().copy() for each in layer.weights)
    for gate in range(4):
        kernel[:, gate * layer.units + unit] *= 1e-3
        recurrent[:, gate * layer.units + unit] *= 1e-3
        bias[gate * layer.units + unit] *= 1e-3
    recurrent[unit] *= 1e-3
    layer.set_weights([kernel, recurrent, bias])
    reader = model.layers[model.layers.index(layer) + 1]
    values = reader.get_weights()
    values[0][unit] *= 1e-3
    reader.set_weights(values)


def kept_units(before: Any, after: Any, name: str) -> list[int]:
    """Which units of an LSTM are still there, found by their biases."""
    old, new = (np.asarray(model.get_layer(name).weights[2]).reshape(4, -1).T for model in (before, after))
    return [int(np.flatnonzero((old == bias).all(axis=1)).item()) for bias in new]


def test_parameters_by_formula() -> None:
    outcome = PruneUnits(fraction=0.5, epochs=0).apply(two_lstms(), workshop())
    after = lstm_parameters(FEATURES, 4) + lstm_parameters(4, 3) + 3 * (3 + 1)
    before = lstm_parameters(FEATURES, 8) + lstm_parameters(8, 6) + 3 * (6 + 1)
    assert outcome.model.count_params() == after
    assert outcome.figures == {"parameters": [before, after], "layers": {"first": [8, 4], "second": [6, 3]}}
    assert outcome.notes == ()


@pytest.mark.parametrize(
    "settings, units",
    [
        ({"fraction": 0.3}, [6, 5]),
        ({"fraction": 0.9}, [1, 1]),
        ({"fraction": 0.9, "min_units": 3}, [3, 3]),
        ({"fraction": 0.7, "multiple_of": 4}, [4, 4]),
        ({"fraction": 0.4, "multiple_of": 4}, [8, 4]),
        ({"only": "second"}, [8, 3]),
        ({"only": "first, second"}, [4, 3]),
    ],
)
def test_how_many_units_stay(settings: dict[str, Any], units: list[int]) -> None:
    model = PruneUnits(epochs=0, **settings).apply(two_lstms(), workshop()).model
    assert [model.get_layer(name).units for name in ("first", "second")] == units


@pytest.mark.parametrize("importance", ["norm", "taylor", "lasso"])
@pytest.mark.parametrize("unit", [0, 5])
def test_a_useless_unit_goes_first(importance: str, unit: int) -> None:
    model = two_lstms()
    plant(model, "first", unit)
    stage = PruneUnits(fraction=0.125, importance=importance, epochs=0, only="first", lasso_epochs=1, lasso=0.1)
    shop = workshop(learning_rate=1e-12)
    smaller = stage.apply(model, shop).model
    difference = [
        np.abs(
            np.delete(model.get_layer("first").weights[2].numpy().reshape(4, -1), gone, 1).ravel()
            - smaller.get_layer("first").weights[2].numpy()
        ).max()
        for gone in range(UNITS)
    ]
    assert int(np.argmin(difference)) == unit
    assert difference[unit] < 1e-6 < sorted(difference)[1]


def test_norms_are_those_of_all_weights_of_a_unit() -> None:
    model = two_lstms()
    trace = Trace(model)
    kernel, recurrent, bias = (each.numpy() for each in model.get_layer("first").weights)
    readers = model.get_layer("second").weights[0].numpy()
    expected = []
    for unit in range(UNITS):
        columns = [gate * UNITS + unit for gate in range(4)]
        belongs = np.zeros(recurrent.shape, bool)
        belongs[unit], belongs[:, columns] = True, True
        parts = [kernel[:, columns], recurrent[belongs], bias[columns], readers[unit]]
        expected.append(np.sqrt(sum((part.astype(np.float64) ** 2).sum() for part in parts)))
    ids = next(source.ids for source in trace.sources if source.name == "first")
    np.testing.assert_allclose(norms(trace)[trace.ties.roots()[ids]], expected, rtol=1e-9)


def test_taylor_is_the_slope_of_the_loss_along_a_unit() -> None:
    """The sum of weight times gradient is how fast the loss grows when all weights of the unit grow in proportion."""
    model, shop = two_lstms(), workshop(16)
    examples = shop.train
    trace = Trace(model)
    ids = next(source.ids for source in trace.sources if source.name == "second")
    worth = taylor(trace, examples, shop.label_loss)[trace.ties.roots()[ids]]
    second, answer = model.get_layer("second"), model.get_layer("answer")
    start, step = model.get_weights(), 1e-2

    def loss_at(unit: int, factor: float) -> float:
        model.set_weights(start)
        kernel, recurrent, bias = second.get_weights()
        columns = [gate * 6 + unit for gate in range(4)]
        belongs = np.zeros(recurrent.shape, bool)
        belongs[unit], belongs[:, columns] = True, True
        recurrent[belongs] *= factor
        kernel[:, columns] *= factor
        bias[columns] *= factor
        second.set_weights([kernel, recurrent, bias])
        reads, offset = answer.get_weights()
        reads[unit] *= factor
        answer.set_weights([reads, offset])
        return float(keras.losses.SparseCategoricalCrossentropy()(examples.y, model(examples.x["x"], training=False)))

    slopes = [(loss_at(unit, 1 + step) - loss_at(unit, 1 - step)) / (2 * step) for unit in range(6)]
    np.testing.assert_allclose(worth, np.square(slopes), rtol=0.02, atol=1e-6)
    assert worth.max() > 1e-4


def test_lasso_makes_units_small() -> None:
    model, shop = two_lstms(), workshop(50)
    smaller = {
        factor: PruneUnits(importance="lasso", lasso=factor, lasso_epochs=3, fraction=0.2, epochs=0)
        .apply(model, shop)
        .model
        for factor in (0.0, 0.1)
    }
    assert [each["name"] for each in shop.trainings] == ["lasso", "step 1"] * 2
    assert norms(Trace(smaller[0.1])).sum() < 0.9 * norms(Trace(smaller[0.0])).sum()
    assert all(weight.regularizer is None for weight in smaller[0.1].weights)


def test_gradual_ends_with_as_many_units_as_one_shot() -> None:
    shop = workshop()
    gradual = PruneUnits(fraction=0.6, steps=3, epochs=0).apply(two_lstms(), shop).model
    at_once = PruneUnits(fraction=0.6, epochs=0).apply(two_lstms(), workshop()).model
    assert [tuple(each.shape) for each in gradual.weights] == [tuple(each.shape) for each in at_once.weights]
    assert [each["name"] for each in shop.trainings] == ["step 1", "step 2", "step 3"]
    assert len(shop.lines) == 3


def test_fine_tuning_heals() -> None:
    shop = workshop()
    cut = PruneUnits(epochs=0).apply(two_lstms(), shop).model
    healed = PruneUnits(epochs=4, learning_rate=0.03).apply(two_lstms(), shop).model
    assert shop.loss(healed) < shop.loss(cut) - 0.05


def test_fine_tuning_is_as_set() -> None:
    shop, asked = workshop(), []
    shop.finetune = lambda model, **arguments: asked.append((model.get_layer("first").units, arguments))
    PruneUnits(epochs=7, learning_rate=0.03, steps=2).apply(two_lstms(), shop)
    PruneUnits(importance="lasso", lasso_epochs=9).apply(two_lstms(), shop)
    assert asked == [
        (6, {"epochs": 7, "learning_rate": 0.03, "name": "step 1"}),
        (4, {"epochs": 7, "learning_rate": 0.03, "name": "step 2"}),
        (8, {"epochs": 9, "learning_rate": None, "keep": "last", "name": "lasso"}),
        (4, {"epochs": 3, "learning_rate": None, "name": "step 1"}),
    ]


def test_taylor_of_several_outputs_is_refused() -> None:
    model = FORMS["inputs_and_outputs_by_name"].build()
    with pytest.raises(StageError, match="has 2 outputs; importance 'taylor' needs one"):
        PruneUnits(importance="taylor").apply(model, workshop(5))


def test_the_same_seed_gives_the_same_model() -> None:
    first, second = (PruneUnits(importance="taylor", epochs=0).apply(two_lstms(), workshop()).model for _ in range(2))
    for one, other in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_model_that_went_in_stays_as_it_was() -> None:
    model = two_lstms()
    model.get_layer("second").trainable = False
    before, config = model.get_weights(), model.get_config()
    outcome = PruneUnits(epochs=1, importance="lasso", lasso_epochs=1).apply(model, workshop())
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert model.get_config() == config
    assert not model.get_layer("second").trainable
    assert not outcome.model.get_layer("second").trainable
    assert outcome.model.get_layer("first").trainable
    assert [each.trainable for each in outcome.model.weights] == [each.trainable for each in model.weights]
    assert not {id(each) for each in model.variables} & {id(each) for each in outcome.model.variables}


FORMS_TO_CONVERT = (
    "stack_of_three",
    "masked_stack",
    "translator",
    "nested_twice",
    "sequential",
    "conv_and_pooling",
    "attention_multi_head",
    "inputs_and_outputs_by_name",
)


@pytest.mark.parametrize("name", FORMS_TO_CONVERT)
def test_the_result_is_saved_loaded_and_converted(name: str, tmp_path: Path) -> None:
    form = FORMS[name]
    model = form.build()
    smaller = PruneUnits(epochs=0).apply(model, workshop(5)).model
    assert smaller.count_params() < model.count_params()
    assert [tensor.name for tensor in smaller.inputs] == [tensor.name for tensor in model.inputs]
    assert getattr(smaller, "output_names", None) == getattr(model, "output_names", None)
    smaller.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    data = [array[0] for array in inputs_for(form, model, calls=1)]
    one, other = call_model(form, smaller, data), call_model(form, loaded, data)
    for key in one if isinstance(one, dict) else range(len(one)):
        np.testing.assert_array_equal(one[key], other[key])
    samples = [array.reshape(-1, *array.shape[2:]) for array in inputs_for(form, model, calls=40)]
    named = {each.name: array for each, array in zip(form.inputs, samples, strict=True)}
    for precision in {"float32", "dynamic", "int8"} & set(form.precisions):
        calibration = named if precision == "int8" else None
        edgelstm.convert(smaller, tmp_path / f"{precision}.tflite", quantize=precision, calibration=calibration)


def test_wide_layers_of_all_kinds_go() -> None:
    case = BY_NAME["frames"]
    model = PruneUnits(layers="all", epochs=0).apply(case.build(), workshop(5)).model
    assert model.get_layer("a").units == 3
    assert model.get_layer("frames").layer.filters == 2
    assert PruneUnits(epochs=0).apply(case.build(), workshop(5)).figures["layers"] == {"a": [6, 3]}


def test_both_directions_keep_as_many_units() -> None:
    """Where a state of one leaves the model, neither is cut: Keras takes the width of one for that of the other."""
    x = keras.Input((TIME, FEATURES), name="x")
    y, h, *_ = layers.Bidirectional(layers.LSTM(6, return_state=True, name="a"), name="both")(x)
    inner = layers.LSTM(4, name="b")(layers.RepeatVector(3)(y))
    model = keras.Model(x, [layers.Dense(2)(inner), h])
    outcome = PruneUnits(epochs=0).apply(model, workshop(5))
    assert outcome.figures["layers"] == {"b": [4, 2]}
    assert "Layer 'both/forward_a' keeps its units: it is an output of the model." in outcome.notes


@pytest.mark.parametrize("fraction", [0, 1, -0.1, 0.0, 1.5])
def test_impossible_fractions_are_refused(fraction: float) -> None:
    with pytest.raises(SettingError, match="'fraction' of stage 'prune-units' must be more than 0 and less than 1"):
        PruneUnits(fraction=fraction)


def test_an_unknown_layer_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(StageError, match="has no layer 'secnd', which setting 'only' names; the nearest is 'second'"):
        PruneUnits(only="first,secnd").apply(two_lstms(), workshop(5))


def test_a_model_of_which_nothing_can_be_cut_is_refused() -> None:
    with pytest.raises(StageError, match=r"can be cut: Layer 'lstm\w*' keeps its units: it is an output of the model."):
        PruneUnits().apply(FORMS["lstm"].build(), workshop(5))
    with pytest.raises(StageError, match="can be cut: it has no layers"):
        PruneUnits().apply(FORMS["dense_only"].build(), workshop(5))
    with pytest.raises(StageError, match="min_units 20: the layers are first with 8, second with 6"):
        PruneUnits(min_units=20).apply(two_lstms(), workshop(5))


def test_a_subclassed_model_is_refused() -> None:
    with pytest.raises(StageError, match="subclassed"):
        PruneUnits().apply(FORMS["subclassed"].build(), workshop(5))


def test_a_failed_training_is_passed_on() -> None:
    with pytest.raises(EdgeLSTMError, match="loss became"):
        PruneUnits(epochs=2).apply(_exploding(), workshop())


def _exploding() -> Any:
    model = two_lstms()
    answer = model.get_layer("answer")
    answer.set_weights([np.full_like(answer.get_weights()[0], np.nan), answer.get_weights()[1]])
    return model
