"""Values of depthwise EXEC in the fast engine: a row of outputs at a time, every tap of every channel."""

from __future__ import annotations

from typing import Any

from sim.dma import Row
from sim.fields import EXEC
from sim.jit import index, kernel
from sim.memories import Memories


@kernel
def execute(row: Row, memories: Memories, lanes: int) -> None:
    """Add (or store) the windows' sums of `lanes` channels to an EXEC's accumulator words, modulo 2**32."""
    acc, pixel = memories.acc, row[EXEC.acc_address]
    for oy in range(row[EXEC.oy_count]):
        for ox in range(row[EXEC.ox_count]):
            word = index(pixel)
            if row[EXEC.accumulate] == 0:
                for c in range(acc.shape[1]):
                    acc[word, index(c)] = 0
            for ky in range(row[EXEC.ky_count]):
                _add_row(row, memories, lanes, word, ky, oy, ox)
            pixel += 1


@kernel
def _add_row(row: Row, memories: Memories, lanes: int, word: Any, ky: int, oy: int, ox: int) -> None:
    """One tap row of one output."""
    acc, spad, wbuf, first = memories.acc, memories.spad, memories.wbuf, row[EXEC.spad_byte]
    y = row[EXEC.y_start] + oy * row[EXEC.y_step] + ky * row[EXEC.y_dilation]
    address = row[EXEC.spad_address] + ky * row[EXEC.ky_stride]
    address += oy * row[EXEC.oy_stride] + ox * row[EXEC.ox_stride]
    for kx in range(row[EXEC.kx_count]):
        x = row[EXEC.x_start] + ox * row[EXEC.x_step] + kx * row[EXEC.x_dilation]
        inside = (y >= 0) & (y < row[EXEC.height]) & (x >= 0) & (x < row[EXEC.width])
        pixel = index(address + kx * row[EXEC.kx_stride] if inside else 0)
        weights = index(row[EXEC.wbuf_address] + ky * row[EXEC.kx_count] + kx)
        for c in range(lanes):
            value = int(spad[pixel, index(first + c)]) if inside else row[EXEC.pad_value]
            total = int(acc[word, index(c)]) + value * int(wbuf[weights, index(c)])
            acc[word, index(c)] = ((total + (1 << 31)) & 0xFFFFFFFF) - (1 << 31)
