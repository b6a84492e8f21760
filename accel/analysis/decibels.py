"""Signal to quantization noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

LIMIT = 200.0
"""Figures lie within this, so that they stay numbers where there is no noise at all."""


def decibels(signal: float, noise: float) -> float:
    """``10 log10(signal / noise)`` of powers, in [-LIMIT, LIMIT]."""
    if noise <= 0 or signal <= 0:
        return LIMIT if noise <= 0 else -LIMIT
    return float(np.clip(10 * np.log10(signal / noise), -LIMIT, LIMIT))


def sqnr(expected: Sequence[Mapping[str, NDArray[Any]]], found: Sequence[Mapping[str, NDArray[Any]]]) -> float:
    """Signal to quantization noise over all samples in dB, of the worst tensor.

    Parameters
    ----------
    expected, found : sequence of mapping of str to ndarray
        For each sample the same tensors, of float and of quantized values.
    """
    signals, noises = dict[str, float](), dict[str, float]()
    for reference, values in zip(expected, found, strict=True):
        for name, value in reference.items():
            exact = value.astype(np.float64)
            signals[name] = signals.get(name, 0.0) + float(np.square(exact).sum())
            noises[name] = noises.get(name, 0.0) + float(np.square(exact - values[name]).sum())
    return min((decibels(signals[name], noises[name]) for name in signals), default=LIMIT)
