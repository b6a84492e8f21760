"""WBUF and TAPS: the weight memories of the array and of the depthwise engine."""

from __future__ import annotations

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In

from accel.machine.timing import READ_LATENCY
from rtl.interfaces import ReadPort, WritePort
from rtl.pipeline import delayed


class WeightBuffer(wiring.Component):
    """Words of int8; read latency `READ_LATENCY`; a word that is being written reads as its old value.

    Parameters
    ----------
    words, lanes : int
        WBUF: `wbuf_words` of `cols`; TAPS: `depthwise_words` of `depthwise_lanes`.

    Members
    -------
    load_write : In(WritePort)
        The mask selects bytes.
    read : In(ReadPort)
    """

    latency = READ_LATENCY

    def __init__(self, words: int, lanes: int):
        self._words, self._lanes = words, lanes
        super().__init__({"load_write": In(WritePort(words, lanes)), "read": In(ReadPort(words, lanes))})

    def elaborate(self, platform) -> Module:
        m = Module()
        m.submodules.memory = memory = Memory(shape=8 * self._lanes, depth=self._words, init=[])
        read, write = memory.read_port(), memory.write_port(granularity=8)
        m.d.comb += [
            read.en.eq(self.read.en),
            read.addr.eq(self.read.addr),
            self.read.data.eq(delayed(m, read.data, READ_LATENCY - 1, "word")),
            write.addr.eq(self.load_write.addr),
            write.data.eq(self.load_write.data),
        ]
        with m.If(self.load_write.en):
            m.d.comb += write.en.eq(self.load_write.mask)
        return m
