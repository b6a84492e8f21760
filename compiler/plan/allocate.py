"""Room in the scratchpad: areas with lifetimes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import NamedTuple

from accel.machine.config import ArchConfig


@dataclass(frozen=True)
class Area:
    """Scratchpad words [base, base + words) that belong to one owner from layer `first` to layer `last`."""

    base: int
    words: int
    first: int
    last: int

    def overlaps(self, other: Area) -> bool:
        """Whether the two areas share words."""
        return self.base < other.base + other.words and other.base < self.base + self.words

    def lives_with(self, other: Area) -> bool:
        """Whether there is a layer in which both are owned."""
        return self.first <= other.last and other.first <= self.last

    def divided(self, count: int) -> tuple[Area, ...]:
        """Equal parts."""
        words = self.words // count
        return tuple(Area(self.base + i * words, words, self.first, self.last) for i in range(count))


class Request(NamedTuple):
    """Words that are wanted from layer `first` to layer `last`."""

    words: int
    first: int
    last: int


class Grant(NamedTuple):
    """An area, and the scratchpad in which it is taken."""

    area: Area
    scratchpad: Scratchpad


class Grants(NamedTuple):
    """One area for each request, and the scratchpad in which they are taken."""

    areas: tuple[Area, ...]
    scratchpad: Scratchpad


@dataclass(frozen=True)
class Scratchpad:
    """Which words are taken when. It never changes: an allocation gives another scratchpad.

    First fit by time and place; prefers banks that nothing alive at the same time uses: two units that use the same
    port of a bank must take turns, so tensors that are used together are kept apart. If layers are to overlap, banks of
    areas that ended up to `remembered` layers before are avoided, too.
    """

    words: int
    bank_words: int
    areas: tuple[Area, ...] = ()
    remembered: int = 0

    @classmethod
    def empty(cls, config: ArchConfig, remembered: int = 0) -> Scratchpad:
        """The scratchpad of a machine, nothing taken."""
        return cls(config.spad_words, config.spad_bank_words, (), remembered)

    def allocate(self, request: Request) -> Grant | None:
        """An area as requested, or None if there is no room."""
        words, first, last = request
        rivals = [area for area in self.areas if area.first <= last and first <= area.last]
        taken = sorted((area.base, area.base + area.words) for area in rivals)
        gaps, end = [], 0
        for low, high in [*taken, (self.words, self.words)]:
            if low - end >= words:
                gaps.append((end, low))
            end = max(end, high)
        busy = {bank for low, high in taken for bank in self.banks(low, high - low)}
        past = [area for area in self.areas if first - self.remembered <= area.last < first]
        before = {bank for area in past for bank in self.banks(area.base, area.words)}
        places = [(base, self.banks(base, words)) for gap in gaps for base in self._places(*gap, words)]
        best = min(((len(busy & banks), len(before & banks), base) for base, banks in places), default=None)
        if best is None:
            return None
        area = Area(best[-1], words, first, last)
        return Grant(area, replace(self, areas=(*self.areas, area)))

    def allocate_all(self, requests: Iterable[Request]) -> Grants | None:
        """An area for each request, in order; None if one of them has no room."""
        areas, scratchpad = list[Area](), self
        for request in requests:
            grant = scratchpad.allocate(request)
            if grant is None:
                return None
            areas.append(grant.area)
            scratchpad = grant.scratchpad
        return Grants(tuple(areas), scratchpad)

    def since(self, layer: int) -> Scratchpad:
        """Without the areas that nobody owns from `layer` on, or from as many layers before as are remembered."""
        return replace(self, areas=tuple(area for area in self.areas if area.last >= layer - self.remembered))

    def banks(self, base: int, words: int) -> set[int]:
        """Banks that hold some of these words."""
        return set(range(base // self.bank_words, (base + words - 1) // self.bank_words + 1))

    def _places(self, low: int, high: int, words: int) -> set[int]:
        """Bases in a gap [low, high) that are tried: its start, its end, and every bank's start within it."""
        starts = range(-(-low // self.bank_words) * self.bank_words, high - words + 1, self.bank_words)
        return {low, high - words, *starts}
