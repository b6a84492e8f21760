"""EXEC's sequencers in the stepped engine, one cycle at a time: which words and outputs come when."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from accel.timing import DEPTHWISE_LATENCY
from sim.dma import Row
from sim.fields import EXEC
from sim.jit import jit, kernel

LOADING, NEXT, TILE, TILES, WORD, WORDS, NEXT_PIXELS, NEXT_COLUMNS, NEXT_GAP, NEXT_LEAD, NEXT_STEPS = range(11)
"""Registers of the instruction NEXT, whose tile TILE of TILES is being read from WBUF (LOADING; WORD of WORDS read):
outputs per tile and per row; cycles without output after a row; steps that the row stream is ahead, and its steps in
all (0: not depthwise)."""

NOW, NOW_TILE, PIXEL, PIXELS, COLUMNS, GAP, PAUSE, FINAL, PLAIN, DRAIN = range(11, 21)
"""The tile NOW_TILE of instruction NOW, of whose PIXELS some were done: outputs per row, cycles without output after a
row and how many of them are left, whether it is the last tile and whether it is the array's; cycles until the sums in
the array are no longer in the way of a depthwise output."""

STREAM, STEP, STEPS, LEAD = range(21, 25)
"""The row stream of instruction STREAM: steps done and in all; cycles until the first output (-1: it was)."""

STARTED, READ_WORD, READ_PIXEL, READ_STEP = range(25, 29)
"""What this cycle did: a tile started; a weight word, a pixel, a step of the row stream (-1: none)."""

REGISTERS = 29


def registers() -> npt.NDArray[np.int64]:
    """The sequencers after power-up."""
    s = np.zeros(REGISTERS, np.int64)
    s[LEAD] = -1
    return s


@jit
def issue(s: Any, instruction: int, row: Row, rows: int) -> None:
    """Hand an EXEC to the sequencers of an array with `rows` rows; it has an effect from the next cycle on."""
    s[LOADING], s[NEXT], s[TILE], s[WORD] = 1, instruction, 0, 0
    s[NEXT_COLUMNS], s[NEXT_PIXELS] = row[EXEC.ox_count], row[EXEC.oy_count] * row[EXEC.ox_count]
    if row[EXEC.depthwise]:
        s[TILES], s[WORDS] = row[EXEC.ky_count], row[EXEC.kx_count]
        s[NEXT_GAP], s[NEXT_LEAD] = row[EXEC.row_steps] - row[EXEC.ox_count], row[EXEC.lead_steps]
        s[NEXT_STEPS] = row[EXEC.ky_count] * row[EXEC.oy_count] * row[EXEC.row_steps]
    else:
        s[TILES], s[WORDS] = row[EXEC.chunk_count] * row[EXEC.ky_count] * row[EXEC.kx_count], rows
        s[NEXT_GAP] = s[NEXT_LEAD] = s[NEXT_STEPS] = 0


@kernel
def sequence(s: Any, rows: int) -> None:
    """One cycle of the sequencers of an array with `rows` rows."""
    ready = s[LOADING] == 1 and s[WORD] == s[WORDS] and s[PIXEL] == s[PIXELS] and s[PAUSE] == 0
    leads = ready and s[TILE] == 0 and s[NEXT_STEPS] > 0
    if leads and s[LEAD] < 0 and s[DRAIN] <= s[NEXT_LEAD]:
        s[STREAM], s[STEP], s[STEPS], s[LEAD] = s[NEXT], 0, s[NEXT_STEPS], s[NEXT_LEAD]
    s[STARTED] = ready and (not leads or s[LEAD] == 0)
    s[LEAD] = max(s[LEAD], 0) - 1
    if s[STARTED]:
        s[NOW], s[NOW_TILE], s[PIXEL], s[PIXELS] = s[NEXT], s[TILE], 0, s[NEXT_PIXELS]
        s[COLUMNS], s[GAP], s[PLAIN] = s[NEXT_COLUMNS], s[NEXT_GAP], s[NEXT_STEPS] == 0
        s[TILE] += 1
        s[WORD] = 0
        s[LOADING] = s[TILE] < s[TILES]
        s[FINAL] = s[TILE] == s[TILES]
    s[READ_WORD] = s[READ_PIXEL] = s[READ_STEP] = -1
    if s[LOADING] and s[WORD] < s[WORDS]:
        s[READ_WORD] = s[WORD]
        s[WORD] += 1
    if s[STEP] < s[STEPS]:
        s[READ_STEP] = s[STEP]
        s[STEP] += 1
    _output(s, rows)


@kernel
def _output(s: Any, rows: int) -> None:
    """The next pixel, or a pause after a row of a depthwise EXEC, but not after its last one."""
    s[DRAIN] = max(s[DRAIN] - 1, 0)
    if s[PAUSE] > 0:
        s[PAUSE] -= 1
    elif s[PIXEL] < s[PIXELS]:
        s[READ_PIXEL] = s[PIXEL]
        s[PIXEL] += 1
        if s[PLAIN]:
            s[DRAIN] = rows - DEPTHWISE_LATENCY
        if s[PIXEL] % s[COLUMNS] == 0 and not (s[FINAL] and s[PIXEL] == s[PIXELS]):
            s[PAUSE] = s[GAP]


@kernel
def sequence_exec(s: Any, clock: Any, rows: int, row: Row, cycle: int) -> tuple[int, int]:
    """Step the sequencers alone through an EXEC that issues in `cycle`.

    Parameters
    ----------
    s, clock : int64 arrays, shapes (REGISTERS,) and (1 or more,)
        Registers, and the last cycle that was stepped; updated.

    Returns
    -------
    free, last_pixel : int
        Cycle from which the next EXEC can issue, and that of the last pixel. Sequencers and clock stay at the former,
        the latter is looked up ahead.
    """
    while clock[0] < cycle:
        clock[0] += 1
        sequence(s, rows)
    issue(s, 0, row, rows)
    while s[LOADING]:
        clock[0] += 1
        sequence(s, rows)
    ahead, last_pixel = s.copy(), clock[0]
    while ahead[PIXEL] < ahead[PIXELS]:
        last_pixel += 1
        sequence(ahead, rows)
    return clock[0], last_pixel
