"""Contiguous arrays in one dimension, in kernels: the same bytes, read differently."""

from __future__ import annotations

from typing import Any

import numpy as np

from sim.jit import DISABLED, intrinsic


def _flat_plain(array: Any) -> Any:
    """All elements of an array."""
    return array.reshape(-1)


def _octets_plain(array: Any) -> Any:
    """All bytes of an array of bytes, as uint8."""
    return array.reshape(-1).view(np.uint8)


def _flat(context: Any, array: Any) -> Any:
    return _view(array, array.dtype)


def _octets(context: Any, array: Any) -> Any:
    from numba import types

    return _view(array, types.uint8)


def _view(array: Any, dtype: Any) -> Any:
    from numba import types
    from numba.np.arrayobj import make_array, populate_array

    result = types.Array(dtype, 1, "C")

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        source, target = make_array(array)(context, builder, arguments[0]), make_array(result)(context, builder)
        data = builder.bitcast(source.data, target.data.type)
        populate_array(target, data, [source.nitems], [source.itemsize], source.itemsize, None)
        return target._getvalue()

    return result(array), generate


flat = _flat_plain if DISABLED else intrinsic(_flat)
octets = _octets_plain if DISABLED else intrinsic(_octets)
