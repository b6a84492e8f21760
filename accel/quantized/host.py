"""Operators that the host computes, in real numbers: what has no integer form, and what lies between such operators."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from accel.errors import ModelError
from accel.network.graph import DTYPES, Tensor
from accel.network.nodes import Dequantize, HostOperator, Quantize
from accel.network.windows import Shape
from accel.quantized.lowering import Lowering, NeedsHostError, graph_shape, usual_order
from accel.quantized.network import REAL_TYPES, TABLE, Operator, TensorInfo
from accel.quantized.values import Integers, Known, OfOne, OnHost, Real, Target, Value
from accel.quantized.view import View

OPSET = 13
"""Version of the operators that only bring axes into another order."""
MICROSOFT = "com.microsoft"
"""The domain of ONNX Runtime's own operators: they have one version, and stand in models as of ONNX's."""
INTERNAL = ("ConvInteger", "MatMulInteger", "accel.Reinterpret", TABLE)
"""Operators of the network that are not ONNX's on real numbers."""


def on_host(low: Lowering, op: Operator) -> list[Value]:
    """The results of an operator that the host computes.

    Raises
    ------
    NeedsHostError
        An input comes from an operator whose real result the machine does not have either.
    ModelError
        The operator is not ONNX's, or types or shapes of its results are not known.
    """
    if op.kind in INTERNAL:
        raise op.error("operator has no real form")
    arguments, inputs, constants = [], [], dict[str, NDArray[Any]]()
    for position, name in enumerate(op.inputs):
        value = low.network.value(name)
        if not name:
            arguments.append("")
        elif value is not None and name not in low.values:
            constants[f"{name}:constant"] = _plain(value)
            arguments.append(f"{name}:constant")
        else:
            source = to_host(low, op, low.value(op, position), name)
            arguments.append(source.name)
            inputs.append(source.name)
    results = [_declared(low, op, name, index) for index, name in enumerate(op.outputs)]
    domain, _, op_type = op.kind.rpartition(".")
    node = HostOperator(
        name=low.builder.node_name(HostOperator),
        inputs=tuple(dict.fromkeys(inputs)),
        output=results[0].name,
        more_outputs=tuple(result.name for result in results[1:]),
        domain=domain,
        op_type=op_type,
        opset=1 if domain == MICROSOFT else op.opset,
        arguments=tuple(arguments),
        constants=constants,
        attributes={key: _attribute(value) for key, value in op.attributes.items()},
    )
    low.builder.add(node, results)
    return [OnHost(result.name, result.shape, result.dtype) for result in results]


def _attribute(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _plain(value: NDArray[Any]) -> NDArray[Any]:
    """A constant in a type of the host's."""
    return value.astype(np.float32) if value.dtype.kind == "f" else value


def unsized(op: Operator, name: str) -> ModelError:
    """The error for a result whose shape nobody knows before the model runs."""
    return op.error(
        f"shape of its result {name!r} must be known, and does not follow from the sizes of the model's inputs: "
        "make a constant of what decides it, or end the model before it"
    )


def check_type(op: Operator, info: TensorInfo) -> None:
    """Raise `ModelError` if the host has no results of a type; its int8 tensors are the machine's."""
    if info.dtype not in (*DTYPES[1:], *REAL_TYPES):
        advice = "cast to int16 or int32 instead" if info.dtype == "int8" else "end the model before it"
        raise op.error(
            f"result {info.name!r} must be of real numbers, bool or integers other than int8, got {info.dtype}; "
            f"{advice}"
        )


def _declared(low: Lowering, op: Operator, name: str, index: int) -> Tensor:
    """The tensor of a result."""
    info = low.network.tensors.get(name or f"{op.outputs[0]}_{index}")
    if info is None:
        raise unsized(op, name)
    if any(size <= 0 for size in info.shape):
        raise op.error(f"result {name!r} must have elements, got shape {info.shape!r}: give larger sizes with --shape")
    check_type(op, info)
    return Tensor(
        low.builder.free(f"{name}_real" if name in low.network.parameters else name),
        info.shape,
        1.0,
        0,
        dtype="float32" if info.dtype in REAL_TYPES else info.dtype,
    )


def to_host(low: Lowering, op: Operator, value: Value, name: str) -> OnHost:
    """The real numbers of a value, in the source's order."""
    if isinstance(value, OnHost):
        return value
    if isinstance(value, OfOne | Real):
        raise NeedsHostError(value.operator, op.error(f"input {name!r} must be quantized"))
    assert isinstance(value, Integers)
    if value in low.reals:
        return low.reals[value]
    x = value if value.view.axes is not None else low.row_major(value)
    axes = x.view.axes or tuple(range(len(x.shape)))
    stored = low.builder.shape(x.name)
    result = low.builder.host(Dequantize, x.name, f"{name}_real", stored)
    result = _reshaped(low, result, tuple(x.shape[axis] for axis in axes))
    result = _transposed(low, result, tuple(int(axis) for axis in np.argsort(axes)))
    found = OnHost(result, x.shape, "float32")
    low.reals[value] = found
    return found


def known_to_host(low: Lowering, value: Known, name: str) -> OnHost:
    """A constant that the user wants: the host gives it."""
    low.builder.operator, real = name, _plain(value.real)
    return OnHost(low.builder.known(real, name), real.shape, real.dtype.name)


def to_machine(low: Lowering, value: OnHost, target: Target) -> Integers:
    """Real numbers of the host as integers."""
    if value.dtype != "float32":
        raise ModelError(f"tensor {target.name!r} must be of real numbers to be quantized, got {value.dtype}")
    order = usual_order(value.shape)
    stored = graph_shape(value.shape, order)
    name = _reshaped(low, _transposed(low, value.name, order), stored)
    result = low.builder.emit(Quantize, [name], target.parameters, target.name)
    return Integers(result, View.of(value.shape, order))


def _reshaped(low: Lowering, name: str, shape: Shape) -> str:
    """A tensor of the host under another shape."""
    if low.builder.shape(name) == shape:
        return name
    return _moved(low, name, shape, "Reshape", {"shape": np.array(shape, np.int64)}, {})


def _transposed(low: Lowering, name: str, order: tuple[int, ...]) -> str:
    """A tensor of the host with its axes in another order."""
    shape = low.builder.shape(name)
    after = tuple(shape[axis] for axis in order)
    if View.of(shape, order).is_row_major:
        return _reshaped(low, name, after)
    return _moved(low, name, after, "Transpose", {}, {"perm": order})


def _moved(
    low: Lowering, name: str, shape: Shape, kind: str, constants: dict[str, NDArray[Any]], attributes: dict[str, Any]
) -> str:
    result = Tensor(low.builder.free(f"{name}_{kind.lower()}d"), shape, 1.0, 0, dtype=low.builder.tensors[name].dtype)
    node = HostOperator(
        name=low.builder.node_name(HostOperator),
        inputs=(name,),
        output=result.name,
        op_type=kind,
        opset=OPSET,
        arguments=(name, *constants),
        constants=constants,
        attributes=attributes,
    )
    low.builder.add(node, [result])
    return result.name
