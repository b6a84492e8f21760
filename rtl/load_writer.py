"""The writer of LOAD: a byte stream with padding goes in, words come out."""

from __future__ import annotations

from typing import TypeAlias

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, enum, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from accel.machine import isa
from accel.machine.config import ArchConfig
from accel.machine.isa import Opcode
from rtl.bursts import RowWalker, chunk_layout, connect_rows, first_chunk, rotated, shift_bytes_left
from rtl.interfaces import MASK_BITS, NUMBER_BITS, REACH_BITS, layout
from rtl.pipeline import delayed, one_hot, sum_of_three

LOAD_LAYOUT = layout(Opcode.LOAD)
WORD_ADDRESS_BITS = isa.FIELDS[Opcode.LOAD][isa.column(Opcode.LOAD, "address")].width
ROW_STREAM_BITS = 26
"""Bits of a row's stream length: row_words (18) times step_bytes (8)."""


def queued_layout(bus_bytes: int) -> data.StructLayout:
    """A LOAD that waits for the writer: of external addresses the lane in a beat only; pad bytes behind each row."""
    members = {name: field.shape for name, field in LOAD_LAYOUT if name not in ("opcode", "wait", "reserved")}
    lanes = {name: exact_log2(bus_bytes) for name in members if name.startswith("dram_")}
    return data.StructLayout(members | lanes | {"signal": MASK_BITS, "pad_after": ROW_STREAM_BITS})


ROW_BEATS = data.StructLayout({"fewer": LOAD_LAYOUT["row_bytes"].width, "none": 1, "one": 1})
"""Whole beats that a row's bytes fill: one less, whether there is none, one."""

Chunk: TypeAlias = tuple[Signal, Value]
"""Whether a chunk is taken in this cycle, and its bytes."""


class Phase(enum.Flag, shape=2):
    """Part of a row's stream that comes next: each behind the first has a bit, as what is decided by it is late."""

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
    there, taken, instruction : In, Out, In
        A stream of instructions.
    start, following : Out
        The instruction `following`, which was taken before, begins in the next cycle.
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
                "there": In(1),
                "taken": Out(1),
                "instruction": In(queued_layout(config.bus_bytes)),
                "start": Out(1),
                "following": Out(queued_layout(config.bus_bytes)),
                "beats": In(stream.Signature(8 * config.bus_bytes)),
                "emit": Out(1),
                "last": Out(1),
                "word": Out(word_layout(config)),
                "number": Out(NUMBER_BITS),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        held, following = (
            Signal(self.following.shape(), name=name, reset_less=True) for name in ("held", "following_held")
        )
        waiting = Signal()
        # The one after it is taken two cycles behind a start, before which no LOAD ends: that one starts is known late.
        m.d.comb += self.taken.eq(self.there & ~waiting)
        m.d.sync += waiting.eq(Mux(waiting, ~self.start, self.there))
        level, kept = (Signal(range(self._buffer_bytes + 1), name=name) for name in ("level", "kept"))
        word_size, row_beats = Signal.like(held.step_bytes), Signal(ROW_BEATS, reset_less=True)
        chunk, (take, count), low = self._take(m, held, row_beats, word_size)
        free = self._emit(m, held, word_size, (take, count))
        # Many registers are loaded until an instruction comes, or starts.
        with m.If(~waiting):
            m.d.sync += following.eq(self.instruction)
        m.d.comb += self.following.eq(following)
        with m.If(free):
            beats = self.following.row_bytes >> (self._config.bus_bytes.bit_length() - 1)
            m.d.sync += [
                held.eq(self.following),
                row_beats.fewer.eq(beats - 1),
                row_beats.none.eq(beats == 0),
                row_beats.one.eq(beats == 1),
            ]
        m.d.comb += self.start.eq(waiting & free)
        fewer, leaving = level - word_size, Mux(self.emit, word_size, 0)
        m.d.comb += kept.eq(Mux(self.emit, fewer, level))
        turn = Mux(self.emit, fewer - low, level - low)[: len(low)]
        moved = self._moved(take, (level, fewer), (level + count, fewer + count), len(level))
        m.d.sync += level.eq(Mux(self.start, 0, moved))
        self._move(m, held, chunk, turn, leaving, kept)
        return m

    def _moved(self, take: Value, kept: tuple[Value, Value], taken: tuple[Value, Value], width: int) -> Value:
        """The number, of `width` bits, that is right without and with an `emit`, if no chunk is taken and if one is.

        Whether there are any is known late: it chooses among sums.
        """
        choices = [
            (self.emit & take, taken[1]), (self.emit & ~take, kept[1]),
            (~self.emit & take, taken[0]), (~self.emit & ~take, kept[0]),
        ]  # fmt: skip
        return one_hot((chosen, number[:width]) for chosen, number in choices)

    def _move(self, m: Module, held: data.View, chunk: Value, turn: Value, leaving: Value, kept: Signal) -> None:
        """The byte buffer does what was decided in the cycle before.

        The chunk, turned so that its first byte of use comes behind the `kept` bytes, takes all places there: those
        behind its last one do not count until others take them.
        """
        places = self._buffer_bytes
        buffer = Signal(8 * places, reset_less=True)
        chunk, turn, leaving, kept = (
            delayed(m, value, 1, name)
            for value, name in ((chunk, "chunk"), (turn, "turn"), (leaving, "leaving"), (kept, "kept"))
        )
        offset = delayed(m, held.byte_offset, 1, "offset")
        rest, turned = buffer >> (leaving << 3), rotated(m, "chunk", chunk, turn)
        for place in range(places):
            byte = slice(8 * place, 8 * place + 8)
            new = turned.word_select(place % self._config.bus_bytes, 8)
            m.d.sync += buffer[byte].eq(Mux(kept > place, rest[byte], new))
        m.d.comb += self.word.data.eq(shift_bytes_left(buffer, offset, 8 * self._config.load_word_bytes))

    def _take(self, m: Module, held: data.View, row_beats: data.View, word_size: Signal) -> tuple[Value, Chunk, Signal]:
        """The stream's side; returns the next chunk, whether it is taken in this cycle and its bytes, its first byte.

        The buffer has room if `space`, by which the word bytes exceed the level, is not negative.
        """
        bus_bytes = self._config.bus_bytes
        low_bits = bus_bytes.bit_length() - 1
        m.submodules.rows = rows = RowWalker(low_bits)
        m.d.comb += [rows.start.eq(self.start), connect_rows(rows, self.following, "dram_")]
        phase = Signal(Phase, reset_less=True)
        low = Signal(low_bits, reset_less=True)
        coming = Signal(chunk_layout(bus_bytes, ROW_STREAM_BITS), reset_less=True)
        take = Signal()
        space = Signal(range(-bus_bytes, self._config.load_word_bytes + 1), reset_less=True)
        in_memory = phase.as_value()[0]
        room = rows.active & ~space[-1]
        pad = held.pad_value.as_unsigned().replicate(bus_bytes)
        m.d.comb += [
            self.beats.ready.eq(room & in_memory),
            take.eq(room & (~in_memory | self.beats.valid)),
        ]
        more, count = space + word_size, coming.count
        moved = self._moved(take, (space, more), (space - count, more - count), len(space)).as_signed()
        m.d.sync += space.eq(Mux(self.start, self._config.load_word_bytes, moved))
        next_row = self._first_of_row(held.row_bytes, row_beats, rows.following, coming.shape())
        self._next_phase(m, held, rows, (phase, coming, low), (take, next_row))
        return Mux(in_memory, self.beats.payload, pad), (take, coming.count), low

    def _next_phase(
        self,
        m: Module,
        held: data.View,
        rows: RowWalker,
        state: tuple[Signal, data.View, Signal],
        taken: tuple[Signal, Value],
    ) -> None:
        """Advance the phase by one chunk, which may end it; padding of no bytes takes no cycle.

        The byte of the next chunk that is of use first, `low`, is that of the row in its first beat and 0 otherwise.
        How long the next chunk is and whether it ends its phase are registers. What follows a chunk depends on
        registers alone and is taken with it; that of the instruction that follows is made when it comes, and loaded
        until it starts: the last chunk is taken before the last word is emitted.
        """
        (phase, coming, low), (take, next_row) = state, taken
        bus_bytes, shape = self._config.bus_bytes, coming.shape()
        padded, tailless, next_tailless = (
            Signal(name=name, reset_less=True) for name in ("padded", "tailless", "next_tailless")
        )
        first_row, memory = (Signal(shape, name=name, reset_less=True) for name in ("first_row", "memory"))
        next_padded = self.following.pad_bytes != 0
        in_memory, after = phase.as_value()
        row_ends = coming.ends & (after | in_memory & tailless)
        m.d.comb += rows.step.eq(take & row_ends)
        with m.If(self.taken):
            m.d.sync += [
                next_tailless.eq(self.instruction.pad_after == 0),
                first_row.eq(
                    first_chunk(
                        self.instruction.row_bytes, bus_bytes - self.instruction.dram_address[: len(low)], shape
                    )
                ),
            ]
        with m.If(~rows.active):
            m.d.sync += [
                phase.eq(Mux(next_padded, Phase.BEFORE, Phase.MEMORY)),
                coming.eq(Mux(next_padded, first_chunk(self.following.pad_bytes, bus_bytes, shape), first_row)),
                memory.eq(first_row),
                low.eq(Mux(next_padded, 0, self.following.dram_address[: len(low)])),
                padded.eq(next_padded),
                tailless.eq(next_tailless),
            ]
        with m.Elif(take):
            m.d.sync += low.eq(0)
            with m.If(row_ends):
                m.d.sync += memory.eq(next_row)
                with m.If(padded):
                    m.d.sync += [phase.eq(Phase.BEFORE), coming.eq(first_chunk(held.pad_bytes, bus_bytes, shape))]
                with m.Else():
                    m.d.sync += [phase.eq(Phase.MEMORY), coming.eq(next_row), low.eq(rows.following)]
            with m.Elif(coming.ends & ~in_memory):
                m.d.sync += [phase.eq(Phase.MEMORY), coming.eq(memory), low.eq(rows.address)]
            with m.Elif(coming.ends):
                m.d.sync += [phase.eq(Phase.AFTER), coming.eq(first_chunk(held.pad_after, bus_bytes, shape))]
            with m.Else():
                m.d.sync += coming.eq(first_chunk(coming.beyond, bus_bytes, shape))

    def _first_of_row(self, row_bytes: Value, beats: data.View, low: Value, shape: data.StructLayout) -> Value:
        """`first_chunk` of a row whose first byte is byte `low` of a beat, which is known late.

        So it is added to the last bytes of the row only, whose whole `beats` are counted before.
        """
        end = row_bytes[: len(low)] + low
        part, carry = end[: len(low)], end[len(low)]
        ends = (beats.none & ~(carry & part.any())) | (beats.one & ~carry & ~part.any())
        few, most = (number[: shape["count"].width] for number in (row_bytes, self._config.bus_bytes - low))
        beyond = Cat(part, Mux(carry, row_bytes >> len(low), beats.fewer)[: len(row_bytes) - len(low)])
        return Cat(Mux(ends, few, most), beyond, Const(0, shape["beyond"].width - len(beyond)), ends)

    def _emit(self, m: Module, held: data.View, word_size: Signal, chunk: Chunk) -> Value:
        """The words' side; returns whether no LOAD is in the writer, or its last word is emitted in this cycle.

        A word is emitted if `surplus`, by which the level exceeds what the word needs, is not negative. It moves by
        what enters, and with a word by a difference that depends on this word and the next one.
        """
        m.submodules.words = rows = RowWalker(REACH_BITS)
        word, third_last = (Signal(WORD_ADDRESS_BITS, name=name, reset_less=True) for name in ("word", "third_last"))
        last_word, last_but_one = (Signal(name=name, reset_less=True) for name in ("last_word", "last_but_one"))
        longest = Signal.like(held.step_bytes, reset_less=True)
        difference = signed(len(longest) + 2)
        surplus, next_step, next_last, next_row = (
            Signal(difference, name=name, reset_less=True) for name in ("surplus", "next_step", "next_last", "next_row")
        )
        begun = delayed(m, self.start, 1, "begun", reset_less=False)
        first = self.following
        longer = Mux(first.step_bytes > first.word_bytes, first.step_bytes, first.word_bytes)
        mask = Cat(held.word_bytes > i for i in range(self._config.load_word_bytes))
        m.d.comb += [
            rows.start.eq(self.start),
            connect_rows(rows, self.following),
            self.emit.eq(rows.active & ~surplus[-1]),
            word_size.eq(Mux(last_word, held.word_bytes, held.step_bytes)),
            rows.step.eq(self.emit & last_word),
            self.last.eq(rows.step & rows.last),
            self.word.address.eq(delayed(m, (rows.address + word)[:REACH_BITS], 1, "address")),
            self.number.eq(delayed(m, held.number, 1, "number")),
            self.word.memory.eq(delayed(m, held.memory, 1, "memory")),
            self.word.mask.eq(delayed(m, (mask << held.byte_offset)[: len(mask)], 1, "mask")),
        ]
        m.d.sync += [
            next_step.eq(-held.step_bytes),
            next_last.eq(longest - held.step_bytes - held.word_bytes),
        ]
        take, count = chunk
        moved = Mux(last_word, next_row, Mux(last_but_one, next_last, next_step))
        # Nothing is emitted in the first cycle, by a surplus of -1; what the first word needs is taken in it.
        stays, leaves = Mux(begun, next_row, surplus), surplus + moved
        width = len(surplus)
        both = sum_of_three(surplus[:width], moved[:width], Cat(count, Const(0, width - len(count))))
        m.d.sync += surplus.eq(self._moved(take, (stays, leaves), (stays + count, both), width))
        with m.If(self.start):
            m.d.sync += [
                surplus.eq(-1),
                word.eq(0),
                last_word.eq(first.row_words == 1),
                last_but_one.eq(first.row_words == 2),
                longest.eq(longer),
            ]
        with m.Elif(rows.step):
            m.d.sync += [word.eq(0), last_word.eq(held.row_words == 1), last_but_one.eq(held.row_words == 2)]
        with m.Elif(self.emit):
            m.d.sync += [word.eq(word + 1), last_word.eq(last_but_one), last_but_one.eq(word == third_last)]
        free = ~rows.active | self.last
        with m.If(free):
            m.d.sync += [
                third_last.eq(first.row_words - 3),
                next_row.eq(-Mux(first.row_words == 1, first.word_bytes, longer)),
            ]
        return free
