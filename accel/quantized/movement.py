"""Lowering operators that move integers: most of them change only how memory is read."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from accel.network.nodes import Concat, Gather, Pad, StridedSlice
from accel.network.windows import Shape
from accel.quantized import recipes
from accel.quantized.lowering import Lowering, graph_shape
from accel.quantized.network import Operator
from accel.quantized.values import Integers, Known, OfOne, Real, Sums, Target, Value
from accel.quantized.view import View

Apply = Callable[[Integers], Integers]


def moved(low: Lowering, op: Operator, apply: Apply, position: int = 0) -> Value:
    """A movement of one input: of its integers now, or when it gets them."""
    value = low.value(op, position)
    if isinstance(value, Real) and value.default is None:
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


def _cut(low: Lowering, x: Integers, bounds: Sequence[tuple[int, int, int]], name: str) -> Integers:
    """Elements ``begin, begin + step, ...`` before `end` of every axis; steps may be negative."""
    for axis, (begin, end, step) in enumerate(bounds):
        taken = range(begin, end, step)
        if taken == range(x.shape[axis]):
            continue
        if step < 0:
            x = _picked(low, x, axis, tuple(taken), name)
            continue
        x, order = whole_axes(low, x)
        source, place = spread(x.shape, order, axis)
        first = tuple(taken.start if a == place else 0 for a in range(4))
        end_ = tuple(taken[-1] + 1 if a == place else size for a, size in enumerate(source))
        fields = {"begin": first, "end": end_, "stride": tuple(step if a == place else 1 for a in range(4))}
        cut = low.builder.emit(StridedSlice, [low.builder.reshape(x.name, source)], low.parameters(x), name, **fields)
        x = in_order(low, cut, (*x.shape[:axis], len(taken), *x.shape[axis + 1 :]), order)
    return x


def sliced(low: Lowering, op: Operator) -> Value:
    """Slice."""
    shape = low.value(op, 0).shape
    starts, ends = low.numbers(op, "starts", 1), low.numbers(op, "ends", 2)
    if starts is None or ends is None or len(starts) != len(ends):
        raise op.error("starts and ends must be constants of one length")
    axes = low.numbers(op, "axes", 3) or tuple(range(len(starts)))
    steps = low.numbers(op, "steps", 4) or (1,) * len(starts)
    bounds = [(0, size, 1) for size in shape]
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        if not -len(shape) <= axis < len(shape) or step == 0:
            raise op.error(f"axes must be some of {len(shape)} and steps not 0, got axis {axis}, step {step}")
        taken = range(shape[axis])[slice(start, None if step < 0 and end < -shape[axis] else end, step)]
        if not taken:
            raise op.error(f"slice must have elements, got {start} to {end} of {shape[axis]}")
        bounds[axis] = (taken.start, taken.stop, taken.step)
    return moved(low, op, lambda x: _cut(low, x, bounds, op.outputs[0]))


def split(low: Lowering, op: Operator) -> list[Value]:
    """Split: one slice per output."""
    shape = low.value(op, 0).shape
    axis = int(op.attributes.get("axis", 0)) % len(shape)
    parts = low.numbers(op, "split", 1)
    if parts is None:
        size = -(-shape[axis] // len(op.outputs))
        parts = tuple(min(size, shape[axis] - i * size) for i in range(len(op.outputs)))
    if sum(parts) != shape[axis] or len(parts) != len(op.outputs) or min(parts) < 1:
        raise op.error(f"split must divide {shape[axis]} elements among {len(op.outputs)} outputs, got {parts!r}")
    results, first = [], 0
    x = low.integers(op, 0)
    for name, size in zip(op.outputs, parts, strict=True):
        bounds = [(0, n, 1) for n in shape]
        bounds[axis] = (first, first + size, 1)
        results.append(_cut(low, x, bounds, name))
        first += size
    return list(results)


def gather(low: Lowering, op: Operator) -> Value:
    """Gather with constant indices."""
    shape, indices = low.value(op, 0).shape, low.constant(op, 1)
    axis = int(op.attributes.get("axis", 0)) % len(shape)
    size = shape[axis]
    if indices is None or np.any(indices < -size) or np.any(indices >= size) or indices.size == 0:
        raise op.error(f"indices must be constants in [-{size}, {size - 1}]")
    wanted = tuple(int(i) % size for i in indices.reshape(-1))
    after = (*shape[:axis], *indices.shape, *shape[axis + 1 :])

    def apply(x: Integers) -> Integers:
        return in_shape(low, _picked(low, x, axis, wanted, op.outputs[0]), after)

    return moved(low, op, apply)


def _picked(low: Lowering, x: Integers, axis: int, wanted: tuple[int, ...], name: str) -> Integers:
    """The elements `wanted` of one axis, in that order."""
    steps = {b - a for a, b in itertools.pairwise(wanted)} or {1}
    if len(steps) == 1 and min(steps) > 0:
        bounds = [(0, size, 1) for size in x.shape]
        bounds[axis] = (wanted[0], wanted[-1] + 1, min(steps))
        return _cut(low, x, bounds, name)
    x, order = whole_axes(low, x)
    source, place = spread(x.shape, order, axis)
    picked = low.builder.emit(
        Gather,
        [low.builder.reshape(x.name, source)],
        low.parameters(x),
        name,
        axis=place,
        indices=np.array(wanted, dtype=np.int32),
    )
    return in_order(low, picked, (*x.shape[:axis], len(wanted), *x.shape[axis + 1 :]), order)


def pad(low: Lowering, op: Operator) -> Value:
    """Pad with a constant, the edge, a reflection, or from the other end."""
    shape = low.value(op, 0).shape
    pads, mode = low.numbers(op, "pads", 1), str(op.attributes.get("mode", "constant"))
    axes = low.numbers(op, "axes", 3) if len(op.inputs) > 3 else None
    axes = tuple(axis % len(shape) for axis in axes) if axes else tuple(range(len(shape)))
    if pads is None or len(pads) != 2 * len(axes):
        raise op.error(f"pads must hold {2 * len(axes)} constants, got {pads!r}")
    ends = {axis: (pads[i], pads[i + len(axes)]) for i, axis in enumerate(axes)}
    if any(before < 0 or after < 0 for before, after in ends.values()):
        raise op.error(f"pads must not be negative, got {pads!r}; use Slice")
    number = low.constant(op, 2)
    value = float(op.attributes.get("value", 0.0) if number is None or not number.size else number.reshape(-1)[0])
    if mode == "constant":
        return moved(low, op, lambda x: _bordered(low, x, ends, value, op.outputs[0]))
    return moved(low, op, lambda x: _mirrored(low, op, x, ends, mode))


def _bordered(low: Lowering, x: Integers, ends: dict[int, tuple[int, int]], value: float, name: str) -> Integers:
    """A border of one number."""
    own = low.parameters(x)
    stored = int(recipes.quantize(np.array([value]), own, low.mode)[0])
    x, order = whole_axes(low, x)
    for axis, (before, after) in ends.items():
        if not before and not after:
            continue
        source, place = spread(x.shape, order, axis)
        fields = {
            "before": tuple(before if a == place else 0 for a in range(4)),
            "after": tuple(after if a == place else 0 for a in range(4)),
        }
        pixels = low.builder.reshape(x.name, source)
        padded = low.builder.emit(Pad, [pixels], own, name, **fields, value=stored)
        x = in_order(low, padded, (*x.shape[:axis], before + x.shape[axis] + after, *x.shape[axis + 1 :]), order)
    return x


def _mirrored(low: Lowering, op: Operator, x: Integers, ends: dict[int, tuple[int, int]], mode: str) -> Integers:
    """A border of the tensor's own elements."""
    numpy_modes = {"edge": "edge", "reflect": "reflect", "wrap": "wrap"}
    if mode not in numpy_modes:
        raise op.error(f"mode must be constant, edge, reflect or wrap, got {mode!r}")
    for axis, (before, after) in ends.items():
        if before or after:
            wanted = np.pad(np.arange(x.shape[axis]), (before, after), mode=numpy_modes[mode])  # type: ignore[call-overload]
            x = _picked(low, x, axis, tuple(int(i) for i in wanted), op.outputs[0])
    return x


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
    """Identity, Dropout and Cast between real types: the same value, perhaps under other parameters."""
    return low.value(op, 0)


def reinterpreted(low: Lowering, op: Operator) -> Value:
    """The same integers under other parameters, where a file contradicts itself."""
    x, found = low.integers(op, 0), low.network.parameters[op.outputs[0]]
    return Integers(low.builder.reinterpret(x.name, found.parameters), x.view)
