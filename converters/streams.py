"""Streaming models: their data, and parity with Keras over whole sequences.

A streaming file takes a chunk of time steps and goes on where the call before it ended. So it is compared chunk by
chunk with what Keras answers to the sequence from its beginning.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgelstm.converters.calibration import calls_of, chunked_calls, fit_data, generate_data, steps_of
from edgelstm.converters.chunks import StreamSignature, require_no_long_memory, require_streamable, stream_signature
from edgelstm.converters.graph import Array
from edgelstm.converters.lowering.streaming import StreamState
from edgelstm.converters.reference import expected_outputs
from edgelstm.converters.verification import Stream, VerificationReport, verify_calls
from edgelstm.errors import CalibrationError, LoweringError, VerificationError
from edgelstm.runtime.inspection import Inspection

__all__ = ["StreamSignature", "fit_sequences", "steps_of", "stream_signature", "verify_stream"]

SEQUENCES = 3
MIN_CHUNKS, MIN_STEPS = 3, 12
MAX_CHUNKS = 16


def fit_sequences(data: Mapping[str, Any], signature: StreamSignature) -> dict[str, Array]:
    """Checks the user's sequences against the inputs of a streaming model.

    Args:
        data: Arrays by name, sequences of shape (samples, time, …); steps beyond the last full chunk are left out.
        signature: Inputs with the time axis of one chunk.

    Returns:
        Arrays by input name, sequences of shape (samples, chunks * chunk, …). Samples of so few chunks that they would
        hardly show what states do are joined to longer ones, as they would follow each other in a stream.

    Raises:
        CalibrationError: If names, shapes or values do not fit, or a sequence is shorter than a chunk.
    """
    arrays = {name: np.asarray(array) for name, array in data.items()}
    if len(arrays) == 1 and len(signature.inputs) == 1:
        arrays = {signature.inputs[0].name: next(iter(arrays.values()))}
    long = [name for name in signature.sequences if name in arrays and arrays[name].ndim > 1]
    shortest = min((arrays[name].shape[1] for name in long), default=signature.chunk)
    if shortest < signature.chunk:
        raise CalibrationError(
            f"The data has sequences of {shortest} steps, but one call of the file takes {signature.chunk}: give "
            f"longer ones, or --length {max(shortest, 1)}."
        )
    steps = shortest - shortest % signature.chunk
    cut = {name: array[:, :steps] if name in long else array for name, array in arrays.items()}
    return _joined(fit_data(cut, signature.of_steps(steps).inputs), signature)


def _joined(data: dict[str, Array], signature: StreamSignature) -> dict[str, Array]:
    """Samples of at least `MIN_CHUNKS` chunks, several in a row where one has fewer; the first ones fill the last."""
    steps = steps_of(data, signature)
    count = -(-MIN_CHUNKS * signature.chunk // steps)

    def join(array: Array) -> Array:
        samples: Array = np.resize(array, (-(-len(array) // count) * count, *array.shape[1:]))
        return samples.reshape(-1, count, *array.shape[1:])

    return {
        name: join(array).reshape(-1, count * steps, *array.shape[2:])
        if name in signature.sequences
        else join(array)[:, 0]
        for name, array in data.items()
    }


def verify_stream(
    model: Any,
    signature: StreamSignature,
    file: Path,
    *,
    inspection: Inspection,
    precision: str,
    states: Sequence[StreamState],
    data: Mapping[str, Array] | None,
    origin: str,
    engines: Sequence[str],
    timeout_s: float,
    ranges: Mapping[str, Sequence[float]] | None = None,
) -> VerificationReport:
    """Compares a streaming file with Keras over whole sequences.

    Args:
        model: The Keras model, taking any number of steps.
        signature: Its inputs with the time axis of one chunk.
        file: The .tflite file.
        inspection: What `inspect` says about the file.
        precision: A key of `TOLERANCES`.
        states: The states that stay.
        data: As `fit_sequences` returns it; generated if None.
        origin: What the data is, for the report.
        engines: Where to run the file.
        timeout_s: Limit for each of them, in seconds.
        ranges: Smallest and largest value by input name, for generated data.

    Raises:
        LoweringError: If the answer to a chunk depends on steps that come later, or on a layer that keeps no state.
        VerificationError: If Keras itself answers with NaN or infinity.
    """
    wanted = signature.chunk * min(MAX_CHUNKS, max(MIN_CHUNKS, -(-MIN_STEPS // signature.chunk)))
    if data is None:
        samples = SEQUENCES * signature.inputs[0].shape[0]
        specs = signature.of_steps(wanted).inputs
        data = generate_data(model, specs, padding="none", ranges=ranges, samples=samples)
    data = {name: array[:, :wanted] if name in signature.sequences else array for name, array in data.items()}
    limit = SEQUENCES * signature.inputs[0].shape[0]
    calls, chunks = chunked_calls(data, signature, limit=limit)
    outputs = [entry for entry in inspection.outputs if entry.name not in {state.output for state in states}]
    expected = _expected(model, signature, data, limit, [entry.shape for entry in outputs])
    if not all(np.isfinite(answer).all() for answer in expected):
        raise VerificationError(
            f"Keras itself answers with NaN or infinity on the {origin} data, so there is nothing to compare with. "
            "Check the model's weights and the data."
        )
    require_streamable(model, signature, calls, expected, chunks)
    require_no_long_memory(model, signature, data)
    given = {state.input for state in states}
    return verify_calls(
        file,
        {name: np.concatenate([array, array[:chunks]]) for name, array in calls.items()},
        [np.concatenate([array, array[:chunks]]) for array in expected],
        inputs=[entry for entry in inspection.inputs if entry.name not in given],
        outputs=[entry.name for entry in outputs],
        precision=precision,
        origin=origin,
        engines=engines,
        timeout_s=timeout_s,
        stream=Stream(chunks, {state.input: state.output for state in states if state.input and state.output}),
    )


def _expected(
    model: Any,
    signature: StreamSignature,
    data: Mapping[str, Array],
    limit: int,
    shapes: Sequence[Sequence[int]],
) -> list[Array]:
    """Keras' answers to every sequence up to the end of each chunk, each of shape (sequences * chunks, *output)."""
    by_chunk = []
    for steps in range(signature.chunk, steps_of(data, signature) + 1, signature.chunk):
        prefix = signature.of_steps(steps)
        beginning = {name: array[:, :steps] if name in signature.sequences else array for name, array in data.items()}
        answers = expected_outputs(model, prefix, calls_of(beginning, prefix.inputs, limit=limit))
        by_chunk.append([_of_chunk(answer, shape) for answer, shape in zip(answers, shapes, strict=True)])
    joined = [np.stack(answers, axis=1) for answers in zip(*by_chunk, strict=True)]
    return [array.reshape(-1, *array.shape[2:]) for array in joined]


def _of_chunk(answer: Array, shape: Sequence[int]) -> Array:
    """The part of an answer (calls, batch, time, …) that a call on the last chunk gives, by the file's output shape."""
    if answer.shape[1:] == tuple(shape):
        return answer
    last = answer[:, :, -shape[1] :] if answer.ndim > 2 and len(shape) > 1 else answer
    if last.shape[1:] != tuple(shape):
        raise LoweringError(
            f"The model cannot be streamed: over a longer sequence its output has shape {answer.shape[1:]}, and a "
            f"chunk gives {tuple(shape)}. Leave --streaming out."
        )
    return last
