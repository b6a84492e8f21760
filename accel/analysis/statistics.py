"""What quantizing does to the weights and to the activations of one layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accel.analysis.decibels import decibels
from accel.quantized.network import Quantization
from accel.quantizer.parameters import largest_weight

BINS = 128
"""Of the histograms."""
SMALL = 0.1
"""A common claim is that 99 % of all weights lie within this; it is measured, not assumed."""

OUTERMOST = 1e-3
"""Share of the values that count as outliers, in both tails together."""


@dataclass(frozen=True, eq=False)
class Histogram:
    """Counts of values in bins of equal width from `low` to `high`; what lies beyond is in the outermost bins."""

    low: float
    high: float
    counts: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class WeightStatistics:
    """Weights of one layer.

    Parameters
    ----------
    sqnr : float
        Signal to quantization noise in dB.
    clipped : float
        Share of the weights beyond the range of their integers, by more than half a step.
    dead_codes : float
        Share of the integers of the range that no weight has.
    spread : float
        Largest over smallest ``max|w|`` of the output channels that are not all zero.
    small : float
        Share of the weights within `SMALL` of zero.
    percentile_99 : float
        99 % of all ``|w|`` are at most this.
    low, high : float
        The smallest and the largest limit of the channels' symmetric ranges.
    bits : int
    scales : int
        1 for the whole layer, or one per channel.
    histogram : Histogram
    """

    sqnr: float
    clipped: float
    dead_codes: float
    spread: float
    small: float
    percentile_99: float
    low: float
    high: float
    bits: int
    scales: int
    histogram: Histogram


@dataclass(frozen=True, eq=False)
class ActivationStatistics:
    """A layer's result on the calibration samples.

    Parameters
    ----------
    sqnr : float
        In dB, of rounding and clipping the real values alone.
    sqnr_so_far : float
        In dB, of the quantized network's values there: the noise of all layers up to this one.
    clipped : float
        Share of the values beyond the range, by more than half a step.
    dead_codes : float
        Share of the 256 integers that no value has.
    core : float
        Share of the range that holds all but `OUTERMOST` of the values; the rest is there for outliers.
    spread : float
        Largest over smallest ``max|x|`` of the channels that are not all zero.
    mean_error : float
        Share of the noise so far that is a constant per channel, which a bias can take away.
    seen_low, seen_high, low, high : float
        Range of the values, and the range that was chosen.
    histogram : Histogram
    """

    sqnr: float
    sqnr_so_far: float
    clipped: float
    dead_codes: float
    core: float
    spread: float
    mean_error: float
    seen_low: float
    seen_high: float
    low: float
    high: float
    histogram: Histogram


def weight_statistics(weight: NDArray[np.float32], found: Quantization) -> WeightStatistics:
    """Statistics of weights, of any shape, and their integers."""
    assert found.integers is not None
    real = weight.astype(np.float64)
    bits = int(found.kind.removeprefix("int"))
    limit = largest_weight(bits)
    scales = found.along_axis(found.scale.astype(np.float64), weight.ndim)
    sizes = np.abs(real)
    rows = np.abs(np.moveaxis(real, found.axis, 0).reshape(weight.shape[found.axis], -1)).max(axis=1)
    largest = float(sizes.max()) or 1.0
    counts = np.histogram(real, BINS, (-largest, largest))[0]
    return WeightStatistics(
        sqnr=decibels(float(np.square(real).sum()), float(np.square(real - found.real).sum())),
        clipped=float((sizes > (limit + 0.5) * scales).mean()),
        dead_codes=1 - len(np.unique(found.integers)) / (2 * limit + 1),
        spread=spread(rows),
        small=float((sizes <= SMALL).mean()),
        percentile_99=float(np.percentile(sizes, 99)),
        low=float(found.scale.min()) * limit,
        high=float(found.scale.max()) * limit,
        bits=bits,
        scales=found.scale.size,
        histogram=Histogram(-largest, largest, counts),
    )


def spread(sizes: NDArray[np.float64]) -> float:
    """Largest over smallest of the sizes that are not zero; 1 if there are none."""
    alive = sizes[sizes > 0]
    return float(alive.max() / alive.min()) if alive.size else 1.0


class ActivationRecord:
    """Collects the statistics of one tensor, sample by sample, in constant memory.

    Parameters
    ----------
    found : Quantization
        The tensor's parameters.
    """

    def __init__(self, found: Quantization) -> None:
        self.scale, self.zero_point = found.parameters
        self.codes = np.zeros(256, np.int64)
        self.counts = np.zeros(2 * BINS, np.int64)
        self.signal = self.noise = self.noise_so_far = 0.0
        self.clipped = self.seen = self.samples = 0
        self.low, self.high = np.inf, -np.inf
        self.sizes = np.zeros(1)
        self.errors = np.zeros(1)
        self.per_channel = 0

    def add(self, real: NDArray[Any], quantized: NDArray[Any]) -> None:
        """Take one sample into account: values of the float network and of the quantized one."""
        steps = real.astype(np.float64) / self.scale + self.zero_point
        codes = np.clip(np.rint(steps), -128, 127)
        error = quantized.astype(np.float64) - real
        self.signal += float(np.square(real, dtype=np.float64).sum())
        self.noise += float(np.square((codes - steps) * self.scale).sum())
        self.noise_so_far += float(np.square(error).sum())
        self.codes += np.bincount((codes.reshape(-1) + 128).astype(np.int64), minlength=256)
        beyond = np.clip(np.floor((steps + 256) / 2), 0, 2 * BINS - 1).astype(np.int64)
        self.counts += np.bincount(beyond.reshape(-1), minlength=2 * BINS)
        self.clipped += int(np.count_nonzero((steps < -128.5) | (steps > 127.5)))
        self.low, self.high = min(self.low, float(real.min())), max(self.high, float(real.max()))
        self.seen += real.size
        self.samples += 1
        self.sizes = np.maximum(self.sizes, _by_channel(np.abs(real)).max(axis=1))
        self.errors = self.errors + _by_channel(error).sum(axis=1)
        self.per_channel += real.size // len(self.errors)

    def rounded(self, real: NDArray[Any]) -> NDArray[np.float64]:
        """Real values as their integers stand for them."""
        codes = np.clip(np.rint(real.astype(np.float64) / self.scale) + self.zero_point, -128, 127)
        return np.asarray((codes - self.zero_point) * self.scale)

    def _core(self) -> float:
        """The share of the range between the values that cut equal tails off."""
        below = np.cumsum(self.codes) / max(self.seen, 1)
        first, last = np.searchsorted(below, (OUTERMOST / 2, 1 - OUTERMOST / 2))
        return float(last - first + 1) / len(self.codes)

    def statistics(self) -> ActivationStatistics:
        """What all samples gave."""
        constant = float(np.square(self.errors).sum() / max(self.per_channel, 1))
        center = (0 - self.zero_point) * self.scale
        return ActivationStatistics(
            sqnr=decibels(self.signal, self.noise),
            sqnr_so_far=decibels(self.signal, self.noise_so_far),
            clipped=self.clipped / max(self.seen, 1),
            dead_codes=float((self.codes == 0).mean()),
            core=self._core(),
            spread=spread(self.sizes),
            mean_error=min(constant / self.noise_so_far, 1.0) if self.noise_so_far else 0.0,
            seen_low=self.low,
            seen_high=self.high,
            low=(-128 - self.zero_point) * self.scale,
            high=(127 - self.zero_point) * self.scale,
            histogram=Histogram(center - 256 * self.scale, center + 256 * self.scale, self.counts),
        )


def _by_channel(values: NDArray[Any]) -> NDArray[np.float64]:
    """Values as (channels, everything else): axis 1 holds the channels, the only axis there is otherwise."""
    if values.ndim < 2:
        return values.reshape(1, -1).astype(np.float64)
    return np.moveaxis(values, 1, 0).reshape(values.shape[1], -1).astype(np.float64)
