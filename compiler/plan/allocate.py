"""Room in the scratchpad: areas with lifetimes."""

from __future__ import annotations

from dataclasses import dataclass

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


class Scratchpad:
    """First fit by time and place; prefers banks that nothing alive at the same time uses.

    Two units that use the same port of a bank must take turns, so tensors that are used together are kept apart.
    """

    def __init__(self, config: ArchConfig) -> None:
        self.words = config.spad_words
        self.bank_words = config.spad_bank_words
        self.areas: list[Area] = []

    def allocate(self, words: int, first: int, last: int) -> Area | None:
        """An area for layers `first` .. `last`, or None if there is no room."""
        rivals = [area for area in self.areas if area.first <= last and first <= area.last]
        taken = sorted((area.base, area.base + area.words) for area in rivals)
        gaps, end = [], 0
        for low, high in [*taken, (self.words, self.words)]:
            if low - end >= words:
                gaps.append((end, low))
            end = max(end, high)
        busy = {bank for low, high in taken for bank in self.banks(low, high - low)}
        best = min(
            ((len(busy & self.banks(base, words)), base) for gap in gaps for base in self._places(gap, words)),
            default=None,
        )
        if best is None:
            return None
        area = Area(best[1], words, first, last)
        self.areas.append(area)
        return area

    def release(self, area: Area) -> None:
        """Take an area back as if it had never been given."""
        self.areas.remove(area)

    def banks(self, base: int, words: int) -> set[int]:
        """Banks that hold some of these words."""
        return set(range(base // self.bank_words, (base + words - 1) // self.bank_words + 1))

    def _places(self, gap: tuple[int, int], words: int) -> set[int]:
        """Start of the gap, its end, and every bank's start within it."""
        low, high = gap
        starts = range(-(-low // self.bank_words) * self.bank_words, high - words + 1, self.bank_words)
        return {low, high - words, *starts}
