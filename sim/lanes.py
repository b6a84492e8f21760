"""The depthwise engine in the stepped engine: every register of its lanes, one cycle at a time.

Lane c works c cycles after lane 0. In cycle t its window takes the word that was read from SPAD in cycle t - 1 - c; it
multiplies for the output whose step was in cycle t - 2 - c. As in `sim.systolic`, registers that only hand their value
on stay in rings.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from accel.config import ArchConfig
from sim.fields import EXEC
from sim.jit import kernel

SWAP, DOUBLE, TAPS, PAD_VALUE, CAPTURE = range(5)
"""Rows of `Lanes.control`: the shadow weights become weights; two words enter; bits of the window slots whose words
exist; the value of the others; number of the weight that arrives, -1 if none does."""


class Lanes(NamedTuple):
    """Registers of the lanes (lane, tap), and rings by the cycle of a step.

    `earlier` holds the lanes' bytes of the word before the step's own, which comes through the array's delay lines.
    """

    window: npt.NDArray[np.int64]
    weights: npt.NDArray[np.int64]
    shadows: npt.NDArray[np.int64]
    control: npt.NDArray[np.int64]
    earlier: npt.NDArray[np.int64]
    sums: npt.NDArray[np.int64]

    @classmethod
    def of(cls, config: ArchConfig, depth: int) -> Lanes:
        """The lanes of `config` after power-up, with rings of `depth` cycles, a power of two."""
        lanes, control = config.depthwise_lanes, np.zeros((5, depth), np.int64)
        window, weights, shadows = (np.zeros((lanes, config.depthwise_taps), np.int64) for _ in range(3))
        earlier, sums = (np.zeros((depth, lanes), np.int64) for _ in range(2))
        control[CAPTURE] = -1
        return cls(window, weights, shadows, control, earlier, sums)


@kernel
def read_step(lanes: Lanes, activations: Any, spad: Any, table: Any, i: int, step: int, cycle: int) -> None:
    """SPAD reads of a step of EXEC i's row stream; the step's word enters the delay lines of the array's rows."""
    depth, newest = activations.shape[1] // 2, -cycle & (activations.shape[1] // 2 - 1)
    line, slot, columns = step // table[i, EXEC.row_steps], cycle & (lanes.control.shape[1] - 1), lanes.window.shape[0]
    words = table[i, EXEC.x_step] // table[i, EXEC.x_dilation]
    j = table[i, EXEC.kx_count] - 1
    j += words * (step - line * table[i, EXEC.row_steps] - table[i, EXEC.lead_steps])
    lanes.control[DOUBLE, slot] = words == 2
    word, earlier = _address(table, i, line, j), _address(table, i, line, j - 1) if words == 2 else -1
    first = table[i, EXEC.spad_byte]
    for c in range(columns):
        activations[c, newest] = activations[c, newest + depth] = spad[word, first + c] if word >= 0 else 0
        if earlier >= 0:
            lanes.earlier[slot, c] = spad[earlier, first + c]


@kernel
def _address(table: Any, i: int, line: int, j: int) -> int:
    """SPAD word j of row `line` of EXEC i's row stream; -1 if it does not exist."""
    ky = line // table[i, EXEC.oy_count]
    oy = line - ky * table[i, EXEC.oy_count]
    y = table[i, EXEC.y_start] + oy * table[i, EXEC.y_step] + ky * table[i, EXEC.y_dilation]
    x = table[i, EXEC.x_start] + j * table[i, EXEC.x_dilation]
    if not (j >= 0 and 0 <= y < table[i, EXEC.height] and 0 <= x < table[i, EXEC.width]):
        return -1
    address = table[i, EXEC.spad_address] + ky * table[i, EXEC.ky_stride]
    return int(address + oy * table[i, EXEC.oy_stride] + j * table[i, EXEC.kx_stride])


@kernel
def control_output(lanes: Lanes, table: Any, i: int, tile: int, pixel: int, cycle: int) -> None:
    """Which taps of an output of EXEC i exist, by window slot; the last tap is in the last slot."""
    slot, taps = cycle & (lanes.control.shape[1] - 1), table[i, EXEC.kx_count]
    oy = pixel // table[i, EXEC.ox_count]
    ox = pixel - oy * table[i, EXEC.ox_count]
    y = table[i, EXEC.y_start] + oy * table[i, EXEC.y_step] + tile * table[i, EXEC.y_dilation]
    exist = 0
    for tap in range(taps):
        x = table[i, EXEC.x_start] + ox * table[i, EXEC.x_step] + tap * table[i, EXEC.x_dilation]
        inside = 0 <= y < table[i, EXEC.height] and 0 <= x < table[i, EXEC.width]
        exist |= int(inside) << (lanes.window.shape[1] - taps + tap)
    lanes.control[TAPS, slot], lanes.control[PAD_VALUE, slot] = exist, table[i, EXEC.pad_value]
    lanes.control[SWAP, slot] = pixel == 0


@kernel
def step(lanes: Lanes, activations: Any, words: Any, cycle: int) -> None:
    """One cycle of all lanes; `words` is the ring of weight words that columns delay."""
    window, weights, shadows, control = lanes.window, lanes.weights, lanes.shadows, lanes.control
    mask, taps = control.shape[1] - 1, window.shape[1]
    for c in range(window.shape[0]):
        now, before = (cycle - 1 - c) & mask, (cycle - 2 - c) & mask
        total = 0
        for tap in range(taps):
            exists = control[TAPS, before] >> tap & 1
            total += (window[c, tap] if exists else control[PAD_VALUE, before]) * weights[c, tap]
        lanes.sums[cycle & mask, c] = total
        moved = 1 + control[DOUBLE, now]
        for tap in range(taps - moved):
            window[c, tap] = window[c, tap + moved]
        if moved == 2:
            window[c, taps - 2] = lanes.earlier[now, c]
        window[c, taps - 1] = activations[c, (1 + c - cycle) & (activations.shape[1] // 2 - 1)]
        if control[SWAP, now]:
            weights[c] = shadows[c]
        if control[CAPTURE, now] >= 0:
            for tap in range(taps - 1):
                shadows[c, tap] = shadows[c, tap + 1] if control[CAPTURE, now] > 0 else 0
            shadows[c, taps - 1] = words[(cycle - 1 - c) & (words.shape[0] - 1), c]
