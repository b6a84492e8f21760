"""One lane of POST, as stages that follow a step through the pipeline."""

from __future__ import annotations

from collections.abc import Sequence

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import data

from accel.config import ArchConfig
from accel.isa import Reduce, Source
from accel.numerics import INT32_MIN
from rtl.requantize import Requantizer

OPERAND = 1
"""Cycles after a step's scratchpad address: the word is there, the tap's zero point leaves it."""
RESCALE = OPERAND + 1
"""The tap enters the first requantizer."""
REDUCE = RESCALE + Requantizer.latency
"""The tap joins the taps before it; accumulator and parameters are read."""
BIAS = REDUCE + 1
"""The bias joins the sum of the taps or the accumulator."""
REQUANTIZE = BIAS + 1
"""The value enters the second requantizer."""
CLAMP = REQUANTIZE + Requantizer.latency
"""Zero point and limits."""
WRITE = CLAMP + 1
"""The result is on the scratchpad's write port."""

LANE_FIELDS = ("source", "reduce", "mode", "left_shift", "zero_point", "act_min", "act_max")
"""Fields of the instruction that the lanes need with each step."""


def reduce_taps(m: Module, name: str, config: ArchConfig, steps: Sequence[data.View], byte) -> Signal:
    """Rescale the tap `byte` (at OPERAND) and combine it with its output's earlier ones; the result is for BIAS."""
    operand, total = Signal(signed(32), name=f"{name}_operand"), Signal(signed(32), name=f"{name}_total")
    m.d.sync += operand.eq((byte.as_signed() - steps[OPERAND].tap_zero_point) << steps[OPERAND].left_shift)
    m.submodules[f"{name}_rescale"] = rescale = Requantizer(config)
    m.d.comb += [
        rescale.x.eq(operand),
        rescale.multiplier.eq(steps[RESCALE].tap_multiplier),
        rescale.shift.eq(steps[RESCALE].tap_shift),
        rescale.mode.eq(steps[RESCALE].mode),
    ]
    step = steps[REDUCE]
    largest = step.reduce == Reduce.MAX
    neutral = Mux(largest, INT32_MIN, 0)
    before, tap = Signal(signed(32), name=f"{name}_before"), Signal(signed(32), name=f"{name}_tap")
    m.d.comb += [
        before.eq(Mux(step.first_tap, neutral, total)),
        tap.eq(Mux(step.inside, rescale.y, neutral)),
    ]
    m.d.sync += total.eq(Mux(largest, Mux(tap > before, tap, before), before + tap))
    return total


def finish(m: Module, name: str, config: ArchConfig, steps: Sequence[data.View], total, accumulator, record) -> Signal:
    """Add the bias to `total` or `accumulator` (at BIAS), requantize, clamp; the int8 result is for WRITE."""
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
