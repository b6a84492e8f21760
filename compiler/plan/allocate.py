"""Room in the on-chip memories: scratchpad areas with lifetimes, and caches of blocks for weights and parameters."""

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


@dataclass
class Block:
    """Words of a cache that hold `key`; `uses` are the steps that still need it, ascending."""

    key: object
    base: int
    words: int
    uses: list[int]
    last_use: int = -1


class BlockCache:
    """Blocks of weights (or parameter records) in a memory: which are there, and where the next one goes."""

    def __init__(self, words: int) -> None:
        self.words = words
        self.blocks: dict[object, Block] = {}

    def use(self, key: object, step: int) -> int:
        """Base address of a block that is there; marks its use by `step`."""
        block = self.blocks[key]
        block.last_use = step
        block.uses = [use for use in block.uses if use > step]
        return block.base

    def place(self, key: object, words: int, uses: list[int], step: int, keep_until: int, settled: int) -> int | None:
        """Make room for a block and enter it.

        Parameters
        ----------
        key : hashable
        words : int
        uses : list of int
            Steps that will need the block.
        step : int
            Steps before this one are emitted. Their blocks may be overwritten.
        keep_until : int
            Blocks that steps `step` .. `keep_until` need must stay.
        settled : int
            Blocks that a step after this one has used must stay: overwriting them would wait for it.

        Returns
        -------
        int or None
            Base address; None if there is no room.
        """
        blocks = sorted(self.blocks.values(), key=lambda block: block.base)
        starts = {0, *(block.base + block.words for block in blocks), *(block.base - words for block in blocks)}
        best: tuple[tuple[int, int, int], int] | None = None
        for start in sorted(start for start in starts if 0 <= start <= self.words - words):
            victims = [b for b in blocks if b.base < start + words and start < b.base + b.words]
            if any(b.last_use > settled or any(use <= keep_until for use in b.uses) for b in victims):
                continue
            wanted = sum(victim.words for victim in victims if victim.uses)
            cost = (wanted, max((victim.last_use for victim in victims), default=-1), start)
            if best is None or cost < best[0]:
                best = (cost, start)
        if best is None:
            return None
        for block in blocks:
            if block.base < best[1] + words and best[1] < block.base + block.words:
                del self.blocks[block.key]
        self.blocks[key] = Block(key, best[1], words, [use for use in uses if use >= step])
        return best[1]
