"""Values of LOAD and STORE."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from accel.machine.isa import Memory
from sim.fields import LOAD, STORE
from sim.jit import index, kernel
from sim.memories import OFFSET, Memories
from sim.views import flat, octets

_SPAD, _WBUF, _PARAM, _TABLE = (int(memory) for memory in (Memory.SPAD, Memory.WBUF, Memory.PARAM, Memory.TABLE))
Row = npt.NDArray[np.int64]
"""One decoded instruction."""


@kernel
def load(row: Row, memories: Memories) -> None:
    """Copy rows of external memory, padded and cut to overlapping windows, into words on the chip."""
    offset = np.uint8(0)
    if row[LOAD.memory] == _SPAD:
        target, width, offset = flat(memories.spad), memories.spad.shape[1], np.uint8(OFFSET)
    elif row[LOAD.memory] == _WBUF:
        target, width = octets(memories.wbuf), memories.wbuf.shape[1]
    elif row[LOAD.memory] == _PARAM:
        target, width = octets(memories.param), memories.param.shape[1]
    elif row[LOAD.memory] == _TABLE:
        target, width, offset = flat(memories.table), memories.table.shape[1], np.uint8(OFFSET)
    else:
        target, width = octets(memories.taps), memories.taps.shape[1]
    for outer in range(row[LOAD.outer_count]):
        for inner in range(row[LOAD.row_count]):
            source = row[LOAD.dram_address] + outer * row[LOAD.dram_outer_stride] + inner * row[LOAD.dram_row_stride]
            word = row[LOAD.address] + outer * row[LOAD.outer_stride] + inner * row[LOAD.row_stride]
            _load_row(row, memories.dram, source, target, width, word, offset)


@kernel
def _load_row(row: Row, dram: Any, source: int, target: Any, width: int, address: int, offset: Any) -> None:
    """One row, to words of `width` bytes; words that are whole and follow each other in memory are one block."""
    first, count, pad, row_bytes = row[LOAD.byte_offset], row[LOAD.word_bytes], row[LOAD.pad_bytes], row[LOAD.row_bytes]
    step, words = row[LOAD.step_bytes], row[LOAD.row_words]
    block = min(words, row_bytes // count) if count == width and (words == 1 or step == count) else 0
    if pad:
        block = 0
    start = address * width
    for i in range(block * count):
        target[index(start + i)] = dram[index(source + i)] ^ offset
    for word in range(block, words):
        place, here = start + word * width + first, word * step - pad
        for i in range(count):
            if 0 <= here + i < row_bytes:
                target[index(place + i)] = dram[index(source + here + i)] ^ offset
            else:
                target[index(place + i)] = (row[LOAD.pad_value] & 255) ^ offset


@kernel
def store(row: Row, memories: Memories) -> None:
    """Copy words of the scratchpad to rows of external memory."""
    for outer in range(row[STORE.outer_count]):
        for inner in range(row[STORE.row_count]):
            target = row[STORE.dram_address] + outer * row[STORE.dram_outer_stride]
            target += inner * row[STORE.dram_row_stride]
            word = row[STORE.address] + outer * row[STORE.outer_stride] + inner * row[STORE.row_stride]
            _store_row(row, memories.spad, word, memories.dram, target)


@kernel
def _store_row(row: Row, spad: Any, address: int, dram: Any, target: int) -> None:
    """One row; whole words are one block."""
    first, count, words, offset = row[STORE.byte_offset], row[STORE.word_bytes], row[STORE.row_words], np.uint8(OFFSET)
    block = words if count == spad.shape[1] else 0
    whole, start = flat(spad), address * count
    for i in range(block * count):
        dram[index(target + i)] = whole[index(start + i)] ^ offset
    for word in range(block, words):
        for i in range(count):
            dram[index(target + word * count + i)] = spad[index(address + word), index(first + i)] ^ offset
