"""Building models again: the same calls, weights and names, and other layers in the place of some."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers, ops

from edgelstm.converters.layers import layers_inside
from edgelstm.converters.stages.surgery import copy_weights, named_layers, rebuild
from edgelstm.errors import StageError
from tests.converters.forms import BY_NAME, Form, call_model, inputs_for, set_random_weights

TIME, FEATURES = 7, 5

# Every way of putting layers together; what differs only inside of one layer is left out. Keras itself does not keep
# implementation=1 of an LSTM.
FORMS = [
    BY_NAME[name]
    for name in (
        "lstm_stateful",
        "lstm_cells",
        "bidirectional_unmerged_states",
        "bidirectional_two_kinds",
        "bidirectional_states_as_inputs",
        "nested_twice",
        "submodel_called_twice",
        "siamese_unnamed",
        "outputs_in_a_list",
        "inputs_and_outputs_by_name",
        "sequential",
        "sequential_without_input",
        "names_with_spaces",
        "time_distributed_cnn",
        "batch_normalization",
        "attention_multi_head",
        "masked_attention",
        "attention_by_permute",
        "translator_with_bidirectional_encoder",
        "translator_with_masks",
        "states_carried_twice",
        "masked_stack",
        "masked_pooling",
        "masked_floats_sequences",
        "custom_cell",
        "batch_of_3_translator",
        "free_time_masked",
    )
]


def same(layer: Any) -> None:
    """No layer is changed."""


def values(answers: Any) -> list[np.ndarray]:
    return list(answers.values()) if isinstance(answers, dict) else answers


def small_model(graph: Any, shape: tuple[int, ...] = (TIME, FEATURES)) -> Any:
    x = keras.Input(shape, name="x")
    model = keras.Model(x, graph(x), name="small")
    set_random_weights(model, np.random.default_rng(0), 0.5)
    return model


def data(shape: tuple[int, ...] = (TIME, FEATURES)) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(3, *shape)).astype("float32")


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_an_unchanged_model_answers_the_same(form: Form, tmp_path: Path) -> None:
    model = form.build()
    before = [variable.numpy().copy() for variable in model.variables]
    new, made = rebuild(model, same)

    assert list(made) == list(named_layers(model))
    assert all(len(layers_made) == 1 for layers_made in made.values())
    assert [layer.name for layer in new.layers] == [layer.name for layer in model.layers]
    assert [tensor.name for tensor in new.inputs] == [tensor.name for tensor in model.inputs]
    assert [tensor.shape for tensor in new.inputs] == [tensor.shape for tensor in model.inputs]
    assert getattr(new, "output_names", None) == getattr(model, "output_names", None)
    assert new.name == model.name
    assert type(new) is type(model)
    assert not {id(each) for each in model.variables} & {id(each) for each in new.variables}
    assert len(new.variables) == len(model.variables)
    for call in range(2):
        arrays = [array[call] for array in inputs_for(form, model)]
        expected, found = call_model(form, model, arrays), call_model(form, new, arrays)
        assert list(expected) == list(found) if isinstance(expected, dict) else len(expected) == len(found)
        for one, other in zip(values(expected), values(found), strict=True):
            np.testing.assert_array_equal(other, one)
    for variable, value in zip(model.variables, before, strict=True):
        if variable.name not in ("state", "states") and "state" not in variable.path.rsplit("/", 1)[-1]:
            np.testing.assert_array_equal(variable.numpy(), value)
    new.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    for one, other in zip(values(call_model(form, new, arrays)), values(call_model(form, loaded, arrays)), strict=True):
        np.testing.assert_array_equal(other, one)


def test_a_loaded_model_with_masks_is_built_again(tmp_path: Path) -> None:
    """In a loaded model the masks are arguments of the calls."""
    form = BY_NAME["masked_stack"]
    form.build().save(tmp_path / "model.keras")
    model = keras.saving.load_model(tmp_path / "model.keras")
    again, _ = rebuild(rebuild(model, same)[0], same)
    arrays = [array[2] for array in inputs_for(form, model)]
    for one, other in zip(call_model(form, model, arrays), call_model(form, again, arrays), strict=True):
        np.testing.assert_array_equal(other, one)


def test_several_layers_take_the_place_of_one() -> None:
    """An LSTM becomes a Dense and an LSTM; the initial state goes to the second."""
    form = BY_NAME["translator"]
    model = form.build()
    decoder = [layer for layer in model.layers if isinstance(layer, layers.LSTM)][1]

    def change(layer: Any) -> list[Any] | None:
        if layer is not decoder:
            return None
        config = layer.get_config()
        return [layers.Dense(3, use_bias=False, name="before"), layers.LSTM.from_config(config)]

    new, made = rebuild(model, change)
    assert [layer.name for layer in made[decoder.name]] == ["before", decoder.name]
    dense, lstm = made[decoder.name]
    dense.set_weights([np.eye(3)])
    lstm.set_weights(decoder.get_weights())
    arrays = [array[0] for array in inputs_for(form, model)]
    np.testing.assert_allclose(call_model(form, new, arrays)[0], call_model(form, model, arrays)[0], atol=1e-6)


def test_the_mask_reaches_the_last_of_several_layers() -> None:
    form = BY_NAME["masked_functional"]
    model = form.build()

    def change(layer: Any) -> list[Any] | None:
        if not isinstance(layer, layers.Embedding):
            return None
        return [
            layers.Embedding.from_config(layer.get_config() | {"name": "table"}),
            layers.Dense(FEATURES, name=layer.name),
        ]

    new, made = rebuild(model, change)
    ((table, dense),) = [each for each in made.values() if len(each) > 1]
    table.set_weights(next(layer for layer in model.layers if isinstance(layer, layers.Embedding)).get_weights())
    dense.set_weights([np.eye(FEATURES), np.zeros(FEATURES)])
    for call in range(5):
        arrays = [array[call] for array in inputs_for(form, model)]
        np.testing.assert_allclose(call_model(form, new, arrays)[0], call_model(form, model, arrays)[0], atol=1e-6)


def test_a_shared_layer_is_asked_for_once_and_stays_shared() -> None:
    asked: list[str] = []

    def change(layer: Any) -> None:
        asked.append(layer.name)

    model = BY_NAME["siamese"].build()
    new, _ = rebuild(model, change)
    assert len(asked) == len(set(asked)) == 2
    assert len(new.weights) == len(model.weights)


def test_a_layer_in_two_models_stays_shared() -> None:
    shared = layers.Dense(FEATURES, name="shared")
    inner = keras.Sequential([keras.Input((TIME, FEATURES)), shared], name="inner")
    model = small_model(lambda x: layers.Add()([inner(x), shared(x)]))
    new, made = rebuild(model, same)
    assert [path for path in made if "shared" in path] == [path for path in named_layers(model) if "shared" in path]
    assert len(new.weights) == 2
    np.testing.assert_array_equal(new(data()), model(data()))


def test_layers_inside_nested_and_wrapped_models_are_replaced() -> None:
    inner = keras.Sequential([keras.Input((FEATURES,)), layers.Dense(4, name="deep")], name="inner")
    model = small_model(layers.TimeDistributed(inner, name="each"))
    assert list(named_layers(model)) == ["each", "each/deep"]

    def change(layer: Any) -> list[Any] | None:
        if layer.name != "deep":
            return None
        return [layers.Dense(2, name="narrow", use_bias=False), layers.Dense(4, name="deep")]

    new, made = rebuild(model, change)
    assert [tuple(layer.kernel.shape) for layer in made["each/deep"]] == [(FEATURES, 2), (2, 4)]
    assert new.count_params() == FEATURES * 2 + 2 * 4 + 4


def test_flags_arguments_and_operations_are_kept() -> None:
    def graph(x: Any) -> dict[str, Any]:
        x = layers.Dropout(0.5)(x, training=True)
        frozen = layers.Dense(4, name="frozen", trainable=False)
        both = layers.Bidirectional(layers.LSTM(3, kernel_regularizer="l2", name="a"), name="both")
        y = both(ops.relu(frozen(x))[:, 1:])
        return {"later": layers.Lambda(lambda z: 2 * z, name="double")(y), "first": y}

    model = small_model(graph)
    model.get_layer("both").backward_layer.trainable = False
    new, _ = rebuild(model, same)
    for one, other in zip(layers_inside(model), layers_inside(new), strict=True):
        assert one.trainable == other.trainable
        assert one.name == other.name
    assert [each.trainable for each in new.weights] == [each.trainable for each in model.weights]
    assert list(new.output) == list(model.output) == ["later", "first"]
    assert len(new.losses) == len(model.losses) == 1
    ones = np.ones((2, TIME, FEATURES), np.float32)
    found = new(ones)
    np.testing.assert_allclose(found["later"], 2 * np.asarray(found["first"]), rtol=1e-6)
    # The Dropout was called with training=True.
    assert np.abs(np.asarray(found["first"]) - np.asarray(new(ones)["first"])).max() > 1e-3


def test_what_was_adapted_is_copied() -> None:
    norm = layers.Normalization(name="norm")
    norm.adapt(5 + 3 * data())
    model = keras.Sequential([keras.Input((TIME, FEATURES)), norm, layers.Dense(2)])
    new, _ = rebuild(model, same)
    np.testing.assert_array_equal(new(data()), model(data()))


def test_another_shape_for_an_input() -> None:
    inner = keras.Sequential([keras.Input((TIME, 4), name="inside"), layers.LSTM(3, name="a")], name="inner")
    model = small_model(lambda x: inner(layers.Dense(4, name="wide")(x)))

    def change(layer: Any) -> list[Any] | None:
        if layer.name in ("wide", "a"):
            made: Any = layers.Dense(2, name="wide") if layer.name == "wide" else layers.LSTM(3, name="a")
            return [made]
        return None

    new, made = rebuild(model, change, lambda layer: (None, TIME, 2) if layer.name == "inside" else None)
    assert tuple(made["inner/a"][0].weights[0].shape) == (2, 12)
    assert new(data()).shape == (3, 3)


def test_a_subclassed_model_is_refused() -> None:
    with pytest.raises(StageError, match="is a TwoReaders: the layers of a subclassed model cannot be replaced"):
        rebuild(BY_NAME["subclassed"].build(), same)


def test_a_model_that_is_not_built_is_refused() -> None:
    with pytest.raises(StageError, match="is not built"):
        rebuild(keras.Sequential([layers.Dense(2)]), same)


def test_a_layer_without_a_configuration_is_refused() -> None:
    class Scaled(layers.Layer):
        def __init__(self, factor: float) -> None:
            super().__init__(name="scaled")
            self.factor = {"factor": factor, "function": max}

        def get_config(self) -> dict[str, Any]:
            return {"name": self.name}

        def call(self, inputs: Any) -> Any:
            return inputs * self.factor["factor"]

    with pytest.raises(StageError, match=r"Layer 'scaled' \(Scaled\) cannot be built again from its configuration"):
        rebuild(small_model(Scaled(2.0)), same)


def test_weights_of_another_shape_are_refused() -> None:
    one, other = layers.Dense(3, name="one"), layers.Dense(4, name="other")
    one.build((None, 2))
    other.build((None, 2))
    with pytest.raises(StageError, match="Layer 'one' cannot be built again with its weights"):
        copy_weights(one, other)
