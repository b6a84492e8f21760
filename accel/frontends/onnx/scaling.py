"""Translating QuantizeLinear and DequantizeLinear."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accel.frontends.onnx.float_operators import OnnxNode
from accel.frontends.onnx.values import Activation, Importer, IntegerConstant, Pending, RawInput, Real, Value


def quantize_linear(imp: Importer, node: OnnxNode) -> Value:
    """QuantizeLinear of an input, of a result, or of numbers that have other parameters."""
    parameters = imp.scalar_parameters(node, node.inputs[1], node.inputs[2] if len(node.inputs) > 2 else "")
    value = imp.value(node, node.inputs[0])
    if isinstance(value, RawInput) and value.is_real:
        return imp.declare(node, value, parameters)
    if isinstance(value, Pending):
        return imp.finish(node, value, parameters)
    if isinstance(value, Real):
        source = value.activation
        name = imp.rescaled(source, parameters)
        return Activation(name, source.shape, source.pixels)
    raise node.error(f"input {node.inputs[0]!r} must be real numbers")


def dequantize_linear(imp: Importer, node: OnnxNode) -> Value:
    """DequantizeLinear of an activation or of constant weights."""
    zero_point = node.inputs[2] if len(node.inputs) > 2 else ""
    if node.inputs[0] not in imp.constants:
        return Real(imp.activation(node, node.inputs[0], imp.scalar_parameters(node, node.inputs[1], zero_point)))
    integers = imp.constants[node.inputs[0]]
    if integers.dtype not in (np.int8, np.uint8, np.int32) or node.attributes.get("block_size", 0):
        raise node.error(f"constants must be int8, uint8 or int32 and not blocked, got {integers.dtype}")
    scale = imp.array(node, node.inputs[1]).astype(np.float32).reshape(-1)
    points = imp.array(node, zero_point).astype(np.int64).reshape(-1) if zero_point else np.zeros(1, np.int64)
    axis = int(node.attributes.get("axis", 1))
    channels = integers.shape[axis] if -integers.ndim <= axis < integers.ndim else 1
    if {scale.size, points.size} - {1, channels}:
        raise node.error(f"scales must belong to axis {axis} of {integers.shape!r}, got {scale.size}")
    return IntegerConstant(integers.astype(np.int64), scale, points, axis)


def quantized_constant(imp: Importer, node: OnnxNode) -> NDArray[Any]:
    """QuantizeLinear of constant weights."""
    real, scale = (imp.array(node, name).astype(np.float32) for name in node.inputs[:2])
    points = imp.constants[node.inputs[2]] if len(node.inputs) > 2 and node.inputs[2] else np.zeros(1, np.uint8)
    if points.dtype not in (np.int8, np.uint8):
        raise node.error(f"constants must become int8 or uint8, got {points.dtype}")
    shape = [1] * real.ndim
    if scale.size > 1:
        shape[int(node.attributes.get("axis", 1))] = scale.size
    steps = np.rint(real / scale.reshape(shape)) + points.astype(np.float32).reshape(shape if points.size > 1 else ())
    info = np.iinfo(points.dtype)
    return np.asarray(np.clip(steps, info.min, info.max).astype(points.dtype))


SCALING: dict[str, Callable[[Importer, OnnxNode], Value]] = {
    "DequantizeLinear": dequantize_linear,
    "QuantizeLinear": quantize_linear,
}
"""How the two operators are translated."""
