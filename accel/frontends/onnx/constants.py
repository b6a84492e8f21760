"""Constants that stand as integers in the file, and are moved or limited before a layer reads them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accel.frontends.onnx.folding import evaluate
from accel.frontends.onnx.stripper import Stripper
from accel.quantized.network import Operator, Quantization, TensorInfo

MOVED = {
    "DepthToSpace", "Expand", "Flatten", "Gather", "Reshape", "Slice", "SpaceToDepth", "Split", "Squeeze", "Tile",
    "Transpose", "Unsqueeze",
}  # fmt: skip
"""Operators whose results are elements of their first input."""


def moves_constant(s: Stripper, op: Operator) -> bool:
    """Whether an operator moves, or limits as integers, a constant whose integers are known."""
    first = s.parameters.get(s.name(op.inputs[0])) if op.inputs else None
    others = [s.value(s.name(name)) for name in op.inputs[1:] if name]
    if first is None or first.integers is None or any(value is None for value in others):
        return False
    limits = op.kind == "Clip" and bool(others)
    return op.kind in MOVED or (limits and all(value is not None and value.dtype.kind in "iu" for value in others))


def move_constant(s: Stripper, op: Operator) -> None:
    """Make constants of the results: with integers, if their scales still belong to one axis."""
    source = s.name(op.inputs[0])
    found = s.parameters[source]
    integers = np.asarray(found.integers)
    count = max(found.scale.size, found.zero_point.size)
    numbers = np.broadcast_to(found.along_axis(np.arange(count), integers.ndim), integers.shape)
    channels = _results(s, op, numbers) if count > 1 and op.kind in MOVED else {}
    for name, moved in _results(s, op, integers).items():
        after = _after_move(found, channels[name]) if channels else found
        if after is None:
            scale, point = (values[channels[name]] for values in np.broadcast_arrays(found.scale, found.zero_point))
            s.tensors[name] = TensorInfo.constant(name, (moved - point).astype(np.float32) * scale)
            continue
        s.parameters[name] = after = replace(after, integers=moved)
        s.tensors[name] = TensorInfo.constant(name, after.real)


def _results(s: Stripper, op: Operator, first: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """The results of an operator whose first input has other numbers."""
    from onnx import helper

    names = [f"input_{position}" if name else "" for position, name in enumerate(op.inputs)]
    node = helper.make_node(op.kind, names, list(op.outputs), op.name, **op.attributes)
    given = {names[0]: first}
    for inner, name in zip(names[1:], op.inputs[1:], strict=True):
        if inner:
            other = s.constant(op, name)
            given[inner] = other.astype(first.dtype) if op.kind == "Clip" else other
    return evaluate(node, [helper.make_opsetid("", op.opset)], given)


def _after_move(found: Quantization, channels: NDArray[Any]) -> Quantization | None:
    """The parameters of elements that have the scales number `channels`; None if these vary along several axes."""

    def of(numbers: NDArray[Any], axis: int) -> Quantization:
        scale, point = np.broadcast_arrays(found.scale, found.zero_point)
        return replace(found, scale=scale[numbers], zero_point=point[numbers], axis=axis)

    if np.all(channels == channels.flat[0]):
        return of(channels.reshape(-1)[:1], 0)
    for axis, size in enumerate(channels.shape):
        line = channels[tuple(slice(size if other == axis else 1) for other in range(channels.ndim))]
        if np.array_equal(channels, np.broadcast_to(line, channels.shape)):
            return of(line.reshape(-1), axis)
    return None
