"""Calls of compiled kernels: object code in memory, and arguments as words of 64 bits.

A kernel's object code has one function, `ENTRY`, which takes the address of an array of int64: room for the result,
then the arguments as Numba passes them (its "calling convention"). Neither Numba nor an extension of Python is needed
to call it.
"""

from __future__ import annotations

import ctypes
import itertools
from collections.abc import Callable
from functools import cache
from typing import Any, cast

import llvmlite.binding as llvm
import numpy as np

from sim.processor import processor

ENTRY = "entry"
"""Name of the function in the object code of every kernel."""

_names = itertools.count()


def kind(value: Any) -> str:
    """The type of an argument, which the code depends on: integers, arrays, named tuples of them."""
    if isinstance(value, tuple):
        return f"{type(value).__module__}.{type(value).__name__}({','.join(map(kind, value))})"
    return f"{value.dtype.str}*{value.ndim}" if isinstance(value, np.ndarray) else "i"


def words(value: Any) -> list[int]:
    """An argument as Numba passes it; of an array no owner, then items, bytes of one, address, shape and strides.

    Raises
    ------
    ValueError
        An array is not contiguous.
    """
    if isinstance(value, tuple):
        return [word for member in value for word in words(member)]
    if not isinstance(value, np.ndarray):
        return [int(value)]
    if not value.flags.c_contiguous:
        raise ValueError(f"arrays of kernels must be contiguous, got strides {value.strides} of shape {value.shape}")
    return [0, 0, value.size, value.itemsize, value.ctypes.data, *value.shape, *value.strides]


class Call:
    """A kernel with its first arguments; it takes the further ones, which are integers.

    Parameters
    ----------
    function : callable
        `link`'s.
    arguments : tuple
        All that are known; they are kept, and must not move.
    further : int
        How many integers will follow.
    """

    def __init__(self, function: Callable[[int], None], arguments: tuple[Any, ...], further: int) -> None:
        self._function, self._arguments = function, arguments
        known = words(arguments)
        self._words = np.array([0, *known, *[0] * further], np.int64)
        self._further, self._address = self._words[1 + len(known) :], self._words.ctypes.data

    def __call__(self, *further: int) -> int:
        """Call it; the result, 0 if it has none."""
        self._further[:] = further
        self._function(self._address)
        return int(self._words[0])


def link(code: bytes) -> Callable[[int], None]:
    """Object code in memory: its `ENTRY`, which lets other threads of Python run; RuntimeError if it is damaged."""
    name = f"kernel{next(_names)}"
    library = llvm.JITLibraryBuilder().add_object_img(code).export_symbol(ENTRY).add_current_process()
    tracker = library.link(_linker(), name)
    function: Any = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(tracker[ENTRY])
    function.code = tracker
    return cast(Callable[[int], None], function)


@cache
def _linker() -> Any:
    # JITLink keeps the sections of an object together; the older linker aborts where they are 2 GB apart.
    return llvm.create_lljit_compiler(processor().target(), use_jit_link=True)
