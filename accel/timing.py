"""Latencies of the machine; `docs/timing.md` says what each one means.

References
----------
The closed form of a tile sequence, `max(P, R)` cycles per weight tile, replaces the `2R + C + P - 2` of
SCALE-Sim (Samajdar et al., 2018), which drains the array between tiles.
"""

from __future__ import annotations

from accel.config import ArchConfig

LOAD_IN_FLIGHT = 4
"""LOAD instructions whose addresses may be issued before the first of them has written its last word."""

LOAD_WRITE_LATENCY = 1
"""Cycles from a word's emission by the LOAD writer to the destination's write port."""

REQUANTIZE_LATENCY = 4
"""Cycles through one requantizer."""

POST_ACC_READ = 2 + REQUANTIZE_LATENCY
"""Cycles from a POST step's address to its ACC and PARAM read: SPAD read, operand shift, rescale."""

POST_LATENCY = POST_ACC_READ + 3 + REQUANTIZE_LATENCY
"""Cycles from a POST step's address to its SPAD write: then reduce or ACC read, bias, requantize, clamp."""


SEMAPHORE_BITS = 16
"""Width of a semaphore's token counter."""


def store_buffer_bytes(config: ArchConfig) -> int:
    """Capacity of the STORE packer in bytes."""
    return 4 * max(config.rows, config.bus_bytes)


def accumulate_latency(config: ArchConfig) -> int:
    """Cycles from a pixel's SPAD read to its last column's ACC write port."""
    return config.rows + config.cols
