"""The weight matrices that pruning and clustering work on: which layers have them, and how users choose among them."""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from edgelstm.converters.layers import layers_inside
from edgelstm.converters.loading.keras_import import import_keras
from edgelstm.converters.stages.base import Array
from edgelstm.errors import SettingError, StageError


@dataclasses.dataclass(frozen=True)
class View:
    """How the numbers of a variable lie as matrices of (inputs, outputs).

    Attributes:
        pieces: Axes along which one matrix follows another: positions of a convolution.
        rows: Axes of what goes in.
        columns: Axes of what comes out.
        gates: Number of matrices that stand side by side in the columns.
    """

    pieces: tuple[int, ...]
    rows: tuple[int, ...]
    columns: tuple[int, ...]
    gates: int = 1

    def split(self, array: Array) -> Array:
        """Returns the matrices, shape (pieces, rows, columns)."""
        pieces, rows, columns = self._sizes(array.shape)
        flat = array.transpose(self._order).reshape(pieces, rows, self.gates, columns // self.gates)
        return np.ascontiguousarray(flat.transpose(0, 2, 1, 3)).reshape(-1, rows, columns // self.gates)

    def join(self, matrices: Array, shape: tuple[int, ...]) -> Array:
        """Returns an array of the variable's shape; the inverse of `split`."""
        pieces, rows, columns = self._sizes(shape)
        flat = matrices.reshape(pieces, self.gates, rows, columns // self.gates).transpose(0, 2, 1, 3)
        back = flat.reshape([shape[axis] for axis in self._order]).transpose(np.argsort(self._order))
        return np.ascontiguousarray(back)

    @property
    def _order(self) -> tuple[int, ...]:
        return (*self.pieces, *self.rows, *self.columns)

    def _sizes(self, shape: tuple[int, ...]) -> tuple[int, int, int]:
        pieces, rows, columns = (
            math.prod(shape[axis] for axis in axes) for axes in (self.pieces, self.rows, self.columns)
        )
        return pieces, rows, columns


@dataclasses.dataclass(frozen=True)
class Matrix:
    """A variable of weights that a stage may change.

    Attributes:
        variable: The Keras variable.
        view: How its numbers lie.
        owners: (name, class) of the layers around it, outer ones first, then of the variable itself (without class).
    """

    variable: Any
    view: View
    owners: tuple[tuple[str, str], ...]

    @property
    def name(self) -> str:
        """For reports, such as "bidirectional/forward_lstm/kernel"."""
        return "/".join(name for name, _ in self.owners)

    def read(self) -> Array:
        """The weights as they are now."""
        return np.array(self.variable.numpy())

    def closeness(self, selector: str) -> int:
        """Tells how closely a selector names this matrix, from 0 on; -1 if it does not.

        Args:
            selector: Name or class of a layer around it, or names of layers, from outer to inner, with / between.
        """
        words = selector.split("/")
        names = [name for name, _ in self.owners]
        found = -1
        for end in range(1, len(names) + 1):
            if names[max(end - len(words), 0) : end] == words:
                found = 2 * end + 1
            elif selector == self.owners[end - 1][1]:
                found = 2 * end
        return found


def matrices_of(model: Any) -> list[Matrix]:
    """Returns the matrices of all layers that are known here, each once, however often a layer is used.

    These are the kernels and recurrent kernels of LSTM, GRU and SimpleRNN (their cells, wherever they are), the kernels
    of Dense, EinsumDense (those of MultiHeadAttention among them) and convolutions, and the tables of Embedding.
    Biases, normalization and layers of other kinds are not among them, nor is what is quantized or has LoRA.
    """
    keras = import_keras()
    found: dict[int, Matrix] = {}
    for layer, owners in _walk(model, ()):
        for attribute, view in _views(layer):
            variable = getattr(layer, attribute, None) if layer.built else None
            if variable is None or not isinstance(variable, keras.Variable) or "float" not in str(variable.dtype):
                continue
            if not getattr(layer, "lora_enabled", False):
                matrix = Matrix(variable, view(layer, tuple(variable.shape)), (*owners, (attribute, "")))
                found.setdefault(id(variable), matrix)
    return list(found.values())


def notes_on_others(model: Any, matrices: Sequence[Matrix]) -> tuple[str, ...]:
    """Returns a sentence about each layer that has matrices which are not known here."""
    known = {id(matrix.variable) for matrix in matrices}
    notes = []
    for layer, owners in _walk(model, ()):
        own = [each for each in layer._trainable_variables if id(each) not in known and _is_matrix(each)]
        if own:
            name = "/".join(name for name, _ in owners)
            notes.append(
                f"Layer {name!r} ({type(layer).__name__}) is left as it is: weights of its kind are not known."
            )
    return tuple(dict.fromkeys(notes))


def parse_overrides(where: str, text: str) -> dict[str, float]:
    """Reads "layer=0.5, other=0".

    Args:
        where: Names the setting in messages.
        text: What the user wrote.

    Raises:
        SettingError: If it is written otherwise.
    """
    values: dict[str, float] = {}
    for part in _parts(text):
        name, sign, number = (word.strip() for word in part.partition("="))
        try:
            values[name] = float(number)
        except ValueError:
            values[name] = math.nan
        if not (sign and name and math.isfinite(values[name])):
            raise SettingError(
                f"{where} must be written as 'layer=number, other=number', which {part.strip()!r} is not."
            )
    return values


def choose(
    model: Any, where: tuple[str, str], chosen: str, default: float, overrides: Mapping[str, float]
) -> list[tuple[Matrix, float]]:
    """Returns the matrices to change, each with its value.

    Where several entries of `overrides` fit a matrix, the one that names it most closely holds: an inner layer before
    the model or wrapper around it, a name before a class, a later entry before an earlier one.

    Args:
        model: The model.
        where: How messages name the settings that `chosen` and `overrides` come from.
        chosen: "all", or selectors with commas between: names of layers (or of models and wrappers around them),
            paths of names such as "encoder/lstm", or Keras' names of classes, such as "LSTM".
        default: The value of what is chosen.
        overrides: Values by selector. They hold for layers that are not chosen, too; 0 leaves a layer alone.

    Raises:
        SettingError: If a selector fits nothing.
        StageError: If nothing is left to change.
    """
    matrices = matrices_of(model)
    selectors = [] if chosen.strip() == "all" else [part.strip() for part in _parts(chosen)]
    for setting, words in zip(where, (selectors, overrides), strict=True):
        for selector in words:
            _check(model, matrices, setting, selector)
    result = []
    for matrix in matrices:
        fits = not selectors or any(matrix.closeness(selector) >= 0 for selector in selectors)
        value, best = (default if fits else 0.0), 0
        for selector, number in overrides.items():
            closeness = matrix.closeness(selector)
            if closeness >= max(best, 1):
                value, best = number, closeness
        if value:
            result.append((matrix, value))
    if not result:
        raise StageError(
            f"Model {model.name!r} has no weights to change here: "
            + ("no layer of a known kind." if not matrices else "the settings leave every layer alone.")
        )
    return result


def _check(model: Any, matrices: Sequence[Matrix], where: str, selector: str) -> None:
    if any(matrix.closeness(selector) >= 0 for matrix in matrices):
        return
    layers = {layer.name: type(layer).__name__ for layer, _ in _walk(model, ())}
    if selector in layers:
        raise SettingError(
            f"{where} names {selector!r}, a layer ({layers[selector]}) without weights that can be changed here."
        )
    known = dict.fromkeys(name for matrix in matrices for pair in matrix.owners[:-1] for name in pair)
    paths = dict.fromkeys("/".join(name for name, _ in matrix.owners[:-1]) for matrix in matrices)
    near = difflib.get_close_matches(selector, [*known, *paths], n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    names = ", ".join(paths)
    raise SettingError(f"{where} names {selector!r}, which is no layer of the model.{hint} It has {names}.")


def _parts(text: str) -> list[str]:
    return [part for part in text.split(",") if part.strip()]


def _is_matrix(variable: Any) -> bool:
    return len(variable.shape) > 1 and variable.name not in ("bias", "beta", "gamma")


Owners = tuple[tuple[str, str], ...]


def _walk(layer: Any, owners: Owners, seen: set[int] | None = None) -> Iterator[tuple[Any, Owners]]:
    """Yields every layer inside, each once, with (name, class) of the layers from the outermost to itself.

    The cell of an LSTM, GRU or SimpleRNN goes by the name of its layer.
    """
    layers = import_keras().layers
    seen = set() if seen is None else seen
    for inner in layers_inside(layer, recursive=False):
        if id(inner) in seen:
            continue
        seen.add(id(inner))
        is_cell = isinstance(layer, (layers.LSTM, layers.GRU, layers.SimpleRNN))
        path = owners if is_cell else (*owners, (inner.name, type(inner).__name__))
        yield inner, path
        yield from _walk(inner, path, seen)


ViewMaker = Callable[[Any, tuple[int, ...]], View]


def _gates(count: int) -> ViewMaker:
    return lambda _, shape: View((), (0,), (1,), count)


def _convolution(_: Any, shape: tuple[int, ...]) -> View:
    last = len(shape) - 1
    return View(tuple(range(last - 1)), (last - 1,), (last,))


def _transposed(_: Any, shape: tuple[int, ...]) -> View:
    last = len(shape) - 1
    return View(tuple(range(last - 1)), (last,), (last - 1,))


def _depthwise(_: Any, shape: tuple[int, ...]) -> View:
    """A channel of the output reads one channel at all positions."""
    last = len(shape) - 1
    return View((), tuple(range(last - 1)), (last - 1, last))


def _einsum(layer: Any, shape: tuple[int, ...]) -> View:
    """Axes of the kernel that the output has come out; those that input and output share are apart; others go in."""
    operands, output = layer.equation.replace("...", "").replace(" ", "").split("->")
    inputs, kernel = operands.split(",")
    axes = range(len(shape))
    apart = tuple(axis for axis in axes if kernel[axis] in output and kernel[axis] in inputs)
    columns = tuple(axis for axis in axes if kernel[axis] in output and axis not in apart)
    return View(apart, tuple(axis for axis in axes if kernel[axis] not in output), columns)


_DENSE = (("kernel", _gates(1)),)
_CONVOLUTION = (("kernel", _convolution),)
_TRANSPOSED = (("kernel", _transposed),)
_DEPTHWISE = (("kernel", _depthwise),)
_SEPARABLE = (("depthwise_kernel", _depthwise), ("pointwise_kernel", _convolution))


def _recurrent(gates: int) -> tuple[tuple[str, ViewMaker], ...]:
    return ("kernel", _gates(gates)), ("recurrent_kernel", _gates(gates))


# By Keras' class, the matrices of a layer. Gates: i, f, c, o of an LSTM; z, r, h of a GRU.
_KNOWN: dict[str, tuple[tuple[str, ViewMaker], ...]] = {
    "LSTMCell": _recurrent(4),
    "GRUCell": _recurrent(3),
    "SimpleRNNCell": _recurrent(1),
    "Dense": _DENSE,
    "EinsumDense": (("kernel", _einsum),),
    "Embedding": (("embeddings", _gates(1)),),
    "DepthwiseConv1D": _DEPTHWISE,
    "DepthwiseConv2D": _DEPTHWISE,
    "SeparableConv1D": _SEPARABLE,
    "SeparableConv2D": _SEPARABLE,
    "Conv1DTranspose": _TRANSPOSED,
    "Conv2DTranspose": _TRANSPOSED,
    "Conv3DTranspose": _TRANSPOSED,
    "Conv1D": _CONVOLUTION,
    "Conv2D": _CONVOLUTION,
    "Conv3D": _CONVOLUTION,
}


def _views(layer: Any) -> tuple[tuple[str, ViewMaker], ...]:
    layers = import_keras().layers
    for name, views in _KNOWN.items():
        if isinstance(layer, getattr(layers, name)):
            return views
    return ()
