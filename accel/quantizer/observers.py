"""Observers: what range of values a tensor has, measured sample after sample in constant memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from accel.quantizer.config import LayerConfig
from accel.quantizer.expected import Extremes, expected_range
from accel.quantizer.histogram import Histogram
from accel.quantizer.thresholds import Range, kl_range, mse_range, percentile_range

Rows = NDArray[np.float32]
"""Values of one tensor, shape (samples, values of a sample)."""


class Observer(Protocol):
    """Sees the values of one tensor, sample after sample, in constant memory."""

    def update(self, rows: Rows) -> None:
        """Take the finite values of some samples into account."""

    def range(self) -> Range:
        """Lower and upper limit to represent."""


class MinMaxObserver:
    """The smallest and largest value seen."""

    def __init__(self) -> None:
        self.low, self.high = np.inf, -np.inf

    def update(self, rows: Rows) -> None:
        """Widen the range to `rows`."""
        self.low, self.high = min(self.low, float(rows.min())), max(self.high, float(rows.max()))

    def range(self) -> Range:
        """The smallest and largest value."""
        return self.low, self.high


class MovingAverageObserver:
    """The mean, over samples, of the smallest and of the largest value of each."""

    def __init__(self) -> None:
        self.low, self.high = Extremes(), Extremes()

    def update(self, rows: Rows) -> None:
        """Move the means towards the extremes of `rows`."""
        self.low.update(rows.min(axis=1))
        self.high.update(rows.max(axis=1))

    def range(self) -> Range:
        """The two means."""
        return self.low.mean, self.high.mean


class HistogramObserver:
    """A range that is chosen from a histogram of all values."""

    def __init__(self, choose: Callable[[Histogram], Range]) -> None:
        self.histogram, self.choose = Histogram(), choose

    def update(self, rows: Rows) -> None:
        """Count the values."""
        self.histogram.update(rows)

    def range(self) -> Range:
        """The chosen range; it holds values that were seen only."""
        return self.choose(self.histogram)


class ExpectedObserver:
    """The range of the least error that is to be expected on other samples: `expected_range`."""

    def __init__(self, symmetric: bool) -> None:
        self.histogram, self.low, self.high, self.symmetric = Histogram(), Extremes(), Extremes(), symmetric

    def update(self, rows: Rows) -> None:
        """Count the values and note each sample's extremes."""
        self.histogram.update(rows)
        self.low.update(np.maximum(-rows.min(axis=1), 0))
        self.high.update(np.maximum(rows.max(axis=1), 0))

    def range(self) -> Range:
        """The chosen range; it may be wider than the values seen."""
        return expected_range(self.histogram, self.low, self.high, symmetric=self.symmetric)

    def merge(self, other: ExpectedObserver) -> None:
        """Take what another observer has seen into account."""
        self.histogram.merge(other.histogram)
        self.low.merge(other.low)
        self.high.merge(other.high)


class AutoObserver:
    """Every second sample apart, so that `choose` can measure each half's ranges on the other half."""

    def __init__(self, layer: LayerConfig) -> None:
        self.halves = [ExpectedObserver(layer.activation_symmetric) for _ in range(2)]
        self.layer, self.count = layer, 0

    def update(self, rows: Rows) -> None:
        """Give each sample to the half whose turn it is."""
        for half, observer in enumerate(self.halves):
            if len(part := rows[(half - self.count) % 2 :: 2]):
                observer.update(part)
        self.count += len(rows)

    def range(self, method: str = "expected", half: int | None = None) -> Range:
        """The range by one of `choose.METHODS`, of one half or of all samples."""
        seen = self._together() if half is None else self.halves[half]
        if method == "minmax":
            return seen.histogram.low, seen.histogram.high
        if method == "mse":
            return mse_range(seen.histogram, symmetric=self.layer.activation_symmetric)
        return seen.range() if method == "expected" else percentile_range(seen.histogram, self.layer.percentile)

    def _together(self) -> ExpectedObserver:
        result = ExpectedObserver(self.layer.activation_symmetric)
        for half in self.halves:
            result.merge(half)
        return result


OBSERVERS: dict[str, Callable[[LayerConfig], Observer]] = {
    "auto": AutoObserver,
    "expected": lambda layer: ExpectedObserver(layer.activation_symmetric),
    "minmax": lambda layer: MinMaxObserver(),
    "moving_average": lambda layer: MovingAverageObserver(),
    "percentile": lambda layer: HistogramObserver(lambda seen: percentile_range(seen, layer.percentile)),
    "kl": lambda layer: HistogramObserver(kl_range),
    "mse": lambda layer: HistogramObserver(lambda seen: mse_range(seen, symmetric=layer.activation_symmetric)),
}
"""Observers by the name of their method; each is made from the settings of the layer that writes the tensor."""
