"""Weight words: one row of a weight tile in each, or two rows of int4 weights (docs/architecture.md, "EXEC")."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

INT4_MIN, INT4_MAX = -8, 7


def tile_words(rows: Any, int4: Any) -> Any:
    """Words of a weight tile of `rows` rows; `int4` is 0 or 1. Integers, arrays and compiled kernels."""
    return (rows + int4) >> int4


def unpack_int4(data: NDArray[np.uint8]) -> NDArray[np.int8]:
    """The two int4 of each byte, the low one first, as int8."""
    nibbles = np.stack([data << 4, data & 0xF0], axis=-1).reshape(-1)
    return nibbles.view(np.int8) >> 4


def pack_int4(rows: NDArray[np.int8]) -> NDArray[np.int8]:
    """Words of a weight tile: row 2j in the low nibbles of word j, row 2j + 1 in the high ones.

    Parameters
    ----------
    rows : ndarray of int8, shape (rows, lanes)
        Values in -8 .. 7.

    Returns
    -------
    ndarray of int8, shape (tile_words(rows, 1), lanes)
        A row that is missing is zero.
    """
    even = np.concatenate([rows, np.zeros((len(rows) % 2, rows.shape[1]), np.int8)])
    return (even[0::2] & 15) | (even[1::2] << 4)
