"""Single beats with an error response, of an instruction or of a LOAD's data."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from accel.machine.isa import INSTRUCTION_BYTES, Instruction, Memory, Opcode, encode
from rtl.testbench.result import FirstError
from rtl.testbench.verilator import Powered
from support.rtl.hostile import HOSTILE, LONG, MACHINE, MEMORY_BYTES
from support.rtl.lone_faults import fillers

ON_CHIP = (Opcode.EXEC, Opcode.POST, Opcode.DEPTHWISE)
MOST_BEFORE, MOST_BEHIND, BURST_BEATS = 12, 5, 32


class FaultyBeat(NamedTuple):
    """A program, the address of the beat, and what is reported."""

    code: bytes
    address: int
    error: FirstError


def faulty_beats(seed: int, count: int) -> Iterator[FaultyBeat]:
    """By turns of an instruction among others, and of a LOAD of one burst."""
    rng = np.random.default_rng(seed)
    idle, beat = fillers(rng), MACHINE.bus_bytes
    for number in range(count):
        opcode = Opcode(rng.choice(ON_CHIP))
        index = int(rng.integers(MOST_BEFORE))
        before, behind = idle[opcode] * index, idle[opcode] * int(rng.integers(MOST_BEHIND))
        if number % 2:
            start = int(rng.integers(MEMORY_BYTES // 2, MEMORY_BYTES)) // (BURST_BEATS * beat) * BURST_BEATS * beat
            words = int(rng.integers(1, BURST_BEATS * beat // MACHINE.rows + 1))
            word = {"word_bytes": MACHINE.rows, "step_bytes": MACHINE.rows, "row_bytes": words * MACHINE.rows}
            load = {"memory": Memory.SPAD, "dram_address": start, "row_words": words} | word
            address = start + int(rng.integers(-(-words * MACHINE.rows // beat))) * beat
            code, where = encode([Instruction(Opcode.LOAD, load)]), ("read_response", Opcode.LOAD.name, start)
        else:
            code, where = idle[opcode], ("fetch_response", "FETCH", index * INSTRUCTION_BYTES)
            address = where[-1] + int(rng.integers(INSTRUCTION_BYTES // beat)) * beat
        kind, unit, place = where
        yield FaultyBeat(before + code + behind, address, FirstError((kind,), unit, index, place))


def check_faulty_beat(fault: FaultyBeat, machine: Powered) -> None:
    """It is reported, whichever beat of its instruction or burst it is."""
    conditions = replace(HOSTILE, wrong_beat=fault.address)
    got = machine.run(fault.code, 0, np.zeros(MEMORY_BYTES, np.uint8), max_cycles=2 * LONG, conditions=conditions)
    assert got.first_error == fault.error
