"""The lanes of the depthwise engine: one channel each, all tap columns at once."""

from __future__ import annotations

from typing import NamedTuple

from amaranth.hdl import Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from accel.machine.config import ArchConfig


class Control(NamedTuple):
    """Control signals that all lanes receive in a cycle.

    The window moves by one word, or by two if `double`. `swap`: the shadow weights become the weights from the next
    cycle on. Bit i of `taps` is set if the word in window slot i exists in this cycle's output, otherwise `pad_value`
    takes its place. `capture`: a weight arrives, the `first` of a tile or a further one.
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


def build_lane(m: Module, name: str, control: Control, data: Bytes) -> Value:
    """Add one lane to `m`; returns the sum of the output that `taps` belonged to two cycles before.

    The newest word and the last tap's weight are in the last slot; slots that a narrow kernel does not use hold zero
    weights.
    """
    slots = len(control.taps)
    window, weights, shadows = (
        [Signal(signed(8), name=f"{name}_{part}_{slot}", reset_less=True) for slot in range(slots)]
        for part in ("window", "weight", "shadow")
    )
    newer = [*window[1:], data.word]
    newest = [*window[2:], data.earlier, data.word]
    for slot in range(slots):
        moved = newer[slot] if slots == 1 else Mux(control.double, newest[slot], newer[slot])
        m.d.sync += window[slot].eq(moved)
    with m.If(control.swap):
        m.d.sync += [weight.eq(shadow) for weight, shadow in zip(weights, shadows, strict=True)]
    with m.If(control.capture):
        m.d.sync += [shadows[slot].eq(Mux(control.first, 0, shadows[slot + 1])) for slot in range(slots - 1)]
        m.d.sync += shadows[-1].eq(data.weight)
    products = [Signal(signed(16), name=f"{name}_product_{slot}", reset_less=True) for slot in range(slots)]
    m.d.sync += [
        product.eq(Mux(exists, word, control.pad_value.as_signed()) * weight)
        for product, exists, word, weight in zip(products, control.taps, window, weights, strict=True)
    ]
    total = Signal(signed(15 + slots.bit_length()), name=f"{name}_sum", reset_less=True)
    m.d.sync += total.eq(sum(products))
    return total


class DepthwiseLanes(wiring.Component):
    """`depthwise_lanes` lanes that work in step.

    Members
    -------
    swap, double, taps, pad_value, capture, first : In
        `Control` of all lanes.
    words, earlier, weights : In, 8 bits per lane
    sums : Out, 32 bits per lane
        Two cycles after the output's `taps`.
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
            ports = (self.words, self.earlier, self.weights)
            data = Bytes(*(port.word_select(lane, 8).as_signed() for port in ports))
            m.d.comb += self.sums.word_select(lane, 32).eq(build_lane(m, f"lane{lane}", control, data))
        return m
