"""Translating TensorFlow Lite operators that compare elements or choose among them, for the host.

Chosen integers go by way of real numbers, which is exact.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from accel.frontends.tflite.file import INTEGER_TYPES
from accel.frontends.tflite.host import (
    HOST_TYPES,
    Argument,
    carried,
    dequantized,
    dtype_of,
    emit,
    emit_several,
    finish,
    quantized,
    real,
    reshaped,
    shape_of,
)
from accel.frontends.tflite.operation import Operation
from accel.machine.numerics import INT8_MIN, RequantMode, quantize_multiplier, requantize
from accel.quantized import tables

COMPARISONS = {
    "EQUAL": "Equal",
    "GREATER": "Greater",
    "GREATER_EQUAL": "GreaterOrEqual",
    "LESS": "Less",
    "LESS_EQUAL": "LessOrEqual",
    "NOT_EQUAL": "Equal",
}
"""Operators that compare, and those of ONNX; the result of NOT_EQUAL is inverted."""


def _comparison(kind: str) -> Callable[[Operation], None]:
    """A comparison: of integers with scales below 1 as the runtime makes it, else of real numbers."""

    def translate(op: Operation) -> None:
        tensors = [op.tensor(position) for position in range(2)]
        stored = all(tensor.type in INTEGER_TYPES and tensor.parameters()[0] < 1 for tensor in tensors)
        values = [_compared(op, position) if stored else real(op, position) for position in range(2)]
        shape = tuple(np.broadcast_shapes(*(shape_of(op, value) for value in values)))
        result = emit(op, kind, values, shape, "bool")
        finish(op, emit(op, "Not", [result], shape, "bool") if op.operator.builtin == "NOT_EQUAL" else result)

    return translate


def _compared(op: Operation, position: int) -> str:
    """An operand of a comparison of integers: rescaled with 8 more bits, rounded."""
    value = op.value(position)
    scale, zero_point = op.builder.parameters(value)
    places = dequantized(op, op.builder.reinterpret(value, (1.0, INT8_MIN)), position)
    shape = shape_of(op, places)
    rescaled = requantize((tables.STORED - zero_point) << 8, *quantize_multiplier(scale), RequantMode.TFLITE)
    return emit(op, "Gather", [rescaled, emit(op, "Cast", [places], shape, "int64", to=7)], shape, "int64", axis=0)


def _arg(kind: str) -> Callable[[Operation], None]:
    """ARG_MAX and ARG_MIN: the first of equal values. Dequantizing keeps the order of integers."""

    def translate(op: Operation) -> None:
        x, shape = real(op), op.tensor(0).shape
        axis = op.axis(op.number(1), len(shape))
        kept = (*shape[:axis], *shape[axis + 1 :])
        places = emit(op, kind, [x], kept, "int64", axis=axis, keepdims=0)
        if op.result().type == "INT32":
            places = emit(op, "Cast", [places], kept, "int32", to=6)
        finish(op, places)

    return translate


def _gather(op: Operation) -> None:
    """GATHER at constant places or at those that the host has computed."""
    x, places = carried(op), real(op, 1)
    axis = op.axis(op.options.Axis(), len(op.tensor(0).shape))
    if op.options.BatchDims():
        raise op.unsupported(f"batch_dims must be 0 on the host, got {op.options.BatchDims()}")
    shape = shape_of(op, x)
    taken = (*shape[:axis], *shape_of(op, places), *shape[axis + 1 :])
    _give(op, emit(op, "Gather", [x, places], taken, dtype_of(op, x), axis=axis))


def _gather_nd(op: Operation) -> None:
    """GATHER_ND at constant places or at those that the host has computed."""
    x, places = carried(op), real(op, 1)
    given, index = shape_of(op, x), shape_of(op, places)
    wide = emit(op, "Cast", [places], index, "int64", to=7) if isinstance(places, str) else places.astype(np.int64)
    _give(op, emit(op, "GatherND", [x, wide], (*index[:-1], *given[index[-1] :]), dtype_of(op, x)))


def _give(op: Operation, value: Argument) -> None:
    """Make a value of the host output 0: as integers if the file says so."""
    if op.result().type in INTEGER_TYPES and isinstance(value, str):
        quantized(op, value)
    else:
        finish(op, value)


def _select(op: Operation) -> None:
    """SELECT_V2, and SELECT where it broadcasts alike."""
    condition, x, y = real(op), carried(op, 1), carried(op, 2)
    shapes = [shape_of(op, value) for value in (condition, x, y)]
    if op.operator.builtin == "SELECT" and len(shapes[0]) == 1 < len(shapes[1]):
        shapes[0] = (*shapes[0], *(1,) * (len(shapes[1]) - 1))
        condition = reshaped(op, condition, shapes[0]) if isinstance(condition, str) else condition.reshape(shapes[0])
    shape = tuple(np.broadcast_shapes(*shapes))
    _give(op, emit(op, "Where", [condition, x, y], shape, HOST_TYPES.get(op.result().type, "float32")))


def _top(op: Operation) -> None:
    """TOPK_V2: the largest values and their places; of equal ones the first comes first."""
    x, count = carried(op), op.number(1)
    shape = (*shape_of(op, x)[:-1], count)
    if not 0 < count <= shape_of(op, x)[-1]:
        raise op.error(f"k must be in 1..{shape_of(op, x)[-1]}, got {count}")
    values, places = emit_several(op, "TopK", [x, np.array([count])], [(shape, dtype_of(op, x)), (shape, "int64")])
    _give(op, values)
    if len(op.operator.outputs) > 1:
        finish(op, emit(op, "Cast", [places], shape, "int32", to=6), 1)


INTEGER: dict[str, Callable[[Operation], None]] = {
    "GATHER": _gather,
    "GATHER_ND": _gather_nd,
    "SELECT": _select,
    "SELECT_V2": _select,
    "TOPK_V2": _top,
}
"""How each operator that chooses among elements is translated, integers of 8 bits included."""

CHOOSING: dict[str, Callable[[Operation], None]] = {
    **INTEGER,
    **{builtin: _comparison(kind) for builtin, kind in COMPARISONS.items()},
    "ARG_MAX": _arg("ArgMax"),
    "ARG_MIN": _arg("ArgMin"),
}
"""The same, and those that compare."""
