"""A memory that is silent for longer than the watchdog waits, from any cycle of a run on."""

from __future__ import annotations

from typing import NamedTuple

from accel.machine.config import ArchConfig
from accel.machine.isa import INSTRUCTION_BYTES, Opcode, Unit
from rtl.testbench.result import SimulationResult
from rtl.testbench.verilator import Conditions, Powered
from support.machine.naive_timing import cut, rows_of
from support.machine.random_programs import RandomProgram
from support.machine.wide_programs import at_base

WATCHDOG, PAUSE = 600, 3000
"""Longer than any instruction of a random program runs by itself; than all that a silent memory leaves to be done, and
the watchdog behind it."""


class Pause(NamedTuple):
    """A program, the cycles that it takes, and the one in which its memory begins to be silent."""

    program: RandomProgram
    cycles: int
    begin: int


class SilentMemory:
    """The memory of a machine, which begins at `base` in all of its runs, and where their bursts began."""

    def __init__(self, config: ArchConfig, machine: Powered, base: int):
        self._config, self._machine, self._base = config, machine, base
        self._bursts = {0}  # the machine's memory of them powers up with zeros

    def check(self, pause: Pause) -> bool:
        """The watchdog names the oldest instruction that is not complete, in its unit or in fetch, and where a burst
        began, of this run or of one before; if it stops nothing, the memory was not needed.

        Returns whether it has stopped the run.
        """
        program, cycles, begin = pause
        base, moved = self._base, at_base(program, self._base)
        self._add_bursts(moved)
        limit = WATCHDOG + begin % 4
        conditions = Conditions(pause_begin=begin, pause_cycles=PAUSE, watchdog=limit, memory_base=base)
        got = self._machine.run(
            moved.code, program.program_address, moved.memory, max_cycles=cycles + 2 * PAUSE, conditions=conditions
        )
        first = got.first_error
        if not first.errors:
            assert got.total_cycles < begin + PAUSE
            return False
        index = _oldest(moved, got, begin + PAUSE)
        assert (first.errors, first.index) == (("watchdog",), index)
        if first.unit == "FETCH":
            assert first.address == (base + program.program_address + index * INSTRUCTION_BYTES) % (1 << 32)
        else:
            assert first.unit == moved.instructions[index].unit.name
            assert first.address in self._bursts
        return True

    def _add_bursts(self, program: RandomProgram) -> None:
        """Remember where the bursts of its instructions begin."""
        for instruction in program.instructions:
            if instruction.opcode is Opcode.LOAD:
                rows = rows_of(instruction, instruction["row_bytes"])
            elif instruction.opcode is Opcode.STORE:
                rows = rows_of(instruction, instruction["row_words"] * instruction["word_bytes"])
            else:
                continue
            self._bursts |= {address for address, _ in cut(rows, self._config.bus_bytes)}


def _oldest(program: RandomProgram, got: SimulationResult, now: int) -> int:
    """Index of the first instruction that is not complete in this cycle."""
    left = {unit: int((got.complete[unit] < now).sum()) for unit in Unit}
    for index, instruction in enumerate(program.instructions):
        left[instruction.unit] -= 1
        if left[instruction.unit] < 0:
            return index
    raise AssertionError("the watchdog must not stop a run of which all instructions are complete")
