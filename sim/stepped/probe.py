"""The registers of the array in a window of cycles, as the stepped engine has them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from accel.machine.config import ArchConfig
from accel.machine.latencies import EXEC_LATENCY
from sim.stepped.systolic import Array


class Snapshot(NamedTuple):
    """The array at the end of a cycle; arrays of shape (rows, cols).

    `sums` are ``weights * activations`` plus what the upper neighbours had in the cycle before; `shadows` are weights
    that wait.
    """

    cycle: int
    weights: npt.NDArray[np.int32]
    shadows: npt.NDArray[np.int32]
    activations: npt.NDArray[np.int32]
    sums: npt.NDArray[np.int32]


class Probe:
    """Collects snapshots of the cycles `first` .. `last`, counted over all runs that it is given to, one after another.

    Parameters
    ----------
    config : ArchConfig
    first, last : int
    """

    def __init__(self, config: ArchConfig, first: int, last: int) -> None:
        self._config, self._first, self._last = config, first, last
        self._before = 0
        self.snapshots: list[Snapshot] = []

    def end(self, total_cycles: int) -> None:
        """A run of so many cycles has ended: the next one follows it."""
        self._first, self._last = self._first - total_cycles, self._last - total_cycles
        self._before += total_cycles

    def cycles(self, first: int, last: int) -> Iterator[int]:
        """Cycles of the window in `first` .. `last`, and the one before it, up to which there is nothing to collect."""
        yield from range(max(first, self._first - 1), min(last, self._last) + 1)

    def collect(self, array: Array, cycle: int) -> None:
        """Copy the registers at the end of `cycle`, if it lies in the window."""
        if cycle < self._first:
            return
        rows, cols = self._config.rows, self._config.cols
        row, col = np.arange(rows)[:, None], np.arange(cols)
        depth, lines = array.activations.shape[1] // 2, array.sums.shape[0]
        newest = (EXEC_LATENCY - cycle) & (depth - 1)
        self.snapshots.append(
            Snapshot(
                self._before + cycle,
                array.weights[:, :cols].copy(),
                array.shadows[:, :cols].copy(),
                array.activations[row, newest + row + col],
                array.sums[(cycle - row) & (lines - 1), col],
            )
        )
