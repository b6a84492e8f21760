"""DEPTHWISE: windows of each channel by itself, from scratchpad and tap memory into the accumulators."""

from __future__ import annotations

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import Out, connect, flipped

from accel.machine.config import ArchConfig
from accel.machine.isa import Opcode
from accel.machine.latencies import ACC_LATENCY, DEPTHWISE_LATENCY
from rtl.depthwise_lane import DepthwiseLanes
from rtl.depthwise_reader import DepthwiseReader
from rtl.depthwise_sequencer import DepthwiseSequencer
from rtl.interfaces import AccumulatePort, ReadPort, UnitControl
from rtl.pipeline import delayed
from rtl.tile_control import drive_control
from rtl.weight_sequencer import WeightSequencer


class DepthwiseUnit(wiring.Component):
    """The depthwise engine: lanes, the stream of words into their windows, the outputs behind it, and the weights.

    The weights of the next tap row, or of the next instruction's first one, load while the outputs of this one run.

    Members
    -------
    control : Out(UnitControl)
    spad_read, spad_read_earlier, taps_read : Out(ReadPort)
    accumulate : Out(AccumulatePort)

    Attributes
    ----------
    latency : int
        Cycles from an output's step to its accumulator write.
    """

    latency = DEPTHWISE_LATENCY

    def __init__(self, config: ArchConfig):
        self.config = config
        spad = Out(ReadPort(config.spad_words, config.rows))
        super().__init__(
            {
                "control": Out(UnitControl()),
                "spad_read": spad,
                "spad_read_earlier": spad,
                "taps_read": Out(ReadPort(config.depthwise_words, config.depthwise_lanes)),
                "accumulate": Out(AccumulatePort(config.acc_words, config.depthwise_lanes)),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        config = self.config
        m.submodules.weights = weights = WeightSequencer(
            Opcode.DEPTHWISE, ("ky",), config.depthwise_words, config.depthwise_lanes, config.depthwise_taps
        )
        m.submodules.sequencer = sequencer = DepthwiseSequencer(config)
        m.submodules.reader = reader = DepthwiseReader(config)
        m.submodules.lanes = lanes = DepthwiseLanes(config)
        connect(m, weights.read, flipped(self.taps_read))
        connect(m, reader.read, flipped(self.spad_read))
        connect(m, reader.read_earlier, flipped(self.spad_read_earlier))
        drive_control(m, self.control, weights, sequencer, self.latency)
        m.d.comb += [
            weights.address.eq(weights.head.tap_address),
            weights.cycles.eq(weights.instruction.kx_count),
            weights.single.eq(weights.head.kx_count == 1),
            weights.present.eq(weights.instruction.kx_count),
            weights.start.eq(sequencer.tile_start),
            sequencer.load.eq(weights.free),
            sequencer.lead_steps.eq(weights.head.lead_steps),
            sequencer.fresh.eq(weights.fresh),
            sequencer.ready.eq(weights.loaded & weights.fresh),
            sequencer.instruction.eq(weights.instruction),
            reader.load.eq(weights.free),
            reader.head.eq(weights.head),
            reader.prepare.eq(sequencer.prepare),
            reader.start.eq(sequencer.begin),
            reader.instruction.eq(weights.instruction),
            reader.current.eq(sequencer.current),
            sequencer.words_outside.eq(reader.outside),
        ]
        m.d.comb += [
            lanes.swap.eq(sequencer.swap),
            lanes.double.eq(reader.double),
            lanes.taps.eq(sequencer.taps),
            lanes.pad_value.eq(sequencer.pad_value),
            lanes.capture.eq(weights.arrives),
            lanes.first.eq(weights.first),
            lanes.words.eq(reader.words),
            lanes.earlier.eq(reader.earlier),
            lanes.weights.eq(weights.weights),
        ]
        self._accumulate(m, lanes, sequencer)
        return m

    def _accumulate(self, m: Module, lanes: DepthwiseLanes, sequencer: DepthwiseSequencer) -> None:
        """The accumulator is read `ACC_LATENCY` cycles before the lanes' sum is there."""
        read = self.latency - ACC_LATENCY
        m.d.comb += [
            self.accumulate.en.eq(delayed(m, sequencer.output, read, "accumulate_en", reset_less=False)),
            self.accumulate.addr.eq(delayed(m, sequencer.addr, read, "accumulate_addr")),
            self.accumulate.overwrite.eq(delayed(m, sequencer.overwrite, read, "accumulate_overwrite")),
            self.accumulate.psums.eq(lanes.sums),
        ]
