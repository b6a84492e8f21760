"""Operations that only move bytes: shapes, slices, padding, resizing by repetition; and interpolation."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from accel.machine.numerics import INTERPOLATION_ONE
from accel.network.nodes.base import Node
from accel.network.windows import Shape, check_range

LARGEST_SIZE = 2**24


@dataclass(frozen=True, eq=False, kw_only=True)
class Constant(Node):
    """A tensor that is part of the network.

    Parameters
    ----------
    value : ndarray of int8, shape (1, height, width, channels)
    """

    value: NDArray[np.int8]

    arity = 0

    def check(self) -> None:
        self.freeze("value", np.int8, "(1, height, width, channels)", 4)

    def output_shape(self, *shapes: Shape) -> Shape:
        return self.value.shape


@dataclass(frozen=True, eq=False, kw_only=True)
class Reshape(Node):
    """The same elements, in row-major (NHWC) order, under another shape."""

    shape: Shape

    keeps_parameters = True

    def output_shape(self, *shapes: Shape) -> Shape:
        if math.prod(self.shape) != math.prod(shapes[0]):
            raise self.error(f"shape must have {math.prod(shapes[0])} elements, got {self.shape!r}")
        return self.shape


@dataclass(frozen=True, eq=False, kw_only=True)
class Broadcast(Node):
    """Axes of size 1 repeated to the sizes of `shape`."""

    shape: Shape

    keeps_parameters = True

    def output_shape(self, *shapes: Shape) -> Shape:
        source = shapes[0]
        if len(source) != len(self.shape) or any(a not in (1, b) for a, b in zip(source, self.shape, strict=True)):
            raise self.error(f"shape must repeat axes of size 1 of {source!r}, got {self.shape!r}")
        return self.shape


@dataclass(frozen=True, eq=False, kw_only=True)
class Transpose(Node):
    """Axes in another order: output axis i is input axis ``permutation[i]``; axis 0 stays."""

    permutation: tuple[int, ...]

    keeps_parameters = True

    def output_shape(self, *shapes: Shape) -> Shape:
        axes = list(range(len(shapes[0])))
        if list(self.permutation[:1]) != [0] or sorted(self.permutation) != axes:
            raise self.error(
                f"permutation must be an order of the axes {axes!r} with 0 first, got {self.permutation!r}"
            )
        return tuple(shapes[0][axis] for axis in self.permutation)


@dataclass(frozen=True, eq=False, kw_only=True)
class Rearrange(Node):
    """Axes of any number in another order: ``x.reshape(sizes).transpose(permutation).reshape(shape)``.

    Blocks of pixels become channels, channels are shuffled, axes of more than four are transposed this way.

    Parameters
    ----------
    sizes : tuple of int
        Shape under which the input is transposed.
    permutation : tuple of int
        Axis i of the transposed input is axis ``permutation[i]`` of `sizes`.
    shape : tuple of int
        The output's.
    """

    sizes: Shape
    permutation: tuple[int, ...]
    shape: Shape

    keeps_parameters = True

    def check(self) -> None:
        self.check_integers("sizes", 1, LARGEST_SIZE)
        self.check_integers("permutation", 0, len(self.sizes) - 1, len(self.sizes))
        if len(set(self.permutation)) != len(self.sizes):
            raise self.error(f"permutation must be an order of {len(self.sizes)} axes, got {self.permutation!r}")

    def output_shape(self, *shapes: Shape) -> Shape:
        elements = math.prod(shapes[0])
        if math.prod(self.sizes) != elements or math.prod(self.shape) != elements:
            raise self.error(f"sizes and shape must have {elements} elements, got {self.sizes!r} and {self.shape!r}")
        return self.shape


@dataclass(frozen=True, eq=False, kw_only=True)
class Gather(Node):
    """Elements at `indices` along `axis`, in that order.

    Parameters
    ----------
    axis : int
        Not 0.
    indices : ndarray of int32, shape (size,)
    """

    axis: int
    indices: NDArray[np.int32]

    keeps_parameters = True

    def check(self) -> None:
        self.freeze("indices", np.int32, "(size,)", 1)
        if not self.indices.size or self.indices.min() < 0:
            raise self.error("indices must be at least one number from 0")

    def output_shape(self, *shapes: Shape) -> Shape:
        source = shapes[0]
        if not (type(self.axis) is int and 0 < self.axis < len(source) and self.indices.max() < source[self.axis]):
            raise self.error(f"axis and indices must select elements of {source!r}, got axis {self.axis!r}")
        return (*source[: self.axis], self.indices.size, *source[self.axis + 1 :])


@dataclass(frozen=True, eq=False, kw_only=True)
class Pad(Node):
    """A border of one stored integer around the input.

    Parameters
    ----------
    before, after : tuple of int
        Elements added at both ends of every axis; none to axis 0.
    value : int
        In [-128, 127]; the zero point stands for the real number zero.
    """

    before: tuple[int, ...]
    after: tuple[int, ...]
    value: int

    keeps_parameters = True

    def check(self) -> None:
        for field in ("before", "after"):
            self.check_integers(field, 0, 2**15 - 1)
        check_range(f"{self.op} {self.name!r}", "value", self.value, -128, 127)

    def output_shape(self, *shapes: Shape) -> Shape:
        source = shapes[0]
        if not len(self.before) == len(self.after) == len(source) or self.before[0] or self.after[0]:
            raise self.error(
                f"before and after must hold 0 and {len(source) - 1} more integers for an input of shape {source!r}, "
                f"got {self.before!r} and {self.after!r}"
            )
        return tuple(sum(sizes) for sizes in zip(self.before, source, self.after, strict=True))


@dataclass(frozen=True, eq=False, kw_only=True)
class Concat(Node):
    """Inputs one after the other along `axis`; their other axes agree."""

    axis: int

    arity = None
    keeps_parameters = True

    def output_shape(self, *shapes: Shape) -> Shape:
        ranks = {len(shape) for shape in shapes}
        if len(ranks) != 1 or not (isinstance(self.axis, int) and 0 < self.axis < len(shapes[0])):
            raise self.error(f"axis must be one of the inputs' axes after the first, got {self.axis!r} for {shapes!r}")
        rests = {shape[: self.axis] + shape[self.axis + 1 :] for shape in shapes}
        if len(rests) != 1:
            raise self.error(f"inputs must have equal shapes except in axis {self.axis}, got {shapes!r}")
        total = sum(shape[self.axis] for shape in shapes)
        return (*shapes[0][: self.axis], total, *shapes[0][self.axis + 1 :])


@dataclass(frozen=True, eq=False, kw_only=True)
class StridedSlice(Node):
    """Elements ``begin, begin + stride, ...`` before `end` along every axis, as Python slices select them."""

    begin: tuple[int, ...]
    end: tuple[int, ...]
    stride: tuple[int, ...]

    keeps_parameters = True

    def check(self) -> None:
        self.check_integers("begin", 0, LARGEST_SIZE)
        self.check_integers("end", 1, LARGEST_SIZE, len(self.begin))
        self.check_integers("stride", 1, LARGEST_SIZE, len(self.begin))

    def output_shape(self, *shapes: Shape) -> Shape:
        source = shapes[0]
        if len(self.begin) != len(source) or any(
            not first < last <= size for first, last, size in zip(self.begin, self.end, source, strict=True)
        ):
            raise self.error(
                f"begin and end must select elements of every axis of {source!r}, got {self.begin!r} to {self.end!r}"
            )
        return tuple(-(-(e - b) // s) for b, e, s in zip(self.begin, self.end, self.stride, strict=True))


@dataclass(frozen=True, eq=False, kw_only=True)
class ResizeNearest(Node):
    """Rows and columns repeated or left out: output (y, x) is input ``(rows[y], columns[x])``."""

    rows: tuple[int, ...]
    columns: tuple[int, ...]

    keeps_parameters = True

    def check(self) -> None:
        self.check_integers("rows", 0, LARGEST_SIZE)
        self.check_integers("columns", 0, LARGEST_SIZE)

    def output_shape(self, *shapes: Shape) -> Shape:
        source = shapes[0]
        if len(source) != 4 or max(self.rows) >= source[1] or max(self.columns) >= source[2]:
            raise self.error(f"rows and columns must lie in an input (1, height, width, channels), got {source!r}")
        return 1, len(self.rows), len(self.columns), source[3]


@dataclass(frozen=True, eq=False, kw_only=True)
class ResizeBilinear(Node):
    """Weighted mean of the four nearest pixels, ties away from zero, on the stored integers.

    Parameters
    ----------
    rows, columns : ndarray of int32, shape (size, 3)
        For every output row or column: the two inputs to mix, and the weight of the second one in 1/1024; the first
        one has the rest. It is negative only where both are the same.
    """

    rows: NDArray[np.int32]
    columns: NDArray[np.int32]

    keeps_parameters = True

    def check(self) -> None:
        for field in ("rows", "columns"):
            self.freeze(field, np.int32, "(size, 3)", 2)
            value = getattr(self, field)
            weighted = value.size and value.shape[1] == 3 and abs(value[:, 2]).max() <= INTERPOLATION_ONE
            if not (weighted and value[:, :2].min() >= 0):
                raise self.error(
                    f"{field} must be an array (size, 3) of two indices and a weight up to {INTERPOLATION_ONE}, "
                    f"got shape {value.shape!r}"
                )
            beyond = value[(value[:, 0] != value[:, 1]) & (value[:, 2] < 0)]
            if len(beyond):
                raise self.error(f"{field} must not weigh a second input below 0, got {beyond[0].tolist()}")

    def output_shape(self, *shapes: Shape) -> Shape:
        source = shapes[0]
        if len(source) != 4 or self.rows[:, :2].max() >= source[1] or self.columns[:, :2].max() >= source[2]:
            raise self.error(f"rows and columns must lie in an input (1, height, width, channels), got {source!r}")
        return 1, len(self.rows), len(self.columns), source[3]
