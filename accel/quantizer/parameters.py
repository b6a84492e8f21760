"""Scales of weights, and their integers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from accel.machine.numerics import INT32_MAX, RequantMode
from accel.network.real import round_real
from accel.quantized.network import Quantization
from accel.quantized.recipes import scales_with_room
from accel.quantizer.config import LayerConfig

SMALLEST_MULTIPLIER = 2.0**-24
"""Weight scales are not finer than this share of an output step per input step: that would change no output."""
LEAST_LIMIT = np.float32(2.0)
"""Limits of most rows are larger than so many times the root mean square of their weights."""
HALF = np.nextafter(np.float32(0.5), np.float32(0))
"""Added before what follows the point is dropped, it rounds ties away from zero, and 0.49999997 to 0."""
BLOCK = 2**18
"""Weights that are worked on at a time, so that they stay in the cache."""
NEAR = (0.8, 0.85, 0.9, 0.95, 1.0, 1.05, 1.1, 1.15)
"""Ranges of 4 bits that are tried, as shares of the computed one, whose model of errors is coarse for few levels."""


class Steps(NamedTuple):
    """Scales of a layer's input (with its factor alpha) and of its result."""

    scale_in: float
    scale_out: float


def largest_weight(bits: int) -> int:
    """The largest integer of a symmetric weight: 127 of 8 bits, 7 of 4."""
    return int(2 ** (bits - 1)) - 1


def weight_scales(
    weight: NDArray[np.float32], bias: NDArray[np.floating], steps: Steps, layer: LayerConfig
) -> NDArray[np.float32]:
    """Symmetric scales: the range over its largest integer, not finer than the output's resolution.

    Parameters
    ----------
    weight, bias : ndarray of float32
        Output channel first.
    steps : Steps
    layer : LayerConfig
        Bits, range, and whether each output channel has a scale of its own.

    Returns
    -------
    ndarray of float32, shape (channels,), or (1,) for one scale

    Notes
    -----
    Dead channels get the floor. Where the bias would leave int32 no room for the products, the scale grows.
    """
    largest = largest_weight(layer.weight_bits)
    rows = weight.reshape(len(weight) if layer.per_channel else 1, -1)
    limits = np.concatenate([_limits(block, layer) for block in _blocks(rows)])
    least = scales_with_room(bias, weight[0].size, steps.scale_in, largest)
    scales = np.maximum(limits / largest, SMALLEST_MULTIPLIER * steps.scale_out / steps.scale_in)
    scales = np.maximum(scales, least if len(scales) == len(bias) else least.max())
    return np.asarray(scales, dtype=np.float32)


def _blocks(rows: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
    """Rows in blocks of about `BLOCK` weights."""
    count = max(BLOCK // rows.shape[1], 1)
    return (rows[start : start + count] for start in range(0, len(rows), count))


def _limits(rows: NDArray[np.float32], layer: LayerConfig) -> NDArray[np.float64]:
    """The largest magnitude to represent of each row."""
    if layer.weight_method == "minmax":
        return np.asarray(np.maximum(rows.max(axis=1), -rows.min(axis=1)), dtype=np.float64)
    magnitudes = np.abs(rows)
    limits = least_square_limits(magnitudes, largest_weight(layer.weight_bits))
    return limits if layer.weight_bits > 4 else _best_near(magnitudes, limits, largest_weight(layer.weight_bits))


def least_square_limits(magnitudes: NDArray[np.float32], largest: int) -> NDArray[np.float64]:
    """The limit of each row with the least square error of rounding below it and clipping beyond it.

    Parameters
    ----------
    magnitudes : ndarray of float32, shape (rows, weights)
    largest : int
        Integer of the limit.

    Notes
    -----
    ``n / 12 * (t / largest)**2 + sum((w - t)**2 for w > t)`` is convex in t; its derivative is zero where
    ``t = sum(w for w > t) / (n / (12 * largest**2) + number of w > t)``. Repeated from the largest weight on, this
    decreases towards the solution (Newton's method on a piecewise linear function).
    Only weights above `LEAST_LIMIT` times the root mean square are looked at, and all of them in the rows whose
    solution lies below that.
    """
    squares = np.einsum("ij,ij->i", magnitudes, magnitudes) / np.float32(magnitudes.shape[1])
    most = magnitudes.max(axis=1)
    floor = np.minimum(LEAST_LIMIT * np.sqrt(squares), np.float32(0.8) * most)
    limits = _least_squares(magnitudes, largest, floor)
    below = limits < floor
    if np.any(below):
        limits[below] = _least_squares(magnitudes[below], largest, np.zeros(np.count_nonzero(below), np.float32))
    return limits


def _least_squares(magnitudes: NDArray[np.float32], largest: int, floor: NDArray[np.float32]) -> NDArray[np.float64]:
    """The limit of each row, if it is not below its `floor`."""
    share, count = magnitudes.shape[1] / (12 * largest**2), len(magnitudes)
    seen = magnitudes >= floor[:, None]
    rows, values = np.nonzero(seen)[0], magnitudes[seen].astype(np.float64)
    limits = np.asarray(magnitudes.max(axis=1), np.float64)
    for _ in range(30):
        beyond = values >= limits[rows]
        rows_beyond = rows[beyond]
        found = np.bincount(rows_beyond, values[beyond], count) / (share + np.bincount(rows_beyond, minlength=count))
        if np.allclose(found, limits, rtol=1e-4, atol=0):
            break
        limits = found
    return np.asarray(limits)


def _best_near(magnitudes: NDArray[np.float32], limits: NDArray[np.float64], largest: int) -> NDArray[np.float64]:
    """Of the limits near the given ones, and the largest magnitude, the one with the least error of each row."""
    most = magnitudes.max(axis=1).astype(np.float64)
    candidates = [most, *(np.minimum(limits * share, most) for share in NEAR)]
    errors = []
    for candidate in candidates:
        scale = (np.maximum(candidate, np.finfo(np.float32).tiny) / largest).astype(np.float32)[:, None]
        steps = np.minimum(np.rint(magnitudes / scale), np.float32(largest))
        errors.append(np.square(magnitudes - steps * scale).sum(axis=1))
    chosen = np.argmin(errors, axis=0)
    return np.asarray(np.stack(candidates)[chosen, np.arange(len(chosen))])


def quantize_weights(
    weight: NDArray[np.float32], scales: NDArray[np.float32], axis: int, bits: int, mode: RequantMode
) -> Quantization:
    """Weights as symmetric integers of `bits` bits at `scales` along `axis`, stored as int8."""
    found, largest = Quantization(scales, np.zeros(1, np.int64), f"int{bits}", axis), largest_weight(bits)
    steps = np.broadcast_to(found.along_axis(scales, weight.ndim), weight.shape)
    integers = np.empty(weight.shape, np.int8)
    count = max(BLOCK // weight[0].size, 1)
    for start in range(0, len(weight), count):
        part = slice(start, start + count)
        rounded = _rounded(weight[part] / steps[part], mode)
        integers[part] = np.clip(rounded, -largest, largest, out=rounded)
    return replace(found, integers=integers)


def _rounded(steps: NDArray[np.float32], mode: RequantMode) -> NDArray[np.float32]:
    """Integers of numbers below 2**22, which are overwritten: ties to even in `fp32`, away from zero otherwise."""
    if mode is RequantMode.FP32:
        return np.rint(steps, out=steps)
    steps += np.copysign(HALF, steps)
    return np.trunc(steps, out=steps)


def quantize_bias(bias: NDArray[np.floating], scales: NDArray[np.float64], mode: RequantMode) -> Quantization:
    """A bias at the scales of the sums; the lowering refuses one that does not fit int32."""
    steps = np.clip(round_real(bias.astype(np.float64) / scales, mode), -INT32_MAX, INT32_MAX)
    return Quantization(scales.astype(np.float32), np.zeros(1, np.int64), "int32", 0, steps.astype(np.int64))
