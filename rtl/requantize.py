"""One lane of requantization."""

from __future__ import annotations

from collections.abc import Sequence

from amaranth.hdl import Cat, Const, Module, Mux, Shape, Signal, Value, signed
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from accel.machine.config import ArchConfig
from accel.machine.latencies import REQUANTIZE_LATENCY
from accel.machine.numerics import RequantMode
from rtl.blocks import Block
from rtl.pipeline import delayed, one_hot


def leading_zeros(blocks: Sequence[Value]) -> Value:
    """How many of `blocks`, a power of two of them, are 0 before the first that is not; all but one if all are."""
    half = len(blocks) // 2
    empty = ~Cat(blocks[:half]).any()
    if half == 1:
        return empty
    return Cat(Mux(empty, leading_zeros(blocks[half:]), leading_zeros(blocks[:half])), empty)


def normalise(m: Module, value: Value, name: str, width: int, count: int, enable: Value | int = 1):
    """`value` shifted left until its first block of `width` bits is not 0, by `count - 1` blocks at most; by how many.

    Without `enable` it is not shifted.
    """
    places, end = Signal(exact_log2(count), name=f"{name}_places"), len(value)
    blocks = [value[end - (block + 1) * width : end - block * width] for block in range(count)]
    m.d.comb += places.eq(Mux(enable, leading_zeros(blocks), 0))
    return (value << Cat(Const(0, exact_log2(width)), places))[:end], places


ROUNDED = 8
"""Bits that a 24-bit significand leaves of 32."""

HALF = 16
"""Bits of the lower half of a factor."""

NUMBER_BITS = 34
"""Of a number that is rounded before it is shifted, with its sign: below 2**33, as a significand may have 25 bits."""


def rounds_up(value, bits: int):
    """Whether non-negative `value` divided by 2**bits is rounded up: to nearest, ties to even."""
    kept, rest = value[bits:], value[:bits]
    return rest[-1] & (rest[:-1].any() | kept[0])


class Requantizer(Block):
    """`x * multiplier * 2**(shift - 31)` rounded as `accel.machine.numerics` defines it: one result per cycle.

    Only the modes in `config.requant_modes` are built.

    Every result is a number shifted right and rounded. Stages: (1) in tflite x shifted left by a multiple of 8, in
    single x, in fp32 its magnitude; (2) in tflite the rest of that shift, in fp32 the magnitude shifted left by a
    multiple of 8; (3) in fp32 the magnitude with its top bit set; (4) the halves of the factor, in fp32 that is the
    rounded 24-bit significand; (5) products of the factor's and the multiplier's halves; (6) the product; (7) the
    number to shift: in tflite the product's rounded upper half, in single the product, in fp32 its 24-bit significand;
    (8) the shift, and what it cuts off; (9) the mode's rounding, saturation.

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
        modes = [Cat(self.mode == case.code for case in RequantMode)]
        for stage in range(1, self.latency):
            modes.append(delayed(m, modes[-1], 1, f"mode{stage}"))
        low, high, amount = self._factor(m, modes)
        product, rest = self._product(m, low, high, delayed(m, self.multiplier[:31], 4, "multiplier"))
        number, right, overflow = self._number(m, modes[6], product, rest, delayed(m, amount, 1, "amount"))
        self._round(m, modes[7], number, right, overflow, negative)
        return m

    def _is(self, case: RequantMode, mode: Value) -> Value:
        """Whether `case` is the mode, of which `mode` has one bit for each; constant where there is no choice."""
        return mode[case.code] if case in self._modes and len(self._modes) > 1 else Const(int(case in self._modes))

    def _factor(self, m: Module, modes: Sequence[Value]) -> tuple[Signal, Signal, Signal]:
        """Stages 1 to 4: the factor's lower half, 2**HALF at most, and its upper; how far the product goes right."""
        tflite, fp32 = ([self._is(case, mode) for mode in modes] for case in (RequantMode.TFLITE, RequantMode.FP32))
        first, second, third = (Signal(32, name=name, reset_less=True) for name in ("first", "second", "third"))
        left = self.shift & (tflite[0] & ~self.shift[-1]).replicate(len(self.shift))
        left_1 = delayed(m, left[:3], 1, "left")
        m.d.sync += first.eq(self.x << Cat(Const(0, 3), left[3:5]))
        shifted, zeros = (first << left_1)[:32], Const(0, 5)
        if RequantMode.FP32 in self._modes:
            negative = self.x[31]
            magnitude = delayed(m, ((self.x ^ negative.replicate(32)) + negative)[:32], 1, "magnitude")
            coarsely, coarse = normalise(m, magnitude, "coarse", 8, 4)
            finely, fine = normalise(m, second, "fine", 1, 8, fp32[2])
            zeros = Cat(fine, delayed(m, coarse, 1, "coarse"))
            m.d.sync += [second.eq(Mux(fp32[1], coarsely, shifted)), third.eq(finely)]
        else:
            m.d.sync += [second.eq(shifted), third.eq(second)]
        low = Signal(HALF + 1, reset_less=True)
        high = Signal(signed(HALF), reset_less=True)
        up = fp32[3] & rounds_up(third, ROUNDED)
        m.d.sync += [
            low.eq(Mux(fp32[3], third[ROUNDED : ROUNDED + HALF], third[:HALF]) + up),
            high.eq(Mux(fp32[3], third[ROUNDED + HALF :], third[HALF:])),
        ]
        # In tflite, what is left of the shift behind the product goes to the right.
        behind = delayed(m, self.shift, 2, "shift")
        shift = Signal.like(behind, name="shift_behind", reset_less=True)
        base = Signal(5, reset_less=True)
        amount = Signal(signed(9), reset_less=True)
        single = self._is(RequantMode.SINGLE, modes[2])
        m.d.sync += [
            base.eq(Mux(fp32[2], zeros, single.replicate(5))),
            shift.eq(Mux(tflite[2] & ~behind[-1], 0, behind)),
            amount.eq(base - shift),
        ]
        return low, high, amount

    def _product(self, m: Module, low: Signal, high: Signal, multiplier: Value) -> tuple[Signal, Signal]:
        """Stages 5 and 6: factor * multiplier, from products of halves; whether any of its lowest `HALF` bits is 1."""
        parts = {
            name: delayed(m, a * b, 1, name)
            for name, a, b in (
                ("low_low", low, multiplier[:HALF]),
                ("low_high", low, multiplier[HALF:]),
                ("high_low", high, multiplier[:HALF]),
                ("high_high", high, multiplier[HALF:]),
            )
        }
        lowest = parts["low_low"][: 2 * HALF]
        product = Signal(signed(63), reset_less=True)
        # Of three numbers, sums and carries of each bit by itself, so that there is one carry chain.
        outer = Cat(lowest[HALF:], parts["high_high"]).as_signed()
        middle = {name: Signal.like(outer, name=f"{name}_extended") for name in ("low_high", "high_low")}
        m.d.comb += [wide.eq(parts[name]) for name, wide in middle.items()]
        one, other = middle.values()
        sums = outer ^ one ^ other
        carries = (outer & one) | (outer & other) | (one & other)
        m.d.sync += product.eq(Cat(lowest[:HALF], sums + (carries << 1)))
        return product, delayed(m, lowest[:HALF].any(), 1, "lowest_any")

    def _number(self, m: Module, mode: Value, product: Signal, lowest_any: Signal, amount: Signal):
        """Stage 7: the number, and whether the result must saturate; after stage 6, the number's shift to the right."""
        tflite, single, fp32 = (self._is(case, mode) for case in RequantMode)
        # An fp32 product has 54 or 55 bits. Of 55, the lowest of 25 bits is cut off, not shifted out.
        longer = product[54]
        rest = lowest_any | product[HALF:29].any()
        # To nearest: what is added does not wait for whether it is a tie, which then makes the lowest bit even.
        halves = Cat(product[29] & ~longer, product[30] & longer) & fp32.replicate(2)
        ties = halves & ~Cat(rest, rest | product[29])
        cut = Cat(product[30] & ~longer, product[31:55])
        upper = product[31:].as_signed()
        whole = one_hot(
            (
                (tflite, Cat(upper, upper[-1].replicate(NUMBER_BITS - len(upper)))),
                (single, product[:NUMBER_BITS]),
                (fp32, Cat(Const(0, 7), cut, Const(0, NUMBER_BITS - 7 - len(cut)))),
            )
        )
        rounded = (whole + Cat(tflite & product[30], Const(0, 6), halves))[:NUMBER_BITS]
        number = delayed(m, Cat(rounded[:7], rounded[7:9] & ~ties, rounded[9:]), 1, "number")
        if RequantMode.SINGLE in self._modes:
            minus = tflite & product[-1] & ~product[30:].all()
            further = Mux(single, product[NUMBER_BITS:], minus.replicate(63 - NUMBER_BITS))
            number = Cat(number, delayed(m, further, 1, "further"))
        right = delayed(m, Mux(amount > 63, 63, amount)[:6], 1, "right")
        before_0, at_0 = delayed(m, amount[-1], 1, "before_0"), delayed(m, amount == 0, 1, "at_0")
        overflow = delayed(m, (before_0 | (at_0 & longer)) & product[53:55].any(), 1, "overflow")
        return number.as_signed(), right, overflow

    def _round(self, m: Module, mode: Value, number: Value, right: Signal, overflow: Value, negative: Value) -> None:
        """Stages 8 and 9: the shift, the half that is cut off, what lies below it, and the mode's decision.

        `right` comes a stage ahead, to be compared with every position, by eights and the rest.
        """
        eight_is, one_is, eight_after, one_after = (
            delayed(m, compared[:8], 1, name)
            for name, compared in (
                ("eight_is", Const(1, 8) << right[3:]),
                ("one_is", Const(1, 8) << right[:3]),
                ("eight_after", ~(Const(0xFF, 8) << right[3:])),
                ("one_after", ~(Const(0xFF, 8) << right[:3])),
            )
        )
        # Bit i is the half that is cut off if i + 1 = right, and below it if i + 1 < right, which is 63 at most.
        half = Cat(number[i] & eight_is[(i + 1) // 8] & one_is[(i + 1) % 8] for i in range(len(number))).any()
        below = Cat(
            number[i] & (eight_after[(i + 1) // 8] | (eight_is[(i + 1) // 8] & one_after[(i + 1) % 8]))
            for i in range(len(number) - 2)
        ).any()
        floor = delayed(m, (number >> delayed(m, right, 1, "right_again"))[:32], 1, "floor")
        tie_or_more, rest = delayed(m, half, 1, "tie_or_more"), delayed(m, below, 1, "rest")
        overflow = delayed(m, overflow, 1, "overflow_again")
        # Whether a tie is rounded up: always, or if the result is odd.
        always, if_odd = (Signal(name=name, reset_less=True) for name in ("always", "if_odd"))
        tflite, single, fp32 = (self._is(case, mode) for case in RequantMode)
        m.d.sync += [always.eq(single | (tflite & ~number[-1])), if_odd.eq(fp32)]
        # In fp32 only a number that is not shifted reaches 2**31, and that is not rounded.
        saturated = if_odd & (overflow | (floor[31] & ~negative))
        sign = if_odd & negative
        kept = floor[:31] | saturated.replicate(31)
        up = Mux(saturated, negative, tie_or_more & (rest | always | (if_odd & floor[0])))
        y = Signal.like(self.y, reset_less=True)
        # -(kept + up) = ~kept + ~up: one addition for both signs.
        m.d.sync += y.eq((Cat(kept, floor[31] & ~saturated) ^ sign.replicate(32)) + (up ^ sign))
        m.d.comb += self.y.eq(y)
