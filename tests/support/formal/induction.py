"""Proofs of a circuit's assertions by k-induction, and searches for cycles in which they fail.

References
----------
Sheeran, Singh, Stålmarck, Checking Safety Properties Using Induction and a SAT-Solver, FMCAD 2000, section 3.
"""

from __future__ import annotations

from itertools import islice

import z3
from support.formal.netlist import Netlist, counterexample


def violation(circuit: Netlist, cycles: int) -> int | None:
    """The first of `cycles` cycles from reset in which an assertion fails while all assumptions held, None if none."""
    known: list[z3.BoolRef] = []
    for number, now in enumerate(islice(circuit.cycles(), cycles)):
        if number == 0:
            known.append(now(circuit.initial))
        known.append(now(circuit.assumed))
        if counterexample(now(circuit.asserted), *known) is not None:
            return number
        known.append(now(circuit.asserted))
    return None


def is_proved(circuit: Netlist, *invariants: z3.BoolRef, cycles: int = 1) -> bool:
    """Whether all assertions hold in every cycle from reset, by induction over `cycles` cycles.

    Parameters
    ----------
    circuit : Netlist
    invariants : z3 terms over the circuit's wires
        They are proved, too; induction needs them where assertions alone allow states that cannot be reached.
    cycles : int
        Cycles that the induction leans on.
    """
    claim = z3.And(circuit.asserted, *invariants)
    known, steps = [], list(islice(circuit.cycles(), cycles + 1))
    for now in steps[:-1]:
        known += [now(circuit.assumed), now(claim)]
    last = steps[-1]
    if counterexample(last(claim), *known, last(circuit.assumed)) is not None:
        return False
    start = steps[0](circuit.initial)
    return all(
        counterexample(now(claim), start, *(before(circuit.assumed) for before in steps[: number + 1])) is None
        for number, now in enumerate(steps[:-1])
    )
