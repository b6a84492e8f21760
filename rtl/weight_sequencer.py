"""EXEC's weight side: which weight word enters the array when."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from accel.config import ArchConfig
from accel.isa import Opcode
from rtl.interfaces import ReadPort, layout, loop_levels
from rtl.loop_nest import LoopNest
from rtl.pipeline import delayed

EXEC_LAYOUT = layout(Opcode.EXEC)
LEVELS = loop_levels(Opcode.EXEC)
TILE_LEVELS = {level: LEVELS[level] for level in ("chunk", "ky", "kx")}


class WeightSequencer(wiring.Component):
    """Reads the weights of one tile after the other, `rows` cycles each; the next one's while this one's pixels stream.

    Members
    -------
    issue, head : In
        Take instruction `head`; only while `free`.
    free : Out(1)
        The last tile of the instruction has been started.
    loaded, start : Out(1), In(1)
        The tile's last word is read in this cycle or was before; the tile's first pixel comes in the next cycle.
    fresh : Out(1)
        The tile that is being loaded is its instruction's first.
    instruction : Out
        The instruction of that tile.
    read : Out(ReadPort)
    weights, capture : Out
        Inputs of the array, one cycle after the read.
    """

    def __init__(self, config: ArchConfig):
        self.config = config
        super().__init__(
            {
                "issue": In(1),
                "head": In(EXEC_LAYOUT),
                "free": Out(1),
                "loaded": Out(1),
                "start": In(1),
                "fresh": Out(1),
                "instruction": Out(EXEC_LAYOUT),
                "read": Out(ReadPort(config.wbuf_words, config.cols)),
                "weights": Out(8 * config.cols),
                "capture": Out(1),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        rows = self.config.rows
        m.submodules.tiles = tiles = LoopNest(TILE_LEVELS, {})
        loading, waiting, row = Signal(), Signal(), Signal(range(max(rows, 2)))
        address = Signal.like(self.read.addr)
        last_row = loading & (row == rows - 1)
        m.d.comb += [
            tiles.load.eq(self.issue),
            tiles.step.eq(self.start),
            [tiles.counts[level].eq(self.head[f"{level}_count"]) for level in TILE_LEVELS],
            self.free.eq(~(loading | waiting)),
            self.loaded.eq(waiting | last_row),
            self.read.en.eq(loading & (row < self.instruction.k_rows)),
            self.read.addr.eq(address),
        ]
        m.d.sync += [
            row.eq(Mux(loading & ~last_row, row + 1, 0)),
            address.eq(address + self.read.en),
            waiting.eq(self.loaded & ~self.start),
            loading.eq(Mux(self.start, ~tiles.done, loading & ~last_row)),
        ]
        with m.If(self.start):
            m.d.sync += self.fresh.eq(0)
        with m.If(self.issue):
            m.d.sync += [
                self.instruction.eq(self.head),
                self.fresh.eq(1),
                loading.eq(1),
                address.eq(self.head.wbuf_address),
            ]
        nonzero = delayed(m, self.read.en, 1, "nonzero")
        m.d.comb += [
            self.weights.eq(Mux(nonzero, self.read.data, 0)),
            self.capture.eq(delayed(m, loading & (row == 0), 1, "capture", reset_less=False)),
        ]
        return m
