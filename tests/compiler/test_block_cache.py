"""Caches of blocks: what a step needs is there, whole, when it is used."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from compiler.schedule.block_cache import BlockCache


class NaiveUse:
    """Random steps against a cache; what every step finds must be what was placed."""

    def __init__(self, words: int, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.cache, self.memory = BlockCache(words), np.full(words, -1)

    def run(self, steps: int) -> int:
        sizes = self.rng.integers(1, 12, 9)
        needs = [sorted(set(self.rng.integers(0, 9, 2).tolist())) for _ in range(steps)]
        uses = {key: [i for i, need in enumerate(needs) if key in need] for key in range(9)}
        loads = 0
        for step, need in enumerate(needs):
            for key in need:
                if key in self.cache.blocks:
                    continue
                base = self.cache.place(key, int(sizes[key]), uses[key], step, step, step)
                assert base is not None
                self.memory[base : base + sizes[key]] = key
                loads += 1
            for key in need:
                base = self.cache.use(key, step)
                assert (self.memory[base : base + sizes[key]] == key).all()
        return loads


@given(st.integers(0, 2**32 - 1))
def test_blocks_are_whole_when_they_are_used(seed: int) -> None:
    few, many = NaiveUse(48, seed).run(40), NaiveUse(110, seed).run(40)
    assert many <= 9 <= 40
    assert few >= many


def test_blocks_in_use_are_not_evicted() -> None:
    cache = BlockCache(10)
    assert cache.place("a", 6, [0, 2], 0, 0, 0) == 0
    cache.use("a", 0)
    assert cache.place("b", 6, [1], 1, 2, 1) is None  # a is needed by step 2
    assert cache.place("b", 6, [1], 1, 1, -1) is None  # a was used by step 0, which must end first
    assert cache.place("b", 6, [1], 1, 1, 0) is not None
    assert "a" not in cache.blocks
    assert cache.place("c", 11, [1], 1, 1, 1) is None
