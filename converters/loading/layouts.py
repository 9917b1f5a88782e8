"""Other layouts of weights than that of Keras 3: gates one by one, cuDNN, kernels of Keras 1, kernels of Theano.

Gate blocks stand in the order i, f, c, o for LSTM and z, r, h for GRU, as in Keras 2 and 3.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgelstm.converters.loading.hdf5 import Array
from edgelstm.converters.loading.rewriting import Context

Named = tuple[str, Array]
GATES = {"LSTM": "ifco", "GRU": "zrh", "ConvLSTM": "ifco"}
_KERAS_1_ORDER = {"LSTM": "icfo", "GRU": "zrh", "ConvLSTM": "icfo"}
"""Order of the groups (W, U, b) in files of Keras 1, where their names do not tell it."""
_GATE = re.compile(r"(?:^|_)([WUb])_([ifcozrh])(?:_\d+)?(?::\d+)?$")


@dataclass(frozen=True)
class Layout:
    """One layout of a layer's own weights.

    Attributes:
        recognizes: Takes a layer, the weights that are left in the file, and what holds for the file; returns how many
            of them the layer has in this layout, 0 if it has another.
        convert: Takes the layer and these weights; returns those of Keras 3, in its order.
    """

    recognizes: Callable[[Any, Sequence[Named], Context], int]
    convert: Callable[[Any, Sequence[Named], Context], list[Named]]


def _kind(layer: Any) -> str:
    """Returns the class of a layer, with that of a recurrent layer in place of its cell's."""
    return type(layer).__name__.removesuffix("Cell")


def _shapes(values: Sequence[Named], count: int) -> list[tuple[int, ...]]:
    return [tuple(array.shape) for _, array in values[:count]]


def _gates_apart(layer: Any, values: Sequence[Named], context: Context) -> int:
    kind = _kind(layer)
    count = 3 * len(GATES.get(kind, ""))
    shapes = _shapes(values, count)
    apart = context.writer.before(2, 0) and count and len(shapes) == count
    return count if apart and all(shape == shapes[2] for shape in shapes[2::3]) and shapes[2] == (_units(layer),) else 0


def _units(layer: Any) -> int:
    return int(getattr(layer, "units", None) or layer.filters)


def _join_gates(layer: Any, values: Sequence[Named], _: Context) -> list[Named]:
    """Joins W_i, U_i, b_i, W_c, ... to kernel, recurrent kernel and bias."""
    kind = _kind(layer)
    found = [_GATE.search(name) for name, _ in values]
    if all(found):
        gates = {match.groups(): array for match, (_, array) in zip(found, values, strict=True) if match}
    else:
        keys = [(part, gate) for gate in _KERAS_1_ORDER[kind] for part in "WUb"]
        gates = {key: array for key, (_, array) in zip(keys, values, strict=True)}
    joined = []
    for part, name in zip("WUb", ("kernel", "recurrent_kernel", "bias"), strict=True):
        blocks = [gates[part, gate] for gate in GATES[kind] if (part, gate) in gates]
        joined.append((name, np.concatenate(blocks, axis=-1) if len(blocks) == len(GATES[kind]) else np.zeros(0)))
    return joined


def _from_cudnn(layer: Any, values: Sequence[Named], _: Context) -> int:
    gates = len(GATES.get(_kind(layer), ""))
    shapes = _shapes(values, 3)
    if not gates or len(shapes) < 3 or _kind(layer) not in ("LSTM", "GRU"):
        return 0
    return 3 if shapes[2] == (2 * gates * layer.units,) else 0


def _undo_cudnn(layer: Any, values: Sequence[Named], _: Context) -> list[Named]:
    """Turns weights of CuDNNLSTM and CuDNNGRU into those of LSTM and GRU.

    The kernel of each gate, shape (features, units), holds in row-major order what cuDNN reads as (units, features):
    the same numbers, so they are read that way and transposed. Recurrent kernels are transposed. cuDNN adds a bias to
    the input's part and another one to the recurrent part: the LSTM only ever sees their sum, the GRU both.
    """
    kernel, recurrent, bias = (array for _, array in values)
    gates = len(GATES[_kind(layer)])
    kernels = [np.ascontiguousarray(block).reshape(block.shape[::-1]).T for block in np.split(kernel, gates, axis=1)]
    recurrents = [block.T for block in np.split(recurrent, gates, axis=1)]
    biases = bias.reshape(2, -1)
    return [
        ("kernel", np.concatenate(kernels, axis=1)),
        ("recurrent_kernel", np.concatenate(recurrents, axis=1)),
        ("bias", biases.sum(axis=0) if _kind(layer) == "LSTM" else biases),
    ]


_CONVOLUTIONS = ("Conv1D", "Conv2D", "Conv3D", "Conv2DTranspose")
_FLIPPED_SOMEHOW = (
    "ConvLSTMCell",
    "SeparableConv1D",
    "SeparableConv2D",
    "DepthwiseConv1D",
    "DepthwiseConv2D",
    "Conv1DTranspose",
    "Conv3DTranspose",
)


def _other_convolution(layer: Any, values: Sequence[Named], context: Context) -> int:
    if type(layer).__name__ in _FLIPPED_SOMEHOW and _of_theano(values, context):
        raise context.refusal(layer.name, "was trained on Theano, which stores its kernels in another way")
    if _kind(layer) not in _CONVOLUTIONS or not (context.writer.before(2, 0) or _of_theano(values, context)):
        return 0
    return min(len(values), 2 if layer.use_bias else 1)


def _of_theano(values: Sequence[Named], context: Context) -> bool:
    """Theano convolves where others correlate; Keras 1 did not write its backend, but TensorFlow ends names in :0."""
    if context.writer.backend is None:
        return context.writer.before(2, 0) and not any(":" in name for name, _ in values)
    return context.writer.backend == "theano"


def _convert_convolution(layer: Any, values: Sequence[Named], context: Context) -> list[Named]:
    name, kernel = values[0]
    if context.writer.before(2, 0):
        kernel = _kernel_of_keras_1(layer, kernel)
    if _of_theano(values, context):
        spatial = tuple(range(kernel.ndim - 2))
        kernel = np.flip(kernel, axis=spatial)
    return [(name, kernel), *values[1:]]


def _kernel_of_keras_1(layer: Any, kernel: Array) -> Array:
    """Returns a kernel with its spatial axes first, then inputs, then filters.

    Keras 1.1 and 1.2 kept the one of Conv1D as (length, 1, inputs, filters), Keras 1.0 as (filters, inputs, length, 1);
    those of two and three dimensions had filters and inputs first where the data had channels first.
    """
    shape = tuple(layer.kernel.shape)
    if _kind(layer) == "Conv1D" and kernel.ndim == 4:
        modern = kernel.shape[1] == 1 and kernel.shape[3] == layer.filters and kernel.shape[0] == shape[0]
        return kernel[:, 0] if modern else np.transpose(kernel, (2, 3, 1, 0))[:, 0]
    if _kind(layer) == "Conv2DTranspose":
        first = layer.data_format == "channels_first"
        return np.transpose(kernel, (2, 3, 0, 1) if first else (0, 1, 3, 2))
    if layer.data_format == "channels_first":
        return np.transpose(kernel, (*range(2, kernel.ndim), 1, 0))
    return kernel


LAYOUTS = (
    Layout(_gates_apart, _join_gates),
    Layout(_from_cudnn, _undo_cudnn),
    Layout(_other_convolution, _convert_convolution),
)
"""The layouts in which a file may have the weights of a layer; the first that recognizes them counts."""
