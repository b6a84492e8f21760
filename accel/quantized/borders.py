"""Means over the part of a window that lies inside the image: one pool for each run of windows of one size."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import NamedTuple

from accel.network.nodes import Concat, Mean, StridedSlice
from accel.quantized import recipes
from accel.quantized.lowering import Lowering
from accel.quantized.values import Target
from accel.quantized.window import Window


class Run(NamedTuple):
    """Outputs along an axis whose windows have `taps` inside the image; they read [first, last)."""

    taps: int
    first: int
    last: int


def mean_of_valid_taps(low: Lowering, source: str, window: Window, target: Target) -> str:
    """The graph's image of means, rounded once."""
    own, shape = low.builder.parameters(source), low.builder.shape(source)
    rows, columns = (list(_runs(window, axis, shape[1 + axis])) for axis in (0, 1))
    bands = []
    for row in rows:
        parts = []
        for column in columns:
            bounds = {"begin": (0, row.first, column.first, 0), "end": (1, row.last, column.last, shape[3])}
            whole = bounds == {"begin": (0, 0, 0, 0), "end": shape}
            part = (
                source
                if whole
                else low.builder.emit(StridedSlice, [source], own, f"{source}_part", **bounds, stride=(1, 1, 1, 1))
            )
            fields = recipes.mean(own[0], target.parameters[0], row.taps * column.taps, low.mode)
            fields |= recipes.clamp(target.limits, target.parameters, low.mode)
            fields |= {"kernel": (row.taps, column.taps), "stride": window.stride}
            parts.append(low.builder.emit(Mean, [part], target.parameters, target.name, **fields))
        bands.append(_joined(low, parts, target, 2))
    return _joined(low, bands, target, 1)


def _joined(low: Lowering, names: list[str], target: Target, axis: int) -> str:
    return names[0] if len(names) == 1 else low.builder.emit(Concat, names, target.parameters, target.name, axis=axis)


def _runs(window: Window, axis: int, size: int) -> Iterator[Run]:
    """Neighbouring outputs along an axis whose windows have one size and lie one stride apart inside the image."""
    kernel, stride = window.kernel[axis], window.stride[axis]
    first = [i * stride - window.padding[axis] for i in range(window.output[axis])]
    cut = [(start, max(start, 0), min(start + kernel, size)) for start in first]
    for (taps, _), group in groupby(cut, lambda one: (one[2] - one[1], one[1] - one[0])):
        members = list(group)
        yield Run(taps, members[0][1], members[-1][2])
