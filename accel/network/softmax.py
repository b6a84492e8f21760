"""Softmax, which the host computes: the fixed-point recipe of TensorFlow Lite's reference kernel, or floating point."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from accel.machine.numerics import INT32_MAX, INT32_MIN, RequantMode, quantize_multiplier, requantize, saturate
from accel.network.fixed_point import (
    Fixed,
    divide_by_power,
    exp_negative,
    leading_zeros,
    logarithm,
    multiply,
    reciprocal_of_one_plus,
)

INPUT_INTEGER_BITS = 5
SUM_INTEGER_BITS = 12
LOG_INTEGER_BITS = 4


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
    rescaled = _Rescaled.of(x, scale, mode)
    exponentials = exp_negative(rescaled.difference, INPUT_INTEGER_BITS)
    near, total = rescaled.near, _sum(rescaled.near, exponentials)
    zeros = leading_zeros(total)
    reciprocal = reciprocal_of_one_plus((total << zeros) - (1 << 31))
    share = divide_by_power(multiply(reciprocal, exponentials), SUM_INTEGER_BITS - zeros + 31 - 8)
    return np.asarray(np.where(near, saturate(share - 128, -128, 127), -128), dtype=np.int8)


def log_softmax(
    x: NDArray[np.int8], scale: float, mode: RequantMode, output: tuple[float, int] = (1 / 16, 127)
) -> NDArray[np.int8]:
    """Logarithm of the softmax over the last axis.

    Parameters
    ----------
    x : ndarray of int8, shape (..., classes)
        The zero point cancels out.
    scale : float
        Scale of `x`.
    mode, output
        As for `softmax`.

    Returns
    -------
    ndarray of int8, shape of `x`
    """
    if mode is RequantMode.FP32:
        real = (x.astype(np.float64) - x.max(axis=-1, keepdims=True)) * scale
        real -= np.log(np.exp(real).sum(axis=-1, keepdims=True))
        return np.asarray(np.clip(np.rint(real / output[0]) + output[1], -128, 127), dtype=np.int8)
    rescaled = _Rescaled.of(x, scale, mode)
    total = _sum(rescaled.near, exp_negative(rescaled.difference, INPUT_INTEGER_BITS))
    log_total = logarithm(total, SUM_INTEGER_BITS, INPUT_INTEGER_BITS)
    fixed = rescaled.fixed
    q, e = quantize_multiplier(2.0**31 / (fixed.multiplier * 2.0**fixed.shift))
    least = np.maximum(-fixed.radius - 1, requantize(log_total + INT32_MIN, q, e, mode))
    far = x.astype(np.int64) - x.max(axis=-1, keepdims=True) <= least
    result = divide_by_power(rescaled.difference - log_total, 31 - INPUT_INTEGER_BITS - LOG_INTEGER_BITS) + 127
    return np.asarray(np.where(far, -128, saturate(result, -128, 127)), dtype=np.int8)


class Rescaling(NamedTuple):
    """How differences to the maximum are brought to Q5, and up to which difference they can be held."""

    multiplier: int
    shift: int
    radius: int


def rescaling(scale: float) -> Rescaling:
    """That of integers of a scale."""
    q, e = quantize_multiplier(min(scale * 2 ** (31 - INPUT_INTEGER_BITS), float(INT32_MAX)))
    radius = ((1 << INPUT_INTEGER_BITS) - 1) * 2 ** (31 - INPUT_INTEGER_BITS) // 2 ** max(e, 0)
    return Rescaling(q, e, radius)


class _Rescaled(NamedTuple):
    """Differences to the maximum in Q5, 0 where they are too far to be held; where they are near; how it was done."""

    difference: Fixed
    near: NDArray[np.bool_]
    fixed: Rescaling

    @classmethod
    def of(cls, x: NDArray[np.int8], scale: float, mode: RequantMode) -> _Rescaled:
        fixed = rescaling(scale)
        difference = x.astype(np.int64) - x.max(axis=-1, keepdims=True)
        near = difference >= -fixed.radius
        scaled = requantize(np.where(near, difference, 0), fixed.multiplier, fixed.shift, mode)
        return cls(scaled, near, fixed)


def _sum(near: NDArray[np.bool_], exponentials: Fixed) -> Fixed:
    """Sum of the exponentials that count, in Q12."""
    terms = np.where(near, divide_by_power(exponentials, SUM_INTEGER_BITS), 0)
    return np.asarray(terms.sum(axis=-1, keepdims=True))
