"""EXEC: matrix products of scratchpad and weight buffer into the accumulators."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import Out, connect, flipped

from accel.config import ArchConfig
from rtl.activation_sequencer import ActivationSequencer
from rtl.array import SystolicArray
from rtl.interfaces import AccumulatePort, ReadPort, UnitControl
from rtl.pipeline import delayed
from rtl.weight_sequencer import EXEC_LAYOUT, WeightSequencer


class ExecUnit(wiring.Component):
    """The systolic array with its two sequencers; the activation sequencer follows one tile behind the weights.

    Each sequencer has an instruction register of its own, so that the weights of the next instruction load while the
    last tile of this one streams.

    Members
    -------
    control : Out(UnitControl)
    spad_read, wbuf_read : Out(ReadPort)
    accumulate : Out(AccumulatePort)

    Attributes
    ----------
    latency : int
        Cycles from a pixel's scratchpad read to its last accumulator write.
    """

    def __init__(self, config: ArchConfig):
        self.config = config
        self.latency = config.rows + config.cols
        super().__init__(
            {
                "control": Out(UnitControl()),
                "spad_read": Out(ReadPort(config.spad_words, config.rows)),
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
        connect(m, activations.read, flipped(self.spad_read))
        start, issue = weights.loaded & activations.free, self._issue(m, weights)
        m.d.comb += [
            weights.start.eq(start),
            activations.start.eq(start),
            activations.fresh.eq(weights.fresh),
            activations.instruction.eq(weights.instruction),
            array.weights.eq(weights.weights),
            array.capture.eq(weights.capture),
            array.activations.eq(activations.activations),
            array.swap.eq(activations.swap),
        ]
        self._accumulate(m, activations, array)
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

    def _accumulate(self, m: Module, activations: ActivationSequencer, array: SystolicArray) -> None:
        """The pixel's command meets its sums at the bottom of the array."""
        rows = self.config.rows
        m.d.comb += [
            self.accumulate.en.eq(delayed(m, activations.streaming, rows, "accumulate_en", reset_less=False)),
            self.accumulate.addr.eq(delayed(m, activations.addr, rows, "accumulate_addr")),
            self.accumulate.overwrite.eq(delayed(m, activations.overwrite, rows, "accumulate_overwrite")),
            self.accumulate.psums.eq(array.psums),
        ]

    def _complete(self, m: Module, activations: ActivationSequencer, issue: Signal) -> None:
        """Signals travel beside the array with the instruction's last pixel."""
        ending = delayed(m, Cat(activations.last, activations.signal), self.latency, "ending", reset_less=False)
        in_flight = Signal(range(self.latency + 3))
        m.d.sync += in_flight.eq(in_flight + issue - self.control.complete)
        m.d.comb += [
            Cat(self.control.complete, self.control.signal).eq(ending),
            self.control.idle.eq(in_flight == 0),
        ]
