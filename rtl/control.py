"""Control of the units: instruction queues, semaphores and stall counters."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from accel.machine import isa
from accel.machine.config import ArchConfig
from accel.machine.isa import Opcode, Unit
from accel.machine.latencies import SEMAPHORE_BITS
from accel.machine.registers import CAUSES, COUNTED_UNITS
from accel.machine.rules.field_limits import possible_width
from rtl.interfaces import INSTRUCTION_BITS, MASK_BITS, NUMBER_BITS, layout
from rtl.pipeline import delayed

COUNTER_BITS = 32

MIN_DEPTH = 2
"""Smallest queue whose pointers have at least one bit, for Verilog's sake."""


class QueueStorage(wiring.Component):
    """What waits behind the head of a queue: at most `most` words in a ring of `depth`.

    Members
    -------
    w_data, w_rdy, w_en : In, Out, In
        A word comes; there is room for one.
    r_data, r_rdy, r_en : Out, Out, In
        The oldest word, if there is one; a word leaves, if there is any: the oldest, or the one that comes in this
        cycle.
    """

    def __init__(self, width: int, depth: int, most: int):
        self._width, self._depth, self._most = width, depth, most
        super().__init__(
            {
                "w_data": In(width), "w_rdy": Out(1, init=most > 0), "w_en": In(1),
                "r_data": Out(width), "r_rdy": Out(1), "r_en": In(1),
            }
        )  # fmt: skip

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.storage = storage = Memory(shape=self._width, depth=self._depth, init=[])
        write, read = storage.write_port(), storage.read_port(domain="comb")
        produce = Signal(range(self._depth))
        consume = Signal(range(self._depth))
        m.d.comb += [
            write.en.eq(self.w_en),
            write.addr.eq(produce),
            write.data.eq(self.w_data),
            read.addr.eq(consume),
            self.r_data.eq(read.data),
        ]
        leaves = self.r_en & (self.r_rdy | self.w_en)
        for pointer, moves in ((produce, self.w_en), (consume, leaves)):
            with m.If(moves):
                m.d.sync += pointer.eq(Mux(pointer == self._depth - 1, 0, pointer + 1))
        level, next_level = (Signal(range(self._depth + 1), name=name) for name in ("level", "next_level"))
        m.d.comb += next_level.eq(level + self.w_en - leaves)
        m.d.sync += [
            level.eq(next_level), self.w_rdy.eq(next_level != self._most), self.r_rdy.eq(next_level != 0)
        ]  # fmt: skip
        return m


class InstructionQueue(wiring.Component):
    """First in, first out queue of the instructions with one opcode: of the low bits of its fields that a legal one of
    the machine may set, and its number.

    All others are 0 at the head, so that units have no logic for them: `rtl.legality` refuses an instruction that sets
    one. The head is a register, from which units decide without the way through the queue's memory. That it is taken is
    known late in a cycle; so the next instruction comes to it, and leaves its place, `QUEUE_LATENCY` cycles later.

    Members
    -------
    pushed, head : stream of INSTRUCTION_BITS
        An instruction that is pushed in one cycle is at the head in the next one at the earliest.
    """

    def __init__(self, config: ArchConfig, opcode: Opcode):
        fields = isa.FIELDS[opcode]
        widths = [(possible_width(config, opcode, field), field.width) for field in fields]
        self._widths, self._depth = [*widths, (NUMBER_BITS, NUMBER_BITS)], config.queue_depth
        super().__init__(
            {"pushed": In(stream.Signature(INSTRUCTION_BITS)), "head": Out(stream.Signature(INSTRUCTION_BITS))}
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        behind, width = self._depth - 1, sum(kept for kept, _ in self._widths)
        m.submodules.fifo = fifo = QueueStorage(width, max(behind, MIN_DEPTH), behind)
        pushed, head = Signal(width, name="kept"), Signal(width, name="head", reset_less=True)
        empty = Signal(name="empty")
        m.d.comb += [
            empty.eq(~self.head.valid),
            self.pushed.ready.eq(fifo.w_rdy),
            self.head.payload.eq(self._whole(head)),
            pushed.eq(self._kept(self.pushed.payload)),
            fifo.w_data.eq(pushed),
            fifo.w_en.eq(self.pushed.valid & self.pushed.ready),
            fifo.r_en.eq(empty),
        ]
        m.d.sync += self.head.valid.eq(Mux(empty, fifo.r_rdy | fifo.w_en, ~self.head.ready))
        with m.If(empty):
            m.d.sync += head.eq(Mux(fifo.r_rdy, fifo.r_data, pushed))
        return m

    def _kept(self, instruction: Value) -> Value:
        """The bits of an instruction that are stored."""
        parts, low = list[Value](), 0
        for kept, width in self._widths:
            parts.append(instruction[low : low + kept])
            low += width
        return Cat(parts)

    def _whole(self, stored: Value) -> Value:
        """The instruction of which they are."""
        parts, low = list[Value](), 0
        for kept, width in self._widths:
            parts += [stored[low : low + kept], Const(0, width - kept)]
            low += kept
        return Cat(parts)


class Semaphores(wiring.Component):
    """One counter of tokens per pair of units.

    Members
    -------
    clear : In
        All counters become 0, as each run must find them.
    take : In
        Per unit: bit p takes one token of (p, unit); never in the cycle after one with a take.
    post : In
        Per unit: bit u adds one token to (unit, u).
    tokens : Out
        Per unit: bit p is set if (p, unit) holds a token posted in an earlier cycle; in the cycle after a take it may
        be set without one.
    overflow : Out
        A token was lost three cycles before because its counter was full.
    """

    def __init__(self) -> None:
        super().__init__(
            {
                "clear": In(1),
                "take": In(MASK_BITS).array(len(Unit)),
                "post": In(MASK_BITS).array(len(Unit)),
                "tokens": Out(MASK_BITS).array(len(Unit)),
                "overflow": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        # What was posted in the cycle of a reset is not cleared by it, but not lost either.
        lost, counting = [], Signal(name="counting")
        m.d.sync += counting.eq(1)
        for producer in Unit:
            for consumer in Unit:
                name = f"{producer.name}_{consumer.name}"
                post, take = self.post[producer][consumer], self.take[consumer][producer]
                # Known late, so counted a cycle later: in the cycle after a take the unit has no head to look at.
                posted, taken = (Signal(name=f"{part}_{name}", reset_less=True) for part in ("posted", "taken"))
                count = Signal(SEMAPHORE_BITS, name=f"count_{name}", reset_less=True)
                # Registers, too: units decide by the first one to issue; the count is not 0; it is more than 1.
                some, counted, more = (
                    Signal(name=f"{part}_{name}", reset_less=True) for part in ("some", "counted", "more")
                )
                full, rest = count.all() & posted, posted | Mux(taken, more, counted)
                lost.append(delayed(m, full & ~taken & counting, 1, f"lost_{name}", reset_less=False))
                down = (count - 1)[: len(count)]
                m.d.comb += self.tokens[consumer][producer].eq(some)
                m.d.sync += [posted.eq(post), taken.eq(take), counted.eq(rest), some.eq(post | rest)]
                with m.If(posted & ~taken & ~full):
                    m.d.sync += [count.eq(count + 1), more.eq(counted)]
                with m.Elif(taken & ~posted):
                    m.d.sync += [count.eq(down), more.eq(down[1:].any())]
                with m.If(self.clear):
                    m.d.sync += [register.eq(0) for register in (posted, taken, count, some, counted, more)]
        m.d.sync += self.overflow.eq(Cat(lost).any())
        return m


def head_wait(control: wiring.PureInterface) -> Value:
    """The `wait` mask of the instruction at the head of a unit's queue, 0 if there is none."""
    head = control.instruction
    wait = layout(Opcode.LOAD)(head.payload).wait  # the header is the same in all instructions
    return wait[:MASK_BITS] & head.valid.replicate(MASK_BITS)


def taken_tokens(control: wiring.PureInterface) -> Value:
    """The semaphores from which the unit takes a token in this cycle."""
    return head_wait(control) & control.instruction.ready.replicate(MASK_BITS)


def unit_cause(lacking: Value, occupied: Value, busy: Value) -> Value:
    """One-hot cause (`CAUSES`) of a unit's cycle, in which the `lacking` tokens are not there; see docs/timing.md."""
    missing = lacking & (~occupied).replicate(len(lacking))
    first_missing = missing & (-missing)[: len(lacking)]
    return Cat(occupied & busy, occupied & ~busy, first_missing, ~occupied & ~missing.any())


def fetch_cause(busy: Value, waiting: Value, done: Value) -> Value:
    """One-hot cause of a cycle of fetch, from its outputs in that cycle."""
    return Cat(busy, ~busy & ~waiting.any() & ~done, waiting, done)


class StallCounters(wiring.Component):
    """Counts the cycles of each cause for each of `COUNTED_UNITS`; a cycle is in `counts` three cycles later.

    Members
    -------
    clear, running : In
        Reset all counters, in a run's first cycle or before; count this cycle.
    causes : In
        Per unit: one-hot cause of the cycle before; `empty` for a unit that the machine does not have.
    counts : Out
        Units' causes one after the other.
    """

    def __init__(self) -> None:
        super().__init__(
            {
                "clear": In(1),
                "running": In(1),
                "causes": In(len(CAUSES), init=1 << CAUSES.index("empty")).array(len(COUNTED_UNITS)),
                "counts": Out(COUNTER_BITS).array(len(COUNTED_UNITS) * len(CAUSES)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        running = delayed(m, self.running, 2, "counting", reset_less=False)
        causes = delayed(m, Cat(self.causes), 1, "cause")
        for count, happens in zip(self.counts, causes, strict=True):
            m.d.sync += count.eq(Mux(self.clear, 0, count + (happens & running)))
        return m
