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
from accel.quantizer.config import LayerConfig

SMALLEST_MULTIPLIER = 2.0**-24
"""Weight scales are not finer than this share of an output step per input step: that would change no output."""
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
    taps = weight[0].size
    headroom = (INT32_MAX - taps * largest * 255) * (1 - 2.0**-20)
    offsets = np.abs(bias).astype(np.float64)
    scales = np.maximum(limits / largest, SMALLEST_MULTIPLIER * steps.scale_out / steps.scale_in)
    scales = np.maximum(scales, (offsets if len(scales) == len(bias) else offsets.max()) / (steps.scale_in * headroom))
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
    """
    count = magnitudes.shape[1]
    limits = np.asarray(magnitudes.max(axis=1), dtype=np.float64)
    for _ in range(30):
        beyond = magnitudes >= limits.astype(np.float32)[:, None]
        sums = np.einsum("ij,ij->i", magnitudes, beyond, dtype=np.float64)
        found = np.asarray(sums, dtype=np.float64) / (count / (12 * largest**2) + np.count_nonzero(beyond, axis=1))
        if np.allclose(found, limits, rtol=1e-4, atol=0):
            break
        limits = found
    return limits


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
    steps = np.broadcast_to(found.along_axis(scales.astype(np.float64), weight.ndim), weight.shape)
    integers = np.empty(weight.shape, np.int8)
    count = max(BLOCK // weight[0].size, 1)
    for start in range(0, len(weight), count):
        part = slice(start, start + count)
        rounded = round_real(weight[part] / steps[part], mode)
        integers[part] = np.clip(rounded, -largest, largest, out=rounded)
    return replace(found, integers=integers)


def quantize_bias(bias: NDArray[np.floating], scales: NDArray[np.float64], mode: RequantMode) -> Quantization:
    """A bias at the scales of the sums; the lowering refuses one that does not fit int32."""
    steps = np.clip(round_real(bias.astype(np.float64) / scales, mode), -INT32_MAX, INT32_MAX)
    return Quantization(scales.astype(np.float32), np.zeros(1, np.int64), "int32", 0, steps.astype(np.int64))
