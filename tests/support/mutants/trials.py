"""One run of a suite on a netlist, and what its cases reach."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any, NamedTuple, TypeVar

import sim
from accel.coverify import first_divergence
from rtl.testbench.on_chip import OnChip
from rtl.testbench.verilate import Variant
from rtl.testbench.verilator import Powered
from support.machine.random_programs import RandomProgram
from support.mutants.excitation import excitements
from support.rtl.hostile import MACHINE

_Each = TypeVar("_Each")


class Case(NamedTuple):
    """A program, what is in the memories on the chip before it, and what the simulator makes of them."""

    program: RandomProgram
    before: OnChip
    simulated: Any


@dataclass
class Trial:
    """One run of one suite.

    Parameters
    ----------
    variant : Variant
    mutant : int
        The active one; 0: none.
    chosen : collection of int, optional
        Numbers of the suite's cases that run; None: all.
    """

    variant: Variant
    mutant: int = 0
    chosen: Collection[int] | None = None
    _cases: int = 0

    @contextmanager
    def powered(self, stalls_seed: int | None = None) -> Iterator[Powered]:
        """The machine with the mutant."""
        with Powered(MACHINE, variant=self.variant, mutant=self.mutant, stalls_seed=stalls_seed) as machine:
            self.begun(machine)
            yield machine
            self.ended(machine)

    def each(self, machine: Powered, cases: Iterable[_Each]) -> Iterator[_Each]:
        """Those of some cases of the suite that run, on a machine."""
        for case in cases:
            self._cases += 1
            if self.chosen is None or self._cases - 1 in self.chosen:
                yield case
                self.passed(machine)

    def begun(self, machine: Powered) -> None:
        """The machine is powered up."""

    def passed(self, machine: Powered) -> None:
        """It has passed a case."""

    def ended(self, machine: Powered) -> None:
        """It has passed all of its cases."""


@dataclass
class Covered(Trial):
    """With coverage: what was reached, as a file in Verilator's format for each machine."""

    files: list[str] = field(default_factory=list)

    def ended(self, machine: Powered) -> None:
        self.files.append(coverage(machine))


@dataclass
class Watched(Trial):
    """Of a netlist of `support.mutants.excitation.watched`: which mutants' bits each case makes differ; of the first
    case of a machine those that its power-up does, too."""

    excited: list[set[int]] = field(default_factory=list)
    _counts: Counter[int] = field(default_factory=Counter)

    def begun(self, machine: Powered) -> None:
        self._counts = Counter()

    def passed(self, machine: Powered) -> None:
        before, self._counts = self._counts, excitements(self.variant.verilog, coverage(machine))
        self.excited.append(set(self._counts - before))

    @property
    def cases(self) -> dict[int, set[int]]:
        """Of each mutant the cases that make its bit differ, and the one after each."""
        found = defaultdict[int, set[int]](set)
        for number, mutants in enumerate(self.excited):
            for mutant in mutants:
                found[mutant] |= {number, number + 1}
        return found


def coverage(machine: Powered) -> str:
    """What was covered since the machine was powered up, in Verilator's format."""
    with NamedTemporaryFile(suffix=".dat") as file:
        machine.write_coverage(Path(file.name))
        return Path(file.name).read_text(encoding="latin-1")


def simulated(program: RandomProgram, before: OnChip) -> Case:
    """What the simulator makes of a program."""
    result = sim.execute(MACHINE, program.code, program.program_address, program.memory, on_chip=before)
    return Case(program, before, result)


def check_equal(machine: Powered, case: Case) -> None:
    """The machine does what the simulator does, in the same cycles."""
    program, simulated = case.program, case.simulated
    machine.on_chip = case.before
    limit = simulated.total_cycles + 1000
    got = machine.run(program.code, program.program_address, program.memory, max_cycles=limit)
    assert first_divergence(program.code, simulated, got) is None
