"""Translating the TensorFlow Lite operators that resize images."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from accel.frontends.tflite.operation import Operation
from accel.machine.numerics import INTERPOLATION_ONE
from accel.network.nodes import ResizeBilinear, ResizeNearest
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
    """RESIZE_BILINEAR, with the runtime's coordinates in 1/1024 of a pixel."""
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


RESIZING: dict[str, Callable[[Operation], None]] = {
    "RESIZE_BILINEAR": resize_bilinear,
    "RESIZE_NEAREST_NEIGHBOR": resize_nearest_neighbor,
}
"""How each operator that resizes is translated."""
