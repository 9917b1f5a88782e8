"""Graphs of which units are cut: what reads an LSTM, and which units must go together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from tests.converters.forms import set_random_weights

TIME, FEATURES, VOCABULARY = 7, 5, 11
Units = Mapping[str, int]


@dataclass(frozen=True)
class Case:
    """A graph.

    Attributes:
        name: Unique.
        graph: From the number of units by name, and a tensor per input, to the outputs.
        units: Number of units by name: of a layer, or "layer/part" for one inside a wrapper.
        gone: Units to cut, by the same names. Units of the first name are asked for; those of the others must follow.
        inputs: Shapes.
        dtype: Of the inputs.
        batch: Where the graph fixes it.
    """

    name: str
    graph: Callable[..., Any]
    units: Units
    gone: Mapping[str, tuple[int, ...]]
    inputs: tuple[tuple[int, ...], ...] = ((TIME, FEATURES),)
    dtype: str = "float32"
    batch: int | None = None

    @property
    def left(self) -> Units:
        """Number of units afterwards, by name."""
        return {name: count - len(self.gone.get(name, ())) for name, count in self.units.items()}

    def build(self, units: Units | None = None) -> keras.Model:
        """Returns a new model with random weights, the same at every call."""
        tensors = [
            keras.Input(batch_shape=(self.batch, *shape), dtype=self.dtype, name=f"x{number}")
            for number, shape in enumerate(self.inputs)
        ]
        made = self.graph(units or self.units, *tensors)
        if not isinstance(made, keras.Model):
            made = keras.Model(tensors if len(tensors) > 1 else tensors[0], made)
        set_random_weights(made, np.random.default_rng(3), 0.5)
        return made

    def data(self, seed: int = 0) -> list[Any]:
        """Returns an array per input."""
        rng = np.random.default_rng(seed)
        shapes = [(self.batch or 3, *shape) for shape in self.inputs]
        if self.dtype == "int32":
            return [rng.integers(0, VOCABULARY, shape).astype("int32") for shape in shapes]
        return [rng.normal(size=shape).astype("float32") for shape in shapes]


def _lstm(units: Units, name: str, **arguments: Any) -> Any:
    return layers.LSTM(units[name], name=name, **arguments)


def _sequences(units: Units, name: str, **arguments: Any) -> Any:
    return _lstm(units, name, return_sequences=True, **arguments)


def _answer(x: Any) -> Any:
    return layers.Dense(2, name="answer")(x)


def _both(units: Units, merge: str | None, make: Any = layers.LSTM, **arguments: Any) -> Any:
    return layers.Bidirectional(make(units["both/forward_a"], name="a", **arguments), merge_mode=merge, name="both")


def _pooled(x: Any) -> Any:
    return _answer(layers.GlobalAveragePooling1D()(x))


def _then(make: Callable[[], Any]) -> Callable[[Units, Any], Any]:
    """Returns a graph of an LSTM's sequence, layers made anew at every build, and a pooled answer."""

    def graph(units: Units, x: Any) -> Any:
        x = _sequences(units, "a")(x)
        made = make()
        for layer in made if isinstance(made, list) else [made]:
            x = layer(x)
        return _pooled(x)

    return graph


def _meeting(make: Callable[[], Any]) -> Callable[[Units, Any], Any]:
    def graph(units: Units, x: Any) -> Any:
        first = _sequences(units, "a")(x)
        return _pooled(make()([first, _sequences(units, "b")(first)]))

    return graph


def _translator(units: Units, source: Any, target: Any) -> Any:
    _, h, c = _lstm(units, "a", return_state=True)(source)
    return _pooled(_sequences(units, "b")(target, initial_state=[h, c]))


def _wide_translator(units: Units, source: Any, target: Any) -> Any:
    _, h, c, backward_h, backward_c = _both(units, "concat", return_state=True)(source)
    states = [layers.Concatenate()([h, backward_h]), layers.Concatenate()([c, backward_c])]
    return _pooled(_sequences(units, "b")(target, initial_state=states))


def _bidirectional_translator(units: Units, source: Any, target: Any) -> Any:
    _, h, c = _lstm(units, "a", return_state=True)(source)
    made = layers.Bidirectional(layers.LSTM(units["both/forward_b"], name="b"), name="both")
    return _answer(made(target, initial_state=[h, c, h, c]))


def _several(units: Units, x: Any) -> list[Any]:
    sequence = _sequences(units, "a")(x)
    return [
        _answer(_lstm(units, "b")(sequence)),
        layers.Dense(3, name="other")(sequence),
        layers.Conv1D(2, 2, name="third")(sequence),
        layers.Dense(1, name="fourth")(sequence[:, -1]),
    ]


def _nested(units: Units, x: Any) -> Any:
    width = units["a"]
    inside = keras.Input((TIME, width), name="inside")
    made = layers.LSTM(units["inner/b"], return_sequences=True, name="b")(inside)
    inner = keras.Model(inside, made, name="inner")
    return _answer(_lstm(units, "c")(inner(_sequences(units, "a")(x))))


def _nested_sequential(units: Units, left: Any, right: Any) -> Any:
    tower = keras.Sequential(
        [keras.Input((TIME, FEATURES)), layers.LSTM(units["tower/a"], name="a"), layers.Dropout(0.5)], name="tower"
    )
    return _answer(layers.Subtract()([tower(left), tower(right)]))


def _one_reader_of_two(units: Units, x: Any) -> Any:
    shared = layers.Dense(3, activation="tanh", name="shared")
    first, second = _sequences(units, "a")(x), _sequences(units, "b")(x)
    return _pooled(layers.Concatenate()([shared(first), shared(second)]))


def _two_poolings(units: Units, x: Any) -> Any:
    sequence = _sequences(units, "a")(x)
    pooled = [layers.GlobalMaxPooling1D()(sequence), layers.GlobalAveragePooling1D()(sequence)]
    return _answer(layers.Concatenate()(pooled))


def _permuted(units: Units, x: Any) -> Any:
    sequence = _sequences(units, "a")(x)
    turned = layers.Dense(4, activation="tanh", use_bias=False, name="turned")(layers.Permute((2, 1))(sequence))
    return _answer(layers.Flatten()(turned))


def _permuted_attention(units: Units, x: Any) -> Any:
    sequence = _sequences(units, "a")(x)
    weights = layers.Dense(TIME, activation="softmax", name="weights")(layers.Permute((2, 1))(sequence))
    return _answer(layers.Flatten()(layers.Multiply()([sequence, layers.Permute((2, 1))(weights)])))


def _reshaped(units: Units, x: Any) -> Any:
    flat = layers.Flatten()(_sequences(units, "a")(x))
    back = layers.Reshape((TIME, units["a"]))(flat)
    image = layers.Reshape((TIME, 1, units["a"]))(back)
    return _answer(layers.Flatten()(layers.Conv2D(2, (2, 1), name="image")(image)))


def _repeated(units: Units, x: Any) -> Any:
    return _pooled(_sequences(units, "b")(layers.RepeatVector(4)(_lstm(units, "a")(x))))


def _operations(units: Units, x: Any) -> Any:
    sequence = _sequences(units, "a")(x)
    turned = ops.swapaxes(ops.relu(sequence) * 2.0, 1, 2)
    scores = ops.softmax(ops.matmul(sequence, turned), axis=-1)
    mean = ops.mean(ops.matmul(scores, sequence), axis=1)
    return _answer(ops.concatenate([mean, sequence[:, -1, :], ops.expand_dims(x[:, 0, 0], -1)], axis=-1))


def _dot(units: Units, x: Any) -> Any:
    query, sequence = _lstm(units, "a")(x), _sequences(units, "b")(x)
    scores = layers.Softmax()(layers.Dot(axes=(2, 1))([sequence, query]))
    return _answer(layers.Dot(axes=(1, 1))([scores, sequence]))


def _queries(units: Units, x: Any) -> Any:
    query, key = _sequences(units, "a")(x), _sequences(units, "b")(x)
    return _pooled(layers.AdditiveAttention(name="attention")([query, _sequences(units, "c")(x), key]))


def _heads(units: Units, x: Any) -> Any:
    query, value = _sequences(units, "a")(x), _sequences(units, "b")(x)
    return _pooled(layers.MultiHeadAttention(2, 3, output_shape=4, name="heads")(query, value))


def _transformer(units: Units, x: Any) -> Any:
    sequence = _sequences(units, "a")(x)
    return _pooled(layers.Add()([sequence, layers.MultiHeadAttention(2, 3, name="heads")(sequence, sequence)]))


def _carried(units: Units, x: Any) -> Any:
    layer = _lstm(units, "a", return_state=True)
    y, h, c = layer(x)
    y, h, c = layer(x, initial_state=[h, c])
    return _answer(layers.Concatenate()([y, c]))


def _cells(units: Units, x: Any) -> Any:
    cells = [layers.LSTMCell(units["rnn/first"], name="first"), layers.LSTMCell(units["rnn/second"], name="second")]
    return _answer(layers.RNN(cells, name="rnn")(x))


def _stateful(units: Units, x: Any) -> Any:
    return _answer(_lstm(units, "a", stateful=True)(x))


def _words(units: Units, tokens: Any) -> Any:
    words = layers.Embedding(VOCABULARY, units["words"], mask_zero=True, name="words")(tokens)
    return _answer(_lstm(units, "b")(layers.Add()([words, _sequences(units, "a")(words)])))


def _masked(units: Units, tokens: Any) -> Any:
    words = layers.Embedding(VOCABULARY, 4, mask_zero=True, name="words")(tokens)
    first, second = _sequences(units, "a")(words), _sequences(units, "b")(words)
    return _answer(_lstm(units, "c")(layers.Concatenate()([first, second])))


def _frames(units: Units, x: Any) -> Any:
    convolution = layers.Conv2D(units["frames/conv"], 3, activation="relu", name="conv")
    x = layers.TimeDistributed(convolution, name="frames")(x)
    x = layers.TimeDistributed(layers.MaxPooling2D(2))(x)
    return _answer(_lstm(units, "a")(layers.TimeDistributed(layers.Flatten())(x)))


def _wrapped_model(units: Units, x: Any) -> Any:
    inner = keras.Sequential(
        [keras.Input((4, 3)), layers.LSTM(units["wrapped/a"], name="a"), layers.Dense(3, name="inside")],
        name="inner",
    )
    return _pooled(layers.TimeDistributed(inner, name="wrapped")(x))


def _convolutions(units: Units, x: Any) -> Any:
    x = layers.Conv1D(units["conv"], 3, activation="relu", padding="causal", name="conv")(x)
    x = layers.MaxPooling1D(2)(layers.BatchNormalization(name="norm")(x))
    return _answer(_lstm(units, "a")(x))


def _hidden(units: Units, x: Any) -> Any:
    hidden = layers.Dense(units["hidden"], activation="tanh", name="hidden")(_lstm(units, "a")(x))
    return layers.Dense(3, activation="softmax", name="answer")(layers.Dropout(0.3)(hidden))


def _sequential(units: Units, x: Any) -> keras.Model:
    del x
    return keras.Sequential(
        [
            keras.Input((TIME, FEATURES), name="x0"),
            _sequences(units, "a"),
            layers.Dropout(0.3),
            _lstm(units, "b"),
            layers.Dense(2, name="answer"),
        ]
    )


PAIR = ((TIME, FEATURES), (4, 3))
A = {"a": 6}
GONE = {"a": (1, 4)}
ONE = {"both/forward_a": 6, "both/backward_a": 6}
SAME = {"both/forward_a": (0, 3), "both/backward_a": (0, 3)}
OTHER = {"both/forward_a": (0, 3), "both/backward_a": (2, 5)}
TIED = {"a": (0, 4), "b": (0, 4)}

CASES = (
    Case("dense", lambda u, x: _answer(_lstm(u, "a")(x)), A, GONE),
    Case("no_bias", lambda u, x: _answer(_lstm(u, "a", use_bias=False)(x)), A, GONE),
    Case(
        "stack", lambda u, x: _answer(_lstm(u, "b")(_sequences(u, "a")(x))), {"a": 6, "b": 4}, {"a": (5,), "b": (0, 2)}
    ),
    Case("gru", lambda u, x: _answer(layers.GRU(4)(_sequences(u, "a")(x))), A, GONE),
    Case("gru_units", lambda u, x: _answer(layers.GRU(u["g"], name="g")(x)), {"g": 6}, {"g": (0, 3)}),
    Case(
        "gru_reset_before",
        lambda u, x: _answer(layers.GRU(u["g"], reset_after=False, name="g")(_sequences(u, "a")(x))),
        {"a": 6, "g": 5},
        {"a": (1, 4), "g": (0, 3)},
    ),
    Case("simple_rnn", lambda u, x: _answer(layers.SimpleRNN(u["r"], name="r")(x)), {"r": 6}, {"r": (1,)}),
    Case("bidirectional_concat", lambda u, x: _answer(_both(u, "concat")(x)), ONE, OTHER),
    Case("bidirectional_sum", lambda u, x: _answer(_both(u, "sum")(x)), ONE, SAME),
    Case("bidirectional_ave", lambda u, x: _pooled(_both(u, "ave", return_sequences=True)(x)), ONE, SAME),
    Case("bidirectional_mul", lambda u, x: _answer(_both(u, "mul")(x)), ONE, SAME),
    Case(
        "bidirectional_unmerged",
        lambda u, x: _answer(layers.Concatenate()(_both(u, None)(x))),
        ONE,
        OTHER,
    ),
    Case(
        "bidirectional_states",
        lambda u, x: _answer(layers.Concatenate()(list(_both(u, "concat", return_state=True)(x)))),
        ONE,
        OTHER,
    ),
    Case("bidirectional_gru", lambda u, x: _answer(_both(u, "concat", layers.GRU)(x)), ONE, OTHER),
    Case("translator", _translator, {"a": 6, "b": 6}, TIED, PAIR),
    Case(
        "wide_translator",
        _wide_translator,
        {"both/forward_a": 4, "both/backward_a": 4, "b": 8},
        {"both/forward_a": (0,), "both/backward_a": (2,), "b": (0, 6)},
        PAIR,
    ),
    Case(
        "bidirectional_translator",
        _bidirectional_translator,
        {"a": 5, "both/forward_b": 5, "both/backward_b": 5},
        {"a": (1, 2), "both/forward_b": (1, 2), "both/backward_b": (1, 2)},
        PAIR,
    ),
    Case("carried_states", _carried, A, GONE),
    Case("cells", _cells, {"rnn/first": 6, "rnn/second": 4}, {"rnn/first": (1, 3), "rnn/second": (2,)}),
    Case("stateful", _stateful, A, GONE, batch=2),
    Case("several_readers", _several, {"a": 6, "b": 4}, {"a": (0, 3), "b": (3,)}),
    Case("one_reader_of_two", _one_reader_of_two, {"a": 6, "b": 6}, TIED),
    Case("add", _meeting(layers.Add), {"a": 6, "b": 6}, TIED),
    Case("multiply", _meeting(layers.Multiply), {"a": 6, "b": 6}, TIED),
    Case("maximum", _meeting(layers.Maximum), {"a": 6, "b": 6}, TIED),
    Case("concatenate", _meeting(layers.Concatenate), {"a": 6, "b": 4}, {"a": (0, 4), "b": (1,)}),
    Case("time_distributed", _then(lambda: layers.TimeDistributed(layers.Dense(3, name="d"), name="td")), A, GONE),
    Case("convolution", _then(lambda: layers.Conv1D(3, 2, name="c")), A, GONE),
    Case("separable", _then(lambda: layers.SeparableConv1D(3, 2, depth_multiplier=2, name="c")), A, GONE),
    Case(
        "passed_on",
        _then(
            lambda: [
                layers.Dropout(0.3),
                layers.SpatialDropout1D(0.2),
                layers.Activation("relu"),
                layers.LeakyReLU(),
                layers.PReLU(shared_axes=[1], name="slopes"),
                layers.MaxPooling1D(2),
                layers.UpSampling1D(2),
                layers.ZeroPadding1D(1),
                layers.Masking(),
            ]
        ),
        A,
        GONE,
    ),
    Case("batch_normalization", _then(lambda: layers.BatchNormalization(name="norm")), A, GONE),
    Case("two_poolings", _two_poolings, A, GONE),
    Case("flatten", lambda u, x: _answer(layers.Flatten()(_sequences(u, "a")(x))), A, GONE),
    Case("permute", _permuted, A, GONE),
    Case("permuted_attention", _permuted_attention, A, GONE),
    Case("reshape", _reshaped, A, GONE),
    Case("repeat", _repeated, {"a": 6, "b": 5}, {"a": (1, 4), "b": (0,)}),
    Case("operations", _operations, A, GONE),
    Case("dot", _dot, {"a": 6, "b": 6}, TIED),
    Case("attention", _meeting(layers.Attention), {"a": 6, "b": 6}, TIED),
    Case("additive_attention", _queries, {"a": 6, "b": 6, "c": 5}, {**TIED, "c": (1,)}),
    Case("heads", _heads, {"a": 6, "b": 5}, {"a": (0, 4), "b": (1,)}),
    Case("transformer", _transformer, {"a": 6, "heads": 6}, {"a": (0, 4), "heads": (0, 4)}),
    Case("nested", _nested, {"a": 6, "inner/b": 5, "c": 4}, {"a": (0, 4), "inner/b": (1,), "c": (3,)}),
    Case("nested_sequential", _nested_sequential, {"tower/a": 6}, {"tower/a": (1, 4)}, ((TIME, FEATURES),) * 2),
    Case("wrapped_model", _wrapped_model, {"wrapped/a": 6}, {"wrapped/a": (1, 4)}, ((TIME, 4, 3),)),
    Case("words", _words, {"a": 6, "words": 6, "b": 4}, {"a": (0, 3), "words": (0, 3), "b": (1,)}, ((9,),), "int32"),
    Case("masked", _masked, {"a": 6, "b": 4, "c": 5}, {"a": (0, 3), "b": (3,), "c": (1,)}, ((9,),), "int32"),
    Case("frames", _frames, {"a": 6, "frames/conv": 3}, {"a": (1, 4), "frames/conv": (1,)}, ((5, 8, 8, 1),)),
    Case("convolutions_before", _convolutions, {"a": 6, "conv": 8}, {"a": (1, 4), "conv": (0, 6)}, ((12, FEATURES),)),
    Case("hidden_dense", _hidden, {"a": 6, "hidden": 8}, {"a": (1, 4), "hidden": (0, 5, 6)}),
    Case("sequential", _sequential, {"a": 6, "b": 4}, {"a": (1, 4), "b": (0,)}),
)
BY_NAME = {case.name: case for case in CASES}
