"""One lane of POST, as stages that follow a step through the pipeline."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data
from amaranth.lib.wiring import In, Out

from accel.machine.config import TABLE_WORDS, ArchConfig
from accel.machine.isa import Reduce, Source
from accel.machine.latencies import ACC_LATENCY, READ_LATENCY
from accel.machine.numerics import INT32_MIN
from rtl.blocks import Block
from rtl.interfaces import ReadPort
from rtl.param_memory import RECORD
from rtl.pipeline import as_view, delayed, one_hot
from rtl.requantize import Requantizer

OPERAND = READ_LATENCY
"""Cycles after a step's scratchpad address: the word is there, the tap's zero point leaves it."""
SHIFT = OPERAND + 1
"""The tap is shifted."""
RESCALE = SHIFT + 1
"""The tap enters the first requantizer."""
FACTOR = RESCALE + Requantizer.latency
"""The tap is rescaled."""
REDUCE = FACTOR + 1
"""The tap joins the taps before it."""
BIAS = REDUCE + 1
"""The bias joins the sum of the taps or the accumulator."""
ACC_READ = BIAS - ACC_LATENCY
"""Accumulator and parameters are read."""
REQUANTIZE = BIAS + 1
"""The value enters the second requantizer."""
CLAMP = REQUANTIZE + Requantizer.latency
"""Zero point and limits."""
LOOK_UP = CLAMP + 1
"""The result selects an entry of a table."""
WRITE = LOOK_UP + ACC_LATENCY
"""The result is on the scratchpad's write port."""

LANE_FIELDS = ("source", "reduce", "mode", "left_shift", "zero_point", "act_min", "act_max", "table")
"""Fields of the instruction that the lanes need with each step."""


FACTOR_BITS = 9
"""Of an int8 minus a zero point: a product takes this many bits of each of its two taps."""


CONTROL = {
    "tap_zero_point": ("tap_zero_point", OPERAND),
    "left_shift": ("left_shift", SHIFT),
    "tap_shift": ("tap_shift", RESCALE),
    "tap_mode": ("mode", RESCALE),
    "first_tap": ("first_tap", REDUCE),
    "inside": ("inside", FACTOR),
    "first_factor": ("first_tap", FACTOR),
    "mode": ("mode", REQUANTIZE),
    "zero_point": ("zero_point", CLAMP),
    "act_min": ("act_min", CLAMP),
    "act_max": ("act_max", CLAMP),
    "look_up": ("write", LOOK_UP),
    "look_up_table": ("table", LOOK_UP),
}
"""What the lanes need of the steps in their stages: the step's field, and the stage."""

AHEAD: dict[str, tuple[int, Callable[[data.View], Value]]] = {
    "subtract": (FACTOR, lambda step: (step.reduce == Reduce.SUB) & ~step.first_tap),
    "from_largest": (BIAS, lambda step: (step.source == Source.SPAD) & (step.reduce == Reduce.MAX)),
    "from_product": (BIAS, lambda step: (step.source == Source.SPAD) & (step.reduce == Reduce.MUL)),
    "from_added": (
        BIAS,
        lambda step: (step.source == Source.SPAD) & (step.reduce != Reduce.MAX) & (step.reduce != Reduce.MUL),
    ),
    "lowest": (CLAMP, lambda step: step.act_min - step.zero_point),
    "highest": (CLAMP, lambda step: step.act_max - step.zero_point),
    "looked_up": (WRITE, lambda step: step.table != 0),
}
"""What the lanes need at a stage that is made of the step in the cycle before, as more than one cycle holds no more."""


def drive_lanes(m: Module, steps: Sequence[data.View]) -> data.View:
    """`CONTROL` and `AHEAD` of all lanes, from the steps in each stage."""
    values = {name: steps[stage][field] for name, (field, stage) in CONTROL.items()}
    values |= {name: delayed(m, make(steps[stage - 1]), 1, name) for name, (stage, make) in AHEAD.items()}
    return as_view(m, values, "lane_control")


class PostLane(Block):
    """One lane: rescale and combine taps, or take an accumulator; bias, requantize, clamp, look up.

    Members
    -------
    control : In
        `CONTROL` and `AHEAD`, as `drive_lanes` makes them.
    tap : In(8), multiplier : In(31)
        The tap, at OPERAND; its multiplier, at RESCALE.
    accumulator : In(32), record : In(RECORD)
        At BIAS; the accumulator is 0 if the value is that of the taps.
    table_read : Out(ReadPort)
        At LOOK_UP; the answer is for WRITE.
    result : Out(8)
        At WRITE.
    """

    module = "post_lane"

    def __init__(self, config: ArchConfig, control: data.StructLayout):
        self._config = config
        super().__init__(
            {
                "control": In(control),
                "tap": In(8),
                "multiplier": In(31),
                "accumulator": In(32),
                "record": In(RECORD),
                "table_read": Out(ReadPort(TABLE_WORDS, 1)),
                "result": Out(8),
            }
        )

    def build(self, platform: object) -> Module:
        m = Module()
        self._look_up(m, self._finish(m, self._reduce_taps(m)))
        return m

    def _reduce_taps(self, m: Module) -> Value:
        """Rescale the tap and combine it with its output's earlier ones; the chosen combination is for BIAS."""
        control = self.control
        added, largest = (Signal(signed(32), name=name, reset_less=True) for name in ("added", "largest"))
        operand = delayed(m, self.tap.as_signed() - control.tap_zero_point, 1, "operand")
        m.submodules.rescale = rescale = Requantizer(self._config)
        m.d.comb += [
            rescale.x.eq(delayed(m, (operand << control.left_shift)[:32], 1, "shifted")),
            rescale.multiplier.eq(self.multiplier),
            rescale.shift.eq(control.tap_shift),
            rescale.mode.eq(control.tap_mode),
        ]

        # A tap that does not exist is the neutral element of each combination.
        y, first, inside = rescale.y, control.first_tap, control.inside
        term = delayed(m, (y & inside.replicate(32)) ^ control.subtract.replicate(32), 1, "term")
        carry = delayed(m, control.subtract, 1, "carry")
        sum_before = added & ~first.replicate(32)
        m.d.sync += added.eq((Cat(1, sum_before) + Cat(carry, term))[1:])
        candidate = delayed(m, Mux(inside, y, INT32_MIN), 1, "candidate")
        m.d.sync += largest.eq(Mux(first | (candidate > largest), candidate, largest))
        factor = Mux(inside, y[:FACTOR_BITS], 1).as_signed()
        before = delayed(m, factor, 1, "factor")
        # A product has two taps at most: beside its first one `partner` is 1, beside its second one the first.
        partner = Mux(control.first_factor, 1, before).as_signed()
        # A multiplier may be far away: what comes from it is used a cycle later.
        product = delayed(m, partner * factor, 2, "product")
        product = Cat(product, product[-1].replicate(32 - len(product)))
        # Each is made in every cycle and one of them taken in the next, so that a tap waits for one of them only.
        return one_hot([(control.from_added, added), (control.from_largest, largest), (control.from_product, product)])

    def _finish(self, m: Module, total: Value) -> Signal:
        """Add the bias to `total` or the accumulator, requantize, clamp; the int8 result is for LOOK_UP."""
        control, record = self.control, self.record
        m.submodules.requantize = requantize = Requantizer(self._config)
        m.d.comb += [
            requantize.x.eq(delayed(m, ((total | self.accumulator) + record.bias)[:32], 1, "value")),
            requantize.multiplier.eq(delayed(m, record.multiplier, 1, "multiplier")),
            requantize.shift.eq(delayed(m, record.shift, 1, "shift")),
            requantize.mode.eq(control.mode),
        ]
        y = requantize.y
        # The limits leave the zero point out, so that sum and comparisons wait for one number together: signs of
        # differences, as each is one carry chain.
        below, above = (y - control.lowest)[-1], (control.highest - y)[-1]
        result = Mux(below, control.act_min, Mux(above, control.act_max, y[:8] + control.zero_point))
        return delayed(m, result[:8], 1, "clamped")

    def _look_up(self, m: Module, clamped: Signal) -> None:
        """Apply the instruction's table, if any."""
        control, port = self.control, self.table_read
        plain = delayed(m, clamped, WRITE - LOOK_UP, "plain")
        m.d.comb += [
            port.en.eq(control.look_up & (control.look_up_table != 0)),
            port.addr.eq(Cat(clamped ^ 0x80, control.look_up_table == 2)),
            self.result.eq(Mux(control.looked_up, port.data, plain)),
        ]
