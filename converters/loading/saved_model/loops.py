"""Loops of a SavedModel that are LSTM layers: of Keras 3, of tf.keras where it marks nothing, or written by hand.

Such a loop reads its steps from a list of tensors and writes its outputs to another one; between the steps go the two
states, and with a mask the last output. Which of its inputs is what follows from their shapes; where shapes leave it
open, all possibilities are tried. As with functions, a loop counts as an LSTM if it answers as one on random numbers.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgelstm.converters.loading.hdf5 import Array
from edgelstm.converters.loading.saved_model import recurrent
from edgelstm.converters.loading.saved_model.program import Program
from edgelstm.converters.loading.saved_model.recurrent import LstmForm, equal, lstm, random_arrays
from edgelstm.converters.loading.saved_model.replay import Replay
from edgelstm.converters.loading.saved_model.values import Items, Kind, Loop, Value

MAX_STEPS = 2048
"""Loops over more steps than these are not tried: it takes a second for some thousand."""
_STEPS = 5


@dataclass(frozen=True)
class LoopRoles:
    """Which input of a loop is what; positions.

    Attributes:
        x: The list of the steps.
        mask: The list of the steps' masks.
        outputs: The list that the outputs are written to.
        hidden: The hidden state.
        cell: The cell state.
        output: The last output, of a loop with a mask.
        kernel: The kernel.
        recurrent_kernel: The recurrent kernel.
        bias: The bias.
    """

    x: int
    mask: int | None
    outputs: int
    hidden: int
    cell: int
    output: int | None
    kernel: int
    recurrent_kernel: int
    bias: int | None

    @property
    def weights(self) -> tuple[int, ...]:
        """Positions of the weights."""
        return tuple(role for role in (self.kernel, self.recurrent_kernel, self.bias) if role is not None)


@dataclass(frozen=True)
class LoopForm:
    """An LSTM that is a loop: its inputs, and how it runs."""

    roles: LoopRoles
    form: LstmForm


def recognize_loop(
    program: Program, loop: Loop, inputs: Sequence[Value], read_variable: Callable[[str], Any]
) -> LoopForm | None:
    """Finds out whether a loop is an LSTM, by running it on random numbers.

    Args:
        program: The program that it belongs to.
        loop: The loop.
        inputs: Its inputs; weights have their values.
        read_variable: Gives the values of variables, eagerly.

    Returns:
        Its form; None if it is no LSTM.
    """
    shapes = [_weight_shape(value, read_variable) for value in inputs]
    for roles in _possible_roles(loop, inputs, shapes):
        form = _try(program, loop, inputs, roles, shapes, read_variable)
        if form is not None:
            return LoopForm(roles, form)
    return None


def _weight_shape(value: Value, read_variable: Callable[[str], Any]) -> tuple[int, ...] | None:
    """Shape of a weight, or of the variable that a handle stands for; None for everything else."""
    import tensorflow as tf

    if value.items is not None:
        return None
    if value.tensor is None and value.variable is None:
        return None
    tensor = read_variable(value.variable) if value.tensor is None and value.variable is not None else value.tensor
    if value.kind is Kind.DYNAMIC or tensor.dtype != tf.float32 or tensor.shape.rank not in (1, 2):
        return None
    return tuple(tensor.shape)


def _possible_roles(
    loop: Loop, inputs: Sequence[Value], shapes: Sequence[tuple[int, ...] | None]
) -> Iterator[LoopRoles]:
    """All ways in which the inputs can be those of an LSTM, going by their shapes."""
    import tensorflow as tf

    changing = {position: inputs[position] for position in loop.changing}
    lists = [position for position, value in changing.items() if value.items is not None and value.items.count]
    states = [
        position
        for position, value in changing.items()
        if value.tensor is not None and value.tensor.dtype == tf.float32 and value.tensor.shape.rank == 2
    ]
    sources = {
        position: value.items.stacked.tensor
        for position, value in enumerate(inputs)
        if position not in changing and value.items is not None and value.items.stacked is not None
    }
    steps = [position for position, tensor in sources.items() if tensor.dtype == tf.float32 and tensor.shape.rank == 3]
    masks = [position for position, tensor in sources.items() if tensor.dtype == tf.bool and _is_mask(tensor)]
    if not (len(lists) == len(steps) == 1 and len(masks) <= 1 and len(states) == 2 + len(masks)):
        return
    features = sources[steps[0]].shape[-1]
    for ordered in itertools.permutations(states):
        units = inputs[ordered[0]].tensor.shape[-1]
        for kernel, recurrent_kernel, bias in _possible_weights(shapes, loop, features, units):
            output = ordered[2] if masks else None
            mask = masks[0] if masks else None
            yield LoopRoles(steps[0], mask, lists[0], ordered[0], ordered[1], output, kernel, recurrent_kernel, bias)


def _possible_weights(
    shapes: Sequence[tuple[int, ...] | None], loop: Loop, features: int | None, units: int | None
) -> Iterator[tuple[int, int, int | None]]:
    if features is None or units is None:
        return
    fixed = [position for position in range(len(shapes)) if position not in loop.changing]
    kernels = [position for position in fixed if shapes[position] == (features, 4 * units)]
    recurrent_kernels = [position for position in fixed if shapes[position] == (units, 4 * units)]
    biases: list[int | None] = [position for position in fixed if shapes[position] == (4 * units,)]
    for kernel, recurrent_kernel, bias in itertools.product(kernels, recurrent_kernels, biases or [None]):
        if kernel != recurrent_kernel:
            yield kernel, recurrent_kernel, bias


def _is_mask(tensor: Any) -> bool:
    """Whether a stacked tensor has one truth value for each step and row."""
    return bool(tensor.shape.rank == 2 or (tensor.shape.rank == 3 and tensor.shape[-1] == 1))


def _try(
    program: Program,
    loop: Loop,
    inputs: Sequence[Value],
    roles: LoopRoles,
    shapes: Sequence[tuple[int, ...] | None],
    read_variable: Callable[[str], Any],
) -> LstmForm | None:
    """Runs a loop on random numbers in certain roles and compares its answers with those of an LSTM."""
    import tensorflow as tf

    kernel_shape, recurrent_shape = shapes[roles.kernel], shapes[roles.recurrent_kernel]
    assert kernel_shape is not None
    assert recurrent_shape is not None
    time = inputs[roles.x].items.stacked.tensor.shape[0] or _STEPS  # type: ignore[union-attr]
    if time > MAX_STEPS:
        return None
    arrays = random_arrays(time, kernel_shape[0], recurrent_shape[0], masked=roles.mask is not None)
    if roles.bias is None:
        arrays[recurrent.BIAS] = np.zeros_like(arrays[recurrent.BIAS])
    with tf.init_scope():
        replaced = {
            inputs[position].variable: tf.constant(arrays[recurrent.KERNEL + number])
            for number, position in enumerate(roles.weights)
            if inputs[position].variable is not None
        }

    def read(name: str) -> Any:
        return replaced[name] if name in replaced else read_variable(name)

    def run() -> list[Any]:
        replay = Replay(program, read_variable=read, variable_kind=Kind.STATIC, max_iterations=time + 1)
        results = replay.loop(loop, _probes(inputs, roles, arrays))
        stacked = tf.raw_ops.TensorListStack(
            input_handle=replay.graph_tensor(results[roles.outputs]),
            element_shape=[-1, recurrent_shape[0]],
            element_dtype=tf.float32,
        )
        last = stacked[-1] if roles.output is None else results[roles.output].tensor
        return [last, tf.transpose(stacked, [1, 0, 2]), results[roles.hidden].tensor, results[roles.cell].tensor]

    try:
        with tf.init_scope():
            answers = [tensor.numpy() for tensor in tf.function(run, autograph=False)()]
    except (ValueError, TypeError, tf.errors.OpError):
        return None
    for zero_output in (False, True)[: 1 + (roles.mask is not None)]:
        expected = lstm(arrays, go_backwards=False, zero_output=zero_output)
        last_only = answers[recurrent.SEQUENCE].shape[1] == 1
        if last_only:
            expected[recurrent.SEQUENCE] = expected[recurrent.LAST][:, np.newaxis]
        if equal(answers, expected):
            return LstmForm(roles.mask is not None, True, False, zero_output, last_only)
    return None


def _probes(inputs: Sequence[Value], roles: LoopRoles, arrays: Sequence[Array]) -> list[Value]:
    """The inputs of a loop with random numbers in their roles, and what was known besides."""
    import tensorflow as tf

    time = arrays[recurrent.X].shape[1]
    probes = list(inputs)
    for position, value in enumerate(inputs):
        if value.zeros and value.kind is Kind.DYNAMIC:
            probes[position] = Value(tf.zeros(_filled(value.tensor.shape), value.tensor.dtype), Kind.DYNAMIC)
        elif value.items is None and value.kind is Kind.DYNAMIC and value.tensor.dtype.is_integer:
            # Whatever the loop counts that is not known when it is traced, is the number of steps.
            probes[position] = Value(tf.fill(value.tensor.shape, tf.cast(time, value.tensor.dtype)), Kind.DYNAMIC)
    named = zip((recurrent.HIDDEN, recurrent.CELL), (roles.hidden, roles.cell), strict=True)
    named_weights = zip(range(recurrent.KERNEL, recurrent.MASK), roles.weights, strict=False)
    for role, position in (*named, *named_weights):
        if inputs[position].tensor is not None:
            probes[position] = Value(tf.constant(arrays[role]), Kind.DYNAMIC)
    if roles.output is not None:
        probes[roles.output] = Value(tf.zeros_like(arrays[recurrent.HIDDEN]), Kind.DYNAMIC)
    probes[roles.x] = _list_of(arrays[recurrent.X].swapaxes(0, 1))
    if roles.mask is not None:
        mask = arrays[recurrent.MASK].swapaxes(0, 1)
        stacked = inputs[roles.mask].items.stacked.tensor  # type: ignore[union-attr]
        probes[roles.mask] = _list_of(mask[..., np.newaxis] if stacked.shape.rank == 3 else mask)
    probes[roles.outputs] = _empty_list(inputs[roles.outputs], time, arrays[recurrent.HIDDEN].shape)
    return probes


def _filled(shape: Any) -> list[int]:
    """A shape with the batch of random inputs in its free axes."""
    return [size or recurrent.BATCH for size in shape]


def _list_of(array: Array) -> Value:
    import tensorflow as tf

    handle = tf.raw_ops.TensorListFromTensor(tensor=tf.constant(array), element_shape=array.shape[1:])
    items = Items(tf.TensorShape(array.shape[1:]), stacked=Value(tf.constant(array), Kind.DYNAMIC))
    return Value(handle, Kind.DYNAMIC, items=items)


def _empty_list(value: Value, time: int, shape: tuple[int, ...]) -> Value:
    """A list as long as the loop's own: one item for each step, or one for the last."""
    import tensorflow as tf

    count = value.items.count if value.items is not None else None
    length = int(count.tensor) if count is not None and count.kind is Kind.STATIC else time
    handle = tf.raw_ops.TensorListReserve(element_shape=shape, num_elements=length, element_dtype=tf.float32)
    return Value(handle, Kind.DYNAMIC, items=Items(tf.TensorShape(shape)))
