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
_ROOT_HALF = 1518500250
_FOURTH_ROOT_HALF = 1805811301
_LOG_2 = 1488522236
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


def reciprocal_root(x: int) -> tuple[int, int]:
    """``1 / sqrt(x)`` of a positive integer, as multiplier and shift: five Newton-Raphson steps."""
    if x <= 1:
        return INT32_MAX, 0
    pairs = (31 - x.bit_length()) // 2 - 1
    shift, scaled = 11 - pairs, np.asarray(x << 2 * pairs >> 1, np.int64)
    half, three_halves, root = divide_by_power(scaled, 1), (1 << 28) + (1 << 27), np.asarray(1 << 28, np.int64)
    for _ in range(5):
        cube = _rescale_left(multiply(multiply(root, root), root), 6)
        root = _rescale_left(multiply(three_halves, root) - multiply(half, cube), 3)
    result = int(multiply(root, _ROOT_HALF))
    return result << max(-shift, 0), -max(shift, 0)


def leading_zeros(a: Fixed) -> Fixed:
    """Zeros before the first bit of numbers from 0 to 2**32 - 1 in 32 bits."""
    return 32 - np.frexp(a.astype(np.float64))[1].astype(np.int64)


def quotient(x: Fixed, y: Fixed, q: int, e: int) -> Fixed:
    """``x / y`` times a multiplier, for numbers below 2**15 that are not 0 in `y`; x / 0 is taken as x / 1.

    Notes
    -----
    The quotient is the product with a reciprocal of 31 bits, whose shift the multiplier takes over.
    """
    dividend, divisor = np.where(y < 0, -x, x), np.maximum(np.abs(y), 1)
    zeros = leading_zeros(divisor)
    reciprocal = reciprocal_of_one_plus((divisor << zeros) - (1 << 31))
    headroom = leading_zeros(np.where(dividend < 0, -dividend - 1, dividend)) - 1
    scaled = multiply(multiply(dividend << headroom, reciprocal), q)
    return divide_by_power(scaled, np.minimum(31 - zeros + headroom - e, 62))


def logarithm(a: Fixed, integer_bits: int, result_bits: int) -> Fixed:
    """Natural logarithm of `a` from 1 on in Q`integer_bits`, in Q`result_bits`.

    Notes
    -----
    ``a = 2**n * r`` with r around the fourth root of 1/2, where a rational function approximates ``log(r)``. The
    constants are those of TensorFlow Lite (``log_x_for_x_greater_than_or_equal_to_1_impl``); sums have one bit more.
    """
    sum_bits = result_bits + 1
    unit, quarter = 31 - sum_bits, 1 << (29 - sum_bits)
    zeros = leading_zeros(a)
    first = _rescale_left(multiply(_rescale_left(a, zeros - 1), _ROOT_HALF), 1)
    first_power = _rescale_left(integer_bits - zeros, unit) + quarter
    room = leading_zeros(multiply(a, _ROOT_HALF)) - 1
    second, second_power = _rescale_left(a, room), _rescale_left(integer_bits - room, unit) - quarter
    r, power = np.minimum(first, second), np.maximum(first_power, second_power)
    p, q = (r + _FOURTH_ROOT_HALF + 1) >> 1, 2 * (r - _FOURTH_ROOT_HALF)
    square = multiply(q, q)
    numerator = multiply(q, r) + multiply(multiply(q, square), 117049297)
    denominator = multiply(p, 1057819769 + q + multiply(127690142, square)) + multiply(638450708, q)
    fraction = multiply(divide_by_power(numerator, sum_bits), reciprocal_of_one_plus(denominator))
    return _rescale_left(multiply(power, _LOG_2) + fraction, 1)


def _rescale_left(a: Fixed, bits: Fixed | int) -> Fixed:
    """The same number with `bits` integer bits less, saturated."""
    return np.asarray(saturate(np.asarray(a << bits), INT32_MIN, INT32_MAX))
