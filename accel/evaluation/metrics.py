"""How good a network's outputs are: shares of right answers, or a function of the user's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from accel.errors import InputError

Outputs: TypeAlias = Mapping[str, NDArray[Any]]
"""Real outputs by name, samples first, in the model's shapes."""
Metric: TypeAlias = Callable[[Any, NDArray[Any]], float]
"""From the outputs (one array if the model has one output, otherwise arrays by name) and the labels to a number of
which more is better."""


def top_k(k: int) -> Metric:
    """The share of samples whose label is among the k largest values of the only output.

    Notes
    -----
    Equal values count for the class with the smaller number, as `argmax` takes them.
    """

    def metric(outputs: NDArray[Any], labels: NDArray[Any]) -> float:
        order = np.argsort(-outputs, axis=1, kind="stable")
        return float((order[:, :k] == labels[:, None]).any(axis=1).mean())

    return metric


def shares(outputs: Outputs, labels: NDArray[Any], top: int) -> dict[str, float]:
    """Top-1 and top-k of a classifier.

    Raises
    ------
    InputError
        The model has several outputs, or labels are no numbers of its classes, one for each sample.
    """
    if len(outputs) != 1:
        raise InputError(f"top-1 must have a model with one output, got {', '.join(outputs)}; give a metric function")
    scores = next(iter(outputs.values()))
    scores = scores.reshape(len(scores), -1)
    classes = scores.shape[1]
    if labels.shape != scores.shape[:1] or labels.dtype.kind not in "iu":
        raise InputError(
            f"labels must be integers of shape ({len(scores)},), one for each sample, got {labels.dtype} {labels.shape}"
        )
    if labels.min() < 0 or labels.max() >= classes:
        raise InputError(f"labels must lie in [0, {classes - 1}], got {labels.min()} to {labels.max()}")
    if top < 1:
        raise InputError(f"top must be at least 1, got {top!r}")
    return {f"top-{k}": top_k(k)(scores, labels) for k in dict.fromkeys((1, min(top, classes)))}


def measured(outputs: Outputs, labels: NDArray[Any] | None, metric: Metric | None, top: int) -> dict[str, float]:
    """The figures of one network: those of the user's function, or `shares`; none without labels."""
    if labels is None:
        return {}
    if metric is None:
        return shares(outputs, np.asarray(labels), top)
    given = next(iter(outputs.values())) if len(outputs) == 1 else dict(outputs)
    return {getattr(metric, "__name__", "metric"): float(metric(given, labels))}
