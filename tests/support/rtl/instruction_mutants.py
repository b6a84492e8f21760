"""Instructions that break rules, and the checker's verdict on one of them."""

from __future__ import annotations

import numpy as np

from accel.errors import EncodingError
from accel.machine.config import ArchConfig
from accel.machine.isa import FIELDS, Opcode, Unit, decode_table
from accel.machine.rules.check import FIELD_RULES, USE_RULES
from accel.machine.rules.rows import Rows


def mutant(code: bytes, rng: np.random.Generator) -> bytes:
    """An instruction with some fields replaced, or some bits flipped, or all bits random but the opcode."""
    word, kind = int.from_bytes(code, "little"), rng.integers(4)
    if kind == 0:
        word = int.from_bytes(rng.bytes(len(code)), "little") & ~15 | word & 15
    elif kind == 1:
        for bit in rng.integers(4, 8 * len(code), rng.integers(1, 4)):
            word ^= 1 << int(bit)
    else:
        fields = FIELDS[Opcode(word & 15)]
        for i in rng.integers(1, len(fields), rng.integers(1, 4)):
            low, width = sum(field.width for field in fields[:i]), fields[i].width
            values = (0, 1, 2, 3, (1 << width) - 1, 1 << width - 1, int(rng.integers(1 << width)))
            value = values[rng.integers(len(values))] & (1 << width) - 1
            word = word & ~(((1 << width) - 1) << low) | value << low
    return word.to_bytes(len(code), "little")


def breaks_a_field_rule(config: ArchConfig, code: bytes) -> bool:
    """What `Legality` must find in one instruction, by the checker's code."""
    try:
        table = decode_table(code)
    except EncodingError:
        return True
    rows = Rows.of(Opcode(int(table[0, 0])), table)
    if any((rows[mask] >> len(Unit)).any() for mask in ("wait", "signal")):
        return True
    if rows.opcode is Opcode.DEPTHWISE and (rows["row_steps"] < rows["ox_count"]).any():
        return True
    return any(True for _ in FIELD_RULES[rows.opcode](config, rows))


def breaks_a_use_rule(config: ArchConfig, code: bytes) -> bool:
    """Whether an instruction that keeps the rules on fields uses a word that does not exist."""
    table = decode_table(code)
    rows = Rows.of(Opcode(int(table[0, 0])), table)
    return any(True for _ in USE_RULES[rows.opcode](config, rows))
