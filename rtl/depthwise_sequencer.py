"""DEPTHWISE's outputs: when each has its step, which of its taps exist, and where its sums go."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed, unsigned
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from accel.machine.config import ArchConfig
from accel.machine.latencies import READ_LATENCY
from rtl.depthwise_reader import DEPTHWISE_LAYOUT, ROW_LEVELS, ROW_POSITIONS, STEP_BITS, TAP_BITS, drive_rows
from rtl.interfaces import MASK_BITS, NUMBER_BITS, REACH_BITS
from rtl.loop_nest import LoopNest
from rtl.pipeline import delayed


class DepthwiseSequencer(wiring.Component):
    """Starts the row stream of one instruction after the other and lets the outputs follow `lead_steps` behind.

    Of a row's `row_steps` steps, the first `ox_count` are outputs; an instruction ends with its last output.

    Members
    -------
    load, lead_steps : In
        So many steps lead in what is `instruction` from the next cycle on.
    fresh, ready, instruction : In
        `instruction` has not begun; the weights of its first tile are there; all stay until `tile_start`.
    words_outside : In
        A word that was read in the cycle before does not exist.
    prepare, begin : Out(1)
        `instruction` may begin, if it is ready; the first word of `instruction` is read in the next cycle.
    current : Out
        The instruction whose steps run.
    tile_start : Out(1)
        The first output of a tile comes in the next cycle.
    streaming, output : Out(1)
        An instruction's steps are under way; there is an output in this cycle.
    addr, overwrite : Out
        The output's accumulator, and whether it is overwritten.
    last, signal : Out
        The output is its instruction's last; the instruction's signal mask then, zero otherwise.
    outside, number : Out
        The accumulator of the output of the cycle before does not exist, or `words_outside`; the number of its
        instruction.
    swap : Out(1)
        `READ_LATENCY` cycles after the first output of a tile.
    taps, pad_value : Out
        One cycle later: which of its taps exist, and what takes the place of the others.
    """

    def __init__(self, config: ArchConfig):
        self._acc_words = config.acc_words
        super().__init__(
            {
                "load": In(1),
                "lead_steps": In(DEPTHWISE_LAYOUT["lead_steps"].shape),
                "fresh": In(1),
                "ready": In(1),
                "instruction": In(DEPTHWISE_LAYOUT),
                "prepare": Out(1),
                "begin": Out(1),
                "current": Out(DEPTHWISE_LAYOUT),
                "tile_start": Out(1),
                "streaming": Out(1),
                "output": Out(1),
                "addr": Out(range(max(config.acc_words, 2))),
                "overwrite": Out(1),
                "last": Out(1),
                "signal": Out(MASK_BITS),
                "words_outside": In(1),
                "outside": Out(1),
                "number": Out(NUMBER_BITS),
                "swap": Out(1),
                "taps": Out(config.depthwise_taps),
                "pad_value": Out(8),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        held = Signal(DEPTHWISE_LAYOUT, reset_less=True)
        variables = {
            "acc": (unsigned(REACH_BITS), ("oy", "step")),
            "column_end": (signed(STEP_BITS + 1), ("step",)),  # columns from the end of the row's outputs
        }
        m.submodules.outputs = outputs = LoopNest(ROW_LEVELS, variables | ROW_POSITIONS)
        # Loaded until an instruction begins: whether its weights are there comes too late for so many registers.
        free = ~self.streaming | self.last
        m.d.comb += [
            self.prepare.eq(self.fresh & free),
            outputs.load.eq(self.prepare),
            self.current.eq(held),
            drive_rows(outputs, self.instruction, self.instruction.x_start),
            outputs.starts.acc.eq(self.instruction.acc_address),
            outputs.strides.acc.oy.eq(self.instruction.ox_count),
            outputs.strides.acc.step.eq(1),
            outputs.starts.column_end.eq(-self.instruction.ox_count),
            outputs.strides.column_end.step.eq(1),
        ]
        with m.If(outputs.load):
            m.d.sync += held.eq(self.instruction)
        self._pace(m, outputs, free)
        self._control(m, outputs)
        return m

    def _pace(self, m: Module, outputs: LoopNest, free: Value) -> None:
        """Begin when the instruction before ends; count the leading steps, then step through the rows."""
        current, last = self.current, outputs.last
        leading, led = Signal.like(current.lead_steps, name="leading", reset_less=True), Signal(init=1, name="led")
        # Comparisons of steps that lead are made a cycle ahead.
        leads, leads_more = (Signal(name=name, reset_less=True) for name in ("leads", "leads_more"))
        last_lead = Signal()
        with m.If(self.load):
            m.d.sync += [leads.eq(self.lead_steps != 0), leads_more.eq(self.lead_steps > 1)]
        final = Signal(reset_less=True)
        first_start = Mux(self.begin, ~leads, last_lead)
        next_tile = outputs.step & last.oy & last.step & ~last.ky
        m.d.comb += [
            self.begin.eq(self.ready & free),
            outputs.step.eq(self.streaming & led),
            self.tile_start.eq(first_start | next_tile),
            self.output.eq(outputs.step & outputs.values.column_end[-1]),
            self.last.eq(outputs.step & last.ky & last.oy & final),
        ]
        m.d.sync += self.streaming.eq(self.begin | (self.streaming & ~self.last))
        # That this is the last output of its row is a register, as the next instruction may begin after it.
        with m.If(self.begin):
            m.d.sync += final.eq(self.instruction.ox_count == 1)
        with m.Elif(outputs.step):
            m.d.sync += final.eq(Mux(last.step, current.ox_count == 1, outputs.values.column_end == -2))
        with m.If(self.begin):
            m.d.sync += leading.eq(self.instruction.lead_steps)
            m.d.sync += [led.eq(~leads), last_lead.eq(leads & ~leads_more)]
        with m.Elif(~led):
            m.d.sync += [leading.eq(leading - 1), led.eq(last_lead), last_lead.eq(leading == 2)]

    def _control(self, m: Module, outputs: LoopNest) -> None:
        """Signals to accumulators and lanes for the current output."""
        current, first = self.current, outputs.first
        pad_value = delayed(m, current.pad_value, 2, "pad_value")
        tile_begins = self.output & first.oy & first.step
        source = delayed(m, Cat(self._taps(m, outputs), pad_value), READ_LATENCY - 1, "source")
        used, acc = (
            delayed(m, self.output, 1, "bound_used", reset_less=False),
            delayed(m, outputs.values.acc, 1, "bound_acc"),
        )
        m.d.comb += [
            self.addr.eq(outputs.values.acc),
            self.outside.eq(self.words_outside | (used & (acc >= self._acc_words))),
            self.number.eq(delayed(m, current.number, 1, "bound_number")),
            self.overwrite.eq(first.ky & ~current.accumulate),
            self.signal.eq(Mux(self.last, current.signal, 0)),
            self.swap.eq(delayed(m, tile_begins, READ_LATENCY, "swap", reset_less=False)),
            Cat(self.taps, self.pad_value).eq(source),
        ]

    def _taps(self, m: Module, outputs: LoopNest) -> Value:
        """Which taps of the output of two cycles before exist, a bit per slot; the last slot has the last tap."""
        current, y, x, slots = self.current, outputs.values.y, outputs.values.x, len(self.taps)
        row_exists = delayed(m, ~y[-1] & (y < current.height), 1, "row_exists")
        width, taps_used = delayed(m, current.width, 1, "width"), delayed(m, current.kx_count, 2, "taps_used")
        positions = [delayed(m, x + tap * current.x_dilation, 1, f"position{tap}") for tap in range(slots)]
        exist = Cat(~position[-1] & (position < width) & row_exists for position in positions)
        taps = delayed(m, exist, 1, "exist")
        return (taps << (slots - taps_used)[:TAP_BITS])[:slots]
