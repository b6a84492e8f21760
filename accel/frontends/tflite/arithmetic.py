"""Translating TensorFlow Lite operators that compute."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accel.frontends.tflite.operation import ACTIVATIONS, Operation
from accel.machine.numerics import RequantMode, activation_range, output_multipliers, quantize_multiplier
from accel.network import reference
from accel.network.graph import Graph, Tensor
from accel.network.nodes import (
    Add,
    AveragePool2d,
    Conv2d,
    FullyConnected,
    MaxPool2d,
    Mean,
    Mul,
    Node,
    Softmax,
    Sub,
    Table,
    TransposeConv2d,
)
from accel.quantized import tables
from accel.quantized.builder import Parameters, image_shape

Geometry = tuple[tuple[int, int], tuple[int, int], tuple[int, int, int, int]]


def _linear(op: Operation, scales: NDArray[np.float32], source: int = 0) -> dict[str, Any]:
    """Multipliers and shifts of an operator with weights."""
    scale_in, scale_out = op.input_parameters(source)[0], op.result().parameters()[0]
    multiplier, shift = output_multipliers(scale_in, scales, scale_out, RequantMode.TFLITE)
    return {"multiplier": multiplier, "shift": shift}


def _window(op: Operation, kernel: tuple[int, int], dilation: tuple[int, int] = (1, 1)) -> dict[str, Any]:
    """Stride and padding."""
    stride = (op.options.StrideH(), op.options.StrideW())
    sizes = op.builder.shape(op.image())[1:3]
    padding = op.same_padding(kernel, stride, dilation, sizes, op.options.Padding())
    return {"stride": stride, "padding": padding}


def _convolution(op: Operation, weight: NDArray[np.int8], scales: NDArray[np.float32]) -> None:
    """A convolution with weights (oc, kh, kw, ic / groups)."""
    kernel, dilation = weight.shape[1:3], (op.options.DilationHFactor(), op.options.DilationWFactor())
    channels = op.builder.shape(op.image())[3]
    if weight.size == 0 or channels % weight.shape[3]:
        raise op.error(f"weights of shape {weight.shape!r} must divide {channels} input channels into groups")
    op.emit(
        Conv2d,
        op.image(),
        weight=weight,
        bias=op.bias(2, len(weight)),
        **_linear(op, scales),
        **_window(op, kernel, dilation),
        dilation=dilation,
        groups=channels // weight.shape[3],
        **op.clamp(op.options.FusedActivationFunction()),
    )


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
    op.emit(
        TransposeConv2d,
        op.image(2),
        weight=weight,
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
    value, scale_out = op.value(0), op.result().parameters()[0]
    if op.options.WeightsFormat() != 0:
        raise op.error(f"weights format must be 0 (default), got {op.options.WeightsFormat()}")
    fields = {"bias": op.bias(2, len(weight)), **op.clamp(op.options.FusedActivationFunction())}
    if op.tensor(1).scale.size == 1:
        # The runtime multiplies the two scales of a per-tensor layer in float32.
        product = np.float32(op.input_parameters()[0]) * scales
        multiplier, shift = output_multipliers(1.0, product, scale_out, RequantMode.TFLITE)
        fields |= {"multiplier": multiplier, "shift": shift}
    else:
        fields |= _linear(op, scales)
    features = math.prod(op.builder.shape(value))
    if features == weight.shape[1]:
        op.emit(FullyConnected, op.builder.reshape(value, (1, features)), weight=weight, **fields)
        return
    if weight.size == 0 or features % weight.shape[1]:
        raise op.error(f"input must hold rows of {weight.shape[1]} features, got shape {op.tensor(0).shape!r}")
    rows = op.builder.reshape(value, (1, 1, features // weight.shape[1], weight.shape[1]))
    op.emit(Conv2d, rows, weight=weight[:, None, None], **fields)


def pool(op: Operation) -> None:
    """AVERAGE_POOL_2D and MAX_POOL_2D."""
    kernel = (op.options.FilterHeight(), op.options.FilterWidth())
    kind = AveragePool2d if op.operator.builtin == "AVERAGE_POOL_2D" else MaxPool2d
    clamp = op.clamp(op.options.FusedActivationFunction())
    if min(kernel) < 1:
        raise op.error(f"window must be positive, got {kernel!r}")
    op.emit(kind, op.as_result(op.image()), kernel=kernel, **_window(op, kernel), **clamp)


def mean(op: Operation) -> None:
    """MEAN over height, width or both."""
    axes = {op.axis(axis, len(op.tensor(0).shape)) for axis in op.tensor(1).integers()}
    if not axes or not axes <= {1, 2}:
        raise op.error(f"axes must be height and width of (1, height, width, channels), got {op.tensor(1).integers()}")
    height, width = op.builder.shape(op.image())[1:3]
    kernel = (height if 1 in axes else 1, width if 2 in axes else 1)
    count = kernel[0] * kernel[1]
    q, e = quantize_multiplier(op.input_parameters()[0] / op.result().parameters()[0])
    extra = min(count.bit_length() - 1, 32, 31 + e)
    op.emit(Mean, op.image(), kernel=kernel, multiplier=(q << extra) // count, shift=e - extra if q else 0)


def _operands(op: Operation) -> tuple[str, str]:
    """Both operands under one shape."""
    first, second = op.value(0), op.value(1)
    shapes = op.builder.shape(first), op.builder.shape(second)
    if shapes[0] == shapes[1]:
        return first, second
    shape = np.broadcast_shapes(*map(image_shape, shapes))
    return op.builder.broadcast(first, shape), op.builder.broadcast(second, shape)


def _rescaled(sources: tuple[Parameters, Parameters], target: Parameters) -> dict[str, Any]:
    """Multipliers of ADD and SUB."""
    twice = 2 * max(scale for scale, _ in sources)
    multiplier, shift = quantize_multiplier(twice / (2**20 * target[0]))
    first, second = (quantize_multiplier(scale / twice) for scale, _ in sources)
    return {"operand0": first, "operand1": second, "multiplier": multiplier, "shift": shift, "left_shift": 20}


def _product(sources: tuple[Parameters, Parameters], target: Parameters) -> dict[str, Any]:
    """Multiplier of MUL."""
    multiplier, shift = quantize_multiplier(sources[0][0] * sources[1][0] / target[0])
    return {"multiplier": multiplier, "shift": shift}


def elementwise(op: Operation) -> None:
    """ADD, SUB and MUL of tensors that broadcast; with one number they are tables."""
    kinds: dict[str, type[Node]] = {"ADD": Add, "SUB": Sub, "MUL": Mul}
    kind = kinds[op.operator.builtin]
    parameters = op.tensor(0).parameters(), op.tensor(1).parameters()
    recipe = _product if kind is Mul else _rescaled
    fields = recipe(parameters, op.result().parameters()) | op.clamp(op.options.FusedActivationFunction())
    for position in (0, 1):
        tensor = op.tensor(position)
        if tensor.data is not None and tensor.type == "INT8" and math.prod(tensor.shape) == 1:
            number = int(tensor.array().reshape(-1)[0])
            table = _tabulate(kind, fields, parameters, op.result().parameters(), position, number)
            op.emit(Table, op.value(1 - position), table=table)
            return
    op.emit(kind, *_operands(op), **fields)


def _tabulate(
    kind: type[Node],
    fields: dict[str, Any],
    sources: tuple[Parameters, Parameters],
    target: Parameters,
    position: int,
    number: int,
) -> NDArray[np.int8]:
    """The table of a node of two operands of which the one at `position` is always `number`."""
    tensors = [Tensor(name, (1, 256), *p) for name, p in zip(("x0", "x1", "y"), (*sources, target), strict=True)]
    node = kind(name="node", inputs=("x0", "x1"), output="y", **fields)
    graph = Graph("table", RequantMode.TFLITE, {t.name: t for t in tensors}, (node,), ("x0", "x1"), ("y",))
    operands = [np.arange(-128, 128, dtype=np.int8)[None], np.full((1, 256), number, dtype=np.int8)]
    x0, x1 = operands[::-1] if position == 0 else operands
    return reference.run(graph, {"x0": x0, "x1": x1})["y"].reshape(256)


def softmax(op: Operation) -> None:
    """SOFTMAX over the last axis."""
    op.emit(Softmax, op.value(0), beta=float(op.options.Beta()))


def _function(make: Callable[[Operation, Parameters, Parameters], NDArray[np.int8]]) -> Callable[[Operation], None]:
    """The translator of a function of one variable."""

    def translate(op: Operation) -> None:
        value = op.value(0)
        op.emit(Table, value, table=make(op, op.builder.parameters(value), op.result().parameters()))

    return translate


def _leaky_relu(op: Operation, source: Parameters, target: Parameters) -> NDArray[np.int8]:
    alpha = op.options.Alpha()
    if not 0 <= alpha < math.inf:
        raise op.error(f"alpha must be finite and not negative, got {alpha!r}")
    return tables.leaky_relu(source, target, alpha)


def _relu6(op: Operation, source: Parameters, target: Parameters) -> NDArray[np.int8]:
    """The runtime limits the integers without rescaling them."""
    return np.clip(np.arange(-128, 128), *activation_range(*ACTIVATIONS[3], *source)).astype(np.int8)


def quantize(op: Operation) -> None:
    """QUANTIZE between integers (`accel.frontends.tflite.reader` sees those of real numbers)."""
    value = op.value(0, types=("INT8", "UINT8"))
    source, target = op.builder.parameters(value), op.result().parameters()
    if source == target:
        op.define(value)
    else:
        op.emit(Table, value, table=tables.quantize(source, target))


ARITHMETIC: dict[str, Callable[[Operation], None]] = {
    "ADD": elementwise,
    "AVERAGE_POOL_2D": pool,
    "CONV_2D": conv_2d,
    "DEPTHWISE_CONV_2D": depthwise_conv_2d,
    "FULLY_CONNECTED": fully_connected,
    "HARD_SWISH": _function(lambda op, source, target: tables.hard_swish(source, target)),
    "LEAKY_RELU": _function(_leaky_relu),
    "LOGISTIC": _function(lambda op, source, target: tables.logistic(source)),
    "MAX_POOL_2D": pool,
    "MEAN": mean,
    "MUL": elementwise,
    "QUANTIZE": quantize,
    "RELU": _function(lambda op, source, target: tables.relu(source, target, *ACTIVATIONS[1])),
    "RELU6": _function(_relu6),
    "SOFTMAX": softmax,
    "SUB": elementwise,
    "TANH": _function(lambda op, source, target: tables.tanh(source)),
    "TRANSPOSE_CONV": transpose_conv,
}
"""How each operator that computes is translated."""
