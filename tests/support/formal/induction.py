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
    steps = list(islice(circuit.cycles(), cycles + 1))
    assumed = [now(circuit.assumed) for now in steps]
    start, held = steps[0](circuit.initial), [now(claim) for now in steps[:-1]]
    return all(
        counterexample(steps[-1](part), *assumed, *held) is None  # apart: together they took minutes
        and all(counterexample(now(part), start, *assumed[:n]) is None for n, now in enumerate(steps[:-1], 1))
        for part in _conjuncts(claim)
    )


def _conjuncts(claim: z3.BoolRef) -> list[z3.BoolRef]:
    """Terms that hold together if and only if `claim` holds."""
    if z3.is_and(claim):
        return [part for child in claim.children() for part in _conjuncts(child)]
    if z3.is_implies(claim):
        return [z3.Implies(claim.arg(0), part) for part in _conjuncts(claim.arg(1))]
    return [claim]
