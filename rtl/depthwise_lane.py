"""The lanes of the depthwise engine: one channel each, all tap columns at once."""

from __future__ import annotations

from typing import NamedTuple

from amaranth.hdl import Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from accel.config import ArchConfig
from rtl.pipeline import delayed


class Control(NamedTuple):
    """What a lane passes to the next one, a cycle later.

    In each cycle the window moves by one word, or by two if `double`. `swap`: the shadow weights become the weights of
    the output that `taps` and `pad_value` belong to; bit i of `taps` is set if the word in window slot i exists.
    `capture`: a weight arrives, the `first` of a tile or a further one.
    """

    swap: Value
    double: Value
    taps: Value
    pad_value: Value
    capture: Value
    first: Value


class Bytes(NamedTuple):
    """A lane's byte of the step's word, of the word before it (of use if `double`), and of a weight word."""

    word: Value
    earlier: Value
    weight: Value


def build_lane(m: Module, name: str, left: Control, data: Bytes) -> tuple[Control, Value]:
    """Add one lane to `m`; returns its control for the next lane, and the sum of the output before, all registered.

    The newest word and the last tap's weight are in the last slot; slots that a narrow kernel does not use hold zero
    weights.
    """
    slots = len(left.taps)
    window, weights, shadows = (
        [Signal(signed(8), name=f"{name}_{part}_{slot}", reset_less=True) for slot in range(slots)]
        for part in ("window", "weight", "shadow")
    )
    right = Control(*(Signal.like(v, name=f"{name}_{part}") for part, v in zip(Control._fields, left, strict=True)))
    m.d.sync += [register.eq(value) for register, value in zip(right, left, strict=True)]
    newer = [*window[1:], data.word]
    newest = [*window[2:], data.earlier, data.word]
    for slot in range(slots):
        moved = newer[slot] if slots == 1 else Mux(left.double, newest[slot], newer[slot])
        m.d.sync += window[slot].eq(moved)
    with m.If(left.swap):
        m.d.sync += [weight.eq(shadow) for weight, shadow in zip(weights, shadows, strict=True)]
    with m.If(left.capture):
        m.d.sync += [shadows[slot].eq(Mux(left.first, 0, shadows[slot + 1])) for slot in range(slots - 1)]
        m.d.sync += shadows[-1].eq(data.weight)
    products = [
        Mux(exists, word, right.pad_value.as_signed()) * weight
        for exists, word, weight in zip(right.taps, window, weights, strict=True)
    ]
    total = Signal(signed(15 + slots.bit_length()), name=f"{name}_sum", reset_less=True)
    m.d.sync += total.eq(sum(products))
    return right, total


class DepthwiseLanes(wiring.Component):
    """`depthwise_lanes` lanes; lane c works c cycles after lane 0.

    Members
    -------
    swap, double, taps, pad_value, capture, first : In
        Lane 0's `Control`.
    words, weights : In, 8 bits per lane
        Skewed: byte c is c cycles late.
    earlier : In, 8 bits per lane
        Not skewed.
    sums : Out, 32 bits per lane
        Lane c's sum, c + 2 cycles after its output's control.
    """

    def __init__(self, config: ArchConfig):
        self.config = config
        lanes = config.depthwise_lanes
        super().__init__(
            {
                "swap": In(1),
                "double": In(1),
                "taps": In(config.depthwise_taps),
                "pad_value": In(8),
                "capture": In(1),
                "first": In(1),
                "words": In(8 * lanes),
                "earlier": In(8 * lanes),
                "weights": In(8 * lanes),
                "sums": Out(32 * lanes),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        control = Control(*(getattr(self, name) for name in Control._fields))
        for lane in range(self.config.depthwise_lanes):
            word, earlier, weight = (
                port.word_select(lane, 8).as_signed() for port in (self.words, self.earlier, self.weights)
            )
            data = Bytes(word, delayed(m, earlier, lane, f"earlier_{lane}"), weight)
            control, total = build_lane(m, f"lane{lane}", control, data)
            m.d.comb += self.sums.word_select(lane, 32).eq(total)
        return m
