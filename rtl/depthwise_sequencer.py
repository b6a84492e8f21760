"""The depthwise engine's row stream: which words enter its windows when, and when the outputs start."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal, unsigned
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from accel.config import ArchConfig
from accel.timing import DEPTHWISE_LATENCY
from rtl.interfaces import ReadPort
from rtl.loop_nest import LoopNest
from rtl.pipeline import delayed
from rtl.weight_sequencer import EXEC_LAYOUT, LEVELS, TAP_BITS
from rtl.window import POSITION

ROW_LEVELS = {"ky": LEVELS["ky"], "oy": LEVELS["oy"], "step": EXEC_LAYOUT.members["row_steps"].width}


class DepthwiseSequencer(wiring.Component):
    """Reads one row of words after the other, a step per cycle, and lets the outputs follow `lead_steps` behind.

    Members
    -------
    ready, instruction : In
        The weights of the first tile of `instruction` are there and nothing streams; both stay until `start`.
    product : In(1)
        A pixel of a plain EXEC enters the array in this cycle.
    start : Out(1)
        The first output comes in the next cycle.
    read, read_earlier : Out(ReadPort)
        A step's word, and the one before it if two enter.
    words, earlier : Out
        The lanes' bytes of those words, one cycle after the read.
    answering, double : Out(1)
        `words` belongs to a step; two words enter in that step.
    """

    def __init__(self, config: ArchConfig):
        self.config = config
        super().__init__(
            {
                "ready": In(1),
                "instruction": In(EXEC_LAYOUT),
                "product": In(1),
                "start": Out(1),
                "read": Out(ReadPort(config.spad_words, config.rows)),
                "read_earlier": Out(ReadPort(config.spad_words, config.rows)),
                "words": Out(8 * config.depthwise_lanes),
                "earlier": Out(8 * config.depthwise_lanes),
                "answering": Out(1),
                "double": Out(1),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        m.submodules.rows = rows = LoopNest(
            ROW_LEVELS,
            {
                "spad": (unsigned(len(self.read.addr)), tuple(ROW_LEVELS)),
                "y": (POSITION, ("oy", "ky")),
                "x": (POSITION, ("step",)),
            },
        )
        begin, streaming, current = self._begin(m), Signal(), Signal(EXEC_LAYOUT)
        m.d.comb += [rows.load.eq(begin), rows.step.eq(streaming), self._drive_nest(rows)]
        m.d.sync += streaming.eq(begin | (streaming & ~rows.done))
        with m.If(begin):
            m.d.sync += current.eq(self.instruction)
        self._read(m, rows, current, streaming)
        m.d.comb += self.answering.eq(delayed(m, streaming, 1, "answering", reset_less=False))
        return m

    def _begin(self, m: Module) -> Signal:
        """The first word is read in the next cycle; `start` follows `lead_steps` later.

        Sums of the array that are still on their way down reach the accumulators before the first output does.
        """
        begin, leading = Signal(), Signal()
        lead = self.instruction.lead_steps
        left = Signal.like(lead)
        ahead = self.config.rows - DEPTHWISE_LATENCY
        draining, drained = Signal(range(ahead + 1)), Signal(range(ahead + 1))
        m.d.comb += [
            draining.eq(Mux(self.product, ahead, drained)),
            begin.eq(self.ready & ~leading & (draining <= lead)),
            self.start.eq(Mux(leading, left == 1, begin & (lead == 0))),
        ]
        m.d.sync += [
            drained.eq(Mux(draining == 0, 0, draining - 1)),
            left.eq(Mux(begin, lead, left - 1)),
            leading.eq((begin | leading) & ~self.start),
        ]
        return begin

    def _drive_nest(self, rows: LoopNest) -> list:
        """Statements that give the nest the rows of `instruction`, the first word being `lead_steps` early."""
        held = self.instruction
        further_taps = (held.kx_count - 1)[:TAP_BITS]
        first_word = further_taps * held.kx_stride - held.lead_steps * held.ox_stride
        first_position = further_taps * held.x_dilation - held.lead_steps * held.x_step
        return [
            rows.counts.ky.eq(held.ky_count),
            rows.counts.oy.eq(held.oy_count),
            rows.counts.step.eq(held.row_steps),
            rows.starts.spad.eq(held.spad_address + first_word),
            rows.strides.spad.ky.eq(held.ky_stride),
            rows.strides.spad.oy.eq(held.oy_stride),
            rows.strides.spad.step.eq(held.ox_stride),
            rows.starts.y.eq(held.y_start),
            rows.strides.y.oy.eq(held.y_step),
            rows.strides.y.ky.eq(held.y_dilation),
            rows.starts.x.eq(held.x_start + first_position),
            rows.strides.x.step.eq(held.x_step),
        ]

    def _read(self, m: Module, rows: LoopNest, current, streaming: Signal) -> None:
        """Read the words that exist; the lanes see their bytes of them in the next cycle."""
        y, x = rows.values.y, rows.values.x
        before = Signal.like(x, name="x_before")
        double = current.x_step != current.x_dilation
        # The word before a row's first one would be tap -1 of its first output.
        outside = rows.first.step & (2 * current.lead_steps + 1 == current.kx_count)
        row_exists = streaming & (y >= 0) & (y < current.height)
        m.d.comb += [
            before.eq(x - current.x_dilation),
            self.read.en.eq(row_exists & (x >= 0) & (x < current.width)),
            self.read.addr.eq(rows.values.spad),
            self.read_earlier.en.eq(row_exists & double & ~outside & (before >= 0) & (before < current.width)),
            self.read_earlier.addr.eq(rows.values.spad - current.kx_stride),
            self.double.eq(delayed(m, double, 1, "double")),
        ]
        first_byte = delayed(m, current.spad_byte, 1, "first_byte")
        m.d.comb += [
            self.words.eq(self._lane_bytes(self.read.data, first_byte)),
            self.earlier.eq(self._lane_bytes(self.read_earlier.data, first_byte)),
        ]

    def _lane_bytes(self, word, first_byte):
        """The bytes of `word` from `first_byte` on, which is 0 where every byte has its lane."""
        if self.config.rows == self.config.depthwise_lanes:
            return word
        return word >> (first_byte << 3)
