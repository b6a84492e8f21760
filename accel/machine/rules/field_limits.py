"""What the rules on single fields and small sums leave of a field: bits that no instruction sets which keeps them."""

from __future__ import annotations

from collections.abc import Mapping

from accel.machine.config import ArchConfig
from accel.machine.isa import Field, Memory, Opcode, Unit
from accel.machine.memories import Space, memories


def greatest(config: ArchConfig) -> Mapping[tuple[Opcode, str], int]:
    """The greatest value that `accel.machine.rules.check.FIELD_RULES` leave to a field; others may have any value.

    Rules on what an instruction uses are not in it: a unit finds that they are broken by the whole of its fields.
    """
    loaded = {memory: each.word_bytes for memory in Memory if (each := memories(config)[Space(memory)]).words}
    parts = max(word_bytes for memory, word_bytes in loaded.items() if memory is not Memory.PARAM)
    spad = memories(config)[Space.SPAD].word_bytes
    limits = {
        (Opcode.LOAD, "word_bytes"): max(loaded.values()),
        (Opcode.LOAD, "step_bytes"): config.load_word_bytes,
        (Opcode.LOAD, "byte_offset"): parts - 1,
        (Opcode.EXEC, "k_rows"): config.rows,
        (Opcode.POST, "group_count"): config.rows // config.post_lanes,
        (Opcode.POST, "dst_byte"): config.rows - config.post_lanes,
        (Opcode.STORE, "word_bytes"): spad,
        (Opcode.STORE, "byte_offset"): spad - 1,
    }
    if config.depthwise_taps:
        limits[Opcode.DEPTHWISE, "spad_byte"] = spad - config.depthwise_lanes
        limits[Opcode.DEPTHWISE, "kx_count"] = config.depthwise_taps
    masks = {(opcode, name): (1 << len(Unit)) - 1 for opcode in Opcode for name in ("wait", "signal")}
    return limits | masks


def possible_width(config: ArchConfig, opcode: Opcode, field: Field) -> int:
    """Low bits of a field, beyond which no instruction has any that keeps the rules on fields."""
    most = greatest(config).get((opcode, field.name))
    return field.width if most is None else most.bit_length()
