"""EXEC: matrix products of scratchpad and weight buffer into the accumulators."""

from __future__ import annotations

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import Out

from accel.config import ArchConfig
from rtl.interfaces import AccumulatePort, ReadPort, UnitControl


class ExecUnit(wiring.Component):
    """The systolic array with its weight sequencer and its activation sequencer.

    Members
    -------
    control : Out(UnitControl)
    spad_read, wbuf_read : Out(ReadPort)
    accumulate : Out(AccumulatePort)
    """

    def __init__(self, config: ArchConfig):
        self.config = config
        super().__init__(
            {
                "control": Out(UnitControl()),
                "spad_read": Out(ReadPort(config.spad_words, config.rows)),
                "wbuf_read": Out(ReadPort(config.wbuf_words, config.cols)),
                "accumulate": Out(AccumulatePort(config.acc_words, config.cols)),
            }
        )

    def elaborate(self, platform) -> Module:
        return Module()
