"""WBUF and TAPS: the weight memories of the array and of the depthwise engine."""

from __future__ import annotations

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In

from accel.machine.latencies import READ_LATENCY
from rtl.interfaces import ReadPort, WritePort
from rtl.pipeline import delayed


class WeightBuffer(wiring.Component):
    """Words of int8; read latency `READ_LATENCY`; a word that is being written reads as its old value;
    both ports are registered, so that reads and writes happen in the cycle after.

    Parameters
    ----------
    words, lanes : int
        WBUF: `wbuf_words` of `cols`; TAPS: `depthwise_words` of `depthwise_lanes`.

    Members
    -------
    load_write : In(WritePort)
        The mask selects bytes.
    read : In(ReadPort)
        The data change with an answer only.
    """

    latency = READ_LATENCY

    def __init__(self, words: int, lanes: int):
        self._words, self._lanes = words, lanes
        super().__init__({"load_write": In(WritePort(words, lanes)), "read": In(ReadPort(words, lanes))})

    def elaborate(self, platform) -> Module:
        m = Module()
        m.submodules.memory = memory = Memory(shape=8 * self._lanes, depth=self._words, init=[])
        read, write = memory.read_port(), memory.write_port(granularity=8)
        asked = delayed(m, self.read.en, 1, "asked")
        word = delayed(m, read.data, READ_LATENCY - 3, "word")
        answer = Signal.like(self.read.data, reset_less=True)
        with m.If(delayed(m, asked, READ_LATENCY - 2, "answers")):
            m.d.sync += answer.eq(word)
        mask = self.load_write.mask & self.load_write.en.replicate(self._lanes)
        m.d.comb += [
            self.read.data.eq(answer),
            read.en.eq(asked),
            read.addr.eq(delayed(m, self.read.addr, 1, "read_addr")),
            write.addr.eq(delayed(m, self.load_write.addr, 1, "write_addr")),
            write.data.eq(delayed(m, self.load_write.data, 1, "write_data")),
            write.en.eq(delayed(m, mask, 1, "write_mask", reset_less=False)),
        ]
        return m
