"""One lane of POST, as stages that follow a step through the pipeline."""

from __future__ import annotations

from collections.abc import Sequence

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data
from amaranth.lib.wiring import In, Out

from accel.machine.config import TABLE_WORDS, ArchConfig
from accel.machine.isa import Reduce, Source
from accel.machine.numerics import INT32_MIN
from accel.machine.timing import ACC_LATENCY, READ_LATENCY
from rtl.blocks import Block
from rtl.interfaces import ReadPort
from rtl.param_memory import RECORD
from rtl.pipeline import delayed
from rtl.requantize import Requantizer

OPERAND = READ_LATENCY
"""Cycles after a step's scratchpad address: the word is there, the tap's zero point leaves it."""
RESCALE = OPERAND + 1
"""The tap enters the first requantizer."""
REDUCE = RESCALE + Requantizer.latency
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
"""Of an int8 minus a zero point: a product takes this many bits of each tap."""


CONTROL = {
    "tap_zero_point": ("tap_zero_point", OPERAND),
    "left_shift": ("left_shift", OPERAND),
    "left_shift_rest": ("left_shift", RESCALE),
    "tap_shift": ("tap_shift", RESCALE),
    "tap_mode": ("mode", RESCALE),
    "reduce": ("reduce", REDUCE),
    "first_tap": ("first_tap", REDUCE),
    "inside": ("inside", REDUCE),
    "source": ("source", BIAS),
    "reduced": ("reduce", BIAS),
    "mode": ("mode", REQUANTIZE),
    "zero_point": ("zero_point", CLAMP),
    "act_min": ("act_min", CLAMP),
    "act_max": ("act_max", CLAMP),
    "look_up": ("write", LOOK_UP),
    "look_up_table": ("table", LOOK_UP),
    "table": ("table", WRITE),
}
"""What the lanes need of the steps in their stages: the step's field, and the stage."""

LIMITS = {"lowest": "act_min", "highest": "act_max"}
"""What the lanes compare with at CLAMP, and the field that it is without the zero point."""


def drive_lanes(m: Module, steps: Sequence[data.View]) -> data.View:
    """`CONTROL` of all lanes, from the steps in each stage."""
    layout = {name: steps[0].shape()[field].shape for name, (field, _) in CONTROL.items()}
    control = Signal(data.StructLayout(layout | dict.fromkeys(LIMITS, signed(FACTOR_BITS))), name="lane_control")
    m.d.comb += [control[name].eq(steps[stage][field]) for name, (field, stage) in CONTROL.items()]
    before = steps[CLAMP - 1]
    for name, limit in LIMITS.items():
        m.d.comb += control[name].eq(delayed(m, before[limit] - before.zero_point, 1, name))
    return control


class PostLane(Block):
    """One lane: rescale and combine taps, or take an accumulator; bias, requantize, clamp, look up.

    Members
    -------
    control : In
        `CONTROL`, as `drive_lanes` makes it.
    tap : In(8), multiplier : In(31)
        The tap, at OPERAND; its multiplier, at RESCALE.
    accumulator : In(32), record : In(RECORD)
        At BIAS.
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

    def _reduce_taps(self, m: Module) -> Signal:
        """Rescale the tap and combine it with its output's earlier ones; the result is for BIAS."""
        control = self.control
        operand = Signal(signed(FACTOR_BITS + 7))
        added, largest, product, total = (
            Signal(signed(32), name=name) for name in ("added", "largest", "product", "total")
        )
        # The shift has two cycles: its three low bits before the register, by multiples of eight behind it.
        m.d.sync += operand.eq((self.tap.as_signed() - control.tap_zero_point) << control.left_shift[:3])
        m.submodules.rescale = rescale = Requantizer(self._config)
        m.d.comb += [
            rescale.x.eq(operand << Cat(Const(0, 3), control.left_shift_rest[3:])),
            rescale.multiplier.eq(self.multiplier),
            rescale.shift.eq(control.tap_shift),
            rescale.mode.eq(control.tap_mode),
        ]

        def join(total: Signal, neutral: int) -> tuple[Value, Value]:
            """What the taps before this one make, and this one; of what does not count, the neutral element."""
            return Mux(control.first_tap, neutral, total), Mux(control.inside, rescale.y, neutral)

        subtract = (control.reduce == Reduce.SUB) & ~control.first_tap
        before, tap = join(added, 0)
        m.d.sync += added.eq((Cat(1, before) + Cat(subtract, tap ^ subtract.replicate(32)))[1:])
        before, tap = join(largest, INT32_MIN)
        m.d.sync += largest.eq(Mux(tap > before, tap, before))
        factor = rescale.y[:FACTOR_BITS].as_signed()
        with m.If(control.first_tap):
            m.d.sync += product.eq(Mux(control.inside, factor, 1))
        with m.Elif(control.inside):
            m.d.sync += product.eq(product * factor)
        # Each is made in every cycle and one of them taken in the next, so that a tap waits for one of them only.
        with m.Switch(control.reduced):
            with m.Case(Reduce.MAX):
                m.d.comb += total.eq(largest)
            with m.Case(Reduce.MUL):
                m.d.comb += total.eq(product)
            with m.Default():
                m.d.comb += total.eq(added)
        return total

    def _finish(self, m: Module, total: Signal) -> Signal:
        """Add the bias to `total` or the accumulator, requantize, clamp; the int8 result is for LOOK_UP."""
        control, record = self.control, self.record
        value = Signal(32)
        multiplier = Signal.like(record.multiplier)
        shift = Signal.like(record.shift)
        m.d.sync += [
            value.eq(Mux(control.source == Source.ACC, self.accumulator, total) + record.bias),
            multiplier.eq(record.multiplier),
            shift.eq(record.shift),
        ]
        m.submodules.requantize = requantize = Requantizer(self._config)
        m.d.comb += [
            requantize.x.eq(value),
            requantize.multiplier.eq(multiplier),
            requantize.shift.eq(shift),
            requantize.mode.eq(control.mode),
        ]
        clamped = Signal(8)
        # The limits leave the zero point out, so that sum and comparisons wait for one number together.
        with m.If(requantize.y < control.lowest):
            m.d.sync += clamped.eq(control.act_min)
        with m.Elif(requantize.y > control.highest):
            m.d.sync += clamped.eq(control.act_max)
        with m.Else():
            m.d.sync += clamped.eq(requantize.y + control.zero_point)
        return clamped

    def _look_up(self, m: Module, clamped: Signal) -> None:
        """Apply the instruction's table, if any."""
        control, port = self.control, self.table_read
        plain = delayed(m, clamped, WRITE - LOOK_UP, "plain")
        m.d.comb += [
            port.en.eq(control.look_up & (control.look_up_table != 0)),
            port.addr.eq(Cat(clamped ^ 0x80, control.look_up_table == 2)),
            self.result.eq(Mux(control.table != 0, port.data, plain)),
        ]
