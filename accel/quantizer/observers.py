"""Observers: what range of values a tensor has, measured sample after sample in constant memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Range = tuple[float, float]

HISTOGRAM_BINS = 2**13


class Observer(Protocol):
    """Sees the values of one tensor, sample after sample, in constant memory."""

    def update(self, values: NDArray[np.float32]) -> None:
        """Take the values of one sample into account."""

    def range(self) -> Range:
        """Lower and upper limit to represent."""


class MinMaxObserver:
    """The smallest and largest value seen."""

    def __init__(self) -> None:
        self.low, self.high = np.inf, -np.inf

    def update(self, values: NDArray[np.float32]) -> None:
        """Widen the range to `values`."""
        self.low = min(self.low, float(values.min()))
        self.high = max(self.high, float(values.max()))

    def range(self) -> Range:
        """The smallest and largest value."""
        return self.low, self.high


class PercentileObserver(MinMaxObserver):
    """The range that holds a percentage of all values, with the rest cut off in equal parts at both ends.

    Parameters
    ----------
    percentile : float
        In (50, 100].

    Notes
    -----
    A histogram over ``[-limit, limit]``; when a value lies outside, `limit` doubles and pairs of bins merge, so that
    counts stay exact. The resolution is ``2 * limit / HISTOGRAM_BINS``.
    """

    def __init__(self, percentile: float) -> None:
        super().__init__()
        self.tail = (100 - percentile) / 200
        self.limit = 0.0
        self.counts = np.zeros(HISTOGRAM_BINS, dtype=np.int64)

    def update(self, values: NDArray[np.float32]) -> None:
        """Count `values`, widening the histogram first if needed."""
        super().update(values)
        largest = float(np.abs(values).max())
        if self.limit == 0:
            self.limit = largest
        while self.limit < largest:
            self._double()
        if self.limit > 0:
            self.counts += np.histogram(values, HISTOGRAM_BINS, (-self.limit, self.limit))[0]
        else:
            self.counts[HISTOGRAM_BINS // 2] += values.size

    def range(self) -> Range:
        """Edges of the bins in which the tails end, never beyond the values seen."""
        cumulative = np.cumsum(self.counts)
        total = cumulative[-1]
        edges = np.linspace(-self.limit, self.limit, HISTOGRAM_BINS + 1)
        low = edges[np.searchsorted(cumulative, self.tail * total, side="right")]
        high = edges[np.searchsorted(cumulative, (1 - self.tail) * total, side="left") + 1]
        return max(float(low), self.low), min(float(high), self.high)

    def _double(self) -> None:
        pairs = self.counts.reshape(-1, 2).sum(axis=1)
        self.counts = np.pad(pairs, HISTOGRAM_BINS // 4)
        self.limit *= 2


OBSERVERS: dict[str, Callable[[float], Observer]] = {
    "minmax": lambda percentile: MinMaxObserver(),
    "percentile": PercentileObserver,
}
"""Observers by the name of their calibrator; each is made from the option `percentile`, which it may ignore."""


def make_observer(calibrator: str, percentile: float) -> Observer:
    """A new observer of `OBSERVERS`."""
    return OBSERVERS[calibrator](percentile)
