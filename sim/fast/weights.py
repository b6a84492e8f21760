"""Weights of EXECs in the order in which the kernels read them: packed once, however many EXECs and runs use them.

What WBUF holds at an EXEC depends on the LOADs before it alone, so that equal weights are known without looking at
them. If no run can change the bytes that LOADs bring to WBUF, packed weights serve all runs.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from accel.machine.config import ArchConfig
from accel.machine.isa import Memory, Opcode, Table
from sim.fast.dma import Row
from sim.fast.vectors import PANEL, QUAD
from sim.fields import EXEC, LOAD, STORE
from sim.jit import index, kernel
from sim.weight_words import high_nibble, low_nibble, tile_words

_LOAD, _EXEC, _WBUF = int(Opcode.LOAD), int(Opcode.EXEC), int(Memory.WBUF)
_ALIGNMENT = 64
DONE = 2
"""In `Weights.fresh`: the weights of this LOAD are packed, it need not be executed."""

Ints = npt.NDArray[np.int64]


class Weights(NamedTuple):
    """Packed weights of a program.

    Parameters
    ----------
    slots : int64 array, shape (instructions,)
        For each EXEC, the first element of its weights in `packed`.
    fresh : int64 array, shape (instructions,)
        1 if an EXEC is the first to use its weights in a run, which packs them; `DONE`; 0 otherwise.
    packed : int32 array
        In each slot the sums of the weights of each column, times -128; then for each panel of columns the weights, of
        `QUAD` rows in each element.
    """

    slots: Ints
    fresh: Ints
    packed: npt.NDArray[np.int32]

    @classmethod
    def of(cls, config: ArchConfig, table: Table) -> Weights:
        """Room for the weights of the EXECs in the decoded `table`."""
        slots, fresh = np.zeros((2, len(table)), np.int64)
        panels = -(-config.cols // PANEL)
        size = _place(table, panels, np.full(config.wbuf_words, -1, np.int64), np.full(config.wbuf_words, -1, np.int64),
                      slots, fresh)  # fmt: skip
        room = np.zeros(size + _ALIGNMENT // 4, np.int32)
        first = -room.ctypes.data % _ALIGNMENT // 4
        return cls(slots, fresh, room[first : first + size])

    @classmethod
    def none(cls, instructions: int) -> Weights:
        """For runs of instructions without EXECs."""
        return cls(np.zeros(instructions, np.int64), np.zeros(instructions, np.int64), np.zeros(0, np.int32))


def are_constant(table: Table, constants: tuple[int, int]) -> bool:
    """Whether all that LOADs bring to WBUF lies in the bytes `constants` (first, end), and no STORE writes there."""
    loads = table[(table[:, 0] == _LOAD) & (table[:, LOAD.memory] == _WBUF)]
    stores = table[table[:, 0] == int(Opcode.STORE)]
    low, high = _extent(loads, LOAD, loads[:, LOAD.row_bytes])
    written, end = _extent(stores, STORE, stores[:, STORE.row_words] * stores[:, STORE.word_bytes])
    return bool(
        np.all((constants[0] <= low) & (high <= constants[1]))
        and np.all((end <= constants[0]) | (written >= constants[1]))
    )


def _extent(rows: Table, fields: Any, row_bytes: Ints) -> tuple[Ints, Ints]:
    """First and end of the bytes of external memory that each instruction touches."""
    low = rows[:, fields.dram_address].copy()
    high = low + row_bytes
    for count, stride in ((fields.outer_count, fields.dram_outer_stride), (fields.row_count, fields.dram_row_stride)):
        span = (rows[:, count] - 1) * rows[:, stride]
        low += np.minimum(span, 0)
        high += np.maximum(span, 0)
    return low, high


@kernel
def _place(table: Table, panels: int, loaded: Ints, packers: Ints, slots: Ints, fresh: Ints) -> int:
    """Fill `slots` and `fresh`; the number of elements that all slots need.

    `loaded` is the LOAD that last wrote each word, `packers` the EXEC that last packed weights from each word on.
    """
    size = 0
    for i in range(len(table)):
        row = table[i]
        if row[0] == _LOAD and row[LOAD.memory] == _WBUF:
            for outer in range(row[LOAD.outer_count]):
                for inner in range(row[LOAD.row_count]):
                    first = row[LOAD.address] + outer * row[LOAD.outer_stride] + inner * row[LOAD.row_stride]
                    for word in range(first, first + row[LOAD.row_words]):
                        loaded[word] = i
        elif row[0] == _EXEC:
            first, tiles = row[EXEC.wbuf_address], row[EXEC.chunk_count] * row[EXEC.ky_count] * row[EXEC.kx_count]
            words = tiles * tile_words(row[EXEC.k_rows], row[EXEC.int4])
            last, packer = _latest(loaded, first, words), packers[first]
            if packer >= 0 and packer > last and _same_tiles(table[packer], row):
                slots[i] = slots[packer]
            else:
                slots[i], fresh[i], packers[first] = size, 1, i
                size += panels * PANEL * (1 + tiles * ((row[EXEC.k_rows] + QUAD - 1) // QUAD))
    return size


@kernel
def _latest(loaded: Ints, first: int, words: int) -> int:
    """The last LOAD that wrote one of some words."""
    last = loaded[first]
    for word in range(first, first + words):
        last = max(last, loaded[word])
    return int(last)


@kernel
def _same_tiles(left: Row, right: Row) -> bool:
    """Whether weights from the same word on are packed to the same elements."""
    tiles = left[EXEC.chunk_count] * left[EXEC.ky_count] * left[EXEC.kx_count]
    same = tiles == right[EXEC.chunk_count] * right[EXEC.ky_count] * right[EXEC.kx_count]
    return bool(same and left[EXEC.k_rows] == right[EXEC.k_rows] and left[EXEC.int4] == right[EXEC.int4])


@kernel
def pack(row: Row, wbuf: Any, packed: Any, slot: int) -> None:
    """Pack the weights of an EXEC; rows that the last quad of a tile does not have are zero."""
    cols, k_rows = wbuf.shape[1], row[EXEC.k_rows]
    panels, quads = (cols + PANEL - 1) // PANEL, (k_rows + QUAD - 1) // QUAD
    tiles = row[EXEC.chunk_count] * row[EXEC.ky_count] * row[EXEC.kx_count]
    for panel in range(panels):
        base, columns = panel * PANEL, min(PANEL, cols - panel * PANEL)
        sums = slot + base
        for c in range(PANEL):
            packed[index(sums + c)] = 0
        for tile in range(tiles):
            for quad in range(quads):
                here = slot + panels * PANEL + ((panel * tiles + tile) * quads + quad) * PANEL
                for c in range(PANEL):
                    packed[index(here + c)] = 0
                for part in range(min(QUAD, k_rows - quad * QUAD)):
                    word, shift = _place_row(row, tile, quad * QUAD + part)
                    for c in range(columns):
                        weight = np.int64(wbuf[index(word), index(base + c)])
                        if row[EXEC.int4]:
                            weight = high_nibble(weight) if shift else low_nibble(weight)
                        both = np.int64(packed[index(here + c)]) | (weight & 255) << (8 * part)
                        packed[index(here + c)] = ((both + (1 << 31)) & 0xFFFFFFFF) - (1 << 31)
                        total = np.int64(packed[index(sums + c)]) - 128 * weight
                        packed[index(sums + c)] = ((total + (1 << 31)) & 0xFFFFFFFF) - (1 << 31)


@kernel
def _place_row(row: Row, tile: int, tile_row: int) -> tuple[int, int]:
    """The WBUF word of a row of a weight tile, and whether it is the high half of each byte."""
    int4 = row[EXEC.int4]
    word = row[EXEC.wbuf_address] + tile * tile_words(row[EXEC.k_rows], int4) + (tile_row >> int4)
    return word, tile_row & int4
