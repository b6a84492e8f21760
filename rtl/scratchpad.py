"""SPAD: the banked activation memory."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from accel.machine.config import ArchConfig
from accel.machine.latencies import READ_LATENCY
from rtl.interfaces import ReadPort, WritePort
from rtl.pipeline import delayed, one_hot, several

READERS = ("exec_read", "post_read", "store_read")
ENGINE_READERS = ("depthwise_read", "depthwise_read_earlier")
WRITERS = ("load_write", "post_write")


def memories_of(config: ArchConfig, bank: int, half: int) -> list[str]:
    """Names of the memories of a bank's half (0 without a depthwise engine), of each group of bytes one."""
    name = f"bank{bank}_{half}" if config.depthwise_taps else f"bank{bank}"
    groups = config.rows // config.post_lanes
    return [f"{name}_group{group}" for group in range(groups)] if groups > 1 else [name]


class Scratchpad(wiring.Component):
    """`spad_banks` banks of `spad_bank_words` words of `rows` bytes, each with one read and one write port.

    The upper address bits select the bank. Read latency is `READ_LATENCY`. All ports are registers, so that reads and
    writes happen in the cycle after. Each group of `post_lanes` bytes of a word is in a memory of its own: a POST in
    place reads those of one group while it writes those of another, so that no memory need answer for a word that is
    being written. With a depthwise engine words with even and with odd addresses are in different memories, too, so
    that DEPTHWISE can read two words of a bank at once.

    Members
    -------
    exec_read, post_read, store_read : In(ReadPort)
    depthwise_read, depthwise_read_earlier : In(ReadPort)
        Only with a depthwise engine; of two addresses in one bank, one must be even, one odd.
    load_write, post_write : In(WritePort)
        Masks select bytes.
    read_conflict, write_conflict : Out(1)
        Two units read the same bank two cycles before, or DEPTHWISE the same memory twice; wrote it in the cycle
        before. The result then is undefined.
    """

    latency = READ_LATENCY

    def __init__(self, config: ArchConfig):
        self.config = config
        self._readers = (*READERS, *ENGINE_READERS) if config.depthwise_taps else READERS
        self._held: dict[tuple[str, str], Value] = {}
        self._answers: dict[str, Signal] = {}
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
        m.d.sync += [self.read_conflict.eq(0), self.write_conflict.eq(0)]
        parts = 2 if self.config.depthwise_taps else 1
        offset_bits = exact_log2(self.config.spad_bank_words)
        for name in self._readers:
            self._answers[name] = answer = Signal(8 * self.config.rows, name=f"{name}_answer", reset_less=True)
            m.d.comb += getattr(self, name).data.eq(answer)
        for bank in range(self.config.spad_banks):
            reads, writes = (
                {name: (port := getattr(self, name)).en & (port.addr >> offset_bits == bank) for name in names}
                for names in (self._readers, WRITERS)
            )
            units = [reads[name] for name in READERS]
            if parts > 1:
                units.append(reads["depthwise_read"] | reads["depthwise_read_earlier"])
            with m.If(several(delayed(m, Cat(units), 1, f"readers{bank}", reset_less=False))):
                m.d.sync += self.read_conflict.eq(1)
            with m.If(several(writes.values())):
                m.d.sync += self.write_conflict.eq(1)
            for part in range(parts):
                groups = []
                for name in memories_of(self.config, bank, part):
                    depth = self.config.spad_bank_words // parts
                    m.submodules[name] = memory = Memory(shape=8 * self.config.post_lanes, depth=depth, init=[])
                    groups.append(memory)
                mine = [
                    {name: use & (getattr(self, name).addr[: parts - 1] == part) for name, use in uses.items()}
                    for uses in (reads, writes)
                ]
                self._read(m, groups, mine[0], parts - 1)
                self._write(m, groups, mine[1], parts - 1)
        return m

    def _before(self, m: Module, name: str, member: str) -> Value:
        """A member of a port in the cycle before: memories see their ports a cycle late."""
        if (name, member) not in self._held:
            self._held[name, member] = delayed(m, getattr(getattr(self, name), member), 1, f"{name}_{member}")
        return self._held[name, member]

    def _read(self, m: Module, groups: list[Memory], uses: dict, part_bits: int) -> None:
        """Add the read ports for the ports that use these memories."""
        reads = [memory.read_port() for memory in groups]
        word = delayed(m, Cat(read.data for read in reads), READ_LATENCY - 3, "word")
        addresses, engine = [], []
        for name, use in uses.items():
            asked = delayed(m, use, 1, f"{name}_asked", reset_less=False)
            addresses.append((asked, self._before(m, name, "addr")[part_bits:]))
            if name in ENGINE_READERS:
                engine.append(asked)
            with m.If(delayed(m, asked, READ_LATENCY - 2, f"{name}_answers", reset_less=False)):
                m.d.sync += self._answers[name].eq(word)
        if part_bits:
            with m.If(Cat(engine).all()):
                m.d.sync += self.read_conflict.eq(1)
        asked, address = Cat(asked for asked, _ in addresses).any(), one_hot(addresses)
        m.d.comb += [[read.en.eq(asked), read.addr.eq(address)] for read in reads]

    def _write(self, m: Module, groups: list[Memory], uses: dict, part_bits: int) -> None:
        """Add the write ports for the ports that use these memories."""
        written = [(delayed(m, use, 1, f"{name}_written", reset_less=False), name) for name, use in uses.items()]
        mask, address, data = (
            one_hot((use, self._before(m, name, member)[shift:]) for use, name in written)
            for member, shift in (("mask", 0), ("addr", part_bits), ("data", 0))
        )
        lanes = self.config.post_lanes
        for group, write in enumerate(memory.write_port(granularity=8) for memory in groups):
            m.d.comb += [
                write.en.eq(mask.word_select(group, lanes)),
                write.addr.eq(address),
                write.data.eq(data.word_select(group, 8 * lanes)),
            ]
