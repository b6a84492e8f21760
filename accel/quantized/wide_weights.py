"""Weights that do not fit int8: several int8 parts, whose products are summed by reading the input several times."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from accel.network.nodes import Concat, Gather
from accel.quantized.builder import GraphBuilder


def int8_parts(weight: NDArray[np.int64]) -> tuple[NDArray[np.int8], int]:
    """Parts whose sum is `weight`, one behind the other along the last axis, and their number.

    A uint8 weight less its zero point lies in -255 .. 255 and needs at most three.
    """
    parts, rest = list[NDArray[np.int8]](), weight
    while not parts or np.any(rest):
        parts.append(rest.clip(-128, 127).astype(np.int8))
        rest = rest - parts[-1]
    return np.concatenate(parts, axis=-1), len(parts)


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
