"""Calibration observers against NumPy on all values at once."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from accel.quantizer.config import CALIBRATE_METHODS, LayerConfig
from accel.quantizer.histogram import BINS, MANTISSA_BITS, Histogram
from accel.quantizer.observers import OBSERVERS, Observer
from accel.quantizer.thresholds import KL_BINS, KL_LEVELS, kl_range, mse_range


def observed(method: str, batches: Iterable[Any], **settings: Any) -> tuple[float, float]:
    """The range after some samples, each given alone."""
    layer = LayerConfig(calibrate_method=method, **settings)
    observer: Observer = OBSERVERS[layer.calibrate_method](layer)
    for batch in batches:
        observer.update(np.asarray(batch, dtype=np.float32).reshape(1, -1))
    return observer.range()


def histogram_of(values: NDArray[Any]) -> Histogram:
    histogram = Histogram()
    histogram.update(values.astype(np.float32))
    return histogram


def test_every_method_has_an_observer() -> None:
    assert tuple(OBSERVERS) == CALIBRATE_METHODS
    assert LayerConfig(calibrate_method="entropy") == LayerConfig(calibrate_method="kl")


@pytest.mark.parametrize("method", CALIBRATE_METHODS)
def test_samples_may_come_alone_or_together(method: str) -> None:
    batch = np.random.default_rng(1).normal(size=(12, 500)).astype(np.float32)
    layer = LayerConfig(calibrate_method=method)
    together = OBSERVERS[layer.calibrate_method](layer)
    together.update(batch)
    assert observed(method, batch) == pytest.approx(together.range(), rel=1e-12)


@pytest.mark.parametrize("method", CALIBRATE_METHODS)
def test_constant_zero_has_an_empty_range(method: str) -> None:
    assert observed(method, [np.zeros(7), -np.zeros(7)]) == (0.0, 0.0)


def test_minmax_sees_everything() -> None:
    assert observed("minmax", ([3.0, 0.5], [-2.0, 0.5], [1.0, 0.5])) == (-2.0, 3.0)


def test_moving_average_is_the_mean_of_extremes() -> None:
    assert observed("moving_average", ([3.0, 0.5], [-2.0, 0.5], [2.0, -0.25])) == pytest.approx((-1.75 / 3, 5.5 / 3))


@pytest.mark.parametrize("percentile", [99.0, 99.9, 99.99])
def test_percentile_cuts_equal_tails_while_the_histogram_grows(percentile: float) -> None:
    rng = np.random.default_rng(1)
    batches = [rng.normal(size=5000).astype(np.float32) * 1.5**step for step in range(12)]
    tail = (100 - percentile) / 2
    expected = np.percentile(np.concatenate(batches), [tail, 100 - tail], method="inverted_cdf")
    assert np.allclose(observed("percentile", batches, percentile=percentile), expected, rtol=2.0**-MANTISSA_BITS)


def test_percentile_ignores_a_lonely_outlier() -> None:
    values = np.random.default_rng(1).normal(size=1_000_000)
    body = observed("percentile", [values])
    low, high = observed("percentile", [values, [1e6]])
    assert np.allclose((low, high), body, atol=0.02)
    assert 3.8 < high < 4.0


def test_full_percentile_is_the_range() -> None:
    assert observed("percentile", ([0.0, 0.0], [1.5, 0.25], [-3.75]), percentile=100.0) == (-3.75, 1.5)


def test_histogram_counts_every_value_and_moves_with_the_largest() -> None:
    rng = np.random.default_rng(1)
    histogram, seen = Histogram(), []
    for scale in (1e-30, 1.0, 1e30, 1e-6, 3e38):
        seen.append(np.clip(rng.normal(size=1000), -1, 1).astype(np.float32) * np.float32(scale))
        histogram.update(seen[-1])
    values = np.concatenate(seen)
    assert histogram.total == values.size == 5000
    assert histogram.counts.shape == (2, BINS)
    edges = histogram.edges
    inside = np.abs(values) >= edges[0]
    for side, chosen in enumerate((values > 0, values < 0)):
        counts, _ = np.histogram(np.abs(values[chosen & inside]).astype(np.float64), edges)
        assert np.array_equal(histogram.counts[side], counts)
    assert (histogram.low, histogram.high) == (values.min(), values.max())
    assert np.all(edges[1:] / edges[:-1] <= 1 + 2.0**-MANTISSA_BITS)


def divergences(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Bin by bin, as the page of quantization writes it."""
    total, results = counts.sum(), []
    for i in range(KL_LEVELS, KL_BINS + 1):
        p, width = counts[:i].copy(), i // KL_LEVELS
        p[-1] += counts[i:].sum()
        q = np.zeros(i)
        for level in range(KL_LEVELS):
            part = slice(level * width, (level + 1) * width if level < KL_LEVELS - 1 else i)
            full = p[part] > 0
            q[part] = np.where(full, counts[:i][part].sum() / max(full.sum(), 1), 0)
        full = p > 0
        q = np.maximum(q[full] / max(q.sum(), 1), 1e-4)
        results.append(np.sum(p[full] / total * np.log(p[full] / total / q)))
    return np.array(results)


@pytest.mark.parametrize("kind", ["normal", "laplace", "relu"])
def test_kl_is_the_least_of_all_thresholds(kind: str) -> None:
    rng = np.random.default_rng(1)
    values = (rng.laplace if kind == "laplace" else rng.normal)(size=8000)
    values = np.maximum(values, 0) if kind == "relu" else values
    magnitudes = np.abs(values[values != 0])
    counts, _ = np.histogram(magnitudes, KL_BINS, (0, magnitudes.max()))
    expected = divergences(counts.astype(np.float64))
    low, high = kl_range(histogram_of(values))
    index = round(max(-low, high) / magnitudes.max() * KL_BINS - 0.5) - KL_LEVELS
    assert expected[index] < expected.min() + 2e-3
    assert expected[index] < expected[0] / 10


@pytest.mark.parametrize("outlier", [100.0, 1e6])
def test_kl_clips_a_lonely_outlier(outlier: float) -> None:
    values = np.append(np.random.default_rng(1).normal(size=10_000), outlier)
    assert 2 < kl_range(histogram_of(values))[1] < 10


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("kind", ["laplace", "skewed", "relu"])
def test_mse_is_the_least_error_of_real_rounding(kind: str, symmetric: bool) -> None:
    """Its range costs hardly more than the best of a grid of ranges, measured by rounding the values themselves."""
    rng = np.random.default_rng(1)
    values = {
        "laplace": rng.laplace(size=200_000),
        "skewed": rng.gumbel(size=200_000),
        "relu": np.maximum(rng.laplace(size=200_000), 0),
    }[kind]

    def cost(low: float, high: float) -> float:
        scale = max(-low, high) / 127 if symmetric else (high - low) / 255
        rounded = np.rint(
            np.clip(values, -127 * scale if symmetric else low, 127 * scale if symmetric else high) / scale
        )
        return float(np.square(values - rounded * scale).sum())

    grid = np.linspace(0.3, 1, 15)
    best = min(cost(values.min() * a, values.max() * b) for a in grid for b in grid)
    found = cost(*mse_range(histogram_of(values), symmetric=symmetric))
    assert found < best * 1.02
    assert found < 0.9 * cost(values.min(), values.max())


def test_expected_range_is_wider_where_few_values_were_seen() -> None:
    """Outputs of ten numbers: the range of 16 samples costs others more than the expected one."""
    rng = np.random.default_rng(1)
    others = rng.normal(size=(4000, 10))

    def cost(low: float, high: float) -> float:
        scale = (high - low) / 255
        return float(np.square(others - np.rint(np.clip(others, low, high) / scale) * scale).sum())

    costs = []
    for seen in rng.normal(size=(8, 16, 10)):
        low, high = observed("expected", seen)
        costs.append((cost(low, high), cost(seen.min(), seen.max())))
    expected, minmax = np.mean(costs, axis=0)
    assert expected < minmax / 3


def test_expected_range_of_many_values_is_that_of_the_least_error() -> None:
    seen = np.random.default_rng(1).laplace(size=(16, 100_000))
    assert observed("expected", seen) == pytest.approx(observed("mse", seen), rel=0.15)


def test_one_sample_and_negative_values_have_an_expected_range() -> None:
    assert observed("expected", [[-3.0, -1.0]]) == (-3.0, 0.0)
    low, high = observed("expected", [[-3.0, 1.0]], activation_symmetric=True)
    assert -low == high
