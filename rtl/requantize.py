"""One lane of requantization."""

from __future__ import annotations

from itertools import pairwise

from amaranth.hdl import Cat, Module, Mux, Shape, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from accel.machine.config import ArchConfig
from accel.machine.numerics import INT32_MAX, INT32_MIN, RequantMode
from rtl.pipeline import delayed


def normalise(m: Module, value, name: str):
    """Non-negative `value` of 2**n bits shifted left until its top bit is set, and by how much."""
    places = []
    step = len(value) // 2
    while step:
        empty, shifted = Signal(name=f"{name}_by_{step}"), Signal(len(value), name=f"{name}_{step}")
        m.d.comb += [empty.eq(~value[-step:].any()), shifted.eq(Mux(empty, value << step, value))]
        value = shifted
        places.insert(0, empty)
        step //= 2
    return value, Cat(places)


def round_half_even(value, bits: int):
    """Non-negative `value` divided by 2**bits, to nearest, ties to even."""
    kept, rest = value[bits:], value[:bits]
    return kept + (rest[-1] & (rest[:-1].any() | kept[0]))


class Requantizer(wiring.Component):
    """`x * multiplier * 2**(shift - 31)` rounded as `accel.machine.numerics` defines it: one result per cycle.

    Only the modes in `config.requant_modes` are built.

    Every result is a number shifted right and rounded. Stages: (1) the factor and the amount of the shift: in tflite x
    shifted left, in single x, in fp32 its magnitude as a 24-bit significand; (2) the product; (3) the number to shift:
    in tflite the product's rounded upper half, in single the product, in fp32 its 24-bit significand; (4) the shift,
    the mode's rounding, saturation.

    Members
    -------
    x : In, signed 32 bits
    multiplier : In, 32 bits
        In [0, 2**31); fp32: zero or at least 2**30, and a multiple of 128.
    shift : In, signed 8 bits
        In [-31, 30]; fp32: [-125, 30].
    mode : In, a `RequantMode.code`
    y : Out, signed 32 bits
        The result for the inputs of `latency` cycles ago.
    """

    latency = 4

    def __init__(self, config: ArchConfig):
        self._modes = [RequantMode(mode) for mode in config.requant_modes]
        super().__init__(
            {
                "x": In(signed(32)),
                "multiplier": In(32),
                "shift": In(signed(8)),
                "mode": In(Shape.cast(range(len(RequantMode)))),
                "y": Out(signed(32)),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        negative = delayed(m, self.x[31], 3, "negative")
        mode = [self.mode, *(Signal.like(self.mode, name=f"mode_{stage}", reset_less=True) for stage in (1, 2, 3))]
        m.d.sync += [later.eq(earlier) for earlier, later in pairwise(mode)]
        factor, amount = self._factor(m, mode[0])
        multiplier = delayed(m, self.multiplier[:31], 1, "multiplier")
        product = delayed(m, factor * multiplier, 1, "product")
        number, right, overflow = self._number(m, mode[2], product, delayed(m, amount, 1, "amount"))
        self._round(m, mode[3], number, right, overflow, negative)
        return m

    def _cases(self, m: Module, mode):
        """The modes that are built, each in the context in which it is selected."""
        with m.Switch(mode):
            for case in self._modes:
                with m.Default() if case == self._modes[-1] else m.Case(case.code):
                    yield case

    def _factor(self, m: Module, mode):
        """Stage 1: the factor, and how far the product is to be shifted right in the end (fp32: plus 0 or 1)."""
        factor, amount = Signal(signed(32), reset_less=True), Signal(signed(9), reset_less=True)
        x, shift = self.x, self.shift
        for case in self._cases(m, mode):
            if case is RequantMode.TFLITE:
                m.d.sync += factor.eq(Mux(shift < 0, x, x << shift[:5].as_unsigned()))
                m.d.sync += amount.eq(Mux(shift < 0, -shift, 0))
            elif case is RequantMode.SINGLE:
                m.d.sync += [factor.eq(x), amount.eq(31 - shift)]
            else:
                magnitude, places = normalise(m, abs(x)[:32], "normalised")
                m.d.sync += [factor.eq(round_half_even(magnitude, 8)), amount.eq(places - shift)]
        return factor, amount

    def _number(self, m: Module, mode, product, amount):
        """Stage 3: the number, its shift to the right, and whether the result must saturate."""
        number = Signal(signed(63 if RequantMode.SINGLE in self._modes else 33), reset_less=True)
        right, overflow = Signal(6, reset_less=True), Signal(reset_less=True)
        for case in self._cases(m, mode):
            if case is RequantMode.TFLITE:
                m.d.sync += [number.eq((product + (1 << 30)) >> 31), right.eq(amount)]
            elif case is RequantMode.SINGLE:
                m.d.sync += [number.eq(product), right.eq(amount)]
            else:
                top, places, significand = product[54], Signal(signed(10)), Signal(55)
                m.d.comb += [significand.eq(Mux(top, product, product << 1)), places.eq(amount - top)]
                m.d.sync += [
                    number.eq(round_half_even(significand, 31) << 7),
                    right.eq(Mux(places > 63, 63, places)),
                    overflow.eq((places < 0) & product.any()),
                ]
        return number, right, overflow

    def _round(self, m: Module, mode, number, right, overflow, negative) -> None:
        """Stage 4: the half that is cut off, what lies below it, and the mode's decision."""
        half, floor, kept, up = Signal(len(number)), Signal(signed(32)), Signal(signed(32)), Signal()
        y = Signal.like(self.y, reset_less=True)
        m.d.comb += [half.eq((1 << right) >> 1), floor.eq(number >> right), kept.eq(floor + up), self.y.eq(y)]
        tie_or_more, rest = (number & half).any(), (number & (half - 1)).any()
        m.d.sync += y.eq(kept)
        for case in self._cases(m, mode):
            if case is RequantMode.TFLITE:
                m.d.comb += up.eq(tie_or_more & (rest | ~number[-1]))
            elif case is RequantMode.SINGLE:
                m.d.comb += up.eq(tie_or_more)
            else:
                m.d.comb += up.eq(tie_or_more & (rest | floor[0]))
                with m.If(overflow | (kept[31] & ~negative)):
                    m.d.sync += y.eq(Mux(negative, INT32_MIN, INT32_MAX))
                with m.Elif(negative):
                    m.d.sync += y.eq(-kept)
