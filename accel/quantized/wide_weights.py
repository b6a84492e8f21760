"""Widths of weights: int4 or int8 if they fit, else several int8 parts, for which the input is read several times."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from accel.machine.weight_words import INT4_MAX, INT4_MIN
from accel.network.nodes import Concat, Gather
from accel.quantized.builder import GraphBuilder


def int8_parts(weight: NDArray[np.int64] | NDArray[np.int8]) -> tuple[NDArray[np.int8], int]:
    """Parts whose sum is `weight`, one behind the other along the last axis, and their number.

    A uint8 weight less its zero point lies in -255 .. 255 and needs at most three.
    """
    if weight.dtype == np.int8:
        return np.ascontiguousarray(weight, np.int8), 1
    parts, rest = list[NDArray[np.int8]](), weight
    while not parts or np.any(rest):
        parts.append(rest.clip(-128, 127).astype(np.int8))
        rest = rest - parts[-1]
    return np.concatenate(parts, axis=-1), len(parts)


def bits_of(kind: str, weight: NDArray[np.integer]) -> int:
    """Bits of weights whose source holds them as `kind`: 4 if that is a type of 4 bits or fewer, and all fit an int4.

    A uint4 less its zero point may not fit.
    """
    narrow = kind in ("int4", "uint4", "int2", "uint2") and weight.size > 0
    return 4 if narrow and weight.min() >= INT4_MIN and weight.max() <= INT4_MAX else 8


def repeat_channels(builder: GraphBuilder, value: str, count: int, groups: int = 1) -> str:
    """`value` with the channels of each group `count` times, one behind the other: the input of `int8_parts`."""
    if count == 1:
        return value
    shape, parameters, name = builder.shape(value), builder.parameters(value), f"{value}_repeated"
    axis = len(shape) - 1
    if groups == 1:
        return builder.emit(Concat, [value] * count, parameters, name, axis=axis)
    blocks = np.arange(shape[-1], dtype=np.int32).reshape(groups, 1, -1)
    indices = np.broadcast_to(blocks, (groups, count, blocks.shape[2])).reshape(-1)
    return builder.emit(Gather, [value], parameters, name, axis=axis, indices=indices)
