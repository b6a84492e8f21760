"""How tensors lie in external memory: channel chunks of `rows` (docs/architecture.md, "Tensors in memory")."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Hwc = tuple[int, int, int]


def hwc(shape: tuple[int, ...]) -> Hwc:
    """(height, width, channels) of a graph shape (1, h, w, c) or (1, features)."""
    return (1, 1, shape[1]) if len(shape) == 2 else (shape[1], shape[2], shape[3])


def chunk_offset(shape: Hwc, chunk: int, rows: int) -> int:
    """Byte offset of channel chunk `chunk`."""
    return shape[0] * shape[1] * chunk * rows


def pack(values: NDArray[np.int8], rows: int) -> bytes:
    """Bytes of an activation in chunked layout.

    Parameters
    ----------
    values : ndarray of int8, shape (1, h, w, c) or (1, features)
    rows : int
        Channels per chunk.
    """
    channels_first = values.reshape(hwc(values.shape))
    depth = channels_first.shape[2]
    return b"".join(channels_first[:, :, c : c + rows].tobytes() for c in range(0, depth, rows))


def unpack(data: NDArray[np.uint8], shape: tuple[int, ...], rows: int) -> NDArray[np.int8]:
    """The inverse of `pack`: int8 of `shape` from `math.prod(shape)` bytes."""
    height, width, depth = hwc(shape)
    out = np.empty((height, width, depth), np.int8)
    position = 0
    for c in range(0, depth, rows):
        part = min(rows, depth - c)
        size = height * width * part
        out[:, :, c : c + part] = data[position : position + size].view(np.int8).reshape(height, width, part)
        position += size
    return out.reshape(shape)


def tensor_bytes(shape: tuple[int, ...]) -> int:
    """Size of an activation in memory."""
    return math.prod(shape)
