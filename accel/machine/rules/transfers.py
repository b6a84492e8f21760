"""Rules of LOAD and STORE."""

from __future__ import annotations

from collections.abc import Iterator

from accel.machine.config import ArchConfig
from accel.machine.isa import Memory, Opcode
from accel.machine.memories import Space, memories
from accel.machine.rules.ranges import Range, inside, loop, run
from accel.machine.rules.rows import Broken, Rows


def load_rules(config: ArchConfig, rows: Rows) -> Iterator[Broken]:
    """Rules of LOAD, without those of external addresses."""
    yield from rows.most("memory", rows["memory"], max(Memory))
    for memory in Memory:
        chosen = rows.where(rows["memory"] == memory)
        if len(chosen):
            yield from _target_rules(config, chosen, Space(memory))
    yield from rows.most("step_bytes", rows["step_bytes"], config.load_word_bytes)
    stream = (rows["row_words"] - 1) * rows["step_bytes"] + rows["word_bytes"]
    yield from rows.most("pad_bytes + row_bytes", rows["pad_bytes"] + rows["row_bytes"], stream)


def _target_rules(config: ArchConfig, rows: Rows, space: Space) -> Iterator[Broken]:
    """LOADs that all write the memory `space`."""
    memory, word_bytes = memories(config)[space], rows["word_bytes"]
    if not memory.words:
        yield from rows.refuse(
            word_bytes > 0,
            lambda i: "memory must not be TAPS on a machine without depthwise engine (depthwise_taps = 0)",
        )
        return
    yield from rows.most("byte_offset + word_bytes", rows["byte_offset"] + word_bytes, memory.word_bytes)
    if space is Space.PARAM:
        yield from rows.refuse(
            word_bytes != memory.word_bytes,
            lambda i: f"word_bytes must be {memory.word_bytes} for PARAM, got {word_bytes[i]}",
        )
    yield from inside(rows, "address", space, memory.words, _words(rows))


def store_rules(config: ArchConfig, rows: Rows) -> Iterator[Broken]:
    """Rules of STORE, without those of external addresses."""
    spad = memories(config)[Space.SPAD]
    yield from rows.most("byte_offset + word_bytes", rows["byte_offset"] + rows["word_bytes"], spad.word_bytes)
    yield from inside(rows, "address", Space.SPAD, spad.words, _words(rows))


def _words(rows: Rows) -> Range:
    words = run(rows["address"], rows["row_words"])
    return words + loop(rows, "row_count", "row_stride") + loop(rows, "outer_count", "outer_stride")


def dram_rules(rows: Rows, dram_bytes: int) -> Iterator[Broken]:
    """External addresses of LOAD or STORE."""
    size = rows["row_bytes"] if rows.opcode is Opcode.LOAD else rows.product("row_words", "word_bytes")
    loops = loop(rows, "row_count", "dram_row_stride") + loop(rows, "outer_count", "dram_outer_stride")
    yield from inside(rows, "dram_address", Space.DRAM, dram_bytes, run(rows["dram_address"], size) + loops)
