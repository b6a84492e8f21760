"""What the suites of this repository say about one netlist: those that run programs on the Verilog.

Suites that notice most mutants per CPU second come first. A suite has cases, each of which says by itself what must
hold; of those only such run for a mutant as make its bit differ, and the one after each.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from multiprocessing import get_context
from pathlib import Path
from tempfile import NamedTemporaryFile
from time import process_time
from traceback import print_exc
from typing import Any, NamedTuple, TypeVar

import numpy as np

import sim
from accel.coverify import first_divergence, random_on_chip
from accel.errors import DivergenceError, ProgramError
from accel.machine.config import PARAM_RECORD_BYTES
from accel.machine.isa import INSTRUCTION_BYTES
from accel.machine.memories import Space
from accel.machine.registers import IMAGE_ALIGNMENT
from rtl.testbench.on_chip import OnChip
from rtl.testbench.verilate import Variant
from rtl.testbench.verilator import Conditions, Powered
from support.machine.random_programs import RandomProgram, random_program, random_records
from support.machine.wide_programs import at_base, wide_program, with_many_tokens
from support.mutants.excitation import always, excitements
from support.rtl.beyond_runs import check_full_semaphores, check_registers_while_running, check_stall_counters
from support.rtl.depthwise_program import depthwise_program
from support.rtl.first_errors import check_place, check_wait, places, waits
from support.rtl.hostile import (
    LONG,
    MACHINE,
    MEMORY_BYTES,
    AddressFault,
    Verdict,
    address_faults,
    check_address_fault,
    check_located,
    check_right,
    check_verdict,
    hostile_programs,
    run,
    single_mutants,
    verdicts,
)  # fmt: skip
from support.rtl.lone_faults import behind_others, lone_faults
from support.rtl.matmul_program import HandWrittenProgram
from support.rtl.port_conflicts import beside, check_conflict, conflicts
from support.rtl.register_accesses import check_registers, check_reset_values

PROGRAMS, STALLED, HOSTILE, VERDICTS, STOPS, STOPPED, ACCESSES = 40, 4, 200, 400, 12, 12, 400
FIRST, RESETS, IMAGES, PAIRS = 5, 12, 8, 6
WIDE, WIDE_STEPS, REFUSED_STEPS, BETWEEN, FAULTS, DRAWS, WRITES = 3, 4096, 60, 5, 300, 2000, 40
CPU_SECONDS, CPU_FACTOR = 10, 4
"""A netlist that takes longer in a suite than this and so many times what the machine takes hangs."""

NOTICED = (AssertionError, DivergenceError, ProgramError, LookupError, ValueError)
"""What a wrong machine makes a suite raise; all else is an error of the suite or of what is installed."""

CRASHES = (signal.SIGXCPU, signal.SIGSEGV, signal.SIGABRT, signal.SIGFPE, signal.SIGBUS, signal.SIGILL)
"""How a process of a netlist that never ends, or that breaks the model, ends."""

PASSED, FAILED = 100, 255
"""Exit codes of a process of which all suites pass, or one fails for another reason; one that notices the mutant has
its number, from 1 on, added to the first. None is one that Python ends with by itself."""


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


class Suites:
    """The suites on a netlist with mutants; `verdict` says which of them notices a mutant first.

    Parameters
    ----------
    variant : Variant
        With counters.
    seed : int
        Of the stimulus.
    """

    def __init__(self, variant: Variant, seed: int) -> None:
        self._variant, self._seed = variant, seed
        self._cases: dict[str, dict[int, set[int]]] = {}
        self._seconds: dict[str, float] = {}
        self._always: set[int] = set()

    def verdict(self, mutant: int) -> str:
        """The name of the first suite that fails, "" if all pass; "no end" if one crashes or never ends.

        Raises
        ------
        RuntimeError
            A suite did not judge the netlist: it failed for another reason, or its process was ended.
        """
        process = get_context("fork").Process(target=self._end, args=(mutant,))
        process.start()
        process.join()
        code = process.exitcode
        if code is not None and -code in CRASHES:
            return "no end"
        if code is None or not PASSED <= code <= PASSED + len(self._suites):
            raise RuntimeError(f"each suite must judge mutant {mutant}, got exit code {code} of its process")
        return ("", *self._suites)[code - PASSED]

    def prepare(self) -> None:
        """Compute what all mutants are compared with, and which of them each case can notice; the machine must pass.

        The variant counts coverage of a `support.mutants.excitation.watched` netlist.
        """
        stimulus = (self.reference, self.wide, self.cases, self.instructions, self.places, self.faults)
        assert all([*stimulus, self.conflicts, self.waits, self.pairs, self.singles, self.hostile])
        self._always = always(self._variant.verilog)
        for name, suite in self._suites.items():
            trial, begin = Watched(self._variant), process_time()
            suite(trial)
            self._seconds[name], self._cases[name] = process_time() - begin, trial.cases

    def coverage(self) -> list[str]:
        """What all suites together reach, as files in Verilator's format; needs a variant with coverage."""
        trial = Covered(self._variant)
        for suite in self._suites.values():
            suite(trial)
        return trial.files

    @cached_property
    def reference(self) -> tuple[HandWrittenProgram, int]:
        """A program that all units run, and its cycles."""
        program = depthwise_program(MACHINE, self._seed)
        return program, sim.execute(MACHINE, program.code, 0, program.memory).total_cycles

    @cached_property
    def wide(self) -> list[Case]:
        """Programs with an instruction for each bit of each field."""
        rngs = (np.random.default_rng([self._seed, number]) for number in range(WIDE))
        programs = [wide_program(MACHINE, rng, WIDE_STEPS) for rng in rngs]
        return [simulated(program, random_on_chip(MACHINE, self._seed)) for program in programs]

    @cached_property
    def stalling(self) -> list[RandomProgram]:
        """Programs that have all causes of stalls that random ones have, and the first one of an odd number of cycles
        and of an even one, as a counter may be wrong in every second cycle only."""
        found, causes = list[RandomProgram](), set[int | str]()
        for program, _, result in self.cases:
            more = {*np.flatnonzero(result.causes.ravel()).tolist(), f"cycles {result.total_cycles % 2}"}
            if more - causes:
                found.append(program)
            causes |= more
        return found

    @cached_property
    def cases(self) -> list[Case]:
        """Random programs, one after the other from one power-up."""
        state, result = random_on_chip(MACHINE, self._seed), list[Case]()
        for index in range(PROGRAMS):
            rng = np.random.default_rng([self._seed, index])
            program = random_program(MACHINE, rng, int(rng.integers(8, 60)), framed=True)
            if index % 2:
                program = with_many_tokens(program, rng)
            result.append(simulated(program, state))
            state = result[-1].simulated.on_chip
        return result

    @cached_property
    def border(self) -> list[tuple[bytes, set[str]]]:
        """Single instructions at the border of each rule."""
        return [*behind_others(lone_faults(self._seed, DRAWS), self._seed)]

    @cached_property
    def instructions(self) -> list[Verdict]:
        """Single instructions, most of which break a rule."""
        return verdicts([*single_mutants(self._seed, VERDICTS, REFUSED_STEPS), *self.border])

    @cached_property
    def singles(self) -> list[Case]:
        """Single instructions that keep all rules."""
        return [*self._alone(code for code, expected in self.border if not expected)]

    @cached_property
    def pairs(self) -> list[Case]:
        """Two instructions at a time, side by side in different banks at addresses that are often equal."""
        return [*self._alone(beside(self._seed, PAIRS))]

    def _alone(self, codes: Iterable[bytes]) -> Iterator[Case]:
        """What the simulator makes of short programs with random bytes in all memories, and legal records; without
        those that leave the memory."""
        rng = np.random.default_rng(self._seed)
        memory, state = rng.integers(0, 256, MEMORY_BYTES, np.uint8), random_on_chip(MACHINE, self._seed)
        records = random_records(rng, True).reshape(-1, PARAM_RECORD_BYTES)
        state[Space.PARAM] = records[: MACHINE.param_channels]
        for code in codes:
            memory[: len(code)] = np.frombuffer(code, np.uint8)
            with suppress(ProgramError):
                yield simulated(RandomProgram(code, memory.copy(), 0, []), state)

    @cached_property
    def places(self) -> list[tuple[bytes, int]]:
        """Programs, and the place of the first instruction with an error."""
        return places(self._seed)

    @cached_property
    def waits(self) -> list[bytes]:
        """Programs that wait for one token more than there are."""
        return waits(self._seed)

    @cached_property
    def faults(self) -> list[AddressFault]:
        """Transfers that leave the memory."""
        return list(address_faults(self._seed, FAULTS))

    @cached_property
    def conflicts(self) -> list[tuple[bytes, str]]:
        """Two instructions at a time in one bank or in two."""
        return list(conflicts(self._seed))

    @cached_property
    def hostile(self) -> list[list[tuple[bytes, np.ndarray]]]:
        """Programs that may break any rule, some at a time."""
        programs = list(hostile_programs(self._seed, HOSTILE))
        return [programs[begin : begin + BETWEEN] for begin in range(0, HOSTILE, BETWEEN)]

    @property
    def _suites(self) -> dict[str, Callable[[Trial], None]]:
        return {
            "first programs": self._first, "wide": self._wide, "registers": self._registers, "far": self._far,
            "stops": self._stops, "resets": self._resets, "programs": self._programs,
            "back-pressure": self._stalled, "conflicts": self._conflicts, "faults": self._faults,
            "counters": self._counters, "running": self._running, "places": self._places,
            "singles": self._singles, "hostile": self._hostile, "verdicts": self._verdicts,
        }  # fmt: skip

    def _end(self, mutant: int) -> None:
        """In a process of its own: its exit code tells which suite failed, whatever Python does at its end."""
        code = FAILED
        try:
            code = self._judge(mutant)
        finally:
            sys.stderr.flush()
            os._exit(code)

    def _judge(self, mutant: int) -> int:
        for number, (name, suite) in enumerate(self._suites.items(), 1):
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

    def _first(self, trial: Trial) -> None:
        """Bytes, cycles, stamps, counters and the memories on the chip equal the simulator's."""
        self._agree(trial, self.cases[:FIRST])

    def _programs(self, trial: Trial) -> None:
        """The same of many more programs."""
        self._agree(trial, self.cases[FIRST:])

    def _wide(self, trial: Trial) -> None:
        """The same of programs that set as many bits of instructions as the machine allows."""
        self._agree(trial, self.wide)

    def _agree(self, trial: Trial, cases: list[Case]) -> None:
        with trial.powered() as machine:
            for case in trial.each(machine, cases):
                check_equal(machine, case)

    def _resets(self, trial: Trial) -> None:
        """A reset in any cycle of a run leaves registers as at power-up, and the next run is right."""
        rng = np.random.default_rng(self._seed)
        pairs = [*zip(reversed(self.cases), self.cases, strict=True)][:RESETS]
        drawn = [(int(rng.integers(one.simulated.total_cycles)), one.program, other) for one, other in pairs]
        with trial.powered() as machine:
            for cycles, interrupted, case in trial.each(machine, drawn):
                with suppress(DivergenceError):
                    machine.run(interrupted.code, interrupted.program_address, interrupted.memory, max_cycles=cycles)
                machine.reset()
                check_reset_values(machine)
                check_equal(machine, case)

    def _far(self, trial: Trial) -> None:
        """The same where image and memory lie anywhere: two programs at addresses that have no bit in common."""
        rng = np.random.default_rng(self._seed)
        base, image = (int(rng.integers(1 << bits)) * IMAGE_ALIGNMENT for bits in (20, 52))
        placed = [*zip((0, ~(IMAGE_ALIGNMENT - 1)), self.cases, strict=False)]
        with trial.powered() as machine:
            for flipped, (program, before, simulated) in trial.each(machine, placed):
                machine.on_chip = before
                at = (base ^ flipped) % (1 << 32)
                moved = at_base(program, at)
                expected = replace(
                    simulated, memory=np.where(program.memory == moved.memory, simulated.memory, moved.memory)
                )
                got = machine.run(
                    moved.code, program.program_address, moved.memory, max_cycles=simulated.total_cycles + 1000,
                    image_address=(image ^ flipped) % (1 << 64), conditions=Conditions(memory_base=at),
                )  # fmt: skip
                assert first_divergence(moved.code, expected, got) is None

    def _registers(self, trial: Trial) -> None:
        """Registers answer as docs/registers.md says, and hold what was written while programs run."""
        rng, (reference, _) = np.random.default_rng(self._seed), self.reference
        with trial.powered() as machine:
            for seed in trial.each(machine, [self._seed]):
                check_registers(seed, ACCESSES, machine)
        drawn = [(int(rng.integers(1 << 63)), int(rng.integers(1 << 31, 1 << 32))) for _ in range(IMAGES)]
        with trial.powered() as machine:
            for place, watchdog in trial.each(machine, drawn):
                image = place // IMAGE_ALIGNMENT * IMAGE_ALIGNMENT * 2
                written = {
                    "IMAGE_ADDRESS_LO": image & 0xFFFFFFFF, "IMAGE_ADDRESS_HI": image >> 32, "PROGRAM_ADDRESS": 0,
                    "PROGRAM_COUNT": len(reference.code) // INSTRUCTION_BYTES, "WATCHDOG": watchdog, "ERROR": 0,
                }  # fmt: skip
                got = machine.run(
                    reference.code, 0, reference.memory, max_cycles=LONG, image_address=image,
                    conditions=Conditions(watchdog=watchdog),
                )  # fmt: skip
                assert {name: got.registers[name] for name in written} == written

    def _stalled(self, trial: Trial) -> None:
        """The same bytes in both kinds of memory with random stalls on every channel."""
        for seed, stalled in enumerate(self.cases[:STALLED]):
            with trial.powered(stalls_seed=seed) as machine:
                for program, before, simulated in trial.each(machine, [stalled]):
                    machine.on_chip = before
                    limit = 20 * simulated.total_cycles
                    got = machine.run(program.code, program.program_address, program.memory, max_cycles=limit)
                    np.testing.assert_array_equal(got.memory, simulated.memory)
                    assert not got.error
                    assert got.on_chip is not None
                    for space, held in got.on_chip.items():
                        np.testing.assert_array_equal(held, np.broadcast_to(simulated.on_chip[space], held.shape))

    def _stops(self, trial: Trial) -> None:
        """A run that is stopped at any time ends, and the next one is right."""
        rng, (reference, reference_cycles) = np.random.default_rng(self._seed), self.reference
        itself = RandomProgram(reference.code, reference.memory, 0, reference.instructions)
        runs = [(itself, reference_cycles)] * STOPS
        runs += [(case.program, case.simulated.total_cycles) for case in self.cases[:STOPPED]]
        drawn = [(program, cycles, int(rng.integers(1, cycles))) for program, cycles in runs]
        with trial.powered() as machine:
            for program, cycles, cycle in trial.each(machine, drawn):
                got = machine.run(
                    program.code, program.program_address, program.memory, max_cycles=2 * cycles + LONG,
                    conditions=Conditions(stop_cycles=cycle),
                )  # fmt: skip
                assert got.first_error.errors == ("stopped",)
                check_right(machine, reference, reference_cycles)

        for seed, case in enumerate(self.cases[:STALLED]):
            with trial.powered(stalls_seed=seed) as machine:
                cycles = case.simulated.total_cycles
                for cycle in trial.each(machine, rng.integers(1, 4 * cycles, STOPS).tolist()):
                    machine.run(
                        case.program.code, case.program.program_address, case.program.memory,
                        max_cycles=20 * cycles + LONG, conditions=Conditions(stop_cycles=cycle),
                    )  # fmt: skip
                    check_right(machine, reference, None)

    def _counters(self, trial: Trial) -> None:
        """Stall counters and semaphores count right from any value on."""
        with trial.powered() as machine:
            for program in trial.each(machine, self.stalling):
                check_stall_counters(self._seed, program, machine)
            for seed in trial.each(machine, [self._seed]):
                check_full_semaphores(seed, machine)

    def _running(self, trial: Trial) -> None:
        """While a run is under way registers of the program hold their values, and a stop resets long enough."""
        with trial.powered() as machine:
            for seed in trial.each(machine, [self._seed]):
                check_registers_while_running(seed, WRITES, machine)

    def _places(self, trial: Trial) -> None:
        """The first error names its instruction."""
        with trial.powered() as machine:
            for program in trial.each(machine, self.places):
                check_place(program, machine)
            for code in trial.each(machine, self.waits):
                check_wait(code, machine)

    def _faults(self, trial: Trial) -> None:
        """The first burst with an error response is reported."""
        with trial.powered() as machine:
            for fault in trial.each(machine, self.faults):
                check_address_fault(fault, machine)

    def _verdicts(self, trial: Trial) -> None:
        """Single instructions are refused if and only if the checker's rules do."""
        with trial.powered() as machine:
            for verdict in trial.each(machine, self.instructions):
                check_verdict(verdict, machine)

    def _conflicts(self, trial: Trial) -> None:
        """Two units in one bank are reported."""
        with trial.powered() as machine:
            for conflict in trial.each(machine, self.conflicts):
                check_conflict(conflict, machine)
            for case in trial.each(machine, self.pairs):
                check_equal(machine, case)

    def _singles(self, trial: Trial) -> None:
        """Bytes, cycles, stamps and the memories on the chip of single instructions equal the simulator's."""
        with trial.powered() as machine:
            for case in trial.each(machine, self.singles):
                check_equal(machine, case)

    def _hostile(self, trial: Trial) -> None:
        """Programs that break rules end with an error and its place, and the next one is right."""
        with trial.powered() as machine:
            for programs in trial.each(machine, self.hostile):
                for code, memory in programs:
                    check_located(run(machine, code, memory), code)
                check_right(machine, *self.reference)
