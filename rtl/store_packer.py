"""The data path of STORE: words of the scratchpad go in, data beats come out."""

from __future__ import annotations

from typing import NamedTuple

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import bits_for, exact_log2

from accel.machine import isa, latencies
from accel.machine.config import ArchConfig
from accel.machine.isa import Opcode
from accel.machine.latencies import READ_LATENCY
from rtl.bursts import RowWalker, chunk_layout, connect_rows, first_chunk, rotated
from rtl.interfaces import NUMBER_BITS, REACH_BITS, ReadPort, layout
from rtl.pipeline import delayed

STORE_LAYOUT = layout(Opcode.STORE)
WORD_ADDRESS_BITS = isa.FIELDS[Opcode.STORE][isa.column(Opcode.STORE, "address")].width
ROW_BYTES_BITS = 26
"""Bits of a row's length: row_words (18) times word_bytes (8)."""


class StoreReader(wiring.Component):
    """Reads the words of one STORE, at most one per cycle, while the byte buffer has room for them.

    Members
    -------
    load, instruction : In
        With `load` the instruction is captured.
    start : In
        With the last `load`: it begins in the next cycle.
    sent, sent_bytes : In
        So many bytes leave the byte buffer in this cycle, if `sent`.
    spad_read : Out(ReadPort)
    word : Out
        The word that was read `READ_LATENCY` cycles before.
    coming, offset : Out
        Bytes of the next cycle's word that enter the byte buffer then, 0 without a word; the first of them.
    outside, outside_number : Out
        Two cycles before, the STORE with this number read a word outside of the scratchpad.
    """

    def __init__(self, config: ArchConfig):
        self._config = config
        super().__init__(
            {
                "load": In(1),
                "start": In(1),
                "instruction": In(STORE_LAYOUT),
                "sent": In(1),
                "sent_bytes": In(range(config.bus_bytes + 1)),
                "spad_read": Out(ReadPort(config.spad_words, config.rows)),
                "word": Out(8 * config.rows),
                "coming": Out(range(config.rows + 1)),
                "offset": Out(STORE_LAYOUT["byte_offset"].shape),
                "outside": Out(1),
                "outside_number": Out(NUMBER_BITS),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.rows = rows = RowWalker(REACH_BITS)
        held = Signal(STORE_LAYOUT, reset_less=True)
        with m.If(self.load):
            m.d.sync += held.eq(self.instruction)
        address = Signal(REACH_BITS, reset_less=True)
        read = self._room(m, rows.active, held.word_bytes)
        word = Signal(WORD_ADDRESS_BITS, reset_less=True)
        last_word = Signal(reset_less=True)
        answering = delayed(m, read, READ_LATENCY - 1, "answering", reset_less=False)
        m.d.comb += [
            rows.start.eq(self.start),
            connect_rows(rows, self.instruction),
            rows.step.eq(read & last_word),
            self.spad_read.en.eq(read),
            self.spad_read.addr.eq(address),
            self.word.eq(self.spad_read.data),
            self.coming.eq(Mux(answering, held.word_bytes, 0)),
            self.offset.eq(held.byte_offset),
        ]
        used = delayed(m, read, 1, "bound_used", reset_less=False)
        m.d.sync += [
            self.outside.eq(used & (delayed(m, address, 1, "bound_address") >= self._config.spad_words)),
            self.outside_number.eq(delayed(m, held.number, 1, "bound_number")),
        ]
        with m.If(self.load):
            m.d.sync += [address.eq(rows.next_address), word.eq(0), last_word.eq(self.instruction.row_words == 1)]
        with m.Elif(rows.step):
            m.d.sync += [address.eq(rows.next_address), word.eq(0), last_word.eq(held.row_words == 1)]
        with m.Elif(read):
            m.d.sync += [address.eq(address + 1), word.eq(word + 1), last_word.eq(word + 2 == held.row_words)]
        return m

    def _room(self, m: Module, active: Value, word_bytes: Value) -> Signal:
        """Whether a word is read in this cycle: there is one, and room for it; the sign of the room left says so."""
        capacity = latencies.store_buffer_bytes(self._config)
        room = Signal(range(-(1 << len(word_bytes)), capacity + 1), init=capacity)
        read = Signal(name="read")
        m.d.comb += read.eq(active & ~room[-1])
        with m.If(self.load):
            m.d.sync += room.eq(capacity - self.instruction.word_bytes)
        with m.Elif(read & self.sent):
            m.d.sync += room.eq(room + (self.sent_bytes - word_bytes))
        with m.Elif(read):
            m.d.sync += room.eq(room - word_bytes)
        with m.Elif(self.sent):
            m.d.sync += room.eq(room + self.sent_bytes)
        return read


class Beat(NamedTuple):
    """A beat of the walk: whether there is one, its first byte lane, its number of bytes, its strobes."""

    valid: Value
    low: Value
    count: Value
    strobe: Value


class StorePacker(wiring.Component):
    """Turns a byte stream into the data beats of the bursts that were announced.

    Members
    -------
    start, instruction, row_bytes : In
        With `start` the instruction's row pattern is captured; `row_bytes` is the length of each row. They are there
        in the cycle before, too.
    word, coming, offset : In
        As `StoreReader` makes them.
    burst_length : In
        Stream: beats - 1 of each burst, in order.
    beat : Out
        Stream of data beats.
    sent, sent_bytes : Out
        So many bytes leave in this cycle, if `sent`.
    active : Out
        A STORE's last beat is still to be sent.
    halt : In
        Send the beats of announced bursts without strobes, until a reset; one that is offered stays as it is.
    """

    def __init__(self, config: ArchConfig):
        self._config = config
        beat = data.StructLayout({"data": 8 * config.bus_bytes, "strobe": config.bus_bytes, "last": 1})
        super().__init__(
            {
                "start": In(1),
                "instruction": In(STORE_LAYOUT),
                "row_bytes": In(ROW_BYTES_BITS),
                "word": In(8 * config.rows),
                "coming": In(range(config.rows + 1)),
                "offset": In(STORE_LAYOUT["byte_offset"].shape),
                "burst_length": In(stream.Signature(8)),
                "beat": Out(stream.Signature(beat)),
                "sent": Out(1),
                "sent_bytes": Out(range(config.bus_bytes + 1)),
                "active": Out(1),
                "halt": In(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        valid = Signal()
        complete = Signal()
        halted = Signal()
        strobe = Signal.like(self.beat.payload.strobe, reset_less=True)
        beats_sent = Signal(8)
        send = self.sent
        take = Signal()
        beat, following = self.beat.payload, self._rows(m, take)
        m.d.comb += [
            take.eq(following.valid & (send | ~valid)),
            complete.eq(valid & self._bytes_there(m, take, following.count)),
            self.active.eq(following.valid | valid),
            self.beat.valid.eq((complete | halted) & self.burst_length.valid),
            send.eq(self.beat.valid & self.beat.ready),
            beat.last.eq(beats_sent == self.burst_length.payload),
            beat.strobe.eq(Mux(halted, 0, strobe)),
            beat.data.eq(self._ring(m, take, following) & Cat(bit.replicate(8) for bit in beat.strobe)),
            self.burst_length.ready.eq(send & beat.last),
        ]
        with m.If(take):
            m.d.sync += [valid.eq(1), self.sent_bytes.eq(following.count), strobe.eq(following.strobe)]
        with m.Elif(send):
            m.d.sync += [valid.eq(0), self.sent_bytes.eq(0)]
        with m.If(send):
            m.d.sync += beats_sent.eq(Mux(beat.last, 0, beats_sent + 1))
        m.d.sync += halted.eq(self.halt & (halted | ~self.beat.valid | send))
        return m

    def _bytes_there(self, m: Module, take: Signal, count: Value) -> Value:
        """Whether the buffer has all bytes of the current beat: the sign of those that it has beyond the beat."""
        capacity = latencies.store_buffer_bytes(self._config)
        beyond = Signal(range(-self._config.bus_bytes, capacity + 1))
        entered = beyond + delayed(m, self.coming, 1, "entering", reset_less=False)
        m.d.sync += beyond.eq(Mux(take, entered - count, entered))
        return ~beyond[-1]

    def _ring(self, m: Module, take: Signal, following: Beat) -> Value:
        """The byte buffer, a ring; returns the bytes of the beat, whatever the ring holds in its other lanes.

        A word and a beat are rotated once, so that each byte has only few places to go to or to come from. Which
        places take a byte of the word, and which give one to the beat, is decided in the cycle before.
        """
        places = 1 << (latencies.store_buffer_bytes(self._config) - 1).bit_length()
        word_bytes, bus_bytes = 1 << bits_for(self._config.rows - 1), self._config.bus_bytes
        buffer = [Signal(8, name=f"byte{place}", reset_less=True) for place in range(places)]
        written = Signal(range(places))
        turn = Signal(range(word_bytes))
        m.d.sync += [written.eq(written + self.coming), turn.eq(written - self.offset)]
        word = rotated(m, "word", Cat(self.word, Const(0, 8 * word_bytes - len(self.word))), turn)
        for place, byte in enumerate(buffer):
            index, enters = Signal(range(places), name=f"index{place}"), Signal(name=f"enters{place}")
            m.d.comb += index.eq(place - written)
            m.d.sync += enters.eq(index < self.coming)
            with m.If(enters):
                m.d.sync += byte.eq(word.word_select(place % word_bytes, 8))
        first = Signal(range(places))
        end = Signal(range(places))
        low, row = first[: exact_log2(bus_bytes)], first[exact_log2(bus_bytes) :]
        back = Signal.like(low, name="back")
        m.d.comb += first.eq(end - following.low)
        with m.If(take):
            m.d.sync += [end.eq(end + following.count), back.eq(-low)]
        lanes = []
        for lane in range(bus_bytes):
            chosen = Signal(range(places // bus_bytes), name=f"row{lane}")
            with m.If(take):
                m.d.sync += chosen.eq(row + (lane < low) if lane < bus_bytes - 1 else row)
            lanes.append(Array(buffer[lane::bus_bytes])[chosen])
        return rotated(m, "beat", Cat(lanes), back)

    def _rows(self, m: Module, take: Signal) -> Beat:
        """Walk the rows, a beat with each `take`; the beat that is taken with the next one."""
        bus_bytes = self._config.bus_bytes
        low_bits = bus_bytes.bit_length() - 1
        m.submodules.rows = walker = RowWalker(low_bits)
        low = Signal(low_bits, reset_less=True)
        coming = Signal(chunk_layout(bus_bytes, ROW_BYTES_BITS), name="beat_coming", reset_less=True)
        # Of a row: its length, if it fits a beat; the bytes beyond a whole one; in which lanes it may begin to fit one.
        few, over, fits = (
            Signal(bits, name=name, reset_less=True)
            for name, bits in (("few", len(coming.count)), ("over", ROW_BYTES_BITS), ("fits", bus_bytes))
        )
        m.d.comb += [
            walker.start.eq(self.start),
            connect_rows(walker, self.instruction, "dram_"),
            walker.step.eq(take & coming.ends),
        ]

        # What follows a beat depends on registers alone and is taken with it; the first beat is made before the start.
        first = Signal.like(coming, name="first_beat", reset_less=True)
        first_low = self.instruction.dram_address[:low_bits]
        m.d.sync += first.eq(first_chunk(self.row_bytes, bus_bytes - first_low, coming.shape()))
        with m.If(self.start):
            m.d.sync += [
                few.eq(self.row_bytes),
                over.eq(self.row_bytes - bus_bytes),
                fits.eq(Cat(self.row_bytes <= bus_bytes - lane for lane in range(bus_bytes))),
                coming.eq(first),
                low.eq(first_low),
            ]
        with m.Elif(take & coming.ends):
            ends = fits.bit_select(walker.following, 1)
            m.d.sync += [
                coming.count.eq(Mux(ends, few, bus_bytes - walker.following)),
                coming.beyond.eq(over + walker.following),
                coming.ends.eq(ends),
                low.eq(walker.following),
            ]
        with m.Elif(take):
            m.d.sync += [coming.eq(first_chunk(coming.beyond, bus_bytes, coming.shape())), low.eq(0)]
        return Beat(walker.active, low, coming.count, (((1 << coming.count) - 1) << low)[:bus_bytes])
