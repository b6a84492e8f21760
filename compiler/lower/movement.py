"""Operations that only move bytes: seen in place, copied by the post unit, or gathered from external memory.

Each operation takes the first way that is possible:

* nothing moves: a reshape that keeps height, width and channels, a slice of whole channel chunks (its readers skip the
  rest), a concatenation of whole chunks (its producers write to their places);
* the post unit copies: nearest resizing, padding, parts of a concatenation that exist elsewhere already;
* a gather: any map from elements to bytes of external memory. The map of an operation is what
  `accel.network.reference` makes of the map of its input, moving addresses instead of values, so that chains of
  operations become one gather.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from accel.machine.layout import Hwc, chunk_offset, hwc
from accel.network.graph import Graph
from accel.network.nodes import (
    Concat,
    Constant,
    Conv2d,
    FullyConnected,
    Node,
    Pad,
    Reshape,
    ResizeNearest,
    StridedSlice,
)
from accel.network.reference_movement import MOVERS
from compiler.lower.copies import copy_value, pad_copies, resize_copies
from compiler.lower.geometry import Place
from compiler.lower.layers import FILL, SOURCE_SHIFT, MoveLayer, VectorLayer

Ints = NDArray[np.int64]


class Movement:
    """Lowers the moving nodes of a graph, in order.

    Parameters
    ----------
    graph : Graph
    rows : int
        Channels per chunk.
    needed : set of str
        Tensors that external memory must hold under their own name: outputs.
    moves : function of a node
        Whether the machine runs it by moving bytes only.

    Attributes
    ----------
    aliases : dict of str to str
        Tensors that are another value under a different shape.
    constants : dict of str to ndarray of int8
        Tensors that the program brings along.
    places : dict of str to Place
        Values that are parts of others.
    wholes : dict of str to (int, int, int)
        Values that are made of parts only.
    """

    def __init__(self, graph: Graph, rows: int, needed: set[str], moves: Callable[[Node], bool]) -> None:
        self.graph, self.rows, self.needed, self.mode, self._moves = graph, rows, needed, graph.mode, moves
        self.aliases: dict[str, str] = {}
        self.constants: dict[str, NDArray[np.int8]] = {}
        self.places: dict[str, Place] = {}
        self.wholes: dict[str, Hwc] = {}
        self._copies: dict[str, list[VectorLayer]] = {}
        self._maps: dict[str, Ints] = {}
        self._sources: list[str] = []
        self._gathered = {n.output for n in graph.nodes if moves(n)}
        self._wanted = set(needed)
        for node in graph.nodes:
            if moves(node):
                if self._settle(node):
                    self._gathered.remove(node.output)
            else:
                self._wanted.update(node.inputs)

    def lower(self, node: Node) -> tuple[Sequence[VectorLayer | MoveLayer], str, str]:
        """The layers that make the node's output, if a layer or the host reads it; their unit, and why."""
        if node.output in self._gathered:
            self._move(node)
            if node.output in self._wanted:
                return [self._gather(node)], "dma", "bytes gathered from external memory"
            return [], "none", "a part of the gather that follows"
        if copies := self._copies.get(node.name):
            return copies, "post", "copies"
        return [], "none", "nothing moves: readers and writers find their bytes"

    def _move(self, node: Node) -> None:
        """Where the elements of the node's output lie."""
        if isinstance(node, Constant):
            name = f"{node.output} (constant)"
            self.constants[name] = node.value
            self._maps[node.output] = self._bytes_of(name, node.value.shape)
        else:
            mover = replace(node, value=node.value - FILL) if isinstance(node, Pad) else node
            moved = MOVERS[type(node)](mover, *(self._map(name) for name in node.inputs))
            self._maps[node.output] = np.asarray(moved, np.int64)

    def add_parts(self, node: Node, places: dict[str, Place]) -> None:
        """The node's output is made of the parts `places`, if there are any."""
        self.places |= places
        if places:
            self.wholes[node.output] = self._shape(node.output)

    # Nothing moves, or the post unit copies -----------------------------------------------------------------------

    def _settle(self, node: Node) -> bool:
        """Try all but a gather."""
        if isinstance(node, Concat):
            return self._concat(node)
        if isinstance(node, Constant):
            if node.output not in self.needed:
                self.constants[node.output] = node.value
            return node.output not in self.needed
        if node.inputs[0] in self._gathered:
            return False
        if isinstance(node, Reshape):
            return self._alias(node)
        if isinstance(node, StridedSlice):
            return self._slice(node)
        if isinstance(node, (Pad, ResizeNearest)):
            return self._copy(node)
        return False

    def _value(self, tensor: str) -> str:
        return self.aliases.get(tensor, tensor)

    def _shape(self, tensor: str) -> Hwc:
        return hwc(self.graph.tensors[tensor].shape)

    def _alias(self, node: Reshape) -> bool:
        value = self._value(node.inputs[0])
        if node.output in self.needed and value in (self.constants | self.places):
            return False
        same = self._shape(value) == hwc(node.shape)
        if not same and (node.output in self.needed or not self._only_multiplied(node.output)):
            return False
        self.aliases[node.output] = value
        return True

    def _only_multiplied(self, tensor: str) -> bool:
        consumers = self.graph.consumers(tensor)
        return all(
            isinstance(c, FullyConnected) or (isinstance(c, Reshape) and self._only_multiplied(c.output))
            for c in consumers
        )

    def _is_hidden(self, tensor: str) -> bool:
        """Whether a tensor may be a part of another: nobody needs its own bytes."""
        consumers = self.graph.consumers(tensor)
        return tensor not in self.needed and not any(isinstance(consumer, Reshape) for consumer in consumers)

    def _slice(self, node: StridedSlice) -> bool:
        (y, x, channel), (y_step, x_step, channel_step) = _indices(node.begin, 0), _indices(node.stride, 1)
        if channel % self.rows or channel_step > 1 or not self._is_hidden(node.output):
            return False
        if x_step % 2 == 0 and any(isinstance(c, Conv2d) and c.groups > 1 for c in self.graph.consumers(node.output)):
            return False  # the depthwise engine reads two neighbours at once, which must not be in one half of a bank
        self.places[node.output] = Place(self._value(node.inputs[0]), channel // self.rows, (y, x), (y_step, x_step))
        return True

    def _concat(self, node: Concat) -> bool:
        axis = node.axis - 1 if len(self.graph.tensors[node.output].shape) == 4 else 2
        shapes = [self._shape(name) for name in node.inputs]
        starts = [0, *accumulate(shape[axis] for shape in shapes)]
        direct = [self._writes_anywhere(name) and name not in node.inputs[:i] for i, name in enumerate(node.inputs)]
        if not any(direct) or (axis == 2 and any(start % self.rows for start in starts[:-1])):
            return False
        copies = []
        for i, (name, start) in enumerate(zip(node.inputs, starts, strict=False)):
            origin = (start if axis == 0 else 0, start if axis == 1 else 0)
            part = name if direct[i] else f"{node.output}[{i}]"
            self.places[part] = Place(node.output, start // self.rows if axis == 2 else 0, origin)
            if not direct[i]:
                self._wanted.add(name)
                copies.append(copy_value(node, self.mode, self._value(name), shapes[i], part))
        self.wholes[node.output], self._copies[node.name] = self._shape(node.output), copies
        return True

    def _writes_anywhere(self, tensor: str) -> bool:
        """Whether a tensor's producer may write it to a place in another: it computes, or is made of parts itself."""
        producer = self.graph.producer(tensor)
        made = producer is not None and (not self._moves(producer) or producer.name in self._copies)
        return made and tensor not in self.places and self._is_hidden(tensor)

    def _copy(self, node: Pad | ResizeNearest) -> bool:
        source, shape = self._value(node.inputs[0]), self._shape(node.inputs[0])
        if isinstance(node, Pad):
            made = pad_copies(node, self.mode, source, shape)
        else:
            made = resize_copies(node, self.mode, source, shape)
        if made is None:
            return False
        self._copies[node.name], places = made
        self.add_parts(node, places)
        return True

    # Gathers ------------------------------------------------------------------------------------------------------

    def _gather(self, node: Node) -> MoveLayer:
        shape = self._shape(node.output)
        locations = self._maps[node.output].reshape(shape)
        numbers, positions = np.unique(locations >> SOURCE_SHIFT, return_inverse=True)
        first = int(np.searchsorted(numbers, 0))
        moved = (positions.reshape(shape) - first << SOURCE_SHIFT) | (locations & (1 << SOURCE_SHIFT) - 1)
        return MoveLayer(
            name=node.name,
            op=node.op,
            output=node.output,
            output_shape=shape,
            sources=tuple(self._sources[number] for number in numbers[first:]),
            locations=np.where(locations < 0, locations, moved),
        )

    def _map(self, tensor: str) -> Ints:
        """Where the elements of a tensor lie in external memory."""
        if tensor in self._maps:
            return self._maps[tensor]
        value = self._value(tensor)
        if place := self.places.get(value):
            height, width, channels = self._shape(value)
            (y, x), (y_end, x_end) = place.origin, place.pixel(height - 1, width - 1)
            channel = place.chunk * self.rows
            source = self._map(place.whole).reshape(self._shape(place.whole))[
                y : y_end + 1 : place.step[0], x : x_end + 1 : place.step[1], channel : channel + channels
            ]
        else:
            source = self._bytes_of(value, self.graph.tensors[value].shape)
        return source.reshape(self.graph.tensors[tensor].shape)

    def _bytes_of(self, value: str, shape: tuple[int, ...]) -> Ints:
        if value not in self._sources:
            self._sources.append(value)
        number = self._sources.index(value)
        return (number << SOURCE_SHIFT) + byte_offsets(hwc(shape), self.rows).reshape(shape)


def _indices(values: tuple[int, ...], missing: int) -> Hwc:
    """Values of the axes (height, width, channels), of which (1, features) has the last."""
    return (missing, missing, values[1]) if len(values) == 2 else (values[1], values[2], values[3])


def byte_offsets(shape: Hwc, rows: int) -> Ints:
    """Byte of every element of a tensor in external memory (`accel.machine.layout`); (height, width, channels)."""
    height, width, channels = shape
    offsets = np.empty(shape, np.int64)
    pixels = np.arange(height * width).reshape(height, width, 1)
    for chunk, first in enumerate(range(0, channels, rows)):
        depth = min(rows, channels - first)
        offsets[:, :, first : first + depth] = chunk_offset(shape, chunk, rows) + pixels * depth + np.arange(depth)
    return offsets
