"""Translating TensorFlow Lite operators that move blocks of pixels to channels or to the batch, and back."""

from __future__ import annotations

import math
from collections.abc import Callable

from accel.frontends.tflite.axes import Piece, graph_shape
from accel.frontends.tflite.movement import rearrange
from accel.frontends.tflite.operation import Operation
from accel.network.nodes import Rearrange


def _block(op: Operation) -> int:
    """Block size of images with four axes."""
    block = op.options.BlockSize()
    if block < 1 or len(op.tensor(0).shape) != 4:
        raise op.error(
            f"block size must be positive and the input have four axes, got {block} and {op.tensor(0).shape}"
        )
    return int(block)


def depth_to_space(op: Operation) -> None:
    """DEPTH_TO_SPACE."""
    block, (batch, height, width, channels) = _block(op), op.tensor(0).shape
    if channels % block**2:
        raise op.error(f"channels must be a multiple of {block**2}, got {channels}")
    sizes = (batch, height, width, block, block, channels // block**2)
    rearrange(op, op.piece().value, sizes, (0, 1, 3, 2, 4, 5))


def space_to_depth(op: Operation) -> None:
    """SPACE_TO_DEPTH."""
    block, (batch, height, width, channels) = _block(op), op.tensor(0).shape
    if height % block or width % block:
        raise op.error(f"height and width must be multiples of {block}, got {height} and {width}")
    sizes = (batch, height // block, block, width // block, block, channels)
    rearrange(op, op.piece().value, sizes, (0, 1, 3, 2, 4, 5))


def _blocks(op: Operation) -> tuple[list[int], list[int], list[int]]:
    """Block size along every axis behind the batch, and the elements to add or cut before and after it."""
    blocks, edges, rank = op.tensor(1).integers(), op.tensor(2).integers(), len(op.tensor(0).shape)
    if len(edges) != 2 * len(blocks) or not 0 < len(blocks) < rank or min(blocks) < 1 or min(edges) < 0:
        raise op.error(
            f"block shape must be positive, with a pair of numbers from 0 for each, got {blocks} and {edges}"
        )
    return blocks, edges[::2], edges[1::2]


def space_to_batch_nd(op: Operation) -> None:
    """SPACE_TO_BATCH_ND: every phase of a grid of pixels is an image of the batch."""
    blocks, before, after = _blocks(op)
    count, rest = len(blocks), [0] * (len(op.tensor(0).shape) - len(blocks) - 1)
    zero = op.result().parameters()[1]
    value, shape = op.piece().pad(op.builder, [0, *before, *rest], [0, *after, *rest], zero, op.result().name)
    if any(size % block for size, block in zip(shape[1:], blocks, strict=False)):
        raise op.error(f"padded input must consist of blocks {blocks}, got {shape!r}")
    pairs = [(size // block, block) for size, block in zip(shape[1:], blocks, strict=False)]
    sizes = (shape[0], *(number for pair in pairs for number in pair), *shape[1 + count :])
    phases, pixels = range(2, 2 + 2 * count, 2), range(1, 1 + 2 * count, 2)
    rearrange(op, value, sizes, (*phases, 0, *pixels, *range(1 + 2 * count, len(sizes))))


def batch_to_space_nd(op: Operation) -> None:
    """BATCH_TO_SPACE_ND: the inverse, then borders are cut off."""
    blocks, before, after = _blocks(op)
    count, (phases, *shape) = len(blocks), op.tensor(0).shape
    if phases % math.prod(blocks):
        raise op.error(f"batch must be a multiple of {math.prod(blocks)}, got {phases}")
    batch = phases // math.prod(blocks)
    sizes = (*blocks, batch, *shape)
    order = [number for axis in range(count) for number in (count + 1 + axis, axis)]
    whole = (batch, *(size * block for size, block in zip(shape, blocks, strict=False)), *shape[count:])
    value = op.builder.emit(
        Rearrange,
        [op.piece().value],
        op.result().parameters(),
        op.result().name,
        sizes=sizes,
        permutation=(count, *order, *range(2 * count + 1, len(sizes))),
        shape=graph_shape(whole),
    )
    ends = [size - cut for size, cut in zip(whole[1:], after, strict=False)]
    picks = [range(batch), *(range(b, e) for b, e in zip(before, ends, strict=True)), *map(range, whole[1 + count :])]
    if not all(picks):
        raise op.error(f"crops must leave something of {whole!r}, got {before} and {after}")
    op.finish(Piece(value, whole).select(op.builder, picks, op.result().name))


BLOCKS: dict[str, Callable[[Operation], None]] = {
    "BATCH_TO_SPACE_ND": batch_to_space_nd,
    "DEPTH_TO_SPACE": depth_to_space,
    "SPACE_TO_BATCH_ND": space_to_batch_nd,
    "SPACE_TO_DEPTH": space_to_depth,
}
"""How each operator that moves blocks is translated."""
