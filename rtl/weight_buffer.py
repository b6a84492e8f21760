"""WBUF: the weight memory."""

from __future__ import annotations

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In

from accel.config import ArchConfig
from rtl.interfaces import ReadPort, WritePort


class WeightBuffer(wiring.Component):
    """`wbuf_words` words of `cols` int8; read latency one cycle; a word that is being written reads as its old value.

    Members
    -------
    load_write : In(WritePort)
        The mask selects bytes.
    exec_read : In(ReadPort)
    """

    latency = 1

    def __init__(self, config: ArchConfig):
        self.config = config
        super().__init__(
            {
                "load_write": In(WritePort(config.wbuf_words, config.cols)),
                "exec_read": In(ReadPort(config.wbuf_words, config.cols)),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        m.submodules.memory = memory = Memory(shape=8 * self.config.cols, depth=self.config.wbuf_words, init=[])
        read, write = memory.read_port(), memory.write_port(granularity=8)
        m.d.comb += [
            read.en.eq(self.exec_read.en),
            read.addr.eq(self.exec_read.addr),
            self.exec_read.data.eq(read.data),
            write.addr.eq(self.load_write.addr),
            write.data.eq(self.load_write.data),
        ]
        with m.If(self.load_write.en):
            m.d.comb += write.en.eq(self.load_write.mask)
        return m
