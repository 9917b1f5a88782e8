"""What every kind of output starts from: a loaded model, prepared to do for a while what its file will do."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgelstm.artifact import Artifact
from edgelstm.converters import streams
from edgelstm.converters.calibration import fit_data, generate_data
from edgelstm.converters.graph import Array
from edgelstm.converters.lowering.signature import Signature, model_signature, proposed_length
from edgelstm.converters.policies import any_length, float32_computation
from edgelstm.converters.reference import require_answers
from edgelstm.gates import approximated_gates
from edgelstm.options import Options
from edgelstm.source import Source

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Prepared:
    """A loaded model with what its conversion starts from.

    Attributes:
        source: The model and where it comes from.
        options: What was asked for.
        signature: Inputs of the file.
        data: The user's data by input name, samples first; None if there is none.
        notes: Sentences for the user.
    """

    source: Source
    options: Options
    signature: Signature
    data: Mapping[str, Array] | None
    notes: tuple[str, ...]

    @property
    def model(self) -> Any:
        """The Keras model."""
        return self.source.model

    @property
    def origin(self) -> str:
        """What the file is verified on."""
        return "calibration" if self.data else "generated"

    def samples(self) -> Mapping[str, Array]:
        """The user's data, or generated inputs."""
        return self.data or generate_data(self.model, self.signature.inputs, padding=self.options.padding)


@contextlib.contextmanager
def prepare(
    source: Source, options: Options, given: Mapping[str, Any] | None, *, free_length: bool = False
) -> Iterator[Prepared]:
    """Fixes the inputs, fits the data, and lets the model for a while do what its file will do.

    Args:
        source: The model.
        options: What was asked for.
        given: The user's data by input name, samples first.
        free_length: Whether the output leaves the number of time steps free, so that none has to be given.

    Raises:
        EdgeLSTMError: If the model's inputs cannot be fixed, or the data does not fit them.
    """
    model = source.model
    with contextlib.ExitStack() as stack:
        mixed = stack.enter_context(float32_computation(model))
        if options.streaming:
            stack.enter_context(any_length(model))
            chunk = options.length or 1
            declared = model_signature(model, batch=options.batch or 1, length=chunk, data=given)
            chunks = streams.stream_signature(model, declared, chunk)
            data = None if given is None else streams.fit_sequences(given, chunks)
            whole: Signature = chunks.of_steps(streams.steps_of(data, chunks)) if data else chunks
            signature: Signature = chunks
        else:
            length = options.length or _length_of(given) or (proposed_length(model) if free_length else None)
            whole = signature = model_signature(model, batch=options.batch or 1, length=length, data=given)
            data = None if given is None else fit_data(given, signature.inputs)
        if data is not None and options.quantize == "int8":
            require_answers(model, whole, data)
        notes = [*source.notes, *_mixed_note(mixed)]
        if options.approximate_gates:
            notes += stack.enter_context(approximated_gates(model, whole, data, padding=options.padding))
        yield Prepared(source, options, signature, data, tuple(notes))


@dataclass(frozen=True)
class Order:
    """One output to be written.

    Attributes:
        prepared: The model.
        output: The file or folder to write.
        folder: A scratch folder.
        progress: Called with a word or two at each step.
    """

    prepared: Prepared
    output: Path
    folder: Path
    progress: Progress


@dataclass(frozen=True)
class Output:
    """One kind of output.

    Attributes:
        check: Finds out, before long work, whether it can be written at a path. Raises OutputError.
        write: Writes it with its card. Raises EdgeLSTMError, and leaves nothing behind then.
        free_length: Whether it leaves the number of time steps free where the model does.
    """

    check: Callable[[Path], None]
    write: Callable[[Order], Artifact]
    free_length: bool = False


def _length_of(data: Mapping[str, Any] | None) -> int | None:
    """The number of time steps of given data, where all arrays agree on it."""
    lengths = {np.shape(array)[1] for array in (data or {}).values() if np.ndim(array) > 1}
    return lengths.pop() if len(lengths) == 1 else None


def _mixed_note(mixed: Sequence[str]) -> list[str]:
    if not mixed:
        return []
    return ["The model computes in another precision than float32 in Keras; this file computes in float32."]
