"""Rules of LOAD and STORE."""

from __future__ import annotations

from collections.abc import Iterator

from accel.machine.config import ArchConfig
from accel.machine.isa import Memory, Opcode
from accel.machine.memories import Space, memories
from accel.machine.rules.ranges import Range, inside, loop, run
from accel.machine.rules.rows import Broken, Rows


def load_fields(config: ArchConfig, rows: Rows) -> Iterator[Broken]:
    """Rules of LOAD on single fields and small sums."""
    yield from rows.most("memory", rows["memory"], max(Memory))
    for memory in Memory:
        chosen = rows.where(rows["memory"] == memory)
        if len(chosen):
            yield from _target_fields(config, chosen, Space(memory))
    yield from rows.most("step_bytes", rows["step_bytes"], config.load_word_bytes)


def load_uses(config: ArchConfig, rows: Rows) -> Iterator[Broken]:
    """Rules of LOAD on its stream and on the words that it writes."""
    for memory in Memory:
        chosen = rows.where(rows["memory"] == memory)
        if len(chosen) and memories(config)[Space(memory)].words:
            space = Space(memory)
            yield from inside(chosen, "address", space, memories(config)[space].words, _words(chosen))
    stream = (rows["row_words"] - 1) * rows["step_bytes"] + rows["word_bytes"]
    yield from rows.most("pad_bytes + row_bytes", rows["pad_bytes"] + rows["row_bytes"], stream)


def _target_fields(config: ArchConfig, rows: Rows, space: Space) -> Iterator[Broken]:
    """LOADs that all write the memory `space`."""
    memory, word_bytes = memories(config)[space], rows["word_bytes"]
    if not memory.words:
        yield from rows.refuse(
            word_bytes > 0,
            "memory is one that the machine has",
            lambda i: "memory must not be TAPS on a machine without depthwise engine (depthwise_taps = 0)",
        )
        return
    yield from rows.most("byte_offset + word_bytes", rows["byte_offset"] + word_bytes, memory.word_bytes)
    if space is Space.PARAM:
        yield from rows.refuse(
            word_bytes != memory.word_bytes,
            "word_bytes is a whole record for PARAM",
            lambda i: f"word_bytes must be {memory.word_bytes} for PARAM, got {word_bytes[i]}",
        )


def store_fields(config: ArchConfig, rows: Rows) -> Iterator[Broken]:
    """Rules of STORE on single fields and small sums."""
    spad = memories(config)[Space.SPAD]
    yield from rows.most("byte_offset + word_bytes", rows["byte_offset"] + rows["word_bytes"], spad.word_bytes)


def store_uses(config: ArchConfig, rows: Rows) -> Iterator[Broken]:
    """Rules of STORE on the words that it reads."""
    yield from inside(rows, "address", Space.SPAD, memories(config)[Space.SPAD].words, _words(rows))


def _words(rows: Rows) -> Range:
    words = run(rows["address"], rows["row_words"])
    return words + loop(rows, "row_count", "row_stride") + loop(rows, "outer_count", "outer_stride")


def dram_rules(rows: Rows, dram_bytes: int) -> Iterator[Broken]:
    """External addresses of LOAD or STORE."""
    size = rows["row_bytes"] if rows.opcode is Opcode.LOAD else rows.product("row_words", "word_bytes")
    loops = loop(rows, "row_count", "dram_row_stride") + loop(rows, "outer_count", "dram_outer_stride")
    yield from inside(rows, "dram_address", Space.DRAM, dram_bytes, run(rows["dram_address"], size) + loops)
