"""Which mutants a run can notice: those whose bit ever differs from the machine's while none is active.

Up to the first difference a mutant's run is the machine's own; where none comes, its suite need not be run. A statement
per mutant compares the two; Verilator counts its branch, glitches included, which only adds mutants.

References
----------
W. E. Howden, Weak mutation testing and completeness of test sets, IEEE TSE 8(4), 1982.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cache

from support.mutants.netlist_mutants import NetlistMutant

CHOICE = re.compile(r"assign (\S+) = mutant == \d+'h([0-9a-f]+);\n")
"""The wire that makes a mutant active, and its number, as yosys writes them."""

MARK = "// excites "
FIELD = re.compile("\x01([^\x02]*)\x02([^\x01]*)")
"""Of a coverage point's key: a name and its value."""


UNDEFINED = "1'hx"
"""A bit that the Verilog leaves open: a mutant may choose it."""


def watched(verilog: str) -> str:
    """The Verilog of `netlist_mutants.mutated` with a branch for each mutant, and no other one that is counted."""
    modules = re.split(r"(?m)^(?=module )", verilog)
    return "/* verilator coverage_off */\n" + "".join(_watched_module(module) for module in modules)


def unchanged(verilog: str, mutants: Iterable[NetlistMutant]) -> set[int]:
    """Numbers of the mutants whose bit is the machine's in the Verilog itself: a constant that it is already, or one
    that yosys has found to be that, so that nothing depends on the choice."""
    modules = re.split(r"(?m)^(?=module )", verilog)
    bits = {number: bits for module in modules for number, *bits in _choices(module)}
    same = ["", ""]
    return {each.number for each in mutants if (pair := bits.get(each.number, same))[1] in (pair[0], UNDEFINED)}


def always(verilog: str) -> set[int]:
    """Numbers of the mutants that choose another constant: their branches are not evaluated."""
    modules = re.split(r"(?m)^(?=module )", verilog)
    choices = (choice for module in modules for choice in _choices(module))
    return {number for number, *bits in choices if all("'" in bit for bit in bits) and bits[0] != bits[1]}


def _choices(module: str) -> Iterator[tuple[int, str, str]]:
    """Each mutant's number, its bit, and the machine's."""
    for wire, number in CHOICE.findall(module):
        ((mutated, sound),) = re.findall(rf" = {re.escape(wire)} \? (.+?) : (.+?);\n", module)
        yield int(number, 16), mutated, sound


def _watched_module(module: str) -> str:
    branches = []
    for number, mutated, sound in _choices(module):
        condition = f"always @* if (({mutated}) != ({sound})) begin end {MARK}{number}"
        branches.append(f"/* verilator coverage_on */\n{condition}\n/* verilator coverage_off */\n")
    body, end, rest = module.rpartition("endmodule")
    return body + "".join(branches) + end + rest


def excitements(verilog: str, coverage: str) -> Counter[int]:
    """How often each mutant's branch was taken, by a file in Verilator's format of a `watched` netlist."""
    marked = _marked(verilog)
    found: Counter[int] = Counter()
    for record in coverage.split("\n"):
        key, _, count = record.rpartition("' ")
        fields = dict(FIELD.findall(key))
        if fields.get("page", "").startswith("v_branch") and fields.get("o") == "if":
            found[marked[int(fields["l"])]] += int(count)
    return found


@cache
def _marked(verilog: str) -> dict[int, int]:
    """Of each line with a mutant's branch the mutant's number."""
    lines = enumerate(verilog.split("\n"), 1)
    return {number: int(line.partition(MARK)[2]) for number, line in lines if MARK in line}
