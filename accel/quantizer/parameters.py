"""Scales of weights, and their integers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from accel.machine.numerics import INT32_MAX, RequantMode
from accel.network.real import round_real
from accel.quantized.network import Quantization

LARGEST_WEIGHT = 127
SMALLEST_MULTIPLIER = 2.0**-24
"""Weight scales are not finer than this share of an output step per input step: that would change no output."""


def weight_scales(
    weight: NDArray[np.float32], bias: NDArray[np.floating], scale_in: float, scale_out: float
) -> NDArray[np.float32]:
    """Symmetric scale of each output channel: ``max|w| / 127``, not finer than the output's resolution.

    Parameters
    ----------
    weight, bias : ndarray of float32
        Output channel first.
    scale_in, scale_out : float

    Returns
    -------
    ndarray of float32, shape (channels,)

    Notes
    -----
    Dead channels get the floor. Where the bias would leave int32 no room for the products, the scale grows.
    """
    rows = weight.reshape(len(weight), -1)
    headroom = INT32_MAX - rows.shape[1] * LARGEST_WEIGHT * 255
    scales = np.abs(rows).max(axis=1).astype(np.float64) / LARGEST_WEIGHT
    scales = np.maximum(scales, SMALLEST_MULTIPLIER * scale_out / scale_in)
    scales = np.maximum(scales, np.abs(bias).astype(np.float64) / (scale_in * headroom * (1 - 2.0**-20)))
    return np.asarray(scales, dtype=np.float32)


def quantize_weights(
    weight: NDArray[np.float32], scales: NDArray[np.float32], axis: int, mode: RequantMode
) -> Quantization:
    """Weights in [-127, 127] at `scales` along `axis`."""
    found = Quantization(scales, np.zeros(1, np.int64), "int8", axis)
    steps = round_real(weight.astype(np.float64) / found.along_axis(scales.astype(np.float64), weight.ndim), mode)
    integers = np.clip(steps, -LARGEST_WEIGHT, LARGEST_WEIGHT).astype(np.int64)
    return Quantization(scales, found.zero_point, found.kind, axis, integers)


def quantize_bias(bias: NDArray[np.floating], scales: NDArray[np.float64], mode: RequantMode) -> Quantization:
    """A bias at the scales of the sums; the lowering refuses one that does not fit int32."""
    steps = np.clip(round_real(bias.astype(np.float64) / scales, mode), -INT32_MAX, INT32_MAX)
    return Quantization(scales.astype(np.float32), np.zeros(1, np.int64), "int32", 0, steps.astype(np.int64))
