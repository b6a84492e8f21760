"""Values of DEPTHWISE in the fast engine: an output at a time, all lanes of each tap in one vector."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from accel.machine.isa import Table
from sim.fast.dma import Row
from sim.fields import DEPTHWISE
from sim.jit import index, kernel
from sim.memories import OFFSET, Memories


class Scratch(NamedTuple):
    """Working arrays of `execute`: sums of all columns, of which those beyond the lanes stay 0; places of taps."""

    sums: npt.NDArray[np.int32]
    places: npt.NDArray[np.int64]

    @classmethod
    def of(cls, table: Table, cols: int) -> Scratch:
        """Scratch for the DEPTHWISE instructions in the decoded `table` of a machine with `cols` columns."""
        taps = int((table[:, DEPTHWISE.ky_count] * table[:, DEPTHWISE.kx_count]).max(initial=1))
        return cls(np.zeros(cols, np.int32), np.zeros(taps, np.int64))


@kernel
def execute(row: Row, memories: Memories, scratch: Scratch) -> None:
    """Add (or store) the windows' sums of all lanes to a DEPTHWISE's accumulator words, modulo 2**32."""
    acc, spad, pixel = memories.acc, memories.spad, row[DEPTHWISE.acc_address]
    sums, places, taps = scratch.sums, scratch.places, row[DEPTHWISE.ky_count] * row[DEPTHWISE.kx_count]
    for i in range(spad.shape[1]):
        spad[-1, i] = row[DEPTHWISE.pad_value] + OFFSET
    for oy in range(row[DEPTHWISE.oy_count]):
        for ox in range(row[DEPTHWISE.ox_count]):
            _place_taps(row, len(spad) - 1, oy, ox, places)
            _sum_taps(row, memories, places, taps, sums)
            word = index(pixel)
            for c in range(acc.shape[1]):
                total = np.int64(sums[c]) + row[DEPTHWISE.accumulate] * np.int64(acc[word, index(c)])
                acc[word, index(c)] = ((total + (1 << 31)) & 0xFFFFFFFF) - (1 << 31)
            pixel += 1


@kernel
def _place_taps(row: Row, invalid: int, oy: int, ox: int, places: Any) -> None:
    """The word of every tap of an output; `invalid` if it does not exist."""
    tap = 0
    for ky in range(row[DEPTHWISE.ky_count]):
        y = row[DEPTHWISE.y_start] + oy * row[DEPTHWISE.y_step] + ky * row[DEPTHWISE.y_dilation]
        address = row[DEPTHWISE.spad_address] + ky * row[DEPTHWISE.ky_stride]
        address += oy * row[DEPTHWISE.oy_stride] + ox * row[DEPTHWISE.ox_stride]
        for kx in range(row[DEPTHWISE.kx_count]):
            x = row[DEPTHWISE.x_start] + ox * row[DEPTHWISE.x_step] + kx * row[DEPTHWISE.x_dilation]
            inside = (y >= 0) & (y < row[DEPTHWISE.height]) & (x >= 0) & (x < row[DEPTHWISE.width])
            places[tap] = address + kx * row[DEPTHWISE.kx_stride] if inside else invalid
            tap += 1


@kernel
def _sum_taps(row: Row, memories: Memories, places: Any, count: int, sums: Any) -> None:
    """Sums of all lanes; 255 tap rows of 7 taps fit in int32."""
    spad, taps, first = memories.spad, memories.taps, row[DEPTHWISE.spad_byte]
    for c in range(taps.shape[1]):
        sums[c] = 0
    for tap in range(count):
        word, weights = index(places[tap]), index(row[DEPTHWISE.tap_address] + tap)
        for c in range(taps.shape[1]):
            sums[index(c)] += (np.int32(spad[word, index(first + c)]) - np.int32(OFFSET)) * np.int32(
                taps[weights, index(c)]
            )
