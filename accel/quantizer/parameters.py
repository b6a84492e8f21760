"""Scales and zero points: from measured ranges and weights to the parameters of affine int8."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from accel.errors import ModelError
from accel.frontends.onnx.float_layers import FloatArray
from accel.machine.numerics import INT32_MAX, RequantMode
from accel.network.real import round_real
from accel.quantizer.calibrate import Range

SMALLEST_MULTIPLIER = 2.0**-24
"""Weight scales are not finer than this share of an output step per input step: that would change no output."""


def affine_parameters(limits: Range, mode: RequantMode) -> tuple[float, int]:
    """Scale and zero point of an int8 activation whose range, widened to hold zero, is `limits`.

    Returns
    -------
    (float, int)
        ``scale = (high - low) / 255`` as a float32, ``zero_point = clamp(round(-128 - low / scale))``. A tensor that is
        always zero gets scale 1.
    """
    low, high = min(limits[0], 0.0), max(limits[1], 0.0)
    scale = float(np.float32((high - low) / 255))
    if scale < np.finfo(np.float32).tiny:
        return 1.0, -128
    zero_point = int(round_real(np.array(-128 - low / scale), mode))
    return scale, min(max(zero_point, -128), 127)


def weight_scales(weight: FloatArray, bias: FloatArray, scale_in: float, scale_out: float) -> NDArray[np.float32]:
    """Symmetric scale of each output channel: ``max|w| / 127``, not below what the output can resolve.

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
    headroom = INT32_MAX - rows.shape[1] * 127 * 255
    scales = np.abs(rows).max(axis=1).astype(np.float64) / 127
    scales = np.maximum(scales, SMALLEST_MULTIPLIER * scale_out / scale_in)
    scales = np.maximum(scales, np.abs(bias).astype(np.float64) / (scale_in * headroom * (1 - 2.0**-20)))
    return np.asarray(scales, dtype=np.float32)


def quantize_weights(
    weight: FloatArray, bias: FloatArray, scales: NDArray[np.float32], scale_in: float, mode: RequantMode
) -> tuple[NDArray[np.int8], NDArray[np.int32]]:
    """Weights in [-127, 127] at `scales` per output channel, and the bias at ``scale_in * scales``.

    Raises
    ------
    ModelError
        A bias does not fit int32.
    """
    per_channel = scales.astype(np.float64).reshape(-1, *(1,) * (weight.ndim - 1))
    integers = np.clip(round_real(weight.astype(np.float64) / per_channel, mode), -127, 127)
    offsets = round_real(bias.astype(np.float64) / (scale_in * scales.astype(np.float64)), mode)
    if np.any(np.abs(offsets) > INT32_MAX):
        raise ModelError(f"bias must fit int32 at scale {scale_in} * weight scale, got {bias!r}")
    return integers.astype(np.int8), offsets.astype(np.int32)
