"""Instructions at the border of each rule: what is expected of them is what the checker says of one at a time."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest
from support.rtl.hostile import MACHINE
from support.rtl.instruction_mutants import breaks_a_field_rule, breaks_a_use_rule, mutant
from support.rtl.lone_faults import Broken, behind_others, changed, legal_instructions, lone_faults

from accel.machine.isa import INSTRUCTION_BYTES, Opcode

pytestmark = pytest.mark.rtl


def of_each_opcode(codes: list[bytes]) -> dict[Opcode, list[bytes]]:
    return {opcode: [code for code in codes if code[0] & 15 == opcode] for opcode in Opcode}


def judged(opcode: Opcode, codes: list[bytes]) -> Broken:
    return Broken.of(opcode, np.frombuffer(b"".join(codes), np.uint8).reshape(-1, INSTRUCTION_BYTES))


def test_many_at_a_time_are_judged_as_one_is() -> None:
    rng = np.random.default_rng(0)
    mutants = [mutant(code, rng) for code in islice(legal_instructions(rng), 600)]
    for opcode, codes in of_each_opcode([code for code in mutants if code[0] & 15 in list(Opcode)]).items():
        broken = judged(opcode, codes)
        assert broken.fields.any(axis=0).tolist() == [breaks_a_field_rule(MACHINE, code) for code in codes]
        legal = np.flatnonzero(~broken.fields.any(axis=0))
        uses = [breaks_a_use_rule(MACHINE, codes[place]) for place in legal]
        assert broken.uses.any(axis=0)[legal].tolist() == uses
        assert len({*uses}) == 2


INT4 = 10
"""Rule of EXEC that only a machine without int4 weights has."""


def test_each_rule_is_broken_alone() -> None:
    found = lone_faults(0, 1000)
    for opcode, codes in of_each_opcode([code for code, expected in found if expected == {"rule"}]).items():
        broken = judged(opcode, codes)
        assert (broken.fields.sum(axis=0) == 1).all()
        assert np.flatnonzero(~broken.fields.any(axis=1)).tolist() == [INT4] * (opcode is Opcode.EXEC)
    for opcode, codes in of_each_opcode([code for code, expected in found if "bounds" in expected]).items():
        broken = judged(opcode, codes)
        assert not broken.fields.any()
        assert broken.uses.any(axis=1).all()
    assert not any(judged(Opcode(code[0] & 15), [code]).fields.any() for code, expected in found if not expected)


def test_a_change_is_one_of_one_field() -> None:
    rng = np.random.default_rng(0)
    legal = next(legal_instructions(rng))
    for (_, bit), code in changed(legal, rng):
        flipped = int.from_bytes(legal, "little") ^ int.from_bytes(code, "little")
        assert bit < 0 or flipped.bit_count() in (1, 2)


def test_instructions_that_are_refused_at_the_dispatch_come_first() -> None:
    found = lone_faults(0, 20)
    behind = [*behind_others(found, 0)]
    assert {len(code) > INSTRUCTION_BYTES for code, expected in behind if expected != {"rule"}} == {False, True}
    assert {len(code) for code, expected in behind if expected == {"rule"}} == {INSTRUCTION_BYTES}
    assert [code[-INSTRUCTION_BYTES:] for code, _ in behind] == [code for code, _ in found]
