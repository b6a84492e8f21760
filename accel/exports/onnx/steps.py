"""Movements as the fewest Transpose and Reshape steps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from accel.network.array_layout import ArrayLayout
from accel.network.windows import Shape

TO_CHANNELS_FIRST, TO_CHANNELS_LAST = (0, 3, 1, 2), (0, 2, 3, 1)
_LARGEST_PROBE = 2**22
"""Elements up to which a chain of steps is tried on an array to see whether it moves anything."""


class Step(NamedTuple):
    """One movement: a permutation of the axes ("Transpose"), or another shape ("Reshape")."""

    kind: str
    numbers: tuple[int, ...]


def transpose(permutation: Sequence[int]) -> Step:
    """Output axis i is input axis ``permutation[i]``."""
    return Step("Transpose", tuple(permutation))


def reshape(shape: Shape) -> Step:
    """The same elements in row-major order."""
    return Step("Reshape", tuple(shape))


def after(step: Step, shape: Shape) -> Shape:
    """The shape behind a step."""
    return step.numbers if step.kind == "Reshape" else tuple(shape[axis] for axis in step.numbers)


def to_graph(layout: ArrayLayout, shape: Shape) -> list[Step]:
    """From an array of a layout to the graph's tensor of `shape`."""
    return [transpose(layout.order), reshape(shape)]


def from_graph(layout: ArrayLayout) -> list[Step]:
    """From the graph's tensor to an array of a layout."""
    stored = tuple(layout.shape[axis] for axis in layout.order)
    return [reshape(stored), transpose([int(axis) for axis in np.argsort(layout.order)])]


def shortened(shape: Shape, steps: Sequence[Step]) -> list[Step]:
    """The same movement of a tensor of `shape` in fewer steps; none if neither shape nor order change."""
    final = shape
    for step in steps:
        final = after(step, final)
    steps = _moving(shape, steps)
    if len(steps) < 2:
        return steps
    if _moves_nothing(shape, steps):
        return [] if final == shape else [reshape(final)]
    result: list[Step] = []
    current = shape
    for step in steps:
        if step.kind == "Transpose" and _keeps_order(current, step.numbers):
            step = reshape(after(step, current))
        before = result[-1] if result else None
        if before is not None and before.kind == step.kind:
            result.pop()
            if step.kind == "Transpose":
                step = transpose([before.numbers[axis] for axis in step.numbers])
        result.append(step)
        current = after(step, _behind(shape, result[:-1]))
        if current == _behind(shape, result[:-1]) and step.kind == "Reshape":
            result.pop()
    return result


def _moving(shape: Shape, steps: Sequence[Step]) -> list[Step]:
    """The steps that change something."""
    result = []
    for step in steps:
        same = step.numbers == (shape if step.kind == "Reshape" else tuple(range(len(shape))))
        shape = after(step, shape)
        result += [] if same else [step]
    return result


def _behind(shape: Shape, steps: Sequence[Step]) -> Shape:
    for step in steps:
        shape = after(step, shape)
    return shape


def _keeps_order(shape: Shape, permutation: Sequence[int]) -> bool:
    """Whether a permutation moves axes of size 1 only."""
    moved = [axis for axis in permutation if shape[axis] > 1]
    return moved == sorted(moved)


def _moves_nothing(shape: Shape, steps: Sequence[Step]) -> bool:
    """Whether the elements stay in their order."""
    if math.prod(shape) > _LARGEST_PROBE:
        return False
    numbers = np.arange(math.prod(shape)).reshape(shape)
    for step in steps:
        numbers = numbers.transpose(step.numbers) if step.kind == "Transpose" else numbers.reshape(step.numbers)
    return bool(np.array_equal(numbers.reshape(-1), np.arange(numbers.size)))
