"""EXEC in the stepped engine: sequencers and every register of the array, one cycle at a time.

In cycle t, PE (r, c) multiplies the activation that was read from SPAD in cycle t - 1 - r - c and adds it to the sum
that PE (r - 1, c) held; the weight word it sees pass was read from WBUF in cycle t - 1 - r - c. Registers that only
hand their value on are therefore not copied: they stay in place in rings, and the array moves along the rings by one
place per cycle. Weights, shadow weights and sums are arrays of registers.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from accel.config import ArchConfig
from sim.dma import Row
from sim.fields import EXEC
from sim.jit import jit, kernel
from sim.memories import Memories

LOADING, NEXT, TILE, TILES, ROW, NEXT_PIXELS, NOW, NOW_TILE, PIXEL, PIXELS, STARTED, READ_ROW, READ_PIXEL = range(13)
"""Sequencer registers. A tile of instruction NEXT is being read from WBUF (LOADING, TILE of TILES, ROW words read,
NEXT_PIXELS to come) while NOW_TILE of instruction NOW streams (PIXEL of PIXELS read); and what this cycle did: a tile
STARTED, READ_ROW and READ_PIXEL (-1: none) were read."""

CLOCK, IDLE, SWAPS_FROM, SWAPS_TO, LOADS_FROM, LOADS_TO = range(6)
"""Counters of `Array`: the last cycle that was stepped, cycles since the last read, and the waves in flight."""


class Array(NamedTuple):
    """Registers of the array and its sequencers; `depth` is a power of two beyond the array's latency.

    `activations` holds each row's stream twice, newest first, so that the registers of a row are contiguous.
    """

    sequencer: npt.NDArray[np.int64]
    counters: npt.NDArray[np.int64]
    activations: npt.NDArray[np.int32]
    words: npt.NDArray[np.int32]
    weights: npt.NDArray[np.int32]
    shadows: npt.NDArray[np.int32]
    sums: npt.NDArray[np.int32]
    commands: npt.NDArray[np.int64]
    swaps: npt.NDArray[np.int64]
    loads: npt.NDArray[np.int64]

    @classmethod
    def of(cls, config: ArchConfig) -> Array:
        """The array of `config` after power-up."""
        rows, cols = config.rows, config.cols
        depth = 1 << (2 * rows + cols + 2).bit_length()
        counters = np.zeros(6, np.int64)
        counters[CLOCK] = -1
        return cls(
            np.zeros(13, np.int64), counters, np.zeros((rows, 2 * depth), np.int32), np.zeros((depth, cols), np.int32),
            np.zeros((rows, cols), np.int32), np.zeros((rows, cols), np.int32), np.zeros((rows + 1, cols), np.int32),
            np.full((3, depth), -1, np.int64), np.zeros(depth, np.int64), np.zeros(depth, np.int64),
        )  # fmt: skip


@jit
def issue(sequencer: Any, instruction: int, row: Row) -> None:
    """Hand an EXEC to the sequencers; it has an effect from the next cycle on."""
    sequencer[LOADING], sequencer[NEXT], sequencer[TILE], sequencer[ROW] = 1, instruction, 0, 0
    sequencer[TILES] = row[EXEC.chunk_count] * row[EXEC.ky_count] * row[EXEC.kx_count]
    sequencer[NEXT_PIXELS] = row[EXEC.oy_count] * row[EXEC.ox_count]


@kernel
def sequence(s: Any, rows: int) -> None:
    """One cycle of the weight and pixel sequencers of an array with `rows` rows."""
    s[STARTED] = s[LOADING] == 1 and s[ROW] == rows and s[PIXEL] == s[PIXELS]
    if s[STARTED]:
        s[NOW], s[NOW_TILE], s[PIXEL], s[PIXELS] = s[NEXT], s[TILE], 0, s[NEXT_PIXELS]
        s[TILE] += 1
        s[ROW] = 0
        s[LOADING] = s[TILE] < s[TILES]
    s[READ_ROW] = s[READ_PIXEL] = -1
    if s[LOADING] and s[ROW] < rows:
        s[READ_ROW] = s[ROW]
        s[ROW] += 1
    if s[PIXEL] < s[PIXELS]:
        s[READ_PIXEL] = s[PIXEL]
        s[PIXEL] += 1


@kernel
def sequence_exec(sequencer: Any, counters: Any, rows: int, row: Row, cycle: int) -> tuple[int, int]:
    """Step the sequencers alone through an EXEC that issues in `cycle`.

    Returns
    -------
    free, last_read : int
        Cycle from which the next EXEC can issue, and the cycle of the last SPAD read. Sequencers and clock stay at
        the former, the latter is looked up ahead.
    """
    while counters[CLOCK] < cycle:
        counters[CLOCK] += 1
        sequence(sequencer, rows)
    issue(sequencer, 0, row)
    while sequencer[LOADING]:
        counters[CLOCK] += 1
        sequence(sequencer, rows)
    ahead, last_read = sequencer.copy(), counters[CLOCK]
    while ahead[PIXEL] < ahead[PIXELS]:
        last_read += 1
        sequence(ahead, rows)
    return counters[CLOCK], last_read


@jit
def run(array: Array, memories: Memories, table: Any, written: Any, until: int) -> None:
    """Step all registers until cycle `until` has passed; `written[i]` becomes the cycle of EXEC i's last write."""
    counters, s, rows = array.counters, array.sequencer, array.weights.shape[0]
    while counters[CLOCK] < until:
        counters[CLOCK] += 1
        counters[IDLE] += 1
        cycle = counters[CLOCK]
        sequence(s, rows)
        _read_activation(array, memories.spad, table, cycle)
        _read_weights(array, memories.wbuf, table, cycle)
        _accumulate(array, memories.acc, written, cycle)
        _swap(array, cycle)
        _multiply(array, cycle)
        _capture(array, cycle)
        if s[LOADING] or s[PIXEL] < s[PIXELS]:
            counters[IDLE] = 0
        elif counters[IDLE] > array.words.shape[0]:
            counters[CLOCK] = max(cycle, until)


@kernel
def _read_activation(array: Array, spad: Any, table: Any, cycle: int) -> None:
    """SPAD read: the word enters the rows' delay lines, its accumulator address the columns' one."""
    s, activations, commands = array.sequencer, array.activations, array.commands
    depth = array.words.shape[0]
    slot, newest = cycle & (depth - 1), -cycle & (depth - 1)
    commands[0, slot] = -1
    if s[READ_PIXEL] < 0:
        for r in range(activations.shape[0]):
            activations[r, newest] = activations[r, newest + depth] = 0
        return
    row, pixel = table[s[NOW]], s[READ_PIXEL]
    address = _address(row, s[NOW_TILE], pixel)
    for r in range(activations.shape[0]):
        value = np.int32(spad[address, r]) if address >= 0 else np.int32(row[EXEC.pad_value])
        activations[r, newest] = activations[r, newest + depth] = value
    commands[0, slot] = row[EXEC.acc_address] + pixel
    commands[1, slot] = s[NOW_TILE] > 0 or row[EXEC.accumulate] == 1
    commands[2, slot] = s[NOW]


@kernel
def _address(row: Row, tile: int, pixel: int) -> int:
    """SPAD word of a pixel under a weight tile, -1 if it is padding."""
    taps = row[EXEC.ky_count] * row[EXEC.kx_count]
    chunk, tap = tile // taps, tile % taps
    ky, kx = tap // row[EXEC.kx_count], tap % row[EXEC.kx_count]
    oy, ox = pixel // row[EXEC.ox_count], pixel % row[EXEC.ox_count]
    y = row[EXEC.y_start] + oy * row[EXEC.y_step] + ky * row[EXEC.y_dilation]
    x = row[EXEC.x_start] + ox * row[EXEC.x_step] + kx * row[EXEC.x_dilation]
    if not (0 <= y < row[EXEC.height] and 0 <= x < row[EXEC.width]):
        return -1
    address = row[EXEC.spad_address] + chunk * row[EXEC.chunk_stride]
    address += ky * row[EXEC.ky_stride] + kx * row[EXEC.kx_stride]
    return int(address + oy * row[EXEC.oy_stride] + ox * row[EXEC.ox_stride])


@kernel
def _read_weights(array: Array, wbuf: Any, table: Any, cycle: int) -> None:
    """WBUF read: the word enters the columns' delay lines; waves of captures and swaps begin."""
    s, counters, words = array.sequencer, array.counters, array.words
    mask = words.shape[0] - 1
    if s[READ_ROW] >= 0:
        row = table[s[NEXT]]
        address = row[EXEC.wbuf_address] + s[TILE] * row[EXEC.k_rows] + s[READ_ROW]
        for c in range(words.shape[1]):
            words[cycle & mask, c] = wbuf[address, c] if s[READ_ROW] < row[EXEC.k_rows] else 0
    if s[READ_ROW] == 0:
        array.loads[counters[LOADS_TO] & mask] = cycle
        counters[LOADS_TO] += 1
    if s[STARTED]:
        array.swaps[counters[SWAPS_TO] & mask] = cycle
        counters[SWAPS_TO] += 1


@kernel
def _accumulate(array: Array, acc: Any, written: Any, cycle: int) -> None:
    """ACC write ports: what left the bottom of the array in the cycle before."""
    commands, rows, cols = array.commands, array.weights.shape[0], array.weights.shape[1]
    mask, bottom = array.words.shape[0] - 1, (cycle - rows) % (rows + 1)
    for c in range(cols):
        slot = (cycle - rows - c - 1) & mask
        address = commands[0, slot]
        if address >= 0:
            total = np.int64(array.sums[bottom, c]) + commands[1, slot] * np.int64(acc[address, c])
            acc[address, c] = ((total + (1 << 31)) & 0xFFFFFFFF) - (1 << 31)
    slot = (cycle - rows - cols) & mask
    if commands[0, slot] >= 0:
        written[commands[2, slot]] = cycle


@kernel
def _swap(array: Array, cycle: int) -> None:
    """The first pixel of a tile reaches a diagonal of the array: its shadow weights become its weights."""
    counters, (rows, cols) = array.counters, array.weights.shape
    mask = array.words.shape[0] - 1
    for wave in range(counters[SWAPS_FROM], counters[SWAPS_TO]):
        diagonal = cycle - array.swaps[wave & mask] - 1
        for r in range(max(0, diagonal - cols + 1), min(rows, diagonal + 1)):
            array.weights[r, diagonal - r] = array.shadows[r, diagonal - r]
        if diagonal == rows + cols - 2:
            counters[SWAPS_FROM] += 1


@kernel
def _multiply(array: Array, cycle: int) -> None:
    """Every PE: multiply, and add to the sum from above."""
    rows, cols = array.weights.shape
    depth = array.words.shape[0]
    line = cycle % (rows + 1)
    for c in range(cols):
        array.sums[line, c] = 0
    for r in range(rows):
        newest = (r + 1 - cycle) & (depth - 1)
        for c in range(cols):
            array.sums[line, c] += array.weights[r, c] * array.activations[r, newest + c]
        line = rows if line == 0 else line - 1


@kernel
def _capture(array: Array, cycle: int) -> None:
    """Row r's shadows take word r, column c one cycle after column c - 1."""
    counters, (rows, cols) = array.counters, array.weights.shape
    mask = array.words.shape[0] - 1
    for wave in range(counters[LOADS_FROM], counters[LOADS_TO]):
        place = cycle - array.loads[wave & mask] - 1
        for r in range(max(0, (place - cols + 2) // 2), min(rows, place // 2 + 1)):
            c = place - 2 * r
            array.shadows[r, c] = array.words[(cycle - 1 - r - c) & mask, c]
        if place == 2 * rows + cols - 3:
            counters[LOADS_FROM] += 1
