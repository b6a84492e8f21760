"""Translating single ONNX nodes into float layers."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accel.errors import ModelError
from accel.frontends.onnx.float_layers import (
    ChannelAffine,
    Clip,
    Convolution,
    Dense,
    Flatten,
    FloatArray,
    Layer,
    Padding,
    Pair,
    Pool,
    SoftmaxLayer,
    Sum,
)
from accel.network.windows import Shape


@dataclass(frozen=True, eq=False)
class OnnxNode:
    """An ONNX node with what is known about its inputs; `inputs` holds an empty name for an absent input."""

    name: str
    operator: str
    opset: int
    inputs: tuple[str, ...]
    output: str
    attributes: dict[str, Any]
    constants: dict[str, NDArray[Any]]
    shapes: dict[str, Shape]

    def error(self, problem: str) -> ModelError:
        """A `ModelError` that names this node."""
        return ModelError(f"{self.operator} {self.name!r}: {problem}")

    def require(self, attribute: str, expected: Any, default: Any) -> None:
        """Raise unless an attribute has the only value that is supported."""
        value = self.attributes.get(attribute, default)
        if value != expected:
            raise self.error(f"{attribute} must be {expected!r}, got {value!r}; other values are not supported")

    def shape(self, name: str) -> Shape:
        """Shape of a tensor."""
        if name not in self.shapes:
            raise self.error(f"shape of {name!r} must be known; export the model with fixed sizes")
        return self.shapes[name]

    def constant(self, index: int) -> FloatArray | None:
        """Input number `index` as a float32 constant; None if it is absent."""
        if index >= len(self.inputs) or not self.inputs[index]:
            return None
        if self.inputs[index] not in self.constants:
            raise self.error(f"input {self.inputs[index]!r} must be a constant")
        value = np.asarray(self.constants[self.inputs[index]], dtype=np.float32)
        if not np.all(np.isfinite(value)):
            raise self.error(f"constant {self.inputs[index]!r} must be finite")
        return value

    def weights(self, index: int) -> FloatArray:
        """Input number `index`, which must be a constant."""
        value = self.constant(index)
        if value is None:
            raise self.error(f"input number {index} must be a constant, got none")
        return value

    def fields(self, count: int = 1) -> dict[str, Any]:
        """The fields of `Layer`, with the first `count` inputs, which must not be constants."""
        if constant := [name for name in self.inputs[:count] if name in self.constants]:
            raise self.error(f"input {constant[0]!r} must be an activation, got a constant")
        return {
            "name": self.name,
            "operator": self.operator,
            "inputs": self.inputs[:count],
            "output": self.output,
        }


def window(node: OnnxNode, kernel: Pair) -> tuple[Pair, Padding, Pair]:
    """Stride, padding (top, left, bottom, right) and dilation of a convolution or pool."""
    shape = node.shape(node.inputs[0])
    if len(shape) != 4:
        raise node.error(f"input must have shape (N, channels, height, width), got {shape!r}")
    stride = tuple(node.attributes.get("strides", (1, 1)))
    dilation = tuple(node.attributes.get("dilations", (1, 1)))
    pads = tuple(node.attributes.get("pads", (0, 0, 0, 0)))
    auto_pad = node.attributes.get("auto_pad", b"NOTSET").decode()
    if auto_pad in ("SAME_UPPER", "SAME_LOWER"):
        total = []
        for size, k, s, d in zip(shape[2:], kernel, stride, dilation, strict=True):
            total.append(max((-(-size // s) - 1) * s + d * (k - 1) + 1 - size, 0))
        less, more = tuple(t // 2 for t in total), tuple(t - t // 2 for t in total)
        pads = less + more if auto_pad == "SAME_UPPER" else more + less
    elif auto_pad == "VALID":
        pads = (0, 0, 0, 0)
    return (stride[0], stride[1]), (pads[0], pads[1], pads[2], pads[3]), (dilation[0], dilation[1])


def _conv(node: OnnxNode) -> Layer:
    weight = node.weights(1)
    if weight.ndim != 4:
        raise node.error(f"weights must be (oc, ic, kh, kw), got shape {weight.shape}; only 2-D is supported")
    if (groups := node.attributes.get("group", 1)) != 1:
        raise node.error(f"group must be 1, got {groups}; grouped and depthwise convolutions are not supported")
    stride, padding, dilation = window(node, (weight.shape[2], weight.shape[3]))
    bias = node.constant(2)
    return Convolution(
        **node.fields(),
        weight=weight,
        bias=np.zeros(weight.shape[0], dtype=np.float32) if bias is None else bias,
        stride=stride,
        padding=padding,
        dilation=dilation,
    )


def _batch_normalization(node: OnnxNode) -> Layer:
    scale, bias, mean, variance = (node.weights(index).astype(np.float64) for index in (1, 2, 3, 4))
    node.require("training_mode", 0, 0)
    factor = scale / np.sqrt(variance + node.attributes.get("epsilon", 1e-5))
    return ChannelAffine(
        **node.fields(), scale=factor.astype(np.float32), bias=(bias - mean * factor).astype(np.float32)
    )


def _add(node: OnnxNode) -> Layer:
    constant = [index for index, name in enumerate(node.inputs) if name in node.constants]
    if not constant:
        first, second = (node.shape(name) for name in node.inputs)
        if first != second:
            raise node.error(f"inputs must have one shape, got {first!r} and {second!r}; broadcasting is not supported")
        return Sum(**node.fields(2))
    value, shape = node.weights(constant[0]), node.shape(node.inputs[1 - constant[0]])
    per_channel = value.reshape((1,) * (len(shape) - value.ndim) + value.shape)
    if per_channel.ndim != len(shape) or any(size != 1 for axis, size in enumerate(per_channel.shape) if axis != 1):
        raise node.error(f"constant must hold one value per channel of {shape!r}, got shape {value.shape}")
    bias = np.broadcast_to(per_channel.reshape(-1), (shape[1],)).astype(np.float32)
    fields = node.fields(0) | {"inputs": (node.inputs[1 - constant[0]],)}
    return ChannelAffine(**fields, scale=np.ones_like(bias), bias=bias)


def _relu(node: OnnxNode) -> Layer:
    return Clip(**node.fields(), low=0.0, high=float(np.inf))


def _clip(node: OnnxNode) -> Layer:
    limits = []
    for index, attribute, default in ((1, "min", -np.inf), (2, "max", np.inf)):
        constant = node.constant(index)
        limits.append(float(node.attributes.get(attribute, default) if constant is None else constant.item()))
    return Clip(**node.fields(), low=limits[0], high=limits[1])


def _pool(node: OnnxNode) -> Layer:
    average = node.operator == "AveragePool"
    kernel = tuple(node.attributes["kernel_shape"])
    stride, padding, dilation = window(node, (kernel[0], kernel[1]))
    node.require("ceil_mode", 0, 0)
    if dilation != (1, 1):
        raise node.error(f"dilations must be (1, 1), got {dilation!r}; other values are not supported")
    if average and any(padding):
        node.require("count_include_pad", 0, 0)
    return Pool(**node.fields(), average=average, kernel=(kernel[0], kernel[1]), stride=stride, padding=padding)


def _global_average_pool(node: OnnxNode) -> Layer:
    shape = node.shape(node.inputs[0])
    if len(shape) != 4:
        raise node.error(f"input must have shape (N, channels, height, width), got {shape!r}")
    kernel = (shape[2], shape[3])
    return Pool(**node.fields(), average=True, kernel=kernel, stride=kernel, padding=(0, 0, 0, 0))


def _gemm(node: OnnxNode) -> Layer:
    node.require("transA", 0, 0)
    weight = node.weights(1) * np.float32(node.attributes.get("alpha", 1.0))
    if not node.attributes.get("transB", 0):
        weight = weight.T
    constant = node.constant(2)
    offset = np.zeros(1, dtype=np.float32) if constant is None else constant.reshape(-1)
    bias = np.broadcast_to(offset * np.float32(node.attributes.get("beta", 1.0)), (weight.shape[0],))
    return Dense(**node.fields(), weight=weight, bias=bias)


def _matmul(node: OnnxNode) -> Layer:
    weight = node.weights(1)
    shape = node.shape(node.inputs[0])
    if weight.ndim != 2 or len(shape) != 2:
        raise node.error(f"operands must be (1, in) and constant (in, out), got {shape!r} and {weight.shape!r}")
    return Dense(**node.fields(), weight=weight.T, bias=np.zeros(weight.shape[1], dtype=np.float32))


def _flatten(node: OnnxNode) -> Layer:
    source, target = node.shape(node.inputs[0]), node.shape(node.output)
    same_order = all(len(shape) == 2 or 1 in (shape[1], math.prod(shape[2:])) for shape in (source, target))
    flattens = len(source) == 4 and len(target) == 2
    if len(target) not in (2, 4) or target[0] != 1 or not (same_order or flattens or source == target):
        raise node.error(f"only flattening to (1, features) is supported, got {source!r} to {target!r}")
    return Flatten(**node.fields())


def _softmax(node: OnnxNode) -> Layer:
    shape = node.shape(node.inputs[0])
    axis = node.attributes.get("axis", 1 if node.opset < 13 else -1)
    if len(shape) != 2 or axis not in (1, -1):
        raise node.error(f"only softmax over the features of (1, features) is supported, got {shape!r}, axis {axis}")
    return SoftmaxLayer(**node.fields())


TRANSLATORS: dict[str, Callable[[OnnxNode], Layer]] = {
    "Add": _add,
    "AveragePool": _pool,
    "BatchNormalization": _batch_normalization,
    "Clip": _clip,
    "Conv": _conv,
    "Flatten": _flatten,
    "Gemm": _gemm,
    "GlobalAveragePool": _global_average_pool,
    "MatMul": _matmul,
    "MaxPool": _pool,
    "Relu": _relu,
    "Reshape": _flatten,
    "Softmax": _softmax,
}
