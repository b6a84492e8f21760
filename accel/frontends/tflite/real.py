"""Translating TensorFlow Lite operators whose results only the host has: real numbers, and integers of 32 and 64 bits.

They are heads and tails of quantized networks, for ONNX Runtime.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import accumulate, pairwise

import numpy as np
from numpy.typing import NDArray

from accel.frontends.tflite.choosing import CHOOSING
from accel.frontends.tflite.file import INTEGER_TYPES
from accel.frontends.tflite.host import (
    HOST_TYPES,
    Argument,
    dequantized,
    dtype_of,
    emit,
    finish,
    numbers,
    real,
    reshaped,
    shape_of,
    taken,
)
from accel.frontends.tflite.host_products import PRODUCTS
from accel.frontends.tflite.movement import (
    broadcast_picks,
    reverse_picks,
    slice_picks,
    strided_slice_picks,
    tile_picks,
)
from accel.frontends.tflite.operation import Operation


def _elementwise(kind: str) -> Callable[[Operation], None]:
    """One ONNX operator whose inputs broadcast."""

    def translate(op: Operation) -> None:
        values = [real(op, position) for position in range(len(op.operator.inputs))]
        shape = tuple(np.broadcast_shapes(*(shape_of(op, value) for value in values)))
        finish(op, emit(op, kind, values, shape, HOST_TYPES[op.result().type]))

    return translate


def _composed(make: Callable[[Operation, Callable[..., str], Argument], str]) -> Callable[[Operation], None]:
    """Several ONNX operators in the input's shape, the first input given."""

    def translate(op: Operation) -> None:
        x = real(op)
        finish(
            op, make(op, lambda kind, *values, **attributes: emit(op, kind, values, shape_of(op, x), **attributes), x)
        )

    return translate


def _number(value: float) -> NDArray[np.float32]:
    return np.array(value, np.float32)


def _softmax(op: Operation, node: Callable[..., str], x: Argument) -> str:
    beta = op.options.Beta()
    return node("Softmax", x if beta == 1 else node("Mul", x, _number(beta)), axis=-1)


def _squared_difference(op: Operation) -> None:
    values = [real(op, position) for position in range(2)]
    shape = tuple(np.broadcast_shapes(*(shape_of(op, value) for value in values)))
    difference = emit(op, "Sub", values, shape)
    finish(op, emit(op, "Mul", [difference, difference], shape))


def _cast(op: Operation) -> None:
    """CAST: integers of 8 bits are what is stored, without scale and zero point."""
    from onnx import helper

    dtype = HOST_TYPES[op.result().type]
    x: Argument
    if op.tensor(0).type in INTEGER_TYPES:
        plain = op.builder.reinterpret(op.value(0), numbers(op.tensor(0)))
        if dtype == "float32":
            op.values[op.operator.outputs[0]] = plain
            return
        x = dequantized(op, plain, 0)
    else:
        x = real(op)
    finish(op, emit(op, "Cast", [x], shape_of(op, x), dtype, to=int(helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))))


def _l2_normalization(op: Operation) -> None:
    x = real(op)
    shape = shape_of(op, x)
    if not shape:
        raise op.unsupported("input must have axes, got one number")
    sums = emit(op, "ReduceSum", [emit(op, "Mul", [x, x], shape), np.array([-1])], (*shape[:-1], 1))
    limited = emit(op, "Max", [sums, _number(1e-6)], (*shape[:-1], 1))
    finish(op, emit(op, "Div", [x, emit(op, "Sqrt", [limited], (*shape[:-1], 1))], shape))


def _reduce(kind: str) -> Callable[[Operation], None]:
    """A reduction over constant axes."""

    def translate(op: Operation) -> None:
        x, shape = real(op), op.tensor(0).shape
        axes = tuple(sorted({op.axis(axis, len(shape)) for axis in op.tensor(1).integers()}))
        kept = tuple(1 if axis in axes else size for axis, size in enumerate(shape))
        if kind == "ReduceSum":
            finish(op, emit(op, kind, [x, np.array(axes)], kept, dtype_of(op, x)))
        else:
            finish(op, emit(op, kind, [x], kept, dtype_of(op, x), axes=axes))

    return translate


def _cut(op: Operation, source: int, axis: int, sizes: list[int]) -> None:
    """Consecutive parts along an axis, an output each."""
    shape = op.tensor(source).shape
    if sum(sizes) != shape[axis] or min(sizes) < 1 or len(sizes) != len(op.operator.outputs):
        raise op.error(
            f"axis {axis} of {shape!r} must split into {len(op.operator.outputs)} outputs, got sizes {sizes}"
        )
    for output, (first, last) in enumerate(pairwise([0, *accumulate(sizes)])):
        picks = [range(first, last) if place == axis else range(size) for place, size in enumerate(shape)]
        finish(op, taken(op, real(op, source), picks), output)


def _split(op: Operation) -> None:
    axis, parts = op.axis(op.number(0), len(op.tensor(1).shape)), len(op.operator.outputs)
    _cut(op, 1, axis, [op.tensor(1).shape[axis] // parts] * parts)


def _split_v(op: Operation) -> None:
    axis, sizes = op.axis(op.number(2), len(op.tensor(0).shape)), op.tensor(1).integers()
    rest = op.tensor(0).shape[axis] - sum(size for size in sizes if size != -1)
    _cut(op, 0, axis, [rest if size == -1 else size for size in sizes])


def _unpack(op: Operation) -> None:
    axis = op.axis(op.options.Axis(), len(op.tensor(0).shape))
    _cut(op, 0, axis, [1] * op.tensor(0).shape[axis])


def _joined(op: Operation, values: list[Argument], axis: int) -> None:
    shapes = [shape_of(op, value) for value in values]
    shape = (*shapes[0][:axis], sum(shape[axis] for shape in shapes), *shapes[0][axis + 1 :])
    finish(op, emit(op, "Concat", values, shape, HOST_TYPES[op.result().type], axis=axis))


def _concatenation(op: Operation) -> None:
    axis = op.axis(op.options.Axis(), len(op.tensor(0).shape))
    _joined(op, [real(op, position) for position in range(len(op.operator.inputs))], axis)


def _pack(op: Operation) -> None:
    shape = op.tensor(0).shape
    axis = op.axis(op.options.Axis(), len(shape) + 1)
    split = (*shape[:axis], 1, *shape[axis:])
    values = [real(op, position) for position in range(len(op.operator.inputs))]
    _joined(op, [reshaped(op, v, split) if isinstance(v, str) else v.reshape(split) for v in values], axis)


def _floor_div(op: Operation) -> None:
    """FLOOR_DIV: what is left over, which has the divisor's sign, goes first."""
    x, y = real(op), real(op, 1)
    shape, dtype = tuple(np.broadcast_shapes(shape_of(op, x), shape_of(op, y))), HOST_TYPES[op.result().type]
    if dtype == "float32":
        finish(op, emit(op, "Floor", [emit(op, "Div", [x, y], shape)], shape))
        return
    whole = emit(op, "Sub", [x, emit(op, "Mod", [x, y], shape, dtype)], shape, dtype)
    finish(op, emit(op, "Div", [whole, y], shape, dtype))


def _broadcast_to(op: Operation) -> None:
    x, (shape, picks) = real(op), broadcast_picks(op)
    finish(op, taken(op, reshaped(op, x, shape) if isinstance(x, str) else x.reshape(shape), picks))


def _one_hot(op: Operation) -> None:
    x, depth, axis = real(op), op.number(1), op.options.Axis()
    shape = list(shape_of(op, x))
    axis = axis % (len(shape) + 1)
    shape.insert(axis, depth)
    values = np.array([op.tensor(place).array().reshape(()) for place in (3, 2)])
    wide = emit(op, "Cast", [x], shape_of(op, x), "int64", to=7)
    finish(op, emit(op, "OneHot", [wide, np.array(depth), values], tuple(shape), values.dtype.name, axis=axis))


def _transpose(op: Operation) -> None:
    x, order = real(op), tuple(op.axis(axis, len(op.tensor(0).shape)) for axis in op.tensor(1).integers())
    shape = tuple(shape_of(op, x)[axis] for axis in order)
    finish(op, emit(op, "Transpose", [x], shape, dtype_of(op, x), perm=order))


def _pad(op: Operation) -> None:
    x, spans = real(op), op.tensor(1).array().reshape(-1, 2)
    shape = tuple(size + int(a) + int(b) for size, (a, b) in zip(shape_of(op, x), spans, strict=True))
    value = [np.asarray(op.tensor(2).array()).reshape(())] if op.optional(2) else []
    finish(op, emit(op, "Pad", [x, spans.T.reshape(-1).astype(np.int64), *value], shape, dtype_of(op, x)))


REAL: dict[str, Callable[[Operation], None]] = {
    **CHOOSING,
    **PRODUCTS,
    **{
        builtin: _elementwise(kind)
        for builtin, kind in {
            "ABS": "Abs", "ADD": "Add", "CEIL": "Ceil", "COS": "Cos", "DIV": "Div", "EXP": "Exp",
            "FLOOR": "Floor", "HARD_SWISH": "HardSwish",
            "LOG": "Log", "LOGICAL_AND": "And", "LOGICAL_NOT": "Not",
            "LOGICAL_OR": "Or", "LOGISTIC": "Sigmoid", "MAXIMUM": "Max", "MINIMUM": "Min", "MUL": "Mul", "NEG": "Neg",
            "POW": "Pow", "PRELU": "PRelu", "RELU": "Relu", "ROUND": "Round", "SIGN": "Sign", "SIN": "Sin",
            "SQRT": "Sqrt", "SUB": "Sub", "TANH": "Tanh",
        }.items()
    },
    "CAST": _cast,
    "CONCATENATION": _concatenation,
    "ELU": _composed(lambda op, node, x: node("Elu", x, alpha=1.0)),
    "EXPAND_DIMS": lambda op: finish(op, real(op)),
    "FLOOR_DIV": _floor_div,
    "BROADCAST_TO": _broadcast_to,
    "L2_NORMALIZATION": _l2_normalization,
    "LEAKY_RELU": _composed(lambda op, node, x: node("LeakyRelu", x, alpha=float(op.options.Alpha()))),
    "LOG_SOFTMAX": _composed(lambda op, node, x: node("LogSoftmax", x, axis=-1)),
    "MEAN": _reduce("ReduceMean"),
    "ONE_HOT": _one_hot,
    "PACK": _pack,
    "PAD": _pad,
    "PADV2": _pad,
    "REDUCE_MAX": _reduce("ReduceMax"),
    "REDUCE_MIN": _reduce("ReduceMin"),
    "REDUCE_PROD": _reduce("ReduceProd"),
    "RELU6": _composed(lambda op, node, x: node("Clip", x, _number(0), _number(6))),
    "RELU_0_TO_1": _composed(lambda op, node, x: node("Clip", x, _number(0), _number(1))),
    "RELU_N1_TO_1": _composed(lambda op, node, x: node("Clip", x, _number(-1), _number(1))),
    "RESHAPE": lambda op: finish(op, real(op)),
    "REVERSE_V2": lambda op: finish(op, taken(op, real(op), reverse_picks(op))),
    "RSQRT": _composed(lambda op, node, x: node("Div", _number(1), node("Sqrt", x))),
    "SLICE": lambda op: finish(op, taken(op, real(op), slice_picks(op))),
    "SOFTMAX": _composed(_softmax),
    "SPLIT": _split,
    "SPLIT_V": _split_v,
    "SQUARE": _composed(lambda op, node, x: node("Mul", x, x)),
    "SQUARED_DIFFERENCE": _squared_difference,
    "SQUEEZE": lambda op: finish(op, real(op)),
    "STRIDED_SLICE": lambda op: finish(op, taken(op, real(op), strided_slice_picks(op))),
    "SUM": _reduce("ReduceSum"),
    "TILE": lambda op: finish(op, taken(op, real(op), tile_picks(op))),
    "TRANSPOSE": _transpose,
    "UNPACK": _unpack,
}  # fmt: skip
"""How each operator is translated that the host computes."""
