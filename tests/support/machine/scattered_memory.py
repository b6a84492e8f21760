"""Runs a program in a process whose free memory lies in pieces far apart, as large libraries may leave it (Linux)."""

from __future__ import annotations

import ctypes
import mmap

import numpy as np

import accel
from accel.network import reference
from support.networks.small_networks import conv, network

GIGABYTE = 1 << 30
APART, WHOLE = 5 * GIGABYTE, 64 * GIGABYTE
"""More than a displacement of 32 bits reaches, and how much is reserved."""
NORESERVE, FAILED = 0x4000, 2**64 - 1
"""Of Linux: a flag of mmap, and its result if it fails."""
PIECES = [4096 * pages for pages in (1, 2, 4, 8, 16, 32, 64, 128, 256)]
"""Free pieces, the smaller the higher, so that sections of different sizes go to different ones."""


def scatter() -> None:
    """Reserve what is free at the top, then free pieces of it."""
    process = ctypes.CDLL(None)
    process.mmap.restype = ctypes.c_void_p
    process.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    process.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]

    def reserved(size: int) -> int:
        found = int(process.mmap(None, size, 0, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | NORESERVE, -1, 0))
        assert found != FAILED, "mmap must succeed"
        return found

    start = reserved(WHOLE)
    for size in PIECES:
        while (found := reserved(size)) > start:
            pass
        process.munmap(found, size)
    for number, size in enumerate(PIECES, 1):
        process.munmap(start + WHOLE - number * APART, size)


def main() -> None:
    """Values of the simulator and of the reference must be equal."""
    import sim.engine  # noqa: F401, what it imports is not scattered

    graph = network((1, 4, 5, 3), conv(6, (2, 2)))
    program, x = accel.compile(graph, "tiny"), np.arange(60, dtype=np.int8).reshape(1, 4, 5, 3)
    scatter()
    (found,) = accel.run(program, x).outputs.values()
    np.testing.assert_array_equal(found, reference.run(graph, x)[graph.outputs[0]])


if __name__ == "__main__":
    main()
