"""Fetch and dispatch: reads the program and pushes each instruction into its unit's queue."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from accel.machine.config import ArchConfig
from accel.machine.isa import INSTRUCTION_BYTES, Opcode, Unit
from accel.machine.latencies import FETCH_DEPTH
from accel.machine.registers import FETCH_SOURCE
from rtl.axi import ADDRESS_BITS, PAGE_BITS, Axi4Read, drive_address
from rtl.bursts import BurstGenerator, SingleRow
from rtl.control import QueueStorage
from rtl.interfaces import INSTRUCTION_BITS, NUMBER_BITS, PLACE, layout, opcodes
from rtl.legality import Legality

OPCODE_BITS = layout(Opcode.LOAD)["opcode"].width


def fetched_layout(config: ArchConfig) -> data.StructLayout:
    """An instruction, the queue it goes to (one bit for each, none if it is dropped), why it is the first dropped."""
    return data.StructLayout(
        {
            "instruction": INSTRUCTION_BITS,
            "selected": len(opcodes(config)),
            "drop": 1,
            "opcode_error": 1,
            "response_error": 1,
        }
    )


class Fetch(wiring.Component):
    """Reads instructions from the bus, holds up to `FETCH_DEPTH` of them, and dispatches them in program order.

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
        begin = Signal()
        self._addresses(m, begin)
        m.submodules.storage = storage = QueueStorage(fetched_layout(self._config).size, FETCH_DEPTH, FETCH_DEPTH)
        self._fill(m, storage)
        self._dispatch(m, storage, begin)
        return m

    def _addresses(self, m: Module, begin: Signal) -> None:
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

    def _fill(self, m: Module, storage: QueueStorage) -> None:
        """Collect beats, the first one lowest; with the last one the instruction is stored, and what is to be done."""
        bus, beat_bits = self.bus, 8 * self._config.bus_bytes
        beats, accept = INSTRUCTION_BYTES // self._config.bus_bytes, Signal(name="accept")
        coming = Signal(beats, init=1, name="coming")
        collected = Signal(INSTRUCTION_BITS - beat_bits, reset_less=True)
        faulty, dropping = Signal(name="faulty"), Signal(name="dropping")
        instruction = Cat(collected, bus.rdata)
        mine = Cat(instruction[:OPCODE_BITS] == opcode for opcode in self._opcodes)
        fault, known = bus.rresp[1] | (faulty & ~coming[0]), mine.any()
        drop = dropping | fault | ~known
        entering = Signal(fetched_layout(self._config))
        m.d.comb += [
            bus.rready.eq(storage.w_rdy | self.halt),
            accept.eq(bus.rvalid & bus.rready),
            storage.w_en.eq(accept & coming[-1] & ~self.halt),
            storage.w_data.eq(entering),
            entering.instruction.eq(instruction),
            entering.selected.eq(mine & ~drop.replicate(len(mine))),
            entering.drop.eq(drop),
            entering.opcode_error.eq(~dropping & ~fault & ~known),
            entering.response_error.eq(~dropping & fault),
        ]
        with m.If(accept):
            m.d.sync += [coming.eq(coming.rotate_left(1)), faulty.eq(fault), collected.eq(instruction[beat_bits:])]
        with m.If(self.start):
            m.d.sync += dropping.eq(0)
        with m.Elif(storage.w_en):
            m.d.sync += dropping.eq(drop)

    def _dispatch(self, m: Module, storage: QueueStorage, begin: Signal) -> None:
        index, full = self.dispatched, storage.r_rdy
        oldest = fetched_layout(self._config)(storage.r_data)
        instruction, selected = oldest.instruction, oldest.selected
        last = Signal.like(index, name="last")
        m.submodules.legality = legality = Legality(self._config)
        ready = Cat(queue.ready for queue in self.queues)
        m.d.comb += [
            self.opcode_error.eq(full & oldest.opcode_error),
            self.response_error.eq(full & oldest.response_error),
            self.place.unit.eq(FETCH_SOURCE),
            self.place.number.eq(Mux(legality.broken, legality.broken_number, index)),
            self.rule_error.eq(legality.broken),
            legality.instruction.eq(instruction),
            legality.number.eq(index),
            legality.dispatched.eq(self.busy & ~oldest.drop),
            self.busy.eq(full & (oldest.drop | (selected & ready).any())),
            self.waiting.eq((selected & ~ready) & full.replicate(len(ready))),
            storage.r_en.eq(self.busy),
        ]
        m.d.sync += last.eq(self.count - 1)
        for known_opcode, queue, mine in zip(self._opcodes, self.queues, selected, strict=True):
            used = layout(known_opcode)["number"].offset
            m.d.comb += [
                queue.payload.eq(Cat(instruction[:used], index[:NUMBER_BITS])),
                queue.valid.eq(full & mine),
            ]
        with m.If(self.start):
            m.d.sync += self.done.eq(self.count == 0)
        with m.Elif(self.busy):
            m.d.sync += self.done.eq(index == last)
        with m.If(begin):
            m.d.sync += index.eq(0)
        with m.Elif(self.busy):
            m.d.sync += index.eq(index + 1)
