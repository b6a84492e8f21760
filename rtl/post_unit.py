"""POST: bias, requantization, clamp, tables, arithmetic and pooling; results return to the scratchpad."""

from __future__ import annotations

from amaranth.hdl import Array, Cat, Module, Mux, Signal, Value, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import Out
from amaranth.utils import bits_for

from accel.machine.config import TABLE_WORDS, ArchConfig
from accel.machine.isa import Opcode, Reduce, Source
from accel.machine.numerics import INTERPOLATION_ONE
from rtl.bursts import shift_bytes_left
from rtl.interfaces import (
    ADDRESS_SPAN_BITS,
    MASK_BITS,
    REACH_BITS,
    ReadPort,
    UnitControl,
    WritePort,
    layout,
    loop_levels,
)
from rtl.loop_nest import LoopNest
from rtl.param_memory import RECORD
from rtl.pipeline import as_view, delayed
from rtl.post_lane import ACC_READ, BIAS, LANE_FIELDS, OPERAND, SHIFT, WRITE, PostLane, drive_lanes
from rtl.window import POSITIONS, drive_positions, is_inside

POST_LAYOUT = layout(Opcode.POST)
LEVELS = loop_levels(Opcode.POST)
PARAM_REACH_BITS = 1 + POST_LAYOUT["param_address"].width
"""As `REACH_BITS`, of a parameter row."""


def part(value: Value, index: Value, width: int) -> Value:
    """Part `index` of a value that is made of parts of `width` bits."""
    parts = [value[start : start + width] for start in range(0, len(value), width)]
    # Every value of the index selects something, so that the case statement in the Verilog is complete.
    return Array([*parts, *parts[-1:] * ((1 << len(index)) - len(parts))])[index] if len(parts) > 1 else parts[0]


EFFECTS = ("write", "last", "signal")
"""Of a step, what has effects outside of the lanes; these do not survive a reset."""


class PostUnit(wiring.Component):
    """`post_lanes` lanes of post-processing: one tap of one group of channels per cycle.

    A loop nest makes one step per cycle; the step, with fields of its instruction, then travels through
    the stages of `rtl.post_lane`, so that the steps of several instructions may follow each other without a gap.

    Members
    -------
    control : Out(UnitControl)
    spad_read, acc_read, param_read : Out(ReadPort)
    table_read : Out(ReadPort), one per lane
    spad_write : Out(WritePort)

    Attributes
    ----------
    acc_read_latency, latency : int
        Cycles from a step's scratchpad address to its accumulator and parameter read, and to its scratchpad write.
    """

    acc_read_latency = ACC_READ
    latency = WRITE

    def __init__(self, config: ArchConfig):
        self.config = config
        super().__init__(
            {
                "control": Out(UnitControl()),
                "spad_read": Out(ReadPort(config.spad_words, config.rows)),
                "acc_read": Out(ReadPort(config.acc_words, config.cols, 32)),
                "param_read": Out(ReadPort(config.param_rows, config.post_lanes, RECORD.size)),
                "table_read": Out(ReadPort(TABLE_WORDS, 1)).array(config.post_lanes),
                "spad_write": Out(WritePort(config.spad_words, config.rows)),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        lanes = self.config.post_lanes
        issue = Signal()
        active = Signal()
        free = Signal(init=1)
        m.submodules.nest = nest = self._loop_nest(m, active, free)
        self._issue(m, nest, issue, active, free)
        steps = [self._step(m, nest, active)]
        for stage in range(1, WRITE + 1):
            before = steps[-1]
            values = {
                name: delayed(m, before[name], 1, f"stage{stage}_{name}", reset_less=name not in EFFECTS)
                for name in before.shape().members
            }
            steps.append(as_view(m, values, f"step{stage}"))
        self._read(m, nest, steps)
        multiplier = self._tap_multiplier(m, steps[OPERAND], steps[SHIFT])
        tap_bytes = part(self.spad_read.data, steps[OPERAND].group, 8 * lanes)
        accumulators = part(self.acc_read.data, steps[BIAS].columns, 32 * lanes)
        control, results = drive_lanes(m, steps), []
        for index in range(lanes):
            m.submodules[f"lane{index}"] = lane = PostLane(self.config, control.shape())
            wiring.connect(m, lane.table_read, wiring.flipped(self.table_read[index]))
            m.d.comb += [
                lane.control.eq(control),
                lane.tap.eq(tap_bytes.word_select(index, 8)),
                lane.multiplier.eq(multiplier),
                lane.accumulator.eq(accumulators.word_select(index, 32)),
                lane.record.eq(self.param_read.data.word_select(index, RECORD.size)),
            ]
            results.append(lane.result)
        self._write(m, steps[WRITE], Cat(results))
        return m

    def _loop_nest(self, m: Module, active: Signal, free: Signal) -> LoopNest:
        """The nest over the steps, loaded with the head of the queue until that is issued."""
        config, head = self.config, POST_LAYOUT(self.control.instruction.payload)
        groups = config.rows // config.post_lanes
        variables = {
            "src": (unsigned(ADDRESS_SPAN_BITS), ("word", "oy", "ox", "ky", "kx")),
            "dst": (unsigned(REACH_BITS), ("word", "oy", "ox")),
            "byte": (POST_LAYOUT["dst_byte"].shape, ("group",)),
            "group": (unsigned(bits_for(groups - 1)), ("group",)),
            "columns": (unsigned(bits_for(config.cols // config.post_lanes - 1)), ("word", "group")),
            "param": (unsigned(PARAM_REACH_BITS), ("word", "group")),
        }
        nest = LoopNest(LEVELS, variables | POSITIONS)
        starts, strides = nest.starts, nest.strides
        m.d.comb += [
            # Whether there is an instruction with its tokens comes too late for so many registers.
            nest.load.eq(free),
            nest.step.eq(active),
            [nest.counts[level].eq(head[f"{level}_count"]) for level in LEVELS],
            [strides.src[level].eq(head[f"src_{level}_stride"]) for level in ("oy", "ox", "ky", "kx")],
            [strides.dst[level].eq(head[f"dst_{level}_stride"]) for level in ("word", "oy", "ox")],
            strides.src.word.eq(Mux(head.source == Source.ACC, 0, head.src_word_stride)),
            starts.src.eq(head.src_address),
            starts.dst.eq(head.dst_address),
            starts.byte.eq(head.dst_byte),
            starts.param.eq(head.param_address),
            strides.byte.group.eq(config.post_lanes),
            strides.group.group.eq(1),
            strides.columns.word.eq(groups),
            strides.columns.group.eq(1),
            strides.param.word.eq(Mux(head.per_channel, groups, 0)),
            strides.param.group.eq(head.per_channel),
            drive_positions(nest, head),
        ]
        return nest

    def _issue(self, m: Module, nest: LoopNest, issue: Signal, active: Signal, free: Signal) -> None:
        """Take the queue's head when its tokens are there, at the earliest with the last step of the one before: `free`
        is a register, as the whole nest and the queue wait for it."""
        queue, head = self.control.instruction, POST_LAYOUT(self.control.instruction.payload)
        tokens_there = ~(head.wait & ~self.control.tokens).any()
        in_flight = Signal(range(WRITE + 2))
        m.d.comb += [
            issue.eq(queue.valid & free & tokens_there),
            queue.ready.eq(issue),
            self.control.occupied.eq(issue | active),
            self.control.busy.eq(issue | active),
            self.control.idle.eq(in_flight == 0),
        ]
        stays = issue | (active & ~nest.done)
        m.d.sync += [
            active.eq(stays),
            free.eq(~stays | nest.ending),
            in_flight.eq(in_flight + issue - self.control.complete),
        ]

    def _step(self, m: Module, nest: LoopNest, active: Signal) -> data.View:
        """The current step: the nest's variables, and the fields of the instruction that its later stages need."""
        held = Signal(POST_LAYOUT, reset_less=True)
        with m.If(nest.load):
            m.d.sync += held.eq(self.control.instruction.payload)
        first_tap, last_tap = nest.first.ky & nest.first.kx, nest.last.ky & nest.last.kx
        self._bound(m, nest, held, active & last_tap)
        values = {
            **{name: nest.values[name] for name in ("byte", "group", "columns")},
            "src": nest.values.src[: max(len(self.spad_read.addr), len(self.acc_read.addr))],
            "dst": nest.values.dst[: len(self.spad_write.addr)],
            "param": nest.values.param[: len(self.param_read.addr)],
            **{name: held[name] for name in LANE_FIELDS},
            "tap_zero_point": Mux(first_tap, held.zero_point0, held.zero_point1),
            "tap_multiplier": Mux(first_tap, held.multiplier0, held.multiplier1),
            "tap_shift": Mux(first_tap, held.shift0, held.shift1),
            "tap_y_weight": Mux(nest.first.ky, INTERPOLATION_ONE - held.y_weight, held.y_weight)[:11],
            "tap_x_weight": Mux(nest.first.kx, INTERPOLATION_ONE - held.x_weight, held.x_weight)[:11],
            "first_tap": first_tap,
            "inside": is_inside(nest),
            "write": active & last_tap,
            "last": active & nest.done,
            "signal": Mux(active & nest.done, held.signal[:MASK_BITS], 0),
        }
        return as_view(m, values, "step0")

    def _bound(self, m: Module, nest: LoopNest, held: data.View, write: Value) -> None:
        """Report a word outside of its memory."""
        config, fault = self.config, self.control.fault
        src, dst, param, number = (
            delayed(m, value, 1, f"bound_{name}")
            for name, value in (
                *((name, nest.values[name]) for name in ("src", "dst", "param")),
                ("number", held.number),
            )
        )
        sums = write & (held.source == Source.ACC)
        used = delayed(m, Cat(self.spad_read.en, sums, write, write), 1, "bound_used", reset_less=False)
        outside = Cat(
            src >= config.spad_words, src >= config.acc_words, dst >= config.spad_words, param >= config.param_rows
        )
        m.d.sync += [fault.bounds.eq((used & outside).any()), fault.number.eq(number)]

    def _tap_multiplier(self, m: Module, before: data.View, step: data.View) -> Value:
        """The factor in every lane, at RESCALE, of the tap that is `before` at OPERAND and `step` at SHIFT.

        It is the instruction's multiplier, or the tap's weight.
        """
        weight = delayed(m, (before.tap_y_weight * before.tap_x_weight)[:21], 1, "weight")
        chosen = Mux(step.reduce == Reduce.INTERPOLATE, weight << 10, step.tap_multiplier)
        return delayed(m, chosen[:31], 1, "multiplier")

    def _read(self, m: Module, nest: LoopNest, steps: list[data.View]) -> None:
        """Operands are read at the step, accumulators and parameters so that they come when the taps are joined."""
        taps, sums = steps[0], steps[ACC_READ]
        m.d.comb += [
            self.spad_read.en.eq(nest.step & taps.inside & (taps.source == Source.SPAD)),
            self.spad_read.addr.eq(taps.src),
            self.acc_read.en.eq(sums.write & (sums.source == Source.ACC)),
            self.acc_read.addr.eq(sums.src),
            self.param_read.en.eq(sums.write),
            self.param_read.addr.eq(sums.param),
        ]

    def _write(self, m: Module, step: data.View, results) -> None:
        """Put the lanes' bytes into their place in the word."""
        lanes, bits = self.config.post_lanes, len(self.spad_write.data)
        m.d.comb += [
            self.spad_write.en.eq(step.write),
            self.spad_write.addr.eq(step.dst),
            self.spad_write.data.eq(shift_bytes_left(results, step.byte, bits)),
            self.spad_write.mask.eq(((1 << lanes) - 1) << step.byte),
            self.control.complete.eq(step.last),
            self.control.signal.eq(step.signal),
        ]
