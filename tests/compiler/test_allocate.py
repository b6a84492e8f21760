"""Room in the scratchpad: areas never share words while both live."""

from __future__ import annotations

from itertools import combinations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from accel.machine.config import preset
from compiler.plan.allocate import Area, Request, Scratchpad

TINY = preset("tiny")
BANK = TINY.spad_bank_words

requests = st.lists(
    st.tuples(st.integers(1, 3000), st.integers(0, 6), st.integers(0, 4), st.booleans()), min_size=1, max_size=20
)
"""Words, first layer, layers after it, and whether the area is taken back."""


@given(requests)
def test_living_areas_never_overlap(wanted: list[tuple[int, int, int, bool]]) -> None:
    scratchpad = Scratchpad.empty(TINY)
    for words, first, length, released in wanted:
        before, request = scratchpad.areas, Request(words, first, first + length)
        grant = scratchpad.allocate(request)
        assert scratchpad.areas == before
        if grant is None:
            assert not _fits(before, *request)
            continue
        assert (grant.area.words, grant.area.first, grant.area.last) == request
        assert 0 <= grant.area.base <= TINY.spad_words - words
        assert grant.scratchpad.areas == (*before, grant.area)
        if not released:
            scratchpad = grant.scratchpad
    for a, b in combinations(scratchpad.areas, 2):
        assert not (a.lives_with(b) and a.overlaps(b))


def _fits(areas: tuple[Area, ...], words: int, first: int, last: int) -> bool:
    """Whether any place has room, tried word by word."""
    free = np.ones(TINY.spad_words, bool)
    for area in areas:
        if area.first <= last and first <= area.last:
            free[area.base : area.base + area.words] = False
    taken = np.flatnonzero(~free)
    edges = np.diff(np.concatenate([[-1], taken, [len(free)]])) - 1
    return bool(edges.max() >= words)


def test_areas_of_one_layer_are_kept_in_banks_of_their_own() -> None:
    grants = Scratchpad.empty(TINY).allocate_all([Request(100, 0, 1)] * 5)
    assert grants
    assert [area.base // BANK for area in grants.areas][:4] == [0, 1, 2, 3]


def test_areas_of_other_times_share_words() -> None:
    grants = Scratchpad.empty(TINY).allocate_all([Request(8000, 0, 1), Request(8000, 2, 3)])
    assert grants
    first, second = grants.areas
    assert first.overlaps(second)
    assert not first.lives_with(second)
    assert grants.scratchpad.allocate(Request(8000, 1, 2)) is None


def test_a_failed_allocation_of_several_takes_nothing() -> None:
    grant = Scratchpad.empty(TINY).allocate(Request(3000, 0, 1))
    assert grant
    wanted = [Request(3000, 1, 1), Request(3000, 1, 1)]
    before = grant.scratchpad.areas
    assert grant.scratchpad.allocate_all(wanted) is None
    assert grant.scratchpad.areas == before == (grant.area,)
    assert grant.scratchpad.allocate_all(wanted[:1])


def test_banks_of_layers_before_are_avoided_where_layers_overlap() -> None:
    for remembered, base in ((0, 0), (2, 0), (3, TINY.spad_bank_words)):
        scratchpad = Scratchpad.empty(TINY, remembered).allocate(Request(10, 0, 1))
        assert scratchpad is not None
        grant = scratchpad.scratchpad.since(4).allocate(Request(10, 4, 5))
        assert grant is not None
        assert grant.area.base == base


@given(requests, st.integers(0, 6))
def test_areas_that_ended_are_no_rivals(wanted: list[tuple[int, int, int, bool]], layer: int) -> None:
    scratchpad = Scratchpad.empty(TINY)
    for words, first, length, _ in wanted:
        grant = scratchpad.allocate(Request(words, first, first + length))
        scratchpad = grant.scratchpad if grant else scratchpad
    assert all(area.last >= layer for area in scratchpad.since(layer).areas)
    for words in (1, 100, 1000, 4000):
        kept, all_ = (pad.allocate(Request(words, layer, layer + 2)) for pad in (scratchpad.since(layer), scratchpad))
        assert (kept and kept.area) == (all_ and all_.area)
