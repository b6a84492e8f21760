"""All rules on single instructions as text, and who enforces them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from accel.machine.config import ArchConfig
from accel.machine.isa import COLUMNS, Opcode
from accel.machine.rules.check import FIELD_RULES, USE_RULES
from accel.machine.rules.in_place import IN_PLACE
from accel.machine.rules.rows import Broken, Mask, Rows
from accel.machine.rules.sums import depthwise_stream
from accel.machine.rules.transfers import dram_rules

AT_DISPATCH = "`rule`, at its dispatch"
AT_USE = "`rule` or `bounds`, when it comes to it"
CHECKER = "checker alone"


class ListedRule(NamedTuple):
    """A rule of an opcode, and who enforces it: one of the three texts above."""

    opcode: Opcode
    rule: str
    enforced: str


class _Listed(Rows):
    """Instructions that stand for all: every rule applies to them and is told."""

    def where(self, chosen: Mask) -> Rows:
        return self

    def refuse(self, bad: Mask, rule: str, sentence: Callable[[int], str]) -> Iterator[Broken]:
        yield Broken(0, "", rule)


def listed_rules(config: ArchConfig) -> list[ListedRule]:
    """The rules of a machine, in the order of opcodes."""
    table = np.ones((1, COLUMNS), np.int64)
    listed = []
    for opcode in Opcode:
        rows = _Listed(opcode, np.zeros(1, np.intp), table)
        checker = {Opcode.LOAD: dram_rules(rows, 0), Opcode.STORE: dram_rules(rows, 0)}.get(opcode, iter(()))
        groups = {AT_DISPATCH: FIELD_RULES[opcode](config, rows), AT_USE: USE_RULES[opcode](config, rows)}
        found = [(broken.rule, text) for text, rules in groups.items() for broken in rules]
        found += [(broken.rule, CHECKER) for broken in checker]
        if opcode is Opcode.DEPTHWISE:
            found += [(broken.rule, CHECKER) for broken in depthwise_stream(config, rows)]
        if opcode is Opcode.POST:
            found.append((IN_PLACE, CHECKER))
        listed += [ListedRule(opcode, rule, text) for rule, text in dict.fromkeys(found)]
    return listed
