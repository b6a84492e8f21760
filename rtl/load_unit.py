"""LOAD: external memory to scratchpad, weight buffer, parameter, table or tap memory."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.wiring import Out

from accel.machine import isa
from accel.machine.config import PARAM_RECORD_BYTES, TABLE_WORDS, ArchConfig
from accel.machine.isa import Memory, Opcode
from accel.machine.timing import LOAD_IN_FLIGHT
from rtl.axi import Axi4Read, drive_address
from rtl.bursts import BurstGenerator, connect_rows
from rtl.interfaces import UnitControl, WritePort, layout
from rtl.load_writer import LOAD_LAYOUT, LoadWriter, word_layout

ROW_BYTES_BITS = isa.FIELDS[Opcode.LOAD][isa.column(Opcode.LOAD, "row_bytes")].width


class LoadUnit(wiring.Component):
    """Issues the addresses of up to `LOAD_IN_FLIGHT` LOADs while its writer handles them in order.

    Members
    -------
    control : Out(UnitControl)
    bus : Out(Axi4Read)
    spad_write, wbuf_write, param_write, table_write : Out(WritePort)
        Destinations; a PARAM word is one channel's record.
    taps_write : Out(WritePort)
        Only with a depthwise engine; without one, words for TAPS are dropped.
    error : Out(1)
        A beat with an error response is accepted in this cycle; its data are used all the same.
    """

    write_latency = 1

    def __init__(self, config: ArchConfig):
        self._config = config
        taps = {"taps_write": Out(WritePort(config.depthwise_words, config.depthwise_lanes))}
        super().__init__(
            {
                "control": Out(UnitControl()),
                "bus": Out(Axi4Read(config.bus_bytes)),
                "spad_write": Out(WritePort(config.spad_words, config.rows)),
                "wbuf_write": Out(WritePort(config.wbuf_words, config.cols)),
                "param_write": Out(WritePort(config.param_channels, PARAM_RECORD_BYTES)),
                "table_write": Out(WritePort(TABLE_WORDS, 1)),
                **(taps if config.depthwise_taps else {}),
                "error": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        control = self.control
        m.submodules.writer = writer = LoadWriter(self._config)
        issue, in_flight = self._issue(m, writer)
        writing = Signal(layout(Opcode.LOAD)["signal"].shape)
        with m.If(writer.start):
            m.d.sync += writing.eq(writer.instruction.signal)
        m.d.sync += [
            control.complete.eq(writer.last),
            control.signal.eq(Mux(writer.last, writing, 0)),
        ]
        m.d.comb += [
            control.occupied.eq(issue | (in_flight != 0) | control.complete),
            control.busy.eq(writer.emit),
            control.idle.eq((in_flight == 0) & ~control.complete),
        ]
        self._read(m, writer)
        self._write(m, writer)
        return m

    def _issue(self, m: Module, writer: LoadWriter) -> tuple[Signal, Signal]:
        """Take instructions, start their bursts and queue them for the writer; returns (issue, LOADs in flight)."""
        control = self.control
        m.submodules.bursts = bursts = BurstGenerator(
            self._config.bus_bytes, self._config.outstanding_bursts, ROW_BYTES_BITS
        )
        m.submodules.waiting = waiting = SyncFIFO(width=LOAD_LAYOUT.size, depth=LOAD_IN_FLIGHT)
        head = LOAD_LAYOUT(control.instruction.payload)
        issue, in_flight = Signal(), Signal(range(LOAD_IN_FLIGHT + 1))
        room = bursts.free & (in_flight != LOAD_IN_FLIGHT)
        m.d.comb += [
            issue.eq(control.instruction.valid & room & ((head.wait & ~control.tokens) == 0)),
            control.instruction.ready.eq(issue),
            bursts.start.eq(issue),
            connect_rows(bursts, head, "dram_"),
            bursts.row_bytes.eq(head.row_bytes),
            bursts.ended.eq(self.bus.rvalid & self.bus.rready & self.bus.rlast),
            self.bus.arvalid.eq(bursts.burst.valid),
            bursts.burst.ready.eq(self.bus.arready),
            drive_address(self.bus, "ar", self._config.bus_bytes, bursts.burst.payload),
            writer.start.eq(writer.free & (waiting.r_rdy | issue)),
            writer.instruction.eq(Mux(waiting.r_rdy, waiting.r_data, head.as_value())),
            waiting.r_en.eq(writer.start),
            waiting.w_data.eq(head),
            waiting.w_en.eq(issue & ~(writer.free & ~waiting.r_rdy)),
        ]
        m.d.sync += in_flight.eq(in_flight + issue - writer.last)
        return issue, in_flight

    def _read(self, m: Module, writer: LoadWriter) -> None:
        bus = self.bus
        m.d.comb += [
            writer.beats.valid.eq(bus.rvalid),
            writer.beats.payload.eq(bus.rdata),
            bus.rready.eq(writer.beats.ready),
            self.error.eq(bus.rvalid & bus.rready & bus.rresp[1]),
        ]

    def _write(self, m: Module, writer: LoadWriter) -> None:
        """One register between emission and the destinations' ports."""
        emitted, word = Signal(), Signal(word_layout(self._config))
        m.d.sync += emitted.eq(writer.emit)
        with m.If(writer.emit):
            m.d.sync += word.eq(writer.word)
        for memory in Memory:
            if memory is Memory.TAPS and not self._config.depthwise_taps:
                continue
            port = getattr(self, f"{memory.name.lower()}_write")
            m.d.comb += [
                port.en.eq(emitted & (word.memory == memory)),
                port.addr.eq(word.address),
                port.data.eq(word.data),
                port.mask.eq(word.mask),
            ]
