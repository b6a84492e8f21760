"""Few input channels: several kernel positions share a scratchpad word, and LOAD repeats the pixels under both.

Folded by *columns*, a word holds neighbouring columns of one kernel row; EXEC still steps through the kernel's rows.
Folded by *positions*, a word holds neighbours in the row-major order of the whole kernel: fuller words for the array,
but LOAD makes every word in as many pieces as it has kernel rows. In between, a word holds some whole rows of the
kernel, a *line*, and EXEC steps through the lines: two rows of a 7x7 kernel of stride 2 in four lines. The cheapest is
taken.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from accel.machine.config import ArchConfig
from compiler.lower.geometry import Tile
from compiler.lower.layers import ArrayLayer
from compiler.plan.tiles import streamed_tile_pixels, tile_size
from compiler.plan.weights import Chunk

LINES_SHARE = 0.75
"""Lines are taken if they take at most this part of the cycles of columns and positions.

They need more LOADs, and each waits for memory: what is saved must be more than that.
"""

_PAD_LIMIT = 255
"""Most bytes of a row's padding."""


class TapRow(NamedTuple):
    """Columns [x0, x1) of kernel row `ky` in the words of a folded chunk, from byte `byte` on."""

    ky: int
    x0: int
    x1: int
    byte: int


def tap_rows(layer: ArrayLayer, chunk: Chunk) -> list[TapRow]:
    """Parts of one word of a folded chunk; `ky` of a word of columns is 0."""
    channels, width = layer.input_shape[2], layer.window.kernel[1]
    if not chunk.by_position:
        return [TapRow(0, chunk.first, chunk.first + chunk.taps, 0)]
    found, position, end = [], chunk.first, chunk.first + chunk.taps
    while position < end:
        ky, x0 = divmod(position, width)
        x1 = min(width, x0 + end - position)
        found.append(TapRow(ky, x0, x1, (position - chunk.first) * channels))
        position += x1 - x0
    return found


def folded_chunks(layer: ArrayLayer, config: ArchConfig) -> tuple[Chunk, ...] | None:
    """Chunks with kernel positions folded into words; None where that saves nothing or LOAD cannot make the words."""
    channels, (height, width) = layer.input_shape[2], layer.window.kernel
    taps = config.rows // channels if layer.groups == 1 else 0
    if taps < 2 or layer.window.dilation[1] != 1 or layer.window.stride[1] * channels > config.rows:
        return None
    if (layer.window.padding[1] + width) * channels > _PAD_LIMIT:
        return None
    plain = -(-channels // config.rows) * width * height
    candidates = [_chunks(width, min(taps, width), channels, False), _chunks(width * height, taps, channels, True)]
    costs = [_cycles_per_pixel(layer, chunks, config) for chunks in candidates]
    lines = [(chunk,) for chunk in _line_chunks(layer, taps)]
    costs += [_cycles_per_pixel(layer, chunks, config) / LINES_SHARE for chunks in lines]
    candidates += lines
    best = min(range(len(candidates)), key=lambda i: costs[i])
    return candidates[best] if costs[best] < plain * -(-layer.output_shape[2] // config.cols) else None


def _chunks(positions: int, taps: int, channels: int, by_position: bool) -> tuple[Chunk, ...]:
    parts = [(first, min(taps, positions - first)) for first in range(0, positions, taps)]
    return tuple(
        Chunk(i, count * channels, first=first, taps=count, by_position=by_position)
        for i, (first, count) in enumerate(parts)
    )


def _line_chunks(layer: ArrayLayer, taps: int) -> Iterator[Chunk]:
    """Lines of two or more kernel rows, in words of at most `taps` positions; a line is a whole number of strides."""
    (height, width), stride, dilation = layer.window.kernel, layer.window.stride[0], layer.window.dilation[0]
    for rows in range(2, min(taps // width, height - 1) + 1):
        if rows * dilation % stride == 0:
            held, lines = rows * width, -(-height // rows)
            yield Chunk(0, held * layer.input_shape[2], 0, 0, held, True, lines, rows * dilation // stride)


def _cycles_per_pixel(layer: ArrayLayer, chunks: tuple[Chunk, ...], config: ArchConfig) -> float:
    """Cycles per output pixel of the busier of array and LOAD."""
    chunk, stride = chunks[0], layer.window.stride[0]
    passes, rows = (chunk.lines, 1) if chunk.by_position else (layer.window.kernel[0], stride)
    loads = rows * sum(len(tap_rows(layer, chunk)) for chunk in chunks)
    height, width, channels = layer.output_shape
    tile_height = tile_size(height, width, streamed_tile_pixels(config, layer.output_shape)).height
    again = 1 + (chunk.lines - 1) * chunk.pitch / tile_height
    return max(len(chunks) * passes * -(-channels // config.cols), loads * again)


def can_fold(layer: ArrayLayer, chunks: tuple[Chunk, ...], tiles: tuple[Tile, ...]) -> bool:
    """Whether every folded row of every tile has at least one byte of the image of each of its rows of taps."""
    for tile in tiles:
        for chunk in chunks:
            for taps in tap_rows(layer, chunk):
                start = tile.x0 * layer.window.stride[1] - layer.window.padding[1] + taps.x0
                end = start + (tile.width - 1) * layer.window.stride[1] + taps.x1 - taps.x0
                if start >= layer.input_shape[1] or end <= 0:
                    return False
    return True
