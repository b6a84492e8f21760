"""EXEC's activation side: which pixel or depthwise output comes when, and where its sums go."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, Value, unsigned
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from accel.config import ArchConfig
from rtl.interfaces import MASK_BITS, ReadPort
from rtl.loop_nest import LoopNest
from rtl.pipeline import delayed
from rtl.weight_sequencer import EXEC_LAYOUT, LEVELS, TAP_BITS, is_depthwise, level_count
from rtl.window import POSITIONS, drive_positions, is_inside


class ActivationSequencer(wiring.Component):
    """Reads the pixels of one tile after the other, one per cycle, and replaces those outside of the image.

    Under a depthwise EXEC a pixel is an output, whose words `DepthwiseSequencer` reads; a row's outputs may be followed
    by a pause.

    Members
    -------
    start, fresh, instruction : In
        A tile's first pixel comes in the next cycle; `fresh`: it is the first of `instruction`. Only while `free`.
    free : Out(1)
        No tile is streaming, or this is its last cycle.
    streaming, pixel : Out(1)
        A tile is streaming; there is a pixel in this cycle.
    depthwise : Out(1)
        The tile is for the depthwise engine.
    read : Out(ReadPort)
    addr, overwrite : Out
        The pixel's accumulator, and whether it is overwritten.
    last, signal : Out
        The pixel is its instruction's last; the instruction's signal mask then, zero otherwise.
    activations, swap : Out
        Inputs of the array, one cycle after the read.
    taps, pad_value, tap_swap : Out
        Inputs of the depthwise engine, one cycle after the output's step: `rtl.depthwise_lane.Control`.
    """

    def __init__(self, config: ArchConfig):
        self.config = config
        super().__init__(
            {
                "start": In(1),
                "fresh": In(1),
                "instruction": In(EXEC_LAYOUT),
                "free": Out(1),
                "streaming": Out(1),
                "pixel": Out(1),
                "depthwise": Out(1),
                "read": Out(ReadPort(config.spad_words, config.rows)),
                "addr": Out(range(max(config.acc_words, 2))),
                "overwrite": Out(1),
                "last": Out(1),
                "signal": Out(MASK_BITS),
                "activations": Out(8 * config.rows),
                "swap": Out(1),
                "taps": Out(max(config.depthwise_taps, 1)),
                "pad_value": Out(8),
                "tap_swap": Out(1),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        variables = {
            "spad": (unsigned(len(self.read.addr)), tuple(LEVELS)),
            "acc": (unsigned(len(self.addr)), ("oy", "ox")),
        }
        m.submodules.pixels = pixels = LoopNest(LEVELS, variables | POSITIONS)
        current = Signal(EXEC_LAYOUT)
        load = self.start & self.fresh
        m.d.comb += [
            pixels.load.eq(load),
            self._drive_nest(pixels),
            self.depthwise.eq(is_depthwise(self.config, current)),
        ]
        with m.If(load):
            m.d.sync += current.eq(self.instruction)
        self._pace(m, pixels, current)
        tile_end = pixels.step & pixels.last.oy & pixels.last.ox
        m.d.comb += self.free.eq(~self.streaming | tile_end)
        m.d.sync += self.streaming.eq(self.start | (self.streaming & ~tile_end))
        self._control(m, pixels, current)
        return m

    def _pace(self, m: Module, pixels: LoopNest, current) -> None:
        """One pixel per cycle; after a depthwise row's last output, but not after the last of all, a pause."""
        gap = Mux(self.depthwise, (current.row_steps - current.ox_count).as_unsigned(), 0)
        pause = Signal(len(current.row_steps))
        row_end = self.pixel & pixels.last.ox & ~pixels.done & (gap != 0)
        m.d.comb += [
            self.pixel.eq(self.streaming & (pause == 0)),
            pixels.step.eq((self.pixel & ~row_end) | (pause == 1)),
        ]
        m.d.sync += pause.eq(Mux(row_end, gap, Mux(pause == 0, 0, pause - 1)))

    def _control(self, m: Module, pixels: LoopNest, current) -> None:
        """What goes to scratchpad, accumulators, array and engine for the current pixel."""
        first, inside = pixels.first, is_inside(pixels, current.height, current.width)
        tile_start = self.pixel & first.oy & first.ox
        m.d.comb += [
            self.read.en.eq(self.pixel & inside & ~self.depthwise),
            self.read.addr.eq(pixels.values.spad),
            self.addr.eq(pixels.values.acc),
            self.overwrite.eq(first.chunk & first.ky & first.kx & ~current.accumulate),
            self.last.eq(self.pixel & pixels.done),
            self.signal.eq(Mux(self.last, current.signal, 0)),
        ]
        source = delayed(m, Cat(inside, current.pad_value), 1, "source")
        m.d.comb += [
            self.swap.eq(delayed(m, tile_start & ~self.depthwise, 1, "swap", reset_less=False)),
            self.tap_swap.eq(delayed(m, tile_start & self.depthwise, 1, "tap_swap", reset_less=False)),
            self.taps.eq(delayed(m, self._taps(pixels, current), 1, "taps")),
            self.pad_value.eq(source[1:]),
            self.activations.eq(Mux(source[0], self.read.data, source[1:].replicate(self.config.rows))),
        ]

    def _taps(self, pixels: LoopNest, current) -> Value:
        """Which taps of the output exist, one bit per slot of the window; the last tap is in the last slot."""
        y, x, slots = pixels.values.y, pixels.values.x, len(self.taps)
        row_exists = (y >= 0) & (y < current.height)
        positions = [x + tap * current.x_dilation for tap in range(slots)]
        taps = Cat((position >= 0) & (position < current.width) & row_exists for position in positions)
        return (taps << (slots - current.kx_count)[:TAP_BITS])[:slots]

    def _drive_nest(self, pixels: LoopNest) -> list:
        """Statements that give the nest the fields of `instruction`."""
        held = self.instruction
        return [
            *(pixels.counts[level].eq(level_count(self.config, held, level)) for level in LEVELS),
            *(pixels.strides.spad[level].eq(held[f"{level}_stride"]) for level in LEVELS),
            pixels.starts.spad.eq(held.spad_address),
            pixels.starts.acc.eq(held.acc_address),
            pixels.strides.acc.oy.eq(held.ox_count),
            pixels.strides.acc.ox.eq(1),
            *drive_positions(pixels, held),
        ]
