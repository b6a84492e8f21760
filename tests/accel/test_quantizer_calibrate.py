"""Calibration observers against NumPy on all values at once."""

from __future__ import annotations

import numpy as np
import pytest

from accel.quantizer.observers import HISTOGRAM_BINS, MinMaxObserver, PercentileObserver


def test_minmax_sees_everything() -> None:
    observer = MinMaxObserver()
    for value in (3.0, -2.0, 1.0):
        observer.update(np.array([value, 0.5], dtype=np.float32))
    assert observer.range() == (-2.0, 3.0)


@pytest.mark.parametrize("percentile", [99.0, 99.9, 99.99])
def test_percentile_cuts_equal_tails_while_the_histogram_grows(percentile: float) -> None:
    rng = np.random.default_rng(1)
    batches = [rng.normal(size=5000).astype(np.float32) * 1.5**step for step in range(12)]
    observer = PercentileObserver(percentile)
    for batch in batches:
        observer.update(batch)
    assert observer.counts.shape == (HISTOGRAM_BINS,)
    assert observer.counts.sum() == 60_000
    tail = (100 - percentile) / 2
    expected = np.percentile(np.concatenate(batches), [tail, 100 - tail], method="inverted_cdf")
    assert np.allclose(observer.range(), expected, atol=2 * observer.limit / HISTOGRAM_BINS)


def test_percentile_ignores_a_lonely_outlier() -> None:
    rng = np.random.default_rng(1)
    observer = PercentileObserver(99.99)
    observer.update(rng.normal(size=100_000).astype(np.float32))
    observer.update(np.array([100.0], dtype=np.float32))
    low, high = observer.range()
    assert -5 < low < -3
    assert 3 < high < 5


def test_full_percentile_is_the_range() -> None:
    observer = PercentileObserver(100.0)
    for values in ([0.0, 0.0], [1.5, 0.25], [-3.75]):
        observer.update(np.array(values, dtype=np.float32))
    assert observer.range() == (-3.75, 1.5)


def test_constant_zero_has_an_empty_range() -> None:
    observer = PercentileObserver(99.9)
    observer.update(np.zeros(7, dtype=np.float32))
    assert observer.range() == (0.0, 0.0)
