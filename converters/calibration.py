"""Data that a model is calibrated and verified on: read, checked, generated; and ranges observed on it."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgelstm.artifact import write_temporary
from edgelstm.converters.chunks import StreamSignature
from edgelstm.converters.graph import DTYPES, Array, Graph
from edgelstm.converters.layers import layers_inside
from edgelstm.converters.lowering.fused import FusedLstm
from edgelstm.converters.lowering.integer import Ranges
from edgelstm.converters.lowering.signature import TensorSpec
from edgelstm.errors import CalibrationError
from edgelstm.runtime.arrays import save_arrays
from edgelstm.runtime.child import run_worker

if TYPE_CHECKING:
    from edgelstm.converters.exporters.base import Job

MAX_SAMPLES = 500  # more hardly move the ranges: LSTM outputs are bounded, and int8 has 256 steps
MAX_STREAM_CALLS = 5000  # a sequence has one for each chunk


def read_data(source: str | Path | Mapping[str, Any] | Any) -> dict[str, Array]:
    """Reads data given by the user: an .npz file, a mapping of arrays, or one array.

    Returns:
        Arrays by the name they came with; one unnamed array is called "".

    Raises:
        CalibrationError: If the file cannot be read or holds objects instead of numbers.
    """
    if isinstance(source, (str, Path)):
        return _read_npz(Path(source))
    try:
        if isinstance(source, Mapping):
            return {str(name): np.asarray(array) for name, array in source.items()}
        return {"": np.asarray(source)}
    except ValueError as error:
        raise CalibrationError(
            "The data has rows of different lengths: pad them to one length and give an array of numbers."
        ) from error


def _read_npz(path: Path) -> dict[str, Array]:
    if not path.is_file():
        raise CalibrationError(f"There is no data file {path}: give an .npz file with one array for each input.")
    try:
        with path.open("rb") as file:  # numpy leaves a file open that turns out to be damaged
            archive = np.load(file, allow_pickle=False)
            if isinstance(archive, np.ndarray):
                return {"": archive}
            return {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CalibrationError(
            f"The data file {path} cannot be read ({reason}): write it with numpy.savez(path, name=array), "
            "numbers only."
        ) from error


def fit_data(data: Mapping[str, Array], inputs: Sequence[TensorSpec]) -> dict[str, Array]:
    """Checks data against a model's inputs.

    Args:
        data: Arrays by name, samples along the first axis.
        inputs: The model's inputs; their first axis, the batch, is ignored.

    Returns:
        Arrays by input name in the inputs' dtypes, shape (samples, *input shape without batch).

    Raises:
        CalibrationError: If names, shapes, dtypes or values do not fit.
    """
    names = [spec.name for spec in inputs]
    if len(data) == 1 and len(inputs) == 1:
        data = {names[0]: next(iter(data.values()))}
    missing = [name for name in names if name not in data]
    if missing:
        raise CalibrationError(
            f"The data has arrays named {', '.join(sorted(map(repr, data))) or 'nothing'}, but the model's inputs are "
            f"{', '.join(map(repr, names))}: name the arrays after the inputs."
        )
    fitted = {spec.name: _fit(spec, data[spec.name]) for spec in inputs}
    counts = {name: len(array) for name, array in fitted.items()}
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{name!r} {count}" for name, count in counts.items())
        raise CalibrationError(f"The inputs have different numbers of samples ({listed}): give the same for each.")
    if not all(counts.values()):
        raise CalibrationError("The data has no samples: give at least one.")
    return fitted


def _fit(spec: TensorSpec, array: Array) -> Array:
    expected = spec.shape[1:]
    if array.shape[1:] != expected or array.ndim == 0:
        taken = ", ".join(["samples", *map(str, expected)])
        raise CalibrationError(
            f"Data for input {spec.name!r} has shape {array.shape}, but the model takes ({taken}): "
            "put samples along the first axis."
        )
    wanted = np.dtype(spec.dtype)
    if array.dtype.kind not in "fiub":
        raise CalibrationError(
            f"Data for input {spec.name!r} has dtype {array.dtype}, but the model takes {wanted}: give numbers."
        )
    if not np.isfinite(array).all():
        row = int(np.argwhere(~np.isfinite(array))[0][0])
        raise CalibrationError(
            f"Data for input {spec.name!r} holds NaN or infinity (first in sample {row}): remove such samples."
        )
    if wanted.kind in "iu" and array.dtype.kind == "f" and not (array == np.round(array)).all():
        raise CalibrationError(
            f"Data for input {spec.name!r} has dtype {array.dtype} with fractions, but the model takes {wanted}: "
            "give whole numbers."
        )
    with np.errstate(all="ignore"):
        cast = array.astype(wanted)
    if not (np.isfinite(cast).all() if wanted.kind == "f" else (cast == array).all()):
        raise CalibrationError(
            f"Data for input {spec.name!r} holds values that do not fit into {wanted}, which the model takes: "
            f"they go from {array.min()} to {array.max()}."
        )
    return cast


def generate_data(
    model: Any,
    inputs: Sequence[TensorSpec],
    *,
    padding: str,
    ranges: Mapping[str, Sequence[float]] | None = None,
    samples: int = 12,
) -> dict[str, Array]:
    """Makes inputs to verify on where the user gave none: seeded, with padded steps where the model has masks.

    Token inputs stay below the smallest vocabulary of the model's embeddings. Padded steps come in every
    pattern, or in the promised one.

    Args:
        model: The Keras model.
        inputs: Its inputs.
        padding: What was promised about masked steps.
        ranges: Smallest and largest value by input name, of the data that the file was calibrated on.
        samples: Number of samples.
    """
    rng = np.random.default_rng(20)
    layers = layers_inside(model)
    embeddings = [layer for layer in layers if type(layer).__name__ == "Embedding"]
    tokens = min((int(layer.input_dim) for layer in embeddings), default=2)
    masked_tokens = any(layer.mask_zero for layer in embeddings)
    maskings = [float(layer.mask_value) for layer in layers if type(layer).__name__ == "Masking"]
    data = {}
    for spec in inputs:
        shape = (samples, *spec.shape[1:])
        integers = np.dtype(spec.dtype).kind in "iu" or (bool(embeddings) and len(shape) == 2)
        low, high = (ranges or {}).get(spec.name, (0, 0))
        array: Array
        if integers:
            array = rng.integers(1 if embeddings and tokens > 1 else 0, tokens, shape)
        else:
            array = rng.uniform(low, high, shape) if low < high else rng.normal(size=shape)
        if len(shape) >= 2 and padding != "none":
            if integers and masked_tokens:
                array[_padded(rng, shape[0], shape[1], padding)] = 0
            elif not integers and len(shape) >= 3:
                for value in maskings[:1]:
                    array[_padded(rng, shape[0], shape[1], padding)] = value
        data[spec.name] = array.astype(spec.dtype)
    return data


def _padded(rng: np.random.Generator, samples: int, time: int, padding: str) -> Array:
    """Which steps are padded, shape (samples, time): whole, leading, trailing, scattered ones and none."""
    steps = np.arange(time)
    patterns = []
    for sample in range(samples):
        count = int(rng.integers(1, max(2, time)))
        leading, trailing = steps < count, steps >= time - count
        scattered = rng.random(time) < 0.4
        allowed = {"pre": [leading], "post": [trailing]}.get(padding, [leading, trailing, scattered, steps >= 0])
        choices = [*allowed, steps < 0]
        patterns.append(choices[sample % len(choices)])
    return np.stack(patterns)


def calls_of(data: Mapping[str, Array], inputs: Sequence[TensorSpec], *, limit: int) -> dict[str, Array]:
    """Groups samples into calls of the model's batch size, filling the last call from the first samples.

    Returns:
        Arrays by input name, shape (calls, *input shape with batch).
    """
    calls = {}
    for spec in inputs:
        samples = data[spec.name]
        if len(samples) > limit:  # from everywhere: data is often sorted by class
            samples = samples[np.linspace(0, len(samples) - 1, limit).astype(int)]
        batch = spec.shape[0]
        wanted = -(-len(samples) // batch) * batch
        filled = np.resize(samples, (wanted, *samples.shape[1:])).reshape(-1, *spec.shape)
        calls[spec.name] = filled.astype(spec.dtype)
    return calls


def steps_of(data: Mapping[str, Array], signature: StreamSignature) -> int:
    """Time steps of the sequences in fitted data."""
    return int(data[signature.sequences[0]].shape[1])


def chunked_calls(data: Mapping[str, Array], signature: StreamSignature, *, limit: int) -> tuple[dict[str, Array], int]:
    """Sequences cut into consecutive calls.

    Args:
        data: As `streams.fit_sequences` returns it.
        signature: Inputs with the time axis of one chunk.
        limit: Most samples to use.

    Returns:
        Arrays by input name, shape (sequences * chunks, *input shape with batch), and the number of chunks in a
        sequence.
    """
    steps = steps_of(data, signature)
    whole = calls_of(data, signature.of_steps(steps).inputs, limit=limit)
    chunks = steps // signature.chunk
    calls = {
        spec.name: _chunks(whole[spec.name], spec, chunks)
        if spec.name in signature.sequences
        else np.repeat(whole[spec.name], chunks, axis=0)
        for spec in signature.inputs
    }
    return calls, chunks


def _chunks(whole: Array, spec: TensorSpec, chunks: int) -> Array:
    """(sequences, batch, chunks * chunk, …) as (sequences * chunks, batch, chunk, …)."""
    return np.stack(np.split(whole, chunks, axis=2), axis=1).reshape(-1, *spec.shape)


def graph_inputs(graph: Graph) -> list[TensorSpec]:
    """The inputs of a finished graph, which may take other dtypes than the Keras model."""
    specs = []
    for index in graph.subgraph.inputs:
        name = graph.tensor(index).name.decode()
        specs.append(TensorSpec(name, tuple(graph.shape(index)), np.dtype(DTYPES[graph.tensor(index).type]).name))
    return specs


def observe(graph: Graph, lstms: Sequence[FusedLstm], job: Job, folder: Path) -> Ranges:
    """Runs a fused float graph on the calibration data and records what its tensors and cell states do.

    Args:
        graph: The fused float32 graph, tensor indices as in the carrier graph.
        lstms: Its LSTMs.
        job: Where the calibration data is.
        folder: A scratch folder.

    Raises:
        CalibrationError: If an LSTM or an output of the model is NaN or infinite on the data.
        ModelRunError: If the runtime fails.
    """
    assert job.calibration is not None
    probes = []
    for lstm in lstms:
        weights = folder / f"weights-{lstm.call.index}.npz"
        save_arrays(weights, lstm.weights.as_keras())
        probes.append(
            {
                "input": lstm.input,
                "output": lstm.output,
                "hidden_state": lstm.hidden_state,
                "cell_state": lstm.cell_state,
                "carried": job.streaming,
                "weights": str(weights),
                "activation": lstm.call.activation,
            }
        )
    model = folder / "float.tflite"
    write_temporary(model, graph.to_bytes())
    calls, sequence = _observed_calls(graph, job)
    save_arrays(folder / "inputs.npz", calls)
    plan = {
        "op": "observe",
        "model": str(model),
        "runtime": "ai-edge-litert",
        "inputs": str(folder / "inputs.npz"),
        "reset": sequence is not None,
        "sequence": sequence,
        "ranges": str(folder / "ranges.npz"),
        "lstms": probes,
    }
    result = run_worker(plan, timeout_s=job.timeout_s)[-1]
    broken = set(result["not_finite"]).intersection(graph.subgraph.outputs, (lstm.output for lstm in lstms))
    if broken:
        raise CalibrationError(
            "The model answers NaN or infinity on the calibration data, so no scales can be chosen: check its weights "
            "and the data."
        )
    with np.load(folder / "ranges.npz") as ranges:
        peaks = {lstm.call.index: float(peak) for lstm, peak in zip(lstms, ranges["cell_peak"], strict=True)}
        return Ranges(ranges["min"], ranges["max"], peaks)


def _observed_calls(graph: Graph, job: Job) -> tuple[dict[str, Array], int | None]:
    """Arrays by input name, the calls along the first axis, and how many calls of a streaming model make a sequence."""
    assert job.calibration is not None
    specs = graph_inputs(graph)
    if not isinstance(job.signature, StreamSignature):
        return calls_of(job.calibration, specs, limit=MAX_SAMPLES), None
    batch = job.signature.inputs[0].shape[0]
    chunks = steps_of(job.calibration, job.signature) // job.signature.chunk
    limit = min(MAX_SAMPLES, max(1, MAX_STREAM_CALLS // chunks) * batch)
    calls, chunks = chunked_calls(job.calibration, job.signature, limit=limit)
    return {spec.name: calls[spec.name].astype(spec.dtype) for spec in specs}, chunks
