"""Vector kernels in LLVM's vector code, which Numba's loops would not become.

They take addresses; sizes and bounds are the callers' business. All is portable but the product of bytes, which is the
widest instruction that the processor has; the environment variable ACCEL_DOT may name another of `DOTS`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from llvmlite import ir

from accel.errors import InputError
from sim.jit import intrinsic
from sim.processor import processor

BLOCK = 12
"""Pixels whose sums are in registers at the same time."""

PANEL = 16
"""Columns whose sums are in one vector."""

QUAD = 4
"""Rows whose weights for one column lie side by side, and are multiplied and added in one step."""


_I8, _I16, _I32, _I64 = (ir.IntType(bits) for bits in (8, 16, 32, 64))
_SUMS, _HALVES, _WIDE = ir.VectorType(_I32, PANEL), ir.VectorType(_I16, 2 * PANEL), ir.VectorType(_I32, 2 * PANEL)
_HALF_SUMS = ir.VectorType(_I32, PANEL // 2)
_UNDEFINED = ir.Constant(_SUMS, ir.Undefined)

Dot = Callable[[Any, Any, Any, Any], Any]
"""Emits ``sums + activations @ weights`` for a vector of sums: builder, sums, four activations (uint8) in each
lane, four weights (int8) in each lane."""


def _dot_avx512(builder: Any, sums: Any, activations: Any, weights: Any) -> Any:
    return call(builder, "llvm.x86.avx512.vpdpbusd.512", _SUMS, [sums, activations, weights])


def _dot_avx(builder: Any, sums: Any, activations: Any, weights: Any) -> Any:
    """Two vectors of half the width."""
    halves = []
    for first in (0, PANEL // 2):
        lanes = ir.Constant(_HALF_SUMS, list(range(first, first + PANEL // 2)))
        operands = [builder.shuffle_vector(v, _UNDEFINED, lanes) for v in (sums, activations, weights)]
        halves.append(call(builder, "llvm.x86.avx512.vpdpbusd.256", _HALF_SUMS, operands))
    return builder.shuffle_vector(*halves, ir.Constant(_SUMS, list(range(PANEL))))


def _dot_portable(builder: Any, sums: Any, activations: Any, weights: Any) -> Any:
    """Bytes of even and odd places widened to 16 bits: the form that LLVM knows as `pmaddwd` and its relatives."""
    eight, low = ir.Constant(_HALVES, [8] * 2 * PANEL), ir.Constant(_HALVES, [255] * 2 * PANEL)
    left, right = builder.bitcast(activations, _HALVES), builder.bitcast(weights, _HALVES)
    even = builder.and_(left, low), builder.ashr(builder.shl(right, eight), eight)
    odd = builder.lshr(left, eight), builder.ashr(right, eight)
    for pair in (even, odd):
        sums = builder.add(sums, _dot_halves(builder, *pair))
    return sums


DOTS: dict[str, tuple[str | None, Dot]] = {
    "avx512_vnni": ("avx512vnni", _dot_avx512),
    "avx_vnni": ("avxvnni", _dot_avx),
    "portable": (None, _dot_portable),
}
"""Products of bytes, the widest first: the processor feature that each one needs, and its code."""


def available_dots() -> list[str]:
    """Names of the products that this processor has, the widest first."""
    flags = processor().features.split(",")
    return [name for name, (feature, _) in DOTS.items() if feature is None or f"+{feature}" in flags]


def chosen_dot() -> str:
    """The widest product, or the one that ACCEL_DOT names; InputError if the processor does not have it."""
    names = available_dots()
    name = os.environ.get("ACCEL_DOT", names[0])
    if name not in names:
        raise InputError(f"ACCEL_DOT must be one of {', '.join(names)} on this processor, got {name!r}")
    return name


DOT = chosen_dot()
"""The product that kernels use."""


def sum_block_vectors_of(dot: str) -> Any:
    """`sim.fast.matmul.sum_block_plain` on addresses, with a product of `DOTS`."""

    def sum_block_vectors(
        context: Any, spad: Any, places: Any, taps: Any, chunks: Any, quads: Any, weights: Any, first: Any, sums: Any,
        step: Any, accumulate: Any,
    ) -> Any:  # fmt: skip
        return _sum_block(DOTS[dot][1])

    return intrinsic(sum_block_vectors)


def _sum_block(dot: Dot) -> Any:
    """Signature and code of loops over taps, chunks and quads, sums in registers."""
    from numba import types

    signature = types.void(*[types.int64] * 10)

    def generate(target: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        spad, places, taps, chunks, quads, weights, first, sums, step, accumulate = arguments
        names = ("tap", "chunk", "quad", "chunk_end", "tap_end", "done")
        entry = builder.block
        tap_loop, chunk_loop, quad_loop, chunk_end, tap_end, done = map(builder.append_basic_block, names)
        tile_bytes = builder.shl(quads, constant(6))
        targets = [pointer(builder, builder.add(sums, builder.mul(step, constant(i))), _SUMS) for i in range(BLOCK)]
        kept = splat(builder, builder.neg(builder.trunc(accumulate, _I32)))
        first = load(builder, _SUMS, first)
        starts = [builder.add(first, builder.and_(builder.load(place, align=4), kept)) for place in targets]
        builder.branch(tap_loop)

        builder.position_at_end(tap_loop)
        tap = phi(builder, _I64, entry, constant(0))
        outer = [phi(builder, _SUMS, entry, start) for start in starts]
        place = builder.add(places, builder.mul(tap, constant(16 * BLOCK)))
        starts = [load(builder, _I64, builder.add(place, constant(8 * i))) for i in range(BLOCK)]
        starts = [builder.add(spad, start) for start in starts]
        first_weight = builder.add(weights, builder.mul(tap, tile_bytes))
        builder.branch(chunk_loop)

        builder.position_at_end(chunk_loop)
        chunk = phi(builder, _I64, tap_loop, constant(0))
        weight = phi(builder, _I64, tap_loop, first_weight)
        pixels = [phi(builder, _I64, tap_loop, start) for start in starts]
        middle = [phi(builder, _SUMS, tap_loop, total) for total in outer]
        builder.branch(quad_loop)

        builder.position_at_end(quad_loop)
        quad = phi(builder, _I64, chunk_loop, constant(0))
        inner = [phi(builder, _SUMS, chunk_loop, total) for total in middle]
        right = load(builder, _SUMS, builder.add(weight, builder.shl(quad, constant(6))))
        offset = builder.shl(quad, constant(2))
        totals = [
            dot(builder, total, splat(builder, load(builder, _I32, builder.add(pixel, offset))), right)
            for total, pixel in zip(inner, pixels, strict=True)
        ]
        repeat(builder, (quad, quads), (quad_loop, chunk_end), inner, totals)

        builder.position_at_end(chunk_end)
        steps = [load(builder, _I64, builder.add(place, constant(8 * (BLOCK + i)))) for i in range(BLOCK)]
        steps = [builder.add(p, step) for p, step in zip(pixels, steps, strict=True)]
        next_weight = builder.add(weight, builder.mul(tile_bytes, taps))
        repeat(
            builder, (chunk, chunks), (chunk_loop, tap_end), [weight, *pixels, *middle], [next_weight, *steps, *totals]
        )

        builder.position_at_end(tap_end)
        repeat(builder, (tap, taps), (tap_loop, done), outer, totals)

        builder.position_at_end(done)
        for total, place in zip(totals, targets, strict=True):
            builder.store(total, place, align=4)
        return target.get_dummy_value()

    return signature, generate


@intrinsic
def multiply_add_vectors(
    context: Any, sums: Any, left: Any, right: Any, rows: Any, vectors: Any, right_step: Any
) -> Any:
    """``sums += left * right``, modulo 2**32, for rows of `vectors` times `PANEL` int32 each.

    The next row of sums is the one before, of left the one after, and of right `right_step` elements further on.
    """
    from numba import types

    signature = types.void(*[types.int64] * 6)

    def generate(target: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        *addresses, rows, vectors, right_step = arguments
        entry = builder.block
        row_loop, loop, row_end, done = map(builder.append_basic_block, ("row", "vector", "row_end", "done"))
        row_bytes = builder.shl(vectors, constant(6))
        steps = [builder.neg(row_bytes), row_bytes, builder.shl(right_step, constant(2))]
        builder.cbranch(builder.icmp_signed(">", rows, constant(0)), row_loop, done)

        builder.position_at_end(row_loop)
        row = phi(builder, _I64, entry, constant(0))
        starts = [phi(builder, _I64, entry, address) for address in addresses]
        builder.branch(loop)

        builder.position_at_end(loop)
        vector = phi(builder, _I64, row_loop, constant(0))
        offset = builder.shl(vector, constant(6))
        places = [pointer(builder, builder.add(start, offset), _SUMS) for start in starts]
        total, left, right = (builder.load(place, align=4) for place in places)
        builder.store(builder.add(total, builder.mul(left, right)), places[0], align=4)
        repeat(builder, (vector, vectors), (loop, row_end), [], [])

        builder.position_at_end(row_end)
        following = [builder.add(start, step) for start, step in zip(starts, steps, strict=True)]
        repeat(builder, (row, rows), (row_loop, done), starts, following)
        builder.position_at_end(done)
        return target.get_dummy_value()

    return signature, generate


def repeat(builder: Any, count: Any, blocks: Any, phis: list[Any], values: list[Any]) -> None:
    """Close the loop of ``count = (index, limit)`` and ``blocks = (loop, next)``, handing `values` on to `phis`."""
    (index, limit), (loop, following), here = count, blocks, builder.block
    increment = builder.add(index, constant(1))
    for node, value in zip([index, *phis], [increment, *values], strict=True):
        node.add_incoming(value, here)
    builder.cbranch(builder.icmp_signed("<", increment, limit), loop, following)


def constant(value: int) -> Any:
    """A constant of 64 bits."""
    return ir.Constant(_I64, value)


def phi(builder: Any, kind: Any, block: Any, value: Any) -> Any:
    """A value of a loop that starts with `value` when `block` enters it."""
    node = builder.phi(kind)
    node.add_incoming(value, block)
    return node


def load(builder: Any, kind: Any, address: Any) -> Any:
    """The value at an address of any alignment."""
    return builder.load(pointer(builder, address, kind), align=1)


def pointer(builder: Any, address: Any, kind: Any) -> Any:
    """An address as a pointer."""
    return builder.inttoptr(address, kind.as_pointer())


def splat(builder: Any, value: Any) -> Any:
    """`value` (32 bits) in every lane."""
    single = builder.insert_element(_UNDEFINED, value, ir.Constant(_I32, 0))
    return builder.shuffle_vector(single, _UNDEFINED, ir.Constant(_SUMS, [0] * PANEL))


def call(builder: Any, name: str, kind: Any, operands: list[Any]) -> Any:
    """A call of an LLVM intrinsic whose operands are all of the type of its result."""
    function = builder.module.globals.get(name)
    if function is None:
        function = ir.Function(builder.module, ir.FunctionType(kind, [kind] * len(operands)), name)
    return builder.call(function, operands)


def _dot_halves(builder: Any, left: Any, right: Any) -> Any:
    """Products of neighbours (16 bits each), added."""
    product = builder.mul(builder.sext(left, _WIDE), builder.sext(right, _WIDE))
    even, odd = (ir.Constant(_SUMS, list(range(start, 2 * PANEL, 2))) for start in (0, 1))
    nothing = ir.Constant(_WIDE, ir.Undefined)
    return builder.add(builder.shuffle_vector(product, nothing, even), builder.shuffle_vector(product, nothing, odd))
