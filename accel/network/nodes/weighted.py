"""Operations with weights: sums of products, requantized per output channel."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from accel.machine.weight_words import INT4_MAX, INT4_MIN
from accel.network.nodes.base import Clamped, Pair
from accel.network.windows import Shape, check_window, window_output

REDUCTION_LIMIT = 2**16
"""Products per accumulator stay below this number, so that ``sum(w * (x - zp))`` fits int32."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Weighted(Clamped):
    """Sums of weighted inputs: ``clamp(requantize(sum(w * (x - zp_in)) + bias) + zp_out)``, per output channel.

    Parameters
    ----------
    weight : ndarray of int8
        Output channel first.
    bias : ndarray of int32, shape (channels,)
    multiplier : ndarray of int32, shape (channels,)
    shift : ndarray of int8, shape (channels,)
    weight_bits : int
        8, or 4 if all weights lie in -8 .. 7.
    single_rounding : bool
        Requantize as mode `single` does, whatever the graph's mode, which must not be `fp32` then.
    """

    weight: NDArray[np.int8]
    bias: NDArray[np.int32]
    multiplier: NDArray[np.int32]
    shift: NDArray[np.int8]
    weight_bits: int = 8
    single_rounding: bool = False

    weight_axes: ClassVar[tuple[str, ...]]

    def check(self) -> None:
        super().check()
        axes = self.weight_axes
        self.freeze("weight", np.int8, f"({', '.join(axes)})", len(axes))
        if self.weight.size == 0 or self.weight[0].size >= REDUCTION_LIMIT:
            raise self.error(
                f"one output must sum 1 to {REDUCTION_LIMIT - 1} products, got weights of shape {self.weight.shape!r}"
            )
        for field, dtype in (("bias", np.int32), ("multiplier", np.int32), ("shift", np.int8)):
            self.freeze(field, dtype, f"({self.weight.shape[0]},)", 1)
            if getattr(self, field).shape != self.weight.shape[:1]:
                raise self.error(
                    f"{field} must have shape ({self.weight.shape[0]},), got {getattr(self, field).shape!r}"
                )
        self._check_bits()
        if type(self.single_rounding) is not bool:
            raise self.error(f"single_rounding must be true or false, got {self.single_rounding!r}")

    def _check_bits(self) -> None:
        if type(self.weight_bits) is not int or self.weight_bits not in (4, 8):
            raise self.error(f"weight_bits must be 4 or 8, got {self.weight_bits!r}")
        low, high = int(self.weight.min()), int(self.weight.max())
        if self.weight_bits == 4 and (low < INT4_MIN or high > INT4_MAX):
            raise self.error(f"weights of 4 bits must lie in {INT4_MIN} .. {INT4_MAX}, got {low} .. {high}")

    @property
    def weight_bytes(self) -> int:
        """Bytes of the weights, two of 4 bits in each."""
        return -(-self.weight.size * self.weight_bits // 8)

    def macs(self, *shapes: Shape) -> int:
        return math.prod(self.output_shape(*shapes)[:-1]) * self.weight.size

    def multipliers(self) -> tuple[tuple[NDArray[np.int32], NDArray[np.int8]], ...]:
        return ((self.multiplier, self.shift),)


def check_groups(node: Weighted, groups: int) -> None:
    """Raise unless `groups` divides the output channels of a node."""
    channels = node.weight.shape[0]
    if not (isinstance(groups, int) and groups > 0 and channels % groups == 0):
        raise node.error(f"groups must divide the {channels} output channels, got {groups!r}")


@dataclass(frozen=True, eq=False, kw_only=True)
class Conv2d(Weighted):
    """Convolution with weights (oc, kh, kw, ic / groups); taps outside the image contribute nothing.

    Parameters
    ----------
    stride, dilation : (int, int)
        Vertical, horizontal.
    padding : (int, int, int, int)
        Top, left, bottom, right.
    groups : int
        Divides the input and the output channels into as many consecutive parts; output part i reads input part i.
        A depthwise convolution has one group per input channel.
    """

    stride: Pair = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1

    weight_axes = ("oc", "kh", "kw", "ic")

    @property
    def kernel(self) -> Pair:
        """Height and width of the kernel."""
        return self.weight.shape[1], self.weight.shape[2]

    def check(self) -> None:
        super().check()
        check_window(self, self.stride, self.padding, self.dilation)
        check_groups(self, self.groups)

    def output_shape(self, *shapes: Shape) -> Shape:
        height, width = window_output(self, shapes[0], self.kernel, self.stride, self.padding, self.dilation)
        if shapes[0][3] != self.weight.shape[3] * self.groups:
            raise self.error(f"input must have {self.weight.shape[3] * self.groups} channels, got {shapes[0]!r}")
        return 1, height, width, self.weight.shape[0]


@dataclass(frozen=True, eq=False, kw_only=True)
class TransposeConv2d(Weighted):
    """Transposed convolution, weights (oc, kh, kw, ic / groups): the sums that a strided convolution spreads backwards.

    Input (iy, ix) adds ``w[oc, ky, kx] * (x - zp_in)`` to output ``(iy * stride + ky - top, ix * stride + kx - left)``.

    Parameters
    ----------
    stride : (int, int)
    padding : (int, int)
        Top, left: rows and columns cut off before the first output.
    size : (int, int)
        Height and width of the output.
    groups : int
        As in `Conv2d`.
    """

    stride: Pair
    padding: Pair
    size: Pair
    groups: int = 1

    weight_axes = ("oc", "kh", "kw", "ic")

    def check(self) -> None:
        super().check()
        check_window(self, self.stride, (*self.padding, 0, 0), self.size)
        check_groups(self, self.groups)

    def macs(self, *shapes: Shape) -> int:
        return math.prod(shapes[0][:-1]) * self.weight.size

    def output_shape(self, *shapes: Shape) -> Shape:
        channels = self.weight.shape[3] * self.groups
        if len(shapes[0]) != 4 or shapes[0][3] != channels:
            raise self.error(f"input must have shape (1, height, width, {channels}), got {shapes[0]!r}")
        return 1, *self.size, self.weight.shape[0]


@dataclass(frozen=True, eq=False, kw_only=True)
class FullyConnected(Weighted):
    """Matrix product with weights (out, in); a 4-D input is flattened in NHWC order."""

    weight_axes = ("out", "in")

    def output_shape(self, *shapes: Shape) -> Shape:
        if math.prod(shapes[0]) != self.weight.shape[1]:
            raise self.error(f"input must have {self.weight.shape[1]} features, got shape {shapes[0]!r}")
        return 1, self.weight.shape[0]
