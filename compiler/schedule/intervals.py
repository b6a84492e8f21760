"""Sets of words as intervals: union, sum, overlap, and the banks that hold them."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Intervals: TypeAlias = npt.NDArray[np.int64]
"""Half-open intervals [start, stop), shape (n, 2), sorted, disjoint and not adjacent."""


def merge(intervals: npt.NDArray[np.int64]) -> Intervals:
    """Sort intervals of shape (n, 2) and unite those that overlap or touch."""
    if len(intervals) < 2:
        return intervals
    starts, stops = intervals[np.argsort(intervals[:, 0], kind="stable")].T
    reach = np.maximum.accumulate(stops)
    gaps = np.flatnonzero(starts[1:] > reach[:-1])
    merged = np.empty((len(gaps) + 1, 2), np.int64)
    merged[0, 0], merged[1:, 0] = starts[0], starts[gaps + 1]
    merged[:-1, 1], merged[-1, 1] = reach[gaps], reach[-1]
    return merged


def spread(intervals: Intervals, offsets: npt.NDArray[np.int64]) -> Intervals:
    """Union of `intervals` at all `offsets`, of which there is at least one."""
    if len(offsets) == 1:
        return np.asarray(intervals + offsets)
    if len(intervals) == 1 and np.abs(np.diff(offsets)).max() <= intervals[0, 1] - intervals[0, 0]:
        return np.asarray(intervals + np.array([offsets.min(), offsets.max()]))
    return merge((intervals[None] + offsets[:, None, None]).reshape(-1, 2))


def overlap(a: Intervals, b: Intervals) -> tuple[int, int] | None:
    """First common interval of two sets of disjoint ascending intervals."""
    if not len(a) or not len(b):
        return None
    partner = np.minimum(np.searchsorted(b[:, 1], a[:, 0], side="right"), len(b) - 1)
    start, stop = np.maximum(a[:, 0], b[partner, 0]), np.minimum(a[:, 1], b[partner, 1])
    common = start < stop
    at = int(np.argmax(common))
    return (int(start[at]), int(stop[at])) if common[at] else None


def banks(intervals: Intervals, bank_words: int) -> int:
    """Bit b: some interval touches bank b."""
    first, last = intervals[:, 0] // bank_words, (intervals[:, 1] - 1) // bank_words
    if len(intervals) == 1:
        return (2 << int(last[-1])) - (1 << int(first[0]))
    length = int(last[-1]) + 2
    used = np.cumsum(np.bincount(first, minlength=length) - np.bincount(last + 1, minlength=length))
    return sum(1 << int(bank) for bank in np.flatnonzero(used))


def expand(intervals: Intervals) -> npt.NDArray[np.int64]:
    """All words of the intervals, ascending."""
    lengths = intervals[:, 1] - intervals[:, 0]
    ends = np.cumsum(lengths)
    words: npt.NDArray[np.int64] = np.arange(ends[-1]) + np.repeat(intervals[:, 0] - (ends - lengths), lengths)
    return words
