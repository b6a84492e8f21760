"""TABLE: look-up tables that POST may apply to its results."""

from __future__ import annotations

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In

from accel.machine.config import TABLE_WORDS, ArchConfig
from accel.machine.latencies import ACC_LATENCY
from rtl.interfaces import ReadPort, WritePort
from rtl.pipeline import delayed


class TableMemory(wiring.Component):
    """`post_lanes` copies of all tables: LOAD writes one byte to all of them, each lane of POST reads its own.

    Read latency is `ACC_LATENCY`; a word that is being written reads as its old value.

    Members
    -------
    load_write : In(WritePort)
        Address: table * 256 + entry.
    post_read : In(ReadPort), one per lane
        The data change with an answer only.
    """

    latency = ACC_LATENCY

    def __init__(self, config: ArchConfig):
        super().__init__(
            {
                "load_write": In(WritePort(TABLE_WORDS, 1, masked=False)),
                "post_read": In(ReadPort(TABLE_WORDS, 1)).array(config.post_lanes),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        for lane, port in enumerate(self.post_read):
            m.submodules[f"lane{lane}"] = memory = Memory(shape=8, depth=TABLE_WORDS, init=[])
            read, write = memory.read_port(), memory.write_port()
            entry = Signal(8, name=f"entry{lane}", reset_less=True)
            with m.If(delayed(m, port.en, ACC_LATENCY - 1, f"answer{lane}")):
                m.d.sync += entry.eq(read.data)
            m.d.comb += [
                port.data.eq(entry),
                read.en.eq(port.en),
                read.addr.eq(port.addr),
                write.en.eq(self.load_write.en),
                write.addr.eq(self.load_write.addr),
                write.data.eq(self.load_write.data),
            ]
        return m
