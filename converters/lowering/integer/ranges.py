"""Ranges of activations, and the integer types that hold them."""

from __future__ import annotations

import math
from collections.abc import Container, Mapping
from dataclasses import dataclass

import numpy as np

from edgelstm.converters.graph import Array

# The integer kernel's tanh exists for cell states with 0 to 6 integer bits; beyond, it answers rubbish.
SMALLEST_CELL_EXPONENT = 0  # scale 2^-15
LARGEST_CELL_EXPONENT = 6  # scale 2^-9


@dataclass(frozen=True)
class Ranges:
    """What activations were seen to do over the calibration data.

    Attributes:
        low: Smallest value of each tensor of the float graph, by tensor index; NaN where none was seen.
        high: Largest value.
        cell_peak: Largest |c| over all steps, the initial state included, by call index.
        given: Tensors whose range was given and is not widened.
    """

    low: Array
    high: Array
    cell_peak: Mapping[int, float]
    given: Container[int] = ()

    def of(self, *tensors: int) -> tuple[float, float]:
        """The range that covers some tensors and zero; of the first one alone if that was given."""
        tensors = tensors[:1] if tensors[0] in self.given else tensors
        lows = [float(self.low[tensor]) for tensor in tensors if not math.isnan(self.low[tensor])]
        highs = [float(self.high[tensor]) for tensor in tensors if not math.isnan(self.high[tensor])]
        low, high = min([0.0, *lows]), max([0.0, *highs])
        return (low, high) if high - low > 1e-6 else (low, low + 1.0)


def cell_exponent(peak: float) -> int:
    """Integer bits of the int16 cell state: the smallest power of two that covers the peak, within 0 to 6."""
    needed = math.ceil(math.log2(peak)) if peak > 0 else 0
    return min(max(needed, SMALLEST_CELL_EXPONENT), LARGEST_CELL_EXPONENT)


def asymmetric(limits: tuple[float, float]) -> tuple[float, int]:
    """Scale and zero point of an int8 tensor over a range that contains zero, as TensorFlow's quantizer rounds them.

    Source: gemmlowp's quantization example, which computes the zero point from the end of the range that
    gives the smaller rounding error.
    """
    low, high = (float(np.float32(limit)) for limit in limits)
    scale = (high - low) / 255
    from_low, from_high = -128 - low / scale, 127 - high / scale
    better = from_low if 128 + abs(low / scale) < 127 + abs(high / scale) else from_high
    return float(np.float32(scale)), int(np.clip(round(better), -128, 127))
