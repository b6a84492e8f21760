"""The operations of a quantized network: fields, shapes and ranges; `accel.reference` defines what they compute."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

import numpy as np
from numpy.typing import NDArray

from accel.errors import GraphError
from accel.numerics import INT8_MAX, INT8_MIN, INT32_MAX
from accel.windows import Shape, check_range, check_window, window_output

Multiplier: TypeAlias = tuple[int, int]
"""A multiplier and its shift, as in `accel.numerics`."""

REDUCTION_LIMIT = 2**16
"""Products per accumulator stay below this number, so that ``sum(w * (x - zp))`` fits int32."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Node:
    """An operation with named inputs and one output; the base of all nodes.

    Parameters
    ----------
    name : str
        Unique in the graph; error messages use it.
    inputs : tuple of str
    output : str
    """

    name: str
    inputs: tuple[str, ...]
    output: str

    arity: ClassVar[int] = 1
    keeps_parameters: ClassVar[bool] = False
    """The output must have the input's scale and zero point."""

    @property
    def op(self) -> str:
        """Name of the operation: that of the class."""
        return type(self).__name__

    def output_shape(self, *shapes: Shape) -> Shape:
        """Shape of the output for the shapes of the inputs; `GraphError` if they do not fit the node."""
        raise NotImplementedError

    def multipliers(self) -> tuple[tuple[NDArray[np.int32], NDArray[np.int8]], ...]:
        """All (multipliers, shifts) that the node requantizes with."""
        return ()

    def check(self) -> None:
        """Raise `GraphError` unless the fields, seen alone, are in their ranges."""

    def error(self, problem: str) -> GraphError:
        """A `GraphError` that names this node."""
        return GraphError(f"{self.op} {self.name!r}: {problem}")


@dataclass(frozen=True, eq=False, kw_only=True)
class Clamped(Node):
    """A node whose output is limited to ``[act_min, act_max]``."""

    act_min: int = INT8_MIN
    act_max: int = INT8_MAX

    def check(self) -> None:
        check_range(f"{self.op} {self.name!r}", "act_min", self.act_min, INT8_MIN, INT8_MAX)
        check_range(f"{self.op} {self.name!r}", "act_max", self.act_max, self.act_min, INT8_MAX)


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
    """

    weight: NDArray[np.int8]
    bias: NDArray[np.int32]
    multiplier: NDArray[np.int32]
    shift: NDArray[np.int8]

    weight_axes: ClassVar[tuple[str, ...]]

    def check(self) -> None:
        super().check()
        axes = self.weight_axes
        self._freeze("weight", np.dtype(np.int8), f"({', '.join(axes)})", len(axes))
        if self.weight.size == 0 or self.weight[0].size >= REDUCTION_LIMIT:
            raise self.error(
                f"one output must sum 1 to {REDUCTION_LIMIT - 1} products, got weights of shape {self.weight.shape!r}"
            )
        for field, dtype in (("bias", np.int32), ("multiplier", np.int32), ("shift", np.int8)):
            self._freeze(field, np.dtype(dtype), f"({self.weight.shape[0]},)", 1)
            if getattr(self, field).shape != self.weight.shape[:1]:
                raise self.error(
                    f"{field} must have shape ({self.weight.shape[0]},), got {getattr(self, field).shape!r}"
                )

    def _freeze(self, field: str, dtype: np.dtype[np.generic], shape: str, ndim: int) -> None:
        """Check an array field and replace it by a read-only copy."""
        value = getattr(self, field)
        if not (isinstance(value, np.ndarray) and value.dtype == dtype and value.ndim == ndim):
            got = f"{value.dtype} {value.shape}" if isinstance(value, np.ndarray) else repr(value)
            raise self.error(f"{field} must be an array of {dtype} with shape {shape}, got {got}")
        if value.flags.writeable or not value.flags.c_contiguous:
            copy = np.array(value, order="C")
            copy.flags.writeable = False
            object.__setattr__(self, field, copy)

    def multipliers(self) -> tuple[tuple[NDArray[np.int32], NDArray[np.int8]], ...]:
        return ((self.multiplier, self.shift),)


@dataclass(frozen=True, eq=False, kw_only=True)
class Conv2d(Weighted):
    """Convolution with weights (oc, kh, kw, ic); taps outside the image contribute nothing.

    Parameters
    ----------
    stride, dilation : (int, int)
        Vertical, horizontal.
    padding : (int, int, int, int)
        Top, left, bottom, right.
    groups : int
        Must be 1.
    """

    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1

    weight_axes = ("oc", "kh", "kw", "ic")

    @property
    def kernel(self) -> tuple[int, int]:
        """Height and width of the kernel."""
        return self.weight.shape[1], self.weight.shape[2]

    def check(self) -> None:
        super().check()
        check_window(self, self.stride, self.padding, self.dilation)
        if self.groups != 1:
            raise self.error(f"groups must be 1, got {self.groups!r}")

    def output_shape(self, *shapes: Shape) -> Shape:
        height, width = window_output(self, shapes[0], self.kernel, self.stride, self.padding, self.dilation)
        if shapes[0][3] != self.weight.shape[3]:
            raise self.error(f"input must have {self.weight.shape[3]} channels, got {shapes[0]!r}")
        return 1, height, width, self.weight.shape[0]


@dataclass(frozen=True, eq=False, kw_only=True)
class FullyConnected(Weighted):
    """Matrix product with weights (out, in); a 4-D input is flattened in NHWC order."""

    weight_axes = ("out", "in")

    def output_shape(self, *shapes: Shape) -> Shape:
        if math.prod(shapes[0]) != self.weight.shape[1]:
            raise self.error(f"input must have {self.weight.shape[1]} features, got shape {shapes[0]!r}")
        return 1, self.weight.shape[0]


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

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)

    keeps_parameters = True

    def check(self) -> None:
        super().check()
        check_window(self, self.stride, self.padding, self.kernel)
        if any(pad >= self.kernel[side % 2] for side, pad in enumerate(self.padding)):
            raise self.error(f"padding must be smaller than the kernel {self.kernel!r}, got {self.padding!r}")

    def output_shape(self, *shapes: Shape) -> Shape:
        height, width = window_output(self, shapes[0], self.kernel, self.stride, self.padding, (1, 1))
        return 1, height, width, shapes[0][3]


class MaxPool2d(Pool2d):
    """Maximum of each window."""


class AveragePool2d(Pool2d):
    """Mean of each window's taps inside the image, rounded to nearest, ties away from zero, on the stored integers."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Add(Clamped):
    """Sum of two tensors of one shape, each rescaled with `left_shift` extra bits of precision first.

    With ``y = R((x - zp) << left_shift, operand)`` for each operand, the result is
    ``clamp(R(y0 + y1, multiplier, shift) + zp_out)``; the sum wraps to int32.

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
    multiplier: int
    shift: int
    left_shift: int = 20

    arity = 2

    def check(self) -> None:
        super().check()
        where = f"{self.op} {self.name!r}"
        check_range(where, "left_shift", self.left_shift, 0, 22)
        for q, e in (self.operand0, self.operand1, (self.multiplier, self.shift)):
            check_range(where, "multiplier", q, 0, INT32_MAX)
            check_range(where, "shift", e, INT8_MIN, INT8_MAX)

    def multipliers(self) -> tuple[tuple[NDArray[np.int32], NDArray[np.int8]], ...]:
        pairs = (self.operand0, self.operand1, (self.multiplier, self.shift))
        return tuple((np.array([q]), np.array([e])) for q, e in pairs)

    def output_shape(self, *shapes: Shape) -> Shape:
        if shapes[0] != shapes[1]:
            raise self.error(f"inputs must have one shape, got {shapes[0]!r} and {shapes[1]!r}")
        return shapes[0]


class Clamp(Clamped):
    """The input limited to ``[act_min, act_max]``."""

    keeps_parameters = True

    def output_shape(self, *shapes: Shape) -> Shape:
        return shapes[0]


@dataclass(frozen=True, eq=False, kw_only=True)
class Reshape(Node):
    """The same elements, in row-major (NHWC) order, under another shape."""

    shape: Shape

    keeps_parameters = True

    def output_shape(self, *shapes: Shape) -> Shape:
        if math.prod(self.shape) != math.prod(shapes[0]):
            raise self.error(f"shape must have {math.prod(shapes[0])} elements, got {self.shape!r}")
        return self.shape


class Softmax(Node):
    """Softmax over the last axis, computed by the host; the output has scale 1/256 and zero point -128."""

    output_parameters = (1 / 256, -128)

    def output_shape(self, *shapes: Shape) -> Shape:
        return shapes[0]
