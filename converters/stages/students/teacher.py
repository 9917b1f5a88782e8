"""What a teacher says about examples: its answers, which of their steps count, and its hidden states."""

from __future__ import annotations

import dataclasses
import functools
import math
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from edgelstm.converters.loading.keras_import import import_keras
from edgelstm.converters.stages.base import Array, Workshop
from edgelstm.converters.stages.surgery import calls, graph_of
from edgelstm.errors import StageError

_BATCH = 64


@dataclasses.dataclass(frozen=True)
class Said:
    """What a teacher said.

    Attributes:
        answers: Float32, shape (n, ..., width).
        mask: Which of their steps count, bool, shape (n, ...), without the last axis of answers.
        hidden: Float32, shape (n, units) or (n, time, units); (n, 0) where nobody asked.
    """

    answers: Array
    mask: Array
    hidden: Array


def last_hidden(model: Any) -> Any:
    """Returns the symbolic answer of the last recurrent layer of a model, shape (batch, ..., units).

    Raises:
        StageError: If no recurrent layer stands in the model itself.
    """
    layers = import_keras().layers
    found = [node for node in calls(graph_of(model)) if isinstance(node.operation, layers.RNN | layers.Bidirectional)]
    if not found:
        raise StageError(
            f"Model {model.name!r} has no recurrent layer of its own (those of nested models do not count), so there "
            "are no hidden states to learn. Leave 'hidden' out."
        )
    if isinstance(found[-1].operation, layers.Bidirectional) and found[-1].operation.merge_mode is None:
        raise StageError(
            f"Layer {found[-1].operation.name!r} of model {model.name!r} has several answers, so it is not clear which "
            "hidden states to learn. Leave 'hidden' out."
        )
    return found[-1].outputs[0]


def ask(teacher: Any, x: Mapping[str, Array], hidden: Any, workshop: Workshop) -> Said:
    """Asks a teacher, or reads what it said when it was asked before.

    Args:
        teacher: A functional or sequential model of one output.
        x: Inputs by name.
        hidden: A symbolic tensor of the teacher whose values are wanted, too; None for none.
        workshop: Keeps what was said.

    Raises:
        StageError: If an answer is no finite number.
    """
    graph = graph_of(teacher)
    (output,) = graph.outputs
    mask = getattr(output, "_keras_mask", None)
    wanted = {"answers": output, "mask": mask, "hidden": hidden}
    asked = {name: tensor for name, tensor in wanted.items() if tensor is not None}
    model = import_keras().Model(_alone(graph.inputs), list(asked.values()))
    given = [x[tensor.name] for tensor in graph.inputs]
    key = _fingerprint(model, given)

    @functools.cache
    def answered() -> dict[str, Array]:
        parts = model.predict(_alone(given), batch_size=_BATCH, verbose=0)
        return dict(zip(asked, parts if isinstance(parts, list) else [parts], strict=True))

    said = {
        name: workshop.cached(f"teacher-{key}-{name}", functools.partial(lambda name: answered()[name], name))
        for name in asked
    }
    answers = said["answers"].astype(np.float32)
    answers = answers[:, None] if answers.ndim == 1 else answers
    found = Said(
        answers,
        said["mask"].astype(bool) if "mask" in said else np.ones(answers.shape[:-1], bool),
        said["hidden"].astype(np.float32) if "hidden" in said else np.zeros((len(answers), 0), np.float32),
    )
    if not all(np.isfinite(each).all() for each in (found.answers, found.hidden)):
        raise StageError(f"Answers of model {teacher.name!r} hold NaN or infinity, so nothing can be learnt from them.")
    return found


def training_model(student: Any, x: Mapping[str, Array], said: Said, *, hidden: bool) -> tuple[Any, Array]:
    """Returns a model around a student whose answers are rows of numbers, as `losses.Targets` joins them.

    Args:
        student: A functional or sequential model; the model that is returned has its variables.
        x: Inputs by name.
        said: By the teacher.
        hidden: Whether the rows go on with what the student's last recurrent layer gives out, projected to the
            teacher's width by a layer that is trained along: of every step where both have as many, else of the last.

    Returns:
        The model, and the teacher's hidden states to compare with, shape (n, ...).

    Raises:
        StageError: If no recurrent layer stands in the student itself.
    """
    keras, states = import_keras(), said.hidden
    graph = graph_of(student)
    tensors = [*graph.outputs, *([last_hidden(student)] if hidden else [])]
    inner = keras.Model(_alone(graph.inputs), tensors)
    inputs = [keras.Input(batch_shape=each.shape, dtype=each.dtype, name=each.name) for each in graph.inputs]
    answers, *mine = keras.tree.flatten(inner(_alone(inputs)))
    rows = [_row(answers, said.answers)]
    for state in mine:
        one = np.asarray(inner(_alone([x[each.name][:1] for each in graph.inputs]))[1])
        whole = one.ndim == states.ndim == 3 and one.shape[1] == states.shape[1]
        states = states[:, -1] if states.ndim == 3 and not whole else states
        compared = state[:, -1] if one.ndim == 3 and not whole else state
        rows.append(_row(keras.layers.Dense(states.shape[-1])(compared), states))
    # A reshaped tensor has no mask, which Keras would lay over the loss of rows.
    return keras.Model(_alone(inputs), keras.ops.concatenate(rows, axis=-1)), states


def _alone(inputs: list[Any]) -> Any:
    """Returns the one input, or all of them: so models are made here, and so loops feed them."""
    return inputs[0] if len(inputs) == 1 else inputs


def _row(tensor: Any, like: Array) -> Any:
    return import_keras().ops.reshape(tensor, (-1, math.prod(like.shape[1:])))


def _fingerprint(model: Any, given: list[Array]) -> str:
    """A text that changes with a model's weights and with what it is asked."""
    checksum = 0
    for array in (*model.get_weights(), *given):
        head = f"{array.dtype} {array.shape}".encode()
        checksum = zlib.crc32(np.ascontiguousarray(array).tobytes(), zlib.crc32(head, checksum))
    return f"{checksum:08x}"
