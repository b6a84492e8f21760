"""Lowering operators of two or more tensors that broadcast, and factors and offsets per channel."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from accel.network.nodes import Add, Concat, Conv2d, MaxPool2d, Mul, Node, Sub, Table
from accel.network.windows import Shape
from accel.quantized import recipes
from accel.quantized.functions import of_one, of_same
from accel.quantized.lowering import Lowering
from accel.quantized.network import Operator
from accel.quantized.values import Integers, Known, Real, Sums, Target, Value
from accel.quantized.view import Order, View
from accel.quantized.weighted import channel_affine

NEGATED = np.arange(-128, 128, dtype=np.int8)[::-1].copy()
"""The table ``-1 - q``: with the zero point ``-1 - zero_point`` it is the negative real number."""


def elementwise(low: Lowering, op: Operator) -> Value:
    """Add, Sub, Mul, Div, Max, Min, Pow and Sum."""
    values = [low.value(op, position) for position in range(len(op.inputs))]
    if len(values) == 1:
        return values[0]
    if all(isinstance(value, Known) for value in values):
        raise op.error("inputs must not all be constants")
    if (same := of_same(low, op, values)) is not None:
        return same
    if len(values) == 2 and (affine := _affine(low, op, values)) is not None:
        return affine
    result = values[0]
    for position, other in enumerate(values[1:], 1):
        last = position == len(values) - 1
        result = _combined(low, op, result, other, position)
        if not last and isinstance(result, Real):
            raise op.error("more than two tensors must be added one after the other")
    return result


def _affine(low: Lowering, op: Operator, values: list[Value]) -> Value | None:
    """A factor or an offset per channel: in the weights of sums, or a depthwise convolution."""
    places = [position for position, value in enumerate(values) if isinstance(value, Known)]
    if len(places) != 1 or op.kind not in ("Add", "Sub", "Mul", "Div", "Sum"):
        return None
    constant, x = values[places[0]], values[1 - places[0]]
    assert isinstance(constant, Known)
    shape, real = x.shape, constant.real.astype(np.float64)
    reversed_division = op.kind == "Div" and places[0] == 0
    if reversed_division or np.broadcast_shapes(shape, real.shape) != shape or not np.all(np.isfinite(real)):
        return None
    if op.kind == "Div" and not np.all(real):
        return None
    axis = x.axis if isinstance(x, Sums) else _only_axis(real.shape, len(shape))
    if axis is None or not _varies_along(real.shape, len(shape), axis):
        return None
    numbers = np.ascontiguousarray(np.broadcast_to(real.reshape(-1), (shape[axis],)))
    one, zero = np.ones_like(numbers), np.zeros_like(numbers)
    factor, offset = {
        "Add": (one, numbers),
        "Sum": (one, numbers),
        "Sub": (one, -numbers) if places[0] == 1 else (-one, numbers),
        "Mul": (numbers, zero),
        "Div": (1 / np.where(numbers == 0, 1, numbers), zero),
    }[op.kind]
    return affine(low, op, x, axis, factor, offset, 1 - places[0])


def affine(
    low: Lowering,
    op: Operator,
    x: Value,
    axis: int,
    factor: NDArray[np.float64],
    offset: NDArray[np.float64],
    position: int = 0,
) -> Value:
    """``factor * x + offset`` per index of an axis."""
    if isinstance(x, Sums) and x.axis == axis and x.affine is not None and _unlimited(x):
        return replace(x.affine(factor, offset), operator=x.operator)
    source = x if isinstance(x, Integers) else low.integers(op, position)
    return channel_affine(low, op, source, axis, factor, offset)


def _unlimited(x: Real) -> bool:
    return x.limits == (-math.inf, math.inf)


def _only_axis(shape: Shape, rank: int) -> int | None:
    """The one axis along which a constant varies, seen from a tensor of `rank` axes."""
    axes = [axis + rank - len(shape) for axis, size in enumerate(shape) if size > 1]
    return axes[0] if len(axes) == 1 else None


def _varies_along(shape: Shape, rank: int, axis: int) -> bool:
    """Whether a constant varies along no other axis."""
    return all(size == 1 or place + rank - len(shape) == axis for place, size in enumerate(shape))


def batch_normalization(low: Lowering, op: Operator) -> Value:
    """BatchNormalization with the statistics of the file."""
    op.require("training_mode", 0, 0)
    arrays = [low.constant(op, position) for position in (1, 2, 3, 4)]
    scale, bias, mean, variance = (np.zeros(0) if a is None else a.astype(np.float64).reshape(-1) for a in arrays)
    x = low.value(op, 0)
    if len(x.shape) < 2 or {a.size for a in (scale, bias, mean, variance)} != {x.shape[1]}:
        raise op.error(f"parameters must have one number per channel of {x.shape!r}")
    factor = scale / np.sqrt(variance + op.attributes.get("epsilon", 1e-5))
    return affine(low, op, x, 1, factor, bias - mean * factor)


def _combined(low: Lowering, op: Operator, first: Value, second: Value, position: int) -> Value:
    """Two operands of different sources."""
    kind = {"Sum": "Add"}.get(op.kind, op.kind)
    if kind == "Div" and isinstance(second, Known):
        second, kind = Known(1 / second.real.astype(np.float32)), "Mul"
    if kind == "Div":
        raise op.error("the divisor must be a constant, or a function of the same tensor as the dividend")
    if kind not in ("Add", "Sub", "Mul", "Max", "Min"):
        raise op.error("operands must be functions of one tensor, or constants of one number")
    shape = np.broadcast_shapes(first.shape, second.shape)
    operands = [_integers(low, op, value, place) for value, place in ((first, position - 1), (second, position))]
    names, view = _aligned(low, op, operands, shape)
    if kind in ("Max", "Min"):
        return _extreme(low, names, view, smallest=kind == "Min")
    node: type[Node] = {"Add": Add, "Sub": Sub, "Mul": Mul}[kind]

    def finish(target: Target) -> Integers:
        scales = [low.builder.parameters(name)[0] for name in names]
        recipe = recipes.product if node is Mul else recipes.rescaled
        fields = recipe(scales, target.parameters[0], low.mode)
        fields |= recipes.clamp(target.limits, target.parameters, low.mode)
        return Integers(low.builder.emit(node, names, target.parameters, target.name, **fields), view)

    return Real(shape, finish)


def _integers(low: Lowering, op: Operator, value: Value, position: int) -> Integers:
    if isinstance(value, Known):
        return low.embedded(value, op.input(position))
    return value if isinstance(value, Integers) else low.integers(op, position)


def _aligned(low: Lowering, op: Operator, operands: list[Integers], shape: Shape) -> tuple[list[str], View]:
    """Both operands as tensors of the graph of one shape, and how these hold a tensor of `shape`."""
    if operands[0].name == operands[1].name and operands[0].view == operands[1].view:
        return [operands[0].name] * 2, operands[0].view
    lead = next((x for x in operands if x.shape == shape), None)
    if lead is None:
        lead = Integers("", View.of(shape, _default_axes(shape)))
    names = []
    for x in operands:
        if x.shape == shape and (split := _matching(x.view, lead.view)) is not None:
            names.append(low.arranged(Integers(x.name, split.view), split.order).name)
        else:
            names.append(_broadcast(low, x, lead.view))
    common = next((low.builder.shape(n) for n, x in zip(names, operands, strict=True) if x is lead), None)
    common = common or _stored(lead.view)
    return [low.builder.reshape(name, common) for name in names], lead.view


class _Match(NamedTuple):
    """A view with its axes split as another one splits them too, and the order of these factors in the other."""

    view: View
    order: Order


def _matching(view: View, lead: View) -> _Match | None:
    """`view` as it must move to lie in memory as `lead` does; None if their factors do not nest."""
    if (split := view.refined(lead.factors)) is None or (other := lead.refined(split.factors)) is None:
        return None
    return _Match(split, other.order)


def _default_axes(shape: Shape) -> tuple[int, ...]:
    rank = len(shape)
    return (0, *range(2, rank), 1) if rank == 4 else tuple(range(rank))


def _stored(view: View) -> Shape:
    """A shape of the graph for a view."""
    stored = [view.sizes[number] for number in view.order]
    if len(stored) > 3:
        stored = [stored[0], math.prod(stored[1:-1]), stored[-1]]
    return (*(1,) * (4 - len(stored)), *stored)


def repeated(low: Lowering, x: Integers, shape: Shape) -> Integers:
    """A tensor with axes of size 1 repeated to `shape`."""
    view = View.of(shape, _default_axes(shape))
    return Integers(_broadcast(low, x, view), view)


def _broadcast(low: Lowering, x: Integers, lead: View) -> str:
    """A tensor with axes of size 1 repeated to a view's shape, in its order in memory."""
    shape = lead.shape
    padded = (1,) * (len(shape) - len(x.shape)) + x.shape
    view = x.view.reshaped(padded)
    x = Integers(x.name, view) if view is not None else Integers(low.row_major(x).name, View.of(padded))
    order = lead.axes if lead.axes is not None else tuple(range(len(shape)))
    x = low.arranged(x, x.view.order_of(order))
    name, runs = x.name, _runs([padded[axis] for axis in order], [shape[axis] for axis in order])
    while runs:
        # A graph repeats along three axes at once.
        outer, inner = (runs[:-2], runs[-2:]) if len(runs) > 3 else ([], runs)
        kept = [math.prod(a for a, _ in outer)] if outer else []
        small, large = [*kept, *(a for a, _ in inner)], [*kept, *(b for _, b in inner)]
        name = low.builder.reshape(name, (*(1,) * (4 - len(small)), *small))
        name = low.builder.broadcast(name, (*(1,) * (4 - len(large)), *large))
        done = math.prod(b for _, b in inner)
        runs = _runs([*(a for a, _ in outer), done], [*(b for _, b in outer), done]) if outer else []
    if lead.axes is not None:
        return name
    return low.arranged(Integers(name, View(lead.factors, tuple(range(len(lead.order))))), lead.order).name


def _runs(mine: Sequence[int], stored: Sequence[int]) -> list[tuple[int, int]]:
    """Sizes before and after, with neighbours that are both repeated or both kept as one."""
    runs: list[tuple[int, int]] = []
    for a, b in zip(mine, stored, strict=True):
        if b == 1:
            continue
        if runs and (runs[-1][0] == 1) == (a == 1):
            runs[-1] = (runs[-1][0] * a, runs[-1][1] * b)
        else:
            runs.append((a, b))
    return runs


def _extreme(low: Lowering, names: list[str], view: View, *, smallest: bool) -> Real:
    """The larger or smaller of two tensors: a maximum over a pair of rows, of negated integers for the smaller."""

    def finish(target: Target) -> Integers:
        limits, parameters = target.limits, target.parameters
        parts = [low.finished(Integers(name, view), Target(name, parameters)).name for name in names]
        if smallest:
            parts = [negated(low, part) for part in parts]
        pixels = low.builder.shape(parts[0])
        flat = (1, 1, math.prod(pixels[:-1]), pixels[-1])
        rows = [low.builder.reshape(part, flat) for part in parts]
        own = low.builder.parameters(parts[0])
        both = low.builder.emit(Concat, rows, own, f"{target.name}_both", axis=1)
        name = low.builder.emit(MaxPool2d, [both], own, target.name, kernel=(2, 1), stride=(1, 1))
        name = low.builder.reshape(negated(low, name) if smallest else name, pixels)
        return low.finished(Integers(name, view), Target(target.name, parameters, limits))

    return Real(view.shape, finish)


def negated(low: Lowering, name: str) -> str:
    """The negative real numbers, exactly."""
    scale, zero_point = low.builder.parameters(name)
    return low.builder.emit(Table, [name], (scale, -1 - zero_point), f"{name}_negated", table=NEGATED)


def prelu(low: Lowering, op: Operator) -> Value:
    """PRelu: with one slope a table, with one per channel a convolution of the positive and the negative part."""
    slope = low.constant(op, 1)
    if slope is None:
        raise op.error("slope must be a constant")
    if slope.size == 1:
        alpha = np.float32(slope.reshape(()))
        return of_one(low, op, low.value(op, 0)).then(lambda x: np.where(x >= 0, x, alpha * x))
    x = low.integers(op, 0)
    axis = _only_axis(slope.shape, len(x.shape))
    if axis is None or slope.size != x.shape[axis]:
        raise op.error(f"slope must hold one number per channel of {x.shape!r}, got shape {slope.shape!r}")
    return _two_slopes(low, x, axis, slope.reshape(-1).astype(np.float64))


def _two_slopes(low: Lowering, x: Integers, axis: int, slope: NDArray[np.float64]) -> Value:
    channels, parameters = x.shape[axis], low.parameters(x)
    numbers = x.view.numbers(axis)
    x = low.arranged(x, [*(n for n in x.view.order if n not in numbers), *numbers])
    rows = math.prod(x.shape) // channels
    parts = []
    for bounds in ((0.0, math.inf), (-math.inf, 0.0)):
        part = low.finished(x, Target(f"{x.name}_part", parameters, bounds))
        parts.append(low.builder.reshape(part.name, (1, 1, rows, channels)))
    both = low.builder.emit(Concat, parts, parameters, f"{x.name}_parts", axis=3)
    pairs = low.builder.reshape(both, (1, rows, 2, channels))
    weights = np.arange(64, 128)
    weights = np.minimum(weights[:, None], np.floor(127 / np.maximum(np.abs(slope), 1)))
    products = slope * weights
    best = weights[np.abs(products - np.rint(products)).argmin(axis=0), np.arange(channels)]
    kernel = np.stack([best, np.rint(slope * best)], axis=1).astype(np.int8).reshape(channels, 1, 2, 1)
    scales = (1 / best).astype(np.float32)

    def finish(target: Target) -> Integers:
        fields: dict[str, Any] = recipes.weighted(parameters[0], scales, target.parameters[0], low.mode)
        fields |= recipes.clamp(target.limits, target.parameters, low.mode)
        fields |= {"weight": kernel, "bias": np.zeros(channels, np.int32), "groups": channels}
        return Integers(low.builder.emit(Conv2d, [pairs], target.parameters, target.name, **fields), x.view)

    return Real(x.shape, finish)
