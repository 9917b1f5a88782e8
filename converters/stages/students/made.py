"""Students: the teacher's own layers, layers built anew, or a model from a file."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from edgelstm.converters.layers import layers_inside
from edgelstm.converters.loading import load_model
from edgelstm.converters.loading.keras_import import import_keras
from edgelstm.converters.stages.base import Array
from edgelstm.converters.stages.narrowing import unbuilt
from edgelstm.converters.stages.students.losses import CLASSES, TAGS, activation_of
from edgelstm.converters.stages.students.reading import Reading, readings
from edgelstm.converters.stages.surgery import check_graph, copy_flags, graph_of, named_layers, rebuild
from edgelstm.errors import StageError

_ACTIVATIONS = {CLASSES: "softmax", TAGS: "sigmoid"}
_UNITS = 32
"""Of a student whose teacher has no recurrent layer."""


@dataclasses.dataclass(frozen=True)
class Sizes:
    """Of a student that is built anew.

    Attributes:
        units: Of each LSTM; 0 for a share of the teacher's widest recurrent layer.
        depth: Number of LSTMs, one after the other.
        embedding: Width of tables; 0 for a share of the teacher's.
        share: This share.
    """

    units: int
    depth: int
    embedding: int
    share: float

    def of(self, teacher: Any) -> Sizes:
        """Returns the same with units chosen."""
        widest = max((each.units for each in layers_inside(teacher) if _is_recurrent(each)), default=0)
        return dataclasses.replace(self, units=self.units or self.part_of(widest or _UNITS / self.share))

    def part_of(self, width: float) -> int:
        """Returns the share of a width, at least 1."""
        return max(1, round(self.share * width))


def _is_recurrent(layer: Any) -> bool:
    layers = import_keras().layers
    return isinstance(layer, layers.LSTM | layers.GRU | layers.SimpleRNN)


def fresh_copy(model: Any, seed: int) -> Any:
    """Returns a model of the same layers in which everything that is trained begins anew; what is fixed stays.

    Args:
        model: A built model, Functional or Sequential; not changed.
        seed: Of the new weights.
    """
    learnt = {
        path: layer for path, layer in named_layers(model).items() if any(each.trainable for each in layer.variables)
    }
    chosen = {id(layer) for layer in learnt.values()}
    import_keras().utils.set_random_seed(seed)
    new, made = rebuild(model, lambda layer: [unbuilt(layer)] if id(layer) in chosen else None)
    for path, layer in learnt.items():
        copy_flags(layer, made[path][0])
    return new


def lstm_student(model: Any, kind: str, sizes: Sizes, seed: int, *, fresh: bool) -> Any:
    """Builds a student of LSTMs that takes what a model takes, and answers as it does.

    Inputs -> tables, or what the teacher does to them before it learns anything -> LSTMs -> Dense. Sequences of one
    length are read side by side; plain features go through a Dense.

    Args:
        model: The teacher, Functional or Sequential; not changed.
        kind: Of its answers, see `losses.kind_of`.
        sizes: Of the student.
        seed: Of its weights.
        fresh: Whether tables begin with random rows; else with the teacher's, cut to their width.

    Raises:
        StageError: If an input is neither ids, a sequence nor features, or the shape of the answers is not fixed.
    """
    import_keras().utils.set_random_seed(seed)
    return _Builder(model, kind, sizes.of(model), fresh=fresh).build()


class _Builder:
    def __init__(self, model: Any, kind: str, sizes: Sizes, *, fresh: bool) -> None:
        self._keras, self._model, self._sizes, self._fresh = import_keras(), model, sizes, fresh
        (self._output,) = graph_of(model).outputs
        self._answer = self._output._keras_history.operation.name
        self._activation = _ACTIVATIONS.get(kind) or activation_of(self._output)
        self._read = readings(model)
        prepared = self._keras.Model(graph_of(model).inputs, [each.prepared for each in self._read], name=model.name)
        self._start, _ = rebuild(prepared, lambda _: None)
        self._used = {self._answer, *(each.name for each in self._start.layers)}

    def build(self) -> Any:
        groups: dict[Any, list[Any]] = {}
        vectors = []
        for reading, tensor in zip(self._read, self._start.outputs, strict=True):
            found = self._tensor(reading, tensor)
            if len(found.shape) == 2:
                vectors.append(found)
            else:
                # Lengths that are not known may differ.
                groups.setdefault(found.shape[1] or reading.name, []).append(found)
        if not groups:
            raise StageError(f"Model {self._model.name!r} has no input that is a sequence for student 'lstm' to read.")
        answer = self._answers([self._joined(each) for each in groups.values()], vectors)
        inputs = self._keras.tree.pack_sequence_as(graph_of(self._model).input, self._start.inputs)
        outputs = self._keras.tree.pack_sequence_as(graph_of(self._model).output, [answer])
        return self._keras.Model(inputs, outputs, name=self._model.name)

    def _tensor(self, reading: Reading, tensor: Any) -> Any:
        """What the student reads of an input: a sequence, or a vector."""
        if reading.table is not None and len(tensor.shape) == 2:
            return self._rows(reading.table, tensor)
        if "float" not in tensor.dtype or len(tensor.shape) not in (2, 3):
            raise StageError(
                f"Input {reading.name!r} of shape {tuple(tensor.shape[1:])} and type {tensor.dtype} is neither ids for "
                "an Embedding, nor a sequence or features, so student 'lstm' cannot read it. Take student 'cut', or "
                "give one as a .keras file."
            )
        if len(tensor.shape) == 3:
            return tensor
        return self._layer("Dense", "features", self._sizes.units, activation="relu")(tensor)

    def _rows(self, table: Any, ids: Any) -> Any:
        width = self._sizes.embedding or self._sizes.part_of(table.output_dim)
        layer = self._layer("Embedding", "words", table.input_dim, width, mask_zero=table.mask_zero)
        rows = layer(ids)
        if not self._fresh and width <= table.output_dim:
            layer.embeddings.assign(low_rank_rows(np.array(table.embeddings), width))
        return rows

    def _answers(self, sequences: list[Any], vectors: list[Any]) -> Any:
        """Reads sequences and vectors and answers, in the teacher's shape."""
        shape = tuple(self._output.shape[1:])
        steps = next((each for each in sequences if len(shape) == 2 and each.shape[1] == shape[0]), None)
        made = [self._read_by_lstms(each, whole=each is steps) for each in sequences]
        if steps is None:
            return self._at_the_end(self._joined([*made, *vectors]), shape)
        others = [*(each for each in made if len(each.shape) == 2), *vectors]
        if others and shape[0] is None:
            raise StageError(
                f"The number of steps that model {self._model.name!r} answers is not fixed, and one of its inputs is "
                "no such sequence, so student 'lstm' cannot join them. Take student 'cut', or give a .keras file."
            )
        repeated = [self._layer("RepeatVector", "repeated", shape[0])(each) for each in others]
        joined = self._joined([*(each for each in made if len(each.shape) == 3), *repeated])
        return self._last("Dense", shape[-1], activation=self._activation)(joined)

    def _at_the_end(self, vector: Any, shape: tuple[int | None, ...]) -> Any:
        if len(shape) == 1 and shape[0] is not None:
            return self._last("Dense", shape[0], activation=self._activation)(vector)
        if None in shape:
            raise StageError(
                f"Model {self._model.name!r} answers in shape {shape}, which student 'lstm' cannot: give one as a "
                ".keras file."
            )
        flat = self._layer("Dense", "flat", math.prod(size or 1 for size in shape))(vector)
        shaped = self._layer("Reshape", "shaped", shape)(flat)
        return self._last("Activation", self._activation)(shaped)

    def _read_by_lstms(self, sequence: Any, *, whole: bool) -> Any:
        for number in range(self._sizes.depth):
            last = number == self._sizes.depth - 1
            sequence = self._layer("LSTM", "lstm", self._sizes.units, return_sequences=whole or not last)(sequence)
        return sequence

    def _joined(self, tensors: list[Any]) -> Any:
        return tensors[0] if len(tensors) == 1 else self._layer("Concatenate", "joined")(tensors)

    def _layer(self, kind: str, name: str, *args: Any, **settings: Any) -> Any:
        free = next(each for each in (name, *(f"{name}_{n}" for n in range(1, 10_000))) if each not in self._used)
        self._used.add(free)
        return getattr(self._keras.layers, kind)(*args, **settings, name=free)

    def _last(self, kind: str, *args: Any, **settings: Any) -> Any:
        return getattr(self._keras.layers, kind)(*args, **settings, name=self._answer)


def low_rank_rows(table: Array, width: int) -> Array:
    """Returns the rows of a table in the coordinates, as many as `width`, that keep most of them (in squares).

    Source: Eckart and Young, "The approximation of one matrix by another of lower rank", 1936.
    """
    _, _, directions = np.linalg.svd(table.astype(np.float64), full_matrices=False)
    rows = table @ directions[:width].T
    # There are fewer directions than rows where the vocabulary is smaller than the width.
    return np.pad(rows, ((0, 0), (0, width - rows.shape[1]))).astype(np.float32)


def given_student(path: str, model: Any, train: Mapping[str, Array], answers: Array, kind: str) -> tuple[Any, Any]:
    """Reads a student from a file.

    Args:
        path: Of the .keras file; no code in it runs.
        model: The teacher.
        train: Inputs of examples, by name.
        answers: Of the teacher, shape (n, ...).
        kind: Of these, see `losses.kind_of`.

    Returns:
        The student, and what there is to know about it.

    Raises:
        LoadError: If the file cannot be read.
        StageError: If its inputs or its output do not fit.
    """
    loaded = load_model(path)
    student = loaded.model
    check_graph(student)
    mine, its = ({tensor.name: tensor for tensor in graph_of(each).inputs} for each in (student, model))
    if set(mine) != set(its):
        raise StageError(f"{path} takes {', '.join(mine)}, and model {model.name!r} takes {', '.join(its)}.")
    for name, tensor in mine.items():
        _check_shape(f"{path}: input {name!r}", tuple(tensor.shape[1:]), train[name].shape[1:], "examples have")
    outputs = graph_of(student).outputs
    if len(outputs) != 1:
        raise StageError(f"{path} has {len(outputs)} outputs, and one is needed.")
    _check_shape(f"{path}: the output", tuple(outputs[0].shape[1:]), answers.shape[1:], "the model's has")
    wanted, given = _ACTIVATIONS.get(kind), activation_of(outputs[0])
    if wanted and given != wanted:
        raise StageError(
            f"{path} ends with the activation {given!r}, and the answers of model {model.name!r} are probabilities: "
            f"{wanted!r} is needed."
        )
    return student, loaded.notes


def _check_shape(where: str, shape: tuple[int | None, ...], given: tuple[int, ...], whose: str) -> None:
    if len(shape) != len(given) or any(size not in (None, there) for size, there in zip(shape, given, strict=True)):
        shown = ", ".join("any" if size is None else str(size) for size in shape)
        raise StageError(f"{where} has the shape ({shown}), and {whose} {given}.")
