"""The lanes of the depthwise engine: one channel each, all tap columns at once."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from accel.machine.config import ArchConfig
from rtl.blocks import Block
from rtl.pipeline import delayed


def control(taps: int) -> dict[str, wiring.Member]:
    """Control signals that all lanes receive in a cycle.

    The window moves by one word, or by two if `double`. `swap`: the shadow weights become those of the outputs from the
    next cycle on. Bit i of `taps` is set if the word in window slot i exists in this cycle's output, otherwise
    `pad_value` takes its place. `capture`: a weight arrives, the `first` of a tile or a further one.
    """
    return {"swap": In(1), "double": In(1), "taps": In(taps), "pad_value": In(8), "capture": In(1), "first": In(1)}


class DepthwiseLane(Block):
    """One lane: a window of words, as many factors and weights, their products, and the sum.

    The newest word and the last tap's weight are in the last slot; slots that a narrow kernel does not use hold zero
    weights.

    Members
    -------
    swap, double, taps, pad_value, capture, first : In
        `control`.
    word, earlier, weight : In, signed 8 bits
        The lane's byte of the step's word, of the word before it (of use if `double`), and of a weight word.
    sum : Out, signed 32 bits
        That of the output that `taps` belonged to three cycles before.
    """

    module = "depthwise_lane"

    def __init__(self, taps: int):
        data = {name: In(signed(8)) for name in ("word", "earlier", "weight")}
        super().__init__({**control(taps), **data, "sum": Out(signed(32))})

    def build(self, platform: object) -> Module:
        m = Module()
        slots = len(self.taps)
        window, weights, shadows = (
            [Signal(signed(8), name=f"{part}_{slot}", reset_less=True) for slot in range(slots)]
            for part in ("window", "weight", "shadow")
        )
        newer = [*window[1:], self.word]
        newest = [*window[2:], self.earlier, self.word]
        for slot in range(slots):
            moved = newer[slot] if slots == 1 else Mux(self.double, newest[slot], newer[slot])
            m.d.sync += window[slot].eq(moved)
        # A word is a factor in the cycle after it entered its window: so weights come a cycle later, too.
        swap, capture = (
            delayed(m, bit, 1, name, reset_less=False) for bit, name in ((self.swap, "swap"), (self.capture, "capture"))
        )
        first, arrived = delayed(m, self.first, 1, "first"), delayed(m, self.weight, 1, "arrived")
        with m.If(swap):
            m.d.sync += [weight.eq(shadow) for weight, shadow in zip(weights, shadows, strict=True)]
        with m.If(capture):
            m.d.sync += [shadows[slot].eq(Mux(first, 0, shadows[slot + 1])) for slot in range(slots - 1)]
            m.d.sync += shadows[-1].eq(arrived)
        factors = [Signal(signed(8), name=f"factor_{slot}", reset_less=True) for slot in range(slots)]
        products = [Signal(signed(16), name=f"product_{slot}", reset_less=True) for slot in range(slots)]
        for factor, exists, word in zip(factors, self.taps, window, strict=True):
            m.d.sync += factor.eq(Mux(exists, word, self.pad_value.as_signed()))
        for product, factor, weight in zip(products, factors, weights, strict=True):
            m.d.sync += product.eq(factor * weight)
        total = Signal(signed(15 + slots.bit_length()), name="total", reset_less=True)
        m.d.sync += total.eq(sum(products))
        m.d.comb += self.sum.eq(total)
        return m


class DepthwiseLanes(wiring.Component):
    """`depthwise_lanes` lanes that work in step.

    Members
    -------
    swap, double, taps, pad_value, capture, first : In
        `control` of all lanes.
    words, earlier, weights : In, 8 bits per lane
    sums : Out, 32 bits per lane
        Three cycles after the output's `taps`.
    """

    def __init__(self, config: ArchConfig):
        self.config = config
        lanes = config.depthwise_lanes
        super().__init__(
            {
                **control(config.depthwise_taps),
                "words": In(8 * lanes),
                "earlier": In(8 * lanes),
                "weights": In(8 * lanes),
                "sums": Out(32 * lanes),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        for index in range(self.config.depthwise_lanes):
            m.submodules[f"lane{index}"] = lane = DepthwiseLane(self.config.depthwise_taps)
            m.d.comb += [getattr(lane, name).eq(getattr(self, name)) for name in control(self.config.depthwise_taps)]
            m.d.comb += [
                lane.word.eq(self.words.word_select(index, 8)),
                lane.earlier.eq(self.earlier.word_select(index, 8)),
                lane.weight.eq(self.weights.word_select(index, 8)),
                self.sums.word_select(index, 32).eq(lane.sum),
            ]
        return m
