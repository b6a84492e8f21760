"""Softmax, which the host computes: the fixed-point recipe of TensorFlow Lite's reference kernel, or floating point."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from accel.machine.numerics import INT32_MAX, RequantMode, quantize_multiplier, requantize, saturate
from accel.network.fixed_point import divide_by_power, exp_negative, multiply, reciprocal_of_one_plus

INPUT_INTEGER_BITS = 5
SUM_INTEGER_BITS = 12


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
    exponentials = exp_negative(requantize(np.where(near, difference, 0), q, e, mode), INPUT_INTEGER_BITS)
    total = np.where(near, divide_by_power(exponentials, SUM_INTEGER_BITS), 0).sum(axis=-1, keepdims=True)
    leading_zeros = 32 - np.frexp(total.astype(np.float64))[1].astype(np.int64)
    reciprocal = reciprocal_of_one_plus((total << leading_zeros) - (1 << 31))
    share = divide_by_power(multiply(reciprocal, exponentials), SUM_INTEGER_BITS - leading_zeros + 31 - 8)
    return np.asarray(np.where(near, saturate(share - 128, -128, 127), -128), dtype=np.int8)
