"""DEPTHWISE's sequencers in the stepped engine, one cycle at a time: the cycle of each tap, word and output.

Two places move over the rows of all tiles, a step per cycle: one of the row stream, and `lead_steps` behind it that of
the outputs.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from sim.fast.dma import Row
from sim.fields import DEPTHWISE
from sim.jit import kernel

LOADING, NEXT, TILE, TILES, WORD, WORDS, NEXT_ROWS, NEXT_ROW_STEPS, NEXT_LEAD, NEXT_STEPS = range(10)
"""Registers of the instruction NEXT, whose tile TILE of TILES is being read from TAPS (LOADING; WORD of WORDS read):
rows per tile, steps per row, steps before the first output and in all."""

NOW, ROWS, ROW_STEPS, STEP, STEPS = range(10, 15)
"""The instruction NOW, of whose STEPS some were done."""

STREAM, OUTPUT = 15, 18
"""First of three registers each: step within the row, row within the tile, tile."""

READ_WORD, STEPPED = 21, 22
"""Actions of this cycle: the tap word that it read (-1: none), whether it made a step."""

REGISTERS = 23


def registers() -> npt.NDArray[np.int64]:
    """The sequencers after power-up."""
    return np.zeros(REGISTERS, np.int64)


@kernel
def issue(s: Any, instruction: int, row: Row) -> None:
    """Hand a DEPTHWISE to the sequencers; it has an effect from the next cycle on."""
    s[LOADING], s[NEXT], s[TILE], s[WORD] = 1, instruction, 0, 0
    s[TILES], s[WORDS], s[NEXT_ROWS] = row[DEPTHWISE.ky_count], row[DEPTHWISE.kx_count], row[DEPTHWISE.oy_count]
    s[NEXT_ROW_STEPS], s[NEXT_LEAD] = row[DEPTHWISE.row_steps], row[DEPTHWISE.lead_steps]
    further_rows = s[TILES] * s[NEXT_ROWS] - 1
    s[NEXT_STEPS] = s[NEXT_LEAD] + further_rows * s[NEXT_ROW_STEPS] + row[DEPTHWISE.ox_count]


@kernel
def sequence(s: Any) -> None:
    """One cycle of the sequencers."""
    if s[LOADING] and s[TILE] == 0 and s[WORD] == s[WORDS] and s[STEP] == s[STEPS]:
        s[NOW], s[ROWS], s[ROW_STEPS], s[STEP], s[STEPS] = s[NEXT], s[NEXT_ROWS], s[NEXT_ROW_STEPS], 0, s[NEXT_STEPS]
        for place, first in ((STREAM, -1), (OUTPUT, -1 - s[NEXT_LEAD])):
            s[place], s[place + 1], s[place + 2] = first, 0, 0
    s[STEPPED] = s[STEP] < s[STEPS]
    if s[STEPPED]:
        s[STEP] += 1
        _move(s, STREAM)
        _move(s, OUTPUT)
        if s[OUTPUT] == 0 and s[OUTPUT + 1] == 0:
            s[TILE] += 1
            s[WORD] = 0
            s[LOADING] = s[TILE] < s[TILES]
    s[READ_WORD] = -1
    if s[LOADING] and s[WORD] < s[WORDS]:
        s[READ_WORD] = s[WORD]
        s[WORD] += 1


@kernel
def _move(s: Any, place: int) -> None:
    """To the next step."""
    s[place] += 1
    if s[place] == s[ROW_STEPS]:
        s[place] = 0
        s[place + 1] += 1
        if s[place + 1] == s[ROWS]:
            s[place + 1] = 0
            s[place + 2] += 1


@kernel
def is_busy(s: Any) -> bool:
    """Whether the next cycle reads something."""
    return bool(s[LOADING] or s[STEP] < s[STEPS])


@kernel
def sequence_depthwise(pair: Any, clock: Any, row: Row, cycle: int) -> tuple[int, int]:
    """`sim.stepped.sequencer.sequence_exec` of a DEPTHWISE: when the next can issue, and the cycle after the steps."""
    s, ahead = pair[0], pair[1]
    while clock[0] < cycle:
        clock[0] += 1
        sequence(s)
    issue(s, 0, row)
    while s[LOADING]:
        clock[0] += 1
        sequence(s)
    for i in range(REGISTERS):
        ahead[i] = s[i]
    end = clock[0] + 1
    while ahead[STEP] < ahead[STEPS]:
        end += 1
        sequence(ahead)
    return clock[0], end
