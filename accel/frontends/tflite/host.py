"""Tensors of TensorFlow Lite that only the host has, in the model's own shapes, and ONNX operators on them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from accel.frontends.tflite.axes import graph_shape
from accel.frontends.tflite.file import INTEGER_TYPES, TfliteTensor
from accel.frontends.tflite.operation import ACTIVATIONS, Operation
from accel.network.graph import Tensor
from accel.network.nodes import Dequantize, HostOperator, Quantize
from accel.network.windows import Shape
from accel.quantized.builder import Parameters, free_name

OPSET = 14
HOST_TYPES = {"FLOAT32": "float32", "INT32": "int32", "INT64": "int64", "BOOL": "bool"}
"""Types of tensors that only the host has, and their names in a graph."""
Argument: TypeAlias = str | NDArray[Any]
"""A tensor of the graph, or a constant."""


def real(op: Operation, position: int = 0) -> Argument:
    """Input number `position` as the host has it, in the model's shape: real numbers for what is quantized."""
    tensor, index = op.tensor(position), op.operator.inputs[position]
    if tensor.type not in (*INTEGER_TYPES, *HOST_TYPES):
        raise op.unsupported(f"input {tensor.name!r} must be one of {', '.join(HOST_TYPES)}, got {tensor.type}")
    if index not in op.values and tensor.data is not None:
        if tensor.type in INTEGER_TYPES:
            raise op.unsupported(
                f"constant {tensor.name!r} of an operator on real numbers must be real, got {tensor.type}"
            )
        return tensor.array()
    value = op.values.get(index)
    if value is None:
        raise op.error(f"input {tensor.name!r} of type {tensor.type} must be made by an operator that is supported")
    if op.builder.tensors[value].dtype != "int8":
        return value
    if index not in op.reals:
        op.reals[index] = dequantized(op, value, position)
    return op.reals[index]


def carried(op: Operation, position: int = 0) -> Argument:
    """Input number `position` of an operator that copies elements: stored integers under the output's parameters."""
    if op.tensor(position).type not in INTEGER_TYPES:
        return real(op, position)
    value = op.as_result(op.value(position)) if op.result().type in INTEGER_TYPES else op.value(position)
    return dequantized(op, value, position)


def steps(op: Operation, position: int) -> str:
    """Input number `position` in steps from its zero point, as real numbers."""
    value = op.value(position)
    return dequantized(op, op.builder.reinterpret(value, (1.0, op.builder.parameters(value)[1])), position)


def dequantized(op: Operation, value: str, position: int) -> str:
    """Real numbers of a tensor of the graph, in the shape of input number `position`."""
    tensor = op.tensor(position)
    found = op.builder.host(Dequantize, value, f"{tensor.name}_real", op.builder.shape(value))
    return reshaped(op, found, tensor.shape)


def emit(
    op: Operation,
    kind: str,
    arguments: Sequence[Argument],
    shape: Shape,
    dtype: str = "float32",
    name: str = "",
    **attributes: Any,
) -> str:
    """Add an ONNX operator; the name of its result."""
    return emit_several(op, kind, arguments, [(shape, dtype)], name, **attributes)[0]


def emit_several(
    op: Operation,
    kind: str,
    arguments: Sequence[Argument],
    made: Sequence[tuple[Shape, str]],
    name: str = "",
    **attributes: Any,
) -> list[str]:
    """Add an ONNX operator that makes several tensors of these shapes and types; their names."""
    results = list[Tensor]()
    for shape, dtype in made:
        free = free_name(
            name or f"{op.result().name}_{kind.lower()}", {*op.builder.tensors, *(t.name for t in results)}
        )
        results.append(Tensor(free, shape, 1.0, 0, dtype=dtype))
    constants = {f"constant_{i}": value for i, value in enumerate(arguments) if not isinstance(value, str)}
    names = tuple(value if isinstance(value, str) else f"constant_{i}" for i, value in enumerate(arguments))
    node = HostOperator(
        name=op.builder.node_name(HostOperator),
        inputs=tuple(dict.fromkeys(value for value in arguments if isinstance(value, str))),
        output=results[0].name,
        more_outputs=tuple(result.name for result in results[1:]),
        op_type=kind,
        opset=OPSET,
        arguments=names,
        constants=constants,
        attributes=attributes,
    )
    op.builder.add(node, results)
    return [result.name for result in results]


def reshaped(op: Operation, value: str, shape: Shape) -> str:
    """A tensor of the host under another shape."""
    tensor = op.builder.tensors[value]
    if tensor.shape == shape:
        return value
    return emit(op, "Reshape", [value, np.array(shape, np.int64)], shape, tensor.dtype)


def finish(op: Operation, value: Argument, position: int = 0) -> None:
    """Make a value output number `position`, after the fused activation."""
    result = op.result(position)
    if not isinstance(value, str):
        value = emit(op, "Identity", [value], value.shape, value.dtype.name)
    code = getattr(op.operator.options, "FusedActivationFunction", lambda: 0)()
    if code not in ACTIVATIONS:
        raise op.error(f"fused activation must be one of {sorted(ACTIVATIONS)}, got {code}")
    if code:
        value = _clipped(op, value, *ACTIVATIONS[code])
    if (made := op.builder.tensors[value].dtype) != HOST_TYPES.get(result.type):
        raise op.error(f"output {result.name!r} must be {made.upper()}, got {result.type}")
    if math.prod(op.builder.shape(value)) != math.prod(result.shape):
        raise op.error(f"output must have shape {op.builder.shape(value)!r}, got {result.shape!r}")
    op.values[op.operator.outputs[position]] = reshaped(op, value, result.shape)


def _clipped(op: Operation, value: str, low: float, high: float) -> str:
    bounds = [np.array(bound, np.float32) for bound in (low, high)]
    return emit(op, "Clip", [value, *bounds], op.builder.shape(value))


def dtype_of(op: Operation, value: Argument) -> str:
    """Type of a value."""
    return op.builder.tensors[value].dtype if isinstance(value, str) else value.dtype.name


def shape_of(op: Operation, value: Argument) -> Shape:
    """Shape of a value."""
    return op.builder.shape(value) if isinstance(value, str) else value.shape


def taken(op: Operation, value: Argument, picks: Sequence[range | NDArray[np.integer[Any]]]) -> Argument:
    """What `picks` select along every axis."""
    for axis, pick in enumerate(picks):
        shape = shape_of(op, value)
        if list(pick) != list(range(shape[axis])):
            taken = (*shape[:axis], len(pick), *shape[axis + 1 :])
            value = emit(op, "Gather", [value, np.array(pick, np.int64)], taken, dtype_of(op, value), axis=axis)
    return value


def quantize(op: Operation) -> None:
    """QUANTIZE of real numbers of the host."""
    source = real(op)
    if not isinstance(source, str):
        raise op.error(f"input {op.tensor(0).name!r} must not be a constant; quantize it when the model is converted")
    quantized(op, source)


def quantized(op: Operation, source: str, *, as_steps: bool = False) -> None:
    """Make real numbers of the host output 0, as integers; `as_steps`: they are the integers already."""
    result = op.result()
    shaped = reshaped(op, source, graph_shape(result.shape))
    parameters = (1.0, 0) if as_steps else result.parameters()
    op.define(op.builder.emit(Quantize, [shaped], parameters, result.name))


def numbers(tensor: TfliteTensor) -> Parameters:
    """Parameters under which integers of 8 bits stand for themselves."""
    return 1.0, -128 if tensor.type == "UINT8" else 0
