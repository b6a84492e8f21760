"""SPAD: the banked activation memory."""

from __future__ import annotations

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from accel.config import ArchConfig
from rtl.interfaces import ReadPort, WritePort

READERS = ("exec_read", "post_read", "store_read")
WRITERS = ("load_write", "post_write")


class Scratchpad(wiring.Component):
    """`spad_banks` memories of `spad_bank_words` words of `rows` bytes, each with one read and one write port.

    The upper address bits select the bank. Read latency is one cycle. A word that is being written reads
    as its old value.

    Members
    -------
    exec_read, post_read, store_read : In(ReadPort)
    load_write, post_write : In(WritePort)
        Masks select bytes.
    read_conflict, write_conflict : Out(1)
        High in a cycle in which two of them use the same bank; the result then is undefined.
    """

    latency = 1

    def __init__(self, config: ArchConfig):
        self.config = config
        super().__init__(
            {
                **{name: In(ReadPort(config.spad_words, config.rows)) for name in READERS},
                **{name: In(WritePort(config.spad_words, config.rows)) for name in WRITERS},
                "read_conflict": Out(1),
                "write_conflict": Out(1),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        readers = [getattr(self, name) for name in READERS]
        writers = [getattr(self, name) for name in WRITERS]
        offset_bits = exact_log2(self.config.spad_bank_words)
        answers = [Signal(self.config.spad_banks, name=f"{name}_bank") for name in READERS]
        for bank in range(self.config.spad_banks):
            memory = Memory(shape=8 * self.config.rows, depth=self.config.spad_bank_words, init=[])
            m.submodules[f"bank{bank}"] = memory
            read, write = memory.read_port(), memory.write_port(granularity=8)
            reads = [port.en & (port.addr >> offset_bits == bank) for port in readers]
            writes = [port.en & (port.addr >> offset_bits == bank) for port in writers]
            m.d.comb += read.en.eq(0)
            for port, selected in zip(readers, reads, strict=True):
                with m.If(selected):
                    m.d.comb += [read.en.eq(1), read.addr.eq(port.addr)]
            for port, selected in zip(writers, writes, strict=True):
                with m.If(selected):
                    m.d.comb += [write.en.eq(port.mask), write.addr.eq(port.addr), write.data.eq(port.data)]
            with m.If(sum(reads) > 1):
                m.d.comb += self.read_conflict.eq(1)
            with m.If(sum(writes) > 1):
                m.d.comb += self.write_conflict.eq(1)
            for port, answer, selected in zip(readers, answers, reads, strict=True):
                m.d.sync += answer[bank].eq(selected)
                with m.If(answer[bank]):
                    m.d.comb += port.data.eq(read.data)
        return m
