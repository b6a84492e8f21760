"""EXEC's sequencers in the stepped engine, one cycle at a time: the cycle of each word and pixel."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from sim.fast.dma import Row
from sim.fields import EXEC
from sim.jit import kernel
from sim.weight_words import tile_words

LOADING, NEXT, TILE, TILES, WORD, WORDS, NEXT_PIXELS = range(7)
"""Registers of the instruction NEXT, whose tile TILE of TILES is being read from WBUF (LOADING; WORD of WORDS read)."""

NOW, NOW_TILE, PIXEL, PIXELS = range(7, 11)
"""The tile NOW_TILE of instruction NOW, of whose PIXELS some were read."""

STARTED, READ_WORD, READ_PIXEL = range(11, 14)
"""Actions of this cycle: a tile started; a weight word, a pixel (-1: none)."""

REGISTERS = 14


def registers() -> npt.NDArray[np.int64]:
    """The sequencers after power-up."""
    return np.zeros(REGISTERS, np.int64)


@kernel
def issue(s: Any, instruction: int, rows: int, row: Row) -> None:
    """Hand an EXEC to the sequencers of an array with `rows` rows; it has an effect from the next cycle on."""
    s[LOADING], s[NEXT], s[TILE], s[WORD] = 1, instruction, 0, 0
    s[WORDS] = tile_words(rows, row[EXEC.int4])
    s[TILES] = row[EXEC.chunk_count] * row[EXEC.ky_count] * row[EXEC.kx_count]
    s[NEXT_PIXELS] = row[EXEC.oy_count] * row[EXEC.ox_count]


@kernel
def sequence(s: Any) -> None:
    """One cycle of the sequencers."""
    s[STARTED] = s[LOADING] == 1 and s[WORD] == s[WORDS] and s[PIXEL] == s[PIXELS]
    if s[STARTED]:
        s[NOW], s[NOW_TILE], s[PIXEL], s[PIXELS] = s[NEXT], s[TILE], 0, s[NEXT_PIXELS]
        s[TILE] += 1
        s[WORD] = 0
        s[LOADING] = s[TILE] < s[TILES]
    s[READ_WORD] = s[READ_PIXEL] = -1
    if s[LOADING] and s[WORD] < s[WORDS]:
        s[READ_WORD] = s[WORD]
        s[WORD] += 1
    if s[PIXEL] < s[PIXELS]:
        s[READ_PIXEL] = s[PIXEL]
        s[PIXEL] += 1


@kernel
def is_busy(s: Any) -> bool:
    """Whether the next cycle reads something."""
    return bool(s[LOADING] or s[PIXEL] < s[PIXELS])


@kernel
def sequence_exec(pair: Any, clock: Any, rows: int, row: Row, cycle: int) -> tuple[int, int]:
    """Step the sequencers alone through an EXEC that issues in `cycle`.

    Parameters
    ----------
    pair, clock : int64 arrays, shapes (2, REGISTERS) and (1,)
        Registers and room for a copy, and the last cycle that was stepped; updated.

    Returns
    -------
    free, end : int
        Cycle from which the next EXEC can issue, and the one after the last pixel. Sequencers and clock stop at
        `free`; a copy of the sequencers finds `end`.
    """
    s, ahead = pair[0], pair[1]
    while clock[0] < cycle:
        clock[0] += 1
        sequence(s)
    issue(s, 0, rows, row)
    while s[LOADING]:
        clock[0] += 1
        sequence(s)
    for i in range(REGISTERS):
        ahead[i] = s[i]
    end = clock[0] + 1
    while ahead[PIXEL] < ahead[PIXELS]:
        end += 1
        sequence(ahead)
    return clock[0], end
