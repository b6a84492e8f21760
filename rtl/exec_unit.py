"""EXEC: matrix products and depthwise windows of scratchpad and weight buffer into the accumulators."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import Out, connect, flipped

from accel.config import ArchConfig
from accel.timing import DEPTHWISE_LATENCY
from rtl.activation_sequencer import ActivationSequencer
from rtl.array import SystolicArray
from rtl.depthwise_lane import DepthwiseLanes
from rtl.depthwise_sequencer import DepthwiseSequencer
from rtl.interfaces import AccumulatePort, ReadPort, UnitControl
from rtl.pipeline import delayed
from rtl.weight_sequencer import EXEC_LAYOUT, WeightSequencer, is_depthwise


class ExecUnit(wiring.Component):
    """The systolic array, the depthwise engine beside it, and their sequencers.

    The activation sequencer follows one tile behind the weights. Each sequencer has an instruction register of its own,
    so that the weights of the next instruction load while the last tile of this one streams.

    Members
    -------
    control : Out(UnitControl)
    spad_read, spad_read_earlier, wbuf_read : Out(ReadPort)
        The second SPAD port exists with a depthwise engine only.
    accumulate : Out(AccumulatePort)

    Attributes
    ----------
    latency : int
        Cycles from a pixel's scratchpad read to its last accumulator write.
    """

    def __init__(self, config: ArchConfig):
        self.config = config
        self.latency = config.rows + config.cols
        self._common_latency = DEPTHWISE_LATENCY if config.depthwise_taps else 0
        spad = Out(ReadPort(config.spad_words, config.rows))
        super().__init__(
            {
                "control": Out(UnitControl()),
                "spad_read": spad,
                **({"spad_read_earlier": spad} if config.depthwise_taps else {}),
                "wbuf_read": Out(ReadPort(config.wbuf_words, config.cols)),
                "accumulate": Out(AccumulatePort(config.acc_words, config.cols)),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        m.submodules.weights = weights = WeightSequencer(self.config)
        m.submodules.activations = activations = ActivationSequencer(self.config)
        m.submodules.array = array = SystolicArray(self.config)
        connect(m, weights.read, flipped(self.wbuf_read))
        ready = weights.loaded & activations.free
        first_rows = is_depthwise(self.config, weights.instruction) & weights.fresh
        m.d.comb += [
            weights.start.eq(ready & ~first_rows),
            activations.start.eq(weights.start),
            activations.fresh.eq(weights.fresh),
            activations.instruction.eq(weights.instruction),
            array.weights.eq(weights.weights),
            array.capture.eq(weights.capture),
            array.activations.eq(activations.activations),
            array.swap.eq(activations.swap),
            self.spad_read.en.eq(activations.read.en),
            self.spad_read.addr.eq(activations.read.addr),
            activations.read.data.eq(self.spad_read.data),
        ]
        sums = Const(0)
        if self.config.depthwise_taps:
            m.submodules.rows = rows = DepthwiseSequencer(self.config)
            m.d.comb += rows.ready.eq(ready & first_rows)
            with m.If(first_rows):
                m.d.comb += weights.start.eq(rows.start)
            self._stream_rows(m, rows, weights, activations, array)
            sums = self._lanes(m, rows, weights, activations, array)
        self._accumulate(m, activations, array, sums)
        issue = self._issue(m, weights)
        self._complete(m, activations, issue)
        occupied = issue | ~weights.free | activations.streaming
        m.d.comb += [self.control.occupied.eq(occupied), self.control.busy.eq(occupied)]
        return m

    def _issue(self, m: Module, weights: WeightSequencer) -> Signal:
        """Take the queue's head when its tokens are there; returns whether that happens in this cycle."""
        issue = Signal()
        queue, head = self.control.instruction, EXEC_LAYOUT(self.control.instruction.payload)
        m.d.comb += [
            issue.eq(queue.valid & weights.free & ~(head.wait & ~self.control.tokens).any()),
            queue.ready.eq(issue),
            weights.issue.eq(issue),
            weights.head.eq(head),
        ]
        return issue

    def _stream_rows(
        self,
        m: Module,
        rows: DepthwiseSequencer,
        weights: WeightSequencer,
        activations: ActivationSequencer,
        array: SystolicArray,
    ) -> None:
        """The engine's words take the array's way in, whose delay lines skew them for the lanes."""
        connect(m, rows.read_earlier, flipped(self.spad_read_earlier))
        m.d.comb += [
            rows.instruction.eq(weights.instruction),
            rows.product.eq(activations.pixel & ~activations.depthwise),
            rows.read.data.eq(self.spad_read.data),
        ]
        with m.If(rows.read.en):
            m.d.comb += [self.spad_read.en.eq(1), self.spad_read.addr.eq(rows.read.addr)]
        with m.If(rows.answering):
            m.d.comb += array.activations.eq(rows.words)

    def _lanes(
        self,
        m: Module,
        rows: DepthwiseSequencer,
        weights: WeightSequencer,
        activations: ActivationSequencer,
        array: SystolicArray,
    ) -> Value:
        """Add the lanes; returns their sums."""
        m.submodules.lanes = lanes = DepthwiseLanes(self.config)
        m.d.comb += [
            lanes.swap.eq(activations.tap_swap),
            lanes.taps.eq(activations.taps),
            lanes.pad_value.eq(activations.pad_value),
            lanes.double.eq(rows.double),
            lanes.capture.eq(weights.tap_capture),
            lanes.first.eq(weights.first_tap),
            lanes.words.eq(array.skewed_activations),
            lanes.earlier.eq(rows.earlier),
            lanes.weights.eq(array.skewed_weights),
        ]
        return lanes.sums

    def _accumulate(self, m: Module, activations: ActivationSequencer, array: SystolicArray, sums: Value) -> None:
        """The pixel's command meets its sums at the bottom of the array or at the lanes, which hold 32 bits each."""
        common = self._common_latency
        en = self._merged(m, activations, activations.pixel, "accumulate_en", reset_less=False)
        addr = self._merged(m, activations, activations.addr, "accumulate_addr")
        overwrite = self._merged(m, activations, activations.overwrite, "accumulate_overwrite")
        m.d.comb += [
            self.accumulate.en.eq(delayed(m, en, common, "common_en", reset_less=False)),
            self.accumulate.addr.eq(delayed(m, addr, common, "common_addr")),
            self.accumulate.overwrite.eq(delayed(m, overwrite, common, "common_overwrite")),
            self.accumulate.psums.eq(array.psums),
        ]
        if not common:
            return
        from_lanes = delayed(m, activations.pixel & activations.depthwise, common, "from_lanes", reset_less=False)
        for column in range(self.config.cols):
            from_lanes = delayed(m, from_lanes, 1, f"from_lane{column}", reset_less=False)
            with m.If(from_lanes):
                total = sums.word_select(column, 32) if column < self.config.depthwise_lanes else 0
                m.d.comb += self.accumulate.psums.word_select(column, 32).eq(total)

    def _merged(self, m: Module, activations: ActivationSequencer, value, name: str, reset_less: bool = True) -> Value:
        """A pixel's `value` when its sums are as far from the accumulators as a depthwise output's always are.

        The depthwise sequencer starts late enough for both never to come together.
        """
        late = self.config.rows - self._common_latency
        if not self._common_latency:
            return delayed(m, value, late, name, reset_less)
        at_array = delayed(m, Mux(activations.depthwise, 0, value), late, name, reset_less)
        return Mux(activations.depthwise & activations.pixel, value, at_array)

    def _complete(self, m: Module, activations: ActivationSequencer, issue: Signal) -> None:
        """Signals travel beside the array with the instruction's last pixel."""
        last = Cat(activations.last, activations.signal)
        merged = self._merged(m, activations, last, "last_pixel", reset_less=False)
        ending = delayed(m, merged, self._common_latency + self.config.cols, "ending", reset_less=False)
        in_flight = Signal(range(self.latency + 3))
        m.d.sync += in_flight.eq(in_flight + issue - self.control.complete)
        m.d.comb += [
            Cat(self.control.complete, self.control.signal).eq(ending),
            self.control.idle.eq(in_flight == 0),
        ]
