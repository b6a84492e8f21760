"""A memory that is silent for longer than the watchdog waits, from any cycle of a run on."""

from __future__ import annotations

from typing import NamedTuple

from accel.machine.isa import INSTRUCTION_BYTES, Unit
from rtl.testbench.result import SimulationResult
from rtl.testbench.verilator import Conditions, Powered
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


def check_pause(pause: Pause, base: int, machine: Powered) -> bool:
    """The watchdog names the oldest instruction that is not complete, in its unit or in fetch, and no address outside
    of the memory; if it stops nothing, the memory was not needed. Returns whether it has stopped the run.

    Its memory begins at `base` in all runs of a machine: an address may be that of an earlier burst.
    """
    program, cycles, begin = pause
    moved = at_base(program, base)
    limit = WATCHDOG + begin % 4
    conditions = Conditions(pause_begin=begin, pause_cycles=PAUSE, watchdog=limit, memory_base=base)
    most = cycles + 2 * PAUSE
    got = machine.run(moved.code, program.program_address, moved.memory, max_cycles=most, conditions=conditions)
    first = got.first_error
    if not first.errors:
        assert got.total_cycles < begin + PAUSE
        return False
    index = _oldest(moved, got, begin + PAUSE)
    assert (first.errors, first.index) == (("watchdog",), index)
    assert first.unit in (moved.instructions[index].unit.name, "FETCH")
    if first.unit == "FETCH":
        assert first.address == (base + program.program_address + index * INSTRUCTION_BYTES) % (1 << 32)
    assert not first.address or (first.address - base) % (1 << 32) < len(moved.memory)
    return True


def _oldest(program: RandomProgram, got: SimulationResult, now: int) -> int:
    """Index of the first instruction that is not complete in this cycle."""
    left = {unit: int((got.complete[unit] < now).sum()) for unit in Unit}
    for index, instruction in enumerate(program.instructions):
        left[instruction.unit] -= 1
        if left[instruction.unit] < 0:
            return index
    raise AssertionError("the watchdog must not stop a run of which all instructions are complete")
