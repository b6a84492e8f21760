"""Translating ONNX operators without weights."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accel.frontends.builder import Parameters, image_shape
from accel.frontends.onnx.float_operators import OnnxNode, window
from accel.frontends.onnx.movement import integers_of
from accel.frontends.onnx.values import (
    Activation,
    Importer,
    IntegerConstant,
    Pending,
    Real,
    Sums,
    Value,
    graph_shape,
    round_clip,
)
from accel.machine.numerics import multiplier_fp32
from accel.network.nodes import Add, Clamp, Mean, Mul, Node, Softmax, Sub
from accel.network.windows import Shape

Function = Callable[[NDArray[np.float32]], NDArray[Any]]
LEFT_SHIFT = 20


def _average(imp: Importer, node: OnnxNode, x: Activation) -> Pending:
    """AveragePool, GlobalAveragePool and ReduceMean: sums with ``scale_in / (scale_out * taps)``."""
    if len(x.shape) != 4:
        raise node.error(f"input must have shape (1, channels, height, width), got {x.shape!r}")
    node.shapes[node.inputs[0]] = x.shape
    kernel, stride, padding = (x.shape[2], x.shape[3]), (1, 1), (0, 0, 0, 0)
    if node.operator.endswith("AveragePool") and "Global" not in node.operator:
        kernel = (node.attributes["kernel_shape"][0], node.attributes["kernel_shape"][1])
        stride, padding, _ = window(node, kernel)
        node.require("ceil_mode", 0, 0)
        if any(padding):
            node.require("count_include_pad", 1, 0)
    node.require("channels_last", 0, 0)
    height, width = (
        (n + padding[a] + padding[a + 2] - kernel[a]) // max(stride[a], 1) + 1 for a, n in enumerate(x.shape[2:])
    )

    def finish(parameters: Parameters, clamp: dict[str, int]) -> str:
        divisor = np.float32(parameters[0]) * np.float32(kernel[0] * kernel[1])
        multiplier, shift = multiplier_fp32(np.float32(imp.parameters(x)[0]) / divisor)
        fields = {"kernel": kernel, "stride": stride, "padding": padding, "multiplier": multiplier, "shift": shift}
        return imp.builder.emit(Mean, [x.name], parameters, node.output, **fields, **clamp)

    return Pending((1, x.shape[1], height, width), finish)


def average(imp: Importer, node: OnnxNode) -> Value:
    """AveragePool and GlobalAveragePool between DequantizeLinear and QuantizeLinear."""
    return _average(imp, node, imp.real(node, 0))


def reduce_mean(imp: Importer, node: OnnxNode) -> Value:
    """ReduceMean over height and width."""
    x = imp.real(node, 0)
    given = imp.array(node, node.inputs[1]).reshape(-1) if len(node.inputs) > 1 else node.attributes.get("axes", ())
    if sorted(int(axis) % 4 for axis in given) != [2, 3]:
        raise node.error("axes must be height and width")
    pending = _average(imp, node, x)
    if node.attributes.get("keepdims", 1):
        return pending
    finish = pending.finish
    shape = (1, x.shape[1])
    return Pending(shape, lambda parameters, clamp: imp.builder.reshape(finish(parameters, clamp), shape))


def _q_linear(make: Callable[[Importer, OnnxNode, Activation], Pending]) -> Callable[[Importer, OnnxNode], Value]:
    """The translator of an operator of com.microsoft with inputs X, its parameters and those of the output."""

    def translate(imp: Importer, node: OnnxNode) -> Value:
        names = (*node.inputs, "")
        x = imp.activation(node, names[0], imp.scalar_parameters(node, names[1], names[2]))
        return imp.finish(node, make(imp, node, x), imp.scalar_parameters(node, names[3], names[4]))

    return translate


def _function(imp: Importer, node: OnnxNode, x: Activation) -> Pending:
    """A function of one variable as a table."""
    return imp.table(x, _real_function(node))


def _real_function(node: OnnxNode) -> Function:
    kind = node.operator.removeprefix("com.microsoft.QLinear")
    alpha = np.float32(node.attributes.get("alpha", {"HardSigmoid": 0.2}.get(kind, 0.01)))
    beta = np.float32(node.attributes.get("beta", 0.5))
    functions: dict[str, Function] = {
        "HardSigmoid": lambda x: np.clip(alpha * x + beta, 0, 1),
        "HardSwish": lambda x: x * np.clip(x / np.float32(6) + np.float32(0.5), 0, 1),
        "LeakyRelu": lambda x: np.where(x >= 0, x, alpha * x),
        "Sigmoid": lambda x: 1 / (1 + np.exp(-np.clip(x.astype(np.float64), -700, 700))),
        "Tanh": lambda x: np.tanh(x.astype(np.float64)),
    }
    return functions[kind]


def function(imp: Importer, node: OnnxNode) -> Value:
    """A function of one variable between DequantizeLinear and QuantizeLinear."""
    return _function(imp, node, imp.real(node, 0))


def clip(imp: Importer, node: OnnxNode) -> Value:
    """Relu and Clip, of real results or of integers."""
    value = imp.value(node, node.inputs[0])
    low, high = _bounds(imp, node)
    if isinstance(value, Pending):
        return value.clipped(low, high)
    if isinstance(value, Real):
        return imp.table(value.activation, lambda x: np.clip(x, np.float32(low), np.float32(high)))
    _, x = integers_of(imp, node)
    constants = [imp.constants[name] for name in node.inputs[1:] if name]
    shift = 128 if any(constant.dtype == np.uint8 for constant in constants) else 0
    limits = {"act_min": int(max(low - shift, -128)), "act_max": int(min(high - shift, 127))}
    name = imp.builder.emit(Clamp, [x.name], imp.parameters(x), node.output, **limits)
    return Activation(name, x.shape, x.pixels)


def _bounds(imp: Importer, node: OnnxNode) -> tuple[float, float]:
    if node.operator == "Relu":
        return 0.0, math.inf
    bounds = []
    for position, attribute, default in ((1, "min", -math.inf), (2, "max", math.inf)):
        name = node.inputs[position] if position < len(node.inputs) else ""
        bounds.append(float(imp.array(node, name).item() if name else node.attributes.get(attribute, default)))
    if not bounds[0] <= bounds[1]:
        raise node.error(f"min must not exceed max, got {bounds[0]} and {bounds[1]}")
    return bounds[0], bounds[1]


def softmax(imp: Importer, node: OnnxNode, x: Activation) -> Pending:
    """Softmax over the features or channels, which come last in the graph."""
    rank = len(x.shape)
    axis = int(node.attributes.get("axis", 1 if node.opset < 13 and "QLinear" not in node.operator else -1)) % rank
    whole = x.shape if rank != 4 else (x.shape[0], *x.shape[2:], x.shape[1])
    if axis != (1 if rank == 4 else rank - 1) or x.pixels is not None:
        raise node.error(f"axis must be that of the features or channels of {whole!r}, got {axis}")

    def finish(parameters: Parameters, clamp: dict[str, int]) -> str:
        return imp.builder.emit(Softmax, [x.name], parameters, node.output)

    return Pending(x.shape, finish, default=Softmax.output_parameters)


def real_softmax(imp: Importer, node: OnnxNode) -> Value:
    """Softmax whose result may stay real at the end of the model; it then gets scale 1/256 and zero point -128."""
    return softmax(imp, node, imp.real(node, 0))


def elementwise(imp: Importer, node: OnnxNode) -> Value:
    """Add, Sub and Mul of real numbers, one of them perhaps constant; Mul gives integer sums their scale."""
    first = imp.values.get(node.inputs[0])
    if isinstance(first, Sums):
        if node.operator != "Mul":
            raise node.error("integer sums must be multiplied by a constant scale first")
        return first.scaled(imp.array(node, node.inputs[1]).astype(np.float32))
    operands = [_operand(imp, node, position) for position in (0, 1)]
    return _combine(imp, node, node.operator, operands)


def _operand(imp: Importer, node: OnnxNode, position: int) -> Activation | NDArray[np.float32]:
    name = node.inputs[position]
    value = imp.values.get(name)
    if isinstance(value, IntegerConstant):
        return value.real
    return imp.array(node, name).astype(np.float32) if value is None else imp.real(node, position)


def q_elementwise(imp: Importer, node: OnnxNode) -> Value:
    """QLinearAdd and QLinearMul of com.microsoft."""
    names = (*node.inputs, "")
    operands: list[Activation | NDArray[np.float32]] = []
    for start in (0, 3):
        parameters = imp.scalar_parameters(node, names[start + 1], names[start + 2])
        if names[start] in imp.constants:
            raw = imp.constants[names[start]].astype(np.int64)
            raw = raw - (128 if imp.constants[names[start]].dtype == np.uint8 else 0)
            operands.append((raw - parameters[1]).astype(np.float32) * np.float32(parameters[0]))
        else:
            operands.append(imp.activation(node, names[start], parameters))
    pending = _combine(imp, node, node.operator.removeprefix("com.microsoft.QLinear"), operands)
    return imp.finish(node, pending, imp.scalar_parameters(node, names[6], names[7]))


def _combine(imp: Importer, node: OnnxNode, operator: str, operands: list[Activation | NDArray[np.float32]]) -> Pending:
    """The sum, difference or product of two operands that broadcast."""
    kinds: dict[str, type[Node]] = {"Add": Add, "Sub": Sub, "Mul": Mul}
    functions: dict[str, Callable[[Any, Any], Any]] = {"Add": np.add, "Sub": np.subtract, "Mul": np.multiply}
    first, second = operands
    apply = functions[operator]
    if isinstance(first, Activation) and isinstance(second, np.ndarray) and second.size == 1:
        number = second.reshape(())
        return imp.table(first, lambda x: apply(x, number))
    if isinstance(second, Activation) and isinstance(first, np.ndarray) and first.size == 1:
        number = first.reshape(())
        return imp.table(second, lambda x: apply(number, x))
    shape = np.broadcast_shapes(*(operand.shape for operand in operands))
    rank = len(shape)
    names = [_full(imp, node, operand, shape) for operand in operands]

    def finish(parameters: Parameters, clamp: dict[str, int]) -> str:
        scales = [imp.builder.parameters(name)[0] for name in names]
        fields = _product(scales, parameters) if operator == "Mul" else _rescaled(scales, parameters)
        name = imp.builder.emit(kinds[operator], names, parameters, node.output, **fields, **clamp)
        return imp.builder.reshape(name, graph_shape(shape)) if rank != 4 else name

    return Pending(shape, finish)


def _full(imp: Importer, node: OnnxNode, operand: Activation | NDArray[np.float32], shape: Shape) -> str:
    """An operand under the graph's shape of the result; constants are quantized without loss of range."""
    if isinstance(operand, np.ndarray):
        low, high = min(float(operand.min()), 0.0), max(float(operand.max()), 0.0)
        scale = float(np.float32((high - low) / 255)) or 1.0
        parameters = (scale, int(np.clip(np.rint(-128 - low / scale), -128, 127)))
        image = round_clip(operand, parameters).reshape((1,) * (len(shape) - operand.ndim) + operand.shape)
        image = image.transpose(0, 2, 3, 1) if len(shape) == 4 else image
        name = imp.builder.constant(np.ascontiguousarray(image), parameters, f"{node.output}_constant")
    else:
        name = operand.name if len(operand.shape) == 4 or operand.pixels is None else imp.row_major(operand)
        if len(operand.shape) < len(shape) == 4:
            name = imp.reshape(operand, (1,) * (4 - len(operand.shape)) + operand.shape).name
    return imp.builder.broadcast(name, image_shape(graph_shape(shape)))


def _rescaled(scales: list[float], target: Parameters) -> dict[str, Any]:
    twice = 2 * max(scales)
    multiplier, shift = multiplier_fp32(twice / (2**LEFT_SHIFT * target[0]))
    first, second = (multiplier_fp32(scale / twice) for scale in scales)
    return {
        "operand0": first,
        "operand1": second,
        "multiplier": multiplier,
        "shift": shift,
        "left_shift": LEFT_SHIFT,
    }


def _product(scales: list[float], target: Parameters) -> dict[str, Any]:
    multiplier, shift = multiplier_fp32(np.float32(scales[0]) * np.float32(scales[1]) / np.float32(target[0]))
    return {"multiplier": multiplier, "shift": shift}


VECTOR: dict[str, Callable[[Importer, OnnxNode], Value]] = {
    **dict.fromkeys(("Add", "Mul", "Sub"), elementwise),
    **dict.fromkeys(("AveragePool", "GlobalAveragePool"), average),
    **dict.fromkeys(("Clip", "Relu"), clip),
    **dict.fromkeys(("HardSigmoid", "HardSwish", "LeakyRelu", "Sigmoid", "Tanh"), function),
    "ReduceMean": reduce_mean,
    "Softmax": real_softmax,
    **dict.fromkeys(("com.microsoft.QLinearAdd", "com.microsoft.QLinearMul"), q_elementwise),
    **dict.fromkeys(("com.microsoft.QLinearSigmoid", "com.microsoft.QLinearLeakyRelu"), _q_linear(_function)),
    **dict.fromkeys(
        ("com.microsoft.QLinearAveragePool", "com.microsoft.QLinearGlobalAveragePool"), _q_linear(_average)
    ),
    "com.microsoft.QLinearSoftmax": _q_linear(softmax),
}
"""How each operator without weights is translated."""
