"""EXEC: matrix products of scratchpad and weight buffer into the accumulators."""

from __future__ import annotations

from amaranth.hdl import Module, Mux
from amaranth.lib import wiring
from amaranth.lib.wiring import Out, connect, flipped

from accel.machine.config import ArchConfig
from accel.machine.isa import Opcode
from accel.machine.latencies import ACC_LATENCY, EXEC_LATENCY, READ_LATENCY, exec_latency
from accel.machine.weight_words import tile_words
from rtl.activation_sequencer import ActivationSequencer
from rtl.array import SystolicArray
from rtl.interfaces import AccumulatePort, ReadPort, UnitControl
from rtl.pipeline import delayed
from rtl.tile_control import drive_control
from rtl.weight_sequencer import WeightSequencer


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
        self.latency = exec_latency(config)
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
        config, rows = self.config, self.config.rows
        command = rows + EXEC_LATENCY - ACC_LATENCY
        m.submodules.weights = weights = WeightSequencer(
            Opcode.EXEC, ("chunk", "ky", "kx"), config.wbuf_words, config.cols, rows, config.int4_weights
        )
        m.submodules.activations = activations = ActivationSequencer(self.config)
        m.submodules.array = array = SystolicArray(self.config)
        connect(m, weights.read, flipped(self.wbuf_read))
        connect(m, activations.read, flipped(self.spad_read))
        drive_control(m, self.control, weights, activations, self.latency)
        start = weights.loaded & activations.free
        m.d.comb += [
            weights.address.eq(weights.head.wbuf_address),
            weights.start.eq(start),
            activations.start.eq(start),
            activations.fresh.eq(weights.fresh),
            activations.instruction.eq(weights.instruction),
            array.weights.eq(weights.weights),
            array.capture.eq(weights.arrives & weights.first),
            array.activations.eq(activations.activations),
            array.swap.eq(activations.swap),
            # The pixel's command meets its sums at the bottom of the array.
            self.accumulate.en.eq(delayed(m, activations.streaming, command, "accumulate_en", reset_less=False)),
            self.accumulate.addr.eq(delayed(m, activations.addr, command, "accumulate_addr")),
            self.accumulate.overwrite.eq(delayed(m, activations.overwrite, command, "accumulate_overwrite")),
            self.accumulate.psums.eq(array.psums),
            *self._tile_words(m, weights, array),
        ]
        return m

    def _tile_words(self, m: Module, weights: WeightSequencer, array: SystolicArray) -> list:
        """Statements for the words of a tile: a row in each, or two rows of int4."""
        rows, k_rows = self.config.rows, weights.instruction.k_rows
        if not self.config.int4_weights:
            return [weights.cycles.eq(rows), weights.present.eq(k_rows), weights.single.eq(rows == 1)]
        int4 = weights.instruction.int4
        return [
            weights.cycles.eq(Mux(int4, tile_words(rows, 1), rows)),
            weights.single.eq(Mux(weights.head.int4, tile_words(rows, 1) == 1, rows == 1)),
            weights.present.eq(Mux(int4, tile_words(k_rows, 1), k_rows)),
            weights.half.eq(int4 & k_rows[0]),
            array.int4.eq(delayed(m, int4, READ_LATENCY, "int4")),
        ]
