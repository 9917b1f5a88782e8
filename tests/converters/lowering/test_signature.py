from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers, ops

import edgelstm
from edgelstm.converters.lowering.signature import _paths, identifier, model_signature, output_names, unique
from edgelstm.errors import LoweringError
from tests.converters.tiny import FEATURES, TIME, UNITS, floats, functional, run_calls, sequential


def inputs(*names: str | None) -> list[keras.KerasTensor]:
    return [keras.Input((TIME, FEATURES), name=name) for name in names]


def added(*names: str | None) -> keras.Model:
    tensors = inputs(*names)
    return keras.Model(tensors, layers.Add()(tensors))


def input_names(model: keras.Model) -> list[str]:
    return [spec.name for spec in model_signature(model).inputs]


# Names of inputs


def test_chosen_names_stay():
    assert input_names(added("pulse", "Motion_2")) == ["pulse", "Motion_2"]


def test_automatic_names_are_numbered_by_position_not_by_the_process():
    assert input_names(added(None, None, None)) == ["input", "input_2", "input_3"]
    assert input_names(added(None, None)) == ["input", "input_2"]


def test_automatic_names_beside_a_chosen_one_keep_their_position():
    assert input_names(added("pulse", None)) == ["pulse", "input_2"]


def test_odd_characters_become_underscores():
    assert input_names(added("heart rate", "größe", "3d", "a-b.c")) == ["heart_rate", "gr_e", "x_3d", "a_b_c"]


def test_names_that_become_equal_are_numbered():
    assert input_names(added("a-b", "a b", "a_b")) == ["a_b", "a_b_2", "a_b_3"]


def test_numbered_names_meet_no_chosen_one():
    assert unique(["a", "a_2", "a"]) == ["a", "a_2", "a_3"]
    assert unique(["a", "a", "a_2"]) == ["a", "a_2", "a_2_2"]


def test_a_name_of_odd_characters_only_becomes_automatic():
    assert identifier("日本") == ""
    assert input_names(added("日本", "b")) == ["input", "b"]


def test_inputs_by_name_get_the_keys_in_the_order_of_the_models_structure():
    tensors = dict(zip(("zulu", "alpha"), inputs("zulu", "alpha"), strict=True))
    signature = model_signature(keras.Model(tensors, layers.Add()(list(tensors.values()))))
    assert [spec.name for spec in signature.inputs] == ["alpha", "zulu"]
    assert signature.pack(["A", "Z"]) == {"alpha": "A", "zulu": "Z"}


def test_nested_structures_get_joined_keys():
    assert _paths({"right": {"x": 0, "b": 0}, "left": [0]}) == ["left", "right_b", "right_x"]


@pytest.mark.parametrize("name", ["from", "class", "self", "file", "training"])
def test_words_that_mean_something_in_python_are_names_like_any_other(name, tmp_path):
    (x,) = inputs(name)
    artifact = edgelstm.convert(functional(x, layers.LSTM(UNITS)(x)), tmp_path / "m.tflite")
    assert [each["name"] for each in artifact.card["inputs"]] == [name]


# Names of outputs


def names_of(model: keras.Model) -> list[str]:
    return output_names(model, model.output if isinstance(model.output, dict) else model.outputs)


def test_outputs_are_named_by_keys_chosen_layer_names_or_position():
    (x,) = inputs("x")
    y, z = layers.Dense(2, name="top class")(x), layers.Dense(2)(x)
    assert names_of(keras.Model(x, [y, z])) == ["top_class", "output_2"]
    assert names_of(keras.Model(x, {"z": z, "y": y})) == ["y", "z"]
    assert names_of(keras.Model(x, z)) == ["output"]


def test_one_layer_that_gives_two_outputs_gives_two_names():
    (x,) = inputs("x")
    y = layers.Dense(2, name="answer")(x)
    assert names_of(keras.Model(x, [y, y])) == ["answer", "answer_2"]


# Shapes


def test_a_free_length_is_refused_and_a_length_proposed():
    x = keras.Input((None, FEATURES), name="x")
    model = keras.Model(x, layers.LSTM(UNITS)(x))
    text = r"Input 'x' has a free sequence length \(shape \(None, None, 3\)\).*--length N, for example --length 100\."
    with pytest.raises(LoweringError, match=text):
        model_signature(model)


def test_the_length_a_model_was_built_with_is_proposed():
    x = keras.Input((None, FEATURES), name="x")
    model = keras.Model(x, layers.LSTM(UNITS)(x))
    model.get_build_config = lambda: {"input_shape": (None, 37, FEATURES)}
    with pytest.raises(LoweringError, match="for example --length 37"):
        model_signature(model)


def test_length_and_batch_fix_free_axes():
    x = keras.Input((None, FEATURES), name="x")
    signature = model_signature(keras.Model(x, layers.LSTM(UNITS)(x)), batch=4, length=9)
    assert signature.inputs[0].shape == (4, 9, FEATURES)
    assert signature.free_batch


def test_a_length_fixed_in_the_model_stays():
    assert model_signature(added("x", "y"), length=99).inputs[0].shape == (1, TIME, FEATURES)


def test_a_batch_fixed_in_the_model_stays():
    x = keras.Input((TIME, FEATURES), batch_size=5, name="x")
    signature = model_signature(keras.Model(x, layers.LSTM(UNITS)(x)))
    assert signature.inputs[0].shape == (5, TIME, FEATURES)
    assert not signature.free_batch


def test_another_batch_than_the_fixed_one_is_refused():
    x = keras.Input((TIME, FEATURES), batch_size=5, name="x")
    model = keras.Model(x, layers.LSTM(UNITS)(x))
    with pytest.raises(LoweringError, match=r"Input 'x' has its batch fixed to 5.*--batch 2 cannot be used"):
        model_signature(model, batch=2)


def test_free_axes_beyond_time_are_refused():
    x = keras.Input((TIME, None, FEATURES), name="x")
    model = keras.Model(x, layers.Dense(2)(x))
    with pytest.raises(LoweringError, match=r"Input 'x' has free axes beyond batch and time \(shape \(None, 6, None"):
        model_signature(model)


# Subclassed models


class TwoInputs(keras.Model):
    def __init__(self):
        super().__init__()
        self.lstm = layers.LSTM(UNITS)

    def call(self, data):
        return ops.concatenate([self.lstm(data["series"]), data["static"]], axis=-1)


class OneInput(keras.Model):
    def __init__(self):
        super().__init__()
        self.lstm = layers.LSTM(UNITS)

    def call(self, x):
        return self.lstm(x)


DATA = {"series": floats(4, TIME, FEATURES), "static": floats(4, 2, seed=1)}


def test_a_subclassed_model_with_several_inputs_asks_for_data():
    model = TwoInputs()
    model(DATA)
    with pytest.raises(LoweringError, match=r"does not know the shape of its inputs.*--calibration F\.npz"):
        model_signature(model)


def test_a_subclassed_model_takes_names_and_shapes_from_data():
    signature = model_signature(TwoInputs(), data=DATA)
    assert [(spec.name, spec.shape) for spec in signature.inputs] == [
        ("series", (1, TIME, FEATURES)),
        ("static", (1, 2)),
    ]
    assert signature.pack(["s", "t"]) == {"series": "s", "static": "t"}


def test_a_subclassed_model_remembers_the_shape_it_was_called_with():
    model = OneInput()
    model(DATA["series"])
    (spec,) = model_signature(model).inputs
    assert (spec.name, spec.shape, spec.dtype) == ("input", (4, TIME, FEATURES), "float32")


# The order of inputs in files


@pytest.mark.parametrize("names", [("zulu", "alpha"), ("alpha", "zulu"), ("b", "a")])
def test_files_list_inputs_in_the_models_order_and_do_not_exchange_them(names, tmp_path):
    tensors = inputs(*names)
    y = layers.LSTM(UNITS)(layers.Subtract()(tensors))
    model = functional(tensors, y)
    path = edgelstm.convert(model, tmp_path / "m.tflite").path
    assert [tensor.name for tensor in edgelstm.inspect(path).inputs] == list(names)
    first, second = floats(2, 1, TIME, FEATURES)
    got = run_calls(path, {names[0]: first[np.newaxis], names[1]: second[np.newaxis]})["output"][0]
    np.testing.assert_allclose(got, model([first, second]), rtol=0, atol=1e-5)
    assert np.abs(got - model([second, first])).max() > 1e-3


def test_files_list_outputs_in_the_models_order(tmp_path):
    (x,) = inputs("x")
    y = layers.LSTM(UNITS)(x)
    outputs = [layers.Dense(size, name=name)(y) for size, name in ((5, "zulu"), (2, "alpha"), (3, "mike"))]
    path = edgelstm.convert(functional(x, outputs), tmp_path / "m.tflite", verify=False).path
    listed = [(tensor.name, tuple(tensor.shape)) for tensor in edgelstm.inspect(path).outputs]
    assert listed == [("zulu", (1, 5)), ("alpha", (1, 2)), ("mike", (1, 3))]


def test_sequential_models_are_named_too(tmp_path):
    model = sequential(layers.Input((TIME, FEATURES)), layers.LSTM(UNITS), layers.Dense(2, name="answer"))
    card = edgelstm.convert(model, tmp_path / "m.tflite", verify=False).card
    assert [each["name"] for each in card["inputs"] + card["outputs"]] == ["input", "answer"]
