"""Rules that turn a layer's figures into advice; each is written here once, with its threshold."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from accel.analysis.statistics import ActivationStatistics, WeightStatistics

SUSPICIOUS = 3.0
"""A layer is suspicious if it alone makes this many times the noise of the average layer, or a rule fits that needs no
comparison."""
SPREAD = 10.0
"""Channels whose ranges differ by more lose over three of eight bits to a common scale."""
COARSE = 25.0
"""Weights below this many dB cost more than activations of 8 bits do."""
CORE = 0.5
"""If all but the outermost values need less of the range, a narrower one gains a bit for them."""
CLIPPED = 0.01
MEAN_ERROR = 0.3


class Case(NamedTuple):
    """What a rule looks at: a layer's statistics, and its noise over that of the average layer."""

    name: str
    weights: WeightStatistics | None
    activations: ActivationStatistics | None
    noise: float


class Rule(NamedTuple):
    """Advice, and the condition under which it fits."""

    fits: Callable[[Case], bool]
    advice: str


def _shared_scale(case: Case) -> bool:
    return case.weights is not None and case.weights.scales == 1 and case.weights.spread > SPREAD


def _coarse_weights(case: Case) -> bool:
    return case.weights is not None and case.weights.bits < 8 and case.weights.sqnr < COARSE


def _clips(case: Case) -> bool:
    return case.activations is not None and case.activations.clipped > CLIPPED


def _stretched(case: Case) -> bool:
    return case.noise > 1 and case.activations is not None and case.activations.core < CORE


def _shifted(case: Case) -> bool:
    return case.noise > 1 and case.activations is not None and case.activations.mean_error > MEAN_ERROR


def _uneven(case: Case) -> bool:
    return case.noise > SUSPICIOUS and case.activations is not None and case.activations.spread > 3 * SPREAD


RULES = (
    Rule(
        _shared_scale,
        "the channels' weights differ {weights.spread:.0f}-fold but share a scale: per_channel, or prepare = equalize",
    ),
    Rule(
        _coarse_weights,
        "weights of {weights.bits} bits have {weights.sqnr:.1f} dB: prepare = adaround, or 8 bits for this layer",
    ),
    Rule(
        _clips, "{activations.clipped:.1%} of the values are clipped: calibrate_method = minmax, or a higher percentile"
    ),
    Rule(
        _stretched,
        "outliers stretch the range: 99.9 % of the values lie in {activations.core:.0%} of it: calibrate_method = "
        "percentile",
    ),
    Rule(_shifted, "{activations.mean_error:.0%} of the noise is a constant per channel: prepare = bias_correction"),
    Rule(_uneven, "the channels' values differ {activations.spread:.0f}-fold: prepare = equalize"),
)
"""All rules, in the order in which their advice is printed."""
LAST_RESORT = "makes {noise:.1f} times the noise of the average layer: more bits, or nodes_to_exclude to keep it real"


def advice(case: Case) -> tuple[str, ...]:
    """What fits a layer: the rules that do, or the last resort if it is suspicious and none does."""
    found = [rule.advice for rule in RULES if rule.fits(case)]
    if not found and case.noise > SUSPICIOUS:
        found = [LAST_RESORT]
    return tuple(text.format(**case._asdict()) for text in found)
