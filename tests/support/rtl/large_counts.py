"""Counts to whose end no run of bearable length comes: an error ends it soon, and only if the count is as large."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from accel.machine import isa
from accel.machine.isa import INSTRUCTION_BYTES, Instruction, Opcode, decode, encode
from accel.machine.loops import LOOPS
from accel.machine.registers import COUNT_BITS
from rtl.interfaces import NUMBER_BITS
from rtl.testbench.verilate import COUNTERS
from rtl.testbench.verilator import Powered
from support.rtl.hostile import HOSTILE, LONG, MEMORY_BYTES
from support.rtl.lone_faults import Broken, Verdict, fillers, legal_instructions
from support.rtl.register_accesses import check_kept

DRAWS, SMALL, MOST_STRIDE = 25, 2, 64
LONGEST = 10 * LONG
"""Cycles after which an instruction that leaves a memory has done so."""

BEFORE, BEHIND, FEW = 40, 8, 3
"""Instructions before the one that is refused and behind it, and more than a power of two in PROGRAM_COUNT."""

INDEX_OFFSETS = 4


def large_loops(seed: int) -> list[Verdict]:
    """For each loop of each opcode and each bit of its count an instruction with this bit that leaves a memory, and
    that would not do so without it."""
    rng, found = np.random.default_rng(seed), dict[tuple[Opcode, str, int], Verdict]()
    bases = legal_instructions(rng)
    for opcode in Opcode:
        drawn = list[tuple[tuple[Opcode, str, int], Instruction, Instruction]]()
        loops = [loop for loop in LOOPS[opcode] if loop.endswith(("_count", "_words"))]
        for _ in range(DRAWS):
            code = next(code for code in bases if code[0] & 15 == opcode)
            for loop in loops:
                width = next(field.width for field in isa.FIELDS[opcode] if field.name == loop)
                for bit in range(SMALL, width):
                    (base,) = decode(code)
                    small = base.replace(**_strides(opcode, rng), **{each: int(rng.integers(1, 3)) for each in loops})
                    large = small.replace(**{loop: small[loop] | 1 << bit})
                    drawn.append(((opcode, loop, bit), small, large))
        codes = (np.frombuffer(encode(each), np.uint8) for each in zip(*(row[1:] for row in drawn), strict=True))
        legal, broken = (Broken.of(opcode, each.reshape(-1, INSTRUCTION_BYTES)) for each in codes)
        sound = ~(legal.fields.any(axis=0) | legal.uses.any(axis=0) | broken.fields.any(axis=0)) & legal.short
        for place in np.flatnonzero(sound & broken.uses.any(axis=0)):
            key, _, large = drawn[place]
            found.setdefault(key, (large.encode(), {"bounds", "rule"}))
    return list(found.values())


def _strides(opcode: Opcode, rng: np.random.Generator) -> dict[str, int]:
    """Strides in memories on the chip that are not 0, and windows of which all taps exist."""
    names = [field.name for field in isa.FIELDS[opcode]]
    strides = (name for name in names if name.endswith("_stride") and not name.startswith("dram_"))
    fields = {name: int(rng.integers(1, MOST_STRIDE)) * int(rng.choice((1, -1))) for name in strides}
    inside = {f"{axis}_{name}": 0 for axis in "yx" for name in ("start", "step", "dilation")} | {
        "height": 1,
        "width": 1,
    }
    if opcode is Opcode.DEPTHWISE:
        return fields | {"ox_stride": fields["kx_stride"]}
    return fields | {name: value for name, value in inside.items() if name in names}


class LongProgram(NamedTuple):
    """Code of which an instruction breaks a rule, its place, and how many instructions more PROGRAM_COUNT says."""

    code: bytes
    index: int
    beyond: int


def long_programs(seed: int) -> Iterator[LongProgram]:
    """Programs of each power of two instructions and a few."""
    rng = np.random.default_rng(seed)
    for bit in range(BEFORE.bit_length() + 1, COUNT_BITS):
        idle = fillers(rng)[Opcode.EXEC]
        wrong = idle[:-1] + bytes([idle[-1] | 0x80])
        code = idle * BEFORE + wrong + idle * BEHIND
        count = (1 << bit) + int(rng.integers(FEW))
        yield LongProgram(code, BEFORE, count - len(code) // INSTRUCTION_BYTES)


def check_long_program(program: LongProgram, seed: int, machine: Powered) -> None:
    """The instruction is refused, in its place; also if fetch has dispatched any number of others before: the bench
    adds to its counter."""
    code, index, beyond = program
    rng = np.random.default_rng(seed)
    conditions = replace(HOSTILE, beyond=beyond)
    drawn = rng.integers(1 << COUNT_BITS - NUMBER_BITS, size=INDEX_OFFSETS)
    for offset in (0, *(int(each) << NUMBER_BITS for each in drawn)):
        offsets = np.zeros(len(COUNTERS), np.uint32)
        offsets[COUNTERS.index(("fetch_unit", "dispatched"))] = offset
        got = machine.run(
            code, 0, np.zeros(MEMORY_BYTES, np.uint8), max_cycles=3 * LONG, conditions=conditions, offsets=offsets
        )
        place = index + int(offsets[-1])
        assert got.first_error == (("rule",), "FETCH", place, place * INSTRUCTION_BYTES % (1 << 32))
        check_kept({name: value for name, value in got.registers.items() if name.startswith("ERROR")}, machine)
