"""An exported model, ready to be called from Python."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgelstm.artifact import Artifact
from edgelstm.errors import ModelRunError
from edgelstm.runtime.child import run_worker
from edgelstm.runtime.interpreters import import_runtime

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class TensorInfo:
    """An input or an output of a model.

    Attributes:
        name: Its name in the signature, or the tensor's name if the file has no signature.
        shape: Its shape, -1 where the file leaves the size free.
        dtype: Its dtype, "float32", "int8", ….
        scale: real value = scale * (integer - zero_point); None if not quantized.
        zero_point: See scale.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    scale: float | None = None
    zero_point: int | None = None

    def quantize(self, values: npt.ArrayLike) -> Array:
        """Returns real values as this tensor's integers, rounded and saturated.

        Raises:
            ValueError: If the tensor is not quantized, or a value is not a number.
        """
        scale, zero_point = self._parameters()
        values = np.asarray(values)
        if np.isnan(values).any():
            raise ValueError(f"{self.name!r}: the values hold a NaN, which {self.dtype} cannot express.")
        limits = np.iinfo(self.dtype)
        integers: Array = np.clip(np.rint(values / scale) + zero_point, limits.min, limits.max)
        return integers.astype(self.dtype)

    def dequantize(self, values: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """Returns this tensor's integers as real values.

        Raises:
            ValueError: If the tensor is not quantized.
        """
        scale, zero_point = self._parameters()
        return (scale * (np.asarray(values, np.float64) - zero_point)).astype(np.float32)

    def _parameters(self) -> tuple[float, int]:
        if self.scale is None or self.zero_point is None:
            raise ValueError(f"{self.name!r} is {self.dtype} and not quantized: its values are real values already.")
        return self.scale, self.zero_point


class Model:
    """A model in a TFLite runtime of this process. Made by `load`; to be used by one thread at a time.

    Every call starts from the initial state, unless the model was exported as streaming: then the state survives from
    call to call until `reset`.

    Attributes:
        card: The model's card, empty if it has none.
        inputs: The inputs.
        outputs: The outputs.
        streaming: Whether the state survives calls.
    """

    def __init__(self, interpreter: Any, card: dict[str, Any]) -> None:
        self._interpreter = interpreter
        self._inputs, self._outputs = _tensors_by_name(interpreter)
        self.card = card
        self.streaming = card.get("state", {}).get("semantics") == "streaming"
        self.inputs = [_describe(name, detail) for name, detail in self._inputs.items()]
        self.outputs = [_describe(name, detail) for name, detail in self._outputs.items()]

    def __call__(
        self, inputs: npt.ArrayLike | Mapping[str, npt.ArrayLike] | None = None, /, **named: npt.ArrayLike
    ) -> dict[str, Array]:
        """Runs the model once.

        Args:
            inputs: A dict by input name, or the one array of a model with one input.
            **named: The inputs by name, instead.

        Returns:
            The outputs by name, quantized ones as they are; `TensorInfo.dequantize` makes them real values. Inputs are
            cast to the dtype of the model where no value changes; floats for a quantized input are quantized.

        Raises:
            ValueError: If names, shapes or dtypes do not fit.
            ModelRunError: If the runtime fails.
        """
        given = self._by_name(inputs, named)
        return self._invoke({info.name: _fit(given[info.name], info) for info in self.inputs})

    def predict(self, x: npt.ArrayLike | Mapping[str, npt.ArrayLike]) -> Array | dict[str, Array]:
        """Runs the model on any number of rows, as many at a time as its batch size says.

        Args:
            x: As for a call, but the first axis, the batch, may have any length of 1 and more. An incomplete last
                batch is filled up with copies of its last row, whose results are dropped.

        Returns:
            The one output, or a dict of outputs by name if there are several; first axis as that of x.

        Raises:
            ValueError: If names, shapes or dtypes do not fit; if inputs or outputs are not batches; or if the model is
                streaming and x is not exactly one batch, because rows would share one state.
            ModelRunError: If the runtime fails.
        """
        given = {name: np.asarray(array) for name, array in self._by_name(x, {}).items()}
        rows = _count_rows(given)
        batch = self._batch_size(rows)
        if self.streaming and rows != batch:
            raise ValueError(
                f"The model is streaming and keeps one state for each of its {batch} rows, so it cannot take {rows} "
                f"rows. Give it {batch}."
            )
        parts: list[dict[str, Array]] = []
        for start in range(0, rows, batch):
            indices = np.minimum(np.arange(start, start + batch), rows - 1)
            parts.append(self({name: array[indices] for name, array in given.items()}))
        for name, output in parts[0].items():
            if output.ndim == 0 or len(output) != batch:
                raise ValueError(
                    f"Output {name!r} has shape {output.shape}: no row for each of the {batch} of a batch."
                )
        joined = {name: np.concatenate([part[name] for part in parts])[:rows] for name in parts[0]}
        return next(iter(joined.values())) if len(joined) == 1 else joined

    def reset(self) -> None:
        """Puts a streaming model back to its initial state. Others start from there at every call anyway."""
        self._interpreter.reset_all_variables()

    def _by_name(self, inputs: Any, named: Mapping[str, npt.ArrayLike]) -> Mapping[str, npt.ArrayLike]:
        """Returns what was given, by input name; nothing is missing and nothing is left over."""
        names = [info.name for info in self.inputs]
        if inputs is not None and named:
            raise ValueError("Inputs were given both by position and by name. Give them one way.")
        if inputs is not None and not isinstance(inputs, Mapping):
            if len(names) != 1:
                raise ValueError(f"The model has the inputs {names}: give a dict with these names, not one array.")
            return {names[0]: inputs}
        given = named if inputs is None else inputs
        if set(given) != set(names):
            raise ValueError(f"The model has the inputs {names}, but {sorted(given)} were given.")
        return given

    def _batch_size(self, rows: int) -> int:
        sizes = {info.shape[0] if info.shape else 0 for info in self.inputs}
        if len(sizes) != 1 or 0 in sizes:
            shapes = {info.name: info.shape for info in self.inputs}
            raise ValueError(f"The inputs {shapes} do not share a first axis: call the model instead of predict().")
        size = sizes.pop()
        return rows if size == -1 else size

    def _invoke(self, arrays: dict[str, Array]) -> dict[str, Array]:
        try:
            if any(tuple(self._inputs[name]["shape"]) != array.shape for name, array in arrays.items()):
                self._resize({name: array.shape for name, array in arrays.items()})
            if not self.streaming:
                self._interpreter.reset_all_variables()
            for name, array in arrays.items():
                self._interpreter.set_tensor(self._inputs[name]["index"], array)
            self._interpreter.invoke()
            return {name: self._interpreter.get_tensor(detail["index"]) for name, detail in self._outputs.items()}
        except (RuntimeError, ValueError) as error:
            raise ModelRunError(f"The runtime failed while running the model: {_first_line(error)}.") from error

    def _resize(self, shapes: dict[str, tuple[int, ...]]) -> None:
        for name, shape in shapes.items():
            self._interpreter.resize_tensor_input(self._inputs[name]["index"], shape)
        self._interpreter.allocate_tensors()
        self._inputs, self._outputs = _tensors_by_name(self._interpreter)


def load(path: str | Path, *, runtime: str = "auto", threads: int = 1, check: bool = True) -> Model:
    """Loads an exported model into this process.

    Args:
        path: The .tflite file; its card is read if it stands beside it.
        runtime: "ai-edge-litert", "tflite-runtime", or "auto" for the first of them that is installed.
        threads: Number of threads of the runtime.
        check: Whether a runtime that would crash on a damaged file loads it in a child process first, which takes a
            fraction of a second. Runtimes that verify files themselves skip that.

    Returns:
        The model, in its initial state.

    Raises:
        LoadError: If the file or its card cannot be read.
        ModelRunError: If the runtime refuses the file.
        MissingExtraError: If the runtime is not installed.
        ValueError: If threads is less than 1.
    """
    if threads < 1:
        raise ValueError(f"threads is {threads}, but a runtime needs at least 1.")
    artifact = Artifact.open(path)
    package, module = import_runtime(runtime)
    if check and not package.verifies_files:
        plan = {"op": "load", "model": str(artifact.path), "runtime": package.name, "threads": threads}
        run_worker(plan, python=sys.executable)
    try:
        interpreter = module.Interpreter(model_path=str(artifact.path), num_threads=threads)
        interpreter.allocate_tensors()
        return Model(interpreter, artifact.card)
    except (RuntimeError, ValueError) as error:
        raise ModelRunError(
            f"{artifact.path}: {package.name} refused the file: {_first_line(error)}. "
            "Export it again, or use another runtime."
        ) from error


def _tensors_by_name(interpreter: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns the runtime's tensor details of inputs and outputs, by public name.

    Raises:
        ValueError: If the file has more than one signature.
    """
    signatures = interpreter.get_signature_list()
    if len(signatures) > 1:
        raise ValueError(f"it has {len(signatures)} signatures ({', '.join(signatures)}), not one")
    if signatures:
        # The runner must not outlive this function: while it exists, the interpreter refuses to allocate and to invoke.
        runner = interpreter.get_signature_runner()
        return dict(sorted(runner.get_input_details().items())), dict(sorted(runner.get_output_details().items()))
    inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
    return {detail["name"]: detail for detail in inputs}, {detail["name"]: detail for detail in outputs}


def _describe(name: str, detail: dict[str, Any]) -> TensorInfo:
    scale, zero_point = detail["quantization"]
    shape = tuple(int(size) for size in detail["shape_signature"])
    dtype = np.dtype(detail["dtype"]).name
    return TensorInfo(name, shape, dtype, float(scale), int(zero_point)) if scale else TensorInfo(name, shape, dtype)


def _fit(values: npt.ArrayLike, info: TensorInfo) -> Array:
    """Returns an input in the dtype of the model.

    Raises:
        ValueError: If the shape or the dtype does not fit.
    """
    array, dtype = np.asarray(values), np.dtype(info.dtype)
    fits = array.ndim == len(info.shape) and all(
        wanted in (-1, size) for wanted, size in zip(info.shape, array.shape, strict=True)
    )
    if not fits:
        hint = " predict() takes any number of rows." if array.shape[1:] == info.shape[1:] and info.shape else ""
        raise ValueError(f"Input {info.name!r} has shape {array.shape}, but the model takes {info.shape}.{hint}")
    if array.dtype == dtype:
        return array
    if info.scale is not None:
        if array.dtype.kind == "f":
            return info.quantize(array)
        raise ValueError(
            f"Input {info.name!r} is {array.dtype.name}, but the model takes quantized {dtype.name}, or floats to be "
            "quantized."
        )
    if dtype.kind == "f" and array.dtype.kind in "fiub":
        return array.astype(dtype)
    if dtype.kind in "iu" and array.dtype.kind in "iub":
        limits = np.iinfo(dtype)
        if not array.size or (limits.min <= array.min() and array.max() <= limits.max):
            return array.astype(dtype)
    raise ValueError(
        f"Input {info.name!r} is {array.dtype.name}, and its values do not fit into {dtype.name}, which the model "
        "takes."
    )


def _count_rows(arrays: dict[str, Array]) -> int:
    """Returns the common length of the first axis.

    Raises:
        ValueError: If there is none.
    """
    lengths = {name: len(array) if array.ndim else 0 for name, array in arrays.items()}
    if len(set(lengths.values())) != 1 or 0 in lengths.values():
        raise ValueError(f"The first axis must be the batch, the same for all inputs and not empty, but has {lengths}.")
    return next(iter(lengths.values()))


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
