"""Latencies of the machine, and other numbers that its time depends on; `docs/timing.md` says what each one means."""

from __future__ import annotations

from accel.machine.config import ArchConfig

FETCH_DEPTH = 4
"""Instructions that fetch holds until there is a place in their units' queues."""

QUEUE_LATENCY = 2
"""Cycles from an issue to the first in which the next instruction is at the queue's head, and its place is free."""

LOAD_IN_FLIGHT = 4
"""LOAD instructions whose addresses may be issued before the first of them has written its last word."""

LOAD_START = 5
"""Cycles from a LOAD's issue to the first in which its writer can take bytes: the length of its padding, the queue, the
length of its first chunk."""

LOAD_WRITE_LATENCY = 2
"""Cycles from a word's emission by the LOAD writer to the destination's write port: byte buffer, register."""

READ_LATENCY = 4
"""Cycles from an address of SPAD, WBUF or TAPS to its word: a register at the port, memory, register, one behind the
selection of the bank."""

ACC_LATENCY = 2
"""Cycles from an address of ACC, PARAM or TABLE to its word: memory, register."""

REQUANTIZE_LATENCY = 9
"""Cycles through one requantizer."""

POST_ACC_READ = READ_LATENCY + 2 + REQUANTIZE_LATENCY + 2 - ACC_LATENCY
"""Cycles from a POST step's address to its ACC and PARAM read: SPAD read, zero point, operand shift, rescale, terms,
reduce; the answer comes with the reduced taps."""

POST_LATENCY = POST_ACC_READ + ACC_LATENCY + 1 + REQUANTIZE_LATENCY + 1 + ACC_LATENCY
"""Cycles from a POST step's address to its SPAD write: then ACC read, bias, requantize, clamp, table."""

EXEC_LATENCY = READ_LATENCY + 2
"""Cycles from a pixel's step to its sum in the array's first column, besides one for each row: SPAD read, factors,
product."""

DEPTHWISE_LATENCY = READ_LATENCY + 4
"""Cycles from a DEPTHWISE output's step to its ACC write port: SPAD read, window, factors, products, sum."""

SEMAPHORE_BITS = 16
"""Width of a semaphore's token counter."""

BURST_BEATS = 256
"""Most beats of one burst."""

BURST_BOUNDARY_BYTES = 4096
"""No burst crosses a multiple of this address."""


def store_buffer_bytes(config: ArchConfig) -> int:
    """Capacity of the STORE packer in bytes."""
    return 4 * max(config.rows, config.bus_bytes)


def exec_latency(config: ArchConfig) -> int:
    """Cycles from an EXEC's step to its last column's ACC write port."""
    return EXEC_LATENCY + config.rows + config.cols - 1


def reset_cycles(config: ArchConfig) -> int:
    """Cycles of reset that empty every pipeline when a run is stopped: weights pass the array last, then its sums."""
    return 2 * config.rows + config.cols + POST_LATENCY
