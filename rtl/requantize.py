"""One lane of requantization."""

from __future__ import annotations

from itertools import pairwise

from amaranth.hdl import Cat, Const, Module, Mux, Shape, Signal, signed
from amaranth.lib.wiring import In, Out

from accel.machine.config import ArchConfig
from accel.machine.numerics import INT32_MAX, INT32_MIN, RequantMode
from accel.machine.timing import REQUANTIZE_LATENCY
from rtl.blocks import Block
from rtl.pipeline import delayed


def normalise(m: Module, value, name: str, steps: tuple[int, ...]):
    """Non-negative `value` shifted left until its top bit is set or the `steps` are over; which of them, last first.

    Steps that halve half of the value's bits do it; taken to the end, they are the bits of how far it was shifted.
    """
    places = []
    for step in steps:
        empty, shifted = Signal(name=f"{name}_by_{step}"), Signal(len(value), name=f"{name}_{step}")
        m.d.comb += [empty.eq(~value[-step:].any()), shifted.eq(Mux(empty, value << step, value))]
        value = shifted
        places.insert(0, empty)
    return value, Cat(places)


ROUNDED = 8
"""Bits that a 24-bit significand leaves of 32."""

HALF = 16
"""Bits of the lower half of a factor."""


def rounds_up(value, bits: int):
    """Whether non-negative `value` divided by 2**bits is rounded up: to nearest, ties to even."""
    kept, rest = value[bits:], value[:bits]
    return rest[-1] & (rest[:-1].any() | kept[0])


def round_half_even(value, bits: int):
    """Non-negative `value` divided by 2**bits, to nearest, ties to even."""
    return value[bits:] + rounds_up(value, bits)


class Requantizer(Block):
    """`x * multiplier * 2**(shift - 31)` rounded as `accel.machine.numerics` defines it: one result per cycle.

    Only the modes in `config.requant_modes` are built.

    Every result is a number shifted right and rounded. Stages: (1) the factor: in tflite x shifted left by a multiple
    of 8, in single x, in fp32 its magnitude; (2) in tflite the rest of that shift, in fp32 the factor shifted left by a
    multiple of 8; (3) in fp32 the factor with its top bit set, and whether its 24-bit significand is rounded up; (4)
    the amount of the shift; products of the factor's and the multiplier's halves; (5) the product; (6) the number
    to shift: in tflite the product's rounded upper half, in single the product, in fp32 its 24-bit significand; (7) the
    shift, and what it cuts off; (8) the mode's rounding, saturation.

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

    module = "requantizer"
    latency = REQUANTIZE_LATENCY

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

    def build(self, platform: object) -> Module:
        m = Module()
        negative = delayed(m, self.x[31], self.latency - 1, "negative")
        stages = range(1, self.latency - 1)
        mode = [self.mode, *(Signal.like(self.mode, name=f"mode_{stage}", reset_less=True) for stage in stages)]
        m.d.sync += [later.eq(earlier) for earlier, later in pairwise(mode)]
        factor, amount, up = self._factor(m, mode)
        product = self._product(m, factor, delayed(m, self.multiplier[:31], 3, "multiplier"), up)
        number, right, overflow = self._number(m, mode[5], product, delayed(m, amount, 1, "amount"))
        self._round(m, mode[6], number, right, overflow, negative)
        return m

    def _cases(self, m: Module, mode):
        """The modes that are built, each in the context in which it is selected."""
        with m.Switch(mode):
            for case in self._modes:
                with m.Default() if case == self._modes[-1] else m.Case(case.code):
                    yield case

    def _factor(self, m: Module, mode):
        """Stages 1 to 3: the factor, and whether it is rounded up; (4) how far the product is shifted right in the end
        (fp32: plus 0 or 1).
        """
        first, second = (Signal(signed(32), name=name, reset_less=True) for name in ("first", "second"))
        left = self.shift & (~self.shift[-1]).replicate(len(self.shift))
        left_1 = delayed(m, left[:3], 1, "left")
        # In tflite, what is left of the shift behind the product goes to the right.
        behind = delayed(m, self.shift, 2, "shift")
        shift = Signal.like(behind, name="shift_behind", reset_less=True)
        factor = Signal(signed(33), reset_less=True)
        base = Signal(6, reset_less=True)
        amount = Signal(signed(9), reset_less=True)
        up = Signal(reset_less=True)
        for case in self._cases(m, mode[0]):
            if case is RequantMode.TFLITE:
                m.d.sync += first.eq(self.x << Cat(Const(0, 3), left[3:5]))
            elif case is RequantMode.SINGLE:
                m.d.sync += first.eq(self.x)
            else:
                m.d.sync += first.eq(abs(self.x)[:32])
        coarse = Const(0, 2)
        for case in self._cases(m, mode[1]):
            if case is RequantMode.TFLITE:
                m.d.sync += second.eq(first << left_1)
            elif case is RequantMode.SINGLE:
                m.d.sync += second.eq(first)
            else:
                magnitude, steps = normalise(m, first.as_unsigned(), "coarse", (16, 8))
                coarse = delayed(m, steps, 1, "coarse")
                m.d.sync += second.eq(magnitude)
        m.d.sync += amount.eq(base - shift)
        for case in self._cases(m, mode[2]):
            if case is RequantMode.TFLITE:
                m.d.sync += [factor.eq(second), up.eq(0), base.eq(0), shift.eq(Mux(behind >= 0, 0, behind))]
            elif case is RequantMode.SINGLE:
                m.d.sync += [factor.eq(second), up.eq(0), base.eq(31), shift.eq(behind)]
            else:
                magnitude, fine = normalise(m, second.as_unsigned(), "fine", (4, 2, 1))
                m.d.sync += [
                    factor.eq(magnitude[ROUNDED:]),
                    up.eq(rounds_up(magnitude, ROUNDED)),
                    base.eq(Cat(fine, coarse)),
                    shift.eq(behind),
                ]
        return factor, amount, up

    def _product(self, m: Module, factor, multiplier, up) -> Signal:
        """Stages 4 and 5: (factor + up) * multiplier, from products of halves."""
        low, high = factor[:HALF], factor[HALF:].as_signed()
        parts = {
            name: delayed(m, a * b, 1, name)
            for name, a, b in (
                ("low_low", low, multiplier[:HALF]),
                ("low_high", low, multiplier[HALF:]),
                ("high_low", high, multiplier[:HALF]),
                ("high_high", high, multiplier[HALF:]),
            )
        }
        rounding = delayed(m, Mux(up, multiplier, 0), 1, "rounding")
        product = Signal(signed(63), reset_less=True)
        m.d.sync += product.eq(
            Cat(parts["low_low"], parts["high_high"]).as_signed()
            + ((parts["low_high"] + parts["high_low"]) << HALF)
            + rounding
        )
        return product

    def _number(self, m: Module, mode, product, amount):
        """Stage 6: the number, its shift to the right, and whether the result must saturate."""
        number = Signal(signed(63 if RequantMode.SINGLE in self._modes else 33), reset_less=True)
        right = Signal(6, reset_less=True)
        beyond, some = (Signal(name=name, reset_less=True) for name in ("beyond", "some"))
        for case in self._cases(m, mode):
            if case is RequantMode.TFLITE:
                m.d.sync += [number.eq(product[31:].as_signed() + product[30]), right.eq(amount)]
            elif case is RequantMode.SINGLE:
                m.d.sync += [number.eq(product), right.eq(amount)]
            else:
                top = product[54]
                places = Signal(signed(10))
                significand = Signal(55)
                m.d.comb += [significand.eq(Mux(top, product, product << 1)), places.eq(amount - top)]
                m.d.sync += [
                    number.eq(round_half_even(significand, 31) << 7),
                    right.eq(Mux(places > 63, 63, places)),
                    beyond.eq(places < 0),
                    some.eq(product.any()),
                ]
        return number, right, beyond & some

    def _round(self, m: Module, mode, number, right, overflow, negative) -> None:
        """Stages 7 and 8: the shift, the half that is cut off, what lies below it, and the mode's decision."""
        floor = delayed(m, (number >> right)[:32], 1, "floor")
        # Bit i is the half that is cut off if i + 1 = right, and below it if i + 1 < right, which is 63 at most.
        half = Cat(number[i] & (right == i + 1) for i in range(len(number))).any()
        below = Cat(number[i] & (right > i + 1) for i in range(len(number) - 2)).any()
        tie_or_more, rest = delayed(m, half, 1, "tie_or_more"), delayed(m, below, 1, "rest")
        overflow = delayed(m, overflow, 1, "overflowed")
        # Whether a tie is rounded up: always, or if the result is odd.
        always, if_odd = (Signal(name=name, reset_less=True) for name in ("always", "if_odd"))
        up = Signal()
        sign = Signal()
        kept = Signal(32)
        y = Signal.like(self.y, reset_less=True)
        # -(floor + up) = ~floor + ~up: one addition for both signs.
        m.d.comb += [
            up.eq(tie_or_more & (rest | always | (if_odd & floor[0]))),
            kept.eq((floor ^ sign.replicate(32)) + (up ^ sign)),
            self.y.eq(y),
        ]
        m.d.sync += [y.eq(kept), if_odd.eq(0)]
        for case in self._cases(m, mode):
            if case is RequantMode.TFLITE:
                m.d.sync += always.eq(~number[-1])
            elif case is RequantMode.SINGLE:
                m.d.sync += always.eq(1)
            else:
                m.d.sync += [always.eq(0), if_odd.eq(1)]
        if RequantMode.FP32 in self._modes:
            m.d.comb += sign.eq(if_odd & negative)
            with m.If(if_odd & (overflow | (kept[31] & ~negative))):
                m.d.sync += y.eq(Mux(negative, INT32_MIN, INT32_MAX))
