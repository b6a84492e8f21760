"""`SimulationResult`: values, cycles and counters after a run."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from accel.machine.isa import Unit
from accel.machine.registers import CAUSES, COUNTED_UNITS

Stamps = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class SimulationResult:
    """Values, cycles and counters of one run.

    Parameters
    ----------
    engine : str
        Which engine computed it.
    memory : ndarray of uint8
        The external memory after the run.
    total_cycles : int
        Cycles from the first in which `running` is high to the last.
    units : ndarray of int64, shape (instructions,)
        `accel.machine.isa.Unit` of each instruction, in program order.
    dispatch, issue, occupied, complete : ndarray of int64, shape (instructions,)
        Cycles of each instruction, in program order; `occupied` is the last one that holds its unit; see
        docs/timing.md.
    causes : ndarray of int64, shape (6, 8)
        Cycles by unit (`COUNTED_UNITS` of `accel.machine.registers`) and cause (`CAUSES`); rows sum to the total.
    spad, wbuf : ndarray of int8, shapes (spad_words, rows), (wbuf_words, cols)
        Memories after the run.
    taps : ndarray of int8, shape (depthwise_words, depthwise_lanes)
        Empty without a depthwise engine.
    acc : ndarray of int32, shape (acc_words, cols)
    param : ndarray of int8, shape (param_channels, PARAM_RECORD_BYTES)
    table : ndarray of int8, shape (TABLE_WORDS, 1)
    macs : int
        Multiplications of the weight words that were loaded, padding included.
    fetch_bytes, load_bytes, store_bytes : int
        Bytes that crossed each channel.
    """

    engine: str
    memory: npt.NDArray[np.uint8]
    total_cycles: int
    units: Stamps
    dispatch: Stamps
    issue: Stamps
    occupied: Stamps
    complete: Stamps
    causes: Stamps
    spad: npt.NDArray[np.int8]
    wbuf: npt.NDArray[np.int8]
    taps: npt.NDArray[np.int8]
    acc: npt.NDArray[np.int32]
    param: npt.NDArray[np.int8]
    table: npt.NDArray[np.int8]
    macs: int
    fetch_bytes: int
    load_bytes: int
    store_bytes: int

    def stamps(self, unit: Unit) -> tuple[Stamps, Stamps]:
        """Issue and completion cycles of one unit's instructions, in the unit's order."""
        mine = self.units == unit
        return self.issue[mine], self.complete[mine]

    def cause(self, unit: str, cause: str) -> int:
        """Cycles of `unit` (LOAD .. DEPTHWISE, FETCH) with `cause` (busy, memory, wait.LOAD .., empty)."""
        return int(self.causes[COUNTED_UNITS.index(unit), CAUSES.index(cause)])
