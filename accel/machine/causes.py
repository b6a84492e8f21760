"""Where the cycles of every unit go, from the stamps of all instructions (docs/timing.md, "Where every cycle goes")."""

from __future__ import annotations

from accel.machine import isa
from accel.machine.timing import Ints

FULL, DISPATCH, ISSUE, OCCUPIED, COMPLETE, WORK = range(6)
"""Rows of stamps: the instruction is the oldest that fetch holds, dispatch, issue, last occupied cycle, completion;
number of the occupied cycles with work (-1: all)."""

BUSY, MEMORY, WAIT, EMPTY = 0, 1, 2, 2 + len(isa.Unit)
"""Places of the causes in `accel.machine.registers.CAUSES`; WAIT is that of the first unit."""


def count_causes(
    units: Ints, producers: Ints, stamps: Ints, covered: Ints, causes: Ints, first: int, last: int
) -> None:
    """Attribute the cycles that instructions `first` .. `last - 1` use or wait for; EMPTY is what remains.

    Parameters
    ----------
    units : shape (instructions,)
    producers : shape (instructions, 5)
        For each unit p the instruction whose token is waited for, or -1.
    stamps : shape (6, instructions)
        FULL .. WORK.
    covered : shape (6,)
        Last cycle of each unit (and FETCH) that was attributed, -1 at first; updated.
    causes : shape (6, 8)
        Cycles; updated.
    """
    fetch = len(covered) - 1
    for i in range(first, last):
        unit, cycle = units[i], max(stamps[DISPATCH, i], covered[units[i]]) + 1
        for p in range(producers.shape[1]):
            if producers[i, p] >= 0 and stamps[COMPLETE, producers[i, p]] >= cycle:
                causes[unit, WAIT + p] += stamps[COMPLETE, producers[i, p]] + 1 - cycle
                cycle = stamps[COMPLETE, producers[i, p]] + 1
        occupied = stamps[OCCUPIED, i] - max(stamps[ISSUE, i] - 1, covered[unit])
        work = stamps[WORK, i] if stamps[WORK, i] >= 0 else occupied
        causes[unit, BUSY] += work
        causes[unit, MEMORY] += occupied - work
        covered[unit] = stamps[OCCUPIED, i]
        causes[fetch, MEMORY] += stamps[FULL, i] - covered[fetch] - 1
        causes[fetch, WAIT + unit] += stamps[DISPATCH, i] - stamps[FULL, i]
        causes[fetch, BUSY] += 1
        covered[fetch] = stamps[DISPATCH, i]
