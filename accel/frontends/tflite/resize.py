"""Translating the TensorFlow Lite operators that resize images."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from accel.frontends.tflite.host import emit, taken
from accel.frontends.tflite.operation import Operation
from accel.machine.numerics import INTERPOLATION_ONE
from accel.network.nodes import Dequantize, Quantize, ResizeBilinear, ResizeNearest
from accel.quantized.builder import LARGEST_AXIS


def _target_size(op: Operation) -> tuple[int, int]:
    """Height and width after resizing."""
    size = op.tensor(1).integers()
    if len(size) != 2 or not all(0 < n <= LARGEST_AXIS for n in size):
        raise op.error(f"size must be two numbers in [1, {LARGEST_AXIS}], got {size}")
    return size[0], size[1]


def resize_nearest_neighbor(op: Operation) -> None:
    """RESIZE_NEAREST_NEIGHBOR, with the runtime's coordinates in float32."""
    aligned, half = op.options.AlignCorners(), op.options.HalfPixelCenters()
    sources = op.builder.shape(op.image())[1:3]
    rows, columns = (
        nearest(source, target, aligned, half) for source, target in zip(sources, _target_size(op), strict=True)
    )
    op.emit(ResizeNearest, op.as_result(op.image()), rows=rows, columns=columns)


def nearest(source: int, target: int, aligned: bool, half: bool) -> tuple[int, ...]:
    """The input index of every output index."""
    scale = np.float32((source - 1) / np.float32(target - 1) if aligned and target > 1 else source / np.float32(target))
    position = (np.arange(target, dtype=np.float32) + np.float32(0.5 if half else 0)) * scale
    index = np.floor(position + np.float32(0.5)) if aligned else np.floor(position)
    return tuple(int(i) for i in np.clip(index, 0, source - 1))


def resize_bilinear(op: Operation) -> None:
    """RESIZE_BILINEAR, with the runtime's coordinates in 1/1024 of a pixel; of uint8 with real numbers."""
    if op.is_unsigned:
        _unsigned_bilinear(op)
        return
    aligned, half = op.options.AlignCorners(), op.options.HalfPixelCenters()
    sources = op.builder.shape(op.image())[1:3]
    rows, columns = (
        bilinear(source, target, aligned, half) for source, target in zip(sources, _target_size(op), strict=True)
    )
    op.emit(ResizeBilinear, op.as_result(op.image()), rows=rows, columns=columns)


def bilinear(source: int, target: int, aligned: bool, half: bool) -> NDArray[np.int32]:
    """Both neighbours of every output index and the weight of the second."""
    one = INTERPOLATION_ONE
    scale = (one * source + target // 2) // target
    if aligned and target > 1:
        scale = (one * (source - 1) + (target - 1) // 2) // (target - 1)
    position = np.arange(target, dtype=np.int64) * scale + (scale // 2 - one // 2 if half else 0)
    lower = np.clip(position // one, 0, source - 1)
    upper = np.clip(-(-position // one), 0, source - 1)
    return np.stack([lower, upper, position - one * lower], axis=1).astype(np.int32)


PLAIN = (1.0, -128)
"""Parameters under which integers of uint8 are their own real values."""


def _unsigned_bilinear(op: Operation) -> None:
    """The runtime's interpolation of uint8, on the host: in float32, in its order, half a step added and cut."""
    aligned, half = op.options.AlignCorners(), op.options.HalfPixelCenters()
    shape, sizes = op.builder.shape(op.image()), _target_size(op)
    rows, columns = (_real(n, m, aligned, half) for n, m in zip(shape[1:3], sizes, strict=True))
    plain = op.builder.reinterpret(op.image(), PLAIN)
    pixels = op.builder.host(Dequantize, plain, f"{op.result().name}_real", shape)
    result = (1, *sizes, shape[3])
    total: str | None = None
    for side, other in ((0, 0), (1, 0), (0, 1), (1, 1)):
        picks = (range(1), rows.places[side], columns.places[other], range(shape[3]))
        corner = taken(op, pixels, picks)
        weighted = emit(op, "Mul", [corner, rows.weights[side].reshape(1, -1, 1, 1)], result)
        weighted = emit(op, "Mul", [weighted, columns.weights[other].reshape(1, 1, -1, 1)], result)
        total = weighted if total is None else emit(op, "Add", [total, weighted], result)
    assert total is not None
    rounded = emit(op, "Floor", [emit(op, "Add", [total, np.array(0.5, np.float32)], result)], result)
    op.define(op.as_result(op.builder.emit(Quantize, [rounded], PLAIN, op.result().name)))


class _Neighbours(NamedTuple):
    """Both neighbours of every output index, and their weights."""

    places: tuple[NDArray[np.int64], NDArray[np.int64]]
    weights: tuple[NDArray[np.float32], NDArray[np.float32]]


def _real(source: int, target: int, aligned: bool, half: bool) -> _Neighbours:
    """The runtime's coordinates in float32."""
    one, middle = np.float32(1), np.float32(0.5)
    scale = np.float32(source - 1) / np.float32(target - 1) if aligned and target > 1 else np.float32(source) / target
    index = np.arange(target, dtype=np.float32)
    position = (index + middle) * np.float32(scale) - middle if half else index * np.float32(scale)
    lower = np.maximum(np.floor(position), 0).astype(np.int64)
    upper = np.minimum(np.ceil(position), source - 1).astype(np.int64)
    second = (position - lower.astype(np.float32)).astype(np.float32)
    return _Neighbours((lower, upper), (one - second, second))


RESIZING: dict[str, Callable[[Operation], None]] = {
    "RESIZE_BILINEAR": resize_bilinear,
    "RESIZE_NEAREST_NEIGHBOR": resize_nearest_neighbor,
}
"""How each operator that resizes is translated."""
