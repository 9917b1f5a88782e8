"""The catalogue of model forms that conversion is tested with: one table, small models, all kinds of people's LSTMs.

Every weight is random, and the biases of the four gates lie apart, so that exchanged gates, inputs or outputs change
the answers. `test_forms.py` proves that they do.
"""

# Layers are made anew at every build, inside their lambda.
# ruff: noqa: PLW0108

from __future__ import annotations

import itertools
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
from keras import layers, ops
from numpy.typing import NDArray

Array = NDArray[Any]
VOCABULARY = 17
TIME, FEATURES, UNITS = 7, 5, 6

# What is masked, call after call and row after row. A file that leaks state from one call into the next is caught
# by the wholly masked sequence right behind one that was not.
PATTERNS = ("leading", "wholly", "interspersed", "none", "trailing")


@dataclass(frozen=True)
class Input:
    """One input of a form.

    Attributes:
        name: Its name in the model; None leaves naming to Keras.
        shape: Without the batch, None where the model leaves it free.
        kind: "floats", "tokens" (0 is rare), "masked tokens" and "masked floats" (0 where masked),
            or "rising" (mostly positive, negative at the end, so that sums grow and shrink again).
        dtype: What the model takes.
    """

    name: str | None
    shape: tuple[int | None, ...]
    kind: str = "floats"
    dtype: str = "float32"


@dataclass(frozen=True)
class Form:
    """One way of using an LSTM.

    Attributes:
        name: Unique in the table.
        graph: From one tensor per input to the outputs, as Keras' functional API takes them. With `whole`, from
            nothing to a built model.
        fused: Number of UNIDIRECTIONAL_SEQUENCE_LSTM operators in the converted file.
        inputs: In the model's order.
        whole: Whether graph returns a model.
        by_name: Whether the model takes a dict of inputs.
        loops: Whether the converted file may hold a WHILE loop.
        custom: Classes that a loader has to be told of, "module:Class".
        precisions: Those in which it can be converted.
        options: Further arguments of `edgelstm.convert`.
        formats: File formats in which Keras can save it.
        patterns: Masks to feed; of no effect without masked inputs.
        recurrent_scale: Standard deviation of the recurrent weights.
        set_weights: Replaces the random weights.
        traceable: Whether TensorFlow can compile the model as it is.
        blind: Names of LSTM weights in which this form cannot see exchanged gates, by its nature.
        tolerance: Of float32 answers, absolute and relative. Rounding of float32 sums in another order gives
            about 1e-6 on these models; a wrong formula gives more than 100 times the tolerance.
        slack: Factor on the tolerances of the coarser precisions.
    """

    name: str
    graph: Callable[..., Any]
    fused: int
    inputs: tuple[Input, ...] = (Input("x", (TIME, FEATURES)),)
    whole: bool = False
    by_name: bool = False
    loops: bool = False
    custom: tuple[str, ...] = ()
    precisions: tuple[str, ...] = ("float32", "float16", "dynamic", "int8")
    options: Mapping[str, Any] = field(default_factory=dict)
    formats: tuple[str, ...] = (".keras", ".h5")
    patterns: tuple[str, ...] = PATTERNS
    recurrent_scale: float = 0.5
    set_weights: Callable[[Any], None] | None = None
    traceable: bool = True
    blind: tuple[str, ...] = ()
    tolerance: float = 1e-5
    slack: float = 1.0

    @property
    def batch(self) -> int:
        return int(self.options.get("batch", 1))

    def build(self) -> keras.Model:
        """Returns a new model with the form's weights, the same at every call."""
        model = self.graph() if self.whole else self._functional()
        set_random_weights(model, np.random.default_rng(zlib.crc32(self.name.encode())), self.recurrent_scale)
        if self.set_weights is not None:
            self.set_weights(model)
        return model

    def _functional(self) -> keras.Model:
        tensors = [keras.Input(each.shape, name=each.name, dtype=each.dtype) for each in self.inputs]
        outputs = self.graph(*tensors)
        if self.by_name:
            return keras.Model({each.name: tensor for each, tensor in zip(self.inputs, tensors, strict=True)}, outputs)
        return keras.Model(tensors if len(tensors) > 1 else tensors[0], outputs)


def set_random_weights(model: keras.Model, rng: np.random.Generator, recurrent_scale: float) -> None:
    """Overwrites every weight of model; leaves states and seeds as they are."""
    for variable in model.weights:
        value = _random_weight(variable.name, tuple(variable.shape), rng, recurrent_scale)
        variable.assign(value.astype("float32"))


def _random_weight(name: str, shape: tuple[int, ...], rng: np.random.Generator, recurrent_scale: float) -> Array:
    noise = rng.normal(size=shape)
    if name == "recurrent_kernel":
        return recurrent_scale * noise
    if name in ("gamma", "moving_variance"):
        return 1 + 0.3 * np.tanh(noise)
    if name == "bias" and shape[-1] % 4 == 0:
        return 0.3 * noise + np.repeat([0.2, 0.9, -0.3, 0.5], shape[-1] // 4)
    if name in ("bias", "beta", "moving_mean"):
        return 0.3 * noise
    fan_in = int(np.prod(shape[:-1])) if name == "kernel" else 1
    return noise * (1.2 / np.sqrt(fan_in))


def inputs_for(form: Form, model: keras.Model, calls: int = 5, seed: int = 0) -> list[Array]:
    """Makes data to call a model with, different in every call.

    Args:
        form: The form that model was built from.
        model: Tells nothing that the form does not, except the free dimensions it was converted for.
        calls: How many.
        seed: Of the random numbers.

    Returns:
        One array per input, in the model's order, each of shape (calls, batch, *input shape).
    """
    del model
    rng = np.random.default_rng([seed, zlib.crc32(form.name.encode())])
    return [_data(each, form, calls, offset, rng) for offset, each in enumerate(form.inputs)]


def _data(each: Input, form: Form, calls: int, offset: int, rng: np.random.Generator) -> Array:
    shape = (calls, form.batch, *(form.options["length"] if size is None else size for size in each.shape))
    if "tokens" in each.kind:
        values: Array = rng.integers(1, VOCABULARY, shape)
    else:
        values = rng.normal(size=shape)
    if each.kind == "rising":
        values = np.abs(values) + 0.5
        values[:, :, -shape[2] // 4 :] *= -1
    if each.kind.startswith("masked"):
        patterns = itertools.cycle(form.patterns[offset % 2 :] + form.patterns[: offset % 2])
        for call, row in np.ndindex(shape[:2]):
            values[call, row, ~_mask(next(patterns), shape[2], rng)] = 0
    elif each.kind == "tokens":
        values[0, :, 1] = 0
    return values.astype(each.dtype)


def _mask(pattern: str, time: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Returns which of the steps are valid, shape (time,)."""
    steps, length = np.arange(time), rng.integers(2, time - 1)
    if pattern == "leading":
        return np.asarray(steps >= length)
    if pattern == "trailing":
        return np.asarray(steps < length)
    if pattern == "interspersed":
        return np.asarray((steps + rng.integers(3)) % 3 > 0)
    return np.full(time, pattern == "none")


def lstm_cells(model: keras.Model) -> Iterator[keras.layers.LSTMCell]:
    """Yields every LSTM cell of a model, each once."""
    seen: set[int] = set()
    for layer in model._flatten_layers():
        if isinstance(layer, layers.LSTMCell) and id(layer) not in seen:
            seen.add(id(layer))
            yield layer


def call_model(form: Form, model: keras.Model, arrays: list[Array]) -> dict[str, Array] | list[Array]:
    """Runs one call of a Keras model that keeps no state from one call to the next.

    Args:
        form: The form that model was built from.
        model: The model.
        arrays: One array per input, each of shape (batch, *input shape).

    Returns:
        Its outputs, a dict where the model answers with one, otherwise a list in the model's order.
    """
    for layer in model._flatten_layers():
        if isinstance(layer, layers.RNN) and layer.stateful:
            layer.reset_state()
    if form.by_name:
        data: Any = {each.name: array for each, array in zip(form.inputs, arrays, strict=True)}
    else:
        data = arrays if len(arrays) > 1 else arrays[0]
    outputs = model(data, training=False)
    if isinstance(outputs, dict):
        return {name: np.asarray(value) for name, value in outputs.items()}
    return [np.asarray(value) for value in (outputs if isinstance(outputs, (list, tuple)) else [outputs])]


@keras.saving.register_keras_serializable("edgelstm_tests")
class TwoReaders(keras.Model):
    """A subclassed model: two LSTMs one behind the other, and what is made of both."""

    def __init__(self, units: int = UNITS, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.units = units
        self.first = layers.LSTM(units, return_sequences=True)
        self.second = layers.LSTM(units + 2)
        self.answer = layers.Dense(3)

    def call(self, x: Any, training: bool = False) -> Any:
        sequence = self.first(x, training=training)
        return self.answer(ops.concatenate([self.second(sequence), sequence[:, -1]], axis=-1))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "units": self.units}


@keras.saving.register_keras_serializable("edgelstm_tests")
class LeakyCell(layers.Layer):
    """A recurrent cell that Keras does not have: a leaky mean of what it reads."""

    def __init__(self, units: int = UNITS, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.units = self.state_size = self.output_size = units

    def build(self, input_shape: tuple[int, ...]) -> None:
        self.kernel = self.add_weight(shape=(input_shape[-1], self.units), name="kernel")
        self.recurrent_kernel = self.add_weight(shape=(self.units, self.units), name="recurrent_kernel")

    def call(self, x: Any, states: Any, training: bool = False) -> tuple[Any, list[Any]]:
        new = ops.tanh(ops.matmul(x, self.kernel) + ops.matmul(states[0], self.recurrent_kernel))
        state = 0.7 * states[0] + 0.3 * new
        return state, [state]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "units": self.units}


def _lstm(units: int = UNITS, **arguments: Any) -> Any:
    return layers.LSTM(units, **arguments)


def _sequences(units: int = UNITS, **arguments: Any) -> Any:
    return layers.LSTM(units, return_sequences=True, **arguments)


def _embedding(mask_zero: bool = True, features: int = FEATURES) -> Any:
    return layers.Embedding(VOCABULARY, features, mask_zero=mask_zero)


def _masked(
    layer: Callable[[], Any], shape: tuple[int | None, ...] = (9,), dtype: str = "int32"
) -> Callable[[], keras.Model]:
    """Returns what builds a sequential model: tokens, of which 0 is masked, and layer() behind them."""
    return lambda: keras.Sequential([keras.Input(shape, name="tokens", dtype=dtype), _embedding(), layer()])


def _nested(x: Any) -> Any:
    inner_input = keras.Input((TIME, FEATURES))
    inner = keras.Model(inner_input, _sequences(4)(inner_input), name="inner")
    return layers.Dense(3)(_lstm()(inner(x)))


def _nested_twice(x: Any) -> Any:
    inner_input = keras.Input((TIME, 4))
    inner = keras.Model(inner_input, _lstm()(inner_input), name="inner")
    middle_input = keras.Input((TIME, FEATURES))
    middle = keras.Model(middle_input, inner(_sequences(4)(middle_input)), name="middle")
    return layers.Dense(3)(middle(x))


def _submodel_called_twice(left: Any, right: Any) -> Any:
    tower = keras.Sequential([keras.Input((TIME, FEATURES)), _lstm(), layers.Dense(3, activation="tanh")], name="tower")
    return layers.Subtract()([tower(left), tower(right)])


def _siamese(left: Any, right: Any) -> Any:
    shared = _lstm()
    return layers.Subtract()([shared(left), shared(right)])


def _many_inputs_and_outputs(signal: Any, tokens: Any) -> dict[str, Any]:
    read = _lstm(4, name="signal_reader")(signal)
    words = _lstm(5, name="token_reader")(_embedding(mask_zero=False)(tokens))
    both = layers.Concatenate()([read, words])
    return {"label": layers.Dense(3, activation="softmax")(both), "amount": layers.Dense(1)(both)}


def _outputs_in_a_list(first: Any, second: Any) -> list[Any]:
    a, b = _lstm(4)(first), _lstm(4)(second)
    return [layers.Add()([a, b]), layers.Dense(2)(a), layers.Subtract()([a, b])]


def _cnn(x: Any) -> Any:
    x = layers.TimeDistributed(layers.Conv2D(3, 3, activation="relu"))(x)
    x = layers.TimeDistributed(layers.MaxPooling2D(2))(x)
    return layers.Dense(2)(_lstm()(layers.TimeDistributed(layers.Flatten())(x)))


def _attention(make: Callable[[], Any]) -> Callable[[Any], Any]:
    def graph(x: Any) -> Any:
        sequence = _sequences()(x)
        return layers.GlobalAveragePooling1D()(make()(sequence, sequence))

    return graph


def _masked_attention(tokens: Any) -> Any:
    sequence = _sequences()(_embedding()(tokens))
    return layers.Attention()([sequence, sequence])


def _attention_by_permute(x: Any) -> Any:
    sequence = _sequences()(x)
    weights = layers.Dense(TIME, activation="softmax")(layers.Permute((2, 1))(sequence))
    return layers.Flatten()(layers.Multiply()([sequence, layers.Permute((2, 1))(weights)]))


def _autoencoder(x: Any) -> Any:
    code = layers.RepeatVector(TIME)(_lstm(4)(x))
    return layers.TimeDistributed(layers.Dense(FEATURES))(_sequences()(code))


def _translator(source: Any, target: Any) -> Any:
    _, h, c = _lstm(return_state=True)(source)
    return layers.Dense(4)(_sequences()(target, initial_state=[h, c]))


def _translator_with_bidirectional_encoder(source: Any, target: Any) -> Any:
    _, h, c, backward_h, backward_c = layers.Bidirectional(_lstm(4, return_state=True))(source)
    states = [layers.Concatenate()([h, backward_h]), layers.Concatenate()([c, backward_c])]
    return layers.Dense(4)(_sequences(8)(target, initial_state=states))


def _translator_with_masks(source: Any, target: Any) -> list[Any]:
    _, h, c = _lstm(return_state=True)(_embedding()(source))
    y, h, c = _sequences(return_state=True)(_embedding()(target), initial_state=[h, c])
    return [y, h, c]


def _translator_with_masked_encoder(source: Any, target: Any) -> Any:
    _, h, c = _lstm(return_state=True)(_embedding()(source))
    return layers.Dense(4)(_sequences()(target, initial_state=[h, c]))


def _states_as_inputs(x: Any, h: Any, c: Any) -> Any:
    return _lstm()(x, initial_state=[h, c])


def _states_in_and_out(x: Any, h: Any, c: Any) -> list[Any]:
    return list(_sequences(return_state=True)(x, initial_state=[h, c]))


def _bidirectional_states_as_inputs(x: Any, *states: Any) -> Any:
    return layers.Bidirectional(_sequences())(x, initial_state=list(states))


def _carried(times: int) -> Callable[[Any], Any]:
    def graph(x: Any) -> Any:
        layer = _lstm(return_state=True)
        y, h, c = layer(x)
        outputs = [y]
        for _ in range(times - 1):
            y, h, c = layer(x, initial_state=[h, c])
            outputs.append(y)
        return layers.Concatenate()([*outputs, c])

    return graph


def _masked_stack(tokens: Any) -> Any:
    x = layers.Bidirectional(_sequences(4))(_embedding()(tokens))
    return layers.Bidirectional(_lstm(4))(_sequences()(x))


def _masked_states(tokens: Any) -> list[Any]:
    return list(_lstm(return_state=True)(_embedding()(tokens)))


def _masked_hidden_state(tokens: Any) -> Any:
    return _lstm(return_state=True)(_embedding()(tokens))[1]


def _masked_pooling(tokens: Any) -> Any:
    return layers.GlobalAveragePooling1D()(_sequences()(_embedding()(tokens)))


def _conv(x: Any) -> Any:
    x = layers.MaxPooling1D(2)(layers.Conv1D(8, 3, activation="relu")(x))
    return layers.Dense(2)(_lstm()(x))


def _normalized(make: Callable[[], Any]) -> Callable[[Any], Any]:
    return lambda x: _lstm(4)(make()(_sequences()(x)))


def _residual(x: Any) -> Any:
    first = _sequences()(x)
    return layers.Dense(3)(layers.Add()([first, _sequences()(first)]))


def _two_poolings(x: Any) -> Any:
    sequence = _sequences()(x)
    return layers.Concatenate()([layers.GlobalMaxPooling1D()(sequence), layers.GlobalAveragePooling1D()(sequence)])


def _sequence_and_answer(x: Any) -> list[Any]:
    sequence = _sequences()(x)
    return [sequence, layers.Dense(2)(_lstm(4)(sequence))]


def _lstm_and_gru(x: Any) -> Any:
    return layers.Dense(2)(layers.GRU(4)(_sequences()(x)))


def _named(model: str, x: str, lstm: str, answer: str) -> Callable[[], keras.Model]:
    def graph() -> keras.Model:
        tensor = keras.Input((TIME, FEATURES), name=x)
        return keras.Model(tensor, layers.Dense(2, name=answer)(_lstm(name=lstm)(tensor)), name=model)

    return graph


def _sequential() -> keras.Model:
    return keras.Sequential(
        [keras.Input((TIME, FEATURES)), _sequences(4), layers.Dropout(0.4), _lstm(), layers.Dense(2)]
    )


def _sequential_without_input() -> keras.Model:
    model = keras.Sequential([_lstm(), layers.Dense(2)])
    model.build((None, TIME, FEATURES))
    return model


def _stateful() -> keras.Model:
    x = keras.Input(batch_shape=(1, TIME, FEATURES), name="x")
    return keras.Model(x, layers.Dense(3)(_lstm(stateful=True)(x)))


def _fixed_batch() -> keras.Model:
    x = keras.Input(batch_shape=(2, TIME, FEATURES), name="x")
    return keras.Model(x, _sequences()(x))


def _subclassed() -> keras.Model:
    model = TwoReaders()
    model(np.zeros((1, TIME, FEATURES), np.float32))
    return model


def _count(model: keras.Model) -> None:
    """Makes a counter of the model's LSTM: the sum of the signs of the first feature, c far past 10 and back."""
    cell = next(lstm_cells(model))
    kernel = 0.1 * np.asarray(cell.kernel)
    kernel[0, 2 * UNITS : 3 * UNITS] = 4 + np.arange(UNITS) / 2
    cell.kernel.assign(kernel)
    cell.recurrent_kernel.assign(0.02 * np.asarray(cell.recurrent_kernel))
    cell.bias.assign(np.repeat([5.0, 7.0, 0.0, 0.5], UNITS) + np.tile(np.arange(UNITS) / 20, 4))


def _whisper(model: keras.Model) -> None:
    """Makes the cell state of the model's LSTM stay far below 1, and its head loud enough to hear it."""
    cell = next(lstm_cells(model))
    candidate = slice(2 * UNITS, 3 * UNITS)
    for weight in (cell.kernel, cell.recurrent_kernel, cell.bias):
        value = weight.numpy().copy()
        value[..., candidate] *= 0.02
        weight.assign(value)
    head = model.layers[-1]
    head.kernel.assign(30 * np.asarray(head.kernel))


X = Input("x", (TIME, FEATURES))
TOKENS = (Input("tokens", (9,), "tokens", "int32"),)
MASKED = (Input("tokens", (9,), "masked tokens", "int32"),)
STATES = (X, Input("h", (UNITS,)), Input("c", (UNITS,)))
PAIR = (Input("left", (TIME, FEATURES)), Input("right", (TIME, FEATURES)))
PHRASES = (Input("source", (8, FEATURES)), Input("target", (6, 3)))

# Keras 3 writes a functional model with a mask, or with the default attention, into an HDF5 file that it cannot read.
NOT_H5 = (".keras",)

# The integer kernel ignores the activation, and a masked cell state leaks in it.
NOT_INT8 = ("float32", "float16", "dynamic")
# Nothing in a loop can have int8 weights.
ONLY_FLOAT = ("float32", "float16")
LOOP = {"fused": 0, "loops": True, "precisions": ONLY_FLOAT}

SINGLE = (
    Form("lstm", lambda x: _lstm()(x), 1),
    Form("lstm_sequences", lambda x: _sequences()(x), 1),
    Form("lstm_dropout", lambda x: _lstm(dropout=0.3, recurrent_dropout=0.4)(x), 1),
    Form("lstm_no_bias", lambda x: _lstm(use_bias=False)(x), 1),
    Form("lstm_no_unit_forget_bias", lambda x: _lstm(unit_forget_bias=False)(x), 1),
    Form("lstm_backwards", lambda x: _lstm(go_backwards=True)(x), 1),
    Form("lstm_backwards_sequences", lambda x: _sequences(go_backwards=True)(x), 1),
    Form("lstm_states", lambda x: list(_lstm(return_state=True)(x)), 1),
    Form("lstm_sequences_states", lambda x: list(_sequences(return_state=True)(x)), 1),
    Form("lstm_backwards_states", lambda x: list(_sequences(return_state=True, go_backwards=True)(x)), 1),
    Form("lstm_only_h", lambda x: _lstm(return_state=True)(x)[1], 1),
    Form("lstm_only_c", lambda x: _lstm(return_state=True)(x)[2], 1),
    Form("lstm_unrolled", lambda x: _lstm(unroll=True)(x), 1),
    Form("lstm_unrolled_backwards_sequences", lambda x: _sequences(unroll=True, go_backwards=True)(x), 1),
    Form("lstm_implementation_1", lambda x: _lstm(implementation=1)(x), 1),
    Form("lstm_implementation_2", lambda x: _lstm(implementation=2)(x), 1),
    Form("lstm_without_cudnn", lambda x: _lstm(use_cudnn=False)(x), 1),
    Form("lstm_one_feature", lambda x: _lstm()(x), 1, (Input("x", (12, 1)),)),
    Form("lstm_one_unit", lambda x: _sequences(1)(x), 1),
    Form("lstm_one_step", lambda x: _lstm()(x), 1, (Input("x", (1, FEATURES)),), blind=("recurrent_kernel",)),
    Form("lstm_stateful", _stateful, 1, whole=True),
    Form("lstm_cell", lambda x: layers.RNN(layers.LSTMCell(UNITS))(x), 1),
    Form("lstm_cells", lambda x: layers.RNN([layers.LSTMCell(UNITS), layers.LSTMCell(4)])(x), 2),
    Form(
        "lstm_counter",
        lambda x: list(_sequences(return_state=True)(x))[::2],
        1,
        (Input("x", (24, FEATURES), "rising"),),
        set_weights=_count,
        blind=("recurrent_kernel",),
        # c is the sum of 24 roundings; clipped at 10 it would be off by half of its range.
        slack=2.0,
    ),
    Form("lstm_whisper", lambda x: layers.Dense(2)(_lstm()(x)), 1, set_weights=_whisper),
)

MERGED = tuple(
    Form(
        f"bidirectional_{mode or 'unmerged'}{'_sequences' if sequences else ''}",
        lambda x, mode=mode, sequences=sequences: layers.Bidirectional(
            _lstm(return_sequences=sequences), merge_mode=mode
        )(x),
        2,
    )
    for mode, sequences in itertools.product(("concat", "sum", "mul", "ave", None), (False, True))
)

BIDIRECTIONAL = (
    Form("bidirectional_dropout", lambda x: layers.Bidirectional(_sequences(recurrent_dropout=0.4))(x), 2),
    Form("bidirectional_unrolled", lambda x: layers.Bidirectional(_sequences(unroll=True))(x), 2),
    Form("bidirectional_states", lambda x: list(layers.Bidirectional(_sequences(return_state=True))(x)), 2),
    Form(
        "bidirectional_unmerged_states",
        lambda x: list(layers.Bidirectional(_lstm(return_state=True), merge_mode=None)(x)),
        2,
    ),
    Form(
        "bidirectional_two_kinds",
        lambda x: layers.Bidirectional(
            _sequences(),
            backward_layer=_sequences(4, use_bias=False, recurrent_dropout=0.2, go_backwards=True),
        )(x),
        2,
    ),
    Form(
        "bidirectional_states_as_inputs",
        _bidirectional_states_as_inputs,
        2,
        (X, *(Input(name, (UNITS,)) for name in ("h", "c", "backward_h", "backward_c"))),
    ),
)

COMPOSED = (
    Form("stack_of_two", lambda x: _lstm(4)(_sequences()(x)), 2),
    Form("stack_of_three", lambda x: layers.Dense(2)(_lstm()(_sequences(4)(_sequences(8)(x)))), 3),
    Form(
        "stack_of_bidirectionals", lambda x: layers.Bidirectional(_lstm(4))(layers.Bidirectional(_sequences(4))(x)), 4
    ),
    Form("nested_model", _nested, 2),
    Form("nested_twice", _nested_twice, 2),
    Form("submodel_called_twice", _submodel_called_twice, 2, PAIR),
    Form("siamese", _siamese, 2, PAIR),
    Form("siamese_unnamed", _siamese, 2, (Input(None, (TIME, FEATURES)), Input(None, (TIME, FEATURES)))),
    Form("outputs_in_a_list", _outputs_in_a_list, 2, PAIR),
    Form(
        "inputs_and_outputs_by_name",
        _many_inputs_and_outputs,
        2,
        (Input("signal", (TIME, 3)), Input("words", (9,), "tokens", "int32")),
        by_name=True,
    ),
    Form("subclassed", _subclassed, 2, whole=True, custom=("tests.converters.forms:TwoReaders",), formats=(".keras",)),
    Form("sequential", _sequential, 2, whole=True),
    Form("sequential_without_input", _sequential_without_input, 1, whole=True),
    Form("names_with_signs", _named("run-3->best", "x>0", "1.lstm", "a.b>c"), 1, (Input("x>0", (7, 5)),), whole=True),
    # Keras takes these names, and answers step by step; TensorFlow refuses them as soon as it compiles.
    Form(
        "names_with_spaces",
        _named("run 3 best ✓", "input №1", "мой lstm (1)", "réponse ?"),
        1,
        (Input("input №1", (TIME, FEATURES)),),
        whole=True,
        traceable=False,
    ),
    Form("time_distributed_cnn", _cnn, 1, (Input("frames", (5, 8, 8, 1)),)),
    Form("time_distributed_dense", lambda x: layers.TimeDistributed(layers.Dense(3))(_sequences()(x)), 1),
    Form("conv_and_pooling", _conv, 1, (Input("x", (12, FEATURES)),)),
    Form("layer_normalization", _normalized(layers.LayerNormalization), 2),
    Form("batch_normalization", _normalized(layers.BatchNormalization), 2),
    Form("residual", _residual, 2),
    Form("two_poolings", _two_poolings, 1),
    Form("sequence_as_output", _sequence_and_answer, 2),
    Form("attention_dot", _attention(lambda: lambda q, v: layers.Attention()([q, v])), 1, formats=NOT_H5),
    Form("attention_additive", _attention(lambda: lambda q, v: layers.AdditiveAttention()([q, v])), 1),
    Form("attention_multi_head", _attention(lambda: layers.MultiHeadAttention(2, 3)), 1),
    Form("attention_by_permute", _attention_by_permute, 1),
    Form("autoencoder", _autoencoder, 2),
    # Too small to have int8 weights, and without an LSTM.
    Form(
        "dense_only",
        lambda x: layers.Dense(3)(layers.Flatten()(x)),
        0,
        precisions=("float32", "float16", "int8"),
    ),
)

STATEFUL = (
    Form("translator", _translator, 2, PHRASES),
    Form("translator_with_bidirectional_encoder", _translator_with_bidirectional_encoder, 3, PHRASES),
    Form(
        "translator_with_masked_encoder",
        _translator_with_masked_encoder,
        2,
        (Input("source", (8,), "masked tokens", "int32"), Input("target", (6, 3))),
        precisions=NOT_INT8,
        formats=NOT_H5,
    ),
    Form(
        "translator_with_masks",
        _translator_with_masks,
        2,
        (Input("source", (8,), "masked tokens", "int32"), Input("target", (6,), "masked tokens", "int32")),
        precisions=NOT_INT8,
        formats=NOT_H5,
    ),
    Form("states_as_inputs", _states_as_inputs, 1, STATES),
    Form("states_in_and_out", _states_in_and_out, 1, STATES),
    Form("states_carried_once", _carried(2), 2),
    Form("states_carried_twice", _carried(3), 3),
)

TOKEN_FORMS = (
    Form("embedding", lambda t: _lstm()(_embedding(mask_zero=False)(t)), 1, TOKENS),
    Form(
        "embedding_of_float_tokens",
        lambda t: _lstm()(_embedding(mask_zero=False)(t)),
        1,
        (Input("tokens", (9,), "tokens", "float32"),),
    ),
    Form("masked_functional", lambda t: _lstm()(_embedding()(t)), 1, MASKED, formats=NOT_H5),
    Form("masked", _masked(_lstm), 1, MASKED, whole=True),
    Form("masked_sequences", _masked(_sequences), 1, MASKED, whole=True),
    Form("masked_backwards", _masked(lambda: _lstm(go_backwards=True)), 1, MASKED, whole=True),
    Form("masked_backwards_sequences", _masked(lambda: _sequences(go_backwards=True)), 1, MASKED, whole=True),
    Form(
        "masked_float_tokens",
        _masked(_lstm, dtype="float32"),
        1,
        (Input("tokens", (9,), "masked tokens", "float32"),),
        whole=True,
    ),
    Form("masked_dropout", _masked(lambda: _sequences(dropout=0.3, recurrent_dropout=0.3)), 1, MASKED, whole=True),
    Form("masked_unrolled", _masked(lambda: _sequences(unroll=True)), 1, MASKED, whole=True),
    Form("masked_zero_output", _masked(lambda: _sequences(zero_output_for_mask=True)), 1, MASKED, whole=True),
    Form("masked_zero_output_last", _masked(lambda: _lstm(zero_output_for_mask=True)), 1, MASKED, whole=True),
    Form("masked_bidirectional", _masked(lambda: layers.Bidirectional(_lstm())), 2, MASKED, whole=True),
    Form("masked_bidirectional_sequences", _masked(lambda: layers.Bidirectional(_sequences())), 2, MASKED, whole=True),
    Form(
        "masked_bidirectional_unrolled",
        _masked(lambda: layers.Bidirectional(_sequences(unroll=True))),
        2,
        MASKED,
        whole=True,
    ),
    Form(
        "masked_bidirectional_sum",
        _masked(lambda: layers.Bidirectional(_sequences(), merge_mode="sum")),
        2,
        MASKED,
        whole=True,
    ),
    Form("masked_stack", _masked_stack, 5, MASKED, formats=NOT_H5),
    Form("masked_states", _masked_states, 1, MASKED, precisions=NOT_INT8, formats=NOT_H5),
    Form("masked_only_h", _masked_hidden_state, 1, MASKED, precisions=NOT_INT8, formats=NOT_H5),
    # Keras adds -1e9 to the scores of masked steps: too large a range for one int8 scale.
    Form("masked_attention", _masked_attention, 1, MASKED, precisions=NOT_INT8, formats=NOT_H5),
    # Keras divides by the number of valid steps here: a wholly masked sequence has no answer. tflite-runtime has no
    # integer division.
    Form(
        "masked_pooling",
        _masked_pooling,
        1,
        MASKED,
        precisions=NOT_INT8,
        formats=NOT_H5,
        patterns=tuple(pattern for pattern in PATTERNS if pattern != "wholly"),
    ),
    Form(
        "masked_floats",
        lambda x: _lstm()(layers.Masking()(x)),
        1,
        (Input("x", (9, FEATURES), "masked floats"),),
        formats=NOT_H5,
    ),
    Form(
        "masked_floats_sequences",
        lambda x: layers.TimeDistributed(layers.Dense(2))(_sequences()(layers.Masking()(x))),
        1,
        (Input("x", (9, FEATURES), "masked floats"),),
        formats=NOT_H5,
    ),
)

ACTIVATIONS = (
    Form("relu", lambda x: _lstm(activation="relu")(x), 1, precisions=NOT_INT8),
    Form("relu_sequences", lambda x: _lstm(4)(_sequences(activation="relu")(x)), 2, precisions=NOT_INT8),
    Form("relu_states", lambda x: list(_lstm(activation="relu", return_state=True)(x)), 1, precisions=NOT_INT8),
    Form("relu_masked", _masked(lambda: _sequences(activation="relu")), 1, MASKED, whole=True, precisions=NOT_INT8),
    Form("relu6", lambda x: _sequences(activation="relu6")(layers.Rescaling(4.0)(x)), 1, precisions=NOT_INT8),
    Form("hard_tanh", lambda x: _lstm(activation="hard_tanh")(x), 1, precisions=NOT_INT8),
)

LOOPS = (
    Form("sigmoid", lambda x: _lstm(activation="sigmoid")(x), **LOOP),
    Form("linear", lambda x: _sequences(activation="linear")(x), **LOOP),
    Form("hard_sigmoid_gates", lambda x: _lstm(recurrent_activation="hard_sigmoid")(x), **LOOP),
    Form(
        "hard_sigmoid_backwards",
        lambda x: _sequences(recurrent_activation="hard_sigmoid", go_backwards=True)(x),
        **LOOP,
    ),
    Form(
        "hard_sigmoid_masked",
        _masked(lambda: _sequences(recurrent_activation="hard_sigmoid")),
        inputs=MASKED,
        whole=True,
        **LOOP,
    ),
    Form(
        "hard_sigmoid_states",
        lambda x, h, c: list(_lstm(recurrent_activation="hard_sigmoid", return_state=True)(x, initial_state=[h, c])),
        inputs=STATES,
        **LOOP,
    ),
    Form("gru", lambda x: layers.GRU(UNITS)(x), **LOOP),
    Form("gru_reset_before", lambda x: layers.GRU(UNITS, reset_after=False)(x), **LOOP),
    Form("gru_masked", _masked(lambda: layers.GRU(UNITS, return_sequences=True)), inputs=MASKED, whole=True, **LOOP),
    Form("gru_bidirectional", lambda x: layers.Bidirectional(layers.GRU(UNITS, return_sequences=True))(x), **LOOP),
    Form("simple_rnn", lambda x: layers.SimpleRNN(UNITS, return_sequences=True)(x), **LOOP),
    Form(
        "conv_lstm",
        lambda x: layers.Flatten()(layers.ConvLSTM2D(2, 3)(x)),
        inputs=(Input("frames", (5, 6, 6, 1)),),
        **LOOP,
    ),
    Form("custom_cell", lambda x: layers.RNN(LeakyCell())(x), custom=("tests.converters.forms:LeakyCell",), **LOOP),
    Form("lstm_and_gru", _lstm_and_gru, 1, loops=True, precisions=ONLY_FLOAT),
)

SHAPES = (
    Form("batch_of_3", lambda x: _lstm()(x), 1, options={"batch": 3}),
    Form(
        "batch_of_3_masked",
        _masked(lambda: layers.Bidirectional(_sequences())),
        2,
        MASKED,
        whole=True,
        options={"batch": 3},
    ),
    Form("batch_of_3_states", _states_in_and_out, 1, STATES, options={"batch": 3}),
    Form("batch_of_3_translator", _translator, 2, PHRASES, options={"batch": 3}),
    Form("batch_of_3_loop", lambda x: layers.GRU(UNITS)(x), options={"batch": 3}, **LOOP),
    Form("fixed_batch", _fixed_batch, 1, whole=True, options={"batch": 2}),
    Form("free_time", lambda x: _lstm()(x), 1, (Input("x", (None, FEATURES)),), options={"length": 9}),
    Form(
        "free_time_bidirectional",
        lambda x: layers.Bidirectional(_sequences())(x),
        2,
        (Input("x", (None, FEATURES)),),
        options={"length": 6, "batch": 2},
    ),
    Form(
        "free_time_masked",
        _masked(_sequences, shape=(None,)),
        1,
        (Input("tokens", (None,), "masked tokens", "int32"),),
        whole=True,
        options={"length": 8},
    ),
)

FORMS = SINGLE + MERGED + BIDIRECTIONAL + COMPOSED + STATEFUL + TOKEN_FORMS + ACTIVATIONS + LOOPS + SHAPES
BY_NAME = {form.name: form for form in FORMS}
