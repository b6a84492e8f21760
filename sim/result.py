"""`SimulationResult`: values, cycles and counters after a run."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from accel.machine.isa import Unit
from accel.machine.memories import Space
from accel.machine.registers import CAUSES, COUNTED_UNITS
from sim.memories import OFFSET, Memories

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
    memories : Memories
        All memories after the run, as the kernels hold them; the properties below hold their plain values.
    rows : int
        Bytes of a SPAD word.
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
    memories: Memories
    rows: int
    macs: int
    fetch_bytes: int
    load_bytes: int
    store_bytes: int

    @cached_property
    def spad(self) -> npt.NDArray[np.int8]:
        """Scratchpad after the run, shape (spad_words, rows)."""
        return (self.memories.spad[:-1, : self.rows] ^ np.uint8(OFFSET)).view(np.int8)

    @property
    def wbuf(self) -> npt.NDArray[np.int8]:
        """Weight buffer after the run, shape (wbuf_words, cols)."""
        return self.memories.wbuf

    @property
    def taps(self) -> npt.NDArray[np.int8]:
        """Tap memory after the run, shape (depthwise_words, depthwise_lanes); empty without a depthwise engine."""
        return self.memories.taps

    @property
    def acc(self) -> npt.NDArray[np.int32]:
        """Accumulators after the run, shape (acc_words, cols)."""
        return self.memories.acc

    @property
    def param(self) -> npt.NDArray[np.int8]:
        """Parameter memory after the run, shape (param_channels, PARAM_RECORD_BYTES)."""
        return self.memories.param

    @cached_property
    def table(self) -> npt.NDArray[np.int8]:
        """Look-up tables after the run, shape (TABLE_WORDS, 1)."""
        return (self.memories.table ^ np.uint8(OFFSET)).view(np.int8)

    @property
    def on_chip(self) -> dict[Space, npt.NDArray[np.uint8]]:
        """All memories on the chip after the run, as bytes of shape (words, bytes of a word)."""
        return self.memories.on_chip(self.rows)

    def stamps(self, unit: Unit) -> tuple[Stamps, Stamps]:
        """Issue and completion cycles of one unit's instructions, in the unit's order."""
        mine = self.units == unit
        return self.issue[mine], self.complete[mine]

    def cause(self, unit: str, cause: str) -> int:
        """Cycles of `unit` (LOAD .. DEPTHWISE, FETCH) with `cause` (busy, memory, wait.LOAD .., empty)."""
        return int(self.causes[COUNTED_UNITS.index(unit), CAUSES.index(cause)])
