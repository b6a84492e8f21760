"""DEPTHWISE in the stepped engine: every register of the depthwise engine, one cycle at a time.

In cycle t the windows take the words that were read from SPAD in cycle t - `READ_LATENCY`, and a cycle later the words
that exist become factors, and the shadow weights take the word that was read from TAPS with them. The factors are
multiplied a cycle after that, then the products are added, and then the sums are on the accumulators' write port. The
last of these comes first here, so that each finds the registers as the cycle before left them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from accel.machine.config import ArchConfig
from accel.machine.latencies import DEPTHWISE_LATENCY, READ_LATENCY
from sim.fast.dma import Row
from sim.fields import DEPTHWISE
from sim.jit import kernel
from sim.memories import OFFSET, Memories
from sim.stepped import depthwise_sequencer as sequencer

ADDRESS, ADD, INSTRUCTION, EXIST, PAD_VALUE, SWAP, MOVE, CAPTURE = range(8)
"""Columns of `Lanes.control`. Of an output: accumulator word (-1: no output), whether to add to it, instruction,
bits of the window slots whose words exist, value of the others, whether the shadow weights become weights. Of the
words: how many enter the windows, number of the tap word (-1: none)."""


class Lanes(NamedTuple):
    """Registers of the engine; lanes come last, so that all of them are one vector.

    `control` holds what was decided in each of the last cycles, newest first; `words` a step's word and the one before
    it, and `tap_words` a tap word, as they were read in the last cycles; `idle` counts cycles since the last read.
    """

    sequencer: npt.NDArray[np.int64]
    idle: npt.NDArray[np.int64]
    control: npt.NDArray[np.int64]
    words: npt.NDArray[np.int32]
    tap_words: npt.NDArray[np.int32]
    window: npt.NDArray[np.int32]
    weights: npt.NDArray[np.int32]
    shadows: npt.NDArray[np.int32]
    factors: npt.NDArray[np.int32]
    products: npt.NDArray[np.int32]
    sums: npt.NDArray[np.int32]

    @classmethod
    def of(cls, config: ArchConfig) -> Lanes:
        """The engine of `config` after power-up."""
        lanes = config.depthwise_lanes
        control = np.zeros((DEPTHWISE_LATENCY, CAPTURE + 1), np.int64)
        control[:, ADDRESS] = control[:, CAPTURE] = -1
        slots = config.depthwise_taps, lanes
        window, weights, shadows, factors, products = (np.zeros(slots, np.int32) for _ in range(5))
        tap_words = np.zeros((READ_LATENCY + 1, lanes), np.int32)
        return cls(
            sequencer.registers(), np.full(1, DEPTHWISE_LATENCY + 1, np.int64), control,
            np.zeros((READ_LATENCY, 2, lanes), np.int32), tap_words, window, weights, shadows, factors, products,
            np.zeros(lanes, np.int32),
        )  # fmt: skip


@kernel
def issue(lanes: Lanes, instruction: int, row: Row) -> None:
    """Hand a DEPTHWISE to the engine."""
    sequencer.issue(lanes.sequencer, instruction, row)
    lanes.idle[0] = 0


@kernel
def is_idle(lanes: Lanes) -> bool:
    """Whether nothing is under way in the engine."""
    return bool(lanes.idle[0] > DEPTHWISE_LATENCY)


@kernel
def step(lanes: Lanes, memories: Memories, table: Any, written: Any, cycle: int) -> None:
    """One cycle of the engine; `written[i]` becomes the cycle of DEPTHWISE i's last accumulator write."""
    s, control = lanes.sequencer, lanes.control
    _accumulate(control, lanes.sums, memories.acc, written, cycle)
    _add(lanes.products, lanes.sums)
    _multiply(lanes.factors, lanes.weights, lanes.products)
    _choose(control, lanes.window, lanes.factors)
    _capture(control, lanes.tap_words, lanes.weights, lanes.shadows)
    _move(control, lanes.words, lanes.window)
    for stage in range(READ_LATENCY, 0, -1):
        for c in range(lanes.sums.shape[0]):
            lanes.tap_words[stage, c] = lanes.tap_words[stage - 1, c]
    for stage in range(READ_LATENCY - 1, 0, -1):
        for c in range(lanes.sums.shape[0]):
            for place in range(2):
                lanes.words[stage, place, c] = lanes.words[stage - 1, place, c]
    for stage in range(control.shape[0] - 1, 0, -1):
        for column in range(control.shape[1]):
            control[stage, column] = control[stage - 1, column]
    sequencer.sequence(s)
    lanes.idle[0] = 0 if sequencer.is_busy(s) else lanes.idle[0] + 1
    _read_taps(s, control, lanes.tap_words[0], memories.taps, table)
    _read_words(s, control, lanes.words[0], memories.spad, table)
    _control_output(s, control, lanes.window.shape[0], table)


@kernel
def _accumulate(control: Any, sums: Any, acc: Any, written: Any, cycle: int) -> None:
    """ACC write port: all columns in the same cycle; those beyond the lanes get a sum of 0."""
    oldest = control.shape[0] - 1
    word = control[oldest, ADDRESS]
    if word >= 0:
        for c in range(acc.shape[1]):
            total = np.int64(sums[c]) if c < sums.shape[0] else np.int64(0)
            total += control[oldest, ADD] * np.int64(acc[word, c])
            acc[word, c] = ((total + (1 << 31)) & 0xFFFFFFFF) - (1 << 31)
        written[control[oldest, INSTRUCTION]] = cycle


@kernel
def _add(products: Any, sums: Any) -> None:
    """The products of each lane."""
    for c in range(sums.shape[0]):
        sums[c] = 0
    for tap in range(products.shape[0]):
        for c in range(sums.shape[0]):
            sums[c] += products[tap, c]


@kernel
def _multiply(factors: Any, weights: Any, products: Any) -> None:
    """Every tap of every lane."""
    for tap in range(factors.shape[0]):
        for c in range(factors.shape[1]):
            products[tap, c] = factors[tap, c] * weights[tap, c]


@kernel
def _choose(control: Any, window: Any, factors: Any) -> None:
    """Words that exist, and the padding in the place of others."""
    for tap in range(window.shape[0]):
        exists = control[READ_LATENCY, EXIST] >> tap & 1
        pad = control[READ_LATENCY, PAD_VALUE] * (1 - exists)
        for c in range(window.shape[1]):
            factors[tap, c] = window[tap, c] * exists + pad


@kernel
def _capture(control: Any, tap_words: Any, weights: Any, shadows: Any) -> None:
    """Shadow weights become weights, and a tap word becomes a shadow weight."""
    last = weights.shape[0] - 1
    if control[READ_LATENCY, SWAP]:
        for tap in range(last + 1):
            for c in range(weights.shape[1]):
                weights[tap, c] = shadows[tap, c]
    if control[READ_LATENCY, CAPTURE] >= 0:
        for tap in range(last):
            for c in range(weights.shape[1]):
                shadows[tap, c] = shadows[tap + 1, c] if control[READ_LATENCY, CAPTURE] > 0 else 0
        for c in range(weights.shape[1]):
            shadows[last, c] = tap_words[READ_LATENCY, c]


@kernel
def _move(control: Any, words: Any, window: Any) -> None:
    """Words enter the windows."""
    answer = READ_LATENCY - 1
    last, moved = window.shape[0] - 1, control[answer, MOVE]
    if moved > 0:
        for tap in range(last + 1 - moved):
            for c in range(window.shape[1]):
                window[tap, c] = window[tap + moved, c]
        for place in range(moved):
            for c in range(window.shape[1]):
                window[last - place, c] = words[answer, place, c]


@kernel
def _read_taps(s: Any, control: Any, tap_word: Any, taps: Any, table: Any) -> None:
    """TAPS read: the next word of a tile."""
    word, i = s[sequencer.READ_WORD], s[sequencer.NEXT]
    control[0, CAPTURE] = word
    if word >= 0:
        address = table[i, DEPTHWISE.tap_address] + s[sequencer.TILE] * table[i, DEPTHWISE.kx_count] + word
        for c in range(tap_word.shape[0]):
            tap_word[c] = taps[address, c]


@kernel
def _read_words(s: Any, control: Any, words: Any, spad: Any, table: Any) -> None:
    """SPAD reads of a step of the row stream."""
    i = s[sequencer.NOW]
    control[0, MOVE] = 0
    if s[sequencer.STEPPED]:
        moved = 2 if table[i, DEPTHWISE.x_step] > table[i, DEPTHWISE.x_dilation] else 1
        step, oy, ky = s[sequencer.STREAM], s[sequencer.STREAM + 1], s[sequencer.STREAM + 2]
        j = table[i, DEPTHWISE.kx_count] - 1 + moved * (step - table[i, DEPTHWISE.lead_steps])
        y = table[i, DEPTHWISE.y_start] + oy * table[i, DEPTHWISE.y_step] + ky * table[i, DEPTHWISE.y_dilation]
        row_exists = ky < table[i, DEPTHWISE.ky_count] and 0 <= y < table[i, DEPTHWISE.height]
        row = table[i, DEPTHWISE.spad_address] + ky * table[i, DEPTHWISE.ky_stride] + oy * table[i, DEPTHWISE.oy_stride]
        control[0, MOVE] = moved
        for place in range(moved):
            x = table[i, DEPTHWISE.x_start] + (j - place) * table[i, DEPTHWISE.x_dilation]
            if row_exists and j >= place and 0 <= x < table[i, DEPTHWISE.width]:
                address = row + (j - place) * table[i, DEPTHWISE.kx_stride]
                for c in range(words.shape[1]):
                    words[place, c] = np.int64(spad[address, table[i, DEPTHWISE.spad_byte] + c]) - OFFSET


@kernel
def _control_output(s: Any, control: Any, slots: int, table: Any) -> None:
    """Where a step's output goes, if there is one, and which of its taps exist; the last tap is in the last slot."""
    i, ox, oy, ky = s[sequencer.NOW], s[sequencer.OUTPUT], s[sequencer.OUTPUT + 1], s[sequencer.OUTPUT + 2]
    control[0, ADDRESS], control[0, SWAP] = -1, 0
    if s[sequencer.STEPPED] and 0 <= ox < table[i, DEPTHWISE.ox_count]:
        exist, taps = 0, table[i, DEPTHWISE.kx_count]
        y = table[i, DEPTHWISE.y_start] + oy * table[i, DEPTHWISE.y_step] + ky * table[i, DEPTHWISE.y_dilation]
        for tap in range(taps):
            x = table[i, DEPTHWISE.x_start] + ox * table[i, DEPTHWISE.x_step] + tap * table[i, DEPTHWISE.x_dilation]
            inside = 0 <= y < table[i, DEPTHWISE.height] and 0 <= x < table[i, DEPTHWISE.width]
            exist |= int(inside) << (slots - taps + tap)
        control[0, ADDRESS] = table[i, DEPTHWISE.acc_address] + oy * table[i, DEPTHWISE.ox_count] + ox
        control[0, ADD] = ky > 0 or table[i, DEPTHWISE.accumulate] == 1
        control[0, INSTRUCTION], control[0, EXIST], control[0, PAD_VALUE] = i, exist, table[i, DEPTHWISE.pad_value]
        control[0, SWAP] = oy == 0 and ox == 0
