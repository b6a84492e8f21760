"""Where a run's cycles and bytes went: one row per layer, and SCALE-Sim's formula beside it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from accel import isa
from accel.isa import Opcode
from accel.program import LayerInfo, Program
from accel.timing import accumulate_latency


class Timed(Protocol):
    """What a report needs of a run: completion cycles in program order, and the run's length."""

    @property
    def total_cycles(self) -> int:
        """Length of the run."""
        ...

    @property
    def issue(self) -> NDArray[np.int64]:
        """Issue cycle of every instruction, in program order."""
        ...

    @property
    def complete(self) -> NDArray[np.int64]:
        """Completion cycle of every instruction, in program order."""
        ...


@dataclass(frozen=True)
class LayerRow:
    """One layer of a run.

    Parameters
    ----------
    cycles : int
        Cycles in which the array worked for the layer, and of the others those in which it held the oldest unfinished
        instruction (`cycles_per_layer`); the rows sum to the run's total.
    utilization : float
        MACs per cycle over the array's peak; 0 for layers without weights.
    read_bytes, written_bytes : int
        External memory traffic of its LOADs and STOREs.
    scalesim_cycles : int
        Weight-stationary cycles by SCALE-Sim's formula, 0 for layers without weights.
    """

    name: str
    op: str
    macs: int
    cycles: int
    utilization: float
    read_bytes: int
    written_bytes: int
    scalesim_cycles: int


def scalesim_cycles(layer: LayerInfo, rows: int, cols: int) -> int:
    """Cycles of a weight-stationary array in SCALE-Sim, which drains it between tiles.

    References
    ----------
    Samajdar et al., "SCALE-Sim: Systolic CNN Accelerator Simulator", 2018, section 3: folds * (2R + C + M - 2) - 1.
    """
    if not layer.macs:
        return 0
    return -(-layer.k // rows) * -(-layer.n // cols) * (layer.m + 2 * rows + cols - 2) - 1


def traffic(program: Program) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Bytes that each instruction reads from and writes to external memory (instruction fetch not counted)."""
    table = isa.decode_table(program.code)
    read, written = np.zeros(len(table), np.int64), np.zeros(len(table), np.int64)
    for opcode, target, names in (
        (Opcode.LOAD, read, ("outer_count", "row_count", "row_bytes")),
        (Opcode.STORE, written, ("outer_count", "row_count", "row_words", "word_bytes")),
    ):
        mine = table[:, 0] == opcode
        target[mine] = np.prod([table[mine, isa.column(opcode, name)] for name in names], axis=0)
    return read, written


def cycles_per_layer(program: Program, run: Timed) -> NDArray[np.int64]:
    """Attribute every cycle of a run to one layer, so that the sum is the total and no utilization exceeds 1.

    A cycle belongs to the layer whose EXEC holds the array; if none does, to the layer of the oldest instruction that
    is not complete.

    Returns
    -------
    ndarray of int64, shape (layers,)
    """
    layers = np.array(program.instruction_layers)
    count = len(program.layers)
    cycles = np.zeros(count, np.int64)
    ends = np.zeros(count, np.int64)
    np.maximum.at(ends, layers, run.complete + 1)
    ends = np.maximum.accumulate(ends)
    ends[-1] = run.total_cycles
    table = isa.decode_table(program.code)
    latencies = [accumulate_latency(program.config, depthwise) for depthwise in (False, True)]
    free = 0
    for index in np.flatnonzero(table[:, 0] == Opcode.EXEC):
        start = max(free, int(run.issue[index]))
        stop = int(run.complete[index]) - latencies[table[index, isa.column(Opcode.EXEC, "depthwise")]] + 1
        cycles += _overlaps(ends, free, start)
        cycles[layers[index]] += stop - start
        free = stop
    return cycles + _overlaps(ends, free, run.total_cycles)


def _overlaps(ends: NDArray[np.int64], start: int, stop: int) -> NDArray[np.int64]:
    """Cycles of [start, stop) in each of the consecutive periods that end at `ends` (exclusive)."""
    inside = np.clip(ends, start, stop)
    return np.diff(inside, prepend=start)


def layer_rows(program: Program, run: Timed) -> list[LayerRow]:
    """One row per layer, in order; the cycles sum to `run.total_cycles`."""
    config = program.config
    read, written = traffic(program)
    owner = np.array(program.instruction_layers)
    rows = []
    for i, (layer, cycles) in enumerate(zip(program.layers, cycles_per_layer(program, run).tolist(), strict=True)):
        mine = owner == i
        rows.append(
            LayerRow(
                layer.name,
                layer.op,
                layer.macs,
                cycles,
                layer.macs / (cycles * config.rows * config.cols) if cycles else 0.0,
                int(read[mine].sum()),
                int(written[mine].sum()),
                scalesim_cycles(layer, config.rows, config.cols),
            )
        )
    return rows
