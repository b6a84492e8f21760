"""Translating ONNX operators with weights: convolutions and matrix products, in all three styles of quantization."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accel.frontends.builder import Parameters
from accel.frontends.onnx.float_operators import OnnxNode, window
from accel.frontends.onnx.values import Activation, Importer, IntegerConstant, Pending, Sums, Value
from accel.machine.numerics import INT32_MAX, RequantMode, output_multipliers
from accel.network.nodes import Concat, Conv2d, FullyConnected

Bias = NDArray[np.int32] | None
LinearMaker = Callable[[Importer, OnnxNode, Activation, IntegerConstant, Bias, float], Pending]


def _effective(weight: IntegerConstant) -> NDArray[np.int64]:
    """Weights without their zero points."""
    shape = [1] * weight.integers.ndim
    if weight.zero_point.size > 1:
        shape[weight.axis] = weight.zero_point.size
    return weight.integers - weight.zero_point.reshape(shape)


def _in_two(imp: Importer, node: OnnxNode, name: str, weight: NDArray[np.int64], groups: int) -> tuple[str, Any]:
    """Input and int8 weights, output channel first and input channel last.

    Differences of a weight and its zero point that do not fit int8 are sums of two that do, and the input's channels
    are given twice.
    """
    first = np.clip(weight, -128, 127)
    if np.array_equal(first, weight):
        return name, weight.astype(np.int8)
    if groups != 1:
        raise node.error("weights minus their zero point must fit int8 in a grouped convolution")
    both = np.concatenate([first, weight - first], axis=-1).astype(np.int8)
    axis = len(imp.builder.shape(name)) - 1
    return imp.builder.emit(Concat, [name, name], imp.builder.parameters(name), f"{name}_twice", axis=axis), both


def convolution(
    imp: Importer, node: OnnxNode, x: Activation, weight: IntegerConstant, bias: Bias, factor: float
) -> Pending:
    """A convolution with weights (oc, ic / groups, kh, kw); sums have the scale ``factor * weight scale``."""
    if weight.integers.ndim != 4 or len(x.shape) != 4:
        raise node.error(f"only 2-D convolutions are supported, got weights of shape {weight.integers.shape!r}")
    channels, groups = len(weight.integers), int(node.attributes.get("group", 1))
    node.shapes[node.inputs[0]] = x.shape
    stride, padding, dilation = window(node, weight.integers.shape[2:4])
    name, values = _in_two(imp, node, x.name, _effective(weight).transpose(0, 2, 3, 1), groups)
    height, width = (
        (n + padding[a] + padding[a + 2] - d * (k - 1) - 1) // s + 1
        for a, (n, k, d, s) in enumerate(zip(x.shape[2:], values.shape[1:3], dilation, stride, strict=True))
    )

    def finish(parameters: Parameters, clamp: dict[str, int]) -> str:
        fields = _fields(factor, weight.scale, channels, bias, parameters)
        geometry = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
        return imp.builder.emit(Conv2d, [name], parameters, node.output, weight=values, **geometry, **fields, **clamp)

    return Pending((1, channels, height, width), finish)


def _fields(
    factor: float, scales: NDArray[np.float32], channels: int, bias: Bias, target: Parameters
) -> dict[str, Any]:
    """Bias, multipliers and shifts."""
    scale = np.broadcast_to(scales, (channels,))
    multiplier, shift = output_multipliers(factor, scale, target[0], RequantMode.FP32)
    offset = np.zeros(channels, dtype=np.int32) if bias is None else np.broadcast_to(bias, (channels,))
    return {"multiplier": multiplier, "shift": shift, "bias": np.ascontiguousarray(offset)}


def product(
    imp: Importer, node: OnnxNode, x: Activation, weight: IntegerConstant, bias: Bias, factor: float
) -> Pending:
    """A matrix product with weights (in, out); several rows are a convolution with a window of one pixel."""
    if weight.integers.ndim != 2 or len(x.shape) not in (1, 2, 3):
        raise node.error(
            f"operands must be activations of rank 1 to 3 and constant weights (in, out), got {x.shape!r} and "
            f"{weight.integers.shape!r}"
        )
    values = _effective(weight).T
    channels, features = values.shape
    if x.shape[-1] != features:
        raise node.error(f"operands must agree, got {x.shape!r} and {weight.integers.shape!r}")
    if x.pixels is not None:
        height, width, depth = x.pixels[1:]
        values = values.reshape(channels, depth, height, width).transpose(0, 2, 3, 1).reshape(channels, features)
    rows = math.prod(x.shape[:-1])
    source = x.name if rows == 1 else imp.builder.reshape(x.name, (1, 1, rows, features))
    name, values = _in_two(imp, node, source, values, 1)

    def finish(parameters: Parameters, clamp: dict[str, int]) -> str:
        fields = _fields(factor, weight.scale, channels, bias, parameters) | clamp
        if rows == 1:
            return imp.builder.emit(FullyConnected, [name], parameters, node.output, weight=values, **fields)
        pixels = imp.builder.emit(
            Conv2d, [name], parameters, node.output, weight=values.reshape(channels, 1, 1, -1), **fields
        )
        return imp.builder.reshape(pixels, pixels_shape(x, channels, imp))

    return Pending((*x.shape[:-1], channels), finish)


def pixels_shape(x: Activation, channels: int, imp: Importer) -> tuple[int, ...]:
    """The graph's shape of a product of several rows."""
    return (*imp.builder.shape(x.name)[:-1], channels)


def _integer_weights(
    imp: Importer, node: OnnxNode, position: int, axis: int, scale: str | None, zero_point: str
) -> IntegerConstant:
    """Constant weights of 8 bits with their zero points, and scales if there are any."""
    integers = imp.array(node, node.inputs[position])
    if integers.dtype not in (np.int8, np.uint8):
        raise node.error(f"weights must be int8 or uint8, got {integers.dtype}")
    scales = np.ones(1, np.float32) if scale is None else imp.array(node, scale).astype(np.float32).reshape(-1)
    points = imp.array(node, zero_point).astype(np.int64).reshape(-1) if zero_point else np.zeros(1, np.int64)
    channels = integers.shape[axis] if integers.ndim > axis else 0
    if scales.size not in (1, channels) or points.size not in (1, channels):
        raise node.error(f"weights must have 1 or {channels} scales and zero points, got {scales.size}, {points.size}")
    return IntegerConstant(integers.astype(np.int64), scales, points, axis)


def _name(node: OnnxNode, position: int) -> str:
    return node.inputs[position] if position < len(node.inputs) else ""


def q_linear_conv(imp: Importer, node: OnnxNode) -> Value:
    """QLinearConv."""
    x = imp.activation(node, node.inputs[0], imp.scalar_parameters(node, node.inputs[1], node.inputs[2]))
    weight = _integer_weights(imp, node, 3, 0, node.inputs[4], node.inputs[5])
    bias = imp.array(node, node.inputs[8]).astype(np.int32) if _name(node, 8) else None
    pending = convolution(imp, node, x, weight, bias, imp.parameters(x)[0])
    return imp.finish(node, pending, imp.scalar_parameters(node, node.inputs[6], node.inputs[7]))


def q_linear_matmul(imp: Importer, node: OnnxNode) -> Value:
    """QLinearMatMul with constant second operand."""
    x = imp.activation(node, node.inputs[0], imp.scalar_parameters(node, node.inputs[1], node.inputs[2]))
    weight = _integer_weights(imp, node, 3, 1, node.inputs[4], node.inputs[5])
    pending = product(imp, node, x, weight, None, imp.parameters(x)[0])
    return imp.finish(node, pending, imp.scalar_parameters(node, node.inputs[6], node.inputs[7]))


def q_gemm(imp: Importer, node: OnnxNode) -> Value:
    """QGemm of com.microsoft with an int8 output."""
    node.require("transA", 0, 0)
    if not _name(node, 7):
        raise node.error("output must be quantized")
    x = imp.activation(node, node.inputs[0], imp.scalar_parameters(node, node.inputs[1], node.inputs[2]))
    transposed = int(node.attributes.get("transB", 0))
    weight = _integer_weights(imp, node, 3, 0 if transposed else 1, node.inputs[4], node.inputs[5])
    if transposed:
        weight = IntegerConstant(weight.integers.T, weight.scale, weight.zero_point, 1)
    bias = imp.array(node, node.inputs[6]).astype(np.int32).reshape(-1) if _name(node, 6) else None
    factor = float(np.float32(node.attributes.get("alpha", 1.0)) * np.float32(imp.parameters(x)[0]))
    pending = product(imp, node, x, weight, bias, factor)
    return imp.finish(node, pending, imp.scalar_parameters(node, node.inputs[7], _name(node, 8)))


def _integer_operator(make: LinearMaker, axis: int) -> Callable[[Importer, OnnxNode], Value]:
    """The translator of ConvInteger or MatMulInteger: sums whose scale comes later."""

    def translate(imp: Importer, node: OnnxNode) -> Value:
        weight = _integer_weights(imp, node, 1, axis, None, _name(node, 3))
        point = imp.array(node, _name(node, 2)).reshape(-1) if _name(node, 2) else np.zeros(1, np.uint8)
        value = imp.value(node, node.inputs[0])
        scale = imp.parameters(value)[0] if isinstance(value, Activation) else 1.0
        shifted = int(point[0]) - (128 if point.dtype == np.uint8 else 0)
        x = imp.activation(node, node.inputs[0], (scale, shifted))

        def scaled(scales: NDArray[np.float32]) -> Pending:
            known = IntegerConstant(weight.integers, scales.reshape(-1), weight.zero_point, axis)
            return make(imp, node, x, known, None, 1.0)

        return Sums(scaled)

    return translate


def _real_weights(imp: Importer, node: OnnxNode, position: int) -> IntegerConstant:
    value = imp.value(node, node.inputs[position])
    if not isinstance(value, IntegerConstant):
        raise node.error(f"weights {node.inputs[position]!r} must be constant and quantized")
    return value


def _real_bias(imp: Importer, node: OnnxNode, scales: NDArray[np.float32], beta: float = 1.0) -> Bias:
    """The bias as integers at the scale of the sums: those of the file where they have it, else rounded."""
    name = _name(node, 2)
    if not name:
        return None
    value = imp.values.get(name)
    if isinstance(value, IntegerConstant) and beta == 1.0:
        same = np.allclose(value.scale, scales, rtol=1e-5, atol=0) and not np.any(value.zero_point)
        if same and np.abs(value.integers).max(initial=0) <= INT32_MAX:
            return value.integers.astype(np.int32).reshape(-1)
    real = value.real if isinstance(value, IntegerConstant) else imp.array(node, name)
    steps = np.rint(real.astype(np.float64).reshape(-1) * beta / scales)
    if not np.all(np.abs(steps) <= INT32_MAX):
        raise node.error("bias must fit int32 at the scale of the products")
    return steps.astype(np.int32)


def conv(imp: Importer, node: OnnxNode) -> Value:
    """Conv between DequantizeLinear and QuantizeLinear."""
    x, weight = imp.real(node, 0), _real_weights(imp, node, 1)
    if weight.scale.size > 1 and weight.axis % weight.integers.ndim != 0:
        raise node.error(f"weights must have scales per output channel, got axis {weight.axis}")
    factor = imp.parameters(x)[0]
    bias = _real_bias(imp, node, np.float32(factor) * weight.scale)
    return convolution(imp, node, x, weight, bias, factor)


def matmul(imp: Importer, node: OnnxNode) -> Value:
    """MatMul and Gemm between DequantizeLinear and QuantizeLinear."""
    x, weight = imp.real(node, 0), _real_weights(imp, node, 1)
    if node.attributes.get("transB", 0) and node.operator == "Gemm":
        weight = IntegerConstant(weight.integers.T, weight.scale, weight.zero_point, 1 - weight.axis % 2)
    if weight.scale.size > 1 and weight.axis % max(weight.integers.ndim, 1) != 1:
        raise node.error(f"weights must have scales per output, got axis {weight.axis}")
    node.require("transA", 0, 0)
    factor = float(np.float32(node.attributes.get("alpha", 1.0)) * np.float32(imp.parameters(x)[0]))
    beta = float(node.attributes.get("beta", 1.0))
    bias = _real_bias(imp, node, np.float32(factor) * weight.scale, beta) if node.operator == "Gemm" else None
    return product(imp, node, x, weight, bias, factor)


LINEAR: dict[str, Callable[[Importer, OnnxNode], Value]] = {
    "Conv": conv,
    "ConvInteger": _integer_operator(convolution, 0),
    "Gemm": matmul,
    "MatMul": matmul,
    "MatMulInteger": _integer_operator(product, 1),
    "QLinearConv": q_linear_conv,
    "QLinearMatMul": q_linear_matmul,
    "com.microsoft.QGemm": q_gemm,
}
"""How each operator with weights is translated."""
