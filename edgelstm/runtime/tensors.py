"""Inputs, outputs and states of a model: what they are called, and which values they take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

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


def describe(name: str, detail: dict[str, Any]) -> TensorInfo:
    """Describes a tensor by what an Interpreter tells about it."""
    scale, zero_point = detail["quantization"]
    shape = tuple(int(size) for size in detail["shape_signature"])
    dtype = np.dtype(detail["dtype"]).name
    return TensorInfo(name, shape, dtype, float(scale), int(zero_point)) if scale else TensorInfo(name, shape, dtype)


def fits_shape(array: Array, info: TensorInfo) -> bool:
    """Says whether an array has the shape of a tensor, any size where the file leaves it free."""
    return array.ndim == len(info.shape) and all(
        wanted in (-1, size) for wanted, size in zip(info.shape, array.shape, strict=True)
    )


def fit(values: npt.ArrayLike, info: TensorInfo, *, what: str, hint: str = "") -> Array:
    """Returns values in the dtype of a tensor: cast where none of them changes, floats for integers quantized.

    Args:
        values: The values.
        info: The tensor.
        what: What it is, for messages: "Input", "State".
        hint: What to do about a wrong shape, the end of that message.

    Raises:
        ValueError: If the shape or the dtype does not fit.
    """
    array, dtype = np.asarray(values), np.dtype(info.dtype)
    if not fits_shape(array, info):
        raise ValueError(f"{what} {info.name!r} has shape {array.shape}, but the model takes {info.shape}.{hint}")
    if array.dtype == dtype:
        return array
    if info.scale is not None:
        if array.dtype.kind == "f":
            return info.quantize(array)
        raise ValueError(
            f"{what} {info.name!r} is {array.dtype.name}, but the model takes quantized {dtype.name}, or floats to be "
            "quantized."
        )
    if dtype.kind == "f" and array.dtype.kind in "fiub":
        return array.astype(dtype)
    if dtype.kind in "iu" and array.dtype.kind in "iub":
        limits = np.iinfo(dtype)
        if not array.size or (limits.min <= array.min() and array.max() <= limits.max):
            return array.astype(dtype)
    raise ValueError(
        f"{what} {info.name!r} is {array.dtype.name}, and its values do not fit into {dtype.name}, which the model "
        "takes."
    )
