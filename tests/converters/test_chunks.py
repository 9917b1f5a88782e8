"""Which inputs of a model are sequences, and what Keras itself says about a model in chunks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

from edgelstm.converters.calibration import calls_of, chunked_calls
from edgelstm.converters.chunks import StreamSignature, require_no_long_memory, require_streamable, stream_signature
from edgelstm.converters.lowering.signature import model_signature
from edgelstm.converters.policies import any_length
from edgelstm.converters.reference import expected_outputs
from edgelstm.errors import LoweringError
from tests.converters.tiny import floats, functional, sequential

STEPS, FEATURES = 20, 3


def signal(name: str = "signal", features: int = FEATURES, steps: int | None = STEPS) -> Any:
    return keras.Input((steps, features), name=name)


def tokens(name: str = "words", steps: int = STEPS, dtype: str = "int32") -> Any:
    return keras.Input((steps,), name=name, dtype=dtype)


def embedded(x: Any) -> Any:
    return layers.Embedding(9, 4)(x)


def lstm(**arguments: Any) -> Any:
    return layers.LSTM(4, **arguments)


def joined(*tensors: Any) -> Any:
    return layers.Dense(2)(layers.Concatenate()(list(tensors)))


def two_signals() -> keras.Model:
    one, other = signal("one"), signal("other", 2)
    return functional([one, other], joined(lstm()(layers.Concatenate()([one, other]))))


def two_readers() -> keras.Model:
    one, other = signal("one"), signal("other", 2)
    return functional([one, other], joined(lstm()(one), lstm()(other)))


def signal_and_facts(size: int) -> Callable[[], keras.Model]:
    def build() -> keras.Model:
        x, facts = signal(), keras.Input((size,), name="facts")
        return functional([facts, x], joined(lstm()(x), facts))

    return build


def tokens_and_facts(dtype: str) -> Callable[[], keras.Model]:
    def build() -> keras.Model:
        words, facts = tokens(dtype=dtype), keras.Input((6,), name="facts")
        return functional([words, facts], joined(lstm()(embedded(words)), facts))

    return build


def tokens_and_identity() -> keras.Model:
    words, identity = tokens(), tokens("identity", 1)
    return functional([identity, words], joined(lstm()(embedded(words)), layers.Flatten()(embedded(identity))))


def tokens_and_signal(together: bool) -> Callable[[], keras.Model]:
    def build() -> keras.Model:
        words, x = tokens(), signal()
        if together:
            return functional([words, x], joined(lstm()(layers.Concatenate()([embedded(words), x]))))
        return functional([words, x], joined(lstm()(embedded(words)), lstm()(x)))

    return build


def scaled_signal() -> keras.Model:
    x, factor = signal(), keras.Input((1, FEATURES), name="factor")
    return functional([factor, x], joined(lstm()(layers.Multiply()([x, factor]))))


def subclassed() -> keras.Model:
    class Reader(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.reader = lstm()

        def call(self, x: Any) -> Any:
            return self.reader(x)

    model = Reader()
    model(np.zeros((1, STEPS, FEATURES), np.float32))
    return model


@pytest.mark.parametrize(
    "build, sequences, shapes",
    [
        (two_signals, ("one", "other"), [(1, 3, 3), (1, 3, 2)]),
        (two_readers, ("one", "other"), [(1, 3, 3), (1, 3, 2)]),
        (signal_and_facts(2), ("signal",), [(1, 2), (1, 3, 3)]),
        (signal_and_facts(3), ("signal",), [(1, 3), (1, 3, 3)]),
        (signal_and_facts(STEPS), ("signal",), [(1, STEPS), (1, 3, 3)]),
        (tokens_and_facts("int32"), ("words",), [(1, 3), (1, 6)]),
        (tokens_and_facts("float32"), ("words",), [(1, 3), (1, 6)]),
        (tokens_and_identity, ("words",), [(1, 1), (1, 3)]),
        (tokens_and_signal(together=False), ("words", "signal"), [(1, 3), (1, 3, 3)]),
        (tokens_and_signal(together=True), ("words", "signal"), [(1, 3), (1, 3, 3)]),
        (scaled_signal, ("signal",), [(1, 1, 3), (1, 3, 3)]),
        (lambda: sequential(signal(steps=None), lstm()), ("signal",), [(1, 3, 3)]),
        (lambda: sequential(signal(steps=100), lstm()), ("signal",), [(1, 3, 3)]),
        (lambda: sequential(tokens(), layers.Embedding(9, 4), lstm()), ("words",), [(1, 3)]),
        (subclassed, ("input",), [(1, 3, 3)]),
    ],
)
def test_sequences_are_told_from_other_inputs(build, sequences, shapes):
    model = build()
    with any_length(model):
        found = stream_signature(model, model_signature(model, length=3), 3)
    assert (found.sequences, found.chunk) == (sequences, 3)
    assert [spec.shape for spec in found.inputs] == shapes
    longer = {spec.name: spec.shape for spec in found.of_steps(12).inputs}
    for spec in found.inputs:
        assert longer[spec.name] == ((1, 12, *spec.shape[2:]) if spec.name in sequences else spec.shape)


def test_the_chunk_of_an_existing_file_is_found():
    model = signal_and_facts(12)()
    with any_length(model):
        found = stream_signature(model, model_signature(model), {"facts": 12, "signal": 5})
    assert (found.sequences, found.chunk) == (("signal",), 5)
    assert [spec.shape for spec in found.inputs] == [(1, 12), (1, 5, 3)]


@pytest.mark.parametrize(
    "build, message",
    [
        (
            lambda: sequential(signal(), layers.Reshape((STEPS, FEATURES, 1)), layers.Reshape((STEPS, 3)), lstm()),
            r"cannot take 3 time steps at a time \(The total size of the tensor must be unchanged\. .*\), because a "
            "layer of it is made for a fixed number of them: leave --streaming out, or replace that layer",
        ),
        (
            lambda: sequential(signal(), lstm(return_sequences=True), layers.Flatten(), layers.Dense(2)),
            r"cannot take 3 time steps at a time \(Input 0 .* expected axis -1 of input shape to have value 80",
        ),
        (
            lambda: sequential(signal(), layers.LayerNormalization(axis=1), lstm()),
            r"cannot take 3 time steps at a time \(Input to reshape is a tensor with 20 values, but .* has 3\)",
        ),
        (
            lambda: sequential(signal(), layers.Dense(2)),
            "has no recurrent layer, so a stream would keep nothing from call to call: leave --streaming out",
        ),
        (
            lambda: sequential(keras.Input((), name="x"), layers.Rescaling(2.0)),
            "has no input with time steps, so it cannot be streamed: leave --streaming out",
        ),
    ],
)
def test_models_that_take_no_chunks_are_refused(build, message):
    model = build()
    with any_length(model), pytest.raises(LoweringError, match=message):
        stream_signature(model, model_signature(model, length=3), 3)


@pytest.mark.parametrize("chunk", [1, 3])
def test_weights_for_each_step_are_not_repeated_for_one_step(chunk):
    """Keras adds the weights of twenty steps to a single one, and goes on with twenty."""
    model = sequential(signal(), lstm(return_sequences=True), layers.PReLU(), lstm())
    with (
        any_length(model),
        pytest.raises(LoweringError, match=f"cannot take {chunk} time steps at a time .* for a fixed number of them"),
    ):
        stream_signature(model, model_signature(model, length=chunk), chunk)


def check(model: keras.Model, chunk: int = 3, chunks: int = 4) -> None:
    """Runs `require_streamable` on two sequences, as verification does."""
    with any_length(model):
        signature = stream_signature(model, model_signature(model, length=chunk), chunk)
        whole = signature.of_steps(chunk * chunks)
        data = {spec.name: floats(2 * spec.shape[0], *spec.shape[1:], seed=1) for spec in whole.inputs}
        calls, _ = chunked_calls(data, signature, limit=2)
        expected = []
        for count in range(1, chunks + 1):
            prefix = signature.of_steps(chunk * count)
            beginning = {name: array[:, : chunk * count] for name, array in data.items()}
            answers = expected_outputs(model, prefix, calls_of(beginning, prefix.inputs, limit=2))
            expected.append([a[:, :, -chunk:] if a.ndim > 3 else a for a in answers])
        stacked = [np.stack(answers, axis=1) for answers in zip(*expected, strict=True)]
        require_streamable(model, signature, calls, [a.reshape(-1, *a.shape[2:]) for a in stacked], chunks)


@pytest.mark.parametrize(
    "build",
    [
        lambda: sequential(signal(), lstm()),
        lambda: sequential(signal(), lstm(return_sequences=True), layers.BatchNormalization(), lstm()),
        lambda: sequential(signal(), layers.RNN([layers.LSTMCell(3), layers.LSTMCell(2)], return_sequences=True)),
        lambda: sequential(signal(), layers.GRU(4, return_sequences=True), layers.TimeDistributed(layers.Dense(2))),
        lambda: sequential(keras.Input(batch_shape=(1, STEPS, FEATURES)), lstm(stateful=True), layers.Dense(2)),
        lambda: sequential(signal(), layers.Conv1D(4, 1), lstm(return_sequences=True)),
        subclassed,
    ],
)
def test_keras_answers_in_chunks_as_over_the_whole_sequence(build):
    check(build())


@pytest.mark.parametrize(
    "build, culprit",
    [
        (
            lambda: sequential(signal(), layers.Conv1D(4, 3, padding="causal", name="conv"), lstm()),
            "layer 'conv' looks",
        ),
        (lambda: sequential(signal(), layers.Bidirectional(lstm(), name="both")), "layer 'both' looks"),
        (
            lambda: sequential(
                signal(),
                lstm(return_sequences=True),
                layers.Reshape((-1, 2), name="shape"),
                layers.GlobalMaxPooling1D(name="pool"),
            ),
            "one of the layers 'shape', 'pool' looks",
        ),
        (
            lambda: functional(x := signal(), keras.ops.cumsum(lstm(return_sequences=True)(x), axis=1)),
            "something beside its LSTMs looks",
        ),
        (lambda: sequential(signal(), lstm(go_backwards=True)), "something beside its LSTMs looks"),
    ],
)
def test_layers_that_mix_steps_and_keep_none_are_seen(build, culprit):
    with pytest.raises(LoweringError, match=f"cannot be streamed: its answers over chunks differ .* because {culprit}"):
        check(build())


def check_far(model: keras.Model, chunk: int) -> None:
    """Runs `require_no_long_memory` on data of twelve steps, as verification does."""
    with any_length(model):
        signature = stream_signature(model, model_signature(model, length=chunk), chunk)
        specs = signature.of_steps(12).inputs
        data = {spec.name: floats(2 * spec.shape[0], *spec.shape[1:], seed=1) for spec in specs}
        data = {spec.name: np.abs(data[spec.name]).astype(spec.dtype) for spec in specs}
        require_no_long_memory(model, signature, data)


@pytest.mark.parametrize("chunk", [1, 3])
@pytest.mark.parametrize("dilation", [16, 100])
def test_layers_that_look_far_back_are_seen(dilation, chunk):
    """In twelve steps such a layer sees nothing but zeros behind it, whole or in chunks."""
    mixer = layers.Conv1D(4, 2, dilation_rate=dilation, padding="causal", name="mixer")
    model = sequential(signal(steps=None), mixer, lstm(return_sequences=True))
    check(model, chunk, 12 // chunk)
    with pytest.raises(LoweringError, match=r"cannot be streamed: .* because layer 'mixer' looks at several"):
        check_far(model, chunk)


def test_steps_that_come_late_are_seen():
    delay = functional(
        x := signal(steps=None), keras.ops.pad(lstm(return_sequences=True)(x), [[0, 0], [20, 0], [0, 0]])
    )
    model = functional(x := signal(steps=None), delay(x)[:, :-20])
    with pytest.raises(LoweringError, match=r"cannot be streamed: .* because something beside its LSTMs looks"):
        check_far(model, 3)


@pytest.mark.parametrize(
    "build",
    [
        lambda: sequential(signal(), lstm(return_sequences=True), lstm()),
        lambda: sequential(signal(), layers.AveragePooling1D(3), lstm(return_sequences=True)),
        lambda: sequential(keras.Input(batch_shape=(2, STEPS, FEATURES), name="x"), lstm(stateful=True)),
        lambda: sequential(tokens(), layers.Embedding(9, 4), lstm()),
        signal_and_facts(12),
        subclassed,
    ],
)
def test_what_only_lstms_remember_is_no_long_memory(build):
    check_far(build(), 3)


def test_the_model_is_left_as_it_was():
    model = sequential(keras.Input(batch_shape=(1, STEPS, FEATURES)), lstm(stateful=True), layers.Dense(2))
    layer = model.layers[0]
    model(floats(1, STEPS, FEATURES))
    before = [np.asarray(state) for state in layer.states]
    check(model)
    assert layer.stateful
    assert "inner_loop" not in vars(layer)
    for state, kept in zip(layer.states, before, strict=True):
        np.testing.assert_array_equal(np.asarray(state), kept)
        assert kept.any()


def test_of_steps_keeps_what_else_is_known():
    model = two_signals()
    signature = model_signature(model, batch=2)
    with any_length(model):
        found = stream_signature(model, signature, 4)
    assert isinstance(found.of_steps(8), StreamSignature)
    assert found.of_steps(8).structure == signature.structure
    assert found.free_batch
    assert [spec.shape for spec in found.inputs] == [(2, 4, 3), (2, 4, 2)]
