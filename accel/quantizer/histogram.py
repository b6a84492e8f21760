"""A histogram of real numbers of any size in constant memory: the first bits of a float32 are its bin."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

MANTISSA_BITS = 9
OCTAVES = 40
"""Powers of two below the largest magnitude that are told apart; smaller magnitudes count as zero."""
BINS = OCTAVES << MANTISSA_BITS
_SHIFT = 23 - MANTISSA_BITS
_MAGNITUDE = np.uint32(0x7FFFFFFF)
_BLOCK = 2**19
_SIGN = 1 << (31 - _SHIFT)
"""Where the bins of negative numbers begin, if sign, exponent and mantissa count as one number."""


@lru_cache(8)
def _places(first: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Edges and centers of the bins from `first` on, which every rule reads several times."""
    bits = np.arange(first, first + BINS + 1, dtype=np.int64) << _SHIFT
    with np.errstate(over="ignore"):
        edges = np.nan_to_num(bits.astype(np.uint32).view(np.float32).astype(np.float64), posinf=2.0**128)
    centers = (edges[1:] + edges[:-1]) / 2
    edges.flags.writeable = centers.flags.writeable = False
    return edges, centers


class Histogram:
    """Counts of positive and negative magnitudes in bins of equal relative width, 2**-9 of their power of two.

    Notes
    -----
    A bin's number is the exponent and the first bits of the mantissa, so that an outlier widens no bin: it only moves
    the window of `OCTAVES` powers of two, below which magnitudes become zeros. Counts stay exact.
    """

    def __init__(self) -> None:
        self.low, self.high = np.inf, -np.inf
        self.zeros = 0
        self.counts = np.zeros((2, BINS), dtype=np.int64)
        self._first = 1

    def update(self, values: NDArray[np.float32]) -> None:
        """Count finite values."""
        flat = np.ascontiguousarray(values, dtype=np.float32).reshape(-1)
        low, high = float(flat.min()), float(flat.max())
        self.low, self.high = min(self.low, low), max(self.high, high)
        last = int(np.array(max(-low, high), np.float32).view(np.uint32) & _MAGNITUDE) >> _SHIFT
        self._move(max(last + 1 - BINS, 1) - self._first)
        for start in range(0, flat.size, _BLOCK):
            self._count(flat[start : start + _BLOCK])

    def merge(self, other: Histogram) -> None:
        """Count what another histogram has counted."""
        self.low, self.high = min(self.low, other.low), max(self.high, other.high)
        self._move(other._first - self._first)
        lost = self._first - other._first
        self.zeros += other.zeros + int(other.counts[:, :lost].sum())
        self.counts += np.pad(other.counts[:, lost:], ((0, 0), (0, min(lost, BINS))))

    @property
    def total(self) -> int:
        """Values seen."""
        return self.zeros + int(self.counts.sum())

    @property
    def first_counted(self) -> int:
        """The lowest bin that holds a value; the highest one if none does."""
        filled = self.counts.any(axis=0)
        return int(filled.argmax()) if filled.any() else BINS - 1

    @property
    def edges(self) -> NDArray[np.float64]:
        """Lower edge of every bin, and the upper edge of the last: magnitudes, read-only."""
        return _places(self._first)[0]

    @property
    def centers(self) -> NDArray[np.float64]:
        """Middle of every bin, read-only."""
        return _places(self._first)[1]

    def _move(self, steps: int) -> None:
        """Move the window up by so many bins; never down."""
        if steps > 0:
            lost = min(steps, BINS)
            self.zeros += int(self.counts[:, :lost].sum())
            self.counts = np.pad(self.counts[:, lost:], ((0, 0), (0, lost)))
            self._first += steps

    def _count(self, flat: NDArray[np.float32]) -> None:
        found = np.bincount(flat.view(np.uint32) >> np.uint32(_SHIFT))  # up to the largest pattern of bits
        for side, part in enumerate((found[:_SIGN], found[_SIGN:])):
            self.zeros += int(part[: self._first].sum())
            inside = part[self._first : self._first + BINS]
            if inside.any():  # memory that nothing writes to costs nothing
                self.counts[side, : len(inside)] += inside
