"""Ranges of addresses: the least and the largest that an instruction uses, which must lie inside of a memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from accel.machine.memories import Space
from accel.machine.rules.rows import Broken, Column, Mask, Rows

_NOTHING = 1 << 40
"""Low end of an empty range: above every address."""


@dataclass(frozen=True)
class Range:
    """For each instruction the addresses `low` .. `high`; none if `low` is above `high`."""

    low: Column
    high: Column

    def __add__(self, other: Range) -> Range:
        """All sums of an address of both."""
        return Range(self.low + other.low, self.high + other.high)

    def overlaps(self, other: Range) -> Mask:
        """Where both have a common address."""
        return np.asarray((self.low <= other.high) & (other.low <= self.high))


def run(base: Column, length: Column | int) -> Range:
    """`length` addresses from `base` on."""
    return Range(base, base + length - 1)


def loop(rows: Rows, count: str, stride: str) -> Range:
    """The offsets of a loop: 0 .. count - 1 times the stride."""
    reach = (rows[count] - 1) * rows[stride]
    return Range(np.minimum(reach, 0), np.maximum(reach, 0))


def window(rows: Rows, prefix: str = "") -> Range:
    """The offsets of a window's taps at all outputs, as far as their positions exist."""
    return _axis(rows, "y", "height", prefix) + _axis(rows, "x", "width", prefix)


def _axis(rows: Rows, axis: str, size: str, prefix: str) -> Range:
    """One axis of `window`. Under each tap the outputs that see a position follow each other."""
    outputs, step = rows[f"o{axis}_count"], rows[f"{axis}_step"]
    output_stride, tap_stride = rows[f"{prefix}o{axis}_stride"], rows[f"{prefix}k{axis}_stride"]
    taps, divisor = rows[f"k{axis}_count"], np.maximum(step, 1)
    low, high = np.full(len(rows), _NOTHING), np.full(len(rows), -_NOTHING)
    for tap in range(int(taps.max(initial=0))):
        position = rows[f"{axis}_start"] + tap * rows[f"{axis}_dilation"]
        room = rows[size] - 1 - position
        first = np.where(step > 0, np.maximum(-(position // divisor), 0), 0)
        last = np.where(step > 0, np.minimum(room // divisor, outputs - 1), outputs - 1)
        exists = (tap < taps) & (first <= last) & ((step > 0) | ((position >= 0) & (room >= 0)))
        ends = first * output_stride + tap * tap_stride, last * output_stride + tap * tap_stride
        low = np.where(exists, np.minimum(low, np.minimum(*ends)), low)
        high = np.where(exists, np.maximum(high, np.maximum(*ends)), high)
    return Range(low, high)


def outside(field: str, space: Space, size: int, low: int, high: int) -> str:
    """The error for an instruction whose `field` and strides lead to `low` .. `high`."""
    return f"{field} and its strides must stay within {space.name} 0..{size - 1}, got {low}..{high}"


def inside(rows: Rows, field: str, space: Space, size: int, used: Range) -> Iterator[Broken]:
    """The range that `field` begins must lie in ``0 .. size - 1``."""
    low, high = used.low, used.high
    bad = (low <= high) & ((low < 0) | (high >= size))
    rule = f"{field} and its strides stay within {space.name}"
    return rows.refuse(bad, rule, lambda i: outside(field, space, size, int(low[i]), int(high[i])))
