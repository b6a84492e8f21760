"""Tensors of any rank and batch in a graph whose tensors have four axes.

A file's tensor keeps its axes in the graph, behind axes of size 1, unless it has a batch or more than four of them:
then all but the last two are merged. What happens along one axis happens there, or in a view
``(1, before, axis, after)``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from accel.network.nodes import Gather, Pad, StridedSlice
from accel.network.windows import Shape
from accel.quantized.builder import GraphBuilder, canonical

Pick: TypeAlias = range | NDArray[np.int32]
"""Indices to select along an axis, at least one."""


def as_pick(indices: NDArray[np.integer[Any]]) -> Pick:
    """Indices, at least one, as a range if their steps are equal and positive."""
    steps = np.diff(indices)
    step = int(steps[0]) if steps.size else 1
    if step > 0 and (steps == step).all():
        return range(int(indices[0]), int(indices[-1]) + 1, step)
    return indices.astype(np.int32)


def keeps_axes(shape: Shape) -> bool:
    """Whether the graph's tensor has the axes of the file's one."""
    return len(shape) < 4 or (len(shape) == 4 and shape[0] == 1)


def graph_shape(shape: Shape) -> Shape:
    """The shape under which the graph holds a tensor of the file; ModelError as for `canonical`."""
    if keeps_axes(shape) or min(shape) <= 0:
        return canonical(shape)
    return canonical((1, math.prod(shape[:-2]), *shape[-2:]))


class Piece(NamedTuple):
    """A tensor of the graph, under the shape that the file would give it."""

    value: str
    shape: Shape

    def along(self, builder: GraphBuilder, axis: int) -> tuple[str, int]:
        """The tensor under a shape in which `axis` of the file is an axis behind the first, and that axis."""
        full = graph_shape(self.shape)
        place = axis + len(full) - len(self.shape)
        if keeps_axes(self.shape) and place > 0:
            return builder.reshape(self.value, full), place
        split = (1, math.prod(self.shape[:axis]), self.shape[axis], math.prod(self.shape[axis + 1 :]))
        return builder.reshape(self.value, split), 2

    def select(self, builder: GraphBuilder, picks: Sequence[Pick], name: str) -> Piece:
        """The elements at `picks` along every axis: one slice where that is possible, else an axis at a time."""
        front = len(graph_shape(self.shape)) - len(self.shape)
        sizes = tuple(len(pick) for pick in picks)
        slices = [pick for pick in picks if isinstance(pick, range) and pick.step > 0]
        if keeps_axes(self.shape) and len(slices) == len(picks):
            value = builder.reshape(self.value, graph_shape(self.shape))
            return Piece(_slice(builder, value, [range(1)] * front + slices, name), sizes)
        piece = self
        for axis, pick in enumerate(picks):
            if not (isinstance(pick, range) and pick == range(piece.shape[axis])):
                piece = piece._pick(builder, axis, pick, name)
        return piece

    def _pick(self, builder: GraphBuilder, axis: int, pick: Pick, name: str) -> Piece:
        """The elements at `pick` along one axis."""
        value, place = self.along(builder, axis)
        if isinstance(pick, range) and pick.step > 0:
            whole = [range(size) for size in builder.shape(value)]
            value = _slice(builder, value, [*whole[:place], pick, *whole[place + 1 :]], name)
        else:
            indices = np.asarray(pick, np.int32)
            value = builder.emit(Gather, [value], builder.parameters(value), name, axis=place, indices=indices)
        return Piece(value, (*self.shape[:axis], len(pick), *self.shape[axis + 1 :]))

    def pad(self, builder: GraphBuilder, before: Sequence[int], after: Sequence[int], number: int, name: str) -> Piece:
        """A border of `number`: one node where that is possible, else an axis at a time."""
        front = len(graph_shape(self.shape)) - len(self.shape)
        shape = tuple(sum(sizes) for sizes in zip(before, self.shape, after, strict=True))
        if keeps_axes(self.shape) and keeps_axes(shape):
            value = builder.reshape(self.value, graph_shape(self.shape))
            return Piece(_pad(builder, value, [0] * front + [*before], [0] * front + [*after], number, name), shape)
        piece = self
        for axis, sizes in enumerate(zip(before, after, strict=True)):
            if any(sizes):
                value, place = piece.along(builder, axis)
                around = np.zeros((2, len(builder.shape(value))), int)
                around[:, place] = sizes
                value = _pad(builder, value, around[0].tolist(), around[1].tolist(), number, name)
                piece = Piece(value, (*piece.shape[:axis], shape[axis], *piece.shape[axis + 1 :]))
        return piece


def _slice(builder: GraphBuilder, value: str, picks: list[range], name: str) -> str:
    begin, end, stride = zip(*((pick.start, pick.stop, pick.step) for pick in picks), strict=True)
    parameters = builder.parameters(value)
    return builder.emit(StridedSlice, [value], parameters, name, begin=begin, end=end, stride=stride)


def _pad(builder: GraphBuilder, value: str, before: list[int], after: list[int], number: int, name: str) -> str:
    parameters = builder.parameters(value)
    return builder.emit(Pad, [value], parameters, name, before=tuple(before), after=tuple(after), value=number)
