"""Vector kernels in LLVM's portable vector code, which Numba's loops would not become.

They take addresses; sizes and bounds are the callers' business. LLVM picks the instructions of the processor.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
from llvmlite import ir
from numba.extending import intrinsic

BLOCK = 8
"""Pixels whose sums are in registers at the same time."""

PANEL = 16
"""Columns whose sums are in one vector."""


def _intrinsic(function: Callable[..., Any]) -> Any:
    return intrinsic(function)


_I16, _I32, _I64 = ir.IntType(16), ir.IntType(32), ir.IntType(64)
_SUMS, _PAIRS, _WIDE = ir.VectorType(_I32, PANEL), ir.VectorType(_I16, 2 * PANEL), ir.VectorType(_I32, 2 * PANEL)


@_intrinsic
def sum_block_vectors(
    context: Any, spad: Any, places: Any, taps: Any, chunks: Any, pairs: Any, weights: Any, sums: Any
) -> Any:
    """`sim.fast.matmul.sum_block_plain` on addresses: loops over taps, chunks and pairs, sums in registers."""
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
            builder.store(total, _pointer(builder, address, _SUMS), align=4)
        return target.get_dummy_value()

    return signature, generate


@_intrinsic
def multiply_add_vectors(
    context: Any, sums: Any, left: Any, right: Any, rows: Any, vectors: Any, right_step: Any
) -> Any:
    """``sums += left * right``, modulo 2**32, for rows of `vectors` times `PANEL` int32 each.

    The next row of sums is the one before, of left the one after, and of right `right_step` elements further on.
    """
    signature = numba.types.void(*[numba.types.int64] * 6)

    def generate(target: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        *addresses, rows, vectors, right_step = arguments
        entry = builder.block
        row_loop, loop, row_end, done = map(builder.append_basic_block, ("row", "vector", "row_end", "done"))
        row_bytes = builder.shl(vectors, _constant(6))
        steps = [builder.neg(row_bytes), row_bytes, builder.shl(right_step, _constant(2))]
        builder.cbranch(builder.icmp_signed(">", rows, _constant(0)), row_loop, done)

        builder.position_at_end(row_loop)
        row = _phi(builder, _I64, entry, _constant(0))
        starts = [_phi(builder, _I64, entry, address) for address in addresses]
        builder.branch(loop)

        builder.position_at_end(loop)
        vector = _phi(builder, _I64, row_loop, _constant(0))
        offset = builder.shl(vector, _constant(6))
        places = [_pointer(builder, builder.add(start, offset), _SUMS) for start in starts]
        total, left, right = (builder.load(place, align=4) for place in places)
        builder.store(builder.add(total, builder.mul(left, right)), places[0], align=4)
        _repeat(builder, (vector, vectors), (loop, row_end), [], [])

        builder.position_at_end(row_end)
        following = [builder.add(start, step) for start, step in zip(starts, steps, strict=True)]
        _repeat(builder, (row, rows), (row_loop, done), starts, following)
        builder.position_at_end(done)
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
    return builder.load(_pointer(builder, address, kind), align=2)


def _pointer(builder: Any, address: Any, kind: Any) -> Any:
    return builder.inttoptr(address, kind.as_pointer())


def _dot(builder: Any, pair: Any, right: Any) -> Any:
    """Both elements of `pair` times the interleaved rows `right`, added; the form that LLVM knows as `pmaddwd`."""
    undefined = ir.Constant(_SUMS, ir.Undefined)
    single = builder.insert_element(undefined, pair, ir.Constant(_I32, 0))
    left = builder.shuffle_vector(single, undefined, ir.Constant(_SUMS, [0] * PANEL))
    product = builder.mul(builder.sext(builder.bitcast(left, _PAIRS), _WIDE), builder.sext(right, _WIDE))
    even, odd = (ir.Constant(_SUMS, list(range(start, 2 * PANEL, 2))) for start in (0, 1))
    nothing = ir.Constant(_WIDE, ir.Undefined)
    return builder.add(builder.shuffle_vector(product, nothing, even), builder.shuffle_vector(product, nothing, odd))
