"""Single instructions at the border of each rule: for each bit of each field one that keeps all rules, and one for each
rule that it breaks alone.

The checker's rules are evaluated on thousands of instructions at a time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np

from accel.machine import isa
from accel.machine.isa import INSTRUCTION_BYTES, Opcode, Unit, decode_table
from accel.machine.loops import LOOPS
from accel.machine.rules.check import FIELD_RULES, USE_RULES
from accel.machine.rules.rows import Mask, Rows
from accel.machine.rules.sums import depthwise_stream
from support.machine.random_programs import random_program
from support.rtl.hostile import MACHINE, words

HEADER_BITS = sum(field.width for field in isa.FIELDS[Opcode.LOAD][:3])
"""Of `opcode`, `wait` and `signal`, which all instructions begin with."""

MOST_STEPS = 300
"""Of an instruction that is not refused at once."""

STEPS, FULL = range(12, 25), MACHINE.queue_depth + 2
"""Of a filler: longer than fetch takes for the next one, so that queues become full; and how many of them do that."""

NARROW, ALIKE = 3, 8
"""Bits of a field that chooses what an instruction does, and how often each choice is made."""

RELATED = 12
"""Values of a field that come from another one's, for each field of an instruction."""

ITSELF = 1000
"""More than a field has bits."""

Verdict = tuple[bytes, set[str]]
"""An instruction, and one of which errors is expected."""


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


def legal_instructions(rng: np.random.Generator) -> Iterator[bytes]:
    """Instructions of random programs, without waits and signals."""
    while True:
        for code in words(random_program(MACHINE, rng, 12).code):
            word = int.from_bytes(code, "little")
            yield ((word >> HEADER_BITS << HEADER_BITS) | word & 15).to_bytes(INSTRUCTION_BYTES, "little")


@dataclass(frozen=True)
class Judged(Rows):
    """Instructions of which each rule yields whether they break it, in the order of the rules."""

    chosen: Mask

    def where(self, chosen: Mask) -> Judged:
        return replace(self, chosen=self.chosen & chosen)

    def refuse(self, bad: Mask, rule: str, sentence: object) -> Iterator[Any]:
        yield self.chosen & bad


@dataclass(frozen=True)
class Broken:
    """Which rules instructions break: a row per rule.

    Parameters
    ----------
    fields : ndarray of bool, shape (rules, instructions)
        On fields, and of the encoding; refused at the dispatch.
    uses : ndarray of bool, shape (rules, instructions)
        On words that are used; an instruction that breaks one of the others may do anything.
    short : ndarray of bool, shape (instructions,)
        At most `MOST_STEPS`, no waits, and each word of a DEPTHWISE enters its window in time.
    """

    fields: Mask
    uses: Mask
    short: Mask

    @staticmethod
    def of(opcode: Opcode, codes: np.ndarray) -> Broken:
        """Of instructions, uint8 of shape (n, INSTRUCTION_BYTES)."""
        bits, low, encoding = np.unpackbits(codes, axis=1, bitorder="little").astype(np.int64), 0, []
        for field in isa.FIELDS[opcode]:
            mine, least = bits[:, low : low + field.width], field.low or 0
            if field.low:
                encoding.append(mine @ (1 << np.arange(field.width)) < least)
                mine[encoding[-1], 0] |= least & 1
                assert least == 1
            if field.name in ("wait", "signal"):
                encoding.append(mine[:, len(Unit) :].any(axis=1))
                mine[:, len(Unit) :] = 0
            low += field.width
        encoding.append(bits[:, low:].any(axis=1))
        bits[:, low:] = 0
        table = decode_table(np.packbits(bits.astype(np.uint8), axis=1, bitorder="little").tobytes())
        rows = Judged(opcode, np.arange(len(table)), table, np.ones(len(table), bool))
        if opcode is Opcode.DEPTHWISE:
            encoding.append(rows["row_steps"] < rows["ox_count"])
        short = (rows.product(*LOOPS[opcode]) <= MOST_STEPS) & (rows["wait"] == 0)
        with np.errstate(divide="ignore"):  # where another rule is broken
            for late in depthwise_stream(MACHINE, rows) if opcode is Opcode.DEPTHWISE else ():
                short &= ~late
            fields, uses = FIELD_RULES[opcode](MACHINE, rows), USE_RULES[opcode](MACHINE, rows)
            return Broken(np.array([*encoding, *fields]), np.array([*uses]), short)


def varied(codes: Iterable[bytes]) -> Iterator[bytes]:
    """Of instructions those with a value of a narrow field that few of their opcode before them have."""
    seen = Counter[tuple[int, str, int]]()
    for code in codes:
        opcode, table = Opcode(code[0] & 15), decode_table(code)
        names = (field.name for field in isa.FIELDS[opcode] if field.width <= NARROW)
        values = [(int(opcode), name, int(table[0, isa.column(opcode, name)])) for name in names]
        if min((seen[value] for value in values), default=seen[int(opcode), "", 0]) < ALIKE:
            yield code
        seen.update([*values, (int(opcode), "", 0)])


def changed(code: bytes, rng: np.random.Generator) -> Iterator[tuple[tuple[int, int], bytes]]:
    """An instruction with one field changed: each bit of it by chance with the next one, its ends, its neighbours, what
    other fields say, and each bit by itself; the field's number, and of a bit its place, below 0 for what is no bit and
    from `ITSELF` on for what is one by itself."""
    opcode, word = Opcode(code[0] & 15), int.from_bytes(code, "little")
    widths = [field.width for field in isa.FIELDS[opcode]]
    widths.append(8 * INSTRUCTION_BYTES - sum(widths))
    lows = [sum(widths[:number]) for number in range(len(widths))]
    values = [word >> low & (1 << width) - 1 for low, width in zip(lows, widths, strict=True)]
    for number in range(1, len(widths)):
        value, most = values[number], (1 << widths[number]) - 1
        others = rng.choice(values[1:-1], RELATED).tolist()
        related = [other * int(rng.integers(1, 3)) + int(rng.integers(-1, 2)) for other in others]
        plain = [*enumerate((0, most, value - 1, value + 1), -4), *((-5, each) for each in related)]
        flips = rng.choice((1, 3), widths[number])
        alone = [(ITSELF + bit, value ^ 1 << bit) for bit in range(widths[number])]
        if number == len(widths) - 1:  # two bits behind the fields break the same rule as one
            flips[:], alone = 1, []
        bits = [(bit, value ^ int(flip) << bit) for bit, flip in enumerate(flips)]
        for place, each in [*bits, *plain, *alone]:
            new = word & ~(most << lows[number]) | (each & most) << lows[number]
            yield (number, place), new.to_bytes(INSTRUCTION_BYTES, "little")


def behind_others(verdicts: Iterable[Verdict], seed: int) -> Iterator[Verdict]:
    """Instructions that are not refused at the dispatch, half of them behind some that fill their unit's queue."""
    rng = np.random.default_rng(seed)
    idle = fillers(rng)
    for code, expected in verdicts:
        full = "rule" not in expected or "bounds" in expected
        yield idle[Opcode(code[0] & 15)] * (FULL * int(rng.integers(2)) * full) + code, expected


def lone_faults(seed: int, count: int) -> list[Verdict]:
    """Instructions made of some of `count` legal ones, and what is expected: for each opcode, rule, field and bit one
    that breaks this rule alone, and for each field and bit one that breaks none."""
    rng, found = np.random.default_rng(seed), dict[tuple[Any, ...], Verdict]()
    for code in varied(islice(legal_instructions(rng), count)):
        opcode, variants = Opcode(code[0] & 15), [*changed(code, rng)]
        codes = np.frombuffer(b"".join(new for _, new in variants), np.uint8).reshape(-1, INSTRUCTION_BYTES)
        broken = Broken.of(opcode, codes)
        fields, uses = broken.fields.sum(axis=0), broken.uses.sum(axis=0)
        ends: Mapping[str, tuple[Mask, Mask]] = {
            "rule": (broken.fields, fields == 1),
            "bounds": (broken.uses, (fields == 0) & (uses == 1) & broken.short),
            "": (np.ones((1, len(codes)), bool), (fields == 0) & (uses == 0) & broken.short),
        }
        for end, (rules, alone) in ends.items():
            for rule, place in zip(*np.nonzero(rules & alone), strict=True):
                if not end and variants[place][0][1] >= ITSELF:
                    continue  # as many as there are bits will do of those that are not refused
                key = (opcode, end, int(rule), *variants[place][0])
                found.setdefault(key, (variants[place][1], {end, "rule"} if end else set()))
    return list(found.values())
