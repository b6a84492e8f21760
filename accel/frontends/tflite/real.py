"""Translating TensorFlow Lite operators that only the host has, for ONNX Runtime.

Their results are real numbers and integers of 32 and 64 bits, heads and tails of quantized networks; and integers of
8 bits that no unit can make.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accel.frontends.tflite.host import (
    HOST_TYPES,
    INTEGER_TYPES,
    Argument,
    carried,
    dequantized,
    dtype_of,
    emit,
    emit_several,
    finish,
    numbers,
    quantized,
    real,
    reshaped,
    shape_of,
    steps,
    taken,
)
from accel.frontends.tflite.movement import (
    broadcast_picks,
    reverse_picks,
    slice_picks,
    strided_slice_picks,
    tile_picks,
)
from accel.frontends.tflite.operation import Operation
from accel.machine.numerics import INT8_MAX, INT8_MIN, RequantMode, quantize_multiplier, requantize
from accel.quantized import recipes, tables


def _elementwise(kind: str) -> Callable[[Operation], None]:
    """One ONNX operator whose inputs broadcast."""

    def translate(op: Operation) -> None:
        values = [real(op, position) for position in range(len(op.operator.inputs))]
        shape = tuple(np.broadcast_shapes(*(shape_of(op, value) for value in values)))
        finish(op, emit(op, kind, values, shape, HOST_TYPES[op.result().type]))

    return translate


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


def _gather(op: Operation) -> None:
    """GATHER at constant places or at those that the host has computed."""
    x, places = carried(op), real(op, 1)
    axis = op.axis(op.options.Axis(), len(op.tensor(0).shape))
    if op.options.BatchDims():
        raise op.error(f"batch_dims must be 0 on the host, got {op.options.BatchDims()}")
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


def _integer_product(op: Operation) -> None:
    """BATCH_MATMUL of two tensors of integers, rounded as the runtime does, in 64 bits."""
    factors = list[Argument]()
    for position, adjoint in enumerate((op.options.AdjX(), op.options.AdjY())):
        x = steps(op, position)
        wide = emit(op, "Cast", [x], shape_of(op, x), "int64", to=7)
        factors.append(_swapped(op, wide) if adjoint else wide)
    scales = [op.input_parameters(position)[0] for position in range(2)]
    scale, zero_point = op.result().parameters()
    multiplier, shift = recipes.multiplier(scales[0] * scales[1] / scale, RequantMode.TFLITE)
    sums = _product(op, *factors)
    shape = shape_of(op, sums)

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
        raise op.error(f"weights of real inputs must be FLOAT32, got {weights.type}; quantize the whole model to int8")
    matrix = _swapped(op, real(op, 1))
    depth, columns = shape_of(op, matrix)
    rows = (math.prod(shape_of(op, x)) // depth, depth)
    value = _product(op, reshaped(op, x, rows) if isinstance(x, str) else x.reshape(rows), matrix)
    if op.optional(2) is not None:
        value = emit(op, "Add", [value, real(op, 2)], (rows[0], columns))
    finish(op, value)


INTEGER: dict[str, Callable[[Operation], None]] = {
    "BATCH_MATMUL": _integer_product,
    "GATHER": _gather,
    "GATHER_ND": _gather_nd,
    "SELECT": _select,
    "SELECT_V2": _select,
    "TOPK_V2": _top,
}
"""How operators are translated that the host computes although their results are integers of 8 bits.

Those that choose among elements go by way of real numbers, which is exact.
"""

REAL: dict[str, Callable[[Operation], None]] = {
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
    **{builtin: _comparison(kind) for builtin, kind in COMPARISONS.items()},
    "ARG_MAX": _arg("ArgMax"),
    "ARG_MIN": _arg("ArgMin"),
    "BATCH_MATMUL": _batch_matmul,
    "CAST": _cast,
    "CONCATENATION": _concatenation,
    "ELU": _composed(lambda op, node, x: node("Elu", x, alpha=1.0)),
    "EXPAND_DIMS": lambda op: finish(op, real(op)),
    "FLOOR_DIV": _floor_div,
    "FULLY_CONNECTED": _fully_connected,
    "BROADCAST_TO": _broadcast_to,
    "GATHER_ND": _gather_nd,
    "GATHER": _gather,
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
    "SELECT": _select,
    "SELECT_V2": _select,
    "SOFTMAX": _composed(_softmax),
    "SPLIT": _split,
    "SPLIT_V": _split_v,
    "SQUARE": _composed(lambda op, node, x: node("Mul", x, x)),
    "SQUARED_DIFFERENCE": _squared_difference,
    "SQUEEZE": lambda op: finish(op, real(op)),
    "STRIDED_SLICE": lambda op: finish(op, taken(op, real(op), strided_slice_picks(op))),
    "SUM": _reduce("ReduceSum"),
    "TILE": lambda op: finish(op, taken(op, real(op), tile_picks(op))),
    "TOPK_V2": _top,
    "TRANSPOSE": _transpose,
    "UNPACK": _unpack,
}  # fmt: skip
"""How each operator is translated that the host computes."""
