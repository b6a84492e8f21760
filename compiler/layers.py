"""What the compiler schedules: layers of a network in terms of the machine's two compute units."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

import numpy as np
from numpy.typing import NDArray

from accel.graph import Graph
from accel.isa import Mode, Reduce
from accel.layout import Hwc
from accel.program import OperatorInfo

Pair = tuple[int, int]
Record = tuple[int, int, int]
"""Bias, multiplier, shift of one output channel."""

IDENTITY: Record = (0, 1 << 30, 1)
"""Leaves a value as it is, in every mode."""


@dataclass(frozen=True)
class Window:
    """A window sliding over an image: everything in (vertical, horizontal) order.

    Parameters
    ----------
    padding : (int, int)
        Rows above and columns left of the image; what is below and right follows from the output's size.
    """

    kernel: Pair = (1, 1)
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)

    def span(self, axis: int, first: int, last: int, size: int) -> Pair:
        """Half-open range of existing input positions that outputs `first` .. `last` - 1 touch along `axis`."""
        low = first * self.stride[axis] - self.padding[axis]
        high = (last - 1) * self.stride[axis] - self.padding[axis] + (self.kernel[axis] - 1) * self.dilation[axis] + 1
        return max(low, 0), min(high, size)


@dataclass(frozen=True, eq=False, kw_only=True)
class Layer:
    """Common to all layers: names, geometry, and the clamp of the result.

    Parameters
    ----------
    inputs : tuple of str
        Values read, all of shape `input_shape`.
    input_shape, output_shape : (int, int, int)
        Height, width, channels.
    table : ndarray of int8, shape (256,), or None
        ``table[q + 128]`` replaces every result q.
    """

    unit: ClassVar[str]
    """Where the layer's work is done, for reports."""

    name: str
    op: str
    inputs: tuple[str, ...]
    output: str
    input_shape: Hwc
    output_shape: Hwc
    window: Window
    mode: Mode
    zero_point: int
    act_min: int
    act_max: int
    table: NDArray[np.int8] | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class ArrayLayer(Layer):
    """Convolution or fully-connected: weights (oc, kh, kw, ic / groups) on the array, then requantization per channel.

    Parameters
    ----------
    records : tuple of Record
        Per output channel; the bias holds the input's zero point already.
    pad_value : int
        The input's zero point.
    groups : int
        Output channels of one group see the input channels of that group only.
    """

    weight: NDArray[np.int8]
    records: tuple[Record, ...]
    pad_value: int
    groups: int = 1

    unit = "array"

    def input_channels(self, channel: int) -> Pair:
        """Half-open range of input channels that an output channel sees."""
        depth = self.weight.shape[3]
        group = channel * self.groups // self.weight.shape[0]
        return group * depth, (group + 1) * depth

    @property
    def macs(self) -> int:
        """Multiply-accumulates, padding included."""
        return self.output_shape[0] * self.output_shape[1] * self.weight.size


class DepthwiseLayer(ArrayLayer):
    """Convolution of every channel by itself, weights (c, kh, kw, 1), in the depthwise engine."""

    unit = "depthwise"


@dataclass(frozen=True)
class Region:
    """Outputs of rows [y0, y1) and columns [x0, x1) that share a parameter record."""

    y0: int
    y1: int
    x0: int
    x1: int
    record: Record


@dataclass(frozen=True, eq=False, kw_only=True)
class VectorLayer(Layer):
    """Pooling, elementwise arithmetic, tables: taps of one or two tensors combined by the post unit.

    Parameters
    ----------
    operands : two of (zero_point, multiplier, shift)
        How the first and every later tap is rescaled.
    regions : tuple of Region
        They cover the output once.
    """

    reduce: Reduce
    operands: tuple[Record, Record]
    left_shift: int
    regions: tuple[Region, ...]

    macs: int = 0
    unit = "post"


AnyLayer: TypeAlias = ArrayLayer | VectorLayer
"""What a network consists of."""


def product_shape(layer: AnyLayer) -> tuple[int, int, int]:
    """The layer as a matrix product (m, k) @ (k, n); zeros for layers without weights."""
    if isinstance(layer, VectorLayer):
        return 0, 0, 0
    return layer.output_shape[0] * layer.output_shape[1], math.prod(layer.weight.shape[1:]), layer.weight.shape[0]


@dataclass(frozen=True, eq=False)
class Network:
    """A lowered graph.

    Parameters
    ----------
    layers : tuple of layers, in execution order
    aliases : dict of str to str
        Graph tensors that are another value under a different shape.
    inputs : dict of str to (int, int, int)
        Values given to the machine, read by a layer or not, and their shapes.
    outputs : tuple of str
        Values that it delivers, possibly under an alias.
    host : Graph or None
        Nodes that the host computes afterwards.
    operators : tuple of OperatorInfo
        Where each node of the graph runs.
    """

    layers: tuple[AnyLayer, ...]
    aliases: dict[str, str]
    inputs: dict[str, Hwc]
    outputs: tuple[str, ...]
    host: Graph | None
    operators: tuple[OperatorInfo, ...]

    def consumers(self, value: str) -> list[int]:
        """Indices of the layers that read `value`."""
        return [i for i, layer in enumerate(self.layers) if value in layer.inputs]
