"""ACC: the banked accumulator memory and its adders."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from accel.config import ArchConfig
from rtl.interfaces import AccumulatePort, ReadPort
from rtl.pipeline import delayed


class Accumulators(wiring.Component):
    """`acc_banks` banks of `acc_bank_words` words of `cols` int32; each column of a bank is a memory of its own.

    EXEC reads, adds and writes column c of a word c cycles after column 0; POST reads all columns of a word at once.
    Both share a bank's read port. A word that is being written reads as its new value. Read latency is one cycle.

    Members
    -------
    accumulate : In(AccumulatePort)
    post_read : In(ReadPort)
    conflict : Out(1)
        High in a cycle in which EXEC and POST read the same bank; the result then is undefined.
    """

    latency = 1

    def __init__(self, config: ArchConfig):
        self.config = config
        super().__init__(
            {
                "accumulate": In(AccumulatePort(config.acc_words, config.cols)),
                "post_read": In(ReadPort(config.acc_words, config.cols, 32)),
                "conflict": Out(1),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        command = self.accumulate
        post_banks = self._banks(self.post_read.en, self.post_read.addr)
        post_answers = Signal(self.config.acc_banks)
        m.d.sync += post_answers.eq(post_banks)
        now = (command.en, command.addr, command.overwrite)
        conflicts = []
        for column in range(self.config.cols):
            banks = Signal(self.config.acc_banks, name=f"column{column}_banks")
            m.d.comb += banks.eq(self._banks(now[0], now[1]))
            conflicts.append((banks & post_banks).any())
            before = tuple(
                delayed(m, value, 1, f"column{column}_{name}", reset_less=name != "en")
                for name, value in zip(("en", "addr", "overwrite"), now, strict=True)
            )
            self._column(m, column, banks, now, before, post_banks, post_answers)
            now = before
        m.d.comb += self.conflict.eq(Cat(conflicts).any())
        return m

    def _banks(self, en, addr):
        """One bit per bank: `addr` lies in it."""
        offset_bits = exact_log2(self.config.acc_bank_words)
        return Cat(en & (addr >> offset_bits == bank) for bank in range(self.config.acc_banks))

    def _column(self, m: Module, column: int, banks, now, before, post_banks, post_answers) -> None:
        """One column's memories and adder: `now` is the command to read for, `before` the one that was read for."""
        _, addr, _ = now
        _, write_addr, overwrite = before
        write_banks = delayed(m, banks, 1, f"column{column}_write_banks", reset_less=False)
        offset_bits = exact_log2(self.config.acc_bank_words)
        old = Signal(32, name=f"column{column}_old")
        for bank in range(self.config.acc_banks):
            memory = Memory(shape=32, depth=max(self.config.acc_bank_words, 2), init=[])
            m.submodules[f"bank{bank}_column{column}"] = memory
            write = memory.write_port()
            read = memory.read_port(transparent_for=(write,))
            m.d.comb += [
                read.en.eq(banks[bank] | post_banks[bank]),
                read.addr.eq(Mux(banks[bank], addr, self.post_read.addr)[:offset_bits]),
                write.en.eq(write_banks[bank]),
                write.addr.eq(write_addr[:offset_bits]),
                write.data.eq(self.accumulate.psums.word_select(column, 32) + Mux(overwrite, 0, old)),
            ]
            with m.If(write_banks[bank]):
                m.d.comb += old.eq(read.data)
            with m.If(post_answers[bank]):
                m.d.comb += self.post_read.data.word_select(column, 32).eq(read.data)
