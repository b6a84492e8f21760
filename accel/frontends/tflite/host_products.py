"""Translating TensorFlow Lite's matrix products that no unit computes, for the host."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from accel.frontends.tflite.host import Argument, dtype_of, emit, finish, quantized, real, reshaped, shape_of, steps
from accel.frontends.tflite.operation import Operation
from accel.machine.numerics import INT8_MAX, INT8_MIN, RequantMode
from accel.quantized import recipes


def _swapped(op: Operation, value: Argument) -> Argument:
    """A matrix, or many of them, transposed."""
    shape = shape_of(op, value)
    if not isinstance(value, str):
        return np.ascontiguousarray(value.swapaxes(-1, -2))
    order = (*range(len(shape) - 2), len(shape) - 1, len(shape) - 2)
    return emit(op, "Transpose", [value], tuple(shape[axis] for axis in order), dtype_of(op, value), perm=order)


def _product(op: Operation, x: Argument, y: Argument) -> str:
    left, right = shape_of(op, x), shape_of(op, y)
    many = tuple(np.broadcast_shapes(left[:-2], right[:-2]))
    return emit(op, "MatMul", [x, y], (*many, left[-2], right[-1]), dtype_of(op, x))


def _batch_matmul(op: Operation) -> None:
    x, y = real(op), real(op, 1)
    x, y = (_swapped(op, x) if op.options.AdjX() else x), (_swapped(op, y) if op.options.AdjY() else y)
    finish(op, _product(op, x, y))


def _fully_connected(op: Operation) -> None:
    x, weights = real(op), op.tensor(1)
    if weights.type != "FLOAT32" or op.options.WeightsFormat():
        raise op.unsupported(
            f"weights of real inputs must be FLOAT32, got {weights.type}; quantize the whole model to int8"
        )
    matrix = _swapped(op, real(op, 1))
    depth, columns = shape_of(op, matrix)
    rows = (math.prod(shape_of(op, x)) // depth, depth)
    value = _product(op, reshaped(op, x, rows) if isinstance(x, str) else x.reshape(rows), matrix)
    if op.optional(2) is not None:
        value = emit(op, "Add", [value, real(op, 2)], (rows[0], columns))
    finish(op, value)


def integer_product(op: Operation) -> None:
    """BATCH_MATMUL of two tensors of integers, rounded as the runtime does, in 64 bits."""
    factors = list[Argument]()
    for position, adjoint in enumerate((op.options.AdjX(), op.options.AdjY())):
        x = steps(op, position)
        wide = emit(op, "Cast", [x], shape_of(op, x), "int64", to=7)
        factors.append(_swapped(op, wide) if adjoint else wide)
    scales = [op.input_parameters(position)[0] for position in range(2)]
    multiplier, shift = recipes.multiplier(scales[0] * scales[1] / op.result().parameters()[0], RequantMode.TFLITE)
    _give_rounded(op, _product(op, *factors), multiplier, shift)


def integer_sum(op: Operation) -> None:
    """ADD_N of integers of one scale and zero point."""
    for position in range(len(op.operator.inputs)):
        if op.tensor(position).parameters() != op.tensor(0).parameters():
            raise op.error("inputs must have one scale and zero point, as the runtime asks for; put QUANTIZE before it")
    sums, shape = _wide_steps(op, 0), op.tensor(0).shape
    for position in range(1, len(op.operator.inputs)):
        sums = emit(op, "Add", [sums, _wide_steps(op, position)], shape, "int64")
    _give_sums(op, sums)


def integer_cumulative_sum(op: Operation) -> None:
    """CUMSUM of integers; sums from 2**12 on, which overflow in the runtime, saturate."""
    shape, options = op.tensor(0).shape, op.options
    axis = np.array(op.axis(op.number(1), len(shape)))
    fields: dict[str, Any] = {"exclusive": int(options.Exclusive()), "reverse": int(options.Reverse())}
    _give_sums(op, emit(op, "CumSum", [_wide_steps(op, 0), axis], shape, "int64", **fields))


def _wide_steps(op: Operation, position: int) -> str:
    """Input number `position` in steps from its zero point, as int64."""
    return emit(op, "Cast", [steps(op, position)], op.tensor(position).shape, "int64", to=7)


def _give_sums(op: Operation, sums: str) -> None:
    """Make sums of steps output 0, as TensorFlow Lite Micro rounds them, with 19 bits more.

    The runtime begins not with 0 but with what a stored 0 stands for.
    """
    shape, (scale, zero_point) = shape_of(op, sums), op.tensor(0).parameters()
    whole = emit(op, "Add", [sums, np.array(-zero_point)], shape, "int64")
    wide = emit(op, "Mul", [whole, np.array(2**19)], shape, "int64")
    _give_rounded(op, wide, *recipes.multiplier(2 * scale / (2**20 * op.result().parameters()[0]), RequantMode.TFLITE))


def _give_rounded(op: Operation, sums: str, multiplier: int, shift: int) -> None:
    """Make sums of int64 times a multiplier output 0."""
    shape, zero_point = shape_of(op, sums), op.result().parameters()[1]

    def node(kind: str, *values: Argument | int, dtype: str = "int64", **attributes: Any) -> str:
        arguments = [np.array(value) if isinstance(value, int) else value for value in values]
        return emit(op, kind, arguments, shape, dtype, **attributes)

    scaled = node("Mul", sums, multiplier << max(shift, 0))
    nudge = node("Where", node("Less", scaled, 0, dtype="bool"), 1 - 2**30, 2**30)
    high = node("Div", node("Add", scaled, nudge), 2**31)
    if shift < 0:
        rounded = node("Div", node("Add", node("Abs", high), 2 ** (-shift - 1)), 2**-shift)
        high = node("Mul", node("Sign", high), rounded)
    limited = node("Clip", node("Add", high, zero_point), INT8_MIN, INT8_MAX)
    quantized(op, node("Cast", limited, dtype="float32", to=1), as_steps=True)


PRODUCTS: dict[str, Callable[[Operation], None]] = {
    "BATCH_MATMUL": _batch_matmul,
    "FULLY_CONNECTED": _fully_connected,
}
"""How products of real numbers are translated."""
