"""Random quantized ONNX models of one operator or one QDQ group, for comparison with ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from support.oracles.onnx_writer import (
    MICROSOFT,
    OnnxWriter,
    Quantization,
    Rng,
    conv_attributes,
    dequantized,
    image,
    quantization,
    weights,
)


def q_linear_conv(rng: Rng) -> bytes:
    """QLinearConv: int8 and uint8, per tensor and per channel, groups, with and without bias."""
    writer, shape, x = OnnxWriter(), image(rng), quantization(rng)
    attributes, kernel, groups = conv_attributes(rng, shape)
    channels = groups * int(rng.integers(1, 8 if groups == 1 else 3))
    integers, scales, points, y = weights(rng, (channels, shape[1] // groups, *kernel), 0, x)
    names = [writer.input(shape, x.kind), *x.constants(writer)]
    names += [writer.constant(value) for value in (integers, scales, points)] + y.constants(writer)
    if rng.random() < 0.7:
        names.append(writer.constant(rng.normal(0, 5000, channels).astype(np.int32)))
    return writer.finish(writer.node("QLinearConv", names, **attributes), y.kind)


def q_linear_matmul(rng: Rng) -> bytes:
    """QLinearMatMul of one or several rows."""
    writer, x = OnnxWriter(), quantization(rng)
    rows, features, channels = (int(n) for n in rng.integers(1, (4, 60, 30)))
    integers, scales, points, y = weights(rng, (features, channels), 1, x)
    names = [writer.input((rows, features), x.kind), *x.constants(writer)]
    names += [writer.constant(value) for value in (integers, scales, points)] + y.constants(writer)
    return writer.finish(writer.node("QLinearMatMul", names), y.kind, rank=2)


def q_gemm(rng: Rng) -> bytes:
    """QGemm of com.microsoft."""
    writer, x = OnnxWriter(), quantization(rng)
    features, channels, transposed = int(rng.integers(1, 60)), int(rng.integers(1, 30)), int(rng.integers(2))
    integers, scales, points, y = weights(rng, (features, channels), 1, x)
    integers = np.ascontiguousarray(integers.T) if transposed else integers
    names = [writer.input((1, features), x.kind), *x.constants(writer)]
    names += [writer.constant(value) for value in (integers, scales, points)]
    names += [writer.constant(rng.normal(0, 5000, channels).astype(np.int32)), *y.constants(writer)]
    return writer.finish(writer.node(f"{MICROSOFT}.QGemm", names, transB=transposed, alpha=1.0), y.kind, rank=2)


def qdq_conv(rng: Rng) -> bytes:
    """Conv between DequantizeLinear and QuantizeLinear, perhaps with a ReLU that the zero point implies."""
    writer, shape, x = OnnxWriter(), image(rng), quantization(rng)
    attributes, kernel, groups = conv_attributes(rng, shape)
    channels = groups * int(rng.integers(1, 8 if groups == 1 else 3))
    integers, scales, points, y = weights(rng, (channels, shape[1] // groups, *kernel), 0, x, symmetric=True)
    source = dequantized(writer, writer.input(shape, x.kind), x.constants(writer))
    axis = {"axis": 0} if scales.ndim else {}
    weight = dequantized(writer, writer.constant(integers), [writer.constant(scales), writer.constant(points)], **axis)
    bias_scale = np.float32(x.scale) * scales
    bias = rng.normal(0, 5000, channels).astype(np.int32)
    zero = writer.constant(np.zeros(np.shape(bias_scale), np.int32))
    offset = dequantized(writer, writer.constant(bias), [writer.constant(bias_scale), zero], **axis)
    result = writer.node("Conv", [source, weight, offset], **attributes)
    if rng.random() < 0.5:
        y = Quantization(y.kind, y.scale, int(np.iinfo(y.kind).min))
        result = writer.node("Relu", [result])
    output = writer.node("QuantizeLinear", [result, *y.constants(writer)])
    return writer.finish(output, y.kind)


def qdq_matmul(rng: Rng) -> bytes:
    """MatMul or Gemm between DequantizeLinear and QuantizeLinear, after a Flatten of an image now and then."""
    writer, x, gemm = OnnxWriter(), quantization(rng), bool(rng.integers(2))
    shape = image(rng, 5, 6) if rng.random() < 0.4 else (1, int(rng.integers(1, 60)))
    features, channels = int(np.prod(shape)), int(rng.integers(1, 30))
    integers, scales, points, y = weights(rng, (features, channels), 1, x, symmetric=True)
    source = dequantized(writer, writer.input(shape, x.kind), x.constants(writer))
    if len(shape) == 4:
        flat = writer.node("Flatten", [source])
        parameters = x.constants(writer)
        source = dequantized(writer, writer.node("QuantizeLinear", [flat, *parameters]), parameters)
    axis = {"axis": 1} if scales.ndim else {}
    weight = dequantized(writer, writer.constant(integers), [writer.constant(scales), writer.constant(points)], **axis)
    names = [source, weight]
    if gemm:
        bias_scale = np.float32(x.scale) * scales
        bias = writer.constant(rng.normal(0, 5000, channels).astype(np.int32))
        zero = writer.constant(np.zeros(np.shape(bias_scale), np.int32))
        names.append(dequantized(writer, bias, [writer.constant(bias_scale), zero], **({"axis": 0} if axis else {})))
    result = writer.node("Gemm" if gemm else "MatMul", names)
    return writer.finish(writer.node("QuantizeLinear", [result, *y.constants(writer)]), y.kind, rank=2)


def q_elementwise(rng: Rng, operator: str) -> bytes:
    """QLinearAdd or QLinearMul."""
    writer, shape = OnnxWriter(), image(rng)
    first = quantization(rng)
    second = quantization(rng, first.scale * 2 ** rng.uniform(-3, 3), first.kind)
    scale = first.scale * second.scale * 128 if operator == "Mul" else 2 * max(first.scale, second.scale)
    y = quantization(rng, scale * 2 ** rng.uniform(-2, 1), first.kind)
    other = shape if rng.random() < 0.7 else (1, shape[1], 1, 1)
    names = [writer.input(shape, first.kind), *first.constants(writer)]
    names += [writer.input(other, second.kind), *second.constants(writer), *y.constants(writer)]
    return writer.finish(writer.node(f"{MICROSOFT}.QLinear{operator}", names), y.kind)


def q_concat(rng: Rng) -> bytes:
    """QLinearConcat of two or three images."""
    writer, shape, axis = OnnxWriter(), image(rng), int(rng.integers(1, 4))
    y = quantization(rng)
    names = y.constants(writer)
    for _ in range(int(rng.integers(2, 4))):
        part = list(shape)
        part[axis] = int(rng.integers(1, 5))
        x = y if rng.random() < 0.3 else quantization(rng, y.scale * 2 ** rng.uniform(-1, 1), y.kind)
        names += [writer.input(tuple(part), x.kind), *x.constants(writer)]
    return writer.finish(writer.node(f"{MICROSOFT}.QLinearConcat", names, axis=axis), y.kind)


def q_function(rng: Rng, operator: str) -> bytes:
    """QLinearSigmoid, QLinearLeakyRelu, QLinearGlobalAveragePool or QLinearAveragePool."""
    writer, shape, x = OnnxWriter(), image(rng), quantization(rng)
    attributes: dict[str, Any] = {}
    ratio = 2 ** rng.uniform(-2, 1)
    y = quantization(rng, 1 / 256 if operator == "Sigmoid" else x.scale * ratio, x.kind)
    if operator == "LeakyRelu":
        attributes["alpha"] = float(rng.choice([0.01, 0.1, 0.3]))
    if operator == "AveragePool":
        attributes |= {"kernel_shape": [2, 3], "strides": [1, 2], "count_include_pad": 1, "pads": [0, 1, 1, 1]}
    names = [writer.input(shape, x.kind), *x.constants(writer), *y.constants(writer)]
    return writer.finish(writer.node(f"{MICROSOFT}.QLinear{operator}", names, **attributes), y.kind)


def movement(rng: Rng, operator: str) -> bytes:
    """An operator that moves bytes or takes maxima, between DequantizeLinear and QuantizeLinear."""
    writer, shape, x = OnnxWriter(), image(rng), quantization(rng)
    parameters = x.constants(writer)
    names = [dequantized(writer, writer.input(shape, x.kind), parameters)]
    attributes: dict[str, Any] = {}
    rank = 4
    if operator == "MaxPool":
        attributes = {"kernel_shape": [2, 3], "strides": [2, 1], "pads": [1, 0, 0, 2]}
    elif operator == "Transpose":
        attributes = {"perm": [0, *(1 + rng.permutation(3)).tolist()]}
    elif operator == "Reshape":
        target = [(0, -1), (1, shape[3], -1, shape[1])][rng.integers(2)]
        rank = len(target)
        names.append(writer.constant(np.array(target, np.int64)))
    elif operator == "Resize":
        names += ["", writer.constant(np.array([1, 1, *rng.choice([0.5, 1, 2, 3], 2)], np.float32))]
        modes = ["half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"]
        rounding = ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"]
        attributes = {"mode": "nearest", "coordinate_transformation_mode": str(rng.choice(modes))}
        attributes["nearest_mode"] = str(rng.choice(rounding))
    rank = 2 if operator == "Flatten" else rank
    result = writer.node(operator, names, **attributes)
    return writer.finish(writer.node("QuantizeLinear", [result, *parameters]), x.kind, rank)


def channels_last(make: Callable[[Rng], bytes], rng: Rng) -> bytes:
    """A model of one operator on images, as the runtime's optimizer writes it: channels are the last axis."""
    model = onnx.load_model_from_string(make(rng))
    (node,), (x,) = model.graph.node, model.graph.input
    node.domain = MICROSOFT
    node.attribute.append(helper.make_attribute("channels_last", 1))
    batch, channels, *sizes = (size.dim_value for size in x.type.tensor_type.shape.dim)
    for size, value in zip(x.type.tensor_type.shape.dim, (batch, *sizes, channels), strict=True):
        size.dim_value = value
    return model.SerializeToString()


def nhwc_max_pool(rng: Rng) -> bytes:
    """NhwcMaxPool, on integers."""
    writer, (batch, channels, height, width), x = OnnxWriter(), image(rng), quantization(rng)
    fields = {"kernel_shape": [2, 3], "strides": [2, 1], "pads": [1, 0, 0, 2]}
    source, parameters = writer.input((batch, height, width, channels), x.kind), x.constants(writer)
    real = dequantized(writer, writer.node(f"{MICROSOFT}.NhwcMaxPool", [source], **fields), parameters)
    return writer.finish(writer.node("QuantizeLinear", [real, *parameters]), x.kind)


def q_softmax(rng: Rng) -> bytes:
    """QLinearSoftmax along any axis of two or more; of one, the runtime's kernel gives 0 or the largest integer."""
    writer, x = OnnxWriter(), quantization(rng)
    shape = (1, *(size + 1 for size in image(rng)[1:]))
    y = quantization(rng, float(rng.choice([1 / 256, 1 / 200.5])), x.kind)
    y = Quantization(y.kind, y.scale, 0 if y.kind == "uint8" else -128)
    names = [writer.input(shape, x.kind), *x.constants(writer), *y.constants(writer)]
    result = writer.node(f"{MICROSOFT}.QLinearSoftmax", names, axis=int(rng.integers(1, 4)), opset=13)
    return writer.finish(result, y.kind)


def integers_to_float(rng: Rng) -> bytes:
    """MatMulIntegerToFloat with weights, then QuantizeLinear."""
    writer, x = OnnxWriter(), quantization(rng)
    rows, features, channels = (int(n) for n in rng.integers(1, (4, 60, 30)))
    integers, scales, points, y = weights(rng, (features, channels), 1, x)
    scale, point = x.constants(writer)
    names = [writer.input((rows, features), x.kind), writer.constant(integers), scale, writer.constant(scales)]
    names += [point, writer.constant(points)]
    if rng.random() < 0.7:
        names.append(writer.constant(rng.normal(0, 100 * y.scale, channels).astype(np.float32)))
    result = writer.node(f"{MICROSOFT}.MatMulIntegerToFloat", names)
    return writer.finish(writer.node("QuantizeLinear", [result, *y.constants(writer)]), y.kind, rank=2)


def integer_sums(rng: Rng, operator: str) -> bytes:
    """ConvInteger or MatMulInteger, with what dequantizes their sums and quantizes them again."""
    writer, x, conv = OnnxWriter(), quantization(rng), operator == "ConvInteger"
    shape = image(rng) if conv else tuple(int(n) for n in rng.integers(1, (4, 60)))
    channels = int(rng.integers(1, 9))
    size = (channels, shape[1], 1, 1) if conv else (shape[1], channels)
    integers, scales, points, y = weights(rng, size, 0 if conv else 1, x)
    scale = np.float32(np.float32(x.scale) * np.max(scales))
    names = [writer.input(shape, x.kind), writer.constant(integers), x.constants(writer)[1]]
    names.append(writer.constant(np.reshape(points, -1)[:1].reshape(())))
    sums = writer.node("Cast", [writer.node(operator, names)], to=TensorProto.FLOAT)
    real = writer.node("Mul", [sums, writer.constant(scale)])
    return writer.finish(writer.node("QuantizeLinear", [real, *y.constants(writer)]), y.kind, len(shape))


def with_operator(make: Callable[[Rng, str], bytes], operator: str) -> Callable[[Rng], bytes]:
    """`make` for one operator."""
    return lambda rng: make(rng, operator)


EXACT: dict[str, Callable[[Rng], bytes]] = {
    "QLinearConv": q_linear_conv,
    "QLinearMatMul": q_linear_matmul,
    "QGemm": q_gemm,
    "QDQ Conv": qdq_conv,
    "QDQ MatMul": qdq_matmul,
    "QLinearConcat": q_concat,
    "QLinearConv, channels last": partial(channels_last, q_linear_conv),
    "QLinearGlobalAveragePool, channels last": partial(channels_last, with_operator(q_function, "GlobalAveragePool")),
    "NhwcMaxPool": nhwc_max_pool,
    **{f"QLinear{name}": with_operator(q_function, name) for name in ("GlobalAveragePool", "Sigmoid", "LeakyRelu")},
    **{
        f"QDQ {name}": with_operator(movement, name)
        for name in ("MaxPool", "Transpose", "Reshape", "Flatten", "Resize")
    },
}
"""Models whose outputs must be equal."""

NEAR: dict[str, Callable[[Rng], bytes]] = {
    **{f"QLinear{name}": with_operator(q_elementwise, name) for name in ("Add", "Mul")},
    "QLinearAveragePool": with_operator(q_function, "AveragePool"),
    "QLinearAveragePool, channels last": partial(channels_last, with_operator(q_function, "AveragePool")),
    "MatMulIntegerToFloat": integers_to_float,
    **{name: with_operator(integer_sums, name) for name in ("ConvInteger", "MatMulInteger")},
}
"""Models whose outputs may differ by one step now and then: the runtime computes with real numbers."""

COARSE: dict[str, Callable[[Rng], bytes]] = {"QLinearSoftmax": q_softmax}
"""Models whose outputs may differ by one step: the runtime rounds the reciprocal of the output's scale down."""


def float_network(rng: Rng) -> bytes:
    """Convolutions (one depthwise), a residual sum, pools and a classifier, for quantization by another tool."""
    writer = OnnxWriter()

    def conv(x: str, shape: tuple[int, ...], **attributes: Any) -> str:
        weight = rng.normal(0, 1 / np.sqrt(np.prod(shape[1:])), shape).astype(np.float32)
        bias = rng.normal(0, 0.1, shape[0]).astype(np.float32)
        return writer.node("Conv", [x, writer.constant(weight), writer.constant(bias)], **attributes)

    writer.inputs.append(helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 12, 12]))
    stem = writer.node("Relu", [conv("x", (8, 3, 3, 3), pads=[1, 1, 1, 1])])
    depthwise = writer.node("Relu", [conv(stem, (8, 1, 3, 3), pads=[1, 1, 1, 1], group=8)])
    total = writer.node("Add", [stem, conv(depthwise, (8, 8, 1, 1))])
    pooled = writer.node("MaxPool", [total], kernel_shape=[2, 2], strides=[2, 2])
    mean = writer.node("Flatten", [writer.node("GlobalAveragePool", [pooled])])
    weight = writer.constant(rng.normal(0, 0.3, (8, 10)).astype(np.float32))
    bias = writer.constant(rng.normal(0, 0.1, 10).astype(np.float32))
    return writer.finish(writer.node("Gemm", [mean, weight, bias]), "float32", rank=2)
