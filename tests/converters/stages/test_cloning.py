from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from keras import layers, ops

from edgelstm.converters.stages.cloning import copy_weights, independent_copy
from edgelstm.errors import StageError
from tests.converters.forms import BY_NAME, TwoReaders, call_model, inputs_for
from tests.converters.stages.weights import Around
from tests.converters.tiny import floats, with_random_weights

FORMS = (
    "lstm",
    "bidirectional_two_kinds",
    "nested_twice",
    "submodel_called_twice",
    "siamese",
    "outputs_in_a_list",
    "custom_cell",
    "masked_bidirectional",
    "fixed_batch",
    "translator",
)


def variables(model: Any) -> list[Any]:
    return list(model.variables)


def assert_same(model: Any, copy: Any) -> None:
    assert not {id(each) for each in variables(model)} & {id(each) for each in variables(copy)}
    for one, other in zip(variables(model), variables(copy), strict=True):
        assert (one.name, one.trainable, one.dtype) == (other.name, other.trainable, other.dtype)
        np.testing.assert_array_equal(one.numpy(), other.numpy())
    pairs = list(zip(model._flatten_layers(), copy._flatten_layers(), strict=True))
    assert all((a.name, type(a), a.trainable) == (b.name, type(b), b.trainable) for a, b in pairs)
    assert not {id(a) for a, _ in pairs} & {id(b) for _, b in pairs}


@pytest.mark.parametrize("name", FORMS)
def test_a_copy_answers_the_same(name):
    form = BY_NAME[name]
    model = form.build()
    copy = independent_copy(model)
    assert_same(model, copy)
    assert [tensor.name for tensor in copy.inputs] == [tensor.name for tensor in model.inputs]
    assert getattr(copy, "output_names", None) == getattr(model, "output_names", None)
    data = [array[0] for array in inputs_for(form, model, 1)]
    first, second = call_model(form, model, data), call_model(form, copy, data)
    assert keras.tree.flatten(first)  # there is something to compare
    keras.tree.map_structure(np.testing.assert_array_equal, first, second)


def test_training_the_copy_leaves_the_model_alone():
    model = BY_NAME["nested_twice"].build()
    before = [each.numpy().copy() for each in variables(model)]
    copy = independent_copy(model)
    copy.compile("sgd", "mse")
    copy.fit(floats(16, *model.input_shape[1:]), floats(16, 3), verbose=0)
    assert all(np.array_equal(a, b.numpy()) for a, b in zip(before, variables(model), strict=True))
    assert not any(np.array_equal(a, b.numpy()) for a, b in zip(before, copy.trainable_variables, strict=False))
    copy_weights(copy, model)
    assert_same(model, copy)


def test_flags_and_seeds_are_copied_and_states_are_not():
    model = keras.Sequential(
        [
            keras.Input((4, 3), batch_size=2),
            layers.LSTM(4, stateful=True, return_sequences=True),
            layers.Dropout(0.5),
            layers.BatchNormalization(),
            layers.Bidirectional(layers.LSTM(2)),
        ]
    )
    with_random_weights(model)
    model.layers[0].trainable = False
    model.layers[3].forward_layer.trainable = False
    model.layers[2].gamma.trainable = False
    x = floats(2, 4, 3)
    model(x, training=True)  # draws random numbers, and leaves a state behind
    copy = independent_copy(model)
    assert_same(model, copy)
    model.layers[0].reset_state()
    flags = [layer.trainable for layer in (*copy.layers, copy.layers[3].forward_layer, copy.layers[3].backward_layer)]
    assert flags == [False, True, True, True, False, True]
    assert copy.layers[2].beta.trainable
    assert not copy.layers[2].gamma.trainable
    np.testing.assert_array_equal(model(x, training=True), copy(x, training=True))  # the same dropout


def test_regularizers_constraints_and_types_are_copied_and_how_it_was_trained_is_not():
    model = keras.Sequential(
        [
            keras.Input((3,)),
            layers.Dense(4, kernel_regularizer="l2", kernel_constraint="non_neg", dtype="mixed_float16"),
        ]
    )
    model.compile("adam", loss=lambda targets, answers: ops.mean(answers))
    copy = independent_copy(model)
    kernel = copy.layers[0].kernel
    assert isinstance(kernel.regularizer, keras.regularizers.L2)
    assert isinstance(kernel.constraint, keras.constraints.NonNeg)
    assert copy.layers[0].compute_dtype == "float16"
    assert not copy.compiled


class Doubler(layers.Layer):
    """A layer that is registered nowhere, as is its initializer."""

    def __init__(self, factor: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.factor = factor

    def call(self, x: Any) -> Any:
        return self.factor * x

    def compute_output_shape(self, shape: Any) -> Any:
        return shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "factor": self.factor}


class Ramp(keras.initializers.Initializer):
    def __call__(self, shape: Any, dtype: Any = None) -> Any:
        return ops.reshape(ops.arange(int(np.prod(shape)), dtype=dtype), shape)


def swish_squared(x: Any) -> Any:
    return ops.swish(x) ** 2


def test_classes_and_functions_need_not_be_registered():
    x = keras.Input((4, 3), name="x")
    inner_input = keras.Input((4, 3))
    inner = keras.Model(inner_input, Doubler(2.0)(layers.Dense(3, kernel_initializer=Ramp())(inner_input)))
    y = layers.TimeDistributed(Doubler(0.1))(layers.Dense(3, activation=swish_squared)(inner(x)))
    scale = ops.convert_to_tensor([1.0, 2.0, 3.0])
    y = layers.Lambda(lambda t: ops.tanh(t) * scale)(y)  # reads what stands around it
    model = keras.Model(x, layers.Lambda(lambda t: t + 1.0)(y))
    copy = independent_copy(model)
    assert_same(model, copy)
    np.testing.assert_array_equal(model(floats(2, 4, 3)), copy(floats(2, 4, 3)))


class Plain(keras.Model):
    """A subclassed model as people write it: no get_config, no name."""

    def __init__(self, units: int = 4) -> None:
        super().__init__()
        self.embedding = layers.Embedding(9, 3)
        self.reader = layers.LSTM(units)

    def call(self, tokens: Any) -> Any:
        return self.reader(self.embedding(tokens))


@pytest.mark.parametrize(
    "make, x",
    [
        (TwoReaders, floats(2, 7, 5)),
        (lambda: TwoReaders(units=3), floats(2, 7, 5)),
        (Plain, np.arange(8).reshape(2, 4)),
    ],
    ids=["configured", "configured_other", "plain"],
)
def test_subclassed_models_are_copied_where_keras_knows_their_arguments(make, x):
    model = make()
    model(x)
    with_random_weights(model)
    copy = independent_copy(model)
    assert_same(model, copy)
    np.testing.assert_array_equal(model(x), copy(x))


class Scaled(keras.Model):
    """Keras knows the arguments by default only."""

    def __init__(self, units: int = 4, activation: str = "tanh", factor: float = 1.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._factor = factor
        self.reader = layers.LSTM(units)
        self.answer = layers.Dense(2, activation=activation)

    def call(self, x: Any) -> Any:
        return self._factor * self.answer(self.reader(x))


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"units": 3}, "with variables of other names or shapes"),
        ({"activation": "relu"}, "build layer 'dense_?[0-9]*' with other settings"),
        ({"factor": 2.0}, "build layer 'scaled_?[0-9]*' with other _factor"),
    ],
)
def test_arguments_that_keras_has_forgotten_are_noticed(arguments, message):
    model = Scaled(**arguments)
    model(floats(2, 4, 3))
    with pytest.raises(StageError, match=message):
        independent_copy(model)
    model = Scaled()
    model(floats(2, 4, 3))
    assert_same(model, independent_copy(model))


class Sharing(Around):
    def get_config(self) -> dict[str, Any]:
        return {"inner": self.inner}

    @classmethod
    def from_config(cls, config: Any, custom_objects: Any = None) -> Any:
        del config, custom_objects
        return cls(LAYER)


LAYER = layers.Dense(2)


@pytest.mark.parametrize(
    "model, message",
    [
        (Around(layers.Dense(2)), r"\(Around\) cannot be copied: its class does not tell Keras how to build it again"),
        (Sharing(LAYER), r"cannot be copied: its get_config\(\) passes on layers of the model itself"),
    ],
    ids=["no_config", "sharing"],
)
def test_what_cannot_be_copied_is_refused(model, message):
    model(floats(1, 3))
    with pytest.raises(StageError, match=message):
        independent_copy(model)


def test_layers_that_would_come_apart_are_refused():
    x = keras.Input((4, 3))
    shared = layers.Dense(2)
    model = keras.Model(x, [layers.TimeDistributed(shared)(x), shared(layers.LSTM(3)(x))])
    with pytest.raises(StageError, match="with 8 variables in place of 6, as if layers were not shared"):
        independent_copy(model)


def test_a_model_without_weights_is_refused():
    with pytest.raises(StageError, match="call it on data once"):
        independent_copy(keras.Sequential([layers.LSTM(3)], name="unbuilt"))
