"""SavedModels without a Keras configuration: a signature becomes a model, and the LSTMs in it become layers."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops

import edgelstm
from edgelstm.converters.layers import layers_inside
from edgelstm.converters.loading import load_model
from edgelstm.errors import LoadError, LoweringError
from tests.converters.forms import set_random_weights
from tests.converters.loading.saved_models import served_answers

TIME, FEATURES, UNITS, VOCABULARY = 6, 3, 4, 11
# The same operations in the same order; TensorFlow may join some of them otherwise.
TOLERANCE = 1e-6

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def lstm() -> Any:
    return keras.Sequential([keras.Input((TIME, FEATURES)), layers.LSTM(UNITS), layers.Dense(2)])


def any_length() -> Any:
    lstm = layers.LSTM(UNITS, return_sequences=True, use_bias=False)
    return keras.Sequential([keras.Input((None, FEATURES)), lstm, layers.Dense(2)])


def dropped_out() -> Any:
    """Draws random numbers in its graph, which reach no answer."""
    first = layers.Bidirectional(layers.LSTM(UNITS, return_sequences=True, recurrent_dropout=0.2))
    second = layers.LSTM(5, dropout=0.2, go_backwards=True)
    return keras.Sequential([keras.Input((TIME, FEATURES)), first, second])


def masked() -> Any:
    embedding = layers.Embedding(VOCABULARY, FEATURES, mask_zero=True)
    first = layers.LSTM(UNITS, return_sequences=True)
    return keras.Sequential([keras.Input((TIME,), dtype="int32"), embedding, first, layers.LSTM(3, go_backwards=True)])


def zeroed() -> Any:
    lstm = layers.LSTM(UNITS, return_sequences=True, zero_output_for_mask=True)
    return keras.Sequential([keras.Input((TIME, FEATURES)), layers.Masking(0.0), lstm])


def two_ways() -> Any:
    """Shares a layer, hands on its states, and names inputs and outputs."""
    left, right = keras.Input((TIME, FEATURES), name="left"), keras.Input((5, FEATURES), name="right")
    encoder = layers.LSTM(UNITS, return_state=True, name="encoder")
    _, h, c = encoder(left)
    y, _, _ = encoder(right)
    z = layers.LSTM(UNITS, return_sequences=True, name="decoder")(right, initial_state=[h, c])
    return keras.Model({"left": left, "right": right}, {"steps": layers.Dense(2)(z), "last": y})


def square() -> Any:
    """As many features as units: kernel and recurrent kernel have one shape."""
    return keras.Sequential([keras.Input((TIME, UNITS)), layers.LSTM(UNITS)])


def gru() -> Any:
    return keras.Sequential([keras.Input((TIME, FEATURES)), layers.GRU(UNITS)])


def hard_gates() -> Any:
    return keras.Sequential([keras.Input((TIME, FEATURES)), layers.LSTM(UNITS, recurrent_activation="hard_sigmoid")])


def relu_cell() -> Any:
    return keras.Sequential([keras.Input((TIME, FEATURES)), layers.LSTM(UNITS, activation="relu")])


RECOGNIZED = {lstm: 1, any_length: 1, dropped_out: 3, masked: 2, zeroed: 1, two_ways: 2, square: 1}
NOT_LSTMS = (gru, hard_gates, relu_cell)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Any], Path]:
    """Writes a Keras 3 model with random weights as `model.export()` does, once."""
    folder = tmp_path_factory.mktemp("exported")

    def export(make: Any) -> Path:
        path = folder / str(make.__name__)
        if not path.exists():
            model = make()
            set_random_weights(model, np.random.default_rng(0), 0.5)
            model.export(str(path), verbose=False)
        return path

    return export


@pytest.fixture(scope="module")
def loaded(exported: Callable[[Any], Path]) -> Callable[[Any], Any]:
    """Loads what `exported` wrote, once."""
    return functools.cache(lambda make: load_model(exported(make)))


@pytest.fixture
def saved(tmp_path: Path) -> Callable[..., Path]:
    """Writes a function of tensors as a SavedModel, with whatever it refers to."""

    def save(function: Any, *specs: tf.TensorSpec, name: str = "serving_default", holds: Any = ()) -> Path:
        module = tf.Module()
        module.holds = list(holds)
        concrete = tf.function(function, autograph=False).get_concrete_function(*specs)
        tf.saved_model.save(module, str(tmp_path / "saved"), signatures={name: concrete})
        return tmp_path / "saved"

    return save


def random_inputs(model: Any, rows: int = 3) -> dict[str, Any]:
    """Inputs with some steps padded."""
    rng = np.random.default_rng(1)
    values = {}
    for tensor in model.inputs:
        shape = tuple(size or TIME for size in tensor.shape[1:])
        tokens = tensor.dtype == "int32"
        array = rng.integers(1, VOCABULARY, (rows, *shape)) if tokens else rng.normal(size=(rows, *shape))
        array[0, 4:] = 0
        array[1, [0, 2]] = 0
        values[tensor.name] = array.astype(tensor.dtype)
    return values


def assert_same(actual: dict[str, Any], expected: dict[str, Any]) -> None:
    assert actual.keys() == expected.keys()
    for name, wanted in expected.items():
        np.testing.assert_allclose(np.asarray(actual[name]), wanted, rtol=0, atol=TOLERANCE, equal_nan=False)


@pytest.mark.parametrize("make", [*RECOGNIZED, *NOT_LSTMS])
def test_the_model_answers_as_tensorflow_serves_it(exported, loaded, make):
    model, notes = loaded(make).model, loaded(make).notes
    inputs = random_inputs(model)
    assert_same(model(inputs), served_answers(exported(make), inputs))
    assert notes == (
        "The SavedModel holds no Keras configuration, so the operations of its signature 'serving_default' are "
        "converted as they are.",
    )


@pytest.mark.parametrize("make", RECOGNIZED)
def test_lstms_become_layers_that_answer_alike(loaded, make):
    model = loaded(make).model
    lstms = [layer for layer in layers_inside(model) if isinstance(layer, layers.LSTM)]
    assert len(lstms) == RECOGNIZED[make]
    inputs = random_inputs(model)
    expected = {name: tensor.numpy() for name, tensor in model(inputs).items()}
    with model.running_layers():
        assert_same(model(inputs), expected)
    graph = tf.function(model, autograph=False)  # as in a trace
    assert_same(graph({name: tf.constant(value) for name, value in inputs.items()}), expected)


@pytest.mark.parametrize("make", NOT_LSTMS)
def test_what_is_no_lstm_becomes_no_layer(loaded, make):
    assert not layers_inside(loaded(make).model)


def test_layers_own_the_weights(exported):
    model = load_model(exported(lstm)).model
    shapes = sorted(tuple(weight.shape) for weight in model.weights)
    assert shapes == [(2,), (FEATURES, 16), (UNITS, 2), (UNITS, 16), (16,)]
    inputs = random_inputs(model)
    before = model(inputs)["output_0"].numpy()
    layer = layers_inside(model)[0]
    layer.set_weights([weight[..., ::-1] for weight in layer.get_weights()])
    assert np.abs(model(inputs)["output_0"].numpy() - before).max() > 0.01


@pytest.mark.parametrize(
    "make, quantize, batch, operators",
    [
        (masked, "float32", 2, {"UNIDIRECTIONAL_SEQUENCE_LSTM": 2}),
        (dropped_out, "dynamic", 1, {"UNIDIRECTIONAL_SEQUENCE_LSTM": 3}),
        (two_ways, "float32", 1, {"UNIDIRECTIONAL_SEQUENCE_LSTM": 3}),
        (any_length, "float16", 2, {"UNIDIRECTIONAL_SEQUENCE_LSTM": 1}),
    ],
)
def test_folders_are_converted_and_verified(exported, tmp_path, make, quantize, batch, operators):
    length = 7 if make is any_length else None
    artifact = edgelstm.convert(exported(make), tmp_path / "m.tflite", quantize=quantize, batch=batch, length=length)
    found = artifact.card["operators"]
    assert {name: found.get(name) for name in operators} == operators
    assert all(parity["passed"] for parity in artifact.card["parity"])
    names = {entry["name"]: entry["shape"][0] for entry in artifact.card["inputs"]}
    assert names == (dict.fromkeys(("left", "right"), 1) if make is two_ways else {"input": batch})
    assert any("holds no Keras configuration" in warning for warning in artifact.card["warnings"])


def test_folders_are_streamed(exported, tmp_path):
    edgelstm.convert(exported(any_length), tmp_path / "m.tflite", streaming=True, length=2)
    stream = edgelstm.load(tmp_path / "m.tflite")
    data = np.random.default_rng(3).normal(size=(1, TIME, FEATURES)).astype(np.float32)
    found = [stream(data[:, start : start + 2])["output_0"] for start in range(0, TIME, 2)]
    model = any_length()
    set_random_weights(model, np.random.default_rng(0), 0.5)  # as `exported` does
    expected = np.asarray(model(data))
    np.testing.assert_allclose(np.concatenate(found, axis=1), expected, rtol=0, atol=TOLERANCE, equal_nan=False)


def test_folders_whose_graph_counts_its_steps_are_not_streamed(exported, tmp_path):
    with pytest.raises(LoweringError, match=r"cannot take 2 time steps at a time .* for a fixed number of them"):
        edgelstm.convert(exported(lstm), tmp_path / "m.tflite", streaming=True, length=2)


class HandWritten(tf.Module):
    """An LSTM as somebody might write it, with gates in a certain order."""

    def __init__(self, order: str = "ifco") -> None:
        super().__init__()
        rng = np.random.default_rng(2)
        shapes = {"k": (FEATURES, 16), "r": (UNITS, 16), "b": (16,)}
        for name, shape in shapes.items():
            setattr(self, name, tf.Variable(rng.normal(size=shape).astype(np.float32) * 0.5, name=name))
        self.order = order

    def step(self, x: Any, h: Any, c: Any) -> tuple[Any, Any]:
        gates = dict(zip(self.order, tf.split(x @ self.k + h @ self.r + self.b, 4, axis=1), strict=True))
        c = tf.sigmoid(gates["f"]) * c + tf.sigmoid(gates["i"]) * tf.tanh(gates["c"])
        return tf.sigmoid(gates["o"]) * tf.tanh(c), c

    def over_list(self, x: Any) -> dict[str, Any]:
        """Reads its steps from a list, as Keras does."""
        steps = tf.TensorArray(tf.float32, TIME).unstack(tf.transpose(x, [1, 0, 2]))
        outputs = tf.TensorArray(tf.float32, TIME)
        zeros = tf.zeros([tf.shape(x)[0], UNITS])

        def body(t: Any, outputs: Any, h: Any, c: Any) -> Any:
            h, c = self.step(steps.read(t), h, c)
            return t + 1, outputs.write(t, h), h, c

        _, outputs, _, c = tf.while_loop(lambda t, *_: t < TIME, body, (tf.constant(0), outputs, zeros, zeros))
        return {"h": tf.transpose(outputs.stack(), [1, 0, 2]), "c": c}

    def over_slices(self, x: Any) -> dict[str, Any]:
        """Cuts its steps out of the sequence."""
        zeros = tf.zeros([tf.shape(x)[0], UNITS])

        def body(t: Any, h: Any, c: Any) -> Any:
            return t + 1, *self.step(x[:, t], h, c)

        _, h, c = tf.while_loop(lambda t, *_: t < tf.shape(x)[1], body, (tf.constant(0), zeros, zeros))
        return {"h": h, "c": c}


SEQUENCE = tf.TensorSpec([None, TIME, FEATURES], tf.float32, name="x")


@pytest.mark.parametrize(
    "order, method, recognized",
    [("ifco", "over_list", True), ("fico", "over_list", False), ("ifco", "over_slices", False)],
)
def test_hand_written_lstms(saved, tmp_path, order, method, recognized):
    module = HandWritten(order)
    folder = saved(getattr(module, method), SEQUENCE, holds=module.variables)
    model = load_model(folder).model
    inputs = random_inputs(model)
    assert_same(model(inputs), served_answers(folder, inputs))
    assert bool(layers_inside(model)) == recognized
    artifact = edgelstm.convert(folder, tmp_path / "m.tflite", batch=2)
    wanted = "UNIDIRECTIONAL_SEQUENCE_LSTM" if recognized else "WHILE"
    assert wanted in artifact.card["operators"]


def test_checks_and_prints_are_left_out(saved):
    def function(x: Any) -> dict[str, Any]:
        tf.debugging.assert_less(tf.reduce_max(x), 100.0)
        tf.print("largest", tf.reduce_max(x))
        return {"y": tf.cond(tf.reduce_sum(x) > 0, lambda: x * 2, lambda: x - 1)}

    folder = saved(function, SEQUENCE)
    model = load_model(folder).model
    for sign in (1.0, -1.0):
        inputs = {"x": np.full((2, TIME, FEATURES), sign, np.float32)}
        assert_same(model(inputs), served_answers(folder, inputs))


def test_integers_and_constants_of_any_type_are_kept(saved):
    counts = tf.Variable(np.arange(5), dtype=tf.int64)

    def function(x: Any) -> dict[str, Any]:
        return {"y": tf.gather(counts, x) + tf.cast(tf.size(x), tf.int64), "shape": tf.shape(x)}

    folder = saved(function, tf.TensorSpec([None, 3], tf.int32, name="x"), holds=[counts])
    inputs = {"x": np.array([[0, 4, 2]], np.int32)}
    model = load_model(folder).model
    assert_same(model(inputs), served_answers(folder, inputs))
    assert model(inputs)["y"].dtype == tf.int64


def test_one_signature_of_another_name_is_taken(saved):
    folder = saved(lambda x: {"y": x + 1}, SEQUENCE, name="predict")
    assert "signature 'predict'" in load_model(folder).notes[0]


def test_of_several_signatures_the_default_one_is_taken(tmp_path):
    module = HandWritten()
    twice = tf.function(lambda x: {"y": 2 * x}, input_signature=[SEQUENCE])
    signatures = {name: twice.get_concrete_function() for name in ("one", "two")}
    tf.saved_model.save(module, str(tmp_path / "two"), signatures=signatures)
    with pytest.raises(LoadError, match=r"signatures 'one', 'two' and none of them is 'serving_default'"):
        load_model(tmp_path / "two")
    tf.saved_model.save(module, str(tmp_path / "three"), signatures=signatures | {"serving_default": signatures["one"]})
    assert "signature 'serving_default'" in load_model(tmp_path / "three").notes[0]


def test_a_folder_without_signature_is_refused(tmp_path):
    tf.saved_model.save(HandWritten(), str(tmp_path / "none"))
    with pytest.raises(LoadError, match="no signature with inputs and outputs"):
        load_model(tmp_path / "none")


def counting() -> tuple[Any, list[Any]]:
    count = tf.Variable(0.0)

    def function(x: Any) -> dict[str, Any]:
        with tf.control_dependencies([count.assign_add(1.0)]):
            return {"y": x + count}

    return function, [count]


@pytest.mark.parametrize(
    "function, spec, message",
    [
        (lambda x: {"y": tf.strings.length(x)}, tf.TensorSpec([None], tf.string, name="x"), "input 'x' .* is text"),
        (lambda x: {"y": tf.as_string(x)}, SEQUENCE, "output 'y' .* is text"),
        (lambda x: {"y": x * 2}, tf.TensorSpec(None, name="x"), "any number of axes"),
        (lambda x: {"y": x * 2}, tf.TensorSpec([None, 3], tf.float64, name="x"), "computes in float64"),
        (lambda x: {"y": tf.cast(tf.cast(x, tf.float16) * 2, tf.float32)}, SEQUENCE, "computes in float16"),
        (lambda x: {"y": x * 2}, tf.TensorSpec([None, 3], tf.complex64, name="x"), "has the type complex64"),
        (lambda x: {"y": tf.math.lgamma(x)}, SEQUENCE, "uses Lgamma"),
        (lambda x: {"y": x + tf.random.normal([FEATURES])}, SEQUENCE, "uses RandomStandardNormal"),
        (lambda x: {"y": tf.numpy_function(np.sin, [x], tf.float32)}, SEQUENCE, "uses PyFunc"),
    ],
)
def test_what_has_no_place_on_a_device_is_refused(saved, function, spec, message):
    with pytest.raises(LoadError, match=message):
        load_model(saved(function, spec))


def test_a_signature_that_remembers_calls_is_refused(saved):
    function, variables = counting()
    with pytest.raises(LoadError, match=r"changes variables that it reads \(Variable\)"):
        load_model(saved(function, SEQUENCE, holds=variables))


def test_a_batch_fixed_in_the_graph_stays(saved):
    folder = saved(lambda x: {"y": x * 2}, tf.TensorSpec([2, 3], name="x"))
    assert load_model(folder, batch=2).model.inputs[0].shape == (2, 3)
    with pytest.raises(LoadError, match="batch fixed to 2, and the graph cannot be changed to 5"):
        load_model(folder, batch=5)


def test_constants_follow_the_shapes_of_the_trace(saved):
    """What a graph computes from its shapes is static in a trace with static shapes."""

    def function(x: Any) -> dict[str, Any]:
        rows = tf.range(tf.shape(x)[0])
        return {"y": x + tf.cast(tf.reshape(rows, [-1, 1, 1]), tf.float32), "zeros": tf.zeros([tf.shape(x)[0], 2])}

    model = load_model(saved(function, SEQUENCE)).model
    concrete = tf.function(model, autograph=False).get_concrete_function({"x": tf.TensorSpec([2, TIME, FEATURES])})
    assert {tuple(tensor.shape) for tensor in concrete.outputs} == {(2, TIME, FEATURES), (2, 2)}
    assert not {"Shape", "Range", "Fill", "StridedSlice"} & {node.op for node in concrete.graph.as_graph_def().node}


def test_keras_operations_outside_layers_are_run(exported, tmp_path):
    x = keras.Input((TIME, FEATURES), name="x")
    scores = ops.softmax(layers.LSTM(UNITS, return_sequences=True)(x), axis=1)
    model = keras.Model(x, {"y": ops.einsum("btu,btf->buf", scores, x)})
    set_random_weights(model, np.random.default_rng(3), 0.5)
    model.export(str(tmp_path / "m"), verbose=False)
    loaded = load_model(tmp_path / "m").model
    inputs = random_inputs(loaded)
    assert_same(loaded(inputs), {"y": np.asarray(model(inputs["x"])["y"])})
