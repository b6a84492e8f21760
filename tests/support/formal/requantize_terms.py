"""The definition of requantization in `accel.machine.numerics` as SMT terms, apart from the product.

A multiplier of 32 x 32 bits defeats solvers, so the definition has two halves: the factor that is multiplied by q, and
the result of a product that may be any number. Terms of `WIDE` bits never overflow.
"""

from __future__ import annotations

import z3

from accel.machine.numerics import INT32_MAX, INT32_MIN, RequantMode

WIDE = 72
SIGNIFICAND_BITS = 24


def wide(value: z3.BitVecRef) -> z3.BitVecRef:
    """A signed value in `WIDE` bits."""
    return z3.SignExt(WIDE - value.size(), value)


def factor(mode: RequantMode, x: z3.BitVecRef, shift: z3.BitVecRef) -> z3.BitVecRef:
    """What is multiplied by q. In fp32: the significand of float32(abs(x)), scaled to [2**23, 2**24]."""
    if mode is RequantMode.TFLITE:
        return wide(x << z3.SignExt(24, z3.If(shift > 0, shift, 0)))
    if mode is RequantMode.SINGLE:
        return wide(x)
    normalised = z3.ZeroExt(WIDE - 32, _magnitude(x) << z3.Extract(31, 0, leading_zeros(x)))
    return round_half_even(normalised, z3.BitVecVal(32 - SIGNIFICAND_BITS, WIDE))


def result(mode: RequantMode, x: z3.BitVecRef, product: z3.BitVecRef, shift: z3.BitVecRef) -> z3.BitVecRef:
    """The result, 32 bits, from factor times q."""
    product, shift = wide(product), wide(shift)
    if mode is RequantMode.TFLITE:
        high = (product + (1 << 30)) >> 31
        return z3.Extract(31, 0, round_half_away(high, z3.If(shift < 0, -shift, 0)))
    if mode is RequantMode.SINGLE:
        return z3.Extract(31, 0, (product + (_one() << (30 - shift))) >> (31 - shift))
    cut = z3.If(
        z3.Extract(54, 54, product) == 1,
        z3.BitVecVal(55 - SIGNIFICAND_BITS, WIDE),
        z3.BitVecVal(54 - SIGNIFICAND_BITS, WIDE),
    )
    single = round_half_even(product, cut) << cut  # float32(product)
    right = leading_zeros(x) - shift + (31 - (32 - SIGNIFICAND_BITS))
    return _signed_saturated(x, round_half_even(single << 7, _at_most(right + 7, WIDE - 2)))


def _signed_saturated(x: z3.BitVecRef, magnitude: z3.BitVecRef) -> z3.BitVecRef:
    limit = z3.If(x < 0, z3.BitVecVal(-INT32_MIN, WIDE), z3.BitVecVal(INT32_MAX, WIDE))
    low = z3.Extract(31, 0, _at_most(magnitude, limit))
    return z3.If(x < 0, -low, low)


def round_half_even(value: z3.BitVecRef, bits: z3.BitVecRef) -> z3.BitVecRef:
    """Non-negative `value / 2**bits`, to nearest, ties to even."""
    floor, rest, half = z3.LShR(value, bits), value & ((_one() << bits) - 1), z3.LShR(_one() << bits, 1)
    up = z3.Or(z3.UGT(rest, half), z3.And(rest == half, bits != 0, z3.Extract(0, 0, floor) == 1))
    return floor + z3.If(up, _one(), 0)


def round_half_away(value: z3.BitVecRef, bits: z3.BitVecRef) -> z3.BitVecRef:
    """`value / 2**bits`, to nearest, ties away from zero."""
    magnitude = z3.LShR(_magnitude(value) + z3.LShR(_one() << bits, 1), bits)
    return z3.If(value < 0, -magnitude, magnitude)


def leading_zeros(x: z3.BitVecRef) -> z3.BitVecRef:
    """Of the magnitude of `x`, 32 bits."""
    magnitude, zeros = _magnitude(x), z3.BitVecVal(32, WIDE)
    for bit in range(32):
        zeros = z3.If(z3.Extract(bit, bit, magnitude) == 1, z3.BitVecVal(31 - bit, WIDE), zeros)
    return zeros


def _magnitude(x: z3.BitVecRef) -> z3.BitVecRef:
    return z3.If(x < 0, -x, x)


def _at_most(value: z3.BitVecRef, limit: z3.BitVecRef | int) -> z3.BitVecRef:
    return z3.If(value > limit, limit, value)


def _one() -> z3.BitVecRef:
    return z3.BitVecVal(1, WIDE)
