"""Translating TensorFlow Lite operators on two tensors that broadcast."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accel.frontends.tflite.functions import COMPLEMENT
from accel.frontends.tflite.operation import Operation
from accel.machine.numerics import INT8_MAX, INT8_MIN, RequantMode, requantize, saturate
from accel.network import reference
from accel.network.graph import Graph, Tensor
from accel.network.nodes import (
    Add,
    Clamp,
    Conv2d,
    Div,
    Maximum,
    Mul,
    Node,
    SquaredDifference,
    Sub,
    Table,
)
from accel.quantized import recipes
from accel.quantized.builder import Parameters, image_shape

STORED = np.arange(-128, 128, dtype=np.int8)
"""Every stored integer."""
IDENTITY = (2**30, 1)
"""Multiplier and shift that leave a sum as it is."""


def _operands(op: Operation) -> tuple[str, str]:
    """Both operands under one shape."""
    first, second = op.value(0), op.value(1)
    shapes = op.builder.shape(first), op.builder.shape(second)
    if shapes[0] == shapes[1]:
        return first, second
    try:
        shape = np.broadcast_shapes(*map(image_shape, shapes))
    except ValueError:
        given = [op.tensor(position).shape for position in (0, 1)]
        raise op.unsupported(f"inputs must broadcast in four axes and batch size 1, got {given}") from None
    return op.builder.broadcast(first, shape), op.builder.broadcast(second, shape)


Recipe = Callable[[tuple[float, float], float, RequantMode], dict[str, Any]]
"""Multipliers of a node for the scales of its inputs and its output."""


def _squared(scales: tuple[float, float], target: float, mode: RequantMode) -> dict[str, Any]:
    """Those of SQUARED_DIFFERENCE: operands of 15 bits, whose square fits int32."""
    twice = 2 * max(scales)
    first, second = (recipes.multiplier(scale / twice, mode) for scale in scales)
    multiplier, shift = recipes.multiplier(twice * twice / (2**14 * target), mode)
    return {"operand0": first, "operand1": second, "multiplier": multiplier, "shift": shift, "left_shift": 7}


def _quotient(scales: tuple[float, float], target: float, mode: RequantMode) -> dict[str, Any]:
    """That of DIV, formed in float32."""
    first, second = map(np.float32, scales)
    multiplier, shift = recipes.multiplier(first / (second * np.float32(target)), mode)
    return {"multiplier": multiplier, "shift": shift}


RECIPES: dict[str, tuple[type[Node], Recipe]] = {
    "ADD": (Add, recipes.rescaled),
    "DIV": (Div, _quotient),
    "MUL": (Mul, recipes.product),
    "SQUARED_DIFFERENCE": (SquaredDifference, _squared),
    "SUB": (Sub, recipes.rescaled),
}


def elementwise(op: Operation) -> None:
    """Arithmetic of two tensors; with one number, or of one tensor with itself, it is a table."""
    kind, recipe = RECIPES[op.operator.builtin]
    parameters = op.tensor(0).parameters(), op.tensor(1).parameters()
    scales = (parameters[0][0], parameters[1][0])
    fields = recipe(scales, op.result().parameters()[0], RequantMode.TFLITE)
    if op.operator.builtin != "SQUARED_DIFFERENCE":
        fields |= op.clamp(op.options.FusedActivationFunction())
    for position in (0, 1):
        number = _only(op, position)
        if number is not None:
            other = np.full(256, number, np.int8)
            operands = (STORED, other) if position else (other, STORED)
            table = _tabulate(kind, fields, parameters, op.result().parameters(), operands)
            op.emit(Table, op.value(1 - position), table=table)
            return
    if op.operator.inputs[0] == op.operator.inputs[1]:
        table = _tabulate(kind, fields, parameters, op.result().parameters(), (STORED, STORED))
        op.emit(Table, op.value(0), table=table)
        return
    op.emit(kind, *_operands(op), **fields)


def tabulate_itself(builtin: str, source: Parameters, target: Parameters) -> NDArray[np.int8]:
    """The table of an operator of `RECIPES` on a tensor with itself, without an activation."""
    kind, recipe = RECIPES[builtin]
    fields = recipe((source[0], source[0]), target[0], RequantMode.TFLITE)
    return _tabulate(kind, fields, (source, source), target, (STORED, STORED))


def _only(op: Operation, position: int) -> int | None:
    """The number that a constant input consists of, or None."""
    tensor = op.tensor(position)
    if tensor.data is None or tensor.type not in ("INT8", "UINT8") or math.prod(tensor.shape) != 1:
        return None
    return int(tensor.stored().reshape(-1)[0])


def _tabulate(
    kind: type[Node],
    fields: dict[str, Any],
    sources: tuple[Parameters, Parameters],
    target: Parameters,
    operands: tuple[NDArray[np.int8], NDArray[np.int8]],
) -> NDArray[np.int8]:
    """The table of a node of two operands, whose values are given for every stored integer."""
    tensors = [Tensor(name, (1, 256), *p) for name, p in zip(("x0", "x1", "y"), (*sources, target), strict=True)]
    node = kind(name="node", inputs=("x0", "x1"), output="y", **fields)
    graph = Graph("table", RequantMode.TFLITE, {t.name: t for t in tensors}, (node,), ("x0", "x1"), ("y",))
    return reference.run(graph, {"x0": operands[0][None], "x1": operands[1][None]})["y"].reshape(256)


def extreme(op: Operation) -> None:
    """MAXIMUM and MINIMUM compare the stored integers; the minimum is the complement of the largest complement."""
    largest = op.operator.builtin == "MAXIMUM"
    for position in (0, 1):
        if (number := _only(op, position)) is not None:
            op.emit(Clamp, op.as_result(op.value(1 - position)), **{"act_min" if largest else "act_max": number})
            return
    values = [op.as_result(value) for value in _operands(op)]
    if largest:
        op.emit(Maximum, *values)
        return
    complements = [op.function(value, COMPLEMENT) for value in values]
    found = op.builder.emit(Maximum, complements, op.result().parameters(), op.result().name)
    op.emit(Table, found, table=COMPLEMENT)


def prelu(op: Operation) -> None:
    """PRELU with constant slopes: what is positive and what is negative, computed apart and added."""
    source, target = op.input_parameters(), op.result().parameters()
    if op.tensor(1).data is None:
        raise op.unsupported("slopes must be constant")
    slope_scale, slope_zero = op.tensor(1).parameters()
    ratios = source[0] / target[0], source[0] * slope_scale / target[0]
    straight, sloped = (recipes.multiplier(ratio, RequantMode.TFLITE) for ratio in ratios)
    slopes = op.tensor(1).stored().astype(np.int64) - slope_zero
    x = np.arange(-128, 128) - source[1]
    positive = requantize(np.maximum(x, 0), *straight, RequantMode.TFLITE) + target[1]
    if slopes.size == 1:
        negative = requantize(np.minimum(x, 0) * slopes.reshape(-1), *sloped, RequantMode.TFLITE)
        op.emit(Table, op.value(0), table=_int8(positive + negative))
        return
    above = op.function(op.value(0), _int8(positive))
    below = op.builder.emit(Clamp, [op.value(0)], source, op.result().name, act_max=source[1])
    fields = {"multiplier": IDENTITY[0], "shift": IDENTITY[1], "left_shift": 0}
    op.emit(Add, above, _sloped(op, below, slopes, sloped), operand0=IDENTITY, operand1=IDENTITY, **fields)


def _int8(values: NDArray[np.int64]) -> NDArray[np.int8]:
    return np.asarray(saturate(values, INT8_MIN, INT8_MAX), np.int8)


def _sloped(op: Operation, value: str, slopes: NDArray[np.int64], multiplier: tuple[int, int]) -> str:
    """`value` times its slopes: a depthwise convolution if every channel has one that fits, else a product."""
    shape, parameters, name = op.builder.shape(value), op.result().parameters(), op.result().name
    channels = slopes.shape[-1]
    if slopes.size == channels == shape[-1] and abs(slopes).max() <= INT8_MAX:
        image = op.builder.reshape(value, image_shape(shape))
        fields: dict[str, Any] = {"weight": slopes.astype(np.int8).reshape(channels, 1, 1, 1), "groups": channels}
        fields |= {"multiplier": np.full(channels, multiplier[0], np.int32)}
        fields |= {"shift": np.full(channels, multiplier[1], np.int8), "bias": np.zeros(channels, np.int32)}
        return op.builder.reshape(op.builder.emit(Conv2d, [image], parameters, name, **fields), shape)
    factor = op.builder.broadcast(op.value(1), shape)
    return op.builder.emit(Mul, [value, factor], parameters, name, multiplier=multiplier[0], shift=multiplier[1])


ELEMENTWISE: dict[str, Callable[[Operation], None]] = {
    **dict.fromkeys(RECIPES, elementwise),
    "MAXIMUM": extreme,
    "MINIMUM": extreme,
    "PRELU": prelu,
}
"""How each operator on two tensors is translated."""
