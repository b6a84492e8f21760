"""How full the memories on the chip are over time.

A word is occupied from the issue of the instruction that writes it to the completion of the last one that reads it
before it is written again; a word that is never read is not occupied. An accumulator that an instruction adds to keeps
its contents.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from accel.machine import isa
from accel.machine.config import ArchConfig
from accel.machine.isa import Opcode
from accel.machine.memories import Space, memories
from accel.program.program import Program
from accel.report.layers import Timeline

Intervals = NDArray[np.int64]
"""Half-open intervals of words, shape (n, 2)."""


class Touched(Protocol):
    """Words that an instruction uses, by address space."""

    @property
    def reads(self) -> Mapping[Space, Intervals]:
        """Words that it reads."""
        ...

    @property
    def writes(self) -> Mapping[Space, Intervals]:
        """Words that it writes."""
        ...


@dataclass(frozen=True, eq=False)
class Occupancy:
    """One memory.

    Parameters
    ----------
    name : str
    words : int
        Its size (PARAM: channel records).
    cycles, occupied : ndarray of int64, shape (changes,)
        From each of these cycles on so many words are occupied.
    """

    name: str
    words: int
    cycles: NDArray[np.int64]
    occupied: NDArray[np.int64]

    @property
    def peak(self) -> int:
        """The most words that are ever occupied."""
        return int(self.occupied.max(initial=0))


def occupancy(program: Program, runs: Sequence[Any], touched: Iterable[Touched]) -> list[Occupancy]:
    """Each memory of the machine.

    Parameters
    ----------
    program : Program
    runs : sequence of sim.Timing
        One for each machine segment.
    touched : iterable of Touched
        What each instruction uses, in program order.
    """
    timeline, spaces = Timeline.of(runs), _memories(program.config)
    # EXEC and DEPTHWISE read no sums but those that they add to, which POST reads later.
    adds, uses = _adds(isa.decode_table(program.code)), list(touched)
    for i in np.argsort(timeline.issue, kind="stable"):
        for space, intervals in uses[i].reads.items():
            if space in spaces and not (space is Space.ACC and space in uses[i].writes):
                spaces[space].read(intervals, int(timeline.complete[i]))
        for space, intervals in uses[i].writes.items():
            if space in spaces and not (adds[i] and space is Space.ACC):
                spaces[space].write(intervals, int(timeline.issue[i]))
    return [memory.finish(space.name) for space, memory in spaces.items()]


def _adds(table: isa.Table) -> NDArray[np.bool_]:
    """Which instructions add to accumulators that hold sums already."""
    adds = np.zeros(len(table), np.bool_)
    for opcode in (Opcode.EXEC, Opcode.DEPTHWISE):
        adds |= (table[:, 0] == opcode) & (table[:, isa.column(opcode, "accumulate")] == 1)
    return adds


def _memories(config: ArchConfig) -> dict[Space, _Memory]:
    return {space: _Memory(memory.words) for space, memory in memories(config).items() if memory.words}


class _Memory:
    """The words of one memory: when each was written and last read, and all earlier times in which it was occupied."""

    def __init__(self, words: int) -> None:
        self.written, self.last_read = np.zeros(words, np.int64), np.full(words, -1, np.int64)
        self.starts: list[NDArray[np.int64]] = []
        self.stops: list[NDArray[np.int64]] = []

    def write(self, intervals: Intervals, cycle: int) -> None:
        """New contents of words."""
        for first, last in intervals:
            self._close(first, last)
            self.written[first:last], self.last_read[first:last] = cycle, -1

    def read(self, intervals: Intervals, cycle: int) -> None:
        for first, last in intervals:
            np.maximum(self.last_read[first:last], cycle, out=self.last_read[first:last])

    def _close(self, first: int, last: int) -> None:
        was_read = self.last_read[first:last] >= 0
        self.starts.append(self.written[first:last][was_read])
        self.stops.append(self.last_read[first:last][was_read] + 1)

    def finish(self, name: str) -> Occupancy:
        """Close all words."""
        words = len(self.written)
        self._close(0, words)
        starts, stops = np.concatenate(self.starts), np.concatenate(self.stops)
        cycles, index = np.unique(np.concatenate([[0], starts, stops]), return_inverse=True)
        change = np.concatenate([[0], np.ones_like(starts), -np.ones_like(stops)])
        occupied = np.cumsum(np.bincount(index, change, len(cycles))).astype(np.int64)
        return Occupancy(name, words, cycles, occupied)
