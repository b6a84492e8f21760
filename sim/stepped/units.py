"""The stepped engine: array and depthwise engine side by side, each stepped while something is under way in it."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from accel.machine.config import ArchConfig
from accel.machine.isa import Opcode
from sim.jit import kernel
from sim.memories import Memories
from sim.stepped import lanes, systolic

_EXEC = int(Opcode.EXEC)


class Units(NamedTuple):
    """Registers of the units that are stepped, and the last cycle that was."""

    array: systolic.Array
    lanes: lanes.Lanes
    clock: npt.NDArray[np.int64]

    @classmethod
    def of(cls, config: ArchConfig) -> Units:
        """The units of `config` after power-up."""
        return cls(systolic.Array.of(config), lanes.Lanes.of(config), np.full(1, -1, np.int64))


@kernel
def issue(units: Units, table: Any, instruction: int) -> None:
    """Hand an EXEC or DEPTHWISE to its unit."""
    if table[instruction, 0] == _EXEC:
        systolic.issue(units.array, instruction, table[instruction])
    else:
        lanes.issue(units.lanes, instruction, table[instruction])


@kernel
def run(units: Units, memories: Memories, table: Any, written: Any, until: int) -> None:
    """Step all registers until cycle `until` has passed; `written[i]` becomes the cycle of instruction i's last write.

    In each cycle both units may write to accumulators. The array's sums of some cycles are therefore made first, which
    takes nothing from the accumulators, and then both write cycle by cycle.
    """
    array, engine, clock = units.array, units.lanes, units.clock
    while clock[0] < until:
        first, last = clock[0] + 1, min(clock[0] + systolic.BATCH, until) + 1
        array_idle, engine_idle = systolic.is_idle(array), lanes.is_idle(engine)
        if array_idle and engine_idle:
            last = until + 1
        if not array_idle:
            systolic.step(array, memories, table, first, last)
        if not engine_idle:
            for cycle in range(first, last):
                lanes.step(engine, memories, table, written, cycle)
                if not array_idle:
                    systolic.accumulate(array, memories.acc, written, cycle, cycle + 1)
        elif not array_idle:
            systolic.accumulate(array, memories.acc, written, first, last)
        clock[0] = last - 1
