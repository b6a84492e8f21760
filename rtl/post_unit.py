"""POST: bias, requantization, clamp, additions and pooling on the way back to the scratchpad."""

from __future__ import annotations

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import Out

from accel.config import ArchConfig
from rtl.interfaces import ReadPort, UnitControl, WritePort
from rtl.param_memory import RECORD


class PostUnit(wiring.Component):
    """`post_lanes` lanes of post-processing.

    Members
    -------
    control : Out(UnitControl)
    spad_read, acc_read, param_read : Out(ReadPort)
    spad_write : Out(WritePort)
    """

    def __init__(self, config: ArchConfig):
        self.config = config
        super().__init__(
            {
                "control": Out(UnitControl()),
                "spad_read": Out(ReadPort(config.spad_words, config.rows)),
                "acc_read": Out(ReadPort(config.acc_words, config.cols, 32)),
                "param_read": Out(ReadPort(config.param_rows, config.post_lanes, RECORD.size)),
                "spad_write": Out(WritePort(config.spad_words, config.rows)),
            }
        )

    def elaborate(self, platform) -> Module:
        return Module()
