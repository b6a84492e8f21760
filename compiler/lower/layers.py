"""Layers, which the compiler schedules: a network in terms of the machine's compute units."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from accel.machine.isa import Reduce
from accel.machine.layout import Hwc
from accel.machine.numerics import RequantMode
from accel.program.program import OperatorInfo
from compiler.lower.geometry import Place, Span, Tile, Window


class Record(NamedTuple):
    """Parameters of one output channel: the sum plus `bias` is requantized with `multiplier` and `shift`."""

    bias: int
    multiplier: int
    shift: int


class Operand(NamedTuple):
    """How a tap is rescaled before taps are combined: `zero_point` is subtracted, then `multiplier` and `shift` act."""

    zero_point: int
    multiplier: int
    shift: int


IDENTITY = Record(0, 1 << 30, 1)
"""Leaves a value as it is, in every mode."""


class Region(NamedTuple):
    """Outputs that share a parameter record."""

    tile: Tile
    record: Record


class Product(NamedTuple):
    """A layer as a matrix product (m, k) @ (k, n), as `accel.program.parts.LayerInfo` has it."""

    m: int = 0
    k: int = 0
    n: int = 0
    taps: int = 0
    groups: int = 1


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
    mode: RequantMode
    zero_point: int
    act_min: int
    act_max: int
    table: NDArray[np.int8] | None = None

    def span(self, axis: int, outputs: Span) -> Span:
        """Existing input positions that `outputs` touch along `axis`."""
        return self.window.span(axis, outputs, self.input_shape[axis])


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
    int4 : bool
        The weight buffer holds two rows of weights in each word.
    product : Product or None
        What the layer computes if its columns are packed (`compiler.lower.packing`); else that of its shapes.
    """

    weight: NDArray[np.int8]
    records: tuple[Record, ...]
    pad_value: int
    groups: int = 1
    int4: bool = False
    product: Product | None = None

    unit = "array"

    def input_channels(self, channel: int) -> Span:
        """Input channels that an output channel sees."""
        depth = self.weight.shape[3]
        group = channel * self.groups // self.weight.shape[0]
        return Span(group * depth, (group + 1) * depth)

    @property
    def macs(self) -> int:
        """Multiply-accumulates, padding included."""
        if self.product is not None:
            return self.product.m * self.product.k * self.product.n
        return self.output_shape[0] * self.output_shape[1] * self.weight.size


class DepthwiseLayer(ArrayLayer):
    """Convolution of every channel by itself, weights (c, kh, kw, 1), in the depthwise engine."""

    unit = "depthwise"


@dataclass(frozen=True, eq=False, kw_only=True)
class VectorLayer(Layer):
    """Pooling, elementwise arithmetic, tables: taps of one or two tensors combined by the post unit.

    Parameters
    ----------
    operands : two Operands
        For the first and for every later tap.
    regions : tuple of Region
        They cover the output once.
    """

    reduce: Reduce
    operands: tuple[Operand, Operand]
    left_shift: int
    regions: tuple[Region, ...]

    macs: int = 0
    unit = "post"


class Neighbours(NamedTuple):
    """Inputs along one axis that an output lies between: `first` and, unless `distance` is 0, ``first + distance``.

    The second one has `weight` 1024ths of the weight, the first one the rest.
    """

    first: int
    distance: int
    weight: int


@dataclass(frozen=True, eq=False, kw_only=True)
class InterpolationLayer(VectorLayer):
    """Bilinear resizing: every output is a weighted mean of the pixels where two rows and two columns cross.

    Parameters
    ----------
    rows, columns : tuple of Neighbours
        For every output row and column; `window` is not used.
    """

    rows: tuple[Neighbours, ...]
    columns: tuple[Neighbours, ...]

    def span(self, axis: int, outputs: Span) -> Span:
        neighbours = (self.rows, self.columns)[axis][outputs.first : outputs.last]
        return Span(min(n.first for n in neighbours), max(n.first + n.distance for n in neighbours) + 1)


@dataclass(frozen=True, eq=False, kw_only=True)
class MoveLayer:
    """Bytes gathered from external memory: `locations` tells where every element of the output comes from.

    Parameters
    ----------
    output_shape : (int, int, int)
    sources : tuple of str
        Values that lie in external memory.
    locations : ndarray of int64, shape (height, width, channels)
        ``source << SOURCE_SHIFT | byte``, or ``value - FILL``.
    """

    name: str
    op: str
    output: str
    output_shape: Hwc
    sources: tuple[str, ...]
    locations: NDArray[np.int64]

    inputs: tuple[str, ...] = ()
    macs: int = 0
    unit = "dma"


SOURCE_SHIFT = 32
"""Bits of a location below the number of its source."""

FILL = 128
"""An element that is the int8 `value` itself has the location ``value - FILL``, below 0."""

ComputeLayer: TypeAlias = ArrayLayer | VectorLayer
AnyLayer: TypeAlias = ComputeLayer | MoveLayer
"""Any layer of a network."""


def product_shape(layer: AnyLayer) -> Product:
    """The matrix product that a layer is."""
    if not isinstance(layer, ArrayLayer):
        return Product()
    if layer.product is not None:
        return layer.product
    height, width, channels = layer.output_shape
    taps = math.prod(layer.weight.shape[1:3])
    return Product(height * width, taps * layer.weight.shape[3], channels, taps, layer.groups)


class Unpacked(NamedTuple):
    """A value as external memory holds it, whose words hold `columns` columns of it."""

    value: str
    columns: int


class Users(NamedTuple):
    """Indices of the layers that write and that read a value, ascending."""

    writers: tuple[int, ...]
    readers: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Network:
    """A lowered graph.

    Parameters
    ----------
    layers : tuple of layers, in execution order
    aliases : dict of str to str
        Graph tensors that are another value under a different shape.
    inputs : dict of str to (int, int, int)
        Values given to the machine, read by a layer or not, and constants that layers read; their shapes.
    outputs : tuple of str
        Values that it delivers, possibly under an alias.
    operators : tuple of OperatorInfo
        Where each node of the graph runs.
    places : mapping of str to Place
        Values that are parts of others.
    wholes : mapping of str to (int, int, int)
        Values that are made of parts, and their shapes.
    constants : mapping of str to ndarray of int8
        Those of `inputs` that are part of the program, and constants that only external memory holds.
    unpacked : mapping of str to Unpacked
        Values that layers read column by column from external memory, where others have stored several in a word.
    """

    layers: tuple[AnyLayer, ...]
    aliases: dict[str, str]
    inputs: dict[str, Hwc]
    outputs: tuple[str, ...]
    operators: tuple[OperatorInfo, ...]
    places: Mapping[str, Place] = field(default_factory=dict)
    wholes: Mapping[str, Hwc] = field(default_factory=dict)
    constants: Mapping[str, NDArray[np.int8]] = field(default_factory=dict)
    unpacked: Mapping[str, Unpacked] = field(default_factory=dict)

    @cached_property
    def shapes(self) -> dict[str, Hwc]:
        """Shapes of all values."""
        shapes = {**self.inputs, **self.wholes, **{layer.output: layer.output_shape for layer in self.layers}}
        for name, (value, columns) in self.unpacked.items():
            height, width, channels = shapes[value]
            shapes[name] = (height, width * columns, channels // columns)
        return shapes

    def stored(self, value: str, tile: Tile) -> tuple[Place, Tile]:
        """What layers write of a value that a tile of it needs: the place of the value, and the tile."""
        if value not in self.unpacked:
            return self.place(value), tile
        packed, columns = self.unpacked[value]
        return self.place(packed), Tile(tile.y0, tile.y1, tile.x0 // columns, -(-tile.x1 // columns))

    def place(self, value: str) -> Place:
        """Where a value lies in one that is not a part of another; perhaps itself."""
        if value not in self._found:
            place = Place(value)
            while place.whole in self.places:
                place = place.within(self.places[place.whole])
            self._found[value] = place
        return self._found[value]

    @cached_property
    def _found(self) -> dict[str, Place]:
        return {}

    def users(self, whole: str) -> Users:
        """The layers that write and those that read the value or a part of it in the scratchpad."""
        return Users(self._writers.get(whole, ()), self._readers.get(whole, ()))

    @cached_property
    def _writers(self) -> dict[str, tuple[int, ...]]:
        return self._indices_by_whole(lambda layer: (layer.output,))

    @cached_property
    def _readers(self) -> dict[str, tuple[int, ...]]:
        return self._indices_by_whole(lambda layer: layer.inputs)

    def _indices_by_whole(self, values: Callable[[AnyLayer], tuple[str, ...]]) -> dict[str, tuple[int, ...]]:
        found: dict[str, tuple[int, ...]] = {}
        for index, layer in enumerate(self.layers):
            for whole in {self.place(value).whole for value in values(layer)}:
                found[whole] = (*found.get(whole, ()), index)
        return found

    @cached_property
    def kept(self) -> set[str]:
        """Values that external memory must hold: outputs, what gathers read, and what is read column by column."""
        unpacked = {value for value, _ in self.unpacked.values()}
        return {self.aliases.get(name, name) for name in self.outputs} | self.gathered | unpacked

    @cached_property
    def gathered(self) -> set[str]:
        """Values that some layer reads from external memory, resident or not."""
        return {
            self.place(value).whole for layer in self.layers if isinstance(layer, MoveLayer) for value in layer.sources
        }
