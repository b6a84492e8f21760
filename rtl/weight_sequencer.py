"""EXEC's weight side: which weight word enters the array when."""

from __future__ import annotations

from amaranth.hdl import Const, Module, Mux, Signal, Value
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
TAP_BITS = 3
"""Width of a number of taps of the depthwise engine."""


def is_depthwise(config: ArchConfig, instruction) -> Value:
    """Whether the depthwise engine executes an EXEC; never without one."""
    return instruction.depthwise if config.depthwise_taps else Const(0)


def level_count(config: ArchConfig, instruction, level: str) -> Value:
    """Iterations of a loop of an EXEC; the depthwise engine works on all tap columns at once."""
    count = instruction[f"{level}_count"]
    return Mux(is_depthwise(config, instruction), 1, count) if level == "kx" else count


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
    tap_capture, first_tap : Out(1)
        `weights` is a tap of a depthwise tile, the tile's first one.
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
                "tap_capture": Out(1),
                "first_tap": Out(1),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        rows = self.config.rows
        depthwise = is_depthwise(self.config, self.instruction)
        last = Mux(depthwise, self.instruction.kx_count - 1, rows - 1)
        m.submodules.tiles = tiles = LoopNest(TILE_LEVELS, {})
        loading, waiting, row = Signal(), Signal(), Signal(range(max(rows, self.config.depthwise_taps, 2)))
        address = Signal.like(self.read.addr)
        last_row = loading & (row == last)
        m.d.comb += [
            tiles.load.eq(self.issue),
            tiles.step.eq(self.start),
            [tiles.counts[level].eq(level_count(self.config, self.head, level)) for level in TILE_LEVELS],
            self.free.eq(~(loading | waiting)),
            self.loaded.eq(waiting | last_row),
            self.read.en.eq(loading & (depthwise | (row < self.instruction.k_rows))),
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
            self.capture.eq(delayed(m, loading & (row == 0) & ~depthwise, 1, "capture", reset_less=False)),
            self.tap_capture.eq(delayed(m, loading & depthwise, 1, "tap_capture", reset_less=False)),
            self.first_tap.eq(delayed(m, row == 0, 1, "first_tap")),
        ]
        return m
