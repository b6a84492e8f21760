"""What the suites of this repository say about one netlist: those that run programs on the Verilog.

Suites that notice most mutants per CPU second come first.
"""

from __future__ import annotations

import resource
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import cached_property
from multiprocessing import get_context
from pathlib import Path
from tempfile import NamedTemporaryFile
from time import process_time
from traceback import print_exc
from typing import Any, NamedTuple

import numpy as np

import sim
from accel.coverify import first_divergence, random_on_chip
from accel.errors import DivergenceError, ProgramError
from accel.machine.isa import INSTRUCTION_BYTES
from accel.machine.registers import IMAGE_ALIGNMENT
from rtl.testbench.on_chip import OnChip
from rtl.testbench.verilate import Variant
from rtl.testbench.verilator import Conditions, Powered
from support.machine.random_programs import RandomProgram, random_program
from support.machine.wide_programs import at_base, wide_program, with_many_tokens
from support.mutants.excitation import excited
from support.rtl.beyond_runs import check_full_semaphores, check_registers_while_running, check_stall_counters
from support.rtl.depthwise_program import depthwise_program
from support.rtl.first_errors import check_places, lone_faults, places
from support.rtl.hostile import (
    LONG,
    MACHINE,
    check_fault_addresses,
    check_right,
    check_verdicts,
    fuzz,
    hostile_programs,
    single_mutants,
)  # fmt: skip
from support.rtl.port_conflicts import check_conflicts
from support.rtl.register_accesses import check_registers, check_reset_values

PROGRAMS, STALLED, HOSTILE, VERDICTS, STOPS, STOPPED, ACCESSES = 40, 4, 200, 400, 12, 12, 400
FIRST, RESETS = 5, 12
WIDE_STEPS, REFUSED_STEPS, BETWEEN, FAULTS, DRAWS, WRITES = 200, 60, 5, 300, 2000, 40
CPU_SECONDS, CPU_FACTOR = 10, 4
"""A netlist that takes longer in a suite than this and so many times what the machine takes hangs."""

NOTICED = (AssertionError, DivergenceError, ProgramError, LookupError, ValueError)
"""What a wrong machine makes a suite raise; all else is an error of the suite or of what is installed."""

CRASHES = (signal.SIGXCPU, signal.SIGSEGV, signal.SIGABRT, signal.SIGFPE, signal.SIGBUS, signal.SIGILL)
"""How a process of a netlist that never ends, or that breaks the model, ends."""

FAILED = 255
"""Exit code of a process whose suite failed for another reason."""


class Case(NamedTuple):
    """A program and what the simulator makes of it, after the programs before it."""

    program: RandomProgram
    simulated: Any


def check_equal(machine: Powered, case: Case) -> None:
    """The machine does what the simulator does, in the same cycles."""
    program, simulated = case
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
        self._covered: list[str] = []
        self._excited: dict[str, set[int]] = {}
        self._seconds: dict[str, float] = {}

    def verdict(self, mutant: int) -> str:
        """The name of the first suite that fails, "" if all pass; "no end" if one crashes or never ends.

        Raises
        ------
        RuntimeError
            A suite did not judge the netlist: it failed for another reason, or its process was ended.
        """
        process = get_context("fork").Process(target=self._judge, args=(mutant,))
        process.start()
        process.join()
        code = process.exitcode
        if code is not None and -code in CRASHES:
            return "no end"
        if code is None or not 0 <= code <= len(self._suites):
            raise RuntimeError(f"each suite must judge mutant {mutant}, got exit code {code} of its process")
        return ("", *self._suites)[code]

    def prepare(self) -> None:
        """Compute what all mutants are compared with, and which of them each suite can notice; the machine must pass.

        The variant counts coverage of a `support.mutants.excitation.watched` netlist.
        """
        for stimulus in (self.wide, self.cases, self.instructions, self.places, self.hostile):
            assert stimulus
        for name, suite in self._suites.items():
            self._covered.clear()
            begin = process_time()
            suite(0)
            self._seconds[name] = process_time() - begin
            self._excited[name] = excited(self._variant.verilog, self._covered)

    def coverage(self) -> list[str]:
        """What all suites together reach, as files in Verilator's format; needs a variant with coverage."""
        for suite in self._suites.values():
            suite(0)
        return self._covered

    @cached_property
    def wide(self) -> Case:
        """A program with an instruction for each bit of each field."""
        program = wide_program(MACHINE, np.random.default_rng(self._seed), WIDE_STEPS)
        state = random_on_chip(MACHINE, self._seed)
        return Case(program, sim.execute(MACHINE, program.code, program.program_address, program.memory, on_chip=state))

    @cached_property
    def cases(self) -> list[Case]:
        """Random programs, one after the other from one power-up."""
        state, result = random_on_chip(MACHINE, self._seed), []
        for index in range(PROGRAMS):
            rng = np.random.default_rng([self._seed, index])
            program = random_program(MACHINE, rng, int(rng.integers(8, 60)), framed=True)
            if index % 2:
                program = with_many_tokens(program, rng)
            simulated = sim.execute(MACHINE, program.code, program.program_address, program.memory, on_chip=state)
            state = simulated.on_chip
            result.append(Case(program, simulated))
        return result

    @cached_property
    def instructions(self) -> list[tuple[bytes, set[str]]]:
        """Single instructions, most of which break a rule."""
        random = list(single_mutants(self._seed, VERDICTS, REFUSED_STEPS))
        return random + lone_faults(self._seed, DRAWS)

    @cached_property
    def places(self) -> list[tuple[bytes, int]]:
        """Programs, and the place of the first instruction with an error."""
        return places(self._seed)

    @cached_property
    def hostile(self) -> list[tuple[bytes, np.ndarray]]:
        """Programs that may break any rule."""
        return list(hostile_programs(self._seed, HOSTILE))

    @property
    def _suites(self) -> dict[str, Callable[[int], None]]:
        return {
            "first programs": self._first, "wide": self._wide, "registers": self._registers, "far": self._far,
            "stops": self._stops, "resets": self._resets, "programs": self._programs,
            "back-pressure": self._stalled, "conflicts": self._conflicts, "faults": self._faults,
            "counters": self._counters, "running": self._running, "places": self._places,
            "hostile": self._hostile, "verdicts": self._verdicts,
        }  # fmt: skip

    def _judge(self, mutant: int) -> None:
        """In a process of its own: its exit code tells which suite failed."""
        for number, (name, suite) in enumerate(self._suites.items(), 1):
            if mutant not in self._excited.get(name, {mutant}):
                continue
            limit = int(process_time() + CPU_SECONDS + CPU_FACTOR * self._seconds.get(name, CPU_SECONDS))
            resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.RLIM_INFINITY))
            try:
                suite(mutant)
            except NOTICED:
                sys.exit(number)
            except Exception:
                print_exc()
                sys.exit(FAILED)

    @contextmanager
    def _powered(self, mutant: int, stalls_seed: int | None = None) -> Iterator[Powered]:
        with Powered(MACHINE, variant=self._variant, mutant=mutant, stalls_seed=stalls_seed) as machine:
            yield machine
            if self._variant.coverage and not mutant:
                with NamedTemporaryFile(suffix=".dat") as file:
                    machine.write_coverage(Path(file.name))
                    self._covered.append(Path(file.name).read_text(encoding="latin-1"))

    def _first(self, mutant: int) -> None:
        """Bytes, cycles, stamps, counters and the memories on the chip equal the simulator's."""
        self._agree(mutant, self.cases[:FIRST], random_on_chip(MACHINE, self._seed))

    def _programs(self, mutant: int) -> None:
        """The same of many more programs."""
        self._agree(mutant, self.cases[FIRST:], self.cases[FIRST - 1].simulated.on_chip)

    def _wide(self, mutant: int) -> None:
        """The same of one program that sets as many bits of instructions as the machine allows."""
        self._agree(mutant, [self.wide], random_on_chip(MACHINE, self._seed))

    def _resets(self, mutant: int) -> None:
        """A reset in any cycle of a run leaves registers as at power-up, and the next run is right."""
        rng = np.random.default_rng(self._seed)
        after = [*zip(self.cases, self.cases[1:], strict=False)][:RESETS]
        with self._powered(mutant) as machine:
            for interrupted, (before, case) in zip(reversed(self.cases), after, strict=False):
                program, cycles = interrupted.program, interrupted.simulated.total_cycles
                with suppress(DivergenceError):
                    machine.run(
                        program.code, program.program_address, program.memory, max_cycles=int(rng.integers(cycles))
                    )
                machine.reset()
                check_reset_values(machine)
                machine.on_chip = before.simulated.on_chip
                check_equal(machine, case)

    def _far(self, mutant: int) -> None:
        """The same where image and memory lie anywhere: two programs at addresses that have no bit in common."""
        rng = np.random.default_rng(self._seed)
        base, image = (int(rng.integers(1 << bits)) * IMAGE_ALIGNMENT for bits in (20, 52))
        with self._powered(mutant) as machine:
            machine.on_chip = random_on_chip(MACHINE, self._seed)
            for flipped, (program, simulated) in zip((0, ~(IMAGE_ALIGNMENT - 1)), self.cases, strict=False):
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

    def _agree(self, mutant: int, cases: list[Case], on_chip: OnChip) -> None:
        with self._powered(mutant) as machine:
            machine.on_chip = on_chip
            for case in cases:
                check_equal(machine, case)

    def _registers(self, mutant: int) -> None:
        """Registers answer as docs/registers.md says, and hold what was written while programs run."""
        rng, reference = np.random.default_rng(self._seed), depthwise_program(MACHINE, self._seed)
        with self._powered(mutant) as machine:
            check_registers(self._seed, ACCESSES, machine)
        with self._powered(mutant) as machine:
            for _ in range(8):
                image = int(rng.integers(1 << 63)) // IMAGE_ALIGNMENT * IMAGE_ALIGNMENT * 2
                watchdog = int(rng.integers(1 << 31, 1 << 32))
                written = {
                    "IMAGE_ADDRESS_LO": image & 0xFFFFFFFF, "IMAGE_ADDRESS_HI": image >> 32, "PROGRAM_ADDRESS": 0,
                    "PROGRAM_COUNT": len(reference.code) // INSTRUCTION_BYTES, "WATCHDOG": watchdog, "ERROR": 0,
                }  # fmt: skip
                got = machine.run(
                    reference.code, 0, reference.memory, max_cycles=LONG, image_address=image,
                    conditions=Conditions(watchdog=watchdog),
                )  # fmt: skip
                assert {name: got.registers[name] for name in written} == written

    def _stalled(self, mutant: int) -> None:
        """The same bytes in both kinds of memory with random stalls on every channel."""
        for seed, (program, simulated) in enumerate(self.cases[:STALLED]):
            with self._powered(mutant, stalls_seed=seed) as machine:
                if seed:
                    machine.on_chip = self.cases[seed - 1].simulated.on_chip
                else:
                    machine.on_chip = random_on_chip(MACHINE, self._seed)
                limit = 20 * simulated.total_cycles
                got = machine.run(program.code, program.program_address, program.memory, max_cycles=limit)
                np.testing.assert_array_equal(got.memory, simulated.memory)
                assert not got.error
                assert got.on_chip is not None
                for space, held in got.on_chip.items():
                    np.testing.assert_array_equal(held, np.broadcast_to(simulated.on_chip[space], held.shape))

    def _stops(self, mutant: int) -> None:
        """A run that is stopped at any time ends, and the next one is right."""
        rng, reference = np.random.default_rng(self._seed), depthwise_program(MACHINE, self._seed)
        with self._powered(mutant) as machine:
            cycles = machine.run(reference.code, 0, reference.memory, max_cycles=LONG).total_cycles
            for cycle in rng.integers(1, cycles, STOPS):
                conditions = Conditions(stop_cycles=int(cycle))
                got = machine.run(reference.code, 0, reference.memory, max_cycles=LONG, conditions=conditions)
                assert got.first_error.errors == ("stopped",)
                check_right(machine, reference, cycles)
            for program, simulated in self.cases[:STOPPED]:
                conditions = Conditions(stop_cycles=int(rng.integers(1, simulated.total_cycles)))
                limit = 2 * simulated.total_cycles + LONG
                got = machine.run(
                    program.code, program.program_address, program.memory, max_cycles=limit, conditions=conditions
                )
                assert got.first_error.errors == ("stopped",)
                check_right(machine, reference, cycles)

    def _counters(self, mutant: int) -> None:
        """Stall counters and semaphores count right from any value on."""
        with self._powered(mutant) as machine:
            check_stall_counters(self._seed, self.cases[0].program, machine)
            check_full_semaphores(self._seed, machine)

    def _running(self, mutant: int) -> None:
        """While a run is under way registers of the program hold their values, and a stop resets long enough."""
        with self._powered(mutant) as machine:
            check_registers_while_running(self._seed, WRITES, machine)

    def _places(self, mutant: int) -> None:
        with self._powered(mutant) as machine:
            check_places(self.places, machine)

    def _faults(self, mutant: int) -> None:
        with self._powered(mutant) as machine:
            check_fault_addresses(self._seed, FAULTS, machine)

    def _verdicts(self, mutant: int) -> None:
        with self._powered(mutant) as machine:
            check_verdicts(self.instructions, machine)

    def _conflicts(self, mutant: int) -> None:
        with self._powered(mutant) as machine:
            check_conflicts(self._seed, machine)

    def _hostile(self, mutant: int) -> None:
        with self._powered(mutant) as machine:
            fuzz(self._seed, self.hostile, machine, BETWEEN)
