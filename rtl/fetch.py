"""Fetch and dispatch: reads the program and pushes each instruction into its unit's queue."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from accel.machine.config import ArchConfig
from accel.machine.isa import INSTRUCTION_BYTES, Opcode, Unit
from accel.machine.registers import COUNT_BITS, FETCH_SOURCE
from rtl.axi import ADDRESS_BITS, PAGE_BITS, Axi4Read, drive_address
from rtl.bursts import BurstGenerator, SingleRow
from rtl.fetch_buffer import FetchBuffer
from rtl.interfaces import INSTRUCTION_BITS, NUMBER_BITS, PLACE, layout, opcodes
from rtl.legality import Legality
from rtl.pipeline import delayed

OPCODE_BITS = layout(Opcode.LOAD)["opcode"].width


class Fetch(wiring.Component):
    """Reads instructions from the bus, holds up to `FETCH_DEPTH` of them, and dispatches them in program order.

    From the first instruction that has no unit or came with an error response on, the rest of the program is
    read and dropped, as soon as the one before it is known to be legal. In program order every signal precedes its
    wait, so the instructions before it still complete.

    Members
    -------
    start, page, address, count : In
        `start` is high in the cycle before cycle 0; page and address (a multiple of `INSTRUCTION_BYTES`) and number of
        instructions, at least 1, are stable while the program runs.
    halt, quiet : In, Out
        Begin no burst and drop what comes; nothing is offered or open.
    bus : Out(Axi4Read)
    queues : Out
        One instruction stream per unit of the machine; each instruction with its number.
    dispatched : Out
        Index of the next instruction to be dispatched, from cycle 1 on.
    done : Out
        No instruction is left to be dispatched.
    busy : Out
        An instruction is dispatched (or dropped) in this cycle.
    waiting : Out
        Bit u: the next instruction waits for a place in unit u's queue.
    opcode_error, response_error : Out
        The first instruction that is dropped has no unit; came with an error response.
    rule_error : Out
        An instruction that was dispatched `Legality.latency` cycles ago breaks a rule.
    place : Out
        Where that is.
    """

    def __init__(self, config: ArchConfig):
        self._config = config
        self._opcodes = opcodes(config)
        super().__init__(
            {
                "start": In(1),
                "page": In(PAGE_BITS),
                "address": In(ADDRESS_BITS),
                "count": In(COUNT_BITS),
                "halt": In(1),
                "quiet": Out(1),
                "bus": Out(Axi4Read(config.bus_bytes)),
                "queues": Out(stream.Signature(INSTRUCTION_BITS)).array(len(self._opcodes)),
                "dispatched": Out(COUNT_BITS),
                "done": Out(1, init=1),
                "busy": Out(1),
                "waiting": Out(len(Unit)),
                "opcode_error": Out(1),
                "response_error": Out(1),
                "rule_error": Out(1),
                "place": Out(PLACE),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        begin = Signal()
        m.submodules.buffer = buffer = FetchBuffer(len(self._opcodes))
        self._addresses(m, begin)
        self._fill(m, buffer, begin)
        self._dispatch(m, buffer, begin)
        return m

    def _addresses(self, m: Module, begin: Signal) -> None:
        m.submodules.bursts = bursts = BurstGenerator(
            self._config.bus_bytes, self._config.outstanding_bursts, ADDRESS_BITS, SingleRow
        )
        low_bits = INSTRUCTION_BYTES.bit_length() - 1
        m.d.sync += begin.eq(self.start)
        m.d.comb += [
            bursts.start.eq(begin),
            bursts.halt.eq(self.halt),
            self.quiet.eq(bursts.quiet),
            bursts.rows.address.eq(self.address),
            bursts.row_bytes.eq(self.count << low_bits),
            bursts.ended.eq(self.bus.rvalid & self.bus.rready & self.bus.rlast),
            self.bus.arvalid.eq(bursts.burst.valid),
            bursts.burst.ready.eq(self.bus.arready),
            drive_address(self.bus, "ar", self._config.bus_bytes, self.page, bursts.burst.payload),
        ]

    def _fill(self, m: Module, buffer: FetchBuffer, begin: Signal) -> None:
        """Collect beats, the first one lowest; with the last one the instruction enters, and what is to be done."""
        bus, beat_bits = self.bus, 8 * self._config.bus_bytes
        beats, accept = INSTRUCTION_BYTES // self._config.bus_bytes, Signal(name="accept")
        coming = Signal(beats, init=1, name="coming")
        # Before the last beat; a signal of no bits is no legal Verilog.
        before = INSTRUCTION_BITS - beat_bits
        collected = Signal(before, name="collected", reset_less=True) if before else Const(0, 0)
        faulty, dropping = Signal(name="faulty"), Signal(name="dropping")
        instruction = Cat(collected, bus.rdata)
        mine = Cat(instruction[:OPCODE_BITS] == opcode for opcode in self._opcodes)
        fault, known = bus.rresp[1] | (faulty & ~coming[0]), mine.any()
        drop = dropping | fault | ~known
        halted = delayed(m, self.halt, 1, "halted", reset_less=False)
        m.d.comb += [
            bus.rready.eq(buffer.room | halted),
            accept.eq(bus.rvalid & bus.rready),
            buffer.enter.eq(accept & coming[-1] & ~halted),
            buffer.instruction.eq(instruction),
            buffer.order.selected.eq(mine & ~drop.replicate(len(mine))),
            buffer.order.drop.eq(drop),
            buffer.order.opcode_error.eq(~dropping & ~fault & ~known),
            buffer.order.response_error.eq(~dropping & fault),
        ]
        with m.If(accept):
            m.d.sync += [coming.eq(coming.rotate_left(1)), faulty.eq(fault)]
            if before:
                m.d.sync += collected.eq(instruction[beat_bits:])
        with m.If(begin):
            m.d.sync += dropping.eq(0)
        with m.Elif(buffer.enter):
            m.d.sync += dropping.eq(drop)

    def _dispatch(self, m: Module, buffer: FetchBuffer, begin: Signal) -> None:
        instruction, order, index = buffer.oldest, buffer.oldest_order, self.dispatched
        last, last_but_one = (Signal.like(index, name=name, reset_less=True) for name in ("last", "last_but_one"))
        was_last, was_last_but_one, moved = (
            Signal(name=name, reset_less=True) for name in ("was_last", "was_last_but_one", "moved")
        )
        m.submodules.legality = legality = Legality(self._config)
        ready, drop = Cat(queue.ready for queue in self.queues), order.drop & ~legality.pending
        m.d.comb += [
            self.opcode_error.eq(drop & order.opcode_error),
            self.response_error.eq(drop & order.response_error),
            self.place.unit.eq(FETCH_SOURCE),
            self.place.number.eq(Mux(legality.broken, legality.broken_number, index)),
            self.rule_error.eq(legality.broken),
            legality.instruction.eq(instruction),
            legality.number.eq(index),
            legality.dispatched.eq((order.selected & ready).any()),
            self.busy.eq(drop | (order.selected & ready).any()),
            self.waiting.eq(order.selected & ~ready),
            buffer.leave.eq(self.busy),
        ]
        # Whether this is the last one is known by the index of the cycle before: that it leaves is known late.
        m.d.sync += [
            last.eq(self.count - 1),
            last_but_one.eq(self.count - 2),
            was_last.eq(index == last),
            was_last_but_one.eq(index == last_but_one),
            moved.eq(self.busy),
        ]
        for known_opcode, queue, mine in zip(self._opcodes, self.queues, order.selected, strict=True):
            used = layout(known_opcode)["number"].offset
            m.d.comb += [
                queue.payload.eq(Cat(instruction[:used], index[:NUMBER_BITS])),
                queue.valid.eq(mine),
            ]
        m.d.sync += self.done.eq((self.done | (self.busy & Mux(moved, was_last_but_one, was_last))) & ~self.start)
        with m.If(begin):
            m.d.sync += index.eq(0)
        with m.Elif(self.busy):
            m.d.sync += index.eq(index + 1)
