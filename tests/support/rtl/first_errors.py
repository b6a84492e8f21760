"""Errors whose instruction is known: its place in a program of any length, and each rule broken alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from accel.machine import isa
from accel.machine.isa import INSTRUCTION_BYTES, Opcode, Unit, decode, decode_table, encode
from accel.machine.loops import LOOPS
from accel.machine.rules.check import FIELD_RULES, USE_RULES
from accel.machine.rules.rows import Rows
from rtl.testbench.verilator import Powered
from support.machine.random_programs import random_program
from support.rtl.hostile import HOSTILE, MACHINE, mutant, words

LONGEST, WAITING = 1 << 8, 1 << 7
"""Instructions before one that breaks a rule, and before one that waits for ever."""

MOST_STEPS = 500
"""Of an instruction that breaks a rule."""

MISUSES = 3000
"""Mutants among which those that break one rule are looked for."""

BEHIND = 1 << 17
"""Where the program begins: behind all that random programs write."""

STEPS = range(12, 25)
"""Of a filler: longer than fetch takes for the next one, so that queues become full."""

HEADER_BITS = sum(field.width for field in isa.FIELDS[Opcode.LOAD][:3])
"""Of `opcode`, `wait` and `signal`, which all instructions begin with."""

REST = replace(HOSTILE, stop_cycles=0, watchdog=300)


def legal_instructions(rng: np.random.Generator) -> Iterator[bytes]:
    """Instructions of random programs, without waits and signals."""
    while True:
        for code in words(random_program(MACHINE, rng, 12).code):
            word = int.from_bytes(code, "little")
            yield ((word >> HEADER_BITS << HEADER_BITS) | word & 15).to_bytes(INSTRUCTION_BYTES, "little")


def fillers(rng: np.random.Generator) -> dict[Opcode, bytes]:
    """Of each opcode a legal instruction of `STEPS`."""
    found: dict[Opcode, bytes] = {}
    for code in legal_instructions(rng):
        opcode = Opcode(code[0] & 15)
        if Rows.of(opcode, decode_table(code)).product(*LOOPS[opcode])[0] in STEPS:
            found.setdefault(opcode, code)
        if len(found) == len(Opcode):
            return found
    raise AssertionError("the generator has no end")


def misuses(rng: np.random.Generator, count: int) -> dict[tuple[Opcode, str], bytes]:
    """By opcode and rule, instructions that only use words that do not exist, out of `count` mutants."""
    found: dict[tuple[Opcode, str], bytes] = {}
    for legal, _ in zip(legal_instructions(rng), range(count), strict=False):
        code = mutant(legal, rng)
        header = int.from_bytes(code, "little") & ((1 << HEADER_BITS) - 1)
        if header not in list(Opcode) or broken_rules(code):
            continue
        rows = Rows.of(Opcode(header), decode_table(code))
        broken = list(USE_RULES[rows.opcode](MACHINE, rows))
        if len(broken) == 1 and rows.product(*LOOPS[rows.opcode])[0] <= MOST_STEPS:
            found.setdefault((Opcode(header), broken[0].rule), code)
    return found


def places(seed: int) -> list[tuple[bytes, int]]:
    """Programs, and which of their instructions is the first with an error: one that uses what does not exist, or one
    that waits for ever."""
    rng = np.random.default_rng(seed)
    idle = fillers(rng)
    wrong = [(opcode, LONGEST, code) for (opcode, _), code in misuses(rng, MISUSES).items()]
    waits = [(opcode, WAITING, encode([decode(idle[opcode])[0].replace(wait=1 << Unit.LOAD)])) for opcode in Opcode]
    result = []
    for opcode, most, code in wrong + waits:
        length = int(rng.integers(most))
        result += [(idle[opcode] * before + code, before) for before in (length, length ^ (most - 1))]
    return result


def check_place(program: tuple[bytes, int], machine: Powered) -> None:
    """The first error names its instruction."""
    code, index = program
    memory = np.zeros(BEHIND + len(code), np.uint8)
    first = machine.run(code, BEHIND, memory, max_cycles=1 << 16, conditions=REST).first_error
    assert first.errors
    assert first[1:3] == (Opcode(code[-INSTRUCTION_BYTES] & 15).name, index)
    assert first.errors != ("watchdog",) or not first.address


def broken_rules(code: bytes) -> list[str]:
    """Rules on the fields of one instruction that it breaks: those of the encoding, those of the checker."""
    opcode, word, found, low = Opcode(code[0] & 15), int.from_bytes(code, "little"), [], 0
    for field in isa.FIELDS[opcode]:
        mask, least = (1 << field.width) - 1, field.low or 0
        if field.low and (word >> low & mask) < least:
            found.append(f"{field.name} at least {least}")
            word |= least << low
        if field.name in ("wait", "signal") and word >> low + len(Unit) & mask >> len(Unit):
            found.append(f"{field.name} of units")
            word &= ~(mask >> len(Unit) << low + len(Unit))
        low += field.width
    if word >> low:
        found.append("bits outside of fields")
    rows = Rows.of(opcode, decode_table((word & (1 << low) - 1).to_bytes(INSTRUCTION_BYTES, "little")))
    if opcode is Opcode.DEPTHWISE and (rows["row_steps"] < rows["ox_count"]).any():
        found.append("row_steps")
    return found + [broken.rule for broken in FIELD_RULES[opcode](MACHINE, rows)]


def lone_faults(seed: int, count: int) -> list[tuple[bytes, set[str]]]:
    """For each rule on fields, and each field by which it is broken, an instruction that breaks no other one, out of
    `count` with one field changed."""
    rng, found = np.random.default_rng(seed), {}
    for code, _ in zip(legal_instructions(rng), range(count), strict=False):
        widths = [field.width for field in isa.FIELDS[Opcode(code[0] & 15)]]
        widths.append(8 * INSTRUCTION_BYTES - sum(widths))
        number = int(rng.integers(1, len(widths)))
        low, width = sum(widths[:number]), widths[number]
        for value in {0, (1 << width) - 1, int(rng.integers(1 << min(width, 32))), *(1 << i for i in range(width))}:
            word = int.from_bytes(code, "little") & ~((1 << width) - 1 << low) | value << low
            changed = word.to_bytes(INSTRUCTION_BYTES, "little")
            rules = broken_rules(changed)
            if len(rules) == 1:
                found.setdefault((changed[0] & 15, rules[0], number), changed)
    return [(code, {"rule"}) for code in found.values()]
