"""Positions in images and channels: spans, tiles, windows, and places of values in larger ones.

Pairs are in (vertical, horizontal) order; axis 0 is vertical, axis 1 horizontal.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from accel.network.nodes import Pair


class Span(NamedTuple):
    """Positions `first`, ..., `last` - 1 along an axis: rows, columns, channels or chunks of them."""

    first: int
    last: int

    @property
    def size(self) -> int:
        """How many positions there are."""
        return self.last - self.first


class Tile(NamedTuple):
    """Rows [y0, y1) and columns [x0, x1) of an image."""

    y0: int
    y1: int
    x0: int
    x1: int

    @property
    def height(self) -> int:
        """Rows."""
        return self.y1 - self.y0

    @property
    def width(self) -> int:
        """Columns."""
        return self.x1 - self.x0

    @property
    def pixels(self) -> int:
        """Pixels."""
        return self.height * self.width

    def intersects(self, other: Tile) -> bool:
        """Whether the two share pixels."""
        return self.y0 < other.y1 and other.y0 < self.y1 and self.x0 < other.x1 and other.x0 < self.x1

    def common(self, other: Tile) -> Tile:
        """The pixels that the two share; a size is negative or 0 if there are none."""
        return Tile(max(self.y0, other.y0), min(self.y1, other.y1), max(self.x0, other.x0), min(self.x1, other.x1))

    def shared_pixels(self, other: Tile) -> int:
        """How many pixels the two share."""
        common = self.common(other)
        return max(common.height, 0) * max(common.width, 0)


@dataclass(frozen=True)
class Window:
    """A window sliding over an image.

    Parameters
    ----------
    padding : (int, int)
        Rows above and columns left of the image; what is below and right follows from the output's size.
    """

    kernel: Pair = (1, 1)
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)

    def span(self, axis: int, outputs: Span, size: int) -> Span:
        """Existing positions of an input of `size` that `outputs` touch along `axis`."""
        low = outputs.first * self.stride[axis] - self.padding[axis]
        high = (outputs.last - 1) * self.stride[axis] - self.padding[axis]
        return Span(max(low, 0), min(high + (self.kernel[axis] - 1) * self.dilation[axis] + 1, size))


@dataclass(frozen=True)
class Place:
    """Where a value lies within a larger one, `whole`.

    Parameters
    ----------
    chunk : int
        First channel chunk.
    origin, step : (int, int)
        Pixel (y, x) of the value is pixel ``(origin[0] + y * step[0], origin[1] + x * step[1])`` of the whole.
    """

    whole: str
    chunk: int = 0
    origin: Pair = (0, 0)
    step: Pair = (1, 1)

    def pixel(self, y: int, x: int) -> Pair:
        """A pixel of the value in the whole."""
        return self.origin[0] + y * self.step[0], self.origin[1] + x * self.step[1]

    def within(self, outer: Place) -> Place:
        """The place in the value that holds the whole."""
        step = (self.step[0] * outer.step[0], self.step[1] * outer.step[1])
        return Place(outer.whole, outer.chunk + self.chunk, outer.pixel(*self.origin), step)
