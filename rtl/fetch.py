"""Fetch and dispatch: reads the program and pushes each instruction into its unit's queue."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from accel.machine.config import ArchConfig
from accel.machine.isa import INSTRUCTION_BYTES, Opcode, Unit
from accel.machine.registers import FETCH_SOURCE
from rtl.axi import ADDRESS_BITS, PAGE_BITS, Axi4Read, drive_address
from rtl.bursts import BurstGenerator, SingleRow
from rtl.interfaces import INSTRUCTION_BITS, NUMBER_BITS, PLACE, layout, opcodes
from rtl.legality import Legality

OPCODE_BITS = layout(Opcode.LOAD)["opcode"].width


class Fetch(wiring.Component):
    """Fills one instruction register from the bus and dispatches it in program order.

    From the first instruction that has no unit or came with an error response on, the rest of the program is
    read and dropped. In program order every signal precedes its wait, so the instructions before it still complete.

    Members
    -------
    start, page, address, count : In
        `start` is high in the cycle before cycle 0; page and address (a multiple of `INSTRUCTION_BYTES`) and number of
        instructions are stable while the program runs.
    halt, quiet : In, Out
        Begin no burst and drop what comes; nothing is offered or open.
    bus : Out(Axi4Read)
    queues : Out
        One instruction stream per unit of the machine; each instruction with its number.
    dispatched : Out
        Index of the next instruction to be dispatched.
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
                "count": In(32),
                "halt": In(1),
                "quiet": Out(1),
                "bus": Out(Axi4Read(config.bus_bytes)),
                "queues": Out(stream.Signature(INSTRUCTION_BITS)).array(len(self._opcodes)),
                "dispatched": Out(32),
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
        self._addresses(m)
        full, faulty = Signal(name="full"), Signal(name="faulty")
        instruction = Signal(INSTRUCTION_BITS)
        selected, known = Signal(len(self._opcodes)), Signal(name="known")
        drop, halted = Signal(name="drop"), Signal(name="halted")
        register = (instruction, selected, known, drop)
        self._fill(m, register, full, faulty, halted)
        self._dispatch(m, register, full, faulty, halted)
        return m

    def _addresses(self, m: Module) -> None:
        begin = Signal()
        m.submodules.bursts = bursts = BurstGenerator(
            self._config.bus_bytes, self._config.outstanding_bursts, ADDRESS_BITS, SingleRow
        )
        low_bits = INSTRUCTION_BYTES.bit_length() - 1
        m.d.sync += begin.eq(self.start & (self.count != 0))
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

    def _fill(self, m: Module, register: tuple[Signal, ...], full: Signal, faulty: Signal, halted: Signal) -> None:
        """Collect beats; the first one, with the opcode, has the lowest bytes.

        Which opcode it is, whether it is one, and whether the instruction is dropped, are registers, too.
        """
        bus, (instruction, selected, known, drop) = self.bus, register
        beats, accept = INSTRUCTION_BYTES // self._config.bus_bytes, Signal(name="accept")
        # One bit for each beat, so that few registers wait for whether one is accepted.
        coming = Signal(beats, init=1, name="coming")
        m.d.comb += [
            bus.rready.eq(~full | self.busy | self.halt),
            accept.eq(bus.rvalid & bus.rready),
        ]
        with m.If(self.busy | self.halt):
            m.d.sync += full.eq(0)
        mine = Cat(bus.rdata[:OPCODE_BITS] == opcode for opcode in self._opcodes)
        fault = bus.rresp[1] | (faulty & ~coming[0])
        unknown = ~(known if beats > 1 else mine.any())
        for beat, comes in enumerate(coming):
            with m.If(accept & comes):
                m.d.sync += instruction.word_select(beat, len(bus.rdata)).eq(bus.rdata)
        with m.If(accept & coming[0]):
            m.d.sync += [selected.eq(mine), known.eq(mine.any())]
        with m.If(accept):
            m.d.sync += [
                coming.eq(coming.rotate_left(1)),
                faulty.eq(fault),
                drop.eq(halted | (full & drop) | fault | unknown),
            ]
        with m.If(accept & coming[-1]):
            m.d.sync += full.eq(~self.halt)

    def _dispatch(self, m: Module, register: tuple[Signal, ...], full: Signal, faulty: Signal, halted: Signal) -> None:
        (instruction, selected, known, drop), index = register, self.dispatched
        last = Signal.like(index, name="last")
        m.submodules.legality = legality = Legality(self._config)
        ready = Signal(len(self.queues))
        m.d.comb += [
            self.opcode_error.eq(full & ~halted & ~faulty & ~known),
            self.response_error.eq(full & ~halted & faulty),
            self.place.unit.eq(FETCH_SOURCE),
            self.place.number.eq(Mux(legality.broken, legality.broken_number, index)),
            self.rule_error.eq(legality.broken),
            legality.instruction.eq(instruction),
            legality.number.eq(index),
            legality.dispatched.eq(self.busy & ~drop),
            ready.eq(Cat(queue.ready for queue in self.queues)),
            self.busy.eq(full & (drop | (selected & ready).any())),
            self.waiting.eq((selected & ~ready) & (full & ~drop).replicate(len(ready))),
        ]
        m.d.sync += last.eq(self.count - 1)
        for known_opcode, queue, mine in zip(self._opcodes, self.queues, selected, strict=True):
            used = layout(known_opcode)["number"].offset
            m.d.comb += [
                queue.payload.eq(Cat(instruction[:used], index[:NUMBER_BITS])),
                queue.valid.eq(full & ~drop & mine),
            ]
        with m.If(self.start):
            m.d.sync += [index.eq(0), self.done.eq(self.count == 0), halted.eq(0)]
        with m.Elif(self.busy):
            m.d.sync += [index.eq(index + 1), self.done.eq(index == last), halted.eq(drop)]
