"""Translating TensorFlow Lite operators that combine what lies in a window or along axes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from accel.frontends.tflite.axes import keeps_axes
from accel.frontends.tflite.functions import COMPLEMENT
from accel.frontends.tflite.operation import Operation
from accel.machine.numerics import RequantMode
from accel.network.nodes import (
    REDUCTION_LIMIT,
    AveragePool2d,
    Conv2d,
    MaxPool2d,
    Mean,
    Pair,
    Rearrange,
    Table,
    UnsignedAveragePool2d,
)
from accel.quantized import recipes


def pool(op: Operation) -> None:
    """AVERAGE_POOL_2D and MAX_POOL_2D."""
    kernel = (op.options.FilterHeight(), op.options.FilterWidth())
    average = UnsignedAveragePool2d if op.is_unsigned else AveragePool2d
    kind = average if op.operator.builtin == "AVERAGE_POOL_2D" else MaxPool2d
    clamp = op.clamp(op.options.FusedActivationFunction())
    if min(kernel) < 1:
        raise op.error(f"window must be positive, got {kernel!r}")
    op.emit(kind, op.as_result(op.image()), kernel=kernel, **op.window(kernel), **clamp)


class Reduced(NamedTuple):
    """An image whose rows and columns in a window of size `kernel` are combined."""

    value: str
    kernel: Pair


def _axes(op: Operation) -> list[int]:
    """The axes to reduce, in order."""
    rank = len(op.tensor(0).shape)
    axes = sorted({op.axis(axis, rank) for axis in op.tensor(1).integers()})
    if not axes:
        raise op.error("must reduce an axis at least")
    return axes


def _reduced(op: Operation, value: str) -> Reduced:
    """Rows and columns of an image as they are; other axes become rows and columns, those that stay channels."""
    shape, axes = op.tensor(0).shape, _axes(op)
    image = op.builder.shape(value)
    offset = len(image) - len(shape)
    if len(image) == 4 and keeps_axes(shape) and {axis + offset for axis in axes} <= {1, 2}:
        height, width = (image[axis] if axis - offset in axes else 1 for axis in (1, 2))
        return Reduced(value, (height, width))
    kept = [axis for axis in range(len(shape)) if axis not in axes]
    kernel = (math.prod(shape[axis] for axis in axes[:-1]), shape[axes[-1]])
    target = (1, *kernel, math.prod(shape[axis] for axis in kept))
    if [*axes, *kept] == sorted([*axes, *kept]):
        return Reduced(op.builder.reshape(value, target), kernel)
    fields = {"sizes": shape, "permutation": (*axes, *kept), "shape": target}
    moved = op.builder.emit(Rearrange, [value], op.builder.parameters(value), op.result().name, **fields)
    return Reduced(moved, kernel)


def total(op: Operation) -> None:
    """SUM and MEAN over any axes; over the last ones they are products with ones where the multiplier suits that."""
    value, shape, axes = op.value(0), op.tensor(0).shape, _axes(op)
    count = math.prod(shape[axis] for axis in axes)
    fields = recipes.mean(
        op.input_parameters()[0],
        op.result().parameters()[0],
        count if op.operator.builtin == "MEAN" else 1,
        RequantMode.TFLITE,
    )
    multiplier, shift = fields["multiplier"], fields["shift"]
    last = axes == list(range(len(shape) - len(axes), len(shape)))
    if last and count < REDUCTION_LIMIT and multiplier >= Conv2d.smallest_multiplier:
        image = len(op.builder.shape(value)) == 4 and op.builder.shape(value)[3] == count
        rows = value if image else op.builder.reshape(value, (1, 1, math.prod(shape) // count, count))
        fields = {"multiplier": np.array([multiplier], np.int32), "shift": np.array([shift], np.int8)}
        ones = np.ones((1, 1, 1, count), np.int8)
        op.emit(Conv2d, rows, weight=ones, bias=np.zeros(1, np.int32), **fields)
        return
    windows = _reduced(op, value)
    op.emit(Mean, windows.value, kernel=windows.kernel, **fields)


def extreme(op: Operation) -> None:
    """REDUCE_MAX and REDUCE_MIN over any axes; the minimum is the complement of the largest complement."""
    op.require_equal_parameters(0)
    value = op.value(0)
    if op.operator.builtin == "REDUCE_MAX":
        image = _reduced(op, value)
        op.emit(MaxPool2d, image.value, kernel=image.kernel, stride=(1, 1))
        return
    image = _reduced(op, op.function(value, COMPLEMENT))
    parameters = op.result().parameters()
    largest = op.builder.emit(
        MaxPool2d, [image.value], parameters, op.result().name, kernel=image.kernel, stride=(1, 1)
    )
    op.emit(Table, largest, table=COMPLEMENT)


WINDOWS: dict[str, Callable[[Operation], None]] = {
    "AVERAGE_POOL_2D": pool,
    "MAX_POOL_2D": pool,
    "MEAN": total,
    "REDUCE_MAX": extreme,
    "REDUCE_MIN": extreme,
    "SUM": total,
}
"""How each operator that combines elements is translated."""
