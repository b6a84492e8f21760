"""The data path of STORE: words of the scratchpad go in, data beats come out."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from accel.machine import isa, timing
from accel.machine.config import ArchConfig
from accel.machine.isa import Opcode
from rtl.bursts import RowWalker, connect_rows, low_bytes, shift_bytes_left
from rtl.interfaces import ReadPort, layout

STORE_LAYOUT = layout(Opcode.STORE)
WORD_ADDRESS_BITS = isa.FIELDS[Opcode.STORE][isa.column(Opcode.STORE, "address")].width
ROW_BYTES_BITS = 26
"""Bits of a row's length: row_words (18) times word_bytes (8)."""


class StoreReader(wiring.Component):
    """Reads the words of one STORE, at most one per cycle, while the byte buffer has room for them.

    Members
    -------
    start, instruction : In
        With `start` the instruction is captured and begins in the next cycle.
    freed : In
        Bytes that leave the byte buffer in this cycle.
    spad_read : Out(ReadPort)
    bytes, count : Out
        The bytes that enter the byte buffer in this cycle (beyond them zero) and how many they are.
    """

    def __init__(self, config: ArchConfig):
        self._config = config
        super().__init__(
            {
                "start": In(1),
                "instruction": In(STORE_LAYOUT),
                "freed": In(range(config.bus_bytes + 1)),
                "spad_read": Out(ReadPort(config.spad_words, config.rows)),
                "bytes": Out(8 * config.rows),
                "count": Out(range(config.rows + 1)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.rows = rows = RowWalker(WORD_ADDRESS_BITS)
        capacity = timing.store_buffer_bytes(self._config)
        held = Signal(STORE_LAYOUT)
        with m.If(self.start):
            m.d.sync += held.eq(self.instruction)
        word, reserved = Signal(WORD_ADDRESS_BITS), Signal(range(capacity + 1))
        read, answered = Signal(), Signal()
        last_word = word + 1 == held.row_words
        m.d.comb += [
            rows.start.eq(self.start),
            connect_rows(rows, self.instruction),
            read.eq(rows.active & (reserved + held.word_bytes <= capacity)),
            rows.step.eq(read & last_word),
            self.spad_read.en.eq(read),
            self.spad_read.addr.eq(rows.address + word),
            self.count.eq(Mux(answered, held.word_bytes, 0)),
            self.bytes.eq((self.spad_read.data >> (held.byte_offset << 3)) & low_bytes(self.count, self._config.rows)),
        ]
        m.d.sync += [
            answered.eq(read),
            reserved.eq(reserved + Mux(read, held.word_bytes, 0) - self.freed),
        ]
        with m.If(self.start | rows.step):
            m.d.sync += word.eq(0)
        with m.Elif(read):
            m.d.sync += word.eq(word + 1)
        return m


class StorePacker(wiring.Component):
    """Turns a byte stream into the data beats of the bursts that were announced.

    Members
    -------
    start, instruction, row_bytes : In
        With `start` the instruction's row pattern is captured; `row_bytes` is the length of each row.
    bytes, count : In
        Bytes that enter the byte buffer in this cycle.
    burst_length : In
        Stream: beats - 1 of each burst, in order.
    beat : Out
        Stream of data beats.
    freed : Out
        Bytes that leave in this cycle.
    active : Out
        A STORE's last beat is still to be sent.
    """

    def __init__(self, config: ArchConfig):
        self._config = config
        beat = data.StructLayout({"data": 8 * config.bus_bytes, "strobe": config.bus_bytes, "last": 1})
        super().__init__(
            {
                "start": In(1),
                "instruction": In(STORE_LAYOUT),
                "row_bytes": In(ROW_BYTES_BITS),
                "bytes": In(8 * config.rows),
                "count": In(range(config.rows + 1)),
                "burst_length": In(stream.Signature(8)),
                "beat": Out(stream.Signature(beat)),
                "freed": Out(range(config.bus_bytes + 1)),
                "active": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        capacity = timing.store_buffer_bytes(self._config)
        buffer, level = Signal(8 * capacity), Signal(range(capacity + 1))
        low, count = self._rows(m)
        bus_bytes = self._config.bus_bytes
        beat = self.beat.payload
        beats_sent = Signal(8)
        send, kept = Signal(), Signal.like(level)
        m.d.comb += [
            self.beat.valid.eq(self.active & (level >= count) & self.burst_length.valid),
            send.eq(self.beat.valid & self.beat.ready),
            beat.last.eq(beats_sent == self.burst_length.payload),
            beat.data.eq(shift_bytes_left(buffer, low, 8 * bus_bytes)),
            beat.strobe.eq(((1 << count) - 1) << low),
            self.burst_length.ready.eq(send & beat.last),
            self.freed.eq(Mux(send, count, 0)),
            kept.eq(level - self.freed),
        ]
        with m.If(send):
            m.d.sync += beats_sent.eq(Mux(beat.last, 0, beats_sent + 1))
        m.d.sync += [
            buffer.eq((buffer >> (self.freed << 3)) | shift_bytes_left(self.bytes, kept, len(buffer))),
            level.eq(kept + self.count),
        ]
        return m

    def _rows(self, m: Module) -> tuple[Signal, Signal]:
        """Walk the rows beat by beat; returns the current beat's first byte lane and its number of bytes."""
        bus_bytes = self._config.bus_bytes
        low_bits = bus_bytes.bit_length() - 1
        m.submodules.rows = rows = RowWalker(low_bits)
        row_bytes, left = Signal(ROW_BYTES_BITS), Signal(ROW_BYTES_BITS)
        row_begins = Signal()
        low, count = Signal(low_bits), Signal(range(bus_bytes + 1))
        available = bus_bytes - low
        m.d.comb += [
            rows.start.eq(self.start),
            connect_rows(rows, self.instruction, "dram_"),
            self.active.eq(rows.active),
            low.eq(Mux(row_begins, rows.address, 0)),
            count.eq(Mux(left < available, left, available)),
            rows.step.eq((self.freed != 0) & (left == count)),
        ]
        with m.If(self.start):
            m.d.sync += [row_bytes.eq(self.row_bytes), left.eq(self.row_bytes), row_begins.eq(1)]
        with m.Elif(rows.step):
            m.d.sync += [left.eq(row_bytes), row_begins.eq(1)]
        with m.Elif(self.freed != 0):
            m.d.sync += [left.eq(left - count), row_begins.eq(0)]
        return low, count
