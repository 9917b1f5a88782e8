"""Checkpoints: one file that holds everything a training needs to go on as if it had not been interrupted."""

from __future__ import annotations

import dataclasses
import json
import os
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from edgelstm.errors import LoadError, OutputError
from edgelstm.tasks.base import Array, Data
from edgelstm.training.progress import Progress

_STATE = "state"


@dataclasses.dataclass
class Checkpoint:
    """The content of a checkpoint.

    Attributes:
        progress: How far the training has come.
        variables: Weights, states of the optimizer and of random generators, sums of metrics.
        best: The weights of the best epoch; empty before the first one.
        data: The fingerprint of the data.
    """

    progress: Progress
    variables: list[Array]
    best: list[Array]
    data: str

    def save(self, path: Path) -> None:
        """Writes it, complete or not at all.

        Raises:
            OutputError: If it cannot be written.
        """
        arrays: dict[str, Any] = {
            **{f"variable_{index:05}": array for index, array in enumerate(self.variables)},
            **{f"best_{index:05}": array for index, array in enumerate(self.best)},
            _STATE: _bytes({"progress": self.progress.to_json(), "data": self.data}),
        }
        temporary = path.with_name(f".{os.getpid()}-{path.name}")
        try:
            with temporary.open("wb") as file:
                np.savez(file, **arrays)
            temporary.replace(path)
        except OSError as error:
            raise OutputError(f"Cannot write the checkpoint {path}: {error.strerror or error}.") from error
        finally:
            temporary.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: Path) -> Checkpoint:
        """Reads what `save` wrote.

        Raises:
            LoadError: If it cannot be read.
        """
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                state = json.loads(arrays[_STATE].tobytes())
                progress, data = Progress(**state["progress"]), str(state["data"])
                names = sorted(arrays.files)
                variables = [arrays[name] for name in names if name.startswith("variable_")]
                best = [arrays[name] for name in names if name.startswith("best_")]
        except Exception as error:
            raise LoadError(f"Cannot read the checkpoint {path}: {error}. Train anew with --restart.") from error
        return cls(progress, variables, best, data)


def fingerprint(data: Data) -> str:
    """Returns a text that changes with the examples to learn from and to validate with."""
    checksum = 0
    for split in (data.train, data.validation):
        for name, array in (*sorted(split.x.items()), ("y", split.y)):
            head = f"{name} {array.dtype} {array.shape}".encode()
            checksum = zlib.crc32(np.ascontiguousarray(array).tobytes(), zlib.crc32(head, checksum))
    return f"{checksum:08x}"


def variables_of(model: Any) -> list[Any]:
    """All variables of a compiled and built model that training changes, always in the same order."""
    return [*model.variables, *model.optimizer.variables, *model.metrics_variables]


def values_of(variables: list[Any]) -> list[Array]:
    """Copies of the values of variables."""
    return [np.array(variable.numpy()) for variable in variables]


def check_fit(variables: list[Any], values: list[Array], path: Path) -> None:
    """Makes sure that values of a checkpoint fit variables.

    Raises:
        LoadError: If they do not: the checkpoint is of another model.
    """
    if [tuple(variable.shape) for variable in variables] != [value.shape for value in values]:
        raise LoadError(f"The checkpoint {path} is of another model. Train anew with --restart.")


def assign(variables: list[Any], values: list[Array]) -> None:
    """Gives variables their values."""
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def _bytes(document: Any) -> Array:
    return np.frombuffer(json.dumps(document).encode(), np.uint8)
