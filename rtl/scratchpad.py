"""SPAD: the banked activation memory."""

from __future__ import annotations

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from accel.machine.config import ArchConfig
from accel.machine.timing import READ_LATENCY
from rtl.interfaces import ReadPort, WritePort
from rtl.pipeline import delayed

READERS = ("exec_read", "post_read", "store_read")
ENGINE_READERS = ("depthwise_read", "depthwise_read_earlier")
WRITERS = ("load_write", "post_write")


class Scratchpad(wiring.Component):
    """`spad_banks` banks of `spad_bank_words` words of `rows` bytes, each with one read and one write port.

    The upper address bits select the bank. Read latency is `READ_LATENCY`. A word that is being written reads
    as its old value. With a depthwise engine a bank is made of two memories, of the words with even and with odd
    addresses, so that DEPTHWISE can read two words of a bank at once.

    Members
    -------
    exec_read, post_read, store_read : In(ReadPort)
    depthwise_read, depthwise_read_earlier : In(ReadPort)
        Only with a depthwise engine; of two addresses in one bank, one must be even, one odd.
    load_write, post_write : In(WritePort)
        Masks select bytes.
    read_conflict, write_conflict : Out(1)
        High in a cycle in which two units use the same bank, or DEPTHWISE the same memory twice; the result then is
        undefined.
    """

    latency = READ_LATENCY

    def __init__(self, config: ArchConfig):
        self.config = config
        self._readers = (*READERS, *ENGINE_READERS) if config.depthwise_taps else READERS
        super().__init__(
            {
                **{name: In(ReadPort(config.spad_words, config.rows)) for name in self._readers},
                **{name: In(WritePort(config.spad_words, config.rows)) for name in WRITERS},
                "read_conflict": Out(1),
                "write_conflict": Out(1),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        readers = {name: getattr(self, name) for name in self._readers}
        writers = {name: getattr(self, name) for name in WRITERS}
        parts = 2 if self.config.depthwise_taps else 1
        offset_bits = exact_log2(self.config.spad_bank_words)
        for bank in range(self.config.spad_banks):
            reads, writes = (
                {name: port.en & (port.addr >> offset_bits == bank) for name, port in ports.items()}
                for ports in (readers, writers)
            )
            units = [reads[name] for name in READERS]
            if parts > 1:
                units.append(reads["depthwise_read"] | reads["depthwise_read_earlier"])
            with m.If(sum(units) > 1):
                m.d.comb += self.read_conflict.eq(1)
            with m.If(sum(writes.values()) > 1):
                m.d.comb += self.write_conflict.eq(1)
            for part in range(parts):
                memory = Memory(shape=8 * self.config.rows, depth=self.config.spad_bank_words // parts, init=[])
                m.submodules[f"bank{bank}_{part}" if parts > 1 else f"bank{bank}"] = memory
                mine = [
                    {name: use & (ports[name].addr[: parts - 1] == part) for name, use in uses.items()}
                    for ports, uses in ((readers, reads), (writers, writes))
                ]
                self._read(m, memory, readers, mine[0], parts - 1)
                self._write(m, memory, writers, mine[1], parts - 1)
        return m

    def _read(self, m: Module, memory: Memory, ports: dict, uses: dict, part_bits: int) -> None:
        """Add the read port for the `ports` that use this memory."""
        read = memory.read_port()
        word = delayed(m, read.data, READ_LATENCY - 2, "word")
        m.d.comb += read.en.eq(0)
        for name, port in ports.items():
            answer = delayed(m, uses[name], READ_LATENCY - 1, f"{name}_answer", reset_less=False)
            with m.If(uses[name]):
                m.d.comb += [read.en.eq(1), read.addr.eq(port.addr >> part_bits)]
            with m.If(answer):
                m.d.sync += port.data.eq(word)
        if part_bits:
            with m.If(uses["depthwise_read"] & uses["depthwise_read_earlier"]):
                m.d.comb += self.read_conflict.eq(1)

    def _write(self, m: Module, memory: Memory, ports: dict, uses: dict, part_bits: int) -> None:
        """Add the write port for the `ports` that use this memory."""
        write = memory.write_port(granularity=8)
        for name, port in ports.items():
            with m.If(uses[name]):
                m.d.comb += [write.en.eq(port.mask), write.addr.eq(port.addr >> part_bits), write.data.eq(port.data)]
