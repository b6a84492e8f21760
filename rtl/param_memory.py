"""PARAM: one record of bias, multiplier and shift per output channel."""

from __future__ import annotations

from amaranth.hdl import Module, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In
from amaranth.utils import exact_log2

from accel.machine.config import PARAM_RECORD_BYTES, ArchConfig
from accel.machine.latencies import ACC_LATENCY
from rtl.interfaces import ReadPort, WritePort
from rtl.pipeline import delayed

RECORD = data.StructLayout({"bias": signed(32), "multiplier": signed(32), "shift": signed(8)})
"""One channel's record."""


class ParamMemory(wiring.Component):
    """`post_lanes` memories of records: LOAD writes one channel, POST reads one row of `post_lanes` channels.

    Channel i is record `i // post_lanes` of lane `i % post_lanes`. Read latency is `ACC_LATENCY`.

    Members
    -------
    load_write : In(WritePort)
        Address: channel; data: its `PARAM_RECORD_BYTES`.
    post_read : In(ReadPort)
        Address: row; data: `post_lanes` records; they change with an answer only.
    """

    latency = ACC_LATENCY

    def __init__(self, config: ArchConfig):
        self.config = config
        super().__init__(
            {
                "load_write": In(WritePort(config.param_channels, PARAM_RECORD_BYTES, masked=False)),
                "post_read": In(ReadPort(config.param_rows, config.post_lanes, RECORD.size)),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        lane_bits = exact_log2(self.config.post_lanes)
        answer = delayed(m, self.post_read.en, ACC_LATENCY - 1, "answer")
        for lane in range(self.config.post_lanes):
            memory = Memory(shape=RECORD.size, depth=self.config.param_rows, init=[])
            m.submodules[f"lane{lane}"] = memory
            read, write = memory.read_port(), memory.write_port()
            m.d.comb += [
                read.en.eq(self.post_read.en),
                read.addr.eq(self.post_read.addr),
                write.en.eq(self.load_write.en & (self.load_write.addr[:lane_bits] == lane)),
                write.addr.eq(self.load_write.addr[lane_bits:]),
                write.data.eq(self.load_write.data),
            ]
            record = Signal(RECORD, name=f"record{lane}", reset_less=True)
            with m.If(answer):
                m.d.sync += record.eq(read.data)
            m.d.comb += self.post_read.data.word_select(lane, RECORD.size).eq(record)
        return m
