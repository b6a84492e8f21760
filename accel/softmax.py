"""Softmax, which the host computes: the fixed-point recipe of TensorFlow Lite's reference kernel, or floating point.

Fixed-point numbers are int64 arrays; ``Qm`` marks one with `m` integer bits, whose real value is ``raw * 2**(m - 31)``.

References
----------
Jacob and others, gemmlowp, 2015: ``fixedpoint/fixedpoint.h``, exponential and reciprocal.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from accel.numerics import INT32_MAX, INT32_MIN, RequantMode, quantize_multiplier, requantize, saturate

Fixed = NDArray[np.int64]

INPUT_INTEGER_BITS = 5
SUM_INTEGER_BITS = 12
_EXP_MINUS_ONE_EIGHTH = round(math.exp(-1 / 8) * 2**31)
_ONE_THIRD = round(2**31 / 3)
_BARREL = tuple((exponent, round(math.exp(-(2.0**exponent)) * 2**31)) for exponent in range(-2, 5))


def softmax(
    x: NDArray[np.int8], scale: float, mode: RequantMode, output: tuple[float, int] = (1 / 256, -128)
) -> NDArray[np.int8]:
    """Softmax over the last axis.

    Parameters
    ----------
    x : ndarray of int8, shape (..., classes)
        The zero point cancels out.
    scale : float
        Scale of `x`.
    mode : RequantMode
        `fp32` computes with real numbers, ties to even; the others in fixed point.
    output : (float, int)
        Scale and zero point of the result; fixed point knows only one choice.

    Returns
    -------
    ndarray of int8, shape of `x`
    """
    return _softmax_real(x, scale, output) if mode is RequantMode.FP32 else _softmax_fixed(x, scale, mode)


def _softmax_real(x: NDArray[np.int8], scale: float, output: tuple[float, int]) -> NDArray[np.int8]:
    exponentials = np.exp((x.astype(np.float64) - x.max(axis=-1, keepdims=True)) * scale)
    share = exponentials / exponentials.sum(axis=-1, keepdims=True)
    return np.asarray(np.clip(np.rint(share / output[0]) + output[1], -128, 127), dtype=np.int8)


def _softmax_fixed(x: NDArray[np.int8], scale: float, mode: RequantMode) -> NDArray[np.int8]:
    """Differences to the maximum in Q5, their exponentials in Q0, the sum in Q12; `mode` rounds the first step."""
    q, e = quantize_multiplier(min(scale * 2 ** (31 - INPUT_INTEGER_BITS), float(INT32_MAX)))
    difference = x.astype(np.int64) - x.max(axis=-1, keepdims=True)
    radius = ((1 << INPUT_INTEGER_BITS) - 1) * 2 ** (31 - INPUT_INTEGER_BITS) // 2 ** max(e, 0)
    near = difference >= -radius
    exponentials = _exp_negative(requantize(np.where(near, difference, 0), q, e, mode))
    total = np.where(near, _divide_by_power(exponentials, SUM_INTEGER_BITS), 0).sum(axis=-1, keepdims=True)
    leading_zeros = 32 - np.frexp(total.astype(np.float64))[1].astype(np.int64)
    reciprocal = _reciprocal_of_one_plus((total << leading_zeros) - (1 << 31))
    share = _divide_by_power(_multiply(reciprocal, exponentials), SUM_INTEGER_BITS - leading_zeros + 31 - 8)
    return np.asarray(np.where(near, saturate(share - 128, -128, 127), -128), dtype=np.int8)


def _exp_negative(a: Fixed) -> Fixed:
    """``exp(a)`` in Q0 for ``a <= 0`` in Q5: a polynomial on [-1/4, 0), then one factor per set bit of the rest."""
    quarter = 1 << (31 - INPUT_INTEGER_BITS - 2)
    fraction = (a & (quarter - 1)) - quarter
    result = _exp_of_last_quarter(fraction << INPUT_INTEGER_BITS)
    rest = fraction - a
    for exponent, factor in _BARREL:
        is_set = rest >> (31 - INPUT_INTEGER_BITS + exponent) & 1 == 1
        result = np.where(is_set, _multiply(result, factor), result)
    return np.where(a == 0, INT32_MAX, result)


def _exp_of_last_quarter(a: Fixed) -> Fixed:
    """``exp(a)`` in Q0 for `a` in [-1/4, 0) in Q0: the Taylor series around -1/8."""
    x = a + (1 << 28)
    x2 = _multiply(x, x)
    x3, x4 = _multiply(x2, x), _multiply(x2, x2)
    tail = _divide_by_power(_multiply(_divide_by_power(x4, 2) + x3, _ONE_THIRD) + x2, 1)
    return _EXP_MINUS_ONE_EIGHTH + _multiply(_EXP_MINUS_ONE_EIGHTH, x + tail)


def _reciprocal_of_one_plus(a: Fixed) -> Fixed:
    """``1 / (1 + a)`` in Q0 for `a` in [0, 1) in Q0: three Newton-Raphson steps in Q2."""
    half_denominator = (a + INT32_MAX + 1) >> 1
    x = round(48 / 17 * 2**29) + _multiply(half_denominator, round(-32 / 17 * 2**29))
    for _ in range(3):
        error = (1 << 29) - _multiply(half_denominator, x)
        x = x + saturate(_multiply(x, error) << 2, INT32_MIN, INT32_MAX)
    return np.asarray(saturate(x << 1, INT32_MIN, INT32_MAX))


def _multiply(a: Fixed | int, b: Fixed | int) -> Fixed:
    """Rounded product of two fixed-point numbers, whose numbers of integer bits add up (see `requantize_tflite`)."""
    return np.asarray((a * b + (1 << 30)) >> 31)


def _divide_by_power(a: Fixed, n: Fixed | int) -> Fixed:
    """``a / 2**n``, ties away from zero."""
    mask = (np.int64(1) << n) - 1
    return (a >> n) + ((a & mask) > (mask >> 1) + (a < 0))
