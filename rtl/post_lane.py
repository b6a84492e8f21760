"""One lane of POST, as stages that follow a step through the pipeline."""

from __future__ import annotations

from collections.abc import Sequence

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, wiring

from accel.machine.config import ArchConfig
from accel.machine.isa import Reduce, Source
from accel.machine.numerics import INT32_MIN
from accel.machine.timing import READ_LATENCY
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
ACC_READ = BIAS - READ_LATENCY
"""Accumulator and parameters are read."""
REQUANTIZE = BIAS + 1
"""The value enters the second requantizer."""
CLAMP = REQUANTIZE + Requantizer.latency
"""Zero point and limits."""
LOOK_UP = CLAMP + 1
"""The result selects an entry of a table."""
WRITE = LOOK_UP + READ_LATENCY
"""The result is on the scratchpad's write port."""

LANE_FIELDS = ("source", "reduce", "mode", "left_shift", "zero_point", "act_min", "act_max", "table")
"""Fields of the instruction that the lanes need with each step."""


FACTOR_BITS = 9
"""A product takes this many bits of each tap: an int8 minus its zero point."""


def reduce_taps(m: Module, name: str, config: ArchConfig, steps: Sequence[data.View], byte, multiplier) -> Signal:
    """Rescale the tap `byte` (at OPERAND) and combine it with its output's earlier ones; the result is for BIAS.

    `multiplier` is the tap's, at RESCALE.
    """
    operand, total = Signal(signed(32), name=f"{name}_operand"), Signal(signed(32), name=f"{name}_total")
    m.d.sync += operand.eq((byte.as_signed() - steps[OPERAND].tap_zero_point) << steps[OPERAND].left_shift)
    m.submodules[f"{name}_rescale"] = rescale = Requantizer(config)
    m.d.comb += [
        rescale.x.eq(operand),
        rescale.multiplier.eq(multiplier),
        rescale.shift.eq(steps[RESCALE].tap_shift),
        rescale.mode.eq(steps[RESCALE].mode),
    ]
    step = steps[REDUCE]
    before, tap, neutral = (Signal(signed(32), name=f"{name}_{role}") for role in ("before", "tap", "neutral"))
    m.d.comb += [
        before.eq(Mux(step.first_tap, neutral, total)),
        tap.eq(Mux(step.inside, rescale.y, neutral)),
    ]
    with m.Switch(step.reduce):
        with m.Case(Reduce.MAX):
            m.d.comb += neutral.eq(INT32_MIN)
            m.d.sync += total.eq(Mux(tap > before, tap, before))
        with m.Case(Reduce.MUL):
            m.d.comb += neutral.eq(1)
            m.d.sync += total.eq(before * tap[:FACTOR_BITS].as_signed())
        with m.Default():
            subtract = (step.reduce == Reduce.SUB) & ~step.first_tap
            m.d.comb += neutral.eq(0)
            m.d.sync += total.eq(before + (tap ^ subtract.replicate(32)) + subtract)
    return total


def finish(m: Module, name: str, config: ArchConfig, steps: Sequence[data.View], total, accumulator, record) -> Signal:
    """Add the bias to `total` or `accumulator` (at BIAS), requantize, clamp; the int8 result is for LOOK_UP."""
    value, multiplier, shift = Signal(32), Signal.like(record.multiplier), Signal.like(record.shift)
    m.d.sync += [
        value.eq(Mux(steps[BIAS].source == Source.ACC, accumulator, total) + record.bias),
        multiplier.eq(record.multiplier),
        shift.eq(record.shift),
    ]
    m.submodules[f"{name}_requantize"] = requantize = Requantizer(config)
    m.d.comb += [
        requantize.x.eq(value),
        requantize.multiplier.eq(multiplier),
        requantize.shift.eq(shift),
        requantize.mode.eq(steps[REQUANTIZE].mode),
    ]
    step = steps[CLAMP]
    shifted, result = Signal(signed(33), name=f"{name}_shifted"), Signal(8, name=f"{name}_result")
    m.d.comb += shifted.eq(requantize.y + step.zero_point)
    with m.If(shifted < step.act_min):
        m.d.sync += result.eq(step.act_min)
    with m.Elif(shifted > step.act_max):
        m.d.sync += result.eq(step.act_max)
    with m.Else():
        m.d.sync += result.eq(shifted)
    return result


def look_up(m: Module, name: str, steps: Sequence[data.View], result: Signal, port: wiring.Interface) -> Signal:
    """Apply the instruction's table, if any, to `result` (at LOOK_UP) through `port`; the byte is for WRITE."""
    table = steps[LOOK_UP].table
    m.d.comb += [
        port.en.eq(steps[LOOK_UP].write & (table != 0)),
        port.addr.eq(Cat(result ^ 0x80, table == 2)),
    ]
    plain = delayed(m, result, WRITE - LOOK_UP, f"{name}_plain")
    return Mux(steps[WRITE].table != 0, port.data, plain)
