"""Ranges from a histogram: percentile, Kullback-Leibler divergence, least square error."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from accel.quantizer.histogram import MANTISSA_BITS, Histogram

Range = tuple[float, float]
FloatArray = NDArray[np.float64]
KL_BINS, KL_LEVELS = 2048, 128
KL_FLOOR = 1e-4
"""Probability of a bin that the quantized distribution does not have."""
KL_ZOOMS = 12
STEPS, SYMMETRIC_STEPS = 255, 254
"""Steps between the ends of an affine and of a symmetric range."""
CANDIDATES_PER_OCTAVE = 64
TURNS = 4


def percentile_range(histogram: Histogram, percentile: float) -> Range:
    """The range that holds a percentage of all values, the rest cut off in equal parts at both ends.

    Notes
    -----
    Values count as spread evenly over their bin; the range never exceeds the values seen.
    """
    edges = histogram.edges
    places = np.concatenate([-edges[::-1], edges])
    counts = np.concatenate([histogram.counts[1, ::-1], [histogram.zeros], histogram.counts[0]])
    below = np.concatenate([[0], np.cumsum(counts)])
    tail = (100 - percentile) / 200 * below[-1]
    last = int(np.searchsorted(below, tail, side="right")) - 1
    first = int(np.searchsorted(below, below[-1] - tail, side="left"))
    low = places[last] + _share(tail - below[last], counts, last) * (places[last + 1] - places[last])
    high = places[first] - _share(below[first] - below[-1] + tail, counts, first - 1) * (
        places[first] - places[first - 1]
    )
    return max(float(low), histogram.low), min(float(high), histogram.high)


def _share(count: float, counts: NDArray[np.int64], place: int) -> float:
    return float(count) / max(int(counts[place]), 1)


def kl_range(histogram: Histogram) -> Range:
    """The range ``[-t, t]``, within the values seen, whose distribution of magnitudes loses least information.

    Notes
    -----
    For every ``i`` from 128 to 2048: P is the first ``i`` of 2048 bins of magnitudes, those beyond added to the last
    one; Q is the same without those beyond, merged into 128 levels and spread evenly over the bins of P that are not
    empty. ``t = (i + 0.5) * width`` for the ``i`` of the least divergence of P from Q (Migacz, "8-bit inference with
    TensorRT", GTC 2017). Zeros, which every range holds exactly, do not count. Where the least threshold wins, the
    2,048 bins were too wide: they are made anew, of the values within it.
    """
    limit = max(-histogram.low, histogram.high)
    for _ in range(KL_ZOOMS):
        counts, beyond = _even_bins(histogram, limit)
        chosen = _kl_index(counts, beyond)
        limit = min((chosen + 0.5) * limit / KL_BINS, limit)
        if chosen > KL_LEVELS:
            break
    return max(-limit, histogram.low), min(limit, histogram.high)


def _even_bins(histogram: Histogram, limit: float) -> tuple[FloatArray, float]:
    """Counts of magnitudes in `KL_BINS` bins of equal width up to `limit`, and the count beyond it."""
    below = np.concatenate([[0], np.cumsum(histogram.counts.sum(axis=0))])
    at = np.interp(np.linspace(0, limit, KL_BINS + 1), histogram.edges, below)
    at = np.rint(at)
    at[-1] = below[-1] if limit >= max(-histogram.low, histogram.high) else at[-1]
    return np.diff(at), float(below[-1] - at[-1])


def _kl_index(counts: FloatArray, beyond: float) -> int:
    """The number of bins, from `KL_LEVELS` to all, whose merging into levels diverges least.

    Notes
    -----
    The levels' width ``m = i // 128`` has 16 values only. For each, all levels but the last are the same for every
    ``i``, and the last grows by a bin at a time: prefix sums give all divergences at once.
    """
    total = counts.sum() + beyond
    if total == 0:
        return KL_BINS
    prefix = np.concatenate([[0], np.cumsum(counts)])
    filled = np.concatenate([[0], np.cumsum(counts > 0)])
    weighted = np.concatenate([[0], np.cumsum(_x_log_x(counts))])
    results = np.full(KL_BINS + 1, np.inf)
    for width in range(1, KL_BINS // KL_LEVELS + 1):
        i = np.arange(width * KL_LEVELS, min((width + 1) * KL_LEVELS, KL_BINS + 1))
        edges = np.arange(KL_LEVELS) * width
        sums, sizes = np.diff(prefix[edges]), np.diff(filled[edges])
        merged = _x_log_x(sums) - sums * np.log(np.maximum(sizes, 1))
        last = prefix[i] - prefix[edges[-1]]
        outside = total - prefix[i]
        size = filled[i] - filled[edges[-1]] + ((counts[i - 1] == 0) & (outside > 0))
        inside = prefix[i]
        level = np.maximum(last / np.maximum(size, 1), KL_FLOOR * np.maximum(inside, 1))
        top = counts[i - 1] + outside
        p_log_p = weighted[i - 1] + _x_log_x(top)
        p_log_q = merged.sum() + (last - counts[i - 1] + top) * np.log(level)
        results[i] = (p_log_p - p_log_q) / total + np.log(np.maximum(inside, 1) / total)
    return int(np.argmin(results[KL_LEVELS:])) + KL_LEVELS


def _x_log_x(x: FloatArray) -> FloatArray:
    return np.asarray(x * np.log(np.maximum(x, 1e-300)))


def mse_range(histogram: Histogram, *, symmetric: bool) -> Range:
    """The range of the least square error: of rounding inside it, and of clipping outside."""
    edges = histogram.edges[:: 2**MANTISSA_BITS // CANDIDATES_PER_OCTAVE]
    largest = (max(-histogram.low, 0.0), max(histogram.high, 0.0))
    rounding = Rounding(histogram)
    if symmetric:
        ends = np.append(edges[edges < max(largest)], max(largest))
        cost = sum((clipping(histogram, side, ends) for side in (0, 1)), rounding(2 * ends / SYMMETRIC_STEPS))
        limit = float(ends[np.argmin(cost)])
        return max(-limit, histogram.low), min(limit, histogram.high)
    candidates = [np.append(edges[edges < most], most) for most in largest]
    costs = [clipping(histogram, side, ends) for side, ends in zip((1, 0), candidates, strict=True)]
    return best_ends(candidates, costs, rounding)


def best_ends(ends: Sequence[FloatArray], costs: Sequence[FloatArray], rounding: Rounding) -> Range:
    """The affine range of the least cost.

    Parameters
    ----------
    ends : sequence of two ndarrays
        Ascending magnitudes to choose the lower and the upper end from.
    costs : sequence of two ndarrays
        Square error of clipping at each.
    rounding : Rounding

    Notes
    -----
    The ends take turns: each is the best of all candidates for the other, until none moves.
    """
    chosen = [float(candidates[-1]) for candidates in ends]
    for _ in range(TURNS):
        before = list(chosen)
        for side in (1, 0):
            total = costs[side] + rounding((ends[side] + chosen[1 - side]) / STEPS)
            chosen[side] = float(ends[side][np.argmin(total)])
        if before == chosen:
            break
    return -chosen[0], chosen[1]


class Rounding:
    """The square error of rounding all values of a histogram to steps, as a function of the steps' size.

    Notes
    -----
    A step of ``s`` costs ``s**2 / 12``, and the square of the value below ``s / 2``.
    """

    def __init__(self, histogram: Histogram) -> None:
        self.edges, first = histogram.edges, histogram.first_counted
        counts = histogram.counts[:, first:].sum(axis=0).astype(np.float64)
        self.below, self.squares = np.zeros(len(self.edges)), np.zeros(len(self.edges))
        np.cumsum(counts, out=self.below[first + 1 :])
        np.cumsum(counts * histogram.centers[first:] ** 2, out=self.squares[first + 1 :])

    def __call__(self, step: FloatArray) -> FloatArray:
        """Square errors for steps of these sizes."""
        place = np.minimum(np.searchsorted(self.edges, step / 2), len(self.below) - 1)
        return np.asarray(self.squares[place] + step**2 / 12 * (self.below[-1] - self.below[place]))


def clipping(histogram: Histogram, side: int, ends: FloatArray) -> FloatArray:
    """The square error of clipping the magnitudes of one side (0: positive, 1: negative) to each of `ends`."""
    first = histogram.first_counted
    counts, centers = histogram.counts[side, first:].astype(np.float64), histogram.centers[first:]
    moments = [np.append(np.cumsum(part[::-1])[::-1], 0) for part in (counts, counts * centers, counts * centers**2)]
    place = np.clip(np.searchsorted(histogram.edges, ends) - first, 0, len(counts))
    none, one, two = (moment[place] for moment in moments)
    largest = -histogram.low if side else histogram.high
    return np.where(ends < largest, np.maximum(two - 2 * ends * one + ends**2 * none, 0), 0)
