"""EXEC in the stepped engine: every register of the array, one cycle at a time.

In cycle t, PE (r, c) adds a product to the sum that PE (r - 1, c) held: that of the activation that was read from SPAD
in cycle t - `EXEC_LATENCY` - r - c. It was formed in the cycle before; weights change two cycles later here than in the
machine, so that they are those of the product. Registers that only hand their value on, factors and product among them,
are not copied: they stay in place in rings, and the array moves along the rings by one place per cycle. Weights, shadow
weights and sums are arrays of registers.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from accel.machine.config import ArchConfig
from accel.machine.latencies import EXEC_LATENCY
from sim.fast.dma import Row
from sim.fast.vectors import PANEL, multiply_add_vectors
from sim.fields import EXEC
from sim.jit import DISABLED, kernel
from sim.memories import OFFSET, Memories
from sim.stepped import sequencer
from sim.weight_words import high_nibble, low_nibble, tile_words

IDLE, SWAPS_FROM, SWAPS_TO, LOADS_FROM, LOADS_TO = range(5)
"""Counters of `Array`: cycles since the last read, and the waves in flight."""

TRACED = (
    sequencer.NOW, sequencer.NOW_TILE, sequencer.READ_PIXEL, sequencer.NEXT, sequencer.TILE, sequencer.READ_WORD,
)  # fmt: skip
"""Sequencer registers that the other parts look at, in the order of the trace's rows."""

BATCH = 64
"""Most cycles for which each part runs at a stretch: sequencers, reads, array. Streams only flow forward."""


class Array(NamedTuple):
    """Registers of the array and its sequencers.

    Rings are as deep as a power of two beyond the array's latency and a batch. `activations` (a stream per row) and
    `commands` (accumulator address or -1, whether to add, instruction) hold everything twice, newest first, so that the
    registers of a row are contiguous. `loads` has the cycle in which a tile's first word was read, and whether its
    words hold int4. Columns are padded to whole vectors, whose weights stay zero.
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
    trace: npt.NDArray[np.int64]

    @classmethod
    def of(cls, config: ArchConfig) -> Array:
        """The array of `config` after power-up."""
        rows, cols = config.rows, -(-config.cols // PANEL) * PANEL
        depth, lines = (
            1 << (latency + BATCH).bit_length() for latency in (2 * rows + cols + EXEC_LATENCY + 1, rows + 1)
        )
        counters = np.zeros(5, np.int64)
        counters[IDLE] = depth + 1
        return cls(
            sequencer.registers(), counters, np.zeros((rows, 2 * depth), np.int32),
            np.zeros((depth, config.cols), np.int32), np.zeros((rows, cols), np.int32),
            np.zeros((rows, cols), np.int32), np.zeros((lines, cols), np.int32), np.full((3, 2 * depth), -1, np.int64),
            np.zeros(depth, np.int64), np.zeros((2, depth), np.int64), np.zeros((len(TRACED), BATCH), np.int64),
        )  # fmt: skip


@kernel
def issue(array: Array, instruction: int, row: Row) -> None:
    """Hand an EXEC to the array."""
    sequencer.issue(array.sequencer, instruction, array.weights.shape[0], row)
    array.counters[IDLE] = 0


@kernel
def is_idle(array: Array) -> bool:
    """Whether nothing is under way in the array."""
    return bool(array.counters[IDLE] > len(array.words))


@kernel
def step(array: Array, memories: Memories, table: Any, first: int, last: int) -> None:
    """All registers of the array in cycles `first` .. `last - 1`, at most `BATCH`; the accumulators follow."""
    counters, activations, words = array.counters, array.activations, array.words
    weights, shadows, trace = array.weights, array.shadows, array.trace
    _sequence(array.sequencer, table, counters, trace, array.swaps, array.loads, first, last)
    _read_activations(trace, activations, array.commands, memories.spad, table, first, last)
    _read_weights(trace, words, memories.wbuf, table, first, last)
    for cycle in range(first, last):
        _swap(counters, array.swaps, shadows, weights, words.shape[1], cycle)
        _multiply(array.sums, weights, activations, cycle)
        _capture(counters, array.loads, words, shadows, cycle)


@kernel
def _sequence(s: Any, table: Any, counters: Any, trace: Any, swaps: Any, loads: Any, first: int, last: int) -> None:
    """Step the sequencers; note what they read, and where waves of captures and swaps begin."""
    for cycle in range(first, last):
        sequencer.sequence(s)
        for line, register in enumerate(TRACED):
            trace[line, cycle - first] = s[register]
        if s[sequencer.READ_WORD] == 0:
            wave = counters[LOADS_TO] & (loads.shape[1] - 1)
            loads[0, wave], loads[1, wave] = cycle, table[s[sequencer.NEXT], EXEC.int4]
            counters[LOADS_TO] += 1
        if s[sequencer.STARTED]:
            swaps[counters[SWAPS_TO] & (len(swaps) - 1)] = cycle
            counters[SWAPS_TO] += 1
        counters[IDLE] = 0 if sequencer.is_busy(s) else counters[IDLE] + 1


@kernel
def _read_activations(
    trace: Any, activations: Any, commands: Any, spad: Any, table: Any, first: int, last: int
) -> None:
    """SPAD reads: a word enters the rows' delay lines, its accumulator address the columns' one."""
    rows, depth = activations.shape[0], activations.shape[1] // 2
    for cycle in range(first, last):
        now, tile, pixel = trace[:3, cycle - first]
        newest = -cycle & (depth - 1)
        address, again = -1, newest + depth
        if pixel >= 0:
            commands[0, newest] = commands[0, again] = table[now, EXEC.acc_address] + pixel
            commands[1, newest] = commands[1, again] = tile > 0 or table[now, EXEC.accumulate] == 1
            commands[2, newest] = commands[2, again] = now
            address = _address(table, now, tile, pixel)
        else:
            commands[0, newest] = commands[0, again] = -1
        pad_value = table[now, EXEC.pad_value] if pixel >= 0 else 0
        for r in range(rows):
            value = np.int64(spad[address, r]) - OFFSET if address >= 0 else pad_value
            activations[r, newest] = activations[r, again] = value


@kernel
def _address(table: Any, i: int, tile: int, pixel: int) -> int:
    """SPAD word of a pixel of EXEC i under a weight tile, -1 if it is padding."""
    taps = table[i, EXEC.ky_count] * table[i, EXEC.kx_count]
    chunk = tile // taps
    tap = tile - chunk * taps
    ky, oy = tap // table[i, EXEC.kx_count], pixel // table[i, EXEC.ox_count]
    kx, ox = tap - ky * table[i, EXEC.kx_count], pixel - oy * table[i, EXEC.ox_count]
    y = table[i, EXEC.y_start] + oy * table[i, EXEC.y_step] + ky * table[i, EXEC.y_dilation]
    x = table[i, EXEC.x_start] + ox * table[i, EXEC.x_step] + kx * table[i, EXEC.x_dilation]
    if not (0 <= y < table[i, EXEC.height] and 0 <= x < table[i, EXEC.width]):
        return -1
    address = table[i, EXEC.spad_address] + chunk * table[i, EXEC.chunk_stride]
    address += ky * table[i, EXEC.ky_stride] + kx * table[i, EXEC.kx_stride]
    return int(address + oy * table[i, EXEC.oy_stride] + ox * table[i, EXEC.ox_stride])


@kernel
def _read_weights(trace: Any, words: Any, wbuf: Any, table: Any, first: int, last: int) -> None:
    """WBUF reads: a word enters the columns' delay lines; beyond the tile's last row it is zero."""
    for cycle in range(first, last):
        following, tile, word = trace[3:6, cycle - first]
        slot, k_rows = cycle & (words.shape[0] - 1), table[following, EXEC.k_rows]
        if word >= 0:
            int4 = table[following, EXEC.int4]
            per_tile = tile_words(k_rows, int4)
            address = table[following, EXEC.wbuf_address] + tile * per_tile + word
            bits = 15 if int4 and 2 * word + 1 == k_rows else -1
            for c in range(words.shape[1]):
                words[slot, c] = wbuf[address, c] & bits if word < per_tile else 0


@kernel
def _swap(counters: Any, swaps: Any, shadows: Any, weights: Any, cols: int, cycle: int) -> None:
    """The first pixel of a tile reaches a diagonal of the array: its shadow weights become its weights."""
    rows = weights.shape[0]
    for wave in range(counters[SWAPS_FROM], counters[SWAPS_TO]):
        diagonal = cycle - swaps[wave & (len(swaps) - 1)] - EXEC_LATENCY
        for r in range(max(0, diagonal - cols + 1), min(rows, diagonal + 1)):
            weights[r, diagonal - r] = shadows[r, diagonal - r]
        if diagonal == rows + cols - 2:
            counters[SWAPS_FROM] += 1


@kernel
def _multiply(sums: Any, weights: Any, activations: Any, cycle: int) -> None:
    """Every PE: multiply, and add to the sum from above; row r works on the line that entered r cycles ago."""
    rows, mask = weights.shape[0], sums.shape[0] - 1
    newest, line = (EXEC_LATENCY - cycle) & (activations.shape[1] // 2 - 1), cycle & mask
    for c in range(weights.shape[1]):
        sums[line, c] = 0
    upper = min(rows, line + 1)
    _multiply_rows(sums, weights, activations, line, 0, newest, upper)
    _multiply_rows(sums, weights, activations, mask, upper, newest + upper, rows - upper)


def _multiply_rows_plain(sums: Any, weights: Any, activations: Any, line: int, row: int, first: int, rows: int) -> None:
    """``sums[line - i] += weights[row + i] * activations[row + i, first + i ...]`` for `rows` rows i."""
    for i in range(rows):
        sums[line - i] += weights[row + i] * activations[row + i, first + i : first + i + weights.shape[1]]


@kernel
def _multiply_rows_compiled(
    sums: Any, weights: Any, activations: Any, line: int, row: int, first: int, rows: int
) -> None:
    cols, depth = sums.shape[1], activations.shape[1]
    multiply_add_vectors(
        sums.ctypes.data + 4 * line * cols, weights.ctypes.data + 4 * row * cols,
        activations.ctypes.data + 4 * (row * depth + first), rows, cols // PANEL, depth + 1,
    )  # fmt: skip


_multiply_rows = _multiply_rows_plain if DISABLED else _multiply_rows_compiled


@kernel
def _capture(counters: Any, loads: Any, words: Any, shadows: Any, cycle: int) -> None:
    """Row r's shadows take word r, or their half of word r // 2; column c one cycle after column c - 1.

    A word meets row r after r cycles, so that row r's word is there after 2 r cycles, or after r + r // 2.
    """
    rows, cols, mask = shadows.shape[0], words.shape[1], words.shape[0] - 1
    for wave in range(counters[LOADS_FROM], counters[LOADS_TO]):
        place, int4 = cycle - loads[0, wave & mask] - EXEC_LATENCY, loads[1, wave & mask]
        twice = 4 - int4
        for r in range(max(0, (2 * (place - cols) + 1 + twice) // twice), min(rows, (2 * place + 1) // twice + 1)):
            c = place - (r * twice >> 1)
            word = words[(cycle - EXEC_LATENCY - r - c) & mask, c]
            if int4:
                word = high_nibble(word) if r & 1 else low_nibble(word)
            shadows[r, c] = word
        if place == ((rows - 1) * twice >> 1) + cols - 1:
            counters[LOADS_FROM] += 1


@kernel
def accumulate(array: Array, acc: Any, written: Any, first: int, last: int) -> None:
    """ACC write ports in cycles `first` .. `last - 1`: what left the bottom of the array in the cycle before each.

    `written[i]` becomes the cycle of EXEC i's last write.
    """
    commands, sums, rows = array.commands, array.sums, array.weights.shape[0]
    cols, mask, depth = acc.shape[1], sums.shape[0] - 1, commands.shape[1] // 2
    for cycle in range(first, last):
        line, newest = (cycle - rows) & mask, (rows + EXEC_LATENCY - cycle) & (depth - 1)
        for c in range(cols):
            address = commands[0, newest + c]
            if address >= 0:
                total = np.int64(sums[line, c]) + commands[1, newest + c] * np.int64(acc[address, c])
                acc[address, c] = ((total + (1 << 31)) & 0xFFFFFFFF) - (1 << 31)
        if commands[0, newest + cols - 1] >= 0:
            written[commands[2, newest + cols - 1]] = cycle
