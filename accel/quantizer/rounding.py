"""Learning whether each weight of one layer is rounded up or down (AdaRound's optimization)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float32]
GAMMA, ZETA = -0.1, 1.1
"""The rectified sigmoid reaches from GAMMA to ZETA before it is clipped to [0, 1] (Louizos et al. 2018)."""
BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8
"""Adam's usual constants (Kingma and Ba 2015)."""


class Schedule(NamedTuple):
    """How rounding is learned.

    Parameters
    ----------
    steps : int
        Steps of Adam for each layer.
    batch : int
        Rows of a layer's input for each step.
    travel : float
        How far all steps together may move a free variable: Adam's rate is ``travel / steps``.
    pull : float
        Weight of the term that pulls each decision to 0 or 1; 1 is the whole error of rounding to nearest, shared
        evenly by the weights.
    start, end : float
        Exponent of that term after the warm-up and at the end.
    warmup : float
        Share of the steps without that term.
    seed : int
        Of the rows that are drawn.
    """

    steps: int = 1000
    batch: int = 256
    travel: float = 10.0
    pull: float = 30.0
    start: float = 20.0
    end: float = 2.0
    warmup: float = 0.2
    seed: int = 0


class Problem(NamedTuple):
    """One layer: ``clip(rows @ weight.T + offset)`` is to come near `target` with integers times scales as weights.

    Parameters
    ----------
    weight : ndarray of float32, shape (groups, outputs, inputs)
    scale : ndarray of float32, shape (groups, outputs, 1)
    largest : int
        Integers lie in ``[-largest, largest]``.
    rows : ndarray of float32, shape (groups, rows, inputs)
    target : ndarray of float32, shape (groups, rows, outputs)
    offset : ndarray of float32, shape (groups, 1, outputs)
    low, high : float
        The clip.
    """

    weight: Matrix
    scale: Matrix
    largest: int
    rows: Matrix
    target: Matrix
    offset: Matrix
    low: float
    high: float


class Decisions:
    """How far up each weight is rounded, in [0, 1], as a function of free variables that Adam moves."""

    def __init__(self, start: Matrix) -> None:
        share = np.clip((start - GAMMA) / (ZETA - GAMMA), 1e-4, 1 - 1e-4)
        self.free = np.log(share / (1 - share)).astype(np.float32)
        self.first, self.second = np.zeros_like(self.free), np.zeros_like(self.free)
        self.count = 0

    def values(self) -> tuple[Matrix, Matrix]:
        """Decisions, and their derivatives by the free variables."""
        sigmoid = 1 / (1 + np.exp(-self.free))
        stretched = sigmoid * np.float32(ZETA - GAMMA) + np.float32(GAMMA)
        slope = sigmoid * (1 - sigmoid) * np.float32(ZETA - GAMMA)
        slope[(stretched <= 0) | (stretched >= 1)] = 0
        return np.clip(stretched, 0, 1), slope

    def move(self, gradient: Matrix, rate: float) -> None:
        """One step of Adam."""
        self.count += 1
        self.first += np.float32(1 - BETA1) * (gradient - self.first)
        self.second += np.float32(1 - BETA2) * (gradient * gradient - self.second)
        size = np.float32(rate / (1 - BETA1**self.count))
        correction = np.float32(1 / (1 - BETA2**self.count))
        self.free -= size * self.first / (np.sqrt(self.second * correction) + np.float32(EPSILON))


def learn_rounding(problem: Problem, schedule: Schedule) -> NDArray[np.int64]:
    """Integers of a layer's weights; those of rounding to nearest if they are better on all rows.

    Notes
    -----
    Minimises ``|clip(rows W'.T + offset) - target|**2 + pull * sum(1 - |2 h - 1|**beta)`` with
    ``W' = scale * clip(floor(W / scale) + h)``: Nagel et al. 2020, equations 21 to 25. The first term is divided by the
    error of rounding to nearest per weight, so that `pull` means the same in every layer.
    """
    steps = problem.weight / problem.scale
    down = np.floor(steps)
    decisions = Decisions(steps - down)
    nearest = np.clip(np.rint(steps), -problem.largest, problem.largest)
    error = _error(problem, nearest)
    if error == 0:
        return np.asarray(nearest, np.int64)
    unit = problem.weight.size * problem.rows.shape[1] / error
    batches = _batches(problem, schedule)
    for step in range(schedule.steps):
        up, slope = decisions.values()
        rows, target = batches[step % len(batches)]
        gradient = _gradient(problem, down + up, rows, target) * np.float32(unit / rows.shape[1])
        gradient += _pull(up, step / schedule.steps, schedule)
        decisions.move(gradient * slope, schedule.travel / schedule.steps)
    up, _ = decisions.values()
    learned = np.clip(down + (up >= 0.5), -problem.largest, problem.largest)
    best = learned if _error(problem, learned) < error else nearest
    return np.asarray(best, np.int64)


def _batches(problem: Problem, schedule: Schedule) -> list[tuple[Matrix, Matrix]]:
    """All rows with their targets, shuffled once and cut into batches, which are views."""
    order = np.random.default_rng(schedule.seed).permutation(problem.rows.shape[1])
    rows, target = problem.rows[:, order], problem.target[:, order]
    batch = min(schedule.batch, len(order))
    return [(rows[:, i : i + batch], target[:, i : i + batch]) for i in range(0, len(order) - batch + 1, batch)]


def _gradient(problem: Problem, integers: Matrix, rows: Matrix, target: Matrix) -> Matrix:
    """The derivative of the squared error on some rows by the integers."""
    inside = np.abs(integers) <= problem.largest
    sums = rows @ (np.clip(integers, -problem.largest, problem.largest) * problem.scale).transpose(0, 2, 1)
    sums += problem.offset
    error = np.clip(sums, problem.low, problem.high) - target
    error[(sums < problem.low) | (sums > problem.high)] = 0
    return np.asarray(2 * (error.transpose(0, 2, 1) @ rows) * problem.scale * inside)


def _pull(up: Matrix, progress: float, schedule: Schedule) -> Matrix:
    """The derivative of the term that pulls decisions to 0 or 1, whose exponent falls like a cosine."""
    if progress < schedule.warmup:
        return np.zeros_like(up)
    rest = (progress - schedule.warmup) / (1 - schedule.warmup)
    beta = schedule.end + 0.5 * (schedule.start - schedule.end) * (1 + np.cos(rest * np.pi))
    away = 2 * up - 1
    power = np.power(np.abs(away), np.float32(beta - 1))
    return np.asarray(np.float32(-2 * beta * schedule.pull) * power * np.sign(away))


def _error(problem: Problem, integers: NDArray[np.floating]) -> float:
    """The squared error on all rows."""
    weight = (integers * problem.scale).astype(np.float32)
    sums = np.clip(problem.rows @ weight.transpose(0, 2, 1) + problem.offset, problem.low, problem.high)
    return float(np.square(sums - problem.target, dtype=np.float64).sum())
