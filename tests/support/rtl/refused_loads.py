"""LOADs that break a rule after they began to write: what they do not name stays as it is.

PARAM and TABLE are written in whole words, as each LOAD that keeps the rules does; of `byte_offset` the bits count that
a legal LOAD may set.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from accel.coverify import random_on_chip
from accel.machine.isa import FIELDS, Instruction, Memory, Opcode, column, decode, encode
from accel.machine.memories import Space
from accel.machine.rules.field_limits import possible_width
from rtl.testbench.verilator import Powered
from support.rtl.hostile import MACHINE, MEMORY_BYTES, run

WORDS, MEMORIES = 12, 8
"""Words of pad bytes, which come before any byte of the memory does; values of the field `memory`."""

OFFSET = FIELDS[Opcode.LOAD][column(Opcode.LOAD, "byte_offset")]
LOADED, WHOLE = [Space(memory) for memory in Memory], (Space.PARAM, Space.TABLE)


def refused_loads(seed: int, count: int) -> Iterator[bytes]:
    """To any part of any memory, or of none."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        memory = int(rng.integers(MEMORIES))
        word_bytes = int(rng.integers(1, MACHINE.load_word_bytes + 1))
        fields = {"memory": memory, "address": int(rng.integers(2 * WORDS)), "row_words": WORDS + 1, "row_bytes": 1}
        fields |= {"word_bytes": word_bytes, "step_bytes": word_bytes, "pad_bytes": WORDS * word_bytes}
        fields |= {
            "byte_offset": int(rng.choice((rng.integers(3), rng.integers(1 << OFFSET.width)))),
            "pad_value": int(rng.integers(-128, 128)),
        }
        yield encode([Instruction(Opcode.LOAD, fields)])


def check_refused_load(code: bytes, machine: Powered) -> None:
    """Only bytes change that the LOAD names."""
    (load,), before = decode(code), random_on_chip(MACHINE, 0)
    machine.on_chip = before
    got = run(machine, code, np.zeros(MEMORY_BYTES, np.uint8))
    assert got.on_chip is not None
    for space, held in got.on_chip.items():
        named = np.zeros(held.shape, bool)
        if space in WHOLE and space == load["memory"]:
            named[:] = True
        elif space in LOADED and space == load["memory"]:
            offset = load["byte_offset"] % (1 << possible_width(MACHINE, Opcode.LOAD, OFFSET))
            named[:, offset : offset + load["word_bytes"]] = True
        assert not (np.broadcast_to(before[space], held.shape) != held)[~named].any()
