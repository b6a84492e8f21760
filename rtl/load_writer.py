"""The writer of LOAD: a byte stream with padding goes in, words come out."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, enum, stream, wiring
from amaranth.lib.wiring import In, Out

from accel.machine import isa
from accel.machine.config import ArchConfig
from accel.machine.isa import Opcode
from rtl.bursts import RowWalker, connect_rows, low_bytes, shift_bytes_left
from rtl.interfaces import NUMBER_BITS, layout
from rtl.pipeline import delayed

LOAD_LAYOUT = layout(Opcode.LOAD)
WORD_ADDRESS_BITS = isa.FIELDS[Opcode.LOAD][isa.column(Opcode.LOAD, "address")].width
REACH_BITS = WORD_ADDRESS_BITS + 2
"""Width at which the first word outside of a memory is seen: a stride is less than half of the largest memory."""

ROW_STREAM_BITS = 26
"""Bits of a row's stream length: row_words (18) times step_bytes (8)."""


class Phase(enum.Enum, shape=2):
    """Part of a row's stream that comes next."""

    BEFORE = 0
    MEMORY = 1
    AFTER = 2


def word_layout(config: ArchConfig) -> data.StructLayout:
    """One emitted word: data and mask are already moved to its `byte_offset`."""
    return data.StructLayout(
        {
            "data": 8 * config.load_word_bytes,
            "mask": config.load_word_bytes,
            "address": REACH_BITS,
            "memory": LOAD_LAYOUT["memory"].width,
        }
    )


class LoadWriter(wiring.Component):
    """Assembles the words of one LOAD at a time; docs/timing.md, "LOAD", defines its `take` and `emit`.

    Takes at most one chunk of `bus_bytes` and emits at most one word per cycle.

    Members
    -------
    start, instruction, pad_after : In
        With `start` (needs `free`) the instruction is captured and begins in the next cycle; each of its rows ends with
        `pad_after` pad bytes.
    free : Out
        No LOAD is in the writer, or its last word is emitted in this cycle.
    beats : In
        Stream of memory beats.
    emit, last : Out
        A word is emitted in this cycle; it is the last one of its LOAD.
    word : Out
        The word that was emitted in the cycle before.
    number : Out
        The number of its LOAD.
    """

    def __init__(self, config: ArchConfig):
        self._config = config
        self._buffer_bytes = config.load_word_bytes + config.bus_bytes
        super().__init__(
            {
                "start": In(1),
                "instruction": In(LOAD_LAYOUT),
                "pad_after": In(ROW_STREAM_BITS),
                "free": Out(1),
                "beats": In(stream.Signature(8 * config.bus_bytes)),
                "emit": Out(1),
                "last": Out(1),
                "word": Out(word_layout(config)),
                "number": Out(NUMBER_BITS),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        held = Signal(LOAD_LAYOUT)
        with m.If(self.start):
            m.d.sync += held.eq(self.instruction)
        level = Signal(range(self._buffer_bytes + 1))
        chunk, chunk_bytes = self._take(m, held, level)
        leaving = self._emit(m, held, level)
        kept = Signal.like(level)
        m.d.comb += kept.eq(level - leaving)
        m.d.sync += level.eq(Mux(self.start, 0, kept + chunk_bytes))
        self._move(m, held, chunk, leaving, kept)
        return m

    def _move(self, m: Module, held: data.View, chunk: Signal, leaving: Signal, kept: Signal) -> None:
        """The byte buffer does what was decided in the cycle before."""
        buffer = Signal(8 * self._buffer_bytes)
        start = delayed(m, self.start, 1, "start", reset_less=False)
        chunk, leaving, kept = (
            delayed(m, value, 1, name) for value, name in ((chunk, "chunk"), (leaving, "leaving"), (kept, "kept"))
        )
        offset = delayed(m, held.byte_offset, 1, "offset")
        rest = buffer >> (leaving << 3)
        m.d.sync += buffer.eq(Mux(start, 0, rest | shift_bytes_left(chunk, kept, len(buffer))))
        m.d.comb += self.word.data.eq(shift_bytes_left(buffer, offset, 8 * self._config.load_word_bytes))

    def _take(self, m: Module, held: data.View, level: Signal) -> tuple[Signal, Signal]:
        """The stream's side; returns the chunk taken in this cycle and its bytes (0 if none is taken)."""
        bus_bytes = self._config.bus_bytes
        low_bits = bus_bytes.bit_length() - 1
        m.submodules.rows = rows = RowWalker(low_bits)
        m.d.comb += [rows.start.eq(self.start), connect_rows(rows, self.instruction, "dram_")]
        phase = Signal(Phase)
        phase_left = Signal(ROW_STREAM_BITS)
        low = Signal(low_bits)
        count = Signal(range(bus_bytes + 1))
        phase_ends = Signal()
        take = Signal()
        chunk = Signal(8 * bus_bytes)
        chunk_bytes = Signal.like(count)
        in_memory = phase == Phase.MEMORY
        room = rows.active & (level <= self._config.load_word_bytes)
        available, few = bus_bytes - low, phase_left[: len(count)]
        pad = held.pad_value.as_unsigned().replicate(bus_bytes)
        m.d.comb += [
            phase_ends.eq(~phase_left[len(count) :].any() & (few <= available)),
            count.eq(Mux(phase_ends, few, available)),
            self.beats.ready.eq(room & in_memory),
            take.eq(room & (~in_memory | self.beats.valid)),
            chunk_bytes.eq(Mux(take, count, 0)),
            chunk.eq(Mux(in_memory, self.beats.payload >> (low << 3), pad) & low_bytes(chunk_bytes, bus_bytes)),
        ]
        self._next_phase(m, held, rows, (phase, phase_left, low), take, count, phase_ends)
        return chunk, chunk_bytes

    def _next_phase(
        self, m: Module, held: data.View, rows: RowWalker, state: tuple, take: Signal, count: Signal, phase_ends: Signal
    ) -> None:
        """Advance the phase by one chunk of `count` bytes, which may end it; padding of no bytes takes no cycle.

        The byte of the next chunk that is of use first, `low`, is that of the row in its first beat and 0 otherwise.
        """
        phase, phase_left, low = state
        pad_after = Signal(ROW_STREAM_BITS)
        first = self.instruction
        row_ends = phase_ends & ((phase == Phase.AFTER) | (phase == Phase.MEMORY) & (pad_after == 0))
        m.d.comb += rows.step.eq(take & row_ends)

        def begin_row(instruction: data.View) -> list:
            padded = instruction.pad_bytes != 0
            return [
                phase.eq(Mux(padded, Phase.BEFORE, Phase.MEMORY)),
                phase_left.eq(Mux(padded, instruction.pad_bytes, instruction.row_bytes)),
                low.eq(Mux(padded, 0, rows.next_address)),
            ]

        with m.If(self.start):
            m.d.sync += [begin_row(first), pad_after.eq(self.pad_after)]
        with m.Elif(take & row_ends):
            m.d.sync += begin_row(held)
        with m.Elif(take & phase_ends):
            with m.If(phase == Phase.BEFORE):
                m.d.sync += [phase.eq(Phase.MEMORY), phase_left.eq(held.row_bytes), low.eq(rows.address)]
            with m.Else():
                m.d.sync += [phase.eq(Phase.AFTER), phase_left.eq(pad_after), low.eq(0)]
        with m.Elif(take):
            m.d.sync += [phase_left.eq(phase_left - count), low.eq(0)]

    def _emit(self, m: Module, held: data.View, level: Signal) -> Signal:
        """The words' side; returns the bytes that leave the buffer in this cycle."""
        m.submodules.words = rows = RowWalker(REACH_BITS)
        word = Signal(WORD_ADDRESS_BITS)
        last_word = Signal()
        longest = Signal.like(held.step_bytes)
        step = Mux(last_word, held.word_bytes, held.step_bytes)
        leaving = Signal.like(held.step_bytes)
        first = self.instruction
        mask = Cat(held.word_bytes > i for i in range(self._config.load_word_bytes))
        m.d.comb += [
            rows.start.eq(self.start),
            connect_rows(rows, self.instruction),
            self.emit.eq(rows.active & Mux(last_word, level >= held.word_bytes, level >= longest)),
            leaving.eq(Mux(self.emit, step, 0)),
            rows.step.eq(self.emit & last_word),
            self.last.eq(rows.step & rows.last),
            self.free.eq(~rows.active | self.last),
            self.word.address.eq(delayed(m, (rows.address + word)[:REACH_BITS], 1, "address")),
            self.number.eq(delayed(m, held.number, 1, "number")),
            self.word.memory.eq(delayed(m, held.memory, 1, "memory")),
            self.word.mask.eq(delayed(m, (mask << held.byte_offset)[: len(mask)], 1, "mask")),
        ]
        with m.If(self.start):
            m.d.sync += [
                word.eq(0),
                last_word.eq(first.row_words == 1),
                longest.eq(Mux(first.step_bytes > first.word_bytes, first.step_bytes, first.word_bytes)),
            ]
        with m.Elif(rows.step):
            m.d.sync += [word.eq(0), last_word.eq(held.row_words == 1)]
        with m.Elif(self.emit):
            m.d.sync += [word.eq(word + 1), last_word.eq(word + 2 == held.row_words)]
        return leaving
