"""Values of EXEC in the fast engine: all weight tiles of a block of pixels, summed in registers.

Sixteen columns and `BLOCK` pixels at a time. Operands are int16 pairs, the form that every vector instruction set
multiplies and adds in one step (`pmaddwd` and its relatives); LLVM picks the instruction. The input is not gathered:
each pixel brings the place of its word for every tile, or that of the padding word.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from accel.machine.config import ArchConfig
from sim.fast.dma import Row
from sim.fast.vectors import BLOCK, PANEL, sum_block_vectors
from sim.fields import EXEC
from sim.jit import DISABLED, index, jit, kernel
from sim.memories import Memories
from sim.weight_words import high_nibble, low_nibble, tile_words


class Scratch(NamedTuple):
    """Working arrays of `execute`, large enough for every EXEC of a program."""

    weights: npt.NDArray[np.int32]
    pixels: npt.NDArray[np.int64]
    places: npt.NDArray[np.int64]
    sums: npt.NDArray[np.int32]

    @classmethod
    def of(cls, config: ArchConfig, table: npt.NDArray[np.int64]) -> Scratch:
        """Scratch for the EXEC instructions in the decoded `table`."""
        taps = table[:, EXEC.ky_count] * table[:, EXEC.kx_count]
        pairs = int((table[:, EXEC.chunk_count] * taps * ((table[:, EXEC.k_rows] + 1) // 2)).max(initial=1))
        panels = -(-config.cols // PANEL)
        return cls(
            np.zeros((panels, pairs, PANEL), np.int32),
            np.zeros((3, int((table[:, EXEC.oy_count] * table[:, EXEC.ox_count]).max(initial=1)) + BLOCK), np.int64),
            np.zeros((int(taps.max(initial=1)), 2, BLOCK), np.int64),
            np.zeros((BLOCK, PANEL), np.int32),
        )


@kernel
def execute(row: Row, memories: Memories, scratch: Scratch) -> None:
    """Add (or store) the product of an EXEC's weights and pixels to its accumulator words, modulo 2**32."""
    acc, spad, weights, sums = memories.acc, memories.spad, scratch.weights, scratch.sums
    positions, places = scratch.pixels, scratch.places
    pixels, cols, accumulate = row[EXEC.oy_count] * row[EXEC.ox_count], acc.shape[1], row[EXEC.accumulate]
    chunks, taps, pairs = row[EXEC.chunk_count], row[EXEC.ky_count] * row[EXEC.kx_count], (row[EXEC.k_rows] + 1) // 2
    address = row[EXEC.acc_address]
    for i in range(spad.shape[1]):
        spad[-1, i] = row[EXEC.pad_value]
    _pack_weights(row, memories.wbuf, chunks * taps, pairs, weights)
    _position_pixels(row, spad.shape[1], positions)
    for first in range(0, pixels, BLOCK):
        _place_pixels(row, spad, positions, first, places)
        for panel in range((cols + PANEL - 1) // PANEL):
            sum_block(spad, places, taps, chunks, pairs, weights, panel, sums)
            base, columns = panel * PANEL, min(PANEL, cols - panel * PANEL)
            for i in range(min(BLOCK, pixels - first)):
                word = index(address + first + i)
                for c in range(columns):
                    total = np.int64(sums[i, c]) + accumulate * np.int64(acc[word, index(base + c)])
                    acc[word, index(base + c)] = ((total + (1 << 31)) & 0xFFFFFFFF) - (1 << 31)


@kernel
def _pack_weights(row: Row, wbuf: Any, tiles: int, pairs: int, weights: Any) -> None:
    """Interleave two weight rows each, two words or the halves of one; an odd last one is paired with zeros."""
    cols, k_rows, address, int4 = wbuf.shape[1], row[EXEC.k_rows], row[EXEC.wbuf_address], row[EXEC.int4]
    words = tile_words(k_rows, int4)
    for panel in range((cols + PANEL - 1) // PANEL):
        base, columns = panel * PANEL, min(PANEL, cols - panel * PANEL)
        for tile in range(tiles):
            for pair in range(pairs):
                low = address + tile * words + (2 * pair >> int4)
                paired = 2 * pair + 1 < k_rows
                high = low + (0 if int4 else paired)
                for c in range(columns):
                    at = index(base + c)
                    first, second = np.int64(wbuf[index(low), at]), np.int64(wbuf[index(high), at])
                    if int4:
                        first, second = low_nibble(first), high_nibble(second)
                    weights[panel, tile * pairs + pair, c] = (second * paired << 16) | (first & 0xFFFF)


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


@jit
def sum_block_plain(
    spad: Any, places: Any, taps: int, chunks: int, pairs: int, weights: Any, panel: int, sums: Any
) -> None:
    """``sums[i] = sum of word(chunk, tap, i) @ weights(chunk, tap)`` modulo 2**32, for `BLOCK` pixels.

    Parameters
    ----------
    spad : int16 array, shape (words, even width)
    places : int64 array, shape (taps, 2, BLOCK)
        Elements of the flattened scratchpad: the word in chunk 0, and the step to the next chunk.
    taps, chunks, pairs : int
        Weight tiles are chunks times taps, each of `pairs` pairs of rows.
    weights : int32 array, shape (panels, chunks * taps * pairs or more, PANEL)
        Two int16 each, the first row in the low half.
    panel : int
        Which columns.
    sums : int32 array, shape (BLOCK, PANEL)
        The result.
    """
    flat = spad.reshape(-1)
    for i in range(BLOCK):
        for column in range(PANEL):
            total = np.int64(0)
            for tile in range(chunks * taps):
                at = places[tile % taps, 0, i] + tile // taps * places[tile % taps, 1, i]
                for pair in range(pairs):
                    both = np.int64(weights[panel, tile * pairs + pair, column])
                    low = ((both + 32768) & 0xFFFF) - 32768
                    total += np.int64(flat[at + 2 * pair]) * low
                    total += np.int64(flat[at + 2 * pair + 1]) * (both >> 16)
            sums[i, column] = ((total + (1 << 31)) & 0xFFFFFFFF) - (1 << 31)


@jit
def _sum_block(spad: Any, places: Any, taps: int, chunks: int, pairs: int, weights: Any, panel: int, sums: Any) -> None:
    columns = weights.ctypes.data + panel * weights.shape[1] * (4 * PANEL)
    sum_block_vectors(spad.ctypes.data, places.ctypes.data, taps, chunks, pairs, columns, sums.ctypes.data)


sum_block = sum_block_plain if DISABLED else _sum_block
"""The kernel that `execute` uses."""
