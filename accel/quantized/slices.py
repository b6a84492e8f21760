"""Lowering operators that pick elements of axes, or put a border around them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Literal, cast, get_args

import numpy as np

from accel.network.nodes import Gather, Pad, StridedSlice
from accel.quantized import recipes
from accel.quantized.builder import Parameters
from accel.quantized.lowering import Lowering
from accel.quantized.movement import in_order, in_shape, moved, spread, whole_axes
from accel.quantized.network import Operator
from accel.quantized.values import Integers, Real, Target, Value

Border = Literal["edge", "reflect", "wrap"]
"""Borders of a tensor's own elements, as NumPy and ONNX call them."""


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
    source = low.value(op, 0)
    x = source if isinstance(source, Real) else low.integers(op, 0)
    bounds = itertools.pairwise(itertools.accumulate(parts, initial=0))
    return [_part(low, op, x, axis, range(*ends), index) for index, ends in enumerate(bounds)]


def _part(low: Lowering, op: Operator, x: Integers | Real, axis: int, taken: range, index: int) -> Value:
    """An output of Split: of integers now, or when it gets its parameters."""
    bounds = [(0, size, 1) for size in x.shape]
    bounds[axis] = (taken.start, taken.stop, 1)
    if isinstance(x, Integers):
        return _cut(low, x, bounds, op.outputs[index])

    def finish(target: Target) -> Integers:
        return _cut(low, low.finished(x, target._replace(name=op.input(0))), bounds, target.name)

    return Real((*x.shape[:axis], len(taken), *x.shape[axis + 1 :]), finish, x.limits)


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
        return _with_constant(low, op, ends, value)
    return moved(low, op, lambda x: _mirrored(low, op, x, ends, mode))


def _with_constant(low: Lowering, op: Operator, ends: dict[int, tuple[int, int]], number: float) -> Value:
    """A border of one number: at once if the input's integers hold it, else under the parameters of the result."""
    x = low.value(op, 0)
    if isinstance(x, Integers) and _holds(low.parameters(x), number, low):
        return _bordered(low, x, ends, number, op.outputs[0])

    def finish(target: Target) -> Integers:
        inner = low.finished(x, target._replace(name=op.input(0)))
        return _bordered(low, inner, ends, min(max(number, target.limits[0]), target.limits[1]), op.outputs[0])

    return Real(low.network.shape(op, op.outputs[0]), finish)


def _holds(parameters: Parameters, number: float, low: Lowering) -> bool:
    """Whether integers of these parameters stand for a number, to the precision of float32."""
    stored = recipes.quantize(np.array([number]), parameters, low.mode)
    real = np.float32(parameters[0]) * np.float32(int(stored[0]) - parameters[1])
    return bool(real == np.float32(number))


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
    if mode not in get_args(Border):
        raise op.error(f"mode must be constant, edge, reflect or wrap, got {mode!r}")
    for axis, (before, after) in ends.items():
        if before or after:
            wanted = np.pad(np.arange(x.shape[axis]), (before, after), mode=cast(Border, mode))
            x = _picked(low, x, axis, tuple(int(i) for i in wanted), op.outputs[0])
    return x
