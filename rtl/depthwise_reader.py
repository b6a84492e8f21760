"""The depthwise engine's row stream: the cycle in which each word enters the windows."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from accel.machine.config import ArchConfig
from accel.machine.isa import Opcode
from accel.machine.latencies import READ_LATENCY
from rtl.interfaces import ADDRESS_SPAN_BITS, ReadPort, layout, loop_levels
from rtl.loop_nest import LoopNest
from rtl.pipeline import delayed
from rtl.window import POSITION, is_between

DEPTHWISE_LAYOUT = layout(Opcode.DEPTHWISE)
STEP_BITS = DEPTHWISE_LAYOUT["row_steps"].width
ROW_LEVELS = {level: loop_levels(Opcode.DEPTHWISE)[level] for level in ("ky", "oy")} | {"step": STEP_BITS}
"""Tap rows, their output rows, and `row_steps` steps of each."""

TAP_BITS = 3
"""Width of a number of taps of the engine."""

ROW_POSITIONS = {"y": (POSITION, ("oy", "ky")), "x": (POSITION, ("step",))}
"""Variables of a nest of `ROW_LEVELS`."""


def drive_rows(nest: LoopNest, instruction, x_start: Value) -> list:
    """Statements that give a nest of `ROW_LEVELS` its counts and positions; rows start at column position `x_start`."""
    return [
        nest.counts.ky.eq(instruction.ky_count),
        nest.counts.oy.eq(instruction.oy_count),
        nest.counts.step.eq(instruction.row_steps),
        nest.starts.y.eq(instruction.y_start),
        nest.starts.x.eq(x_start),
        nest.strides.y.oy.eq(instruction.y_step),
        nest.strides.y.ky.eq(instruction.y_dilation),
        nest.strides.x.step.eq(instruction.x_step),
    ]


def _is_double(instruction: data.View) -> Value:
    """Two words enter the windows in a step of a DEPTHWISE."""
    return instruction.x_step != instruction.x_dilation


class DepthwiseReader(wiring.Component):
    """Reads one row of words after the other, a step per cycle; those that do not exist are not read.

    Members
    -------
    load, head : In
        `head` is `instruction` from the next cycle on; the last cycle of `load` is that of its issue.
    prepare, start, instruction : In
        `instruction` may start; its first step comes in the next cycle. `prepare` is set in each cycle with a start.
    current : In
        The instruction whose steps run.
    read, read_earlier : Out(ReadPort)
        A step's word, and the one before it if two enter.
    words, earlier : Out
        The lanes' bytes of those words, `READ_LATENCY` cycles after the read.
    double : Out(1)
        Two words enter with `words`.
    outside : Out(1)
        A word that was read in the cycle before does not exist.
    """

    def __init__(self, config: ArchConfig):
        self.config = config
        super().__init__(
            {
                "load": In(1),
                "head": In(DEPTHWISE_LAYOUT),
                "prepare": In(1),
                "start": In(1),
                "instruction": In(DEPTHWISE_LAYOUT),
                "current": In(DEPTHWISE_LAYOUT),
                "read": Out(ReadPort(config.spad_words, config.rows)),
                "read_earlier": Out(ReadPort(config.spad_words, config.rows)),
                "words": Out(8 * config.depthwise_lanes),
                "earlier": Out(8 * config.depthwise_lanes),
                "double": Out(1),
                "outside": Out(1),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        variables = {"spad": (unsigned(ADDRESS_SPAN_BITS), tuple(ROW_LEVELS))}
        # Positions counted from the image's end: their signs say which words exist.
        variables |= {f"{axis}_end": position for axis, position in ROW_POSITIONS.items()}
        m.submodules.rows = rows = LoopNest(ROW_LEVELS, variables | ROW_POSITIONS)
        streaming = Signal()
        # Loaded until it starts, which comes too late for so many registers; even if steps of an instruction before are
        # left, as one that breaks the rule on its steps leaves them.
        m.d.comb += [rows.load.eq(self.prepare), rows.step.eq(streaming), self._drive_nest(m, rows)]
        m.d.sync += streaming.eq(self.start | (streaming & ~rows.done))
        self._read(m, rows, streaming)
        first_byte = delayed(m, self.current.spad_byte, READ_LATENCY, "first_byte")
        m.d.comb += [
            self.words.eq(self._lane_bytes(self.read.data, first_byte)),
            self.earlier.eq(self._lane_bytes(self.read_earlier.data, first_byte)),
        ]
        return m

    def _drive_nest(self, m: Module, rows: LoopNest) -> list:
        """Statements that give the nest the rows of `instruction`, the first word being `lead_steps` early.

        The words between it and the first output's first tap are counted at issue; what they span is there a cycle
        later, in a register that fits a multiplier. The first step may begin in the cycle after issue, but with one tap
        only: then there are none.
        """
        head, held = self.head, self.instruction
        leading = Mux(_is_double(head), head.lead_steps << 1, head.lead_steps)
        between = Signal(signed(len(leading) + 1), name="between", reset_less=True)
        words_product = Signal(ADDRESS_SPAN_BITS, reset_less=True)
        product, x_end, y_end = (
            Signal(POSITION, name=name, reset_less=True) for name in ("product", "x_end_start", "y_end_start")
        )
        m.d.sync += [product.eq(between * held.x_dilation), words_product.eq(between * held.kx_stride)]
        with m.If(self.load):
            m.d.sync += [
                between.eq((head.kx_count - 1)[:TAP_BITS] - leading),
                x_end.eq(head.x_start - head.width),
                y_end.eq(head.y_start - head.height),
            ]
        there = delayed(m, ~self.load, 1, "there")
        ahead, words_ahead = ((each & there.replicate(len(each))).as_signed() for each in (product, words_product))
        return [
            *drive_rows(rows, held, held.x_start + ahead),
            rows.starts.y_end.eq(y_end),
            rows.starts.x_end.eq(x_end + ahead),
            rows.strides.y_end.oy.eq(held.y_step),
            rows.strides.y_end.ky.eq(held.y_dilation),
            rows.strides.x_end.step.eq(held.x_step),
            rows.starts.spad.eq(held.spad_address + words_ahead),
            rows.strides.spad.ky.eq(held.ky_stride),
            rows.strides.spad.oy.eq(held.oy_stride),
            rows.strides.spad.step.eq(held.ox_stride),
        ]

    def _read(self, m: Module, rows: LoopNest, streaming: Signal) -> None:
        """Read the words of the current step that exist."""
        current, values = self.current, rows.values
        before, before_end = (Signal.like(values.x, name=name) for name in ("before", "before_end"))
        earlier = Signal(ADDRESS_SPAN_BITS)
        coming = self.instruction
        double, no_earlier = (Signal(name=name, reset_less=True) for name in ("is_double", "no_earlier"))
        with m.If(self.prepare):
            # The word before a row's first one would be tap -1 of its first output.
            m.d.sync += [double.eq(_is_double(coming)), no_earlier.eq(2 * coming.lead_steps + 1 == coming.kx_count)]
        outside = rows.first.step & no_earlier
        row_exists = streaming & is_between(values.y, values.y_end)
        addresses = (delayed(m, address, 1, f"bound_{i}") for i, address in enumerate((values.spad, earlier)))
        used = delayed(m, Cat(self.read.en, self.read_earlier.en), 1, "bound_used", reset_less=False)
        m.d.comb += [
            before.eq(values.x - current.x_dilation),
            before_end.eq(values.x_end - current.x_dilation),
            self.read.en.eq(row_exists & is_between(values.x, values.x_end)),
            self.read.addr.eq(values.spad),
            self.read_earlier.en.eq(row_exists & double & ~outside & is_between(before, before_end)),
            earlier.eq(values.spad - current.kx_stride),
            self.read_earlier.addr.eq(earlier),
            self.outside.eq((used & Cat(address >= self.config.spad_words for address in addresses)).any()),
            self.double.eq(delayed(m, double, READ_LATENCY, "double")),
        ]

    def _lane_bytes(self, word: Value, first_byte: Value) -> Value:
        """The bytes of `word` from `first_byte` on, which is 0 where every byte has its lane."""
        if self.config.rows == self.config.depthwise_lanes:
            return word
        return word >> (first_byte << 3)
