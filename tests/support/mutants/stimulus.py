"""What the suites of a campaign run on a netlist, and what must come of it; each is made once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import cached_property

import numpy as np

import sim
from accel.coverify import OnChip, random_on_chip
from accel.errors import ProgramError
from accel.machine.config import PARAM_RECORD_BYTES
from accel.machine.isa import INSTRUCTION_BYTES, encode
from accel.machine.memories import Space
from support.machine.random_programs import RandomProgram, random_program, random_records
from support.machine.wide_programs import wide_program, with_many_tokens
from support.mutants.trials import Case, simulated
from support.rtl.border_values import border_programs, border_state, carry_programs, tie_programs
from support.rtl.depthwise_program import depthwise_program
from support.rtl.extreme_strides import extreme_instructions, extreme_programs, long_rows, many_rows
from support.rtl.faulty_beats import FaultyBeat, faulty_beats
from support.rtl.first_errors import places, waits
from support.rtl.held_values import held_programs
from support.rtl.hostile import (
    MACHINE,
    MEMORY_BYTES,
    AddressFault,
    Verdict,
    address_faults,
    hostile_programs,
    single_mutants,
    verdicts,
)  # fmt: skip
from support.rtl.large_counts import LongProgram, large_loops, long_programs
from support.rtl.lone_faults import behind_others, lone_faults
from support.rtl.matmul_program import HandWrittenProgram
from support.rtl.port_conflicts import beside, conflicts
from support.rtl.queued import queued
from support.rtl.refused_loads import refused_loads

PROGRAMS, HOSTILE, VERDICTS, PAIRS = 40, 200, 400, 6
HELD, TIES, CARRIES, LOADS, ROWS, WIDE, SINGLES = 60, 4, 4, 40, 16, 5, 3
ERRONEOUS, EXTREMES, BORDERS, WIDE_STEPS, REFUSED_STEPS, BETWEEN, FAULTS, BEATS, DRAWS = (
    30,
    150,
    100,
    4096,
    60,
    5,
    300,
    80,
    2000,
)


class Stimulus:
    """Programs and single instructions for `MACHINE`, from one seed."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

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
        """Single instructions that keep all rules, by themselves and through the memory of their unit's queue."""
        codes = [code for code, expected in self.border if not expected]
        more = (lone_faults(self._seed + number, DRAWS) for number in range(1, SINGLES))
        codes += [code for found in more for code, expected in found if not expected]
        lone = [code[-INSTRUCTION_BYTES:] for code in codes]
        return [*self._alone(codes), *self._alone(queued(lone, self._seed))]

    @cached_property
    def extremes(self) -> list[Case]:
        """Instructions whose loops go anywhere, or that wait for what they hold, and numbers at the borders of
        rounding."""
        state = border_state(np.random.default_rng(self._seed))
        alone = (encode([each]) for kind in extreme_instructions(self._seed, EXTREMES).values() for each in kind)
        codes = [
            *extreme_programs(self._seed, EXTREMES),
            *queued([*alone, *many_rows(self._seed, ROWS)], self._seed),
            *held_programs(self._seed, HELD),
            *long_rows(self._seed, ROWS),
            *many_rows(self._seed, ROWS),
        ]
        numbers = [
            *border_programs(self._seed, BORDERS),
            *tie_programs(self._seed, TIES),
            *carry_programs(self._seed, CARRIES),
        ]
        return [*self._after([*((code, state) for code in codes), *numbers])]

    @cached_property
    def loads(self) -> list[bytes]:
        """LOADs that are refused, or not."""
        return [*refused_loads(self._seed, LOADS)]

    @cached_property
    def pairs(self) -> list[Case]:
        """Two instructions at a time, side by side in different banks at addresses that are often equal."""
        return [*self._alone(beside(self._seed, PAIRS))]

    def _alone(self, codes: Iterable[bytes]) -> Iterator[Case]:
        """What the simulator makes of short programs with random bytes in all memories, and legal records."""
        state, rng = random_on_chip(MACHINE, self._seed), np.random.default_rng(self._seed)
        records = random_records(rng, True).reshape(-1, PARAM_RECORD_BYTES)
        state[Space.PARAM] = records[: MACHINE.param_channels]
        return self._after((code, state) for code in codes)

    def _after(self, programs: Iterable[tuple[bytes, OnChip]]) -> Iterator[Case]:
        """The same after what is in the memories on the chip; without those that leave the memory."""
        memory = np.random.default_rng(self._seed).integers(0, 256, MEMORY_BYTES, np.uint8)
        for code, state in programs:
            memory[: len(code)] = np.frombuffer(code, np.uint8)
            with suppress(ProgramError):
                yield simulated(RandomProgram(code, memory.copy(), 0, []), state)

    @cached_property
    def loops(self) -> list[Verdict]:
        """Instructions with large loops, which leave a memory."""
        return verdicts(large_loops(self._seed))

    @cached_property
    def long(self) -> list[LongProgram]:
        """Programs of any number of instructions."""
        return list(long_programs(self._seed))

    @cached_property
    def erroneous(self) -> list[LongProgram]:
        """Programs with errors of all kinds, and some that end behind the memory."""
        lone = (verdict.code for verdict in self.instructions[:ERRONEOUS])
        codes = [
            *lone,
            *(code for code, _ in self.conflicts[:ERRONEOUS]),
            *(each.code for each in self.faults[:ERRONEOUS]),
        ]
        behind = [LongProgram(self.reference[0].code, 0, MEMORY_BYTES // INSTRUCTION_BYTES) for _ in range(2)]
        return [*(LongProgram(code, 0, 0) for code in [*codes, *self.waits[:2]]), *behind]

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
    def faulty_beats(self) -> list[FaultyBeat]:
        """Single beats with an error response."""
        return list(faulty_beats(self._seed, BEATS))

    @cached_property
    def conflicts(self) -> list[tuple[bytes, str]]:
        """Two instructions at a time in one bank or in two."""
        return list(conflicts(self._seed))

    @cached_property
    def hostile(self) -> list[list[tuple[bytes, np.ndarray]]]:
        """Programs that may break any rule, some at a time."""
        programs = list(hostile_programs(self._seed, HOSTILE))
        return [programs[begin : begin + BETWEEN] for begin in range(0, HOSTILE, BETWEEN)]
