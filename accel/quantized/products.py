"""Lowering matrix products with constant weights."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from accel.network.nodes import Conv2d, FullyConnected
from accel.quantized import recipes
from accel.quantized.lowering import Lowering
from accel.quantized.network import Operator, Quantization
from accel.quantized.values import Integers, Target, Value
from accel.quantized.view import View
from accel.quantized.weighted import (
    Linear,
    Weights,
    channel_scales,
    real_bias,
    scale_of_sums,
    sums,
)
from accel.quantized.wide_weights import repeat_channels


def gemm(low: Lowering, op: Operator) -> Value:
    """Gemm with constant weights."""
    op.require("transA", 0, 0)
    return _product(low, op, transposed=bool(op.attributes.get("transB", 0)))


def matmul(low: Lowering, op: Operator) -> Value:
    """MatMul and MatMulInteger with constant weights."""
    return _product(low, op, transposed=False)


def _product(low: Lowering, op: Operator, *, transposed: bool) -> Value:
    """A product of rows of features with weights (features, channels); several rows are a convolution of one pixel."""
    weight = low.quantization(op, 1, "weights")
    integers = weight.centred
    while integers.ndim > 2 and len(integers) == 1:
        integers = integers[0]
    x = low.integers(op, 0)
    if integers.ndim != 2 or not x.shape:
        raise op.error(f"weights must be constant (features, channels), got shape {integers.shape!r}")
    values = integers if transposed else integers.T
    channels, features = values.shape
    if x.shape[-1] != features:
        raise op.error(f"operands must agree, got {x.shape!r} and {integers.shape!r}")
    scales = channel_scales(op, weight, (0 if transposed else 1) + _rank(weight) - 2, channels)
    alpha, beta = (np.float32(op.attributes.get(name, 1.0)) for name in ("alpha", "beta"))
    factor = float(alpha * np.float32(scale_of_sums(low, op, x)))
    bias, exact = real_bias(low, op, 2, np.float32(factor) * scales, float(beta)) if op.kind == "Gemm" else (None, None)
    bias = np.zeros(channels) if bias is None else bias
    last = len(x.shape) - 1
    columns, rows = x.view.numbers(last), math.prod(x.shape[:-1])
    inner = [number for number in x.view.order if number in columns]
    x = low.arranged(x, [number for number in x.view.order if number not in columns] + inner)
    values = _in_memory_order(values, x.view, last)
    source = low.builder.reshape(x.name, (1, features) if rows == 1 else (1, 1, rows, features))
    shape = (*x.shape[:-1], channels)
    outer = len(x.view.order) - len(columns)
    view = View((*x.view.factors[:-1], (channels,) if channels > 1 else ()), (*x.view.order[:outer],))
    view = View(view.factors, (*view.order, outer) if channels > 1 else view.order)

    def emit(target: Target, values: NDArray[np.int8], count: int, fields: recipes.Fields) -> Integers:
        name = repeat_channels(low.builder, source, count)
        if rows == 1:
            return Integers(
                low.builder.emit(FullyConnected, [name], target.parameters, target.name, weight=values, **fields),
                view,
            )
        pixels = values.reshape(channels, 1, 1, -1)
        return Integers(low.builder.emit(Conv2d, [name], target.parameters, target.name, weight=pixels, **fields), view)

    return sums(low, shape, last, Linear(values, scales, bias, exact, factor, 1, weight.kind, emit))


def _rank(weight: Quantization) -> int:
    return 2 if weight.integers is None else weight.integers.ndim


def _in_memory_order(values: Weights, view: View, axis: int) -> Weights:
    """Weights (channels, features) with the features in the order in which memory holds `axis`."""
    numbers = view.numbers(axis)
    order = [numbers.index(number) for number in view.order if number in numbers]
    split = values.reshape(len(values), *view.factors[axis])
    return split.transpose(0, *(position + 1 for position in order)).reshape(len(values), -1)
