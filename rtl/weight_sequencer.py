"""The weight side of EXEC and DEPTHWISE: the cycle in which each weight word enters the array or the lanes."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from accel.machine.isa import Opcode
from accel.machine.latencies import READ_LATENCY
from rtl.interfaces import REACH_BITS, ReadPort, layout, loop_levels
from rtl.loop_nest import LoopNest
from rtl.pipeline import delayed


class WeightSequencer(wiring.Component):
    """Reads the weights of one tile after the other; the next one's while this one's steps run.

    Parameters
    ----------
    opcode : Opcode
        EXEC or DEPTHWISE.
    tile_levels : sequence of str
        The loops that go from tile to tile.
    words, lanes : int
        The weight memory's.
    tile_words : int
        Most words of a tile.
    int4 : bool
        The high nibbles of a tile's last word may be no weights.

    Members
    -------
    issue, head, address, single : In
        Take instruction `head`, whose first word is `address`; only while `free`. `single`: its tiles have one word.
    free : Out(1)
        The last tile of the instruction has been started. Whatever is at the head is loaded meanwhile: that it is
        issued comes too late for so many registers.
    loaded, start : Out(1), In(1)
        The tile's last word is due in this cycle or was before; the tile's first step comes in the next cycle.
    fresh : Out(1)
        The tile that is being loaded is its instruction's first.
    instruction : Out
        The instruction of that tile.
    cycles, present : In
        Words of a tile of `instruction`, one per cycle, and how many of them are read; the others are zero.
    half : In(1)
        The high nibbles of the last word that is read are zero, too (`int4` only).
    read : Out(ReadPort)
    weights : Out
        A word, `READ_LATENCY` cycles after it was due.
    arrives, first : Out(1)
        There is a word; it is its tile's first if there is one.
    outside : Out(1)
        The word that is read in this cycle does not exist.
    """

    def __init__(
        self, opcode: Opcode, tile_levels: tuple[str, ...], words: int, lanes: int, tile_words: int, int4: bool = False
    ):
        self._levels = {level: width for level, width in loop_levels(opcode).items() if level in tile_levels}
        self._words, self._tile_words, self._lanes, self._int4 = words, tile_words, lanes, int4
        fields = layout(opcode)
        super().__init__(
            {
                "issue": In(1),
                "head": In(fields),
                "address": In(REACH_BITS),
                "single": In(1),
                "free": Out(1),
                "loaded": Out(1),
                "start": In(1),
                "fresh": Out(1),
                "instruction": Out(fields),
                "cycles": In(range(tile_words + 1)),
                "present": In(range(tile_words + 1)),
                **({"half": In(1)} if int4 else {}),
                "read": Out(ReadPort(words, lanes)),
                "weights": Out(8 * lanes),
                "arrives": Out(1),
                "first": Out(1),
                "outside": Out(1),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        m.submodules.tiles = tiles = LoopNest(self._levels, {})
        loading = Signal()
        waiting = Signal()
        word = Signal(range(max(self._tile_words, 2)))
        address = Signal(REACH_BITS, reset_less=True)
        final = Signal(reset_less=True)
        held = Signal(self.instruction.shape(), reset_less=True)
        last_word = loading & final
        m.d.comb += [
            tiles.load.eq(self.free),
            tiles.step.eq(self.start),
            [tiles.counts[level].eq(self.head[f"{level}_count"]) for level in self._levels],
            self.free.eq(~(loading | waiting)),
            self.loaded.eq(waiting | last_word),
            self.read.en.eq(loading & (word < self.present)),
            self.read.addr.eq(address),
            self.instruction.eq(held),
            self.outside.eq(self.read.en & (address >= self._words)),
        ]
        m.d.sync += [
            word.eq(Mux(loading & ~last_word, word + 1, 0)),
            waiting.eq(self.loaded & ~self.start),
            loading.eq(self.issue | Mux(self.start, ~tiles.done, loading & ~last_word)),
            self.fresh.eq(self.issue | (self.fresh & ~self.start)),
        ]
        with m.If(self.free):
            m.d.sync += [held.eq(self.head), address.eq(self.address), final.eq(self.single)]
        with m.Else():
            m.d.sync += [
                address.eq(address + self.read.en),
                final.eq(Mux(loading & ~last_word, word + 2 == self.cycles, self.cycles == 1)),
            ]
        present = delayed(m, self.read.en, READ_LATENCY, "present")
        weights = Mux(present, self.read.data, 0)
        if self._int4:
            low_only = delayed(m, self.half & (word + 1 == self.present), READ_LATENCY, "low_only")
            weights &= ~low_only.replicate(4).shift_left(4).replicate(self._lanes)
        m.d.comb += [
            self.weights.eq(weights),
            self.arrives.eq(delayed(m, loading, READ_LATENCY, "arrives", reset_less=False)),
            self.first.eq(delayed(m, word == 0, READ_LATENCY, "first")),
        ]
        return m
