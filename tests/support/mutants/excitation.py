"""Which mutants a run can notice: those whose bit ever differs from the machine's while none is active.

Up to the first difference a mutant's run is the machine's own; where none comes, its suite need not be run. A statement
per mutant compares the two; Verilator counts its branch, glitches included, which only adds mutants.

References
----------
W. E. Howden, Weak mutation testing and completeness of test sets, IEEE TSE 8(4), 1982.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

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


def unchanged(verilog: str) -> set[int]:
    """Numbers of the mutants whose bit is the machine's in the Verilog itself: a constant that it is already."""
    modules = re.split(r"(?m)^(?=module )", verilog)
    choices = (choice for module in modules for choice in _choices(module))
    return {number for number, mutated, sound in choices if sound in (mutated, UNDEFINED)}


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


def excited(verilog: str, coverage: Iterable[str]) -> set[int]:
    """Numbers of the mutants whose branch was taken, by files in Verilator's format of a `watched` netlist."""
    lines = dict(enumerate(verilog.split("\n"), 1))
    found = set()
    for record in "\n".join(coverage).split("\n"):
        key, _, count = record.rpartition("' ")
        fields = dict(FIELD.findall(key))
        if fields.get("page", "").startswith("v_branch") and fields.get("o") == "if" and int(count):
            found.add(int(lines[int(fields["l"])].partition(MARK)[2]))
    return found
