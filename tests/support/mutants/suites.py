"""The suites of this repository that run programs on the Verilog: what each of them runs, and what must hold.

Suites that notice most mutants per CPU second come first. A suite has cases, each of which says by itself what must
hold; of those only such run for a mutant as make its bit differ, and the one after each.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import numpy as np

from accel.coverify import first_divergence
from accel.errors import DivergenceError
from accel.machine.isa import INSTRUCTION_BYTES
from accel.machine.registers import IMAGE_ALIGNMENT
from rtl.testbench.verilator import Conditions
from support.machine.random_programs import RandomProgram
from support.machine.wide_programs import at_base
from support.mutants.stimulus import Stimulus
from support.mutants.trials import Case, Trial, check_equal
from support.rtl.beyond_runs import (
    check_all_tokens,
    check_cleared_at_the_end,
    check_full_semaphores,
    check_registers_while_running,
    check_semaphore_counts,
    check_semaphore_traffic,
    check_stall_counters,
    check_watchdog,
)
from support.rtl.faulty_beats import check_faulty_beat
from support.rtl.first_errors import check_place, check_wait
from support.rtl.hostile import (
    LONG,
    MACHINE,
    MEMORY_BYTES,
    check_address_fault,
    check_located,
    check_right,
    check_verdict,
    run,
)  # fmt: skip
from support.rtl.large_counts import LONGEST, check_long_program
from support.rtl.pauses import Pause, SilentMemory
from support.rtl.port_conflicts import check_conflict
from support.rtl.refused_loads import check_refused_load
from support.rtl.register_accesses import check_cleared, check_kept, check_registers, check_reset_values

STALLED, STRETCHED, STOPS, STOPPED, ACCESSES = 4, 250, 12, 12, 400
FIRST, RESETS, IMAGES, WRITES = 5, 12, 8, 40


class Suites(Stimulus):
    """The suites, by name; each takes the netlist and those of its cases that are to run, and raises if one fails."""

    @property
    def suites(self) -> dict[str, Callable[[Trial], None]]:
        return {
            "first programs": self._first, "wide": self._wide, "registers": self._registers, "far": self._far,
            "stops": self._stops, "resets": self._resets, "programs": self._programs,
            "back-pressure": self._stalled, "conflicts": self._conflicts, "faults": self._faults,
            "pauses": self._pauses, "large": self._large, "counters": self._counters,
            "running": self._running, "cleared": self._cleared, "places": self._places,
            "extremes": self._extremes, "singles": self._singles, "hostile": self._hostile, "verdicts": self._verdicts,
        }  # fmt: skip

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
        for seed, case in enumerate(self.cases[:STALLED]):
            self._stall(trial, [case], seed)

    def _stall(self, trial: Trial, cases: list[Case], seed: int) -> None:
        with trial.powered(stalls_seed=seed) as machine:
            for program, before, simulated in trial.each(machine, cases):
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
                check_semaphore_counts(seed, machine)
                check_full_semaphores(seed, machine)
                check_semaphore_traffic(seed, machine)
                check_all_tokens(seed, machine)

    def _running(self, trial: Trial) -> None:
        """While a run is under way registers of the program hold their values; a stop resets long enough, the watchdog
        waits as long as it says."""
        with trial.powered() as machine:
            for seed in trial.each(machine, [self._seed]):
                check_registers_while_running(seed, WRITES, machine)
                check_watchdog(seed, machine)

    def _places(self, trial: Trial) -> None:
        """The first error names its instruction."""
        with trial.powered() as machine:
            for program in trial.each(machine, self.places):
                check_place(program, machine)
            for code in trial.each(machine, self.waits):
                check_wait(code, machine)

    def _faults(self, trial: Trial) -> None:
        """The first burst with an error response is reported, and a single beat."""
        with trial.powered() as machine:
            for fault in trial.each(machine, self.faults):
                check_address_fault(fault, machine)
            for beat in trial.each(machine, self.faulty_beats):
                check_faulty_beat(beat, machine)

    def _pauses(self, trial: Trial) -> None:
        """While the memory is silent the watchdog names what waits for it."""
        rng = np.random.default_rng(self._seed)
        base = int(rng.integers(1 << 20)) * IMAGE_ALIGNMENT
        for flipped in (0, ~(IMAGE_ALIGNMENT - 1)):
            drawn = [(case.program, case.simulated.total_cycles) for case in self.cases]
            pauses = [Pause(program, cycles, int(rng.integers(cycles))) for program, cycles in drawn]
            with trial.powered() as machine:
                memory = SilentMemory(MACHINE, machine, (base ^ flipped) % (1 << 32))
                for pause in trial.each(machine, pauses):
                    memory.check(pause)

    def _large(self, trial: Trial) -> None:
        """Counts and indices of any size: what ends a run early is reported only if they are as large."""
        with trial.powered() as machine:
            for verdict in trial.each(machine, self.loops):
                check_verdict(verdict, machine, LONGEST)
            for program in trial.each(machine, self.long):
                check_long_program(program, self._seed, machine)

    def _cleared(self, trial: Trial) -> None:
        """Errors of all kinds stay until they are cleared, each by itself; all else until the next run, a right one.

        The done bit is cleared after the last cycle only.
        """
        rng = np.random.default_rng(self._seed)
        with trial.powered() as machine:
            for program in trial.each(machine, self.erroneous):
                memory = np.zeros(MEMORY_BYTES, np.uint8)
                got = run(machine, program.code, memory, beyond=program.beyond)
                check_kept(got.registers, machine)
                check_cleared(got.error, rng, machine)
                check_right(machine, *self.reference)
            for reference in trial.each(machine, [self.reference]):
                check_cleared_at_the_end(*reference, machine)

    def _verdicts(self, trial: Trial) -> None:
        """Single instructions are refused if and only if the checker's rules do; then they change no byte that they do
        not name."""
        with trial.powered() as machine:
            for verdict in trial.each(machine, self.instructions):
                check_verdict(verdict, machine)
            for code in trial.each(machine, self.loads):
                check_refused_load(code, machine)

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

    def _extremes(self, trial: Trial) -> None:
        """The same of instructions whose strides, steps and starts may be of any size; with stalls the same bytes."""
        with trial.powered() as machine:
            for case in trial.each(machine, self.extremes):
                check_equal(machine, case)
        self._stall(trial, self.extremes[:STRETCHED], self._seed)

    def _hostile(self, trial: Trial) -> None:
        """Programs that break rules end with an error and its place, and the next one is right."""
        with trial.powered() as machine:
            for programs in trial.each(machine, self.hostile):
                for code, memory in programs:
                    check_located(run(machine, code, memory), code)
                check_right(machine, *self.reference)
