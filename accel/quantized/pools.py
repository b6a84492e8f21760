"""Lowering pools, reductions and Softmax."""

from __future__ import annotations

import math

import numpy as np

from accel.machine.numerics import RequantMode
from accel.network.nodes import AveragePool2d, Concat, MaxPool2d, Mean, Pad, Softmax, StridedSlice
from accel.quantized import recipes
from accel.quantized.borders import mean_of_valid_taps
from accel.quantized.elementwise import negated
from accel.quantized.lowering import Lowering, graph_shape
from accel.quantized.movement import moved
from accel.quantized.network import Operator
from accel.quantized.values import Integers, Real, Target, Value
from accel.quantized.view import View
from accel.quantized.window import Window, window_of


def average(low: Lowering, op: Operator) -> Value:
    """AveragePool and GlobalAveragePool."""
    x = low.integers(op, 0)
    op.require("channels_last", 0, 0)
    if "Global" in op.kind:
        return _reduced(low, x, tuple(range(2, len(x.shape))), divide=True, keep=True)
    kernel = tuple(int(k) for k in op.attributes.get("kernel_shape", ()))
    window = window_of(op, x.shape, kernel)
    if window.dilation != (1, 1):
        raise op.error(f"dilations must be 1, got {window.dilation!r}; other values are not supported")
    counted = bool(op.attributes.get("count_include_pad", 0))
    if counted and any(window.beyond):
        raise op.error("ceil_mode must not add windows where count_include_pad is 1")
    source, rank = low.image(op, x), len(x.shape)
    own = low.parameters(x)
    padding = _with_beyond(window)
    geometry = {"kernel": window.kernel, "stride": window.stride}

    def of_valid_taps(target: Target) -> Integers:
        if low.mode is RequantMode.FP32:
            return low.of_image(mean_of_valid_taps(low, source, window, target), rank)
        name = low.builder.emit(AveragePool2d, [source], own, target.name, **geometry, padding=padding)
        return low.finished(low.of_image(name, rank), target)

    def of_all_taps(target: Target) -> Integers:
        exact = own == target.parameters and low.mode is not RequantMode.FP32 and not any(padding)
        if exact:
            return of_valid_taps(target)
        count = window.kernel[0] * window.kernel[1]
        fields = recipes.mean(own[0], target.parameters[0], count, low.mode) | {"padding": window.padding}
        fields |= recipes.clamp(target.limits, target.parameters, low.mode)
        return low.of_image(
            low.builder.emit(Mean, [source], target.parameters, target.name, **geometry, **fields), rank
        )

    shape = (1, x.shape[1], *window.output[4 - rank :])
    return Real(shape, of_all_taps if counted or not any(padding) else of_valid_taps)


def _with_beyond(window: Window) -> tuple[int, int, int, int]:
    """Padding with the rows and columns that `ceil_mode` adds."""
    top, left, bottom, right = window.padding
    return top, left, bottom + window.beyond[0], right + window.beyond[1]


def max_pool(low: Lowering, op: Operator) -> Value:
    """MaxPool and GlobalMaxPool."""

    def apply(x: Integers) -> Integers:
        rank, own = len(x.shape), low.parameters(x)
        source = low.image(op, x)
        if op.kind == "GlobalMaxPool":
            kernel = low.builder.shape(source)[1:3]
            name = low.builder.emit(MaxPool2d, [source], own, op.outputs[0], kernel=kernel, stride=(1, 1))
            return low.of_image(name, rank)
        window = window_of(op, x.shape, tuple(int(k) for k in op.attributes.get("kernel_shape", ())))
        if window.dilation != (1, 1):
            return low.of_image(_dilated(low, op, source, window), rank)
        geometry = {"kernel": window.kernel, "stride": window.stride, "padding": _with_beyond(window)}
        return low.of_image(low.builder.emit(MaxPool2d, [source], own, op.outputs[0], **geometry), rank)

    op.require("storage_order", 0, 0)
    if any(op.outputs[1:]):
        raise op.error("only the first output is supported, the indices are not")
    return moved(low, op, apply)


def _dilated(low: Lowering, op: Operator, source: str, window: Window) -> str:
    """A maximum of taps that lie apart: one slice per tap, then their maximum."""
    own, (oh, ow) = low.builder.parameters(source), window.output
    top, left, bottom, right = _with_beyond(window)
    if any((top, left, bottom, right)):
        before, after = (0, top, left, 0), (0, bottom, right, 0)
        source = low.builder.emit(Pad, [source], own, f"{source}_padded", before=before, after=after, value=-128)
    channels, taps = low.builder.shape(source)[3], []
    for row, column in np.ndindex(window.kernel):
        first = (row * window.dilation[0], column * window.dilation[1])
        end = tuple(f + (n - 1) * s + 1 for f, n, s in zip(first, (oh, ow), window.stride, strict=True))
        bounds = {"begin": (0, *first, 0), "end": (1, *end, channels), "stride": (1, *window.stride, 1)}
        tap = low.builder.emit(StridedSlice, [source], own, f"{source}_tap", **bounds)
        taps.append(low.builder.reshape(tap, (1, 1, oh * ow, channels)))
    both = low.builder.emit(Concat, taps, own, f"{source}_taps", axis=1) if len(taps) > 1 else taps[0]
    name = low.builder.emit(MaxPool2d, [both], own, op.outputs[0], kernel=(len(taps), 1), stride=(1, 1))
    return low.builder.reshape(name, (1, oh, ow, channels))


def reduce(low: Lowering, op: Operator) -> Value:
    """ReduceMean, ReduceSum, ReduceMax and ReduceMin over any axes."""
    x = low.integers(op, 0)
    rank = len(x.shape)
    given = low.numbers(op, "axes", 1)
    if not given and op.attributes.get("noop_with_empty_axes", 0):
        return x
    if any(not -rank <= axis < rank for axis in given or ()):
        raise op.error(f"axes must be some of {rank}, got {given!r}")
    axes = tuple(sorted({axis % rank for axis in given})) if given else tuple(range(rank))
    keep = bool(op.attributes.get("keepdims", 1))
    if op.kind in ("ReduceMean", "ReduceSum"):
        return _reduced(low, x, axes, divide=op.kind == "ReduceMean", keep=keep)
    smallest = op.kind == "ReduceMin"
    x = Integers(negated(low, x.name), x.view) if smallest else x
    source, kernel, view = _in_front(low, x, axes, keep=keep)
    name = low.builder.emit(MaxPool2d, [source], low.parameters(x), op.outputs[0], kernel=kernel, stride=(1, 1))
    return Integers(negated(low, name) if smallest else name, view)


def _reduced(low: Lowering, x: Integers, axes: tuple[int, ...], *, divide: bool, keep: bool) -> Real:
    """Sum or mean over some axes."""
    source, kernel, view = _in_front(low, x, axes, keep=keep)
    own, count = low.parameters(x), kernel[0] * kernel[1]

    def finish(target: Target) -> Integers:
        fields = recipes.mean(own[0], target.parameters[0], count if divide else 1, low.mode)
        fields |= recipes.clamp(target.limits, target.parameters, low.mode) | {"kernel": kernel}
        return Integers(low.builder.emit(Mean, [source], target.parameters, target.name, **fields), view)

    return Real(view.shape, finish)


def _in_front(low: Lowering, x: Integers, axes: tuple[int, ...], *, keep: bool) -> tuple[str, tuple[int, int], View]:
    """The graph's image whose rows and columns are to be reduced, the window, and the view of the result."""
    numbers = [number for axis in axes for number in x.view.numbers(axis)]
    order = x.view.order
    reduced = [number for number in order if number in numbers]
    kept = [number for number in order if number not in numbers]
    places = [order.index(number) for number in reduced]
    outer = [number for number in kept if places and order.index(number) < places[0]]
    together = not places or places == list(range(places[0], places[0] + len(places)))
    inner = [number for number in kept if number not in outer]
    if not together or (places and not inner):
        outer, inner = [], kept
    x = low.arranged(x, [*outer, *reduced, *inner])
    sizes = x.view.sizes
    before, count, after = (math.prod(sizes[n] for n in part) for part in (outer, reduced, inner))
    rows = sizes[reduced[0]] if len(reduced) > 1 and before == 1 else 1
    source = low.builder.reshape(x.name, (1, rows if before == 1 else before, count // rows, after))
    factors = tuple(() if axis in axes else f for axis, f in enumerate(x.view.factors) if keep or axis not in axes)
    left = {number: place for place, number in enumerate(sorted(kept))}
    view = View(factors, tuple(left[number] for number in [*outer, *inner]))
    return source, (rows, count // rows), view


def softmax(low: Lowering, op: Operator) -> Value:
    """Softmax over one axis, or over all axes from one on in older versions; the host computes it."""
    x = low.integers(op, 0)
    rank = len(x.shape)
    old = op.opset < 13 and not op.kind.startswith("com.")
    axis = int(op.attributes.get("axis", 1 if old else -1))
    if not -rank <= axis < rank:
        raise op.error(f"axis must be one of {rank}, got {axis}")
    axes = range(axis % rank, rank) if old else (axis % rank,)
    numbers = [number for one in axes for number in x.view.numbers(one)]
    x = low.arranged(x, [*(n for n in x.view.order if n not in numbers), *numbers])
    size = math.prod(x.shape[one] for one in axes)
    source = low.builder.reshape(x.name, graph_shape((math.prod(x.shape) // size, size), (0, 1)))

    def finish(target: Target) -> Integers:
        parameters = target.parameters if low.mode is RequantMode.FP32 else Softmax.output_parameters
        name = low.builder.emit(Softmax, [source], parameters, target.name)
        return low.finished(Integers(name, x.view), target)

    return Real(x.shape, finish)
