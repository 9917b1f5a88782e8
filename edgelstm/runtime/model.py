"""An exported model, ready to be called from Python."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from edgelstm.artifact import Artifact
from edgelstm.errors import EdgeLSTMError, LoadError, ModelRunError
from edgelstm.native import library_path
from edgelstm.runtime.child import run_worker
from edgelstm.runtime.interpreters import import_runtime
from edgelstm.runtime.states import States, is_streaming
from edgelstm.runtime.tensors import Array, TensorInfo, describe, fit

__all__ = ["Array", "Model", "TensorInfo", "load"]


class Model:
    """A model in a TFLite runtime of this process. Made by `load`; to be used by one thread at a time.

    Every call starts from the initial state, unless the model was exported as streaming: then its states survive from
    call to call until `reset`, and can be read, set, saved and restored.

    Attributes:
        card: The model's card, empty if it has none.
        inputs: The inputs in the order of the file, without those that are states.
        outputs: The outputs in the order of the file, without those that are states.
        streaming: Whether states survive calls.
        state_infos: The states of a streaming model; none of another one.
    """

    def __init__(self, interpreter: Any, card: dict[str, Any]) -> None:
        self._interpreter = interpreter
        self._inputs, self._outputs = _tensors_by_name(interpreter)
        self.card = card
        self.streaming = is_streaming(card)
        self._states = States(interpreter, card, self._inputs, self._outputs)
        self.state_infos = self._states.infos
        inputs, outputs = self._inputs.items(), self._outputs.items()
        self.inputs = [describe(name, detail) for name, detail in inputs if name not in self._states.inputs]
        self.outputs = [describe(name, detail) for name, detail in outputs if name not in self._states.outputs]

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
        self._states.reset()

    @property
    def states(self) -> dict[str, Array]:
        """Copies of the states of a streaming model by name, in their own dtypes: what the next call starts from.

        Integer states are quantized as `state_infos` tells.

        Raises:
            ValueError: If the model is not streaming.
        """
        return self._streaming_states().read()

    def set_states(self, states: Mapping[str, npt.ArrayLike]) -> None:
        """Sets states of a streaming model.

        Args:
            states: Values by name, of all states or of some; the others stay. Floats for an integer state are
                quantized.

        Raises:
            ValueError: If the model is not streaming, or a name, a shape or a dtype does not fit; no state is changed
                then.
        """
        self._streaming_states().write(states)

    def save_states(self, path: str | Path) -> None:
        """Writes the states of a streaming model to an .npz file, so that a stream can go on in another process.

        Raises:
            ValueError: If the model is not streaming.
            OutputError: If the file cannot be written.
        """
        self._streaming_states().save(Path(path))

    def restore_states(self, path: str | Path) -> None:
        """Sets the states of a streaming model from a file that `save_states` wrote.

        Raises:
            ValueError: If the model is not streaming.
            LoadError: If the file cannot be read, or was saved from another model file; no state is changed then.
        """
        self._streaming_states().restore(Path(path))

    def _streaming_states(self) -> States:
        if not self.streaming:
            raise ValueError(
                "The model is not streaming, so it keeps no states between calls. Convert it with streaming=True "
                "(--streaming), and keep its card beside it."
            )
        return self._states

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
            self._states.feed()
            self._interpreter.invoke()
            self._states.keep()
            outputs = {info.name: self._outputs[info.name]["index"] for info in self.outputs}
            return {name: self._interpreter.get_tensor(index) for name, index in outputs.items()}
        except (RuntimeError, ValueError) as error:
            raise ModelRunError(f"The runtime failed while running the model: {_first_line(error)}.") from error

    def _resize(self, shapes: dict[str, tuple[int, ...]]) -> None:
        for name, shape in shapes.items():
            self._interpreter.resize_tensor_input(self._inputs[name]["index"], shape)
        self._interpreter.allocate_tensors()
        self._inputs, self._outputs = _tensors_by_name(self._interpreter)


def load(
    path: str | Path,
    *,
    runtime: str = "auto",
    threads: int = 1,
    check: bool = True,
    delegate: str | Path | None = "auto",
) -> Model:
    """Loads an exported model into this process.

    Args:
        path: The .tflite file; its card is read if it stands beside it.
        runtime: "ai-edge-litert", "tflite-runtime", or "auto" for the first of them that is installed.
        threads: Number of threads of the runtime.
        check: Whether a runtime that would crash on a damaged file loads it in a child process first, which takes a
            fraction of a second. Runtimes that verify files themselves skip that.
        delegate: Path of an external delegate, "auto" for the one of edgelstm where it has kernels for this processor
            (its LSTMs are faster and answer as docs/delegate.md says), or None for the runtime's own kernels.

    Returns:
        The model, in its initial state.

    Raises:
        LoadError: If the file or its card cannot be read.
        ModelRunError: If the runtime refuses the file, or the delegate cannot be loaded.
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
    delegates = _load_delegates(module, delegate)
    try:
        interpreter = module.Interpreter(
            model_path=str(artifact.path), num_threads=threads, experimental_delegates=delegates
        )
        interpreter.allocate_tensors()
        return Model(interpreter, artifact.card)
    except LoadError as error:
        raise LoadError(f"{artifact.card_path}: {error}") from error
    except (RuntimeError, ValueError) as error:
        raise ModelRunError(
            f"{artifact.path}: {package.name} refused the file: {_first_line(error)}. "
            "Export it again, or use another runtime."
        ) from error


def _load_delegates(module: ModuleType, delegate: str | Path | None) -> list[Any] | None:
    """Returns the delegates that `load` was asked for, as the runtime takes them.

    Raises:
        ModelRunError: If a named one cannot be loaded.
    """
    if delegate is None:
        return None
    try:
        path = str(library_path() if delegate == "auto" else delegate)
        ctypes.CDLL(path)  # what cannot be opened at all leaves the runtime with half an object
        return [module.load_delegate(path)]
    except (ValueError, OSError, EdgeLSTMError) as error:
        # No kernels for this processor, or edgelstm was not built, only put into the path.
        if delegate == "auto" and not os.environ.get("EDGELSTM_KERNELS"):
            return None
        name = "of edgelstm" if delegate == "auto" else delegate
        reason = ": ".join(line.strip(" .") for line in str(error).splitlines() if line.strip())
        raise ModelRunError(f"The delegate {name} cannot be loaded: {reason}.") from error


def _tensors_by_name(interpreter: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns the runtime's tensor details of inputs and outputs, by public name.

    Raises:
        ValueError: If the file has more than one signature.
    """
    signatures = interpreter.get_signature_list()
    if len(signatures) > 1:
        raise ValueError(f"it has {len(signatures)} signatures ({', '.join(signatures)}), not one")
    inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
    if signatures:
        # The runner must not outlive this function: while it exists, the interpreter refuses to allocate and to invoke.
        runner = interpreter.get_signature_runner()
        return _in_order(runner.get_input_details(), inputs), _in_order(runner.get_output_details(), outputs)
    return {detail["name"]: detail for detail in inputs}, {detail["name"]: detail for detail in outputs}


def _in_order(named: dict[str, Any], listed: list[dict[str, Any]]) -> dict[str, Any]:
    """Puts the tensors of a signature, which runtimes sort by name, into the order of the file."""
    positions = {int(detail["index"]): position for position, detail in enumerate(listed)}
    return dict(sorted(named.items(), key=lambda item: (positions.get(int(item[1]["index"]), len(listed)), item[0])))


def _fit(values: npt.ArrayLike, info: TensorInfo) -> Array:
    """Returns an input as the model takes it, or a ValueError that tells of predict() where that helps."""
    shape = np.shape(values)
    rows_differ = bool(info.shape) and shape[1:] == info.shape[1:]
    return fit(values, info, what="Input", hint=" predict() takes any number of rows." if rows_differ else "")


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
