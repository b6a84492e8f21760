"""Operations without weights on one or two tensors: pools, elementwise arithmetic, tables."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from accel.network.nodes.base import Clamped, Multiplier, Node, Pair, Requantized, as_arrays
from accel.network.windows import Shape, check_range, check_window, window_output


@dataclass(frozen=True, eq=False, kw_only=True)
class Pool2d(Clamped):
    """A window that slides over each channel; only taps inside the image count, and every window has one.

    Parameters
    ----------
    kernel, stride : (int, int)
        Vertical, horizontal.
    padding : (int, int, int, int)
        Top, left, bottom, right; each smaller than the kernel.
    """

    kernel: Pair
    stride: Pair
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)

    keeps_parameters = True

    def check(self) -> None:
        super().check()
        check_pool(self, self.kernel, self.stride, self.padding)

    def output_shape(self, *shapes: Shape) -> Shape:
        height, width = window_output(self, shapes[0], self.kernel, self.stride, self.padding, (1, 1))
        return 1, height, width, shapes[0][3]


def check_pool(node: Node, kernel: Pair, stride: Pair, padding: tuple[int, int, int, int]) -> None:
    """Raise `GraphError` unless the window is sane and never lies in the padding alone."""
    check_window(node, stride, padding, kernel)
    if any(pad >= kernel[side % 2] for side, pad in enumerate(padding)):
        raise node.error(f"padding must be smaller than the kernel {kernel!r}, got {padding!r}")


class MaxPool2d(Pool2d):
    """Maximum of each window."""


class AveragePool2d(Pool2d):
    """Mean of each window's taps inside the image, rounded to nearest, ties away from zero, on the stored integers."""


class UnsignedAveragePool2d(AveragePool2d):
    """The same on integers that are larger by 128: ties towards plus infinity."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Mean(Requantized):
    """Sums of ``x - zp_in`` over a sliding window, requantized: the multiplier holds the division by the taps.

    A window as large as the image gives the mean of each channel. Taps outside the image contribute nothing.

    Parameters
    ----------
    kernel, stride, padding
        As in `Pool2d`.
    multiplier, shift : int
        ``scale_in / (scale_out * taps)``; in the integer modes the multiplier may be as small as 2**29.
    """

    kernel: Pair
    stride: Pair = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)

    smallest_multiplier = 2**29

    def check(self) -> None:
        super().check()
        check_pool(self, self.kernel, self.stride, self.padding)
        if self.kernel[0] * self.kernel[1] >= 2**23:
            raise self.error(f"kernel must have fewer than 2**23 taps, so that sums fit int32, got {self.kernel!r}")

    def output_shape(self, *shapes: Shape) -> Shape:
        height, width = window_output(self, shapes[0], self.kernel, self.stride, self.padding, (1, 1))
        return 1, height, width, shapes[0][3]


def same_shape(node: Node, shapes: tuple[Shape, ...]) -> Shape:
    """The shape of both inputs; `GraphError` if they differ."""
    if shapes[0] != shapes[1]:
        raise node.error(f"inputs must have one shape, got {shapes[0]!r} and {shapes[1]!r}")
    return shapes[0]


@dataclass(frozen=True, eq=False, kw_only=True)
class Rescaled(Requantized):
    """Two tensors of one shape, each rescaled with `left_shift` extra bits of precision before they are combined.

    With ``y = R((x - zp) << left_shift, operand)`` for each operand, the result is
    ``clamp(R(y0 +/- y1, multiplier, shift) + zp_out)``; the sum wraps to int32.

    Parameters
    ----------
    operand0, operand1 : (int, int)
        Multiplier and shift of each operand.
    multiplier, shift : int
        Those of the output.
    left_shift : int
        In [0, 22], so that a shifted operand fits int32.
    """

    operand0: Multiplier
    operand1: Multiplier
    left_shift: int = 20

    arity = 2

    def check(self) -> None:
        super().check()
        check_range(f"{self.op} {self.name!r}", "left_shift", self.left_shift, 0, 22)
        for q, e in (self.operand0, self.operand1):
            self.check_multiplier(q, e)

    def multipliers(self) -> tuple[tuple[NDArray[np.int32], NDArray[np.int8]], ...]:
        pairs = (self.operand0, self.operand1, (self.multiplier, self.shift))
        return tuple(as_arrays(q, e) for q, e in pairs)

    def output_shape(self, *shapes: Shape) -> Shape:
        return same_shape(self, shapes)


class Add(Rescaled):
    """Sum of two tensors."""


class Sub(Rescaled):
    """The first tensor minus the second."""


class SquaredDifference(Rescaled):
    """``clamp(R((y0 - y1)**2, multiplier, shift) + zp_out)`` with operands as in `Rescaled`, computed by the host."""


class Maximum(Node):
    """The larger of two stored integers, element by element."""

    arity = 2
    keeps_parameters = True

    def output_shape(self, *shapes: Shape) -> Shape:
        return same_shape(self, shapes)


class Div(Requantized):
    """Quotient of two tensors of one shape, computed by the host: ``clamp(R((x0 - zp0) / (x1 - zp1)) + zp_out)``.

    In fixed point (`accel.network.fixed_point.quotient`). A divisor of 0, for which the runtimes define nothing, counts
    as 1; so small a quotient that the runtimes shift by 32 bits and more, which C does not define, is 0.
    """

    arity = 2

    def check(self) -> None:
        super().check()
        check_range(f"{self.op} {self.name!r}", "shift", self.shift, -31, 22)

    def output_shape(self, *shapes: Shape) -> Shape:
        return same_shape(self, shapes)


class Mul(Requantized):
    """Product of two tensors of one shape: ``clamp(R((x0 - zp0) * (x1 - zp1), multiplier, shift) + zp_out)``."""

    arity = 2

    def output_shape(self, *shapes: Shape) -> Shape:
        return same_shape(self, shapes)


class Clamp(Clamped):
    """The input limited to ``[act_min, act_max]``."""

    keeps_parameters = True

    def output_shape(self, *shapes: Shape) -> Shape:
        return shapes[0]


@dataclass(frozen=True, eq=False, kw_only=True)
class Table(Node):
    """Any function of one variable: ``table[q + 128]`` for every stored integer q.

    Parameters
    ----------
    table : ndarray of int8, shape (256,)
    """

    table: NDArray[np.int8]

    def check(self) -> None:
        self.freeze("table", np.int8, "(256,)", 1)
        if self.table.size != 256:
            raise self.error(f"table must have 256 entries, got {self.table.size}")

    def output_shape(self, *shapes: Shape) -> Shape:
        return shapes[0]


@dataclass(frozen=True, eq=False, kw_only=True)
class Softmax(Node):
    """Softmax of `beta` times the input over the last axis, computed by the host.

    The output has scale 1/256 and zero point -128, except in mode `fp32`, where it may have any.
    """

    beta: float = 1.0

    output_parameters = (1 / 256, -128)

    def check(self) -> None:
        if not (isinstance(self.beta, float) and 0 < self.beta < 2**16):
            raise self.error(f"beta must be a positive number below 65536, got {self.beta!r}")

    def output_shape(self, *shapes: Shape) -> Shape:
        return shapes[0]


class LogSoftmax(Node):
    """Logarithm of the softmax over the last axis, computed by the host.

    The output has scale 1/16 and zero point 127, except in mode `fp32`, where it may have any.
    """

    output_parameters = (1 / 16, 127)

    def output_shape(self, *shapes: Shape) -> Shape:
        return shapes[0]
