"""Blocks of weights, parameters and tables on chip: which are there, and where the next one goes."""

from __future__ import annotations

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
