"""Values of LOAD and STORE."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from accel.machine.isa import Memory
from sim.fields import LOAD, STORE
from sim.jit import index, kernel
from sim.memories import Memories

_SPAD, _WBUF, _PARAM, _TABLE = (int(memory) for memory in (Memory.SPAD, Memory.WBUF, Memory.PARAM, Memory.TABLE))
Row = npt.NDArray[np.int64]
"""One decoded instruction."""


@kernel
def load(row: Row, memories: Memories) -> None:
    """Copy rows of external memory, padded and cut to overlapping windows, into words on the chip."""
    dram = memories.dram
    if row[LOAD.memory] == _SPAD:
        target = memories.spad
    elif row[LOAD.memory] == _WBUF:
        target = memories.wbuf
    elif row[LOAD.memory] == _PARAM:
        target = memories.param
    elif row[LOAD.memory] == _TABLE:
        target = memories.table
    else:
        target = memories.taps
    for outer in range(row[LOAD.outer_count]):
        for inner in range(row[LOAD.row_count]):
            source = row[LOAD.dram_address] + outer * row[LOAD.dram_outer_stride] + inner * row[LOAD.dram_row_stride]
            word = row[LOAD.address] + outer * row[LOAD.outer_stride] + inner * row[LOAD.row_stride]
            _load_row(row, dram, source, target, word)


@kernel
def _load_row(row: Row, dram: Any, source: int, target: Any, address: int) -> None:
    first, count, pad, row_bytes = row[LOAD.byte_offset], row[LOAD.word_bytes], row[LOAD.pad_bytes], row[LOAD.row_bytes]
    step, pad_value = row[LOAD.step_bytes], row[LOAD.pad_value]
    for word in range(row[LOAD.row_words]):
        start = word * step - pad
        place, here = index(address + word), source + start
        if start >= 0 and start + count <= row_bytes:
            for i in range(count):
                target[place, index(first + i)] = _signed(dram[index(here + i)])
        else:
            for i in range(count):
                inside = 0 <= start + i < row_bytes
                target[place, index(first + i)] = _signed(dram[index(here + i)]) if inside else pad_value


@kernel
def _signed(byte: Any) -> Any:
    return ((np.int64(byte) + 128) & 255) - 128


@kernel
def store(row: Row, memories: Memories) -> None:
    """Copy words of the scratchpad to rows of external memory."""
    first, count, words = row[STORE.byte_offset], row[STORE.word_bytes], row[STORE.row_words]
    spad, dram = memories.spad, memories.dram
    for outer in range(row[STORE.outer_count]):
        for inner in range(row[STORE.row_count]):
            target = row[STORE.dram_address] + outer * row[STORE.dram_outer_stride]
            target += inner * row[STORE.dram_row_stride]
            address = row[STORE.address] + outer * row[STORE.outer_stride] + inner * row[STORE.row_stride]
            for word in range(words):
                for i in range(count):
                    dram[index(target + word * count + i)] = spad[index(address + word), index(first + i)] & 255
