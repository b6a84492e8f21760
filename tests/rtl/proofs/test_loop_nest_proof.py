"""Addresses and positions of a loop nest are their closed form: start + sum of index * stride, in every iteration.

For counts, starts and strides of any value, for nests back to back, with pauses, and with resets at any time.
"""

from __future__ import annotations

from itertools import combinations_with_replacement

import pytest
import z3
from amaranth.hdl import Assert, Assume, Cat, Module, Mux, Shape, Signal, signed, unsigned
from support.formal.harness import Harness
from support.formal.induction import is_proved, violation
from support.formal.netlist import Netlist, netlist
from support.mutants.rtl_mutation import mutate

from rtl import loop_nest
from rtl.loop_nest import LoopNest

pytestmark = [pytest.mark.rtl, pytest.mark.slow]

LEVELS = {"a": 2, "b": 2, "c": 3}
VARIABLES = {"all": (unsigned(5), ("a", "b", "c")), "inner": (signed(6), ("c",)), "outer": (unsigned(5), ("a", "c"))}
WIDTHS = {name: Shape.cast(shape).width for name, (shape, _) in VARIABLES.items()}

MUTANTS = [
    ("a level restarts with its old count", "_count", "last.eq(held == 1)", "last.eq(left == 1)"),
    ("levels end an iteration early", "_count", "last.eq(left == 2)", "last.eq(left == 3)"),
    ("outer steps begin at the inner base", "_variable", "base.as_unsigned()", "value.as_unsigned()"),
    ("outer levels move before the inner ones end", "elaborate", "ending[0] & next_last", "next_last"),
    ("inner bases stay when outer levels move", "_variable", "moves(0, i)", "moves(i, i)"),
]


class Odometer(Harness):
    """A nest beside the indices that it should be at.

    Each level's part of a variable is summed up stride by stride, and asserted to be index * stride: solvers cannot
    add several products, but they can add several sums.
    """

    def __init__(self) -> None:
        super().__init__(LoopNest(LEVELS, VARIABLES))

    def watch(self, m: Module) -> None:
        nest = self.dut
        running = Signal()
        counts, starts, strides = (
            Signal.like(getattr(nest, port), name=f"loaded_{port}") for port in ("counts", "starts", "strides")
        )
        index = {level: Signal(width, name=f"index_{level}") for level, width in LEVELS.items()}
        parts = {
            (name, level): Signal(WIDTHS[name], name=f"part_{name}_{level}")
            for name, (_, moved) in VARIABLES.items()
            for level in moved
        }
        ends = {level: index[level] == counts[level] - 1 for level in LEVELS}
        carry = nest.step
        for level in reversed(LEVELS):
            with m.If(carry):
                m.d.sync += index[level].eq(Mux(ends[level], 0, index[level] + 1))
                for (name, moving), part in parts.items():
                    if moving == level:
                        m.d.sync += part.eq(Mux(ends[level], 0, part + strides[name][level]))
            carry = carry & ends[level]
        with m.If(carry):
            m.d.sync += running.eq(0)
        with m.If(nest.load):
            m.d.sync += [counts.eq(nest.counts), starts.eq(nest.starts), strides.eq(nest.strides), running.eq(1)]
            m.d.sync += [register.eq(0) for register in (*index.values(), *parts.values())]
        m.d.comb += [
            *(Assume(nest.counts[level] != 0) for level in LEVELS),
            Assume(running | ~nest.step),
            Assume(~nest.load | ~running | (nest.step & nest.done)),
        ]
        with m.If(running):
            m.d.comb += Assert(nest.done == Cat(ends.values()).all())
            for level in LEVELS:
                m.d.comb += [Assert(nest.first[level] == (index[level] == 0)), Assert(nest.last[level] == ends[level])]
            for (name, level), part in parts.items():
                m.d.comb += Assert(part == (index[level] * strides[name][level])[: len(part)])
            for name, width in WIDTHS.items():
                value = starts[name]
                for level in VARIABLES[name][1]:
                    value = (value + parts[name, level])[:width]
                m.d.comb += Assert(nest.values[name].as_unsigned() == value)


def invariant(circuit: Netlist) -> z3.BoolRef:
    """The nest holds what was loaded; what is left of each level; each level's base leaves out the levels inside."""
    terms = [circuit["dut.strides_held"] == circuit["loaded_strides"]]
    terms += [circuit[f"dut.{level}_count"] == circuit[f"loaded_counts.{level}"] for level in list(LEVELS)[1:]]
    ending = [z3.BoolVal(True)]
    for level in reversed(LEVELS):
        index, count = circuit[f"index_{level}"], circuit[f"loaded_counts.{level}"]
        last = index == count - 1
        terms += [z3.ULT(index, count), circuit[f"dut.{level}_left"] == count - index]
        ending.insert(0, z3.And(ending[0], last))
    for (i, outer), (j, inner) in combinations_with_replacement(enumerate(LEVELS), 2):
        name = f"dut.{outer}_moves" if i == j else f"dut.{outer}_to_{inner}_moves"
        if name in circuit.wires:
            terms += [circuit[name] == z3.And(ending[j + 1], z3.Not(ending[i]) if i else True)]
    for name, (_, moved) in VARIABLES.items():
        base = circuit[f"loaded_starts.{name}"]
        for level in LEVELS:
            if level in moved:
                base = base + circuit[f"part_{name}_{level}"]
            if level in moved or level == next(iter(LEVELS)):
                terms.append(circuit[f"dut.{name}_{level}"] == base)
    return z3.Implies(circuit["running"], z3.And(terms))


def test_values_are_the_closed_form() -> None:
    circuit = netlist(Odometer())
    assert is_proved(circuit, invariant(circuit))


@pytest.mark.parametrize(("what", "name", "old", "new"), MUTANTS, ids=[row[0] for row in MUTANTS])
def test_mutants_are_found(what: str, name: str, old: str, new: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mutate(monkeypatch, loop_nest, "LoopNest", name, old, new)
    assert violation(netlist(Odometer()), cycles=12) is not None, f"the proof must fail where {what}"
