"""Few input channels: several kernel positions share a scratchpad word, and LOAD repeats the pixels under both.

Folded by *columns*, a word holds neighbouring columns of one kernel row; EXEC still steps through the kernel's rows.
Folded by *positions*, a word holds neighbours in the row-major order of the whole kernel: fuller words for the array,
but LOAD makes every word in as many pieces as it has kernel rows. The cheaper one is taken.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from accel.machine.config import ArchConfig
from accel.machine.isa import Instruction, Memory, Opcode
from compiler.lower.geometry import Tile
from compiler.lower.layers import ArrayLayer
from compiler.plan.tiles import View
from compiler.plan.weights import Chunk

_PAD_LIMIT = 255
"""Most bytes of a row's padding."""


class TapRow(NamedTuple):
    """Columns [x0, x1) of kernel row `ky` in the words of a folded chunk, from byte `byte` on."""

    ky: int
    x0: int
    x1: int
    byte: int


class Sources(NamedTuple):
    """Addresses in external memory: of a layer's input, and of one byte that holds the padding value."""

    image: int
    padding: int


def tap_rows(layer: ArrayLayer, chunk: Chunk) -> list[TapRow]:
    """What one word of a folded chunk is made of; `ky` of a word of columns is 0."""
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


def load_folded(
    layer: ArrayLayer, sources: Sources, view: View, tile: Tile, chunks: tuple[Chunk, ...]
) -> list[Instruction]:
    """LOADs of folded words: word (chunk, y, ox) holds the chunk's kernel positions around output column ox.

    Parameters
    ----------
    view : View
        Its tile has the output's columns of `tile`, and the input's rows if folded by columns, else the output's.
    """
    return [
        load
        for chunk in chunks
        for taps in tap_rows(layer, chunk)
        for load in _load_taps(layer, sources, view, tile, chunk, taps)
    ]


def _load_taps(
    layer: ArrayLayer, sources: Sources, view: View, tile: Tile, chunk: Chunk, taps: TapRow
) -> Iterator[Instruction]:
    height, width, channels = layer.input_shape
    window = layer.window
    step, word_bytes = window.stride[1] * channels, (taps.x1 - taps.x0) * channels
    start = tile.x0 * window.stride[1] - window.padding[1] + taps.x0
    first, stream = max(start, 0), (tile.width - 1) * step + word_bytes
    pad = min((first - start) * channels, stream - 1)
    row_step, row_start = (window.stride[0], taps.ky * window.dilation[0] - window.padding[0])
    if not chunk.by_position:
        row_step, row_start = 1, 0
    inside = [y for y in range(view.tile.y0, view.tile.y1) if 0 <= y * row_step + row_start < height]
    top, bottom = (inside[0], inside[-1] + 1) if inside else (view.tile.y0, view.tile.y0)
    common = {
        "memory": Memory.SPAD,
        "row_stride": view.tile.width,
        "row_words": tile.width,
        "word_bytes": word_bytes,
        "step_bytes": step,
        "byte_offset": taps.byte,
        "pad_value": layer.pad_value,
    }
    image = {
        "dram_address": sources.image + ((top * row_step + row_start) * width + first) * channels,
        "dram_row_stride": row_step * width * channels,
        "row_bytes": min((width - first) * channels, stream - pad),
        "pad_bytes": pad,
    }
    nothing = {"dram_address": sources.padding, "dram_row_stride": 0, "row_bytes": 1}
    for y0, y1, source in ((view.tile.y0, top, nothing), (top, bottom, image), (bottom, view.tile.y1, nothing)):
        if y1 > y0:
            place = {"address": view.word(chunk.index, y0, view.tile.x0), "row_count": y1 - y0}
            yield Instruction(Opcode.LOAD, common | source | place)
