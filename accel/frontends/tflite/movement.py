"""Translating TensorFlow Lite operators that move bytes, and interpolation."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from accel.frontends.tflite.operation import Operation
from accel.machine.numerics import INTERPOLATION_ONE
from accel.network.nodes import Concat, Pad, ResizeBilinear, ResizeNearest, StridedSlice, Transpose
from accel.quantized.builder import LARGEST_AXIS


def reshape(op: Operation) -> None:
    """RESHAPE, SQUEEZE, EXPAND_DIMS: the output's shape says it all."""
    op.define(op.value(0))


def pad(op: Operation) -> None:
    """PAD with the zero point, PADV2 with a constant."""
    sizes = op.tensor(1).integers()
    value = op.as_result(op.value(0))
    rank, offset = len(op.tensor(0).shape), op.offset()
    if len(sizes) != 2 * rank:
        raise op.error(f"paddings must be {rank} pairs, got {len(sizes)} numbers")
    number = op.result().parameters()[1] if op.optional(2) is None else op.tensor(2).integers()[0]
    before, after = ((0,) * offset + tuple(sizes[side::2]) for side in (0, 1))
    op.emit(Pad, value, before=before, after=after, value=number)


def concatenation(op: Operation) -> None:
    """CONCATENATION."""
    if op.options.FusedActivationFunction() != 0:
        raise op.error("fused activation must be NONE")
    values = [op.as_result(op.value(position)) for position in range(len(op.operator.inputs))]
    op.emit(Concat, *values, axis=op.axis(op.options.Axis()))


def strided_slice(op: Operation) -> None:
    """STRIDED_SLICE forward along every axis; an axis that the slice removes has one element."""
    shape = op.tensor(0).shape
    begin, end, stride = (op.tensor(position).integers() for position in (1, 2, 3))
    if not len(begin) == len(end) == len(stride) == len(shape) or min(stride, default=0) < 1:
        raise op.error(f"begin, end and positive strides must have {len(shape)} numbers, got {begin}, {end}, {stride}")
    if op.options.EllipsisMask() or op.options.NewAxisMask():
        raise op.error("ellipsis and new-axis masks must be 0")
    bounds = []
    for axis, size in enumerate(shape):
        bit = 1 << axis
        first = 0 if op.options.BeginMask() & bit else _within(begin[axis], size)
        last = size if op.options.EndMask() & bit else _within(end[axis], size)
        bounds.append((first, first + 1 if op.options.ShrinkAxisMask() & bit else last, stride[axis]))
    _slice(op, bounds, 0, source=0)


def _within(position: int, size: int) -> int:
    """A bound that may count from the end, limited to the axis."""
    return min(max(position + size if position < 0 else position, 0), size)


def _slice(op: Operation, bounds: list[tuple[int, int, int]], output: int, source: int) -> None:
    """Output number `output` as a slice with (begin, end, stride) for every axis of input number `source`."""
    value = op.as_result(op.value(source), output)
    begin, end, stride = zip(*([(0, 1, 1)] * op.offset(source) + bounds), strict=True)
    result = op.result(output)
    sliced = op.builder.emit(
        StridedSlice, [value], result.parameters(), result.name, begin=begin, end=end, stride=stride
    )
    op.define(sliced, output)


def split(op: Operation) -> None:
    """SPLIT into equal parts: one slice each."""
    shape, parts = op.tensor(1).shape, len(op.operator.outputs)
    axis = op.axis(op.tensor(0).integers()[0], 1) - op.offset(1)
    if shape[axis] % parts or op.options.NumSplits() != parts:
        raise op.error(f"axis {axis} of {shape!r} must split into {op.options.NumSplits()} equal outputs, got {parts}")
    size = shape[axis] // parts
    for part in range(parts):
        bounds = [(0, n, 1) for n in shape]
        bounds[axis] = (part * size, (part + 1) * size, 1)
        _slice(op, bounds, part, source=1)


def transpose(op: Operation) -> None:
    """TRANSPOSE; the first axis stays."""
    offset = op.offset()
    permutation = tuple(range(offset)) + tuple(axis + offset for axis in op.tensor(1).integers())
    op.emit(Transpose, op.as_result(op.value(0)), permutation=permutation)


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
        _nearest(source, target, aligned, half) for source, target in zip(sources, _target_size(op), strict=True)
    )
    op.emit(ResizeNearest, op.as_result(op.image()), rows=rows, columns=columns)


def _nearest(source: int, target: int, aligned: bool, half: bool) -> tuple[int, ...]:
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
        _bilinear(source, target, aligned, half) for source, target in zip(sources, _target_size(op), strict=True)
    )
    op.emit(ResizeBilinear, op.as_result(op.image()), rows=rows, columns=columns)


def _bilinear(source: int, target: int, aligned: bool, half: bool) -> NDArray[np.int32]:
    """Both neighbours of every output index and the weight of the second."""
    one = INTERPOLATION_ONE
    scale = (one * source + target // 2) // target
    if aligned and target > 1:
        scale = (one * (source - 1) + (target - 1) // 2) // (target - 1)
    position = np.arange(target, dtype=np.int64) * scale + (scale // 2 - one // 2 if half else 0)
    lower = np.clip(position // one, 0, source - 1)
    upper = np.clip(-(-position // one), 0, source - 1)
    return np.stack([lower, upper, position - one * lower], axis=1).astype(np.int32)


MOVEMENT: dict[str, Callable[[Operation], None]] = {
    "CONCATENATION": concatenation,
    "EXPAND_DIMS": reshape,
    "PAD": pad,
    "PADV2": pad,
    "RESHAPE": reshape,
    "RESIZE_BILINEAR": resize_bilinear,
    "RESIZE_NEAREST_NEIGHBOR": resize_nearest_neighbor,
    "SPLIT": split,
    "SQUEEZE": reshape,
    "STRIDED_SLICE": strided_slice,
    "TRANSPOSE": transpose,
}
"""How each operator that moves bytes is translated."""
