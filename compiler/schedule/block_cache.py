"""Blocks of weights, parameters and tables on chip: which are there, and where the next one goes."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from itertools import accumulate


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
        blocks = self._ordered
        stay = [0, *accumulate(b.last_use > settled or (b.uses[0] <= keep_until if b.uses else 0) for b in blocks)]
        wanted = [0, *accumulate(block.words if block.uses else 0 for block in blocks)]
        starts = {0, *(block.base + block.words for block in blocks), *(block.base - words for block in blocks)}
        best: tuple[tuple[int, int, int], slice] | None = None
        first = last = 0
        for start in sorted(start for start in starts if 0 <= start <= self.words - words):
            while first < len(blocks) and blocks[first].base + blocks[first].words <= start:
                first += 1
            while last < len(blocks) and blocks[last].base < start + words:
                last += 1
            lost = wanted[last] - wanted[first]
            if stay[first] < stay[last] or (best is not None and lost > best[0][0]):
                continue
            cost = (lost, max([victim.last_use for victim in blocks[first:last]], default=-1), start)
            if best is None or cost < best[0]:
                best = (cost, slice(first, last))
        if best is None:
            return None
        (_, _, start), victims = best
        for victim in blocks[victims]:
            del self.blocks[victim.key]
        self.blocks[key] = Block(key, start, words, uses[bisect_left(uses, step) :])
        blocks[victims] = [self.blocks[key]]
        return start
