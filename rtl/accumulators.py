"""ACC: the banked accumulator memory and its adders."""

from __future__ import annotations

from itertools import combinations

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.memory import ReadPort as MemoryReadPort
from amaranth.lib.memory import WritePort as MemoryWritePort
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from accel.machine.config import ArchConfig
from accel.machine.timing import ACC_LATENCY
from rtl.blocks import Block
from rtl.interfaces import AccumulatePort, ReadPort
from rtl.pipeline import delayed


class Access(wiring.Signature):
    """Use of a column in a cycle.

    Members
    -------
    banks : Out
        One bit per bank, at most one of them set.
    addr : Out
        The word in its bank.
    overwrite : Out(1)
        Its old value is taken as 0.
    """

    def __init__(self, config: ArchConfig):
        self.addr_bits = max(exact_log2(config.acc_bank_words), 1)
        super().__init__({"banks": Out(config.acc_banks), "addr": Out(self.addr_bits), "overwrite": Out(1)})


class AccumulatorColumn(Block):
    """One column's memories, one per bank, and an adder for each unit that accumulates.

    Members
    -------
    reads : In(Access), one per unit
        Units that accumulate, then POST.
    writes : In(Access), psums : In(32), one per unit that accumulates
        The word that it read `ACC_LATENCY` cycles before, and what is added to it.
    answers : In
        One bit per bank: POST read there `ACC_LATENCY` cycles before.
    data : Out(32)
        The word that POST read.
    """

    module = "accumulator_column"

    def __init__(self, config: ArchConfig, units: int):
        self._config, self._units = config, units
        access = Access(config)
        super().__init__(
            {
                "reads": In(access).array(units + 1),
                "writes": In(access).array(units),
                "psums": In(32).array(units),
                "answers": In(config.acc_banks),
                "data": Out(32),
            }
        )

    def build(self, platform: object) -> Module:
        m = Module()
        olds = [Signal(32, name=f"old{unit}") for unit in range(self._units)]
        for bank in range(self._config.acc_banks):
            m.submodules[f"bank{bank}"] = memory = Memory(shape=32, depth=max(self._config.acc_bank_words, 2), init=[])
            write = memory.write_port()
            read = memory.read_port(transparent_for=(write,))
            value = self._newest(m, f"bank{bank}", read, write)
            m.d.comb += read.en.eq(0)
            for access in self.reads:
                with m.If(access.banks[bank]):
                    m.d.comb += [read.en.eq(1), read.addr.eq(access.addr)]
            for old, access, psum in zip(olds, self.writes, self.psums, strict=True):
                with m.If(access.banks[bank]):
                    m.d.comb += [
                        old.eq(value),
                        write.en.eq(1),
                        write.addr.eq(access.addr),
                        write.data.eq(psum + Mux(access.overwrite, 0, old)),
                    ]
            with m.If(self.answers[bank]):
                m.d.comb += self.data.eq(value)
        return m

    def _newest(self, m: Module, name: str, read: MemoryReadPort, write: MemoryWritePort) -> Signal:
        """The word that was read, in a register: the one that is written meanwhile, if it is the same."""
        value, address = Signal(32, name=f"{name}_value"), Signal.like(read.addr, name=f"{name}_address")
        with m.If(read.en):
            m.d.sync += address.eq(read.addr)
        m.d.sync += value.eq(Mux(write.en & (write.addr == address), write.data, read.data))
        return value


class Accumulators(wiring.Component):
    """`acc_banks` banks of `acc_bank_words` words of `cols` int32; each column of a bank is a memory of its own.

    EXEC reads, adds and writes column c of a word c cycles after column 0, DEPTHWISE all columns at once; to those
    beyond its lanes it adds 0. POST reads all columns of a word at once. A bank has one read and one write port. A word
    that is written in the cycle of its read or in the next one reads as its new value. Read latency is `ACC_LATENCY`.

    Members
    -------
    exec_accumulate : In(AccumulatePort)
        Skewed.
    depthwise_accumulate : In(AccumulatePort)
        Not skewed; only with a depthwise engine.
    post_read : In(ReadPort)
    conflict : Out(1)
        High in a cycle in which two units read the same bank in one column; the result then is undefined. What EXEC and
        DEPTHWISE read in a cycle they write `ACC_LATENCY` cycles later, so that this reports conflicts of writes too.
    """

    latency = ACC_LATENCY

    def __init__(self, config: ArchConfig):
        self.config = config
        engine = {"depthwise_accumulate": In(AccumulatePort(config.acc_words, config.depthwise_lanes))}
        super().__init__(
            {
                "exec_accumulate": In(AccumulatePort(config.acc_words, config.cols)),
                **(engine if config.depthwise_taps else {}),
                "post_read": In(ReadPort(config.acc_words, config.cols, 32)),
                "conflict": Out(1),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        lanes, engine = self.config.depthwise_lanes, bool(self.config.depthwise_taps)
        post = self._access(m, "post", self.post_read.en, self.post_read.addr)
        answers = delayed(m, post.banks, ACC_LATENCY, "post_answers", reset_less=False)
        execute = self._chain(m, "column", self.exec_accumulate, self.config.cols + ACC_LATENCY)
        depthwise = self._chain(m, "engine", self.depthwise_accumulate, ACC_LATENCY + 1) if engine else []
        conflicts = []
        for index in range(self.config.cols):
            m.submodules[f"column{index}"] = column = AccumulatorColumn(self.config, 1 + engine)
            reads = [execute[index], *depthwise[:1], post]
            writes = [execute[index + ACC_LATENCY], *depthwise[-1:]]
            for ports, accesses in ((column.reads, reads), (column.writes, writes)):
                for port, access in zip(ports, accesses, strict=True):
                    wiring.connect(m, access, port)
            m.d.comb += [
                column.psums[0].eq(self.exec_accumulate.psums.word_select(index, 32)),
                column.answers.eq(answers),
                self.post_read.data.word_select(index, 32).eq(column.data),
            ]
            if index < lanes:
                m.d.comb += column.psums[1].eq(self.depthwise_accumulate.psums.word_select(index, 32))
            conflicts += [(a.banks & b.banks).any() for a, b in combinations(reads, 2)]
        m.d.comb += self.conflict.eq(Cat(conflicts).any())
        return m

    def _access(self, m: Module, name: str, en: Value, addr: Value, overwrite: Value | int = 0) -> wiring.PureInterface:
        """The use of word `addr` in a cycle with `en`."""
        access, offset_bits = Access(self.config).create(path=(name,)), exact_log2(self.config.acc_bank_words)
        banks = Cat(en & (addr >> offset_bits == bank) for bank in range(self.config.acc_banks))
        m.d.comb += [access.banks.eq(banks), access.addr.eq(addr[:offset_bits]), access.overwrite.eq(overwrite)]
        return access

    def _chain(self, m: Module, name: str, port: wiring.PureInterface, length: int) -> list[wiring.PureInterface]:
        """The accesses of `port`: of this cycle, of the cycle before, and so on."""
        accesses = [self._access(m, f"{name}0", port.en, port.addr, port.overwrite)]
        for stage in range(1, length):
            before, access = accesses[-1], Access(self.config).create(path=(f"{name}{stage}",))
            for member in access.signature.members:
                earlier = delayed(m, getattr(before, member), 1, f"{name}{stage}_{member}", member != "banks")
                m.d.comb += getattr(access, member).eq(earlier)
            accesses.append(access)
        return accesses
