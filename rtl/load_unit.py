"""LOAD: external memory to scratchpad, weight buffer, parameter, table or tap memory."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.wiring import In, Out

from accel.machine import isa
from accel.machine.config import PARAM_RECORD_BYTES, TABLE_WORDS, ArchConfig
from accel.machine.isa import Memory, Opcode, Unit
from accel.machine.latencies import LOAD_IN_FLIGHT, LOAD_START, LOAD_WRITE_LATENCY
from accel.machine.memories import Space, memories
from rtl.axi import ADDRESS_BITS, PAGE_BITS, Axi4Read, drive_address
from rtl.bursts import BurstGenerator, connect_rows
from rtl.control import MIN_DEPTH
from rtl.interfaces import MASK_BITS, NUMBER_BITS, PLACE, UnitControl, WritePort
from rtl.load_writer import LOAD_LAYOUT, ROW_STREAM_BITS, LoadWriter, queued_layout
from rtl.pipeline import delayed

ROW_BYTES_BITS = isa.FIELDS[Opcode.LOAD][isa.column(Opcode.LOAD, "row_bytes")].width


class LoadUnit(wiring.Component):
    """Issues the addresses of up to `LOAD_IN_FLIGHT` LOADs while its writer handles them in order.

    Members
    -------
    control : Out(UnitControl)
    page : In
        Where the program's image begins.
    halt, quiet : In, Out
        Begin no burst and drop what comes; nothing is offered or open.
    bus : Out(Axi4Read)
    spad_write, wbuf_write, param_write, table_write : Out(WritePort)
        Destinations; a PARAM word is one channel's record.
    taps_write : Out(WritePort)
        Only with a depthwise engine; without one, words for TAPS are dropped.
    error : Out(1)
        A beat with an error response is accepted in this cycle; its data are used all the same.
    place : Out
        Where that is: the instruction, the address of the burst.
    """

    write_latency = LOAD_WRITE_LATENCY

    def __init__(self, config: ArchConfig):
        self._config = config
        self._queued = queued_layout(config.bus_bytes)
        taps = {"taps_write": Out(WritePort(config.depthwise_words, config.depthwise_lanes))}
        super().__init__(
            {
                "control": Out(UnitControl()),
                "page": In(PAGE_BITS),
                "halt": In(1),
                "quiet": Out(1),
                "bus": Out(Axi4Read(config.bus_bytes)),
                "spad_write": Out(WritePort(config.spad_words, config.rows)),
                "wbuf_write": Out(WritePort(config.wbuf_words, config.cols)),
                "param_write": Out(WritePort(config.param_channels, PARAM_RECORD_BYTES, masked=False)),
                "table_write": Out(WritePort(TABLE_WORDS, 1, masked=False)),
                **(taps if config.depthwise_taps else {}),
                "error": Out(1),
                "place": Out(PLACE),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        control = self.control
        self._short = Signal()
        self._short_number = Signal(NUMBER_BITS, reset_less=True)
        m.submodules.writer = writer = LoadWriter(self._config)
        issue, in_flight = self._issue(m, writer)
        writing = Signal(MASK_BITS, reset_less=True)
        with m.If(writer.start):
            m.d.sync += [writing.eq(writer.following.signal), self.place.number.eq(writer.following.number)]
        ending = Cat(writer.last, Mux(writer.last, writing, 0))
        ended = delayed(m, ending, LOAD_WRITE_LATENCY, "ending", reset_less=False)
        completing = Cat(
            delayed(m, writer.last, stage, f"last{stage}", reset_less=False)
            for stage in range(1, LOAD_WRITE_LATENCY + 1)
        ).any()
        m.d.comb += [
            Cat(control.complete, control.signal).eq(ended),
            control.occupied.eq(issue | (in_flight != 0) | completing),
            control.busy.eq(writer.emit),
            control.idle.eq((in_flight == 0) & ~completing),
        ]
        self._read(m, writer)
        emitted, word = self._write(m, writer)
        self._bound(m, emitted, word, delayed(m, writer.number, 1, "word_number"))
        return m

    def _issue(self, m: Module, writer: LoadWriter) -> tuple[Signal, Signal]:
        """Take instructions, start their bursts and queue them for the writer; returns (issue, LOADs in flight)."""
        control = self.control
        m.submodules.bursts = bursts = BurstGenerator(
            self._config.bus_bytes, self._config.outstanding_bursts, ROW_BYTES_BITS
        )
        m.submodules.waiting = waiting = SyncFIFO(width=self._queued.size, depth=LOAD_IN_FLIGHT)
        head = LOAD_LAYOUT(control.instruction.payload)
        issue = Signal()
        in_flight = Signal(range(LOAD_IN_FLIGHT + 1))
        room = bursts.free & (in_flight != LOAD_IN_FLIGHT)
        m.d.comb += [
            issue.eq(control.instruction.valid & room & ((head.wait & ~control.tokens) == 0)),
            control.instruction.ready.eq(issue),
            bursts.start.eq(issue),
            connect_rows(bursts, head, "dram_"),
            bursts.row_bytes.eq(head.row_bytes),
            bursts.halt.eq(self.halt),
            self.quiet.eq(bursts.quiet),
            bursts.ended.eq(self.bus.rvalid & self.bus.rready & self.bus.rlast),
            self.bus.arvalid.eq(bursts.burst.valid),
            bursts.burst.ready.eq(self.bus.arready),
            drive_address(self.bus, "ar", self._config.bus_bytes, self.page, bursts.burst.payload),
            writer.there.eq(waiting.r_rdy),
            writer.instruction.eq(waiting.r_data),
            waiting.r_en.eq(writer.taken),
        ]
        self._queue(m, waiting, head, issue)
        self._remember(m, bursts)
        m.d.sync += in_flight.eq(in_flight + issue - writer.last)
        return issue, in_flight

    def _queue(self, m: Module, waiting: SyncFIFO, head: data.View, issue: Signal) -> None:
        """Queue an instruction with the padding at its rows' ends, in time for `LOAD_START`."""
        held, following = (Signal(self._queued, name=name, reset_less=True) for name in ("held", "following"))
        product = Signal(ROW_STREAM_BITS, reset_less=True)
        beside = Signal(signed(ROW_STREAM_BITS), reset_less=True)
        rest = Signal(signed(ROW_STREAM_BITS + 1))
        queue = Signal()
        queued = Signal(self._queued)
        m.d.sync += [
            [held[name].eq(head[name]) for name in self._queued.members if name != "pad_after"],
            # A row's stream has (row_words - 1) * step_bytes + word_bytes bytes.
            product.eq(held.row_words * held.step_bytes),
            beside.eq(held.word_bytes - held.step_bytes - held.pad_bytes - held.row_bytes),
            following.eq(held),
        ]
        m.d.comb += [
            queued.eq(following),
            rest.eq(product + beside),
            queued.pad_after.eq(rest),
            waiting.w_data.eq(queued),
            queue.eq(delayed(m, issue, LOAD_START - 3, "queue", reset_less=False)),
            waiting.w_en.eq(queue),
        ]
        m.d.sync += [self._short.eq(queue & rest[-1]), self._short_number.eq(following.number)]

    def _bound(self, m: Module, emitted: Signal, word: data.View, number: Signal) -> None:
        """Report a word outside of its memory, and a stream that is shorter than what it must hold."""
        sizes = {memory: memories(self._config)[Space(memory)].words for memory in Memory}
        outside = Signal()
        beyond = [(word.memory == memory) & (word.address >= size) for memory, size in sizes.items() if size]
        m.d.comb += outside.eq(Cat(beyond).any())
        fault = self.control.fault
        m.d.sync += [
            fault.rule.eq(self._short),
            fault.bounds.eq(emitted & outside),
            fault.number.eq(Mux(self._short, self._short_number, number)),
        ]

    def _remember(self, m: Module, bursts: BurstGenerator) -> None:
        """Keep the addresses of open bursts; the data are those of the oldest one."""
        m.submodules.addresses = addresses = SyncFIFO(
            width=ADDRESS_BITS, depth=max(self._config.outstanding_bursts, MIN_DEPTH)
        )
        m.d.comb += [
            addresses.w_data.eq(bursts.burst.payload.address),
            addresses.w_en.eq(bursts.burst.valid & bursts.burst.ready),
            addresses.r_en.eq(bursts.ended),
            self.place.unit.eq(Unit.LOAD),
            self.place.address.eq(addresses.r_data),
        ]

    def _read(self, m: Module, writer: LoadWriter) -> None:
        bus = self.bus
        m.d.comb += [
            writer.beats.valid.eq(bus.rvalid),
            writer.beats.payload.eq(bus.rdata),
            bus.rready.eq(writer.beats.ready | delayed(m, self.halt, 1, "halted", reset_less=False)),
            self.error.eq(bus.rvalid & bus.rready & bus.rresp[1]),
        ]

    def _write(self, m: Module, writer: LoadWriter) -> tuple[Signal, data.View]:
        """One register between the writer's words and the destinations' ports; returns whether there is one, and it."""
        emitted = delayed(m, writer.emit, LOAD_WRITE_LATENCY, "emitted", reset_less=False)
        word = delayed(m, writer.word, 1, "word")
        for memory in Memory:
            if memory is Memory.TAPS and not self._config.depthwise_taps:
                continue
            port = getattr(self, f"{memory.name.lower()}_write")
            m.d.comb += [
                port.en.eq(emitted & (word.memory == memory)),
                port.addr.eq(word.address),
                port.data.eq(word.data),
            ]
            if hasattr(port, "mask"):
                m.d.comb += port.mask.eq(word.mask)
        return emitted, word
