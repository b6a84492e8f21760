"""Lowering operators that move integers: most of them change only how memory is read."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from accel.network.nodes import Concat, Table
from accel.network.windows import Shape
from accel.quantized.lowering import Lowering, graph_shape
from accel.quantized.network import REAL_TYPES, Operator
from accel.quantized.values import Integers, Known, OfOne, Real, Sums, Target, Value
from accel.quantized.view import View

Apply = Callable[[Integers], Integers]


def moved(low: Lowering, op: Operator, apply: Apply, position: int = 0) -> Value:
    """A movement of one input: of its integers now, or when it gets them."""
    value = low.value(op, position)
    if isinstance(value, Real):
        source = value

        def finish(target: Target) -> Integers:
            name = op.input(position)
            return apply(low.finished(source, target._replace(name=name)))

        return Real(low.network.shape(op, op.outputs[0]), finish, source.limits)
    if isinstance(value, OfOne):
        return replace(value, source=apply(value.source))
    return apply(low.integers(op, position))


def transposed(low: Lowering, op: Operator) -> Value:
    """Transpose."""
    rank = len(low.value(op, 0).shape)
    order = tuple(int(axis) for axis in op.attributes.get("perm", range(rank)[::-1]))
    if sorted(order) != list(range(rank)):
        raise op.error(f"perm must be an order of {rank} axes, got {order!r}")
    return moved(low, op, lambda x: Integers(x.name, x.view.transposed(order)))


def reshaped(low: Lowering, op: Operator) -> Value:
    """Reshape, Flatten, Squeeze, Unsqueeze."""
    shape = _new_shape(low, op, low.value(op, 0).shape)
    value = low.value(op, 0)
    if isinstance(value, Sums) and value.shape == shape:
        return value
    return moved(low, op, lambda x: in_shape(low, x, shape))


def in_shape(low: Lowering, x: Integers, shape: Shape) -> Integers:
    """The same elements in the source's order under another shape."""
    view = x.view.merged().reshaped(shape)
    return Integers(x.name, view.merged()) if view is not None else Integers(low.row_major(x).name, View.of(shape))


def _new_shape(low: Lowering, op: Operator, shape: Shape) -> Shape:
    if op.kind == "Flatten":
        axis = int(op.attributes.get("axis", 1))
        axis = axis + len(shape) if axis < 0 else axis
        return math.prod(shape[:axis]), math.prod(shape[axis:])
    if op.kind == "Reshape":
        given = list(low.numbers(op, "shape", 1) or ())
        zero = bool(op.attributes.get("allowzero", 0))
        wanted = [shape[i] if size == 0 and not zero and i < len(shape) else size for i, size in enumerate(given)]
    else:
        wanted = _without_or_with_ones(op, shape, low.numbers(op, "axes", 1))
    if wanted.count(-1) == 1:
        known = math.prod(size for size in wanted if size != -1)
        wanted[wanted.index(-1)] = math.prod(shape) // max(known, 1)
    if math.prod(wanted) != math.prod(shape) or any(size < 1 for size in wanted):
        raise op.error(f"shape must have {math.prod(shape)} elements, got {wanted!r}")
    return tuple(wanted)


def _without_or_with_ones(op: Operator, shape: Shape, given: tuple[int, ...] | None) -> list[int]:
    """The shape that Squeeze or Unsqueeze makes."""
    rank = len(shape) + (len(given or ()) if op.kind == "Unsqueeze" else 0)
    axes = {axis % max(rank, 1) for axis in given or ()}
    if op.kind == "Squeeze":
        return [size for axis, size in enumerate(shape) if (axis not in axes if axes else size != 1)]
    rest = iter(shape)
    return [1 if axis in axes else next(rest) for axis in range(rank)]


def concat(low: Lowering, op: Operator) -> Value:
    """Concat: parts are rescaled to the result's parameters."""
    values = [low.value(op, position) for position in range(len(op.inputs))]
    rank, axis = len(values[0].shape), int(op.attributes.get("axis", 1))
    if not -rank <= axis < rank or any(len(value.shape) != rank for value in values):
        raise op.error(f"inputs must have one rank and axis must be one of theirs, got axis {axis}")
    axis %= rank
    shape = (*values[0].shape[:axis], sum(value.shape[axis] for value in values), *values[0].shape[axis + 1 :])

    def finish(target: Target) -> Integers:
        parts = []
        for name, value in zip(op.inputs, values, strict=True):
            parts.append(low.finished(value, Target(name, target.parameters, target.limits)))
        return _joined(low, parts, axis, target.name)

    integers = [value for value in values if isinstance(value, Integers)]
    if len(integers) == len(values) and len({low.parameters(x) for x in integers}) == 1:
        return _joined(low, integers, axis, op.outputs[0])
    return Real(shape, finish)


def _joined(low: Lowering, parts: Sequence[Integers], axis: int, name: str) -> Integers:
    """Integers of one kind, one after the other; memory has the order of the largest part."""
    lead = max(parts, key=lambda part: math.prod(part.shape))
    order = lead.view.axes or tuple(range(len(lead.shape)))
    names = []
    for part in parts:
        shape, place = spread(part.shape, order, axis)
        names.append(low.in_axes(part, order, shape))
    joined = low.builder.emit(Concat, names, low.builder.parameters(names[0]), name, axis=place)
    shape = (*lead.shape[:axis], sum(part.shape[axis] for part in parts), *lead.shape[axis + 1 :])
    return in_order(low, joined, shape, order)


def spread(shape: Shape, order: Sequence[int], axis: int) -> tuple[Shape, int]:
    """A shape of the graph for axes in an order in memory, and the place of one of them in it."""
    sizes, place = [shape[a] for a in order], tuple(order).index(axis)
    if len(sizes) <= 3:
        return (*(1,) * (4 - len(sizes)), *sizes), place + 4 - len(sizes)
    if len(sizes) == 4 and sizes[0] == 1 and place:
        return tuple(sizes), place
    return (1, math.prod(sizes[:place]), sizes[place], math.prod(sizes[place + 1 :])), 2


def in_order(low: Lowering, name: str, shape: Shape, order: Sequence[int]) -> Integers:
    """A tensor of the graph that holds axes of `shape` in an order."""
    return Integers(low.builder.reshape(name, graph_shape(shape, order)), View.of(shape, tuple(order)))


def whole_axes(low: Lowering, x: Integers) -> tuple[Integers, tuple[int, ...]]:
    """A tensor whose axes are whole in memory, and their order."""
    return (low.row_major(x), tuple(range(len(x.shape)))) if x.view.axes is None else (x, x.view.axes)


def depth_to_space(low: Lowering, op: Operator) -> Value:
    """DepthToSpace and SpaceToDepth."""
    shape, b = low.value(op, 0).shape, int(op.attributes.get("blocksize", 1))
    if len(shape) != 4 or b < 1:
        raise op.error(f"input must have shape (N, channels, height, width), got {shape!r}")
    n, c, h, w = shape
    if op.kind == "SpaceToDepth":
        inner, order, after = (n, c, h // b, b, w // b, b), (0, 3, 5, 1, 2, 4), (n, c * b * b, h // b, w // b)
    elif str(op.attributes.get("mode", "DCR")) == "DCR":
        inner, order, after = (n, b, b, c // b**2, h, w), (0, 3, 4, 1, 5, 2), (n, c // b**2, h * b, w * b)
    else:
        inner, order, after = (n, c // b**2, b, b, h, w), (0, 1, 4, 2, 5, 3), (n, c // b**2, h * b, w * b)
    if math.prod(inner) != math.prod(shape):
        raise op.error(f"blocksize {b} must divide the sizes of {shape!r}")

    def apply(x: Integers) -> Integers:
        x = in_shape(low, x, inner)
        return in_shape(low, Integers(x.name, x.view.transposed(order)), after)

    return moved(low, op, apply)


def expand(low: Lowering, op: Operator) -> Value:
    """Expand: axes of size 1 repeated."""
    value = low.value(op, 0)
    shape = np.broadcast_shapes(value.shape, low.network.shape(op, op.outputs[0]))
    if isinstance(value, Known):
        return Known(np.broadcast_to(value.real, shape))
    if shape == value.shape:
        return value
    from accel.quantized.elementwise import repeated

    return moved(low, op, lambda x: repeated(low, x, shape))


def identity(low: Lowering, op: Operator) -> Value:
    """Identity and Dropout: the same value, perhaps under other parameters."""
    return low.value(op, 0)


def cast(low: Lowering, op: Operator) -> Value:
    """Cast between real types: the same value."""
    kinds = [low.network.tensors[name].dtype for name in (op.inputs[0], op.outputs[0]) if name in low.network.tensors]
    if any(kind not in REAL_TYPES for kind in kinds):
        raise op.error(f"types must be real, got {' to '.join(kinds)}")
    return low.value(op, 0)


def reinterpreted(low: Lowering, op: Operator) -> Value:
    """The same integers under other parameters, where a file contradicts itself."""
    x, found = low.integers(op, 0), low.network.parameters[op.outputs[0]]
    return Integers(low.builder.reinterpret(x.name, found.parameters), x.view)


def looked_up(low: Lowering, op: Operator) -> Value:
    """A table that a file holds."""
    x, found = low.integers(op, 0), low.network.parameters[op.outputs[0]]
    table = np.asarray(op.attributes["table"], dtype=np.int8)
    return Integers(low.builder.emit(Table, [x.name], found.parameters, op.outputs[0], table=table), x.view)
