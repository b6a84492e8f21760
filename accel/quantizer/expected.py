"""The range of the least error that is to be expected on samples that the calibration has not seen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from accel.quantizer.histogram import Histogram
from accel.quantizer.thresholds import Range, Rounding, best_ends, clipping

FloatArray = NDArray[np.float64]
EULER = 0.5772156649015329
WIDEST = 2.0
"""Candidates reach to this multiple of the largest value seen."""
SMALLEST = 0.3
CANDIDATES = 100


@dataclass
class Extremes:
    """Mean and spread of one number per sample, without keeping the numbers (Welford 1962)."""

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0

    def update(self, values: NDArray[np.float32]) -> None:
        """Take the numbers of some samples into account."""
        for value in values.tolist():
            self.count += 1
            step = value - self.mean
            self.mean += step / self.count
            self.squares += step * (value - self.mean)

    def merge(self, other: Extremes) -> None:
        """Take the numbers that another one has seen into account (Chan, Golub and LeVeque 1983)."""
        count, step = self.count + other.count, other.mean - self.mean
        if other.count:
            self.squares += other.squares + step**2 * self.count * other.count / count
            self.mean += step * other.count / count
        self.count = count

    @property
    def deviation(self) -> float:
        """Standard deviation of the next number about the mean of those seen; 0 for one sample.

        Notes
        -----
        Mean and deviation of a few numbers are uncertain themselves: the next one follows Student's t distribution of
        ``n - 1`` degrees of freedom, whose variance is ``(n - 1) / (n - 3)``. Fewer than 4
        numbers count as having that of 4.
        """
        return float((self.squares / max(self.count - 3, 1) * (1 + 1 / max(self.count, 1))) ** 0.5)


def expected_range(histogram: Histogram, low: Extremes, high: Extremes, *, symmetric: bool) -> Range:
    """The range that costs least: rounding inside it, and clipping beyond it on samples that are still to come.

    Parameters
    ----------
    histogram : Histogram
        Of all values.
    low, high : Extremes
        Largest magnitude of the negative and of the positive values of each sample.
    symmetric : bool
        Both ends have the same magnitude.

    Notes
    -----
    A few samples do not show the largest values that will come: an output of ten numbers was seen 160 times in 16
    samples. The largest value of a sample follows a Gumbel distribution; its location ``m`` and scale ``b`` follow from
    mean and spread of those seen (Gumbel 1958, method of moments). With a tail as that of a normal distribution, a
    sample has ``exp(-d / b * (1 + d / (2 m)))`` values beyond ``m + d``, whose mean square beyond it is
    ``2 (b m / (m + d))**2``. The cost of clipping at an end is the larger of that and of what the histogram shows.
    """
    samples = max(high.count, 1)
    rounding = Rounding(histogram)
    ends = [_candidates(largest) for largest in (max(-histogram.low, 0.0), max(histogram.high, 0.0))]
    costs = [
        np.maximum(clipping(histogram, side, end), samples * _unseen(end, extremes))
        for side, end, extremes in ((1, ends[0], low), (0, ends[1], high))
    ]
    if symmetric:
        both = _candidates(max(-histogram.low, histogram.high, 0.0))
        cost = sum(
            (np.interp(both, end, cost, right=float(cost[-1])) for end, cost in zip(ends, costs, strict=True)),
            np.zeros(len(both)),
        )
        limit = float(both[np.argmin(cost + rounding(2 * both / 254))])
        return -limit, limit
    return best_ends(ends, costs, rounding)


def _candidates(largest: float) -> FloatArray:
    if largest == 0:
        return np.zeros(1)
    return largest * np.concatenate([np.linspace(SMALLEST, 1, CANDIDATES), np.linspace(1, WIDEST, CANDIDATES)[1:]])


def _unseen(ends: FloatArray, extremes: Extremes) -> FloatArray:
    """Square error of clipping a sample at each of `ends`, to be expected from the extremes of others."""
    scale = extremes.deviation * 6**0.5 / np.pi
    if scale == 0:
        return np.zeros(len(ends))
    location = extremes.mean - EULER * scale
    center = max(location, scale)
    beyond = ends - location
    outside = np.maximum(beyond, 0)
    count = np.exp(np.clip(-beyond / scale * (1 + outside / (2 * center)), -700, 20))
    return np.asarray(2 * (scale * center / (center + outside)) ** 2 * count)
