"""EXEC's activation side: the cycle in which each pixel enters the array, and the address of its sums."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, unsigned
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from accel.machine.config import ArchConfig
from accel.machine.isa import Opcode
from accel.machine.latencies import READ_LATENCY
from rtl.interfaces import ADDRESS_SPAN_BITS, MASK_BITS, NUMBER_BITS, REACH_BITS, ReadPort, layout, loop_levels
from rtl.loop_nest import LoopNest
from rtl.pipeline import delayed
from rtl.window import POSITIONS, drive_positions, is_inside

EXEC_LAYOUT = layout(Opcode.EXEC)
LEVELS = loop_levels(Opcode.EXEC)


class ActivationSequencer(wiring.Component):
    """Reads the pixels of one tile after the other, one per cycle, and replaces those outside of the image.

    Members
    -------
    start, fresh, instruction : In
        A tile's first pixel comes in the next cycle; `fresh`: it is the first of `instruction`. Only while `free`.
    free : Out(1)
        No tile is streaming, or this is its last pixel.
    streaming : Out(1)
        There is a pixel in this cycle.
    read : Out(ReadPort)
    addr, overwrite : Out
        The pixel's accumulator, and whether it is overwritten.
    last, signal : Out
        The pixel is its instruction's last; the instruction's signal mask then, zero otherwise.
    outside, number : Out
        The pixel of the cycle before, or its accumulator, does not exist; the number of its instruction.
    activations, swap : Out
        Inputs of the array, `READ_LATENCY` cycles after the read.
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
                "read": Out(ReadPort(config.spad_words, config.rows)),
                "addr": Out(range(max(config.acc_words, 2))),
                "overwrite": Out(1),
                "last": Out(1),
                "signal": Out(MASK_BITS),
                "outside": Out(1),
                "number": Out(NUMBER_BITS),
                "activations": Out(8 * config.rows),
                "swap": Out(1),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        variables = {
            "spad": (unsigned(ADDRESS_SPAN_BITS), tuple(LEVELS)),
            "acc": (unsigned(REACH_BITS), ("oy", "ox")),
        }
        m.submodules.pixels = pixels = LoopNest(LEVELS, variables | POSITIONS)
        current = Signal(EXEC_LAYOUT, reset_less=True)
        # Loaded until it starts: whether the weights are there comes too late for so many registers.
        load = self.free & self.fresh
        m.d.comb += [pixels.load.eq(load), pixels.step.eq(self.streaming), self._drive_nest(pixels)]
        with m.If(load):
            m.d.sync += current.eq(self.instruction)
        tile_end = pixels.last.oy & pixels.last.ox
        m.d.comb += self.free.eq(~self.streaming | tile_end)
        m.d.sync += self.streaming.eq(self.start | (self.streaming & ~tile_end))
        self._control(m, pixels, current)
        return m

    def _control(self, m: Module, pixels: LoopNest, current) -> None:
        """Signals to scratchpad, accumulators and array for the current pixel."""
        first, inside = pixels.first, is_inside(pixels)
        spad, acc = (delayed(m, pixels.values[name], 1, f"bound_{name}") for name in ("spad", "acc"))
        used = delayed(m, Cat(self.read.en, self.streaming), 1, "bound_used", reset_less=False)
        m.d.comb += [
            self.read.en.eq(self.streaming & inside),
            self.read.addr.eq(pixels.values.spad),
            self.addr.eq(pixels.values.acc),
            self.outside.eq((used & Cat(spad >= self.config.spad_words, acc >= self.config.acc_words)).any()),
            self.number.eq(delayed(m, current.number, 1, "bound_number")),
            self.overwrite.eq(first.chunk & first.ky & first.kx & ~current.accumulate),
            self.last.eq(self.streaming & pixels.done),
            self.signal.eq(Mux(self.last, current.signal, 0)),
        ]
        swap = delayed(m, self.streaming & first.oy & first.ox, READ_LATENCY, "swap", reset_less=False)
        source = delayed(m, Cat(inside, current.pad_value), READ_LATENCY, "source")
        m.d.comb += [
            self.swap.eq(swap),
            self.activations.eq(Mux(source[0], self.read.data, source[1:].replicate(self.config.rows))),
        ]

    def _drive_nest(self, pixels: LoopNest) -> list:
        """Statements that give the nest the fields of `instruction`."""
        held = self.instruction
        return [
            *(pixels.counts[level].eq(held[f"{level}_count"]) for level in LEVELS),
            *(pixels.strides.spad[level].eq(held[f"{level}_stride"]) for level in LEVELS),
            pixels.starts.spad.eq(held.spad_address),
            pixels.starts.acc.eq(held.acc_address),
            pixels.strides.acc.oy.eq(held.ox_count),
            pixels.strides.acc.ox.eq(1),
            *drive_positions(pixels, held),
        ]
