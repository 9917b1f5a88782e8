"""A Keras model run in chunks of time steps, the states of its layers carried from chunk to chunk: what a stream is.

This tells which inputs of a model are sequences, whether it takes chunks at all, and whether its answers over chunks
are those over the whole sequence. If Keras itself says no, the model cannot be streamed, whatever runs its file.
"""

from __future__ import annotations

import contextlib
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from edgelstm.converters.graph import Array
from edgelstm.converters.layers import layers_inside
from edgelstm.converters.lowering.signature import Signature, TensorSpec
from edgelstm.errors import LoweringError

MAX_INPUTS = 6  # beyond, 2^n ways to choose the sequences among them are too many to try

# Keras computes the same steps in another order of sums; layers that look over the edge of a chunk differ by far more.
TOLERANCE = 1e-3

# How far back a layer may look unseen by the short sequences of verification; dilated layers may look further.
FAR_STEPS = 64

# Layers of Keras that mix time steps, named when a model cannot be streamed.
MIXING = (
    "Conv1D", "DepthwiseConv1D", "SeparableConv1D", "Conv1DTranspose", "MaxPooling1D", "AveragePooling1D",
    "GlobalMaxPooling1D", "GlobalAveragePooling1D", "Flatten", "Reshape", "Permute", "Dot", "Attention",
    "AdditiveAttention", "MultiHeadAttention", "GroupQueryAttention", "Cropping1D", "ZeroPadding1D", "UpSampling1D",
    "RepeatVector", "Bidirectional",
)  # fmt: skip


@dataclass(frozen=True)
class StreamSignature(Signature):
    """The inputs of a streaming model.

    Attributes:
        sequences: Names of the inputs that have a time axis, axis 1; the others are given anew with every chunk.
        chunk: Time steps in one call.
    """

    sequences: tuple[str, ...] = ()
    chunk: int = 1

    def of_steps(self, steps: int) -> StreamSignature:
        """The same inputs with sequences of another length."""
        return replace(self, inputs=tuple(_cut(spec, self.sequences, steps) for spec in self.inputs))


def stream_signature(model: Any, signature: Signature, steps: int | Mapping[str, int]) -> StreamSignature:
    """The inputs of a model with the time axis of its sequences cut to a chunk.

    Args:
        model: The Keras model, taking any number of steps.
        signature: Its inputs.
        steps: Time steps in one call; or for an existing file the size of axis 1 by input name.

    Raises:
        LoweringError: If the model has no sequence or no recurrent layer, or cannot take chunks.
    """
    candidates = [spec.name for spec in signature.inputs if len(spec.shape) > 1]
    if not candidates:
        raise LoweringError("The model has no input with time steps, so it cannot be streamed: leave --streaming out.")
    sizes = dict.fromkeys(candidates, steps) if isinstance(steps, int) else steps
    names = _find_sequences(model, signature, candidates, sizes) or _by_rank(signature, candidates)
    result = StreamSignature(
        signature.inputs, signature.structure, signature.free_batch, sequences=names, chunk=sizes[names[0]]
    ).of_steps(sizes[names[0]])
    # One step may fit a layer that is made for twenty: weights for each step are repeated then. Two do not.
    for seen in (_steps_seen(model, result.of_steps(count * result.chunk)) for count in (1, 2)):
        if isinstance(seen, Exception):
            raise LoweringError(
                f"The model cannot take {result.chunk} time steps at a time ({_reason(seen)}), because a layer of it "
                "is made for a fixed number of them: leave --streaming out, or replace that layer."
            ) from seen
        if not seen:
            raise LoweringError(
                "The model has no recurrent layer, so a stream would keep nothing from call to call: leave --streaming "
                "out."
            )
    return result


def _find_sequences(
    model: Any, signature: Signature, candidates: Sequence[str], sizes: Mapping[str, int]
) -> tuple[str, ...]:
    """Of several inputs the smallest set whose axis 1 is the time of every recurrent layer; none if there is none."""
    if not 1 < len(candidates) <= MAX_INPUTS:
        return ()
    for count in range(1, len(candidates) + 1):
        for names in itertools.combinations(candidates, count):
            if len({sizes[name] for name in names}) > 1:
                continue
            trial = StreamSignature(signature.inputs, signature.structure, sequences=names)
            seen = [_steps_seen(model, trial.of_steps(factor * sizes[names[0]])) for factor in (1, 2)]
            if _all_differ(*seen):
                return names
    return ()


def _all_differ(once: list[int] | Exception, twice: list[int] | Exception) -> bool:
    """Whether every recurrent layer was given another number of steps the second time."""
    if isinstance(once, Exception) or isinstance(twice, Exception) or len(once) != len(twice):
        return False
    return bool(once) and all(one != other for one, other in zip(once, twice, strict=True))


def _by_rank(signature: Signature, candidates: Sequence[str]) -> tuple[str, ...]:
    """Inputs of rank 3 and more, or those of rank 2 (tokens) where no input has a higher one."""
    ranks = {spec.name: len(spec.shape) for spec in signature.inputs}
    least = 3 if max(ranks.values()) > 2 else 2
    return tuple(name for name in candidates if ranks[name] >= least)


def _steps_seen(model: Any, signature: Signature) -> list[int] | Exception:
    """How many steps each recurrent layer is given, in the order of their calls; or why Keras cannot run the model."""
    inputs = {spec.name: np.zeros(spec.shape, spec.dtype) for spec in signature.inputs}
    try:
        if hasattr(model, "running_layers"):  # what it is compared with may count its steps, though its layers do not
            _answer(model, signature, inputs)
        with _carried_states(model) as carried:
            _answer(model, signature, inputs)
            return carried.steps
    except Exception as error:  # whatever a model's own code raises
        return error


def require_streamable(
    model: Any, signature: StreamSignature, calls: Mapping[str, Array], expected: Sequence[Array], chunks: int
) -> None:
    """Refuses a model whose answers over chunks are not those over the sequence from its beginning.

    Args:
        model: The Keras model.
        signature: Its inputs with the time axis of one chunk.
        calls: Arrays by input name, shape (sequences * chunks, *input shape).
        expected: Keras' answers to the sequences up to the end of each chunk, each of shape
            (sequences * chunks, *output shape of a chunk).
        chunks: Chunks in a sequence.

    Raises:
        LoweringError: Naming the layers that mix time steps, where they are known.
    """
    _require_same(model, _answers_over_chunks(model, signature, calls, chunks), expected)


def require_no_long_memory(model: Any, signature: StreamSignature, data: Mapping[str, Array]) -> None:
    """Refuses a model that looks back past its LSTMs, and further than the given sequences are long.

    A convolution with a dilation of 16 sees nothing but zeros behind it in a sequence of 12 steps, whole or in chunks.
    So one long sequence is run as a whole, and then again in two calls: all but its last chunk, and that.

    Args:
        model: The Keras model.
        signature: Its inputs with the time axis of one chunk.
        data: Arrays by input name, sequences of shape (samples, time, …); their steps are what the long one is made of.

    Raises:
        LoweringError: Naming the layers that mix time steps, where they are known.
    """
    chunk, given = signature.chunk, data[signature.sequences[0]].shape[1]
    steps = chunk * (1 + -(-max(FAR_STEPS, _largest_dilation(model)) // chunk))
    if steps <= given:
        return
    order = np.random.default_rng(0).integers(given, size=steps)

    def part(start: int, stop: int) -> dict[str, Array]:
        rows = {spec.name: data[spec.name][: spec.shape[0]] for spec in signature.inputs}
        return {
            name: array[:, order[start:stop]] if name in signature.sequences else array for name, array in rows.items()
        }

    whole = _answers_in_a_row(model, signature, [part(0, steps)])
    answers = _answers_in_a_row(model, signature, [part(0, steps - chunk), part(steps - chunk, steps)])
    ends = [
        long if long.shape == answer.shape else long[:, -answer.shape[1] :]
        for long, answer in zip(whole, answers, strict=True)
    ]
    _require_same(model, answers, ends)


def _largest_dilation(model: Any) -> int:
    """How far apart the steps are at most that a convolution of the model looks at."""
    return max((int(np.max(getattr(layer, "dilation_rate", 1))) for layer in layers_inside(model)), default=1)


def _answers_in_a_row(model: Any, signature: Signature, calls: Sequence[Mapping[str, Array]]) -> list[Array]:
    """Keras' answers to the last of consecutive calls, whose lengths may differ."""
    with _carried_states(model) as carried:
        for inputs in calls:
            answers = _answer(model, signature, inputs)
            carried.next_call()
    return answers


def _require_same(model: Any, answers: Sequence[Array], expected: Sequence[Array]) -> None:
    for answer, wanted in zip(answers, expected, strict=True):
        allowed = TOLERANCE * float(np.abs(wanted).max(initial=0.0)) + 1e-6
        if not np.abs(answer - wanted).max(initial=0.0) <= allowed:
            raise LoweringError(
                "The model cannot be streamed: its answers over chunks differ from those over the whole sequence, "
                f"because {_culprits(model)} at several time steps and keeps none of them from call to call. Leave "
                "--streaming out, or stream a model without that and compute it in the app."
            )


def _culprits(model: Any) -> str:
    mixing = [repr(layer.name) for layer in layers_inside(model) if type(layer).__name__ in MIXING]
    if not mixing:
        return "something beside its LSTMs looks"
    return f"layer {mixing[0]} looks" if len(mixing) == 1 else f"one of the layers {', '.join(mixing)} looks"


def _answers_over_chunks(model: Any, signature: Signature, calls: Mapping[str, Array], chunks: int) -> list[Array]:
    """Keras' answers to consecutive chunks, each of shape (sequences * chunks, *output shape)."""
    answers = []
    with _carried_states(model) as carried:
        for call in range(len(next(iter(calls.values())))):
            if call % chunks == 0:
                carried.states = []
            answers.append(_answer(model, signature, {name: array[call] for name, array in calls.items()}))
            carried.next_call()
    return [np.stack(output) for output in zip(*answers, strict=True)]


def _answer(model: Any, signature: Signature, inputs: Mapping[str, Array]) -> list[Array]:
    import keras
    import tensorflow as tf

    outputs = model(signature.pack([tf.constant(inputs[spec.name]) for spec in signature.inputs]), training=False)
    return [np.asarray(tensor, np.float32) for tensor in keras.tree.flatten(outputs)]


@dataclass
class _Carried:
    """States of recurrent layers between the calls of a model, in the order in which the layers are called.

    Attributes:
        states: What the next call starts from; empty for fresh states.
        steps: Time steps of each layer in the present call.
        new: Final states of the present call.
    """

    states: list[Any] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)
    new: list[Any] = field(default_factory=list)

    def next_call(self) -> None:
        """Makes the final states of this call the initial ones of the next."""
        self.states, self.steps, self.new = self.new, [], []


@contextlib.contextmanager
def _carried_states(model: Any) -> Iterator[_Carried]:
    """Lets the recurrent layers of a model start from where they ended, for a while; their own states stay."""
    import keras

    carried = _Carried()
    layers = list({id(layer): layer for layer in layers_inside(model) if isinstance(layer, keras.layers.RNN)}.values())
    stateful = [layer for layer in layers if layer.stateful]
    # The model of a SavedModel's signature has layers, but runs its operations unless it is asked for them.
    running_layers = getattr(model, "running_layers", contextlib.nullcontext)
    try:
        for layer in layers:
            object.__setattr__(layer, "inner_loop", _carrying(layer.inner_loop, carried))
        for layer in stateful:
            layer.stateful = False
        with running_layers():
            yield carried
    finally:
        for layer in layers:
            object.__delattr__(layer, "inner_loop")
        for layer in stateful:
            layer.stateful = True


def _carrying(original: Any, carried: _Carried) -> Any:
    """A layer's loop that starts from carried states where there are some."""
    import keras

    def inner_loop(sequences: Any, initial_state: Any, mask: Any, training: bool = False) -> Any:
        position = len(carried.steps)
        carried.steps.append(int(sequences.shape[1]))
        if position < len(carried.states):
            initial_state = keras.tree.pack_sequence_as(initial_state, carried.states[position])
        last, outputs, states = original(sequences, initial_state, mask, training=training)
        carried.new.append(keras.tree.flatten(states))
        return last, outputs, states

    return inner_loop


def _cut(spec: TensorSpec, sequences: Sequence[str], steps: int) -> TensorSpec:
    if spec.name not in sequences:
        return spec
    return replace(spec, shape=(spec.shape[0], steps, *spec.shape[2:]))


def _reason(error: Exception) -> str:
    """What Keras says, without the layer's arguments that it appends; its own words are printed in bold."""
    bold = re.search(r"\x1b\[1m(.*?)\x1b\[0m", str(error), re.DOTALL)
    said = bold.group(1) if bold else str(error).partition("\n")[0]
    text = " ".join(re.sub(r"\{\{.*?\}\}|\[Op:.*?\]", "", said).split())
    return text[:200].rstrip(".") or type(error).__name__
