"""Room in the scratchpad: areas never share words while both live."""

from __future__ import annotations

from itertools import combinations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from accel.machine.config import preset
from compiler.plan.allocate import Area, Scratchpad

TINY = preset("tiny")
BANK = TINY.spad_bank_words

requests = st.lists(
    st.tuples(st.integers(1, 3000), st.integers(0, 6), st.integers(0, 4), st.booleans()), min_size=1, max_size=20
)


@given(requests)
def test_living_areas_never_overlap(wanted: list[tuple[int, int, int, bool]]) -> None:
    scratchpad = Scratchpad(TINY)
    for words, first, length, released in wanted:
        before = list(scratchpad.areas)
        area = scratchpad.allocate(words, first, first + length)
        if area is None:
            assert not _fits(before, words, first, first + length)
            continue
        assert (area.words, area.first, area.last) == (words, first, first + length)
        assert 0 <= area.base <= TINY.spad_words - words
        if released:
            scratchpad.release(area)
    for a, b in combinations(scratchpad.areas, 2):
        assert not (a.lives_with(b) and a.overlaps(b))


def _fits(areas: list[Area], words: int, first: int, last: int) -> bool:
    """Whether any place has room, tried word by word."""
    free = np.ones(TINY.spad_words, bool)
    for area in areas:
        if area.first <= last and first <= area.last:
            free[area.base : area.base + area.words] = False
    taken = np.flatnonzero(~free)
    edges = np.diff(np.concatenate([[-1], taken, [len(free)]])) - 1
    return bool(edges.max() >= words)


def test_areas_of_one_layer_are_kept_in_banks_of_their_own() -> None:
    scratchpad = Scratchpad(TINY)
    areas = [scratchpad.allocate(100, 0, 1) for _ in range(5)]
    assert [area.base // BANK for area in areas if area][:4] == [0, 1, 2, 3]


def test_areas_of_other_times_share_words() -> None:
    scratchpad = Scratchpad(TINY)
    first, second = scratchpad.allocate(8000, 0, 1), scratchpad.allocate(8000, 2, 3)
    assert first
    assert second
    assert first.overlaps(second)
    assert not first.lives_with(second)
    assert scratchpad.allocate(8000, 1, 2) is None
