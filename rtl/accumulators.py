"""ACC: the banked accumulator memory and its adders."""

from __future__ import annotations

from itertools import combinations

from amaranth.hdl import Cat, Module, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from accel.machine.config import ArchConfig
from accel.machine.latencies import ACC_LATENCY
from rtl.blocks import Block
from rtl.interfaces import AccumulatePort, ReadPort
from rtl.pipeline import delayed, one_hot


class Access(wiring.Signature):
    """Use of a column in a cycle.

    Members
    -------
    banks : Out
        One bit per bank, at most one of them set.
    addr : Out
        The word in its bank.
    """

    def __init__(self, config: ArchConfig):
        self.addr_bits = max(exact_log2(config.acc_bank_words), 1)
        super().__init__({"banks": Out(config.acc_banks), "addr": Out(self.addr_bits)})


class Origin(wiring.Signature):
    """Where the word comes from that was read in the cycle before; no bit is set if it is taken as 0.

    Members
    -------
    stored, sum, sum_before : Out
        One bit per bank: from the bank, or it is what the unit writes there in this cycle, or wrote in the one before.
    """

    def __init__(self, config: ArchConfig):
        super().__init__({name: Out(config.acc_banks) for name in ("stored", "sum", "sum_before")})


class AccumulatorColumn(Block):
    """One column's memories, one per bank, each with a register behind it and an adder.

    A memory answers so late in its cycle that nothing else fits in: what was asked for is chosen a cycle later.

    Members
    -------
    reads : In(Access), one per unit
        Units that accumulate, then POST.
    origins : In(Origin), one per unit that accumulates
    answers : In
        One bit per bank: POST read there `ACC_LATENCY` cycles before.
    writes : In(Access), psums : In(32), one per unit that accumulates
        The word that it read `ACC_LATENCY` cycles before, and what is added to it.
    data : Out(32)
        The word that POST read `ACC_LATENCY` cycles before, 0 if it read none.
    """

    module = "accumulator_column"

    def __init__(self, config: ArchConfig, units: int):
        self._config, self._units = config, units
        access = Access(config)
        super().__init__(
            {
                "reads": In(access).array(units + 1),
                "origins": In(Origin(config)).array(units),
                "answers": In(config.acc_banks),
                "writes": In(access).array(units),
                "psums": In(32).array(units),
                "data": Out(32),
            }
        )

    def build(self, platform: object) -> Module:
        m = Module()
        words = []
        for bank in range(self._config.acc_banks):
            m.submodules[f"bank{bank}"] = memory = Memory(shape=32, depth=max(self._config.acc_bank_words, 2), init=[])
            write, read = memory.write_port(), memory.read_port()
            words.append(delayed(m, read.data, 1, f"word{bank}"))
            total = Signal(32, name=f"sum{bank}")
            before = delayed(m, total, 1, f"sum{bank}_before")
            stored, summed, summed_before = (
                Cat(getattr(origin, name)[bank] for origin in self.origins).any()
                for name in ("stored", "sum", "sum_before")
            )
            # Of the two at most one is not 0.
            own = delayed(m, one_hot([(summed, total), (summed_before, before)]), 1, f"own{bank}")
            old = one_hot([(delayed(m, stored, 1, f"stored{bank}"), words[-1])]) | own
            asked, written = ([access.banks[bank] for access in accesses] for accesses in (self.reads, self.writes))
            m.d.comb += [
                read.en.eq(Cat(asked).any()),
                read.addr.eq(one_hot(zip(asked, (access.addr for access in self.reads), strict=True))),
                write.en.eq(Cat(written).any()),
                write.addr.eq(one_hot(zip(written, (access.addr for access in self.writes), strict=True))),
                total.eq(one_hot(zip(written, self.psums, strict=True)) + old),
                write.data.eq(total),
            ]
        m.d.comb += self.data.eq(one_hot(zip(self.answers, words, strict=True)))
        return m


class Accumulators(wiring.Component):
    """`acc_banks` banks of `acc_bank_words` words of `cols` int32; each column of a bank is a memory of its own.

    EXEC reads, adds and writes column c of a word c cycles after column 0, DEPTHWISE all columns at once; to those
    beyond its lanes it adds 0. POST reads all columns of a word at once. A bank has one read and one write port. Read
    latency is `ACC_LATENCY`. A unit adds to what it wrote itself, however late; what another unit writes it reads from
    the cycle after on: between them is a semaphore, and more cycles than that.

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
        ports = {"exec": (self.exec_accumulate, self.config.cols)}
        if engine:
            ports["engine"] = (self.depthwise_accumulate, 1)
        chains = [self._chain(m, name, *port) for name, port in ports.items()]
        conflicts = []
        for index in range(self.config.cols):
            m.submodules[f"column{index}"] = column = AccumulatorColumn(self.config, len(chains))
            reads = []
            for unit, (accesses, origins) in enumerate(chains):
                step = min(index, len(origins) - 1)
                reads.append(accesses[step])
                wiring.connect(m, accesses[step + ACC_LATENCY], column.writes[unit])
                wiring.connect(m, origins[step], column.origins[unit])
            reads.append(post)
            for port, access in zip(column.reads, reads, strict=True):
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

    def _access(self, m: Module, name: str, en: Value, addr: Value) -> wiring.PureInterface:
        """The use of word `addr` in a cycle with `en`."""
        access, offset_bits = Access(self.config).create(path=(name,)), exact_log2(self.config.acc_bank_words)
        banks = Cat(en & (addr >> offset_bits == bank) for bank in range(self.config.acc_banks))
        m.d.comb += [access.banks.eq(banks), access.addr.eq(addr[:offset_bits])]
        return access

    def _chain(
        self, m: Module, name: str, port: wiring.PureInterface, steps: int
    ) -> tuple[list[wiring.PureInterface], list[wiring.PureInterface]]:
        """The accesses of `port` in this cycle, the cycle before and so on, and the origins of its words.

        Those of column c are `steps` of them at most: an access's origin is known in the cycle after it.
        """
        accesses = [self._access(m, f"{name}0", port.en, port.addr)]
        for stage in range(1, steps + ACC_LATENCY):
            accesses.append(self._later(m, f"{name}{stage}", accesses[-1]))
        now = accesses[0]
        sum_next, sum_before = (
            (now.banks & earlier.banks).any() & (now.addr == earlier.addr) for earlier in accesses[1 : 1 + ACC_LATENCY]
        )
        first = Origin(self.config).create(path=(f"{name}_origin0",))
        keep = ~port.overwrite
        m.d.sync += [
            member.eq(now.banks & chosen.replicate(len(now.banks)))
            for member, chosen in (
                (first.stored, keep & ~sum_next & ~sum_before),
                (first.sum, keep & sum_next),
                (first.sum_before, keep & sum_before & ~sum_next),
            )
        ]
        origins = [first]
        for stage in range(1, steps):
            origins.append(self._later(m, f"{name}_origin{stage}", origins[-1]))
        return accesses, origins

    def _later(self, m: Module, name: str, before: wiring.PureInterface) -> wiring.PureInterface:
        """`before` a cycle later."""
        later = before.signature.create(path=(name,))
        for member in before.signature.members:
            earlier = delayed(m, getattr(before, member), 1, f"{name}_{member}", member != "banks")
            m.d.comb += getattr(later, member).eq(earlier)
        return later
