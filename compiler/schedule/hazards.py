"""Which instruction of each unit was the last one to access each word and each port of a bank."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from accel.machine.config import ArchConfig
from accel.machine.isa import Unit
from accel.machine.memories import BANKED, Space, memories, space_words
from compiler.schedule.footprint import Footprints
from compiler.schedule.intervals import Intervals, expand
from compiler.schedule.parts import Access

_SLICES = 8
"""Up to this many intervals are looked up one by one, more of them by one gather."""

_ACCESSES = len(Access)


class Hazards:
    """The last accesses so far, of a program whose footprints are known.

    Kinds of accesses are numbered ``space * 2 + access``. External memory is too large for a clock of each byte:
    between two neighbouring ends of intervals all bytes are alike, and are one cell.

    Parameters
    ----------
    config : ArchConfig
    touched : Footprints
    instructions : int
        How many the program has.
    """

    def __init__(self, config: ArchConfig, touched: Footprints, instructions: int) -> None:
        self._kinds: list[int] = (touched.space * _ACCESSES + touched.access).tolist()
        self._cells, self._banks = _cells_of_uses(touched), _banks_of_uses(touched)
        self._first: list[int] = np.searchsorted(touched.owner, np.arange(instructions + 1)).tolist()
        external = np.flatnonzero(touched.space == Space.DRAM).tolist()
        bytes_cells = max((self._cells[use].high for use in external), default=0)
        self._sizes = [bytes_cells if space is Space.DRAM else space_words(config, space) for space in Space]
        self._clocks: list[dict[int, _Clock]] = [{} for _ in range(len(Space) * _ACCESSES)]
        banks = {space: memories(config)[space].banks for space in BANKED}
        self._ports = [[[0] * len(Unit) for _ in range(banks.get(space, 0))] for space in Space for _ in Access]

    def latest(self, index: int, unit: int, known: Sequence[int]) -> list[int]:
        """For each unit, number of its last instruction that must have completed before instruction `index` of `unit`.

        At least what is `known` to have completed; the first instruction of a unit is number 1.
        """
        latest = list(known)
        for use in range(self._first[index], self._first[index + 1]):
            kind = self._kinds[use]
            for rival in _RIVALS[kind]:
                for producer, clock in self._clocks[rival].items():
                    if clock.newest > latest[producer] and (producer != unit or _is_late(unit, kind)):
                        latest[producer] = clock.latest(self._cells[use], latest[producer])
            for bank in self._banks[use]:
                for producer, number in enumerate(self._ports[kind][bank]):
                    if number > latest[producer] and producer != unit:
                        latest[producer] = number
        return latest

    def record(self, index: int, unit: int, number: int) -> None:
        """Instruction `index` is number `number` of its unit."""
        for use in range(self._first[index], self._first[index + 1]):
            kind = self._kinds[use]
            clocks = self._clocks[kind]
            if unit not in clocks:
                clocks[unit] = _Clock(self._sizes[kind // _ACCESSES])
            clocks[unit].record(self._cells[use], number)
            for bank in self._banks[use]:
                self._ports[kind][bank][unit] = number


def _rivals(access: Access) -> tuple[Access, ...]:
    """Accesses to the same word that an access conflicts with."""
    return (Access.WRITE,) if access is Access.READ else tuple(Access)


_RIVALS = [[space * _ACCESSES + rival for rival in _rivals(access)] for space in Space for access in Access]


def _is_late(unit: int, kind: int) -> bool:
    """Whether a unit may read too early what it writes itself: POST does, the scratchpad."""
    return unit == Unit.POST and kind == Space.SPAD * _ACCESSES + Access.READ


class _Cells(NamedTuple):
    """Places in an array of clocks: all of [low, high), or some of them, as slices or one by one."""

    low: int
    high: int
    slices: tuple[slice, ...]
    places: npt.NDArray[np.int64] | None


def _cells_of_uses(touched: Footprints) -> list[_Cells]:
    """The cells of each use; equal ones are made once."""
    cells, result = dict(_external_cells(touched)), list[_Cells]()
    for use, region in enumerate(zip(touched.part.tolist(), touched.base.tolist(), strict=True)):
        if region not in cells:
            cells[region] = _cells(touched.intervals(use))
        result.append(cells[region])
    return result


def _banks_of_uses(touched: Footprints) -> list[tuple[int, ...]]:
    """The banks whose ports each use takes."""
    masks, number = np.unique(touched.ports, return_inverse=True)
    banks = [tuple(bank for bank in range(mask.bit_length()) if mask >> bank & 1) for mask in masks.tolist()]
    return [banks[i] for i in number.tolist()]


def _external_cells(touched: Footprints) -> Iterator[tuple[tuple[int, int], _Cells]]:
    """Cells of external memory, by part and base."""
    uses = np.flatnonzero(touched.space == Space.DRAM)
    regions = {(int(touched.part[use]), int(touched.base[use])): touched.intervals(use) for use in uses.tolist()}
    if regions:
        ends = np.unique(np.concatenate(list(regions.values())))
        yield from ((region, _cells(np.searchsorted(ends, intervals))) for region, intervals in regions.items())


def _cells(intervals: Intervals) -> _Cells:
    low, high = int(intervals[0, 0]), int(intervals[-1, 1])
    if len(intervals) > _SLICES:
        return _Cells(low, high, (), expand(intervals))
    return _Cells(low, high, tuple(slice(first, last) for first, last in intervals.tolist()), None)


class _Clock:
    """For each cell, the number of the last instruction of one unit that accessed it in one way."""

    def __init__(self, cells: int) -> None:
        self._last = np.zeros(cells, np.int32)
        self.newest = 0

    def latest(self, cells: _Cells, least: int) -> int:
        """The largest number in some cells, or `least` if that is larger."""
        hull = int(self._last[cells.low : cells.high].max())
        if hull <= least or len(cells.slices) == 1:
            return max(hull, least)
        if cells.places is not None:
            return max(least, int(self._last[cells.places].max()))
        return max(least, *(int(self._last[part].max()) for part in cells.slices))

    def record(self, cells: _Cells, number: int) -> None:
        """Number `number` has accessed some cells."""
        self.newest = number
        if cells.places is not None:
            self._last[cells.places] = number
        for part in cells.slices:
            self._last[part] = number
