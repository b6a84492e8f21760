"""ACC: the banked accumulator memory and its adders."""

from __future__ import annotations

from itertools import combinations
from typing import NamedTuple

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.memory import ReadPort as MemoryReadPort
from amaranth.lib.memory import WritePort as MemoryWritePort
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from accel.machine.config import ArchConfig
from accel.machine.timing import READ_LATENCY
from rtl.interfaces import AccumulatePort, ReadPort
from rtl.pipeline import delayed


class Access(NamedTuple):
    """Use of a column in a cycle: one bit per bank, at most one of them set; the word; whether its old value is 0."""

    banks: Value
    addr: Value
    overwrite: Value = Const(0)

    def delayed(self, m: Module, name: str) -> Access:
        """The access of the cycle before."""
        banks = delayed(m, self.banks, 1, f"{name}_banks", reset_less=False)
        return Access(
            banks, delayed(m, self.addr, 1, f"{name}_addr"), delayed(m, self.overwrite, 1, f"{name}_overwrite")
        )


class Update(NamedTuple):
    """One unit's accumulation in a column: the word to read, the one to write that was read before, what is added."""

    read: Access
    write: Access
    psum: Value


class Accumulators(wiring.Component):
    """`acc_banks` banks of `acc_bank_words` words of `cols` int32; each column of a bank is a memory of its own.

    EXEC reads, adds and writes column c of a word c cycles after column 0, DEPTHWISE all columns at once; to those
    beyond its lanes it adds 0. POST reads all columns of a word at once. A bank has one read and one write port. A word
    that is written in the cycle of its read or in the next one reads as its new value. Read latency is `READ_LATENCY`.

    Members
    -------
    exec_accumulate : In(AccumulatePort)
        Skewed.
    depthwise_accumulate : In(AccumulatePort)
        Not skewed; only with a depthwise engine.
    post_read : In(ReadPort)
    conflict : Out(1)
        High in a cycle in which two units read the same bank in one column; the result then is undefined. What EXEC and
        DEPTHWISE read in a cycle they write `READ_LATENCY` cycles later, so that this reports conflicts of writes too.
    """

    latency = READ_LATENCY

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
        post = Access(self._banks(self.post_read.en, self.post_read.addr), self.post_read.addr)
        answers = delayed(m, post.banks, READ_LATENCY, "post_answers", reset_less=False)
        engine = self._engine(m)
        execute = [self._access(self.exec_accumulate)]
        for column in range(self.config.cols + READ_LATENCY - 1):
            execute.append(execute[-1].delayed(m, f"column{column}"))
        conflicts = []
        for column in range(self.config.cols):
            psum = self.exec_accumulate.psums.word_select(column, 32)
            updates = [Update(execute[column], execute[column + READ_LATENCY], psum), *engine[column]]
            reads = [*(update.read for update in updates), post]
            conflicts += [(a.banks & b.banks).any() for a, b in combinations(reads, 2)]
            self._column(m, column, updates, reads, answers)
        m.d.comb += self.conflict.eq(Cat(conflicts).any())
        return m

    def _banks(self, en: Value, addr: Value) -> Value:
        """One bit per bank: `addr` lies in it."""
        offset_bits = exact_log2(self.config.acc_bank_words)
        return Cat(en & (addr >> offset_bits == bank) for bank in range(self.config.acc_banks))

    def _access(self, port: wiring.PureInterface) -> Access:
        return Access(self._banks(port.en, port.addr), port.addr, port.overwrite)

    def _engine(self, m: Module) -> list[list[Update]]:
        """The depthwise engine's update of each column, if there is one."""
        if not self.config.depthwise_taps:
            return [[]] * self.config.cols
        port, lanes = self.depthwise_accumulate, self.config.depthwise_lanes
        read = self._access(port)
        write = read
        for stage in range(READ_LATENCY):
            write = write.delayed(m, f"engine{stage}")
        psums = [port.psums.word_select(lane, 32) for lane in range(lanes)] + [Const(0)] * (self.config.cols - lanes)
        return [[Update(read, write, psum)] for psum in psums]

    def _column(self, m: Module, column: int, updates: list[Update], reads: list[Access], answers: Value) -> None:
        """One column's memories, and an adder for each unit that accumulates."""
        offset_bits = exact_log2(self.config.acc_bank_words)
        olds = [Signal(32, name=f"column{column}_old{i}") for i in range(len(updates))]
        for bank in range(self.config.acc_banks):
            memory = Memory(shape=32, depth=max(self.config.acc_bank_words, 2), init=[])
            m.submodules[f"bank{bank}_column{column}"] = memory
            write = memory.write_port()
            read = memory.read_port(transparent_for=(write,))
            value = self._newest(m, f"bank{bank}_column{column}", read, write)
            m.d.comb += read.en.eq(0)
            for access in reads:
                with m.If(access.banks[bank]):
                    m.d.comb += [read.en.eq(1), read.addr.eq(access.addr[:offset_bits])]
            for old, update in zip(olds, updates, strict=True):
                with m.If(update.write.banks[bank]):
                    m.d.comb += [
                        old.eq(value),
                        write.en.eq(1),
                        write.addr.eq(update.write.addr[:offset_bits]),
                        write.data.eq(update.psum + Mux(update.write.overwrite, 0, old)),
                    ]
            with m.If(answers[bank]):
                m.d.comb += self.post_read.data.word_select(column, 32).eq(value)

    def _newest(self, m: Module, name: str, read: MemoryReadPort, write: MemoryWritePort) -> Signal:
        """The word that was read, in a register: the one that is written meanwhile, if it is the same."""
        value, address = Signal(32, name=f"{name}_value"), Signal.like(read.addr, name=f"{name}_address")
        with m.If(read.en):
            m.d.sync += address.eq(read.addr)
        m.d.sync += value.eq(Mux(write.en & (write.addr == address), write.data, read.data))
        return value
