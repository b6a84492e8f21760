"""Few input channels: several kernel positions share a scratchpad word, and LOAD repeats the pixels under both.

Folded by *columns*, a word holds neighbouring columns of one kernel row; EXEC still steps through the kernel's rows.
Folded by *positions*, a word holds neighbours in the row-major order of the whole kernel: fuller words for the array,
but LOAD makes every word in as many pieces as it has kernel rows. The cheaper one is taken.
"""

from __future__ import annotations

from typing import NamedTuple

from accel.machine.config import ArchConfig
from compiler.lower.geometry import Tile
from compiler.lower.layers import ArrayLayer
from compiler.plan.weights import Chunk

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
    best = min(range(len(candidates)), key=lambda i: costs[i])
    return candidates[best] if costs[best] < plain * -(-layer.output_shape[2] // config.cols) else None


def _chunks(positions: int, taps: int, channels: int, by_position: bool) -> tuple[Chunk, ...]:
    parts = [(first, min(taps, positions - first)) for first in range(0, positions, taps)]
    return tuple(
        Chunk(i, count * channels, first=first, taps=count, by_position=by_position)
        for i, (first, count) in enumerate(parts)
    )


def _cycles_per_pixel(layer: ArrayLayer, chunks: tuple[Chunk, ...], config: ArchConfig) -> int:
    """Cycles per output pixel of the busier of array and LOAD."""
    passes = 1 if chunks[0].by_position else layer.window.kernel[0]
    lines = 1 if chunks[0].by_position else layer.window.stride[0]
    loads = lines * sum(len(tap_rows(layer, chunk)) for chunk in chunks)
    return max(len(chunks) * passes * -(-layer.output_shape[2] // config.cols), loads)


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
