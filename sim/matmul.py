"""Values of EXEC in the fast engine: all weight tiles of a block of pixels, summed in registers.

Sixteen columns and `BLOCK` pixels at a time. Operands are int16 pairs, the form that every vector instruction set
multiplies and adds in one step (`pmaddwd` and its relatives); LLVM picks the instruction. The input is not gathered:
each pixel brings the place of its word for every tile, or that of the padding word.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numba
import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba.extending import intrinsic

from accel.config import ArchConfig
from sim.dma import Row
from sim.fields import EXEC
from sim.jit import DISABLED, kernel
from sim.memories import Memories

BLOCK = 8
"""Pixels whose sums are in registers at the same time."""

PANEL = 16
"""Columns whose sums are in one vector."""


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
    acc, sums = memories.acc, scratch.sums
    pixels, cols, accumulate = row[EXEC.oy_count] * row[EXEC.ox_count], acc.shape[1], row[EXEC.accumulate]
    chunks, taps, pairs = row[EXEC.chunk_count], row[EXEC.ky_count] * row[EXEC.kx_count], (row[EXEC.k_rows] + 1) // 2
    for i in range(memories.spad.shape[1]):
        memories.spad[-1, i] = row[EXEC.pad_value]
    _pack_weights(row, memories.wbuf, chunks * taps, pairs, scratch.weights)
    _position_pixels(row, memories.spad.shape[1], scratch.pixels)
    for first in range(0, pixels, BLOCK):
        _place_pixels(row, memories.spad, scratch.pixels, first, scratch.places)
        for panel in range((cols + PANEL - 1) // PANEL):
            sum_block(memories.spad, scratch.places, taps, chunks, pairs, scratch.weights[panel], sums)
            base, columns = panel * PANEL, min(PANEL, cols - panel * PANEL)
            for i in range(min(BLOCK, pixels - first)):
                word = row[EXEC.acc_address] + first + i
                for c in range(columns):
                    total = np.int64(sums[i, c]) + accumulate * np.int64(acc[word, base + c])
                    acc[word, base + c] = ((total + (1 << 31)) & 0xFFFFFFFF) - (1 << 31)


@kernel
def _pack_weights(row: Row, wbuf: Any, tiles: int, pairs: int, weights: Any) -> None:
    """Interleave two weight words each; an odd last one is paired with zeros."""
    cols, k_rows, address = wbuf.shape[1], row[EXEC.k_rows], row[EXEC.wbuf_address]
    for panel in range((cols + PANEL - 1) // PANEL):
        base, columns = panel * PANEL, min(PANEL, cols - panel * PANEL)
        for tile in range(tiles):
            for pair in range(pairs):
                low = address + tile * k_rows + 2 * pair
                paired = 2 * pair + 1 < k_rows
                high = low + paired
                for c in range(columns):
                    first, second = np.int64(wbuf[low, base + c]), np.int64(wbuf[high, base + c])
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
                y, x = pixels[0, first + i] + dy, pixels[1, first + i] + dx
                inside = (y >= 0) & (y < height) & (x >= 0) & (x < across)
                places[tap, 0, i] = pixels[2, first + i] + offset if inside else invalid
                places[tap, 1, i] = step if inside else 0


@kernel
def sum_block_plain(spad: Any, places: Any, taps: int, chunks: int, pairs: int, weights: Any, sums: Any) -> None:
    """``sums[i] = sum of word(chunk, tap, i) @ weights(chunk, tap)`` modulo 2**32, for `BLOCK` pixels.

    Parameters
    ----------
    spad : int16 array, shape (words, even width)
    places : int64 array, shape (taps, 2, BLOCK)
        Elements of the flattened scratchpad: the word in chunk 0, and the step to the next chunk.
    taps, chunks, pairs : int
        Weight tiles are chunks times taps, each of `pairs` pairs of rows.
    weights : int32 array, shape (chunks * taps * pairs, PANEL)
        Two int16 each, the first row in the low half.
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
                    both = np.int64(weights[tile * pairs + pair, column])
                    low = ((both + 32768) & 0xFFFF) - 32768
                    total += np.int64(flat[at + 2 * pair]) * low
                    total += np.int64(flat[at + 2 * pair + 1]) * (both >> 16)
            sums[i, column] = ((total + (1 << 31)) & 0xFFFFFFFF) - (1 << 31)


_I16, _I32, _I64 = ir.IntType(16), ir.IntType(32), ir.IntType(64)
_SUMS, _PAIRS, _WIDE = ir.VectorType(_I32, PANEL), ir.VectorType(_I16, 2 * PANEL), ir.VectorType(_I32, 2 * PANEL)


def _sum_block_vectors(
    context: Any, spad: Any, places: Any, taps: Any, chunks: Any, pairs: Any, weights: Any, sums: Any
) -> Any:
    """`sum_block_plain` on addresses, as vectors: loops over taps, chunks and pairs, sums in registers."""
    signature = numba.types.void(*[numba.types.int64] * 7)

    def generate(target: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        spad, places, taps, chunks, pairs, weights, sums = arguments
        names = ("tap", "chunk", "pair", "chunk_end", "tap_end", "done")
        entry = builder.block
        tap_loop, chunk_loop, pair_loop, chunk_end, tap_end, done = map(builder.append_basic_block, names)
        tile_bytes = builder.shl(pairs, _constant(6))
        builder.branch(tap_loop)

        builder.position_at_end(tap_loop)
        tap = _phi(builder, _I64, entry, _constant(0))
        outer = [_phi(builder, _SUMS, entry, ir.Constant(_SUMS, [0] * PANEL)) for _ in range(BLOCK)]
        place = builder.add(places, builder.mul(tap, _constant(16 * BLOCK)))
        starts = [_load(builder, _I64, builder.add(place, _constant(8 * i))) for i in range(BLOCK)]
        starts = [builder.add(spad, builder.shl(start, _constant(1))) for start in starts]
        first_weight = builder.add(weights, builder.mul(tap, tile_bytes))
        builder.branch(chunk_loop)

        builder.position_at_end(chunk_loop)
        chunk = _phi(builder, _I64, tap_loop, _constant(0))
        weight = _phi(builder, _I64, tap_loop, first_weight)
        pixels = [_phi(builder, _I64, tap_loop, start) for start in starts]
        middle = [_phi(builder, _SUMS, tap_loop, total) for total in outer]
        builder.branch(pair_loop)

        builder.position_at_end(pair_loop)
        pair = _phi(builder, _I64, chunk_loop, _constant(0))
        inner = [_phi(builder, _SUMS, chunk_loop, total) for total in middle]
        right = _load(builder, _PAIRS, builder.add(weight, builder.shl(pair, _constant(6))))
        offset = builder.shl(pair, _constant(2))
        totals = [
            builder.add(total, _dot(builder, _load(builder, _I32, builder.add(pixel, offset)), right))
            for total, pixel in zip(inner, pixels, strict=True)
        ]
        _repeat(builder, (pair, pairs), (pair_loop, chunk_end), inner, totals)

        builder.position_at_end(chunk_end)
        steps = [_load(builder, _I64, builder.add(place, _constant(8 * (BLOCK + i)))) for i in range(BLOCK)]
        steps = [builder.add(p, builder.shl(step, _constant(1))) for p, step in zip(pixels, steps, strict=True)]
        next_weight = builder.add(weight, builder.mul(tile_bytes, taps))
        _repeat(
            builder, (chunk, chunks), (chunk_loop, tap_end), [weight, *pixels, *middle], [next_weight, *steps, *totals]
        )

        builder.position_at_end(tap_end)
        _repeat(builder, (tap, taps), (tap_loop, done), outer, totals)

        builder.position_at_end(done)
        for i, total in enumerate(totals):
            address = builder.add(sums, _constant(4 * PANEL * i))
            builder.store(total, builder.inttoptr(address, _SUMS.as_pointer()), align=4)
        return target.get_dummy_value()

    return signature, generate


def _repeat(builder: Any, count: Any, blocks: Any, phis: list[Any], values: list[Any]) -> None:
    """Close the loop of ``count = (index, limit)`` and ``blocks = (loop, next)``, handing `values` on to `phis`."""
    (index, limit), (loop, following), here = count, blocks, builder.block
    increment = builder.add(index, _constant(1))
    for phi, value in zip([index, *phis], [increment, *values], strict=True):
        phi.add_incoming(value, here)
    builder.cbranch(builder.icmp_signed("<", increment, limit), loop, following)


def _constant(value: int) -> Any:
    return ir.Constant(_I64, value)


def _phi(builder: Any, kind: Any, block: Any, value: Any) -> Any:
    phi = builder.phi(kind)
    phi.add_incoming(value, block)
    return phi


def _load(builder: Any, kind: Any, address: Any) -> Any:
    return builder.load(builder.inttoptr(address, kind.as_pointer()), align=2)


def _dot(builder: Any, pair: Any, right: Any) -> Any:
    """Both elements of `pair` times the interleaved rows `right`, added; the form that LLVM knows as `pmaddwd`."""
    undefined = ir.Constant(_SUMS, ir.Undefined)
    single = builder.insert_element(undefined, pair, ir.Constant(_I32, 0))
    left = builder.shuffle_vector(single, undefined, ir.Constant(_SUMS, [0] * PANEL))
    product = builder.mul(builder.sext(builder.bitcast(left, _PAIRS), _WIDE), builder.sext(right, _WIDE))
    even, odd = (ir.Constant(_SUMS, list(range(start, 2 * PANEL, 2))) for start in (0, 1))
    nothing = ir.Constant(_WIDE, ir.Undefined)
    return builder.add(builder.shuffle_vector(product, nothing, even), builder.shuffle_vector(product, nothing, odd))


_sum_block_compiled: Any = intrinsic(_sum_block_vectors)


@kernel
def _sum_block(spad: Any, places: Any, taps: int, chunks: int, pairs: int, weights: Any, sums: Any) -> None:
    _sum_block_compiled(
        spad.ctypes.data, places.ctypes.data, taps, chunks, pairs, weights.ctypes.data, sums.ctypes.data
    )


sum_block = sum_block_plain if DISABLED else _sum_block
"""The kernel that `execute` uses."""
