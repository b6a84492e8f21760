"""Values of EXEC in the fast engine: all weight tiles of a block of pixels, summed in registers.

`PANEL` columns and `BLOCK` pixels at a time, `QUAD` rows in one step. The input is not gathered: each pixel brings the
place of its word for every tile, or that of the padding word. The scratchpad's values have an `OFFSET`, whose products
with all weights of a column are taken off the sums again.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from sim.fast import weights
from sim.fast.dma import Row
from sim.fast.vectors import BLOCK, DOT, PANEL, QUAD, sum_block_vectors_of
from sim.fields import EXEC
from sim.jit import DISABLED, index, kernel
from sim.memories import OFFSET, Memories
from sim.views import flat


class Scratch(NamedTuple):
    """Working arrays of `execute`, large enough for every EXEC of a program."""

    pixels: npt.NDArray[np.int64]
    places: npt.NDArray[np.int64]
    sums: npt.NDArray[np.int32]

    @classmethod
    def of(cls, table: npt.NDArray[np.int64]) -> Scratch:
        """Scratch for the EXEC instructions in the decoded `table`."""
        taps = int((table[:, EXEC.ky_count] * table[:, EXEC.kx_count]).max(initial=1))
        pixels = int((table[:, EXEC.oy_count] * table[:, EXEC.ox_count]).max(initial=1))
        return cls(
            np.zeros((3, pixels + BLOCK), np.int64), np.zeros((taps, 2, BLOCK), np.int64),
            np.zeros((BLOCK, PANEL), np.int32),
        )  # fmt: skip


@kernel
def execute(row: Row, memories: Memories, scratch: Scratch, packed: Any, slot: int, fresh: int) -> None:
    """Add (or store) the product of an EXEC's weights and pixels to its accumulator words, modulo 2**32.

    Its weights are at `slot` in `packed`; if they are `fresh`, they are put there first.
    """
    acc, spad, sums, positions, places = memories.acc, memories.spad, scratch.sums, scratch.pixels, scratch.places
    pixels, cols, accumulate = row[EXEC.oy_count] * row[EXEC.ox_count], acc.shape[1], row[EXEC.accumulate]
    chunks, taps = row[EXEC.chunk_count], row[EXEC.ky_count] * row[EXEC.kx_count]
    quads, panels, address = (row[EXEC.k_rows] + QUAD - 1) // QUAD, (cols + PANEL - 1) // PANEL, row[EXEC.acc_address]
    for i in range(spad.shape[1]):
        spad[-1, i] = row[EXEC.pad_value] + OFFSET
    if fresh:
        weights.pack(row, memories.wbuf, packed, slot)
    _position_pixels(row, spad.shape[1], positions)
    for first in range(0, pixels, BLOCK):
        _place_pixels(row, spad, positions, first, places)
        count, word = min(BLOCK, pixels - first), address + first
        for panel in range(panels):
            start, biases = slot + panels * PANEL + panel * chunks * taps * quads * PANEL, slot + panel * PANEL
            base, columns = panel * PANEL, min(PANEL, cols - panel * PANEL)
            target, to_word, to_base = acc, word, base
            if count < BLOCK or columns < PANEL:
                target, to_word, to_base = sums, 0, 0
                _copy(acc, word, base, sums, 0, 0, count, columns)
            sum_block(spad, places, taps, chunks, quads, packed, start, biases, target, to_word, to_base, accumulate)
            if count < BLOCK or columns < PANEL:
                _copy(sums, 0, 0, acc, word, base, count, columns)


@kernel
def _copy(source: Any, word: int, base: int, target: Any, to_word: int, to_base: int, words: int, columns: int) -> None:
    """Copy `columns` sums of each of some words."""
    for i in range(words):
        for c in range(columns):
            target[index(to_word + i), index(to_base + c)] = source[index(word + i), index(base + c)]


@kernel
def _position_pixels(row: Row, width: int, pixels: Any) -> None:
    """Row position, column position and first element of every pixel's word for tap (0, 0); the last one repeats."""
    pixel = 0
    for oy in range(row[EXEC.oy_count]):
        for ox in range(row[EXEC.ox_count]):
            pixels[0, pixel] = row[EXEC.y_start] + oy * row[EXEC.y_step]
            pixels[1, pixel] = row[EXEC.x_start] + ox * row[EXEC.x_step]
            pixels[2, pixel] = (row[EXEC.spad_address] + oy * row[EXEC.oy_stride] + ox * row[EXEC.ox_stride]) * width
            pixel += 1
    for repeated in range(pixel, pixel + BLOCK - 1):
        for field in range(3):
            pixels[field, repeated] = pixels[field, pixel - 1]


@kernel
def _place_pixels(row: Row, spad: Any, pixels: Any, first: int, places: Any) -> None:
    """For every tap, where each of `BLOCK` pixels starts in chunk 0, and its step per chunk."""
    width = spad.shape[1]
    invalid, step = (spad.shape[0] - 1) * width, row[EXEC.chunk_stride] * width
    height, across, ky_stride, kx_stride = row[EXEC.height], row[EXEC.width], row[EXEC.ky_stride], row[EXEC.kx_stride]
    y_dilation, x_dilation, kx_count = row[EXEC.y_dilation], row[EXEC.x_dilation], row[EXEC.kx_count]
    for ky in range(row[EXEC.ky_count]):
        for kx in range(kx_count):
            offset = (ky * ky_stride + kx * kx_stride) * width
            dy, dx = ky * y_dilation, kx * x_dilation
            tap = ky * kx_count + kx
            for i in range(BLOCK):
                at = index(first + i)
                y, x = pixels[0, at] + dy, pixels[1, at] + dx
                inside = (y >= 0) & (y < height) & (x >= 0) & (x < across)
                places[tap, 0, i] = pixels[2, at] + offset if inside else invalid
                places[tap, 1, i] = step if inside else 0


@kernel
def sum_block_plain(
    spad: Any, places: Any, taps: int, chunks: int, quads: int, packed: Any, start: int, biases: int, sums: Any,
    word: int, base: int, accumulate: int,
) -> None:  # fmt: skip
    """Add ``bias + sum of word(chunk, tap, i) @ weights(chunk, tap)`` to `sums` modulo 2**32, for `BLOCK` pixels.

    Parameters
    ----------
    spad : uint8 array, shape (words, width), width a multiple of QUAD
    places : int64 array, shape (taps, 2, BLOCK)
        Bytes of the scratchpad: the word in chunk 0, and the step to the next chunk.
    taps, chunks, quads : int
        Weight tiles are chunks times taps, each of `quads` quads of rows.
    packed : int32 array
        From element `start` on chunks * taps * quads * PANEL times four int8, the first row in the lowest byte; from
        element `biases` on PANEL biases.
    sums : int32 array, shape (words, columns)
        Changed in `BLOCK` words from `word` on, `PANEL` columns from `base` on.
    accumulate : int
        0 if the sums before do not count, otherwise 1.
    """
    all_bytes = flat(spad)
    for i in range(BLOCK):
        for column in range(PANEL):
            total = np.int64(packed[biases + column]) + accumulate * np.int64(sums[word + i, base + column])
            for tile in range(chunks * taps):
                at = places[tile % taps, 0, i] + tile // taps * places[tile % taps, 1, i]
                for quad in range(quads):
                    four = np.int64(packed[start + (tile * quads + quad) * PANEL + column])
                    for part in range(QUAD):
                        weight = ((four >> (8 * part) & 255) ^ 128) - 128
                        total += np.int64(all_bytes[at + QUAD * quad + part]) * weight
            sums[word + i, base + column] = ((total + (1 << 31)) & 0xFFFFFFFF) - (1 << 31)


_sum_block_vectors = sum_block_vectors_of(DOT)


@kernel
def _sum_block(
    spad: Any, places: Any, taps: int, chunks: int, quads: int, packed: Any, start: int, biases: int, sums: Any,
    word: int, base: int, accumulate: int,
) -> None:  # fmt: skip
    tiles, first, step = packed.ctypes.data + 4 * start, packed.ctypes.data + 4 * biases, 4 * sums.shape[1]
    target = sums.ctypes.data + word * step + 4 * base
    _sum_block_vectors(
        spad.ctypes.data, places.ctypes.data, taps, chunks, quads, tiles, first, target, step, accumulate
    )


sum_block = sum_block_plain if DISABLED else _sum_block
"""The kernel that `execute` uses."""
