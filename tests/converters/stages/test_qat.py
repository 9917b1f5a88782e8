"""Quantization-aware training: what is trained is what the file computes, and what comes out is a plain model."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from keras import layers
from numpy.typing import NDArray

import edgelstm
from edgelstm.converters.calibration import fit_data
from edgelstm.converters.exporters import EXPORTERS, Exported, Job
from edgelstm.converters.graph import Graph
from edgelstm.converters.lowering.integer import asymmetric
from edgelstm.converters.lowering.signature import model_signature
from edgelstm.converters.lowering.trace import trace_model
from edgelstm.converters.stages.qat import Qat, simulated
from edgelstm.errors import EdgeLSTMError, SettingError, StageError
from tests.converters.stages.workshop import TinyWorkshop
from tests.converters.tiny import functional, sequential

Array = NDArray[Any]
TIME, FEATURES, VOCABULARY = 9, 3, 11


def floats_in() -> Any:
    return keras.Input((TIME, FEATURES), name="x")


def tokens_in() -> Any:
    return keras.Input((TIME,), name="tokens", dtype="int32")


# Models whose every computing layer is simulated, and their data


def classifier() -> keras.Model:
    x = floats_in()
    h = layers.LSTM(6, name="lstm")(x)
    return functional(x, layers.Dense(3, activation="softmax", name="dense")(h))


def masked_tokens() -> keras.Model:
    x = tokens_in()
    h = layers.Embedding(VOCABULARY, 5, mask_zero=True)(x)
    h = layers.Bidirectional(layers.LSTM(4, return_sequences=True))(h)
    h = layers.LSTM(4)(layers.Dropout(0.2)(h))
    h = layers.Dense(6, activation="relu")(h)
    return functional(x, layers.Dense(1, activation="sigmoid")(h))


def masked_floats() -> keras.Model:
    return sequential(
        layers.Input((TIME, FEATURES), name="x"),
        layers.Masking(),
        layers.LSTM(4, return_sequences=True, use_bias=False),
        layers.TimeDistributed(layers.Dense(2, activation="sigmoid")),
        layers.LSTM(3, return_sequences=True, zero_output_for_mask=True),
    )


def translator() -> keras.Model:
    x = floats_in()
    sequence, *states = layers.LSTM(5, return_sequences=True, return_state=True)(x)
    backwards = layers.LSTM(5, return_sequences=True, go_backwards=True)(sequence, initial_state=states)
    return functional(x, [layers.Dense(4)(backwards), *states])


def nested() -> keras.Model:
    x = floats_in()
    inner = keras.Sequential(
        [
            layers.Input((TIME, FEATURES)),
            layers.LSTM(5, return_sequences=True),
            layers.Dense(4, activation="tanh"),
        ],
        name="inner",
    )
    h = layers.LSTM(4, return_sequences=True)(inner(x))
    return functional(x, layers.Dense(2)(layers.GlobalMaxPooling1D()(h)))


def two_towers() -> keras.Model:
    inputs = [keras.Input((TIME,), name=name, dtype="int32") for name in ("left", "right")]
    embedding, lstm = layers.Embedding(VOCABULARY, 4), layers.LSTM(5)
    joined = layers.Concatenate()([lstm(embedding(each)) for each in inputs])
    return functional(inputs, layers.Dense(2)(joined))


MODELS: dict[str, Callable[[], keras.Model]] = {
    "classifier": classifier,
    "masked tokens": masked_tokens,
    "masked floats": masked_floats,
    "translator": translator,
    "nested": nested,
    "two towers": two_towers,
}


def data_for(model: keras.Model, count: int = 60) -> dict[str, Array]:
    """Random inputs; a third padded behind, a third in front, one wholly."""
    rng = np.random.default_rng(0)
    data = {}
    for tensor in model.inputs:
        shape = (count, *tensor.shape[1:])
        whole = tensor.dtype == "int32"
        array = rng.integers(1, VOCABULARY, shape) if whole else rng.normal(size=shape)
        array[: count // 3, 6:] = 0
        array[count // 4 : count // 2, :2] = 0
        array[-1] = 0
        data[str(tensor.name)] = array.astype(tensor.dtype)
    return data


def feed(model: keras.Model, data: Mapping[str, Array]) -> Any:
    values = [data[tensor.name] for tensor in model.inputs]
    return values[0] if len(values) == 1 else values


def answers(model: keras.Model, data: Mapping[str, Array]) -> list[Array]:
    found = model.predict(feed(model, data), verbose=0)
    return found if isinstance(found, list) else [found]


def exported(model: keras.Model, data: Mapping[str, Array], ranges: Mapping[str, tuple[float, float]]) -> Exported:
    signature = model_signature(model, data=data)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "saved"
        trace = trace_model(model, signature, folder)
        result = EXPORTERS["int8"](Job(folder, signature, trace, fit_data(data, signature.inputs), ranges=ranges))
    result.graph.prune_tensors()
    return result


def run(graph: Graph, data: Mapping[str, Array], resolver: Any = OpResolverType.AUTO) -> list[Array]:
    """Answers of the file, one example at a time."""
    interpreter = Interpreter(model_content=graph.to_bytes(), experimental_op_resolver_type=resolver)
    interpreter.allocate_tensors()
    found = []
    for example in range(len(next(iter(data.values())))):
        for each in interpreter.get_input_details():
            interpreter.set_tensor(each["index"], data[each["name"]][example : example + 1].astype(each["dtype"]))
        interpreter.invoke()
        found.append([interpreter.get_tensor(each["index"])[0] for each in interpreter.get_output_details()])
    return [np.stack(column) for column in zip(*found, strict=True)]


def scales(graph: Graph) -> list[float]:
    """Scales of the outputs."""
    sources = [graph.producer(output).inputs[0] for output in graph.subgraph.outputs]
    return [float(graph.tensor(source).quantization.scale[0]) for source in sources]


def moved_ranges(model: keras.Model, data: Mapping[str, Array]) -> Any:
    """A simulation whose ranges are not those of the data: ends moved, as training moves them."""
    simulation = simulated(model)
    simulation.observe(data, 500)
    simulation.start(learn=True)
    rng = np.random.default_rng(1)
    for weight in simulation.model.trainable_weights:
        if weight.name.startswith("range_"):
            weight.assign(rng.uniform(-0.25, 0.1, 2))
    return simulation


@pytest.mark.parametrize("name", MODELS)
def test_the_file_with_learned_ranges_computes_what_was_trained(name):
    model = MODELS[name]()
    data = data_for(model)
    simulation = moved_ranges(model, data)
    file = exported(model, data, simulation.ranges())
    assert file.notes == []
    trained, in_float = answers(simulation.model, data), answers(model, data)
    plain = run(file.graph, data, OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES)
    for expected, floating, computed, by_kernels, scale in zip(
        trained, in_float, run(file.graph, data), plain, scales(file.graph), strict=True
    ):
        # Answers of a sigmoid or softmax are not rounded in training: here they are.
        wanted, found, found_by_kernels = (np.round(each / scale) for each in (expected, computed, by_kernels))
        assert np.mean(np.abs(wanted - found) <= 1) >= 0.99
        assert np.mean(wanted == found_by_kernels) >= 0.95  # XNNPACK's factors between two scales have 8 bits only
        assert np.std(found) > 3, "the answers can show a mistake"
        assert np.abs(floating / scale - found).max() > 2, "the ranges matter"


@pytest.mark.parametrize("name", ["classifier", "translator", "nested"])
def test_the_scales_in_the_file_are_those_of_the_given_ranges(name):
    model = MODELS[name]()
    data = data_for(model)
    ranges = moved_ranges(model, data).ranges()
    graph = exported(model, data, ranges).graph
    parameters = {
        (float(tensor.quantization.scale[0]), int(tensor.quantization.zeroPoint[0]))
        for tensor in graph.subgraph.tensors
        if tensor.quantization is not None and tensor.quantization.scale is not None
    }
    for key, limits in ranges.items():
        wanted = (2.0**-15 * limits[1], 0) if key.endswith("/cell") else asymmetric(limits)
        assert any(wanted[1] == zero and wanted[0] == pytest.approx(scale, rel=1e-6) for scale, zero in parameters), key


def test_a_given_range_of_no_tensor_is_told():
    model = classifier()
    file = exported(model, data_for(model), {"lstm_of_another/output": (-1.0, 1.0)})
    assert file.notes == [
        "The given range 'lstm_of_another/output' belongs to no tensor of the file; a calibrated one was used."
    ]


# Gradients


def gradients(model: keras.Model, weights: list[Any], x: Array, direction: Array) -> list[Array]:
    with tf.GradientTape() as tape:
        value = tf.reduce_sum(model(x) * direction)
    return [np.asarray(each) for each in tape.gradient(value, weights)]


def test_gradients_of_weights_are_those_of_the_float_model():
    x = floats_in()
    model = functional(x, layers.LSTM(7, return_sequences=True)(x))
    data = data_for(model)
    simulation = simulated(model)
    simulation.observe(data, 500)
    simulation.start(learn=True)
    direction = np.random.default_rng(2).normal(size=(60, TIME, 7)).astype(np.float32)
    found = gradients(simulation.model, simulation.weights, data["x"], direction)
    expected = gradients(model, model.weights, data["x"], direction)
    for one, other in zip(found, expected, strict=True):
        cosine = np.sum(one * other) / np.linalg.norm(one) / np.linalg.norm(other)
        assert cosine > 0.99
        assert np.linalg.norm(one) == pytest.approx(np.linalg.norm(other), rel=0.1)


# The stage


def workshop_for(model: keras.Model, seed: int = 0, learning_rate: float = 0.01) -> TinyWorkshop:
    x = np.random.default_rng(3).normal(size=(200, TIME, FEATURES)).astype(np.float32)
    labels = np.digitize(x[:, :, 0].sum(axis=1), [-1, 1])
    return TinyWorkshop({model.inputs[0].name: x}, labels, seed=seed, learning_rate=learning_rate)


def measured_ranges(model: keras.Model, workshop: TinyWorkshop) -> dict[str, tuple[float, float]]:
    simulation = simulated(model)
    simulation.observe(workshop.train.x, 500)
    simulation.start(learn=False)
    found: dict[str, tuple[float, float]] = simulation.ranges()
    return found


def state(model: keras.Model) -> tuple[list[Array], Any, list[bool]]:
    return model.get_weights(), model.get_config(), [weight.trainable for weight in model.weights]


@pytest.fixture(scope="module")
def trained() -> tuple[keras.Model, Any, Any, TinyWorkshop]:
    model = classifier()
    workshop = workshop_for(model)
    before = state(model)
    return model, before, Qat(epochs=4).apply(model, workshop), workshop


def test_the_model_that_went_in_is_as_it_was(trained):
    model, (weights, config, flags), outcome, _ = trained
    for now, before in zip(model.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(now, before)
    assert model.get_config() == config
    assert [weight.trainable for weight in model.weights] == flags
    assert not {id(variable) for variable in model.variables} & {id(variable) for variable in outcome.model.variables}
    assert "inner_loop" not in vars(model.get_layer("lstm"))


def test_the_result_is_a_plain_model_that_was_trained(trained, tmp_path):
    model, _, outcome, _ = trained
    assert outcome.model.get_config() == model.get_config()
    assert [weight.path for weight in outcome.model.weights] == [weight.path for weight in model.weights]
    assert any(
        np.abs(a - b).max() > 1e-3 for a, b in zip(outcome.model.get_weights(), model.get_weights(), strict=True)
    )
    outcome.model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    data = data_for(model)
    np.testing.assert_array_equal(answers(loaded, data)[0], answers(outcome.model, data)[0])


def test_training_lowers_the_loss_in_integers_and_moves_the_ranges(trained):
    model, _, outcome, workshop = trained
    assert outcome.figures["loss_after"] < outcome.figures["loss_before"]
    assert [each["name"] for each in workshop.trainings] == ["qat"]
    measured = measured_ranges(model, workshop)
    assert set(outcome.ranges) == set(measured) == {
        "lstm/input",
        "lstm/output",
        "lstm/cell",
        "dense/input",
        "dense/output",
    }  # fmt: skip
    assert outcome.ranges["lstm/output"] != measured["lstm/output"]
    assert outcome.ranges["dense/input"] == outcome.ranges["lstm/output"]


def test_the_trained_model_answers_in_int8_as_it_did_in_training(trained):
    model, _, outcome, workshop = trained
    file = exported(outcome.model, workshop.train.x, outcome.ranges)
    validation = workshop.validation
    probabilities = run(file.graph, validation.x)[0][np.arange(len(validation)), validation.y.astype(int)]
    loss = -np.mean(np.log(np.maximum(probabilities, 1e-7)))
    assert loss == pytest.approx(outcome.figures["loss_after"], abs=0.01)
    del model


@pytest.mark.parametrize("precision", ["float32", "dynamic", "int8"])
def test_the_result_converts_and_verifies(precision, trained, tmp_path):
    _, _, outcome, workshop = trained
    given = {"calibration": workshop.train.x} if precision == "int8" else {}
    artifact = edgelstm.convert(outcome.model, tmp_path / "m.tflite", quantize=precision, **given)
    assert artifact.path.is_file()


def test_the_same_seed_gives_the_same_result(trained):
    model, _, outcome, _ = trained
    again = Qat(epochs=4).apply(model, workshop_for(model))
    assert again.ranges == outcome.ranges
    for one, other in zip(again.model.get_weights(), outcome.model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_without_epochs_only_ranges_are_measured():
    model = classifier()
    workshop = workshop_for(model)
    outcome = Qat(epochs=0).apply(model, workshop)
    for one, other in zip(outcome.model.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    x = workshop.train.x["x"]
    np.testing.assert_allclose(outcome.ranges["lstm/input"], (x.min(), x.max()), rtol=1e-6)
    hidden = keras.Model(model.inputs, model.get_layer("dense").input).predict(x, verbose=0)
    assert outcome.ranges["lstm/output"][0] <= hidden.min()
    assert outcome.ranges["lstm/output"][1] >= hidden.max()


def test_ranges_stay_as_measured_if_they_are_not_to_be_learned():
    model = classifier()
    workshop = workshop_for(model)
    outcome = Qat(epochs=1, learn_ranges=False).apply(model, workshop)
    assert outcome.ranges == measured_ranges(model, workshop)


class Harm(TinyWorkshop):
    """A workshop whose training turns all weights and ranges into worse ones."""

    def finetune(self, model: Any, **_: Any) -> None:
        model.set_weights([-3 * weight + 0.5 for weight in model.get_weights()])


def test_training_that_only_does_harm_is_taken_back():
    model = classifier()
    kind = workshop_for(model)
    trained = Qat(epochs=5).apply(model, kind).model  # so that turning it round does harm
    model.set_weights(trained.get_weights())
    workshop = Harm({"x": kind.train.x["x"]}, kind.train.y)
    outcome = Qat(epochs=1).apply(model, workshop)
    assert "did not lower the loss" in outcome.notes[0]
    assert outcome.figures["loss_after"] == outcome.figures["loss_before"]
    assert outcome.ranges == measured_ranges(model, workshop)
    for one, other in zip(outcome.model.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("implementation", [1, 2])
def test_dropout_inside_a_layer_is_at_work_in_training_only(implementation):
    x = floats_in()
    lstm = layers.LSTM(5, dropout=0.3, recurrent_dropout=0.3, implementation=implementation, seed=1)
    model = functional(x, layers.Dense(2)(lstm(x)))
    data = data_for(model)
    simulation = simulated(model)
    simulation.observe(data, 500)
    simulation.start(learn=True)
    still, moving = simulation.model(data["x"], training=False), simulation.model(data["x"], training=True)
    np.testing.assert_allclose(still, model(data["x"], training=False), atol=0.1)
    assert np.abs(moving - still).mean() > 0.02
    assert np.isfinite(moving).all()


def test_layers_that_are_not_simulated_are_named():
    x = floats_in()
    h = layers.Conv1D(4, 3, padding="same")(x)
    h = layers.LSTM(4, return_sequences=True, activation="relu")(h)
    model = functional(x, layers.LSTM(3)(layers.LayerNormalization()(h)))
    notes = simulated(model).notes
    names = [layer.name for layer in model.layers[1:4]]
    assert [name in note for name, note in zip(names, notes, strict=True)] == [True] * 3
    assert "activation='relu', and the integer kernel knows 'tanh' only" in notes[1]


def test_a_model_without_integer_lstms_is_refused():
    model = sequential(layers.Input((TIME, FEATURES)), layers.LSTM(4, activation="relu"))
    with pytest.raises(StageError, match=r"has no LSTM layer that can compute in integers .*activation='relu'"):
        Qat().apply(model, workshop_for(classifier()))


class Subclassed(keras.Model):
    """A model whose calls are code."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = layers.LSTM(3)

    def call(self, x: Any) -> Any:
        return self.lstm(x)


def test_a_subclassed_model_is_refused():
    model = Subclassed()
    model(np.zeros((1, TIME, FEATURES), np.float32))
    with pytest.raises(StageError, match=r"is a Subclassed"):
        Qat().apply(model, workshop_for(classifier()))


def test_a_loss_that_is_no_number_is_passed_on():
    model = classifier()
    with pytest.raises(EdgeLSTMError, match="loss became nan"):
        Qat(epochs=1, learning_rate=1e30).apply(model, workshop_for(model))


@pytest.mark.parametrize("setting, value", [("epochs", -1), ("learning_rate", -0.1), ("samples", 0), ("samples", 501)])
def test_impossible_settings_are_refused(setting, value):
    with pytest.raises(SettingError, match=setting):
        Qat(**{setting: value})
