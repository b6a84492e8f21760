"""Which instruction of each unit was the last one to access each word and each port of a bank."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from accel.machine.isa import Unit
from accel.machine.memories import Space
from compiler.schedule.footprint import Footprints
from compiler.schedule.intervals import Intervals
from compiler.schedule.parts import Access

_ACCESSES = len(Access)


class Hazards:
    """The accesses so far, of a program whose footprints are known.

    Kinds of accesses are numbered ``space * 2 + access``. Of each unit and kind there is a list, which is searched from
    the newest access back to the first that conflicts or is known to have completed: few are neither. A use has a kind,
    its words, and bit b for the port of bank b.
    """

    def __init__(self, touched: Footprints, instructions: int) -> None:
        kinds = (touched.space * _ACCESSES + touched.access).tolist()
        uses = list(zip(kinds, _regions(touched), touched.ports.tolist(), strict=True))
        first = np.searchsorted(touched.owner, np.arange(instructions + 1)).tolist()
        self._uses = [uses[low:high] for low, high in pairwise(first)]
        self._histories: list[dict[int, _History]] = [{} for _ in _RIVALS]
        self._late = [[_is_late(unit, kind) for unit in Unit] for kind in range(len(_RIVALS))]
        self._rivals = [[self._histories[rival] for rival in rivals] for rivals in _RIVALS]

    def latest(self, index: int, unit: int, known: Sequence[int]) -> list[int]:
        """For each unit, number of its last instruction that must have completed before instruction `index` of `unit`.

        At least what is `known` to have completed; the first instruction of a unit is number 1.
        """
        latest = list(known)
        for kind, region, ports in self._uses[index]:
            late = self._late[kind][unit]
            for histories in self._rivals[kind]:
                for producer, history in histories.items():
                    if history.numbers[-1] > latest[producer] and (producer != unit or late):
                        latest[producer] = history.latest(region, latest[producer])
            if ports:
                for producer, history in self._histories[kind].items():
                    if history.numbers[-1] > latest[producer] and producer != unit:
                        latest[producer] = history.latest_port(ports, latest[producer])
        return latest

    def record(self, index: int, unit: int, number: int) -> None:
        """Instruction `index` is number `number` of its unit."""
        for kind, region, ports in self._uses[index]:
            histories = self._histories[kind]
            if unit not in histories:
                histories[unit] = _History([], [], [])
            history = histories[unit]
            history.numbers.append(number)
            history.regions.append(region)
            history.ports.append(ports)


def _rivals(access: Access) -> tuple[Access, ...]:
    """Accesses to the same word that an access conflicts with."""
    return (Access.WRITE,) if access is Access.READ else tuple(Access)


_RIVALS = [[space * _ACCESSES + rival for rival in _rivals(access)] for space in Space for access in Access]


def _is_late(unit: int, kind: int) -> bool:
    """Whether a unit may read too early what it writes itself: POST does, the scratchpad."""
    return unit == Unit.POST and kind == Space.SPAD * _ACCESSES + Access.READ


class _Words:
    """Words of a part of an instruction, counted from its address on."""

    def __init__(self, intervals: Intervals) -> None:
        self._intervals = intervals
        self.low, self.high = int(intervals[0, 0]), int(intervals[-1, 1])
        self.solid = len(intervals) == 1

    @cached_property
    def mask(self) -> int:
        """Bit b: word ``low + b`` is one of them."""
        ends = self._intervals - self.low
        change = np.zeros(self.high - self.low, np.int8)
        change[ends[:, 0]] = 1
        change[ends[:-1, 1]] = -1
        return int.from_bytes(np.packbits(np.cumsum(change, dtype=np.int8), bitorder="little").tobytes(), "little")


class _Region(NamedTuple):
    """Words [low, high), or some of them."""

    low: int
    high: int
    words: _Words

    def meets(self, other: _Region) -> bool:
        """Whether a word belongs to both regions, which begin before the other ends."""
        if self.words.solid and other.words.solid:
            return True
        if self.low < other.low:
            return bool(self.words.mask >> (other.low - self.low) & other.words.mask)
        return bool(other.words.mask >> (self.low - other.low) & self.words.mask)


def _regions(touched: Footprints) -> list[_Region]:
    """The words of each use; equal ones are made once."""
    words = [_Words(part.intervals) for part in touched.parts]
    known, result = dict[tuple[int, int], _Region](), list[_Region]()
    for place in zip(touched.part.tolist(), touched.base.tolist(), strict=True):
        if place not in known:
            part, base = words[place[0]], place[1]
            known[place] = _Region(part.low + base, part.high + base, part)
        result.append(known[place])
    return result


class _History(NamedTuple):
    """Accesses of one unit in one way: the numbers of instructions, ascending, their words, and banks as bits."""

    numbers: list[int]
    regions: list[_Region]
    ports: list[int]

    def latest(self, region: _Region, least: int) -> int:
        """The largest number of an instruction with a word of a region, or `least` if that is larger."""
        (low, high, _), at, regions = region, len(self.numbers), self.regions
        while at and self.numbers[at - 1] > least:
            at -= 1
            other = regions[at]
            if other.low < high and low < other.high and other.meets(region):
                return self.numbers[at]
        return least

    def latest_port(self, ports: int, least: int) -> int:
        """The same for the port of a bank."""
        at = len(self.numbers)
        while at and self.numbers[at - 1] > least:
            at -= 1
            if self.ports[at] & ports:
                return self.numbers[at]
        return least
