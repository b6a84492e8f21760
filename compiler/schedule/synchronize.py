"""Insert the semaphore tokens that a program needs, and no others.

Notes
-----
Every ordered pair of units (p, u) has one semaphore, and the n-th wait takes the token of the n-th signal. That never
pairs a wait with the wrong signal here: a unit issues and completes in order, so what it *knows* to be complete only
grows. A wait on instruction `a` of unit p is inserted only if `a` is later than everything of p that u already knows;
hence the producers of successive waits of u on p are strictly increasing, every signal has exactly one wait, and the
k-th of both belong together. The producer is always an earlier instruction, so programs cannot deadlock.

Knowledge is a vector clock: for each unit the number of its instructions known to have completed. It passes from an
instruction to its successor in the same unit and, through a token, from a producer to its consumer.

Which hazards exist (docs/timing.md): accesses of *different* units to the same word, unless both read, and to the same
port of the same bank. Within one unit all writes, and all accesses of one memory, keep program order: LOAD has one
writer; STORE one reader and in-order responses; a column of EXEC or DEPTHWISE accumulates pixel by pixel, and ACC reads
return what is being written; POST writes in the order of its steps. The exception is POST, whose scratchpad write comes
many cycles after its read, so that the next POST could read too early: it waits for its own unit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

from accel.machine.config import ArchConfig
from accel.machine.isa import Table, Unit
from accel.machine.tokens import SIGNAL, WAIT
from compiler.schedule.footprint import footprints
from compiler.schedule.hazards import Hazards

Clock: TypeAlias = tuple[int, ...]
"""What an instruction knows when it issues: of each unit, how many instructions have completed."""


def synchronized(config: ArchConfig, program: Table) -> Table:
    """The same instructions with the `wait` and `signal` bits that they need; their own are replaced.

    Parameters
    ----------
    config : ArchConfig
    program : ndarray of int64, shape (instructions, COLUMNS)
        As `accel.machine.isa.table_of` returns it.

    Raises
    ------
    ProgramError
        An instruction leaves a memory (see `compiler.schedule.footprint.footprints`).
    """
    hazards = Hazards(footprints(config, program), len(program))
    wait, signal = [0] * len(program), [0] * len(program)
    places: list[list[int]] = [[] for _ in Unit]
    clocks: list[list[Clock]] = [[] for _ in Unit]
    known: list[Clock] = [(0,) * len(Unit) for _ in Unit]
    for index, unit in enumerate((program[:, 0] - 1).tolist()):
        knows = known[unit]
        for producer, number in _needed(hazards.latest(index, unit, knows), knows, clocks):
            wait[index] |= 1 << producer
            signal[places[producer][number - 1]] |= 1 << unit
            knows = known[unit] = _learnt(knows, producer, number, clocks)
        places[unit].append(index)
        clocks[unit].append(knows)
        hazards.record(index, unit, len(places[unit]))
    result = program.copy()
    result[:, WAIT], result[:, SIGNAL] = wait, signal
    return result


def _learnt(knows: Clock, producer: int, number: int, clocks: Sequence[Sequence[Clock]]) -> Clock:
    """What a unit knows after it has waited for instruction `number` of another."""
    both = list(map(max, knows, clocks[producer][number - 1]))
    both[producer] = number
    return tuple(both)


class _Need(NamedTuple):
    """The first `number` instructions of a unit must have completed."""

    producer: int
    number: int


def _needed(latest: Sequence[int], known: Clock, clocks: Sequence[Sequence[Clock]]) -> list[_Need]:
    """What to wait for: what is not known to be complete, and none that another one implies."""
    needs = [_Need(producer, number) for producer, number in enumerate(latest) if number > known[producer]]
    if len(needs) < 2:
        return needs
    return [
        need
        for need in needs
        if not any(
            clocks[other.producer][other.number - 1][need.producer] >= need.number
            for other in needs
            if other.producer != need.producer
        )
    ]
