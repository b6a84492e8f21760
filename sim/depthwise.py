"""Values of depthwise DEPTHWISE in the fast engine: a row of outputs at a time, every tap of every channel."""

from __future__ import annotations

from typing import Any

from sim.dma import Row
from sim.fields import DEPTHWISE
from sim.jit import index, kernel
from sim.memories import Memories


@kernel
def execute(row: Row, memories: Memories, lanes: int) -> None:
    """Add (or store) the windows' sums of `lanes` channels to an DEPTHWISE's accumulator words, modulo 2**32."""
    acc, pixel = memories.acc, row[DEPTHWISE.acc_address]
    for oy in range(row[DEPTHWISE.oy_count]):
        for ox in range(row[DEPTHWISE.ox_count]):
            word = index(pixel)
            if row[DEPTHWISE.accumulate] == 0:
                for c in range(acc.shape[1]):
                    acc[word, index(c)] = 0
            for ky in range(row[DEPTHWISE.ky_count]):
                _add_row(row, memories, lanes, word, ky, oy, ox)
            pixel += 1


@kernel
def _add_row(row: Row, memories: Memories, lanes: int, word: Any, ky: int, oy: int, ox: int) -> None:
    """One tap row of one output."""
    acc, spad, wbuf, first = memories.acc, memories.spad, memories.taps, row[DEPTHWISE.spad_byte]
    y = row[DEPTHWISE.y_start] + oy * row[DEPTHWISE.y_step] + ky * row[DEPTHWISE.y_dilation]
    address = row[DEPTHWISE.spad_address] + ky * row[DEPTHWISE.ky_stride]
    address += oy * row[DEPTHWISE.oy_stride] + ox * row[DEPTHWISE.ox_stride]
    for kx in range(row[DEPTHWISE.kx_count]):
        x = row[DEPTHWISE.x_start] + ox * row[DEPTHWISE.x_step] + kx * row[DEPTHWISE.x_dilation]
        inside = (y >= 0) & (y < row[DEPTHWISE.height]) & (x >= 0) & (x < row[DEPTHWISE.width])
        pixel = index(address + kx * row[DEPTHWISE.kx_stride] if inside else 0)
        weights = index(row[DEPTHWISE.tap_address] + ky * row[DEPTHWISE.kx_count] + kx)
        for c in range(lanes):
            value = int(spad[pixel, index(first + c)]) if inside else row[DEPTHWISE.pad_value]
            total = int(acc[word, index(c)]) + value * int(wbuf[weights, index(c)])
            acc[word, index(c)] = ((total + (1 << 31)) & 0xFFFFFFFF) - (1 << 31)
