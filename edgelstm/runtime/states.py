"""The states of a streaming model in an interpreter of this process: read, set, saved and restored by name.

A state is kept in a variable tensor of the file, or it is an input of the file whose next value is an output.
"""

from __future__ import annotations

import os
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgelstm.errors import LoadError, OutputError
from edgelstm.runtime.arrays import save_arrays
from edgelstm.runtime.tensors import Array, TensorInfo, describe, fit

Tensors = dict[str, Any]
"""Tensor details as an Interpreter gives them, by name."""

FILE_FORMAT = "edgelstm-states-1"
FORMAT_KEY, MODEL_KEY = "format", "model_sha256"  # names of states end in "/hidden_state" or "/cell_state"
_SPARE_BYTES = 4096  # header of an array in a file of states


class _State(ABC):
    """One state.

    Attributes:
        info: Its name, shape, dtype and scale.
    """

    info: TensorInfo

    @abstractmethod
    def read(self) -> Array:
        """Returns a copy of its value."""

    @abstractmethod
    def write(self, value: Array) -> None:
        """Sets it, for the next call."""

    @abstractmethod
    def reset(self) -> None:
        """Sets it to zero."""

    @abstractmethod
    def feed(self) -> None:
        """Hands it to the interpreter, before a call."""

    @abstractmethod
    def keep(self) -> None:
        """Takes its next value from the interpreter, after a call."""


class _Variable(_State):
    """A state in a variable tensor, where the interpreter itself keeps it."""

    def __init__(self, interpreter: Any, info: TensorInfo, index: int) -> None:
        self.info = info
        self._interpreter = interpreter
        self._index = index

    def read(self) -> Array:
        value: Array = self._interpreter.get_tensor(self._index)
        return value

    def write(self, value: Array) -> None:
        self._interpreter.set_tensor(self._index, value)

    def reset(self) -> None:
        self.write(_zeros(self.info))

    def feed(self) -> None:
        """Nothing to do."""

    def keep(self) -> None:
        """Nothing to do."""


class _Exchanged(_State):
    """A state that goes in with every call and comes out of it; between calls it lies here."""

    def __init__(self, interpreter: Any, info: TensorInfo, given: int, taken: int) -> None:
        self.info = info
        self._interpreter = interpreter
        self._given, self._taken = given, taken
        self._value = _zeros(info)

    def read(self) -> Array:
        return self._value.copy()

    def write(self, value: Array) -> None:
        self._value = value.copy()

    def reset(self) -> None:
        self._value = _zeros(self.info)

    def feed(self) -> None:
        self._interpreter.set_tensor(self._given, self._value)

    def keep(self) -> None:
        self._value = self._interpreter.get_tensor(self._taken)


class States:
    """All states of a model, by name; none of a model that is not streaming.

    Attributes:
        infos: Their names, shapes, dtypes and scales.
        inputs: Names of inputs that are states.
        outputs: Names of outputs that are next values of states.
    """

    def __init__(self, interpreter: Any, card: Mapping[str, Any], inputs: Tensors, outputs: Tensors) -> None:
        """Finds the states that a card tells of.

        Args:
            interpreter: The interpreter, tensors allocated.
            card: The model's card.
            inputs: Tensor details of the file's inputs by name.
            outputs: The same of its outputs.

        Raises:
            LoadError: If the card is damaged, or tells of states that the file does not have.
        """
        entries = _entries(card)
        self.inputs = frozenset(_text(entry, "input") for entry in entries if entry.get("storage") == "input")
        self.outputs = frozenset(_text(entry, "output") for entry in entries if entry.get("storage") == "input")
        self._model = str(card.get("sha256", ""))
        tensors = interpreter.get_tensor_details() if entries else []
        self._states: dict[str, _State] = {}
        for entry in entries:
            name = _text(entry, "name")
            if name in self._states:
                raise _does_not_fit(name, "is in it twice")
            if entry.get("storage") == "input":
                self._states[name] = _exchanged(interpreter, name, entry, inputs, outputs)
            else:
                self._states[name] = _variable(interpreter, name, tensors)
        self.infos = [state.info for state in self._states.values()]

    def read(self) -> dict[str, Array]:
        """Returns copies of all states by name."""
        return {name: state.read() for name, state in self._states.items()}

    def write(self, values: Mapping[str, npt.ArrayLike]) -> None:
        """Sets states, all of the given ones or none.

        Raises:
            ValueError: If a name, a shape or a dtype does not fit.
        """
        unknown = sorted(set(values) - set(self._states))
        if unknown:
            raise ValueError(f"The model has the states {list(self._states)}, but {unknown} were given.")
        fitted = {name: fit(value, self._states[name].info, what="State") for name, value in values.items()}
        for name, value in fitted.items():
            self._states[name].write(value)

    def reset(self) -> None:
        """Sets all states to zero."""
        for state in self._states.values():
            state.reset()

    def feed(self) -> None:
        """Hands the states to the interpreter, before a call."""
        for state in self._states.values():
            state.feed()

    def keep(self) -> None:
        """Takes their next values from the interpreter, after a call."""
        for state in self._states.values():
            state.keep()

    def save(self, path: Path) -> None:
        """Writes all states, and which model they belong to, to an .npz file that is complete once it has its name.

        Raises:
            OutputError: If it cannot be written.
        """
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        tags = {FORMAT_KEY: np.array(FILE_FORMAT), MODEL_KEY: np.array(self._model)}
        try:
            save_arrays(temporary, {**tags, **self.read()})
            temporary.replace(path)
        except OSError as error:
            raise OutputError(
                f"Cannot write the states to {path}: {(error.strerror or str(error)).lower()}."
            ) from error
        finally:
            temporary.unlink(missing_ok=True)

    def restore(self, path: Path) -> None:
        """Sets all states from a file that `save` wrote.

        Raises:
            LoadError: If the file cannot be read, or holds the states of another model.
        """
        arrays = _read(path, {info.name: info for info in self.infos})
        if _tag(arrays.pop(MODEL_KEY)) != self._model:
            raise LoadError(
                f"{path} holds the states of another model file. Restore it into the file that it was saved from."
            )
        for name, value in arrays.items():
            self._states[name].write(value)


def is_streaming(card: Mapping[str, Any]) -> bool:
    """Says whether a card is that of a streaming model."""
    state = card.get("state")
    return isinstance(state, dict) and state.get("semantics") == "streaming"


def _entries(card: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The states in a card."""
    entries = card["state"].get("states", []) if is_streaming(card) else []
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise LoadError("The card's list of states is damaged. Export the model again.")
    return entries


def _text(entry: Mapping[str, Any], key: str) -> str:
    value = entry.get(key)
    if not isinstance(value, str):
        raise LoadError(f"The card's list of states is damaged: {key!r} is {value!r}. Export the model again.")
    return value


def _variable(interpreter: Any, name: str, tensors: list[dict[str, Any]]) -> _State:
    found = [detail for detail in tensors if detail["name"] == name]
    if len(found) != 1:
        raise _does_not_fit(name, f"is the name of {len(found)} tensors in the file")
    return _Variable(interpreter, _describe(name, found[0]), int(found[0]["index"]))


def _exchanged(interpreter: Any, name: str, entry: Mapping[str, Any], inputs: Tensors, outputs: Tensors) -> _State:
    given, taken = inputs.get(_text(entry, "input")), outputs.get(_text(entry, "output"))
    if given is None or taken is None:
        raise _does_not_fit(name, f"has no input {entry['input']!r} and output {entry['output']!r} in the file")
    if describe(name, given) != describe(name, taken):
        raise _does_not_fit(name, f"has an output {entry['output']!r} of another shape or type than its input")
    return _Exchanged(interpreter, _describe(name, given), int(given["index"]), int(taken["index"]))


def _describe(name: str, detail: dict[str, Any]) -> TensorInfo:
    info = describe(name, detail)
    if -1 in info.shape:
        raise _does_not_fit(name, f"has the shape {info.shape} in the file, where -1 is left free")
    return info


def _does_not_fit(name: str, reason: str) -> LoadError:
    return LoadError(f"The card does not belong to the file: the state {name!r} {reason}. Export the model again.")


def _zeros(info: TensorInfo) -> Array:
    return np.full(info.shape, info.zero_point or 0, np.dtype(info.dtype))


def _read(path: Path, infos: Mapping[str, TensorInfo]) -> dict[str, Array]:
    """Reads a file of states: the arrays that are to be in it, and `MODEL_KEY`."""
    try:
        with zipfile.ZipFile(path) as archive:
            _check_entries(path, archive, infos)
        with np.load(path, allow_pickle=False) as arrays:
            found = {name: arrays[name] for name in arrays.files}
    except (OSError, ValueError, EOFError, KeyError, MemoryError, NotImplementedError, zipfile.BadZipFile) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise LoadError(f"The states in {path} cannot be read: {reason}. Save them again.") from error
    if _tag(found.pop(FORMAT_KEY)) != FILE_FORMAT:
        raise LoadError(f"{path} was written by another version of edgelstm. Save the states again.")
    for name, info in infos.items():
        if (found[name].shape, found[name].dtype.name) != (info.shape, info.dtype):
            raise LoadError(
                f"{path} does not fit the model: the state {name!r} is {found[name].dtype} {found[name].shape} there, "
                f"and {info.dtype} {info.shape} in the model. Restore it into the file that it was saved from."
            )
    return found


def _tag(array: Array) -> str:
    return str(array.item()) if array.size == 1 else ""


def _check_entries(path: Path, archive: zipfile.ZipFile, infos: Mapping[str, TensorInfo]) -> None:
    """Refuses a file that is none of states, before anything in it is unpacked."""
    sizes = {entry.filename.removesuffix(".npy"): entry.file_size for entry in archive.infolist()}
    if not {FORMAT_KEY, MODEL_KEY} <= set(sizes):
        raise LoadError(f"{path} is no file of states. Save one with save_states().")
    if set(sizes) != {FORMAT_KEY, MODEL_KEY, *infos}:
        raise LoadError(
            f"{path} does not fit the model: it holds {sorted(set(sizes) - {FORMAT_KEY, MODEL_KEY})}, and the model's "
            f"states are {sorted(infos)}. Restore it into the file that it was saved from."
        )
    for name, size in sizes.items():
        expected = _zeros(infos[name]).nbytes if name in infos else 0
        if size > expected + _SPARE_BYTES:
            raise LoadError(f"The states in {path} cannot be read: {name!r} is too large. Save them again.")
