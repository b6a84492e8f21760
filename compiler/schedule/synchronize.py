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

from bisect import bisect_left, bisect_right
from collections import defaultdict

import numpy as np
import numpy.typing as npt

from accel.machine.config import ArchConfig
from accel.machine.isa import Instruction, Unit
from accel.machine.memories import Space, memories, space_words
from compiler.schedule.footprint import Access, Footprint, Intervals, footprint

UNITS = len(Unit)
_SLICES = 8
"""Up to this many intervals are looked up one by one, more of them by one gather."""


class Synchronizer:
    """Adds `wait` and `signal` bits to a stream of instructions.

    Parameters
    ----------
    config : ArchConfig

    Examples
    --------
    ``for i in instructions: synchronizer.add(i)``, then ``program = synchronizer.finish()``.
    """

    def __init__(self, config: ArchConfig):
        self._config = config
        self._instructions: list[Instruction] = []
        self._wait: list[int] = []
        self._signal: list[int] = []
        self._places: list[list[int]] = [[] for _ in Unit]
        self._clocks: list[list[tuple[int, ...]]] = [[] for _ in Unit]
        self._known = [[0] * UNITS for _ in Unit]
        self._words: dict[tuple[Space, Access, Unit], _WordClock] = {}
        self._bytes: dict[tuple[Space, Access, Unit], _ByteClock] = defaultdict(_ByteClock)
        self._banks: dict[tuple[Space, Access, Unit], list[int]] = {}

    def add(self, instruction: Instruction) -> None:
        """Append the next instruction in program order; its own `wait` and `signal` bits are replaced.

        Raises
        ------
        ProgramError
            The instruction leaves a memory (see `compiler.schedule.footprint.footprint`).
        """
        unit = instruction.unit
        touched = footprint(self._config, instruction)
        known = self._known[unit]
        wait = 0
        for producer, number in self._needed(unit, touched):
            wait |= 1 << producer
            self._signal[self._places[producer][number - 1]] |= 1 << unit
            clock = self._clocks[producer][number - 1]
            known[:] = [max(pair) for pair in zip(known, clock, strict=True)]
        self._places[unit].append(len(self._instructions))
        number = len(self._places[unit])
        self._clocks[unit].append((*known[:unit], number, *known[unit + 1 :]))
        self._instructions.append(instruction)
        self._wait.append(wait)
        self._signal.append(0)
        self._record(unit, touched, number)

    def finish(self) -> list[Instruction]:
        """The instructions in program order with their `wait` and `signal` bits."""
        triples = zip(self._instructions, self._wait, self._signal, strict=True)
        return [instruction.replace(wait=wait, signal=signal) for instruction, wait, signal in triples]

    def _needed(self, unit: Unit, touched: Footprint) -> list[tuple[Unit, int]]:
        """Producers (unit, how many of its instructions) to wait for: no hazard is open and none is implied."""
        needs = []
        for other in Unit:
            number = self._latest_hazard(unit, touched, other)
            if number > self._known[unit][other]:
                needs.append((other, number))
        return [
            (producer, number)
            for producer, number in needs
            if not any(
                self._clocks[witness][at - 1][producer] >= number for witness, at in needs if witness != producer
            )
        ]

    def _latest_hazard(self, unit: Unit, touched: Footprint, other: Unit) -> int:
        """Number of the last instruction of `other` that must have completed first (1 is the first, 0 is none)."""
        if unit == other:
            if unit is not Unit.POST or Space.SPAD not in touched.reads:
                return 0
            return self._latest(Space.SPAD, Access.WRITE, other, touched.reads[Space.SPAD])
        hazards = [self._latest(space, Access.WRITE, other, words) for space, words in touched.reads.items()]
        for space, words in touched.writes.items():
            hazards += [self._latest(space, access, other, words) for access in Access]
        for (space, access), mask in touched.ports.items():
            last = self._banks.get((space, access, other), ())
            hazards += [number for bank, number in enumerate(last) if mask >> bank & 1]
        return max(hazards, default=0)

    def _latest(self, space: Space, access: Access, other: Unit, intervals: Intervals) -> int:
        key = (space, access, other)
        if space is Space.DRAM:
            return self._bytes[key].latest(intervals)
        return self._words[key].latest(intervals) if key in self._words else 0

    def _record(self, unit: Unit, touched: Footprint, number: int) -> None:
        for access, accesses in ((Access.READ, touched.reads), (Access.WRITE, touched.writes)):
            for space, intervals in accesses.items():
                key = (space, access, unit)
                if space is Space.DRAM:
                    self._bytes[key].record(intervals, number)
                    continue
                if key not in self._words:
                    self._words[key] = _WordClock(space_words(self._config, space))
                self._words[key].record(intervals, number)
        for (space, access), mask in touched.ports.items():
            last = self._banks.setdefault((space, access, unit), [0] * memories(self._config)[space].banks)
            for bank in range(mask.bit_length()):
                if mask >> bank & 1:
                    last[bank] = number


class _WordClock:
    """For each word of a memory, the number of the last instruction of one unit that accessed it in one way."""

    def __init__(self, words: int):
        self._last = np.zeros(words, np.int32)

    def latest(self, intervals: Intervals) -> int:
        if len(intervals) > _SLICES:
            return int(self._last[_expand(intervals)].max())
        return max((int(self._last[start:stop].max()) for start, stop in intervals.tolist()), default=0)

    def record(self, intervals: Intervals, number: int) -> None:
        if len(intervals) > _SLICES:
            self._last[_expand(intervals)] = number
            return
        for start, stop in intervals.tolist():
            self._last[start:stop] = number


class _ByteClock:
    """The same for an address space too large for an array: disjoint intervals, ascending, each with its number."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._stops: list[int] = []
        self._last: list[int] = []

    def latest(self, intervals: Intervals) -> int:
        latest = 0
        for start, stop in intervals.tolist():
            first, beyond = self._overlap(start, stop)
            latest = max(latest, *self._last[first:beyond], 0)
        return latest

    def record(self, intervals: Intervals, number: int) -> None:
        for start, stop in intervals.tolist():
            first, beyond = self._overlap(start, stop)
            pieces = [(start, stop, number)]
            if first < beyond:
                if self._starts[first] < start:
                    pieces.insert(0, (self._starts[first], start, self._last[first]))
                if self._stops[beyond - 1] > stop:
                    pieces.append((stop, self._stops[beyond - 1], self._last[beyond - 1]))
            self._starts[first:beyond] = [piece[0] for piece in pieces]
            self._stops[first:beyond] = [piece[1] for piece in pieces]
            self._last[first:beyond] = [piece[2] for piece in pieces]

    def _overlap(self, start: int, stop: int) -> tuple[int, int]:
        """Range of the stored intervals that overlap [start, stop)."""
        return bisect_right(self._stops, start), bisect_left(self._starts, stop)


def _expand(intervals: Intervals) -> npt.NDArray[np.int64]:
    """All words of the intervals, ascending."""
    lengths = intervals[:, 1] - intervals[:, 0]
    ends = np.cumsum(lengths)
    words: npt.NDArray[np.int64] = np.arange(ends[-1]) + np.repeat(intervals[:, 0] - (ends - lengths), lengths)
    return words
