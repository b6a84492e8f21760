"""Translating QuantizeLinear, DequantizeLinear and the QLinear operators."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from accel.errors import ModelError
from accel.frontends.onnx.parameters import quantize_constant
from accel.frontends.onnx.stripper import MICROSOFT, Stripper
from accel.quantized.network import Operator, Quantization, TensorInfo

_ONE_SCALE = "activations must have one scale and one zero point of int8 or uint8, got {}"


def _quantize_linear(s: Stripper, op: Operator) -> None:
    from onnx import TensorProto

    code = int(op.attributes.get("output_dtype", 0))
    kind = TensorProto.DataType.Name(code).lower() if code else ""
    axis = int(op.attributes.get("axis", 1))
    found = s.read(op, op.inputs[1], op.input(2), kind or "uint8", axis)
    if kind and found.kind != kind:
        raise op.error(f"output_dtype must be the type of the zero point, {found.kind}, got {kind}")
    source = s.name(op.inputs[0])
    value = s.value(source)
    if value is not None:
        found = replace(found, integers=quantize_constant(op, value, found))
        s.parameters[op.outputs[0]], s.tensors[op.outputs[0]] = found, TensorInfo.constant(op.outputs[0], found.real)
        return
    if s.holds_integers(op.inputs[0]):
        raise op.error(f"input {op.inputs[0]!r} must be real numbers, got integers")
    if found.scale.size != 1:
        raise op.error(_ONE_SCALE.format(found.kind))
    try:
        _ = found.parameters
    except ModelError as error:
        raise op.error(str(error)) from error
    s.operators.append(Operator(op.name, "Identity", (source,), op.outputs, opset=op.opset))
    s.define(op, found)


def _dequantize_linear(s: Stripper, op: Operator) -> None:
    source, axis = s.name(op.inputs[0]), int(op.attributes.get("axis", 1))
    known = s.parameters.get(source)
    value = s.value(source)
    kind = value.dtype.name if value is not None else known.kind if known else s.kinds.get(source, "uint8")
    found = s.read(op, op.inputs[1], op.input(2), kind, axis)
    if op.input(2) and found.kind != kind:
        raise op.error(f"zero point must have the type of the integers, {kind}, got {found.kind}")
    if known is not None and known.integers is not None:
        found = replace(found, kind=known.kind, integers=known.integers)
        s.parameters[op.outputs[0]], s.tensors[op.outputs[0]] = found, TensorInfo.constant(op.outputs[0], found.real)
    elif value is not None:
        s.aliases[op.outputs[0]] = s.known(op, source, value, found)
        s.dequantized.add(op.outputs[0])
    else:
        if found.scale.size != 1:
            raise op.error(_ONE_SCALE.format(found.kind))
        s.aliases[op.outputs[0]] = s.integers(op, source, found)
        s.dequantized.add(op.outputs[0])


def _factor(s: Stripper, op: Operator, position: int, axis: int) -> tuple[str, NDArray[np.float32]]:
    """The second factor of a product, whose scale and zero point follow it: weights, or another activation."""
    scale, zero_point = op.inputs[position + 1], op.input(position + 2)
    if s.value(s.name(op.inputs[position])) is not None:
        name = _weights(s, op, position, axis, scale, zero_point)
        return name, s.parameters[name].scale.reshape(-1)
    found = s.read(op, scale, zero_point, "uint8", axis)
    if found.scale.size != 1:
        raise op.error(_ONE_SCALE.format(found.kind))
    return s.integers(op, op.inputs[position], found), found.scale.reshape(-1)


def _weights(s: Stripper, op: Operator, position: int, axis: int, scale: str, zero_point: str) -> str:
    """Constant weights of 8 bits."""
    value = s.constant(op, op.inputs[position])
    if value.dtype not in (np.int8, np.uint8):
        raise op.error(f"weights must be int8 or uint8, got {value.dtype}")
    found = s.read(op, scale, zero_point, value.dtype.name, axis)
    return s.known(op, op.inputs[position], value, found)


def _bias(
    s: Stripper, op: Operator, name: str, x: Quantization, weight: NDArray[np.float32], factor: float = 1.0
) -> str:
    """A constant bias at the scale of the sums, which that of the weights makes."""
    if not name:
        return ""
    value = s.constant(op, name).astype(np.int32).reshape(-1)
    scale = np.float32(factor) * np.float32(x.scale.reshape(())) * weight
    return s.known(op, name, value, Quantization(scale.astype(np.float32), np.zeros(1, np.int64), "int32"))


def _q_linear(kind: str, axis: int) -> Callable[[Stripper, Operator], None]:
    """QLinearConv and QLinearMatMul."""

    def translate(s: Stripper, op: Operator) -> None:
        x = s.read(op, op.inputs[1], op.inputs[2], "uint8")
        weight, scale = _factor(s, op, 3, axis)
        bias = _bias(s, op, op.input(8), x, scale)
        inputs = (s.integers(op, op.inputs[0], x), weight, *([bias] if bias else []))
        s.emit(op, kind, inputs)
        s.define(op, s.read(op, op.inputs[6], op.inputs[7], "uint8"))

    return translate


def _q_gemm(s: Stripper, op: Operator) -> None:
    if not op.input(7):
        raise op.error("output must be quantized")
    x = s.read(op, op.inputs[1], op.inputs[2], "uint8")
    transposed = int(op.attributes.get("transB", 0))
    weight, scale = _factor(s, op, 3, 0 if transposed else 1)
    bias = _bias(s, op, op.input(6), x, scale, float(op.attributes.get("alpha", 1.0)))
    s.emit(op, "Gemm", (s.integers(op, op.inputs[0], x), weight, *([bias] if bias else [])))
    s.define(op, s.read(op, op.inputs[7], op.input(8), x.kind))


def _of_integers_only(axis: int) -> Callable[[Stripper, Operator], None]:
    """ConvInteger and MatMulInteger: sums whose scale comes later."""

    def translate(s: Stripper, op: Operator) -> None:
        weight_kind = s.constant(op, op.inputs[1]).dtype.name
        one = s.fresh(f"{op.name}_one")
        s.source = replace(
            s.source, tensors={**s.source.tensors, one: TensorInfo.constant(one, np.ones(1, np.float32))}
        )
        weight = _weights(s, op, 1, axis, one, op.input(3))
        points = s.constant(op, op.input(2)).reshape(-1) if op.input(2) else np.zeros(1, np.int64)
        source = s.name(op.inputs[0])
        kind = s.kinds.get(source, weight_kind)
        known = s.cells[source].quantization if source in s.cells else None
        scale = np.ones(1, np.float32) if known is None else known.scale
        x = s.integers(op, source, Quantization(scale, points.astype(np.int64), kind))
        s.emit(op, op.kind, (x, weight))

    return translate


def _q_elementwise(kind: str) -> Callable[[Stripper, Operator], None]:
    """QLinearAdd and QLinearMul."""

    def translate(s: Stripper, op: Operator) -> None:
        found = [s.read(op, op.inputs[i + 1], op.input(i + 2), "uint8") for i in (0, 3, 6)[:2]]
        inputs = tuple(s.integers(op, op.inputs[i], f) for i, f in zip((0, 3), found, strict=True))
        s.emit(op, kind, inputs)
        s.define(op, s.read(op, op.inputs[6], op.input(7), found[0].kind))

    return translate


def _q_where(s: Stripper, op: Operator) -> None:
    """QLinearWhere: a condition, two triples, the output's parameters."""
    found = [s.read(op, op.inputs[i + 1], op.input(i + 2), "uint8") for i in (1, 4)]
    chosen = (s.integers(op, op.inputs[i], f) for i, f in zip((1, 4), found, strict=True))
    s.emit(op, "Where", (s.name(op.inputs[0]), *chosen))
    s.define(op, s.read(op, op.inputs[7], op.input(8), found[0].kind))


def _q_function(kind: str) -> Callable[[Stripper, Operator], None]:
    """Operators with inputs X, its parameters and those of the output."""

    def translate(s: Stripper, op: Operator) -> None:
        op.require("channels_last", 0, 0)
        x = s.read(op, op.inputs[1], op.input(2), "uint8")
        s.emit(op, kind, (s.integers(op, op.inputs[0], x),))
        s.define(op, s.read(op, op.inputs[3], op.input(4), x.kind))

    return translate


def _q_concat(s: Stripper, op: Operator) -> None:
    """QLinearConcat: the output's parameters, then triples."""
    inputs = []
    for start in range(2, len(op.inputs), 3):
        found = s.read(op, op.inputs[start + 1], op.inputs[start + 2], "uint8")
        inputs.append(s.integers(op, op.inputs[start], found))
    s.emit(op, "Concat", tuple(inputs))
    s.define(op, s.read(op, op.inputs[0], op.inputs[1], "uint8"))


STRIPPED: dict[str, Callable[[Stripper, Operator], None]] = {
    "ConvInteger": _of_integers_only(0),
    "DequantizeLinear": _dequantize_linear,
    "MatMulInteger": _of_integers_only(1),
    "QLinearConv": _q_linear("Conv", 0),
    "QLinearMatMul": _q_linear("MatMul", 1),
    "QuantizeLinear": _quantize_linear,
    f"{MICROSOFT}DequantizeLinear": _dequantize_linear,
    f"{MICROSOFT}QGemm": _q_gemm,
    f"{MICROSOFT}QLinearAdd": _q_elementwise("Add"),
    f"{MICROSOFT}QLinearAveragePool": _q_function("AveragePool"),
    f"{MICROSOFT}QLinearConcat": _q_concat,
    f"{MICROSOFT}QLinearGlobalAveragePool": _q_function("GlobalAveragePool"),
    f"{MICROSOFT}QLinearLeakyRelu": _q_function("LeakyRelu"),
    f"{MICROSOFT}QLinearMul": _q_elementwise("Mul"),
    f"{MICROSOFT}QLinearSigmoid": _q_function("Sigmoid"),
    f"{MICROSOFT}QLinearSoftmax": _q_function("Softmax"),
    f"{MICROSOFT}QLinearWhere": _q_where,
    f"{MICROSOFT}QuantizeLinear": _quantize_linear,
}
"""How each operator of quantization is translated."""
