"""Errors whose instruction is known: its place in a program of any length, and each rule broken alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import islice, product

import numpy as np

from accel.machine.isa import INSTRUCTION_BYTES, Opcode, Unit, decode, encode
from accel.machine.registers import ERRORS
from rtl.interfaces import NUMBER_BITS
from rtl.testbench.verilator import Powered
from support.rtl.hostile import HOSTILE, mutant
from support.rtl.lone_faults import HEADER_BITS, Broken, fillers, legal_instructions

LONGEST = 1 << NUMBER_BITS
"""Most instructions before the first one with an error."""

BESIDE = 3
"""Instructions before a multiple of `LONGEST` and behind it, between which the first error is."""

MISUSES = 3000
"""Mutants among which those that break one rule are looked for."""

MOST_TOKENS = 6

BEHIND = 1 << 17
"""Where the program begins: behind all that random programs write."""

REST = replace(HOSTILE, stop_cycles=0, watchdog=300)


def misuses(rng: np.random.Generator, count: int) -> dict[tuple[Opcode, int], bytes]:
    """By opcode and number of a rule, instructions that only use words that do not exist, out of `count` mutants."""
    mutants = [mutant(legal, rng) for legal in islice(legal_instructions(rng), count)]
    found: dict[tuple[Opcode, int], bytes] = {}
    for opcode in Opcode:
        codes = [code for code in mutants if int.from_bytes(code, "little") & ((1 << HEADER_BITS) - 1) == opcode]
        broken = Broken.of(opcode, np.frombuffer(b"".join(codes), np.uint8).reshape(-1, INSTRUCTION_BYTES))
        alone = broken.uses & (broken.uses.sum(axis=0) == 1) & ~broken.fields.any(axis=0) & broken.short
        for rule, place in zip(*np.nonzero(alone), strict=True):
            found.setdefault((opcode, int(rule)), codes[place])
    return found


def places(seed: int) -> list[tuple[bytes, int]]:
    """Programs, and which of their instructions is the first with an error: one that uses what does not exist, or one
    that waits for ever, behind others or before them; of each opcode a program whose index has fewer bits than what
    fetch has dispatched then."""
    rng = np.random.default_rng(seed)
    idle = fillers(rng)
    wrong = [(opcode, code) for (opcode, _), code in misuses(rng, MISUSES).items()]
    waits = [(opcode, encode([decode(idle[opcode])[0].replace(wait=1 << Unit.LOAD)])) for opcode in Opcode]
    result = []
    for opcode, code in wrong + waits:
        length = int(rng.integers(LONGEST))
        result += [(idle[opcode] * before + code, before) for before in (length, length ^ (LONGEST - 1))]
    for opcode, code in waits:
        result += [(program, 0) for program in _passed_by(opcode, code, idle, rng)]
    for opcode, code in dict(wrong).items():
        before = LONGEST - int(rng.integers(1, BESIDE + 1))
        result.append((idle[opcode] * before + code + idle[opcode] * 2 * BESIDE, before))
    return result


def _passed_by(opcode: Opcode, wait: bytes, idle: Mapping[Opcode, bytes], rng: np.random.Generator) -> Iterator[bytes]:
    """The instruction waits while others are executed, of each number of bits, and among them a second one waits: a
    power of two from the first to the last, and any number above it."""
    for bit in range(1, NUMBER_BITS):
        second, other = rng.permutation([each for each in idle if each is not opcode])[:2].tolist()
        late = encode([decode(idle[Opcode(second)])[0].replace(wait=1 << Unit.LOAD)])
        for age in (1 << bit, (1 << bit) + 2 + int(rng.integers((1 << bit) // 2 + 1))):
            behind = age - 2  # beside the two that wait
            early = int(rng.integers(behind + 1))
            yield wait + idle[Opcode(other)] * early + late + idle[Opcode(other)] * (behind - early)


def waits(seed: int) -> list[bytes]:
    """Programs in which a unit waits for a few tokens of another one, and at the end for one more: each pair."""
    rng = np.random.default_rng(seed)
    idle, result = fillers(rng), []
    for producer, consumer in product(Unit, Unit):
        post, take = (decode(idle[Opcode[unit.name]])[0] for unit in (producer, consumer))
        tokens = int(rng.integers(MOST_TOKENS))
        posts, takes = [post.replace(signal=1 << consumer)] * tokens, [take.replace(wait=1 << producer)] * (tokens + 1)
        result.append(encode(posts + takes))
    return result


def check_wait(code: bytes, machine: Powered) -> None:
    """The watchdog ends the program, but not the one without its last instruction."""
    for part in filter(None, (code, code[:-INSTRUCTION_BYTES])):
        error = machine.run(part, 0, np.zeros(BEHIND, np.uint8), max_cycles=1 << 16, conditions=REST).error
        assert error >> list(ERRORS).index("watchdog") & 1 == (part == code)  # beside conflicts of the two units


def check_place(program: tuple[bytes, int], machine: Powered) -> None:
    """The first error names its instruction."""
    code, index = program
    memory = np.zeros(BEHIND + len(code), np.uint8)
    first = machine.run(code, BEHIND, memory, max_cycles=1 << 18, conditions=REST).first_error
    assert first.errors
    assert first[1:3] == (Opcode(code[index * INSTRUCTION_BYTES] & 15).name, index)
    assert not first.address
