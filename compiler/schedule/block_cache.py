"""Blocks of weights, parameters and tables on chip: which are there, and where the next one goes."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass


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
        self._ordered: list[Block] = []
        self._bases: list[int] = []
        self._ends: list[int] = []

    def use(self, key: object, step: int) -> int:
        """Base address of a block that is there; marks its use by `step`."""
        block = self.blocks[key]
        block.last_use = step
        del block.uses[: bisect_right(block.uses, step)]
        return block.base

    def place(self, key: object, words: int, uses: list[int], step: int, keep_until: int, settled: int) -> int | None:
        """Make room for a block and enter it.

        Parameters
        ----------
        key : hashable
        words : int
        uses : list of int
            Steps that will need the block, ascending.
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
        blocks, bases, ends = self._ordered, self._bases, self._ends
        used = [block.last_use for block in blocks]
        stay = [b.last_use > settled or (bool(b.uses) and b.uses[0] <= keep_until) for b in blocks]
        wanted = [block.words if block.uses else 0 for block in blocks]
        starts = {0, *ends, *[base - words for base in bases]}
        best, victims = (self.words + 1, 0, 0), slice(0)
        first = last = staying = lost = 0
        for start in sorted([start for start in starts if 0 <= start <= self.words - words]):
            while last < len(blocks) and bases[last] < start + words:
                staying, lost, last = staying + stay[last], lost + wanted[last], last + 1
            while first < last and ends[first] <= start:
                staying, lost, first = staying - stay[first], lost - wanted[first], first + 1
            if not staying and lost <= best[0]:
                cost = (lost, max(used[first:last], default=-1), start)
                if cost < best:
                    best, victims = cost, slice(first, last)
        lost, _, start = best
        if lost > self.words:
            return None
        for victim in blocks[victims]:
            del self.blocks[victim.key]
        self.blocks[key] = Block(key, start, words, uses[bisect_left(uses, step) :])
        blocks[victims], bases[victims], ends[victims] = [self.blocks[key]], [start], [start + words]
        return start
