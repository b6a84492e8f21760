"""STORE: scratchpad to external memory."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.wiring import In, Out

from accel.machine.config import ArchConfig
from accel.machine.isa import Unit
from rtl.axi import ADDRESS_BITS, PAGE_BITS, Axi4Write, drive_address
from rtl.bursts import BurstGenerator, connect_rows
from rtl.control import MIN_DEPTH
from rtl.interfaces import MASK_BITS, NUMBER_BITS, PLACE, ReadPort, UnitControl
from rtl.store_packer import ROW_BYTES_BITS, STORE_LAYOUT, StorePacker, StoreReader

RESPONSE = data.StructLayout({"final": 1, "signal": MASK_BITS, "number": NUMBER_BITS, "address": ADDRESS_BITS})
"""Meaning of an expected write response: `final` ends STORE `number`, which posts `signal`; the burst's address."""


class StoreUnit(wiring.Component):
    """Reader, packer and bursts of STORE; responses of earlier STOREs may be pending while the next one runs.

    Members
    -------
    control : Out(UnitControl)
    page : In
        Where the program's image begins.
    halt, quiet : In, Out
        Begin no burst and write no further byte: open bursts get beats without strobes; nothing is offered or open.
    bus : Out(Axi4Write)
    spad_read : Out(ReadPort)
    error : Out(1)
        An error response is accepted in this cycle.
    place : Out
        Where that is: the instruction, the address of the burst.
    """

    def __init__(self, config: ArchConfig):
        self._config = config
        super().__init__(
            {
                "control": Out(UnitControl()),
                "page": In(PAGE_BITS),
                "halt": In(1),
                "quiet": Out(1),
                "bus": Out(Axi4Write(config.bus_bytes)),
                "spad_read": Out(ReadPort(config.spad_words, config.rows)),
                "error": Out(1),
                "place": Out(PLACE),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.reader = reader = StoreReader(self._config)
        m.submodules.packer = packer = StorePacker(self._config)
        m.submodules.bursts = bursts = BurstGenerator(
            self._config.bus_bytes, self._config.outstanding_bursts, ROW_BYTES_BITS
        )
        wiring.connect(m, reader.spad_read, wiring.flipped(self.spad_read))
        head = STORE_LAYOUT(self.control.instruction.payload)
        issue = Signal()
        begin, pack = Signal(name="begin"), Signal(name="pack")
        beginning = Signal()
        held = Signal(STORE_LAYOUT, reset_less=True)
        row_bytes = Signal(ROW_BYTES_BITS, reset_less=True)
        active = beginning | packer.active
        ready = bursts.free & ~active & ((head.wait & ~self.control.tokens) == 0)
        m.d.sync += [begin.eq(issue), pack.eq(begin), beginning.eq(issue | begin)]
        # Loaded until it starts: whether it does is known late.
        with m.If(~active):
            m.d.sync += [held.eq(head), row_bytes.eq(head.row_words * head.word_bytes)]
        m.d.comb += [
            issue.eq(self.control.instruction.valid & ready),
            self.control.instruction.ready.eq(issue),
            connect_rows(bursts, held, "dram_"),
            bursts.row_bytes.eq(row_bytes),
            packer.row_bytes.eq(row_bytes),
            reader.load.eq(~active),
            reader.start.eq(issue),
            reader.instruction.eq(head),
            bursts.start.eq(begin),
            packer.start.eq(pack),  # long before the first word is there
            packer.instruction.eq(held),
            [getattr(packer, name).eq(getattr(reader, name)) for name in ("word", "coming", "offset")],
            [getattr(reader, name).eq(getattr(packer, name)) for name in ("sent", "sent_bytes")],
            [unit.halt.eq(self.halt) for unit in (packer, bursts)],
            self.quiet.eq(bursts.quiet),
            self.control.fault.bounds.eq(reader.outside),
            self.control.fault.number.eq(reader.outside_number),
        ]
        pending = self._bus(m, bursts, packer, held)
        m.d.comb += [
            self.control.occupied.eq(issue | active | pending),
            self.control.busy.eq(packer.sent & (packer.sent_bytes != 0)),
            self.control.idle.eq(~(active | pending)),
        ]
        return m

    def _bus(self, m: Module, bursts: BurstGenerator, packer: StorePacker, held: data.View) -> Signal:
        """Connect the bus; returns whether responses are pending.

        A burst's data may be sent from the cycle after its address was first offered, accepted or not: AXI forbids
        a manager to wait for AWREADY before it raises WVALID.
        """
        bus, depth = self.bus, max(self._config.outstanding_bursts, MIN_DEPTH)
        m.submodules.lengths = lengths = SyncFIFO(width=8, depth=depth)
        burst = bursts.burst
        offered = Signal()
        m.d.sync += offered.eq(burst.valid & ~burst.ready)
        m.d.comb += [
            bus.awvalid.eq(burst.valid),
            burst.ready.eq(bus.awready),
            drive_address(bus, "aw", self._config.bus_bytes, self.page, burst.payload),
            lengths.w_data.eq(burst.payload.length),
            lengths.w_en.eq(burst.valid & ~offered),
            packer.burst_length.valid.eq(lengths.r_rdy),
            packer.burst_length.payload.eq(lengths.r_data),
            lengths.r_en.eq(packer.burst_length.ready),
            bus.wvalid.eq(packer.beat.valid),
            packer.beat.ready.eq(bus.wready),
            bus.wdata.eq(packer.beat.payload.data),
            bus.wstrb.eq(packer.beat.payload.strobe),
            bus.wlast.eq(packer.beat.payload.last),
        ]
        return self._responses(m, bursts, lengths.w_en, held)

    def _responses(self, m: Module, bursts: BurstGenerator, announce: Signal, held: data.View) -> Signal:
        """Complete a STORE at the response of its last burst; returns whether responses are pending."""
        bus, control = self.bus, self.control
        m.submodules.responses = responses = SyncFIFO(
            width=RESPONSE.size, depth=max(self._config.outstanding_bursts, MIN_DEPTH)
        )
        expected = RESPONSE(responses.r_data)
        answer = Signal()
        m.d.comb += [
            bus.bready.eq(1),
            answer.eq(bus.bvalid & bus.bready),
            bursts.ended.eq(answer),
            responses.w_data.eq(
                Cat(bursts.burst.payload.final, held.signal[:MASK_BITS], held.number, bursts.burst.payload.address)
            ),
            responses.w_en.eq(announce),
            responses.r_en.eq(answer),
            control.complete.eq(answer & expected.final),
            control.signal.eq(Mux(control.complete, expected.signal, 0)),
            self.error.eq(answer & bus.bresp[1]),
            self.place.unit.eq(Unit.STORE),
            self.place.number.eq(expected.number),
            self.place.address.eq(expected.address),
        ]
        return responses.r_rdy
