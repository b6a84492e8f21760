"""What the suites say about each mutant of a netlist."""

from __future__ import annotations

import os
import resource
import signal
import sys
from collections.abc import Collection
from multiprocessing import get_context
from time import process_time
from traceback import print_exc

from accel.errors import DivergenceError, ProgramError
from rtl.testbench.verilate import Variant
from support.mutants.excitation import always
from support.mutants.suites import Suites
from support.mutants.trials import Covered, Trial, Watched

QUICK_SECONDS = 3
CPU_SECONDS, CPU_FACTOR = 10, 4
"""A netlist that takes longer in a suite than this and so many times what the machine takes hangs."""

NOTICED = (AssertionError, DivergenceError, ProgramError, LookupError, ValueError)
"""What a wrong machine makes a suite raise; all else is an error of the suite or of what is installed."""

CRASHES = (signal.SIGXCPU, signal.SIGSEGV, signal.SIGABRT, signal.SIGFPE, signal.SIGBUS, signal.SIGILL)
"""How a process of a netlist that never ends, or that breaks the model, ends."""

PASSED, FAILED = 100, 255
"""Exit codes of a process of which all suites pass, or one fails for another reason; one that notices the mutant has
its number, from 1 on, added to the first. None is one that Python ends with by itself."""


class Campaign(Suites):
    """The suites on a netlist with mutants; `verdict` says which of them notices a mutant first.

    Parameters
    ----------
    variant : Variant
        With counters.
    seed : int
        Of the stimulus.
    """

    def __init__(self, variant: Variant, seed: int) -> None:
        super().__init__(seed)
        self._variant = variant
        self._cases: dict[str, dict[int, set[int]]] = {}
        self._seconds: dict[str, float] = {}
        self._always: set[int] = set()

    def parts(self) -> tuple[list[str], list[str]]:
        """The suites that take few seconds on the machine itself, and the others; after `prepare`."""
        quick = [name for name in self.suites if self._seconds[name] <= QUICK_SECONDS]
        return quick, [name for name in self.suites if name not in quick]

    def verdict(self, mutant: int, names: Collection[str] | None = None) -> str:
        """The name of the first suite that fails, of all or of these, "" if all pass; "no end" if one crashes or never
        ends.

        Raises
        ------
        RuntimeError
            A suite did not judge the netlist: it failed for another reason, or its process was ended.
        """
        process = get_context("fork").Process(target=self._end, args=(mutant, names))
        process.start()
        process.join()
        code = process.exitcode
        if code is not None and -code in CRASHES:
            return "no end"
        if code is None or not PASSED <= code <= PASSED + len(self.suites):
            raise RuntimeError(f"each suite must judge mutant {mutant}, got exit code {code} of its process")
        return ("", *self.suites)[code - PASSED]

    def prepare(self) -> None:
        """Compute what all mutants are compared with, and which of them each case can notice; the machine must pass.

        The variant counts coverage of a `support.mutants.excitation.watched` netlist.
        """
        stimulus = (self.reference, self.wide, self.cases, self.instructions, self.places, self.faults)
        assert all(
            [
                *stimulus,
                self.faulty_beats,
                self.conflicts,
                self.waits,
                self.pairs,
                self.singles,
                self.extremes,
                self.loads,
                self.hostile,
                self.loops,
                self.long,
                self.erroneous,
            ]
        )
        self._always = always(self._variant.verilog)
        for name, suite in self.suites.items():
            trial, begin = Watched(self._variant), process_time()
            suite(trial)
            self._seconds[name], self._cases[name] = process_time() - begin, trial.cases

    def coverage(self) -> list[str]:
        """What all suites together reach, as files in Verilator's format; needs a variant with coverage."""
        trial = Covered(self._variant)
        for suite in self.suites.values():
            suite(trial)
        return trial.files

    def _end(self, mutant: int, names: Collection[str] | None) -> None:
        """In a process of its own: its exit code tells which suite failed, whatever Python does at its end."""
        code = FAILED
        try:
            code = self._judge(mutant, names)
        finally:
            sys.stderr.flush()
            os._exit(code)

    def _judge(self, mutant: int, names: Collection[str] | None) -> int:
        for number, (name, suite) in enumerate(self.suites.items(), 1):
            if names is not None and name not in names:
                continue
            chosen = self._cases[name].get(mutant, set()) if name in self._cases else None
            chosen = None if mutant in self._always else chosen
            if chosen is not None and not chosen:
                continue
            limit = int(process_time() + CPU_SECONDS + CPU_FACTOR * self._seconds.get(name, CPU_SECONDS))
            resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.RLIM_INFINITY))
            try:
                suite(Trial(self._variant, mutant, chosen))
            except NOTICED:
                return PASSED + number
            except Exception:
                print_exc()
                return FAILED
        return PASSED
