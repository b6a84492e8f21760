"""Programs with one thing wrong."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product

import numpy as np

from accel.machine.isa import FIELDS, Instruction, Unit


def without_token(program: Sequence[Instruction]) -> Iterator[list[Instruction]]:
    """The program without one pair of signal and wait, for every pair."""
    for p, u in product(Unit, Unit):
        signals = [n for n, i in enumerate(program) if i.unit == p and i["signal"] >> u & 1]
        waits = [n for n, i in enumerate(program) if i.unit == u and i["wait"] >> p & 1]
        for signal, wait in zip(signals, waits, strict=True):
            mutant = list(program)
            mutant[signal] = mutant[signal].replace(signal=mutant[signal]["signal"] & ~(1 << u))
            mutant[wait] = mutant[wait].replace(wait=mutant[wait]["wait"] & ~(1 << p))
            yield mutant


def with_wrong_field(program: Sequence[Instruction], rng: np.random.Generator) -> Iterator[list[Instruction]]:
    """One token bit, address, count or stride changed, by a little or by a bank."""
    for index, i in enumerate(program):
        for field in FIELDS[i.opcode][1:]:
            value = i[field.name]
            if field.name in ("wait", "signal"):
                changed = value ^ 1 << int(rng.integers(len(Unit)))
            elif "address" in field.name:
                changed = value + int(rng.choice([-8, -1, 1, 8, 64]))
            elif "count" in field.name or "stride" in field.name or "words" in field.name:
                changed = value + int(rng.choice([-1, 1]))
            else:
                continue
            if field.minimum <= changed <= field.maximum:
                yield [*program[:index], i.replace(**{field.name: changed}), *program[index + 1 :]]
