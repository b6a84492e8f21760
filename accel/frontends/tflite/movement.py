"""Translating TensorFlow Lite operators that move bytes along axes."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accel.frontends.tflite.axes import Pick, Piece, as_pick, graph_shape, keeps_axes
from accel.frontends.tflite.operation import Operation
from accel.network.nodes import Concat, Rearrange, Transpose
from accel.network.windows import Shape
from accel.quantized import tables
from accel.quantized.builder import LARGEST_AXIS, LARGEST_TENSOR

REFLECT, SYMMETRIC = 0, 1
"""Modes of MIRROR_PAD: without and with the border's own elements."""


def reshape(op: Operation) -> None:
    """RESHAPE, SQUEEZE, EXPAND_DIMS: the output has another shape and the same elements."""
    op.define(op.value(0))


def _paddings(op: Operation) -> tuple[list[int], list[int]]:
    """Elements before and after every axis."""
    sizes, rank = op.tensor(1).integers(), len(op.tensor(0).shape)
    if len(sizes) != 2 * rank or min(sizes, default=0) < 0:
        raise op.error(f"paddings must be {rank} pairs of numbers from 0, got {sizes}")
    return sizes[::2], sizes[1::2]


def pad(op: Operation) -> None:
    """PAD with the zero point, PADV2 with a constant."""
    number = op.result().parameters()[1]
    if op.optional(2) is not None:
        number = int(op.tensor(2).stored().reshape(1)[0])
    op.finish(op.piece().pad(op.builder, *_paddings(op), number, op.result().name))


def mirror_pad(op: Operation) -> None:
    """MIRROR_PAD: the elements inside the border again, in the other direction."""
    mode, shape, picks = op.options.Mode(), op.tensor(0).shape, list[Pick]()
    for size, before, after in zip(shape, *_paddings(op), strict=True):
        if max(before, after) > size - (mode == REFLECT) or size > LARGEST_AXIS:
            raise op.error(f"paddings must be smaller than the axis of size {size}, got {before} and {after}")
        mirrored = np.pad(np.arange(size), (before, after), "reflect" if mode == REFLECT else "symmetric")
        picks.append(as_pick(mirrored))
    op.finish(op.piece().select(op.builder, picks, op.result().name))


def _join(op: Operation, pieces: list[Piece], axis: int) -> None:
    """The output as `pieces` one after the other along `axis`."""
    shape = op.result().shape
    if sum(piece.shape[axis] for piece in pieces) != shape[axis]:
        raise op.error(f"inputs must have {shape[axis]} elements along axis {axis}, got {[p.shape for p in pieces]}")
    views = [piece.along(op.builder, axis) for piece in pieces]
    op.emit(Concat, *(value for value, _ in views), axis=views[0][1])


def concatenation(op: Operation) -> None:
    """CONCATENATION of tensors with equal scales and zero points; those of uint8 may differ."""
    if op.options.FusedActivationFunction() != 0:
        raise op.error("fused activation must be NONE; the runtime refuses it, too: put RELU behind it")
    count = len(op.operator.inputs)
    pieces = []
    for position in range(count):
        if not op.is_unsigned:
            op.require_equal_parameters(position)
        source, target = op.input_parameters(position), op.result().parameters()
        value = op.value(position)
        if source != target:
            value = op.function(value, tables.concatenated(source, target))
        pieces.append(Piece(value, op.tensor(position).shape))
    _join(op, pieces, op.axis(op.options.Axis(), len(op.result().shape)))


def pack(op: Operation) -> None:
    """PACK: a new axis along which the inputs follow each other."""
    axis = op.axis(op.options.Axis(), len(op.result().shape))
    values = [op.piece(position) for position in range(len(op.operator.inputs))]
    _join(op, [Piece(value, (*shape[:axis], 1, *shape[axis:])) for value, shape in values], axis)


def strided_slice(op: Operation) -> None:
    """STRIDED_SLICE with every mask."""
    op.finish(op.piece().select(op.builder, strided_slice_picks(op), op.result().name))


def strided_slice_picks(op: Operation) -> list[range]:
    """What a STRIDED_SLICE selects along every axis."""
    shape, spec = op.tensor(0).shape, list(zip(*(op.tensor(p).integers() for p in (1, 2, 3)), strict=True))
    picks = _picks(op, spec)
    if len(picks) != len(shape) or not all(pick and max(pick) < n for pick, n in zip(picks, shape, strict=True)):
        raise op.error(f"slice must select elements of every axis of {shape!r}, got {spec}")
    return picks


def _picks(op: Operation, spec: list[tuple[int, int, int]]) -> list[range]:
    """Indices that (begin, end, stride) and the masks select along the input's axes, as in Python's indexing."""
    shape, options, picks = op.tensor(0).shape, op.options, list[range]()
    places = [1 << number for number in range(len(spec))]
    named = sum(not place & (options.NewAxisMask() | options.EllipsisMask()) for place in places)
    for place, (begin, end, stride) in zip(places, spec, strict=True):
        if place & options.EllipsisMask():
            if named >= len(shape):
                raise op.error("an ellipsis must stand for an axis at least: runtimes do not agree otherwise")
            picks += map(range, shape[len(picks) : len(picks) + len(shape) - named])
        elif not place & options.NewAxisMask():
            if stride == 0 or len(picks) >= len(shape):
                raise op.error(f"strides must not be 0 and select at most {len(shape)} axes, got {spec}")
            first = None if place & options.BeginMask() else begin
            last = None if place & options.EndMask() else end + begin * options.Offset()
            pick = range(*slice(first, last, stride).indices(shape[len(picks)]))
            picks.append(range(pick.start, pick.start + 1) if place & options.ShrinkAxisMask() else pick)
    return [*picks, *map(range, shape[len(picks) :])]


def slice_(op: Operation) -> None:
    """SLICE: begin and size of every axis, -1 for all that follow."""
    op.finish(op.piece().select(op.builder, slice_picks(op), op.result().name))


def slice_picks(op: Operation) -> list[range]:
    """What a SLICE selects along every axis."""
    shape, begin, size = op.tensor(0).shape, op.tensor(1).integers(), op.tensor(2).integers()
    if not len(begin) == len(size) == len(shape):
        raise op.error(f"begin and size must have {len(shape)} numbers, got {begin} and {size}")
    picks = [range(b, n if s == -1 else b + s) for b, s, n in zip(begin, size, shape, strict=True)]
    if not all(0 <= pick.start < pick.stop <= n for pick, n in zip(picks, shape, strict=True)):
        raise op.error(f"slice must select elements of every axis of {shape!r}, got {begin} and {size}")
    return picks


def _cut(op: Operation, source: int, axis: int, sizes: list[int]) -> None:
    """Input number `source` in consecutive parts of `sizes` along `axis`, an output each."""
    shape = op.tensor(source).shape
    if sum(sizes) != shape[axis] or min(sizes) < 1 or len(sizes) != len(op.operator.outputs):
        raise op.error(
            f"axis {axis} of {shape!r} must split into {len(op.operator.outputs)} outputs that are not empty, "
            f"got sizes {sizes}"
        )
    for output, (first, last) in enumerate(pairwise([0, *accumulate(sizes)])):
        picks = [range(first, last) if place == axis else range(size) for place, size in enumerate(shape)]
        op.finish(op.piece(source, output).select(op.builder, picks, op.result(output).name), output)


def split(op: Operation) -> None:
    """SPLIT into equal parts."""
    shape, parts = op.tensor(1).shape, len(op.operator.outputs)
    axis = op.axis(op.number(0), len(shape))
    if shape[axis] % parts or op.options.NumSplits() != parts:
        raise op.error(f"axis {axis} of {shape!r} must split into {op.options.NumSplits()} equal outputs, got {parts}")
    _cut(op, 1, axis, [shape[axis] // parts] * parts)


def split_v(op: Operation) -> None:
    """SPLIT_V into parts of given sizes, of which one may be -1 for the rest."""
    shape, sizes = op.tensor(0).shape, op.tensor(1).integers()
    axis = op.axis(op.number(2), len(shape))
    rest = shape[axis] - sum(size for size in sizes if size != -1)
    _cut(op, 0, axis, [rest if size == -1 else size for size in sizes])


def unpack(op: Operation) -> None:
    """UNPACK: an output for every index along an axis."""
    shape = op.tensor(0).shape
    axis = op.axis(op.options.Axis(), len(shape))
    _cut(op, 0, axis, [1] * shape[axis])


def gather(op: Operation) -> None:
    """GATHER with constant indices (others: the host); axes of a batch are merged with the gathered one."""
    shape, places = op.tensor(0).shape, op.tensor(1).array()
    axis = op.axis(op.options.Axis(), len(shape))
    batch = op.options.BatchDims() + (places.ndim if op.options.BatchDims() < 0 else 0)
    if not (0 <= batch <= axis and shape[:batch] == places.shape[:batch]):
        raise op.error(
            f"indices must share {batch} axes with the input {shape!r} before axis {axis}, got {places.shape!r}"
        )
    if places.dtype.kind != "i" or not places.size or places.min() < 0 or places.max() >= shape[axis]:
        raise op.error(f"indices must be integers in [0, {shape[axis] - 1}], got {places.dtype} {places.shape!r}")
    picks: list[Pick] = [range(size) for size in shape[batch:]]
    picks[axis - batch] = as_pick(places.reshape(-1))
    if batch:
        shape = (math.prod(shape[: axis + 1]), *shape[axis + 1 :])
        picks = [as_pick(_rows(op.tensor(0).shape[: axis + 1], places, batch)), *picks[axis - batch + 1 :]]
    op.finish(Piece(op.piece().value, shape).select(op.builder, picks, op.result().name))


def _rows(shape: Shape, places: NDArray[np.integer[Any]], batch: int) -> NDArray[np.int32]:
    """Indices of a gather along the last axis of `shape` after all its axes are merged."""
    rows = np.arange(math.prod(shape), dtype=np.int32).reshape(math.prod(shape[:batch]), -1, shape[-1])
    groups = zip(rows, places.reshape(len(rows), -1), strict=True)
    return np.concatenate([group.take(numbers, -1).reshape(-1) for group, numbers in groups])


def tile_picks(op: Operation) -> list[NDArray[np.integer[Any]]]:
    """What a TILE repeats along every axis."""
    shape, times = op.tensor(0).shape, op.tensor(1).integers()
    if len(times) != len(shape) or min(times, default=1) < 1:
        raise op.error(f"multiples must be {len(shape)} positive numbers, got {times}")
    if math.prod((*shape, *times)) > LARGEST_TENSOR:
        raise op.error(f"output must have at most {LARGEST_TENSOR} elements, got {shape!r} {times} times")
    return [np.tile(np.arange(size), number) for size, number in zip(shape, times, strict=True)]


def tile(op: Operation) -> None:
    """TILE: the whole tensor several times along every axis."""
    picks = [as_pick(pick) for pick in tile_picks(op)]
    op.finish(op.piece().select(op.builder, picks, op.result().name))


def reverse_picks(op: Operation) -> list[range]:
    """What a REVERSE_V2 selects along every axis."""
    shape = op.tensor(0).shape
    turned = {op.axis(axis, len(shape)) for axis in op.tensor(1).integers()}
    return [range(size - 1, -1, -1) if axis in turned else range(size) for axis, size in enumerate(shape)]


def reverse(op: Operation) -> None:
    """REVERSE_V2: axes in the other direction."""
    op.finish(op.piece().select(op.builder, reverse_picks(op), op.result().name))


def broadcast_picks(op: Operation) -> tuple[Shape, list[NDArray[np.integer[Any]]]]:
    """The input's shape with all axes of the output of a BROADCAST_TO, and what is selected along them."""
    shape, target = op.tensor(0).shape, tuple(op.tensor(1).integers())
    full = (1,) * (len(target) - len(shape)) + shape
    if len(full) != len(target) or any(a not in (1, b) for a, b in zip(full, target, strict=True)):
        raise op.error(f"shape {shape!r} must broadcast to {target!r}")
    if math.prod(target) > LARGEST_TENSOR:
        raise op.error(f"output must have at most {LARGEST_TENSOR} elements, got {target!r}")
    return full, [np.arange(b) if a == b else np.zeros(b, int) for a, b in zip(full, target, strict=True)]


def broadcast_to(op: Operation) -> None:
    """BROADCAST_TO: axes of one element are repeated."""
    shape, picks = broadcast_picks(op)
    piece = Piece(op.piece().value, shape)
    op.finish(piece.select(op.builder, [as_pick(pick) for pick in picks], op.result().name))


def transpose(op: Operation) -> None:
    """TRANSPOSE."""
    shape, order = op.tensor(0).shape, op.tensor(1).integers()
    axes = tuple(op.axis(axis, len(shape)) for axis in order)
    if sorted(axes) != list(range(len(shape))):
        raise op.error(f"permutation must be an order of {len(shape)} axes, got {order}")
    rearrange(op, op.piece().value, shape, axes)


def rearrange(op: Operation, value: str, sizes: Shape, permutation: tuple[int, ...]) -> None:
    """The output as `value` with the axes `sizes` in another order."""
    shape = graph_shape(sizes)
    front = len(shape) - len(sizes)
    order = (*range(front), *(axis + front for axis in permutation))
    if keeps_axes(sizes) and order[0] == 0:
        op.emit(Transpose, op.builder.reshape(value, shape), permutation=order)
    else:
        op.emit(Rearrange, value, sizes=sizes, permutation=permutation, shape=graph_shape(op.result().shape))


MOVEMENT: dict[str, Callable[[Operation], None]] = {
    "BROADCAST_TO": broadcast_to,
    "CONCATENATION": concatenation,
    "EXPAND_DIMS": reshape,
    "GATHER": gather,
    "MIRROR_PAD": mirror_pad,
    "PACK": pack,
    "PAD": pad,
    "PADV2": pad,
    "RESHAPE": reshape,
    "REVERSE_V2": reverse,
    "SLICE": slice_,
    "SPLIT": split,
    "SPLIT_V": split_v,
    "SQUEEZE": reshape,
    "STRIDED_SLICE": strided_slice,
    "TILE": tile,
    "TRANSPOSE": transpose,
    "UNPACK": unpack,
}
"""How each operator that moves bytes along axes is translated."""
