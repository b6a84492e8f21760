"""Translating TensorFlow Lite operators with weights."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accel.frontends.tflite.axes import Piece, graph_shape
from accel.frontends.tflite.dilation import Dilated
from accel.frontends.tflite.operation import Operation
from accel.machine.numerics import RequantMode
from accel.network.nodes import Conv2d, FullyConnected, Pair, Rearrange, TransposeConv2d
from accel.network.windows import Shape
from accel.quantized import recipes
from accel.quantized.wide_weights import bits_of, int8_parts, repeat_channels


def _linear(op: Operation, scales: NDArray[np.float32], source: int = 0) -> dict[str, Any]:
    """Multipliers and shifts of an operator with weights."""
    if op.is_unsigned:
        return _product(op, scales, source)
    return recipes.weighted(op.input_parameters(source)[0], scales, op.result().parameters()[0], RequantMode.TFLITE)


def _product(op: Operation, scales: NDArray[np.float32], source: int) -> dict[str, Any]:
    """Multipliers and shifts where the runtime multiplies scales in float32: matrix products with one, and uint8."""
    product = np.float32(op.input_parameters(source)[0]) * scales
    return recipes.weighted(1.0, product, op.result().parameters()[0], RequantMode.TFLITE)


def _convolution(op: Operation, weight: NDArray[np.int64], scales: NDArray[np.float32]) -> None:
    """A convolution with weights (oc, kh, kw, ic / groups)."""
    channels = op.builder.shape(op.image())[3]
    if weight.size == 0 or channels % weight.shape[3]:
        raise op.error(f"weights of shape {weight.shape!r} must divide {channels} input channels into groups")
    value, window, code = op.image(), _window(op, weight.shape[1:3]), op.options
    if isinstance(op.options, Dilated):
        code = op.options.options
        value, window = _cut(op, value, window)
    groups = channels // weight.shape[3]
    value, parts = _split(op, value, weight, groups)
    op.emit(
        Conv2d,
        value,
        weight=parts,
        weight_bits=_bits(op, parts),
        bias=op.bias(2, len(weight)),
        **_linear(op, scales),
        **window,
        groups=groups,
        **op.clamp(code.FusedActivationFunction()),
    )


def _split(op: Operation, value: str, weight: NDArray[np.int64], groups: int = 1) -> tuple[str, NDArray[np.int8]]:
    """Weights that fit int8, and the input whose channels they read, several times if needed."""
    parts, count = int8_parts(weight)
    return repeat_channels(op.builder, value, count, groups), parts


def _bits(op: Operation, weight: NDArray[np.integer]) -> int:
    """Bits of an operator's weights."""
    return bits_of(op.tensor(1).type.lower(), weight)


def _window(op: Operation, kernel: Pair) -> dict[str, Any]:
    """Stride, dilation and padding."""
    if not isinstance(op.options, Dilated):
        dilation = (op.options.DilationHFactor(), op.options.DilationWFactor())
        return {"dilation": dilation, **op.window(kernel, dilation)}
    block, edges = op.options.block, op.options.edges
    same = op.same_padding(kernel, (1, 1), (1, 1), kernel, op.options.options.Padding())
    padding = tuple(edge + pad * block[side % 2] for side, (edge, pad) in enumerate(zip(edges, same, strict=True)))
    return {"dilation": block, "padding": padding}


def _cut(op: Operation, value: str, window: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The image without rows and columns that no output sees: those where the padding is negative."""
    top, left, bottom, right = (max(-edge, 0) for edge in window["padding"])
    height, width = op.tensor(0).shape[1:3]
    picks = [range(1), range(top, height - bottom), range(left, width - right), range(op.tensor(0).shape[3])]
    if top or left or bottom or right:
        value = Piece(value, op.tensor(0).shape).select(op.builder, picks, f"{value}_seen").value
    return value, window | {"padding": tuple(max(edge, 0) for edge in window["padding"])}


def conv_2d(op: Operation) -> None:
    """CONV_2D, groups included."""
    _convolution(op, *op.weights(1, axes=4, scale_axis=0))


def depthwise_conv_2d(op: Operation) -> None:
    """DEPTHWISE_CONV_2D: one group per input channel."""
    weight, scales = op.weights(1, axes=4, scale_axis=3)
    _convolution(op, np.moveaxis(weight, 3, 0).reshape(weight.shape[3], *weight.shape[1:3], weight.shape[0]), scales)


def transpose_conv(op: Operation) -> None:
    """TRANSPOSE_CONV: the padding is that of the convolution from the output back to the input."""
    weight, scales = op.weights(1, axes=4, scale_axis=0)
    stride, size = (op.options.StrideH(), op.options.StrideW()), op.result().shape[1:3]
    padding = op.same_padding(weight.shape[1:3], stride, (1, 1), size, op.options.Padding())
    value, parts = _split(op, op.image(2), weight)
    op.emit(
        TransposeConv2d,
        value,
        weight=parts,
        weight_bits=_bits(op, parts),
        bias=op.bias(3, len(weight)),
        **_linear(op, scales, source=2),
        stride=stride,
        padding=padding[:2],
        size=size,
        **op.clamp(op.options.FusedActivationFunction()),
    )


def fully_connected(op: Operation) -> None:
    """FULLY_CONNECTED; several rows are a convolution with a window of one pixel."""
    weight, scales = op.weights(1, axes=2, scale_axis=0)
    value = op.value(0)
    if op.options.WeightsFormat() != 0:
        raise op.error(f"weights format must be 0 (default), got {op.options.WeightsFormat()}")
    fields = {"bias": op.bias(2, len(weight)), **op.clamp(op.options.FusedActivationFunction())}
    fields["single_rounding"] = op.is_unsigned  # LiteRT's matrix product, unlike its convolutions
    fields |= _product(op, scales, 0) if op.tensor(1).scale.size == 1 else _linear(op, scales)
    fields |= {"weight_bits": _bits(op, weight)}
    features = math.prod(op.builder.shape(value))
    if features == weight.shape[1]:
        value, parts = _split(op, op.builder.reshape(value, (1, features)), weight)
        op.emit(FullyConnected, value, weight=parts, **fields)
        return
    if weight.size == 0 or features % weight.shape[1]:
        raise op.error(f"input must hold rows of {weight.shape[1]} features, got shape {op.tensor(0).shape!r}")
    rows = op.builder.reshape(value, (1, 1, features // weight.shape[1], weight.shape[1]))
    rows, parts = _split(op, rows, weight)
    op.emit(Conv2d, rows, weight=parts[:, None, None], **fields)


def batch_matmul(op: Operation) -> None:
    """BATCH_MATMUL with a constant matrix: rows times it, or columns that are turned to rows and back."""
    left = op.tensor(0).data is not None
    constant, source = (0, 1) if left else (1, 0)
    turned = (op.options.AdjX(), op.options.AdjY())
    tensor = op.tensor(constant)
    if len(tensor.shape) < 2 or math.prod(tensor.shape[:-2]) != 1 or tensor.scale.size != 1 or tensor.type != "INT8":
        raise op.unsupported(
            f"one factor must be a constant INT8 matrix with one scale, got {tensor.type} {tensor.shape!r}"
        )
    matrix = tensor.array().reshape(tensor.shape[-2:])
    matrix = matrix if turned[constant] ^ left else matrix.T
    if np.any(tensor.zero_point != 0):
        raise op.unsupported("constant must have zero point 0; quantize the model to int8 with symmetric weights")
    shape = op.tensor(source).shape
    value = op.value(source)
    if turned[source] ^ left:
        value, shape = _turned(op, value, shape)
    if shape[-1] != matrix.shape[1]:
        raise op.error(f"factors must agree, got {op.tensor(0).shape!r} and {op.tensor(1).shape!r}")
    rows = op.builder.reshape(value, (1, 1, math.prod(shape[:-1]), shape[-1]))
    fields = _product(op, np.broadcast_to(tensor.scale, len(matrix)), source)
    weight, bias = np.ascontiguousarray(matrix)[:, None, None], np.zeros(len(matrix), np.int32)
    parameters, name = op.result().parameters(), op.result().name
    product = op.builder.emit(Conv2d, [rows], parameters, name, weight=weight, bias=bias, **fields)
    op.define(_turned(op, product, (*shape[:-1], len(matrix)))[0] if left else product)


def _turned(op: Operation, value: str, shape: Shape) -> tuple[str, Shape]:
    """The matrices at the end of `shape`, transposed."""
    sizes = (math.prod(shape[:-2]), *shape[-2:])
    target = (*shape[:-2], shape[-1], shape[-2])
    parameters = op.builder.parameters(value)
    moved = op.builder.emit(
        Rearrange, [value], parameters, f"{value}_turned", sizes=sizes, permutation=(0, 2, 1), shape=graph_shape(target)
    )
    return moved, target


WEIGHTED: dict[str, Callable[[Operation], None]] = {
    "BATCH_MATMUL": batch_matmul,
    "CONV_2D": conv_2d,
    "DEPTHWISE_CONV_2D": depthwise_conv_2d,
    "FULLY_CONNECTED": fully_connected,
    "TRANSPOSE_CONV": transpose_conv,
}
"""How each operator with weights is translated."""
