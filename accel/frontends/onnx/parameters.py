"""Scales and zero points as ONNX states them, by the rules of every version of its operators."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from accel.quantized.network import Operator, Quantization

ACTIVATION_TYPES = ("int8", "uint8")
INTEGER_TYPES = ("int8", "uint8", "int4", "uint4", "int2", "uint2", "int32")
"""Types of constants: int32 for biases, at most 8 bits for weights."""
_RANGES = {"int4": (-8, 7), "uint4": (0, 15), "int2": (-2, 1), "uint2": (0, 3), "int8": (-128, 127), "uint8": (0, 255)}


def read_parameters(
    op: Operator, scale: NDArray[Any], zero_point: NDArray[Any] | None, kind: str, axis: int
) -> Quantization:
    """The parameters of an operator.

    Parameters
    ----------
    op : Operator
    scale : ndarray of real numbers
    zero_point : ndarray of integers, or None
        Its type is that of the integers.
    kind : str
        Type of the integers where there is no zero point: 0 is one then.
    axis : int
        That of several scales.

    Raises
    ------
    ModelError
        Scales are not positive, or are those of blocks or of other numbers than integers.
    """
    if op.attributes.get("block_size", 0) or scale.ndim > 1:
        raise op.error("block_size must be 0: scales of blocks are not supported; quantize per tensor or per channel")
    scales = scale.astype(np.float32).reshape(-1)
    if scales.size == 0 or not np.all(np.isfinite(scales)) or np.any(scales <= 0):
        raise op.error(f"scale must be a positive number, got {scales[0] if scales.size == 1 else scales!r}")
    found = kind if zero_point is None else zero_point.dtype.name
    if found not in INTEGER_TYPES:
        raise op.error(f"integers must be int8 or uint8 (int32 for biases, 4 bits for weights), got {found}")
    points = np.zeros(1, np.int64) if zero_point is None else zero_point.astype(np.int64).reshape(-1)
    return Quantization(scales, points, found, axis)


def is_same(first: Quantization, second: Quantization) -> bool:
    """Whether both give the same integers the same meaning."""
    if first.kind != second.kind or (first.scale.size > 1 and first.axis != second.axis):
        return False
    same = np.array_equal(first.scale, second.scale) and np.array_equal(first.zero_point, second.zero_point)
    if first.integers is None or second.integers is None:
        return same and first.integers is second.integers
    return same and np.array_equal(first.integers, second.integers)


def quantize_constant(op: Operator, real: NDArray[Any], found: Quantization) -> NDArray[np.int64]:
    """Constant weights as QuantizeLinear makes integers of them: ties to even, saturated."""
    if found.kind not in _RANGES:
        raise op.error(f"constants must become int8 or uint8, got {found.kind}")
    rank = max(real.ndim, 1)
    if {found.scale.size, found.zero_point.size} - {1, real.shape[found.axis % rank] if real.ndim else 1}:
        raise op.error(f"scales must belong to axis {found.axis} of {real.shape!r}, got {found.scale.size}")
    scales, points = (found.along_axis(v, real.ndim) for v in (found.scale, found.zero_point))
    steps = np.rint(real.astype(np.float32) / scales) + points
    return np.asarray(np.clip(steps, *_RANGES[found.kind]), dtype=np.int64)
