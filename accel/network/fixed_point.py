"""Fixed-point functions of gemmlowp, on which TensorFlow Lite's integer kernels are built.

Numbers are int64 arrays; ``Qm`` marks one with `m` integer bits, whose real value is ``raw * 2**(m - 31)``.

References
----------
Jacob and others, gemmlowp, 2015: ``fixedpoint/fixedpoint.h``.
"""

from __future__ import annotations

import math
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from accel.machine.numerics import INT32_MAX, INT32_MIN, saturate

Fixed: TypeAlias = NDArray[np.int64]

_EXP_MINUS_ONE_EIGHTH = round(math.exp(-1 / 8) * 2**31)
_ONE_THIRD = round(2**31 / 3)
_BARREL = tuple((exponent, round(math.exp(-(2.0**exponent)) * 2**31)) for exponent in range(-2, 5))


def multiply(a: Fixed | int, b: Fixed | int) -> Fixed:
    """Rounded product of two fixed-point numbers, whose numbers of integer bits add up (see `requantize_tflite`)."""
    return np.asarray((a * b + (1 << 30)) >> 31)


def divide_by_power(a: Fixed, n: Fixed | int) -> Fixed:
    """``a / 2**n``, ties away from zero."""
    mask = (np.int64(1) << n) - 1
    return (a >> n) + ((a & mask) > (mask >> 1) + (a < 0))


def exp_negative(a: Fixed, integer_bits: int) -> Fixed:
    """``exp(a)`` in Q0 for ``a <= 0`` in Q`integer_bits`, up to 5: a polynomial on [-1/4, 0), then factors for bits."""
    quarter = 1 << (31 - integer_bits - 2)
    fraction = (a & (quarter - 1)) - quarter
    result = _exp_of_last_quarter(fraction << integer_bits)
    rest = fraction - a
    for exponent, factor in _BARREL:
        is_set = rest >> (31 - integer_bits + exponent) & 1 == 1
        result = np.where(is_set, multiply(result, factor), result)
    return np.where(a == 0, INT32_MAX, result)


def _exp_of_last_quarter(a: Fixed) -> Fixed:
    """``exp(a)`` in Q0 for `a` in [-1/4, 0) in Q0: the Taylor series around -1/8."""
    x = a + (1 << 28)
    x2 = multiply(x, x)
    x3, x4 = multiply(x2, x), multiply(x2, x2)
    tail = divide_by_power(multiply(divide_by_power(x4, 2) + x3, _ONE_THIRD) + x2, 1)
    return _EXP_MINUS_ONE_EIGHTH + multiply(_EXP_MINUS_ONE_EIGHTH, x + tail)


def reciprocal_of_half_plus(a: Fixed) -> Fixed:
    """``2 / (1 + a)`` in Q2 for `a` in [0, 1] in Q0: three Newton-Raphson steps."""
    half_denominator = (a + INT32_MAX + 1) >> 1
    x = round(48 / 17 * 2**29) + multiply(half_denominator, round(-32 / 17 * 2**29))
    for _ in range(3):
        error = (1 << 29) - multiply(half_denominator, x)
        x = x + saturate(multiply(x, error) << 2, INT32_MIN, INT32_MAX)
    return x


def reciprocal_of_one_plus(a: Fixed) -> Fixed:
    """``1 / (1 + a)`` in Q0 for `a` in [0, 1] in Q0."""
    return np.asarray(saturate(reciprocal_of_half_plus(a) << 1, INT32_MIN, INT32_MAX))


def logistic(a: Fixed) -> Fixed:
    """``1 / (1 + exp(-a))`` in Q0 for `a` in Q4."""
    positive = reciprocal_of_one_plus(exp_negative(-np.abs(a), 4))
    return np.where(a == 0, 1 << 30, np.where(a > 0, positive, INT32_MAX - positive))


def tanh(a: Fixed) -> Fixed:
    """``tanh(a)`` in Q0 for `a` in Q4: ``(1 - x) / (1 + x)`` with ``x = exp(-2 abs(a))``, and the sign of `a`."""
    excess = reciprocal_of_half_plus(exp_negative(-np.abs(a), 5)) - (1 << 29)
    return np.asarray(np.sign(a) * saturate(excess << 2, INT32_MIN, INT32_MAX))
