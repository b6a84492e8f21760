"""Executing the operations that move bytes, slowly and obviously; a part of `accel.network.reference`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from accel.machine.numerics import INTERPOLATION_ONE
from accel.network.nodes import (
    Broadcast,
    Concat,
    Constant,
    Gather,
    Node,
    Pad,
    Rearrange,
    Reshape,
    ResizeBilinear,
    ResizeNearest,
    StridedSlice,
    Transpose,
)

Int8Array = NDArray[np.int8]


def _constant(node: Constant) -> Int8Array:
    return node.value


def _reshape(node: Reshape, x: Int8Array) -> Int8Array:
    return x.reshape(node.shape)


def _broadcast(node: Broadcast, x: Int8Array) -> Int8Array:
    return np.broadcast_to(x, node.shape)


def _transpose(node: Transpose, x: Int8Array) -> Int8Array:
    return x.transpose(node.permutation)


def _rearrange(node: Rearrange, x: Int8Array) -> Int8Array:
    return x.reshape(node.sizes).transpose(node.permutation).reshape(node.shape)


def _gather(node: Gather, x: Int8Array) -> Int8Array:
    return x.take(node.indices, node.axis)


def _pad(node: Pad, x: Int8Array) -> Int8Array:
    return np.pad(x, tuple(zip(node.before, node.after, strict=True)), constant_values=node.value)


def _concat(node: Concat, *arrays: Int8Array) -> Int8Array:
    return np.concatenate(arrays, axis=node.axis)


def _strided_slice(node: StridedSlice, x: Int8Array) -> Int8Array:
    return x[tuple(slice(*bounds) for bounds in zip(node.begin, node.end, node.stride, strict=True))]


def _resize_nearest(node: ResizeNearest, x: Int8Array) -> Int8Array:
    return x[:, list(node.rows)][:, :, list(node.columns)]


def _resize_bilinear(node: ResizeBilinear, x: Int8Array) -> Int8Array:
    total = _mix(_mix(x.astype(np.int64), node.rows, 1), node.columns, 2)
    half = INTERPOLATION_ONE**2 // 2
    return np.asarray(np.sign(total) * ((np.abs(total) + half) // (2 * half)), dtype=np.int8)


def _mix(x: NDArray[np.int64], weights: NDArray[np.int32], axis: int) -> NDArray[np.int64]:
    """Neighbours along `axis`, weighted; the result is 1024 times too large."""
    first, second, share = (column.astype(np.int64) for column in weights.T)
    share = share.reshape(-1, *(1,) * (x.ndim - axis - 1))
    mixed = x.take(first, axis) * (INTERPOLATION_ONE - share) + x.take(second, axis) * share
    return np.asarray(mixed)


MOVERS: Mapping[type[Node], Callable[..., Int8Array]] = MappingProxyType(
    {
        Broadcast: _broadcast,
        Concat: _concat,
        Constant: _constant,
        Gather: _gather,
        Pad: _pad,
        Rearrange: _rearrange,
        Reshape: _reshape,
        ResizeBilinear: _resize_bilinear,
        ResizeNearest: _resize_nearest,
        StridedSlice: _strided_slice,
        Transpose: _transpose,
    }
)
"""How each operation is executed: from the node and its inputs."""
