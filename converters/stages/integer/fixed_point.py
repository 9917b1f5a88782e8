"""The fixed-point arithmetic of TensorFlow Lite's integer kernels, bit by bit, in numpy.

A number of format Qm.n is stored as round(x * 2^n) in an int16; m counts the bits before the point without the sign.

Sources: gemmlowp `fixedpoint/fixedpoint.h` (rounding, tanh, logistic), LiteRT `kernels/internal/common.cc`
(`MultiplyByQuantizedMultiplier`, two roundings) and `kernels/internal/quantization_util.cc` (`QuantizeMultiplier`).
"""

from __future__ import annotations

import functools
import math

import numpy as np

from edgelstm.converters.graph import Array

INT16_MIN, INT16_MAX = -(2**15), 2**15 - 1
GATE_FRACTION_BITS = 12  # gates before their activation: Q3.12
UNIT_FRACTION_BITS = 15  # gates behind it, and tanh of the cell state: Q0.15

# gemmlowp's constants in Q0.31 or Q2.29; an int16 holds their 16 highest bits, rounded.
_EXP_OF_MINUS_EIGHTH, _THIRD = 1895147668, 715827883
_EXP_OF_MINUS_POWERS = {-2: 1672461947, -1: 1302514674, 0: 790015084, 1: 290630308, 2: 39332535, 3: 720401, 4: 242}
_48_OVER_17, _MINUS_32_OVER_17 = 1515870810, -1010580540
_LARGEST_EXP_BITS = 5  # exp of formats with more integer bits is 0 below -32


def rounding_shift(value: Array | int, bits: int) -> Array:
    """Value / 2^bits, halves away from zero.

    Args:
        value: Integers.
        bits: At least 0.
    """
    value = np.asarray(value, np.int64)
    half = np.int64((1 << bits) >> 1)
    return np.where(value < 0, -((half - value) >> bits), (value + half) >> bits)


def quantize_multiplier(scale: float) -> tuple[int, int]:
    """A positive factor as (multiplier, shift): scale = multiplier * 2^(shift - 31), multiplier in [2^30, 2^31)."""
    fraction, shift = math.frexp(scale)
    multiplier = math.floor(fraction * 2**31 + 0.5)
    if multiplier == 2**31:
        multiplier, shift = multiplier // 2, shift + 1
    return (0, 0) if shift < -31 else (multiplier, shift)


def multiply(value: Array, scale: tuple[int, int]) -> Array:
    """Integers times a factor as `quantize_multiplier` gives it; rounds twice, as the kernels do.

    Args:
        value: int32 values in any integer type.
        scale: Multiplier and shift.
    """
    multiplier, shift = scale
    shifted = _wrap(np.asarray(value, np.int64) << max(shift, 0), 32)
    return rounding_shift(_high_half(shifted * multiplier, 31), max(-shift, 0))


def saturate16(value: Array) -> Array:
    """Clips to what an int16 holds; the type stays."""
    return np.clip(value, INT16_MIN, INT16_MAX)


@functools.cache
def sigmoid_table() -> Array:
    """Sigmoid of every int16 in Q3.12, in Q0.15: int16, shape (65536,), entry value + 32768."""
    a = _all_values()
    magnitude = np.where(a > 0, a, _wrap(-a, 16))
    positive = _over_one_plus(_exp_on_negative(_wrap(-magnitude, 16), 3), shift=1, less_one=False)
    result = np.where(a > 0, positive, INT16_MAX - positive)
    return _frozen(np.where(a == 0, 2**14, result))


@functools.cache
def tanh_table(integer_bits: int) -> Array:
    """Tanh of every int16 in Q(m).(15 - m), in Q0.15: int16, shape (65536,), entry value + 32768.

    Args:
        integer_bits: m, 0 to 6; 3 for the cell gate.
    """
    assert 0 <= integer_bits <= 6
    a = _all_values()
    negative = np.where(a < 0, a, -a)
    magnitude = _over_one_plus(_exp_on_negative(negative, integer_bits + 1), shift=2, less_one=True)
    return _frozen(np.where(a == 0, 0, np.where(a < 0, -magnitude, magnitude)))


def _all_values() -> Array:
    return np.arange(INT16_MIN, INT16_MAX + 1, dtype=np.int64)


def _frozen(table: Array) -> Array:
    table = table.astype(np.int16)
    table.flags.writeable = False
    return table


def _wrap(value: Array, bits: int) -> Array:
    """What a signed integer of some bits holds after an overflow."""
    return (value + (1 << (bits - 1))) % (1 << bits) - (1 << (bits - 1))


def _constant(value: int) -> int:
    return int(rounding_shift(value, 16))


def _product(a: Array, b: Array | int) -> Array:
    """The product of two int16 in Q0.15, saturated where -1 * -1 is 1."""
    return np.minimum(_high_half(a * b, 15), INT16_MAX)


def _high_half(value: Array, bits: int) -> Array:
    """Value / 2^bits, halves up: gemmlowp's SaturatingRoundingDoublingHighMul."""
    return (value + (1 << (bits - 1))) >> bits


def _shift_left(value: Array, bits: int) -> Array:
    """Value * 2^bits; what is larger than the threshold becomes the largest int16, even where it would just fit."""
    threshold = (1 << (15 - bits)) - 1
    return np.where(value > threshold, INT16_MAX, np.where(value < -threshold, INT16_MIN, value << bits))


def _exp_near_zero(a: Array) -> Array:
    """Exp of Q0.15 in [-1/4, 0): its Taylor series around -1/8 up to the fourth power."""
    x = a + (1 << 12)
    x2 = _product(x, x)
    x3, x4 = _product(x2, x), _product(x2, x2)
    higher = rounding_shift(_product(rounding_shift(x4, 2) + x3, _constant(_THIRD)) + x2, 1)
    constant = _constant(_EXP_OF_MINUS_EIGHTH)
    return saturate16(constant + _product(x + higher, constant))


def _exp_on_negative(a: Array, integer_bits: int) -> Array:
    """Exp of Q(m).(15 - m) that is 0 or less, in Q0.15: one factor for each bit of its whole quarters."""
    fraction_bits = 15 - integer_bits
    quarter = 1 << (fraction_bits - 2)
    within = (a & (quarter - 1)) - quarter
    result = _exp_near_zero(_shift_left(within, integer_bits))
    quarters = within - a
    for exponent, factor in _EXP_OF_MINUS_POWERS.items():
        if integer_bits > exponent:
            bit = quarters & (1 << (fraction_bits + exponent))
            result = np.where(bit != 0, _product(result, _constant(factor)), result)
    if integer_bits > _LARGEST_EXP_BITS:
        result = np.where(a < -(32 << fraction_bits), 0, result)
    return np.where(a == 0, INT16_MAX, result)


def _over_one_plus(a: Array, *, shift: int, less_one: bool) -> Array:
    """1 / (1 + a) or (1 - a) / (1 + a) = 2 / (1 + a) - 1 of a in [0, 1], by three steps of Newton's division.

    Args:
        a: Q0.15.
        shift: Bits from Q2.13 to the result.
        less_one: Whether to subtract 1.
    """
    one = 1 << 13
    half_denominator = (a + INT16_MAX + 1) >> 1
    x = _constant(_48_OVER_17) + _product(half_denominator, _constant(_MINUS_32_OVER_17))
    for _ in range(3):
        x = x + _shift_left(_product(x, one - _product(half_denominator, x)), 2)
    return _shift_left(x - one if less_one else x, shift)
