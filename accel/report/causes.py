"""Cycles of each layer by cause: who worked, and what the array or the depthwise engine waited for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accel.machine.isa import Unit
from accel.program.program import Program
from accel.report.layers import Periods, Timeline, boundaries, layer_periods
from accel.report.slots import slots

CAUSES = (
    "array", "depthwise",
    "wait.LOAD", "wait.EXEC", "wait.POST", "wait.STORE", "wait.DEPTHWISE",
    "post", "load", "store", "none",
)  # fmt: skip
"""The first that holds names a cycle: the array works; the depthwise engine does; one of them has an instruction that
waits for a unit's token; they have none, and POST, LOAD or STORE is occupied; nothing is."""

_WORK = {"array": Unit.EXEC, "depthwise": Unit.DEPTHWISE, "post": Unit.POST, "load": Unit.LOAD, "store": Unit.STORE}


def layer_causes(program: Program, runs: Sequence[Any]) -> list[dict[str, int]]:
    """For each layer its cycles (`accel.report.layers.layer_periods`) by cause, zeros included; they sum to its cycles.

    Parameters
    ----------
    program : Program
    runs : sequence of sim.Timing
        One for each machine segment.
    """
    timeline = Timeline.of(runs)
    held = _held(program, runs)
    layers = layer_periods(program, timeline)
    edges = [edge for periods in (*held.values(), *layers) for edge in (periods.starts, periods.stops)]
    bounds = boundaries([0, timeline.total_cycles], *edges)
    starts, lengths = bounds[:-1], np.diff(bounds)
    cause = np.select([held[name].hold(starts) for name in CAUSES[:-1]], range(len(CAUSES) - 1), len(CAUSES) - 1)
    result = []
    for periods in layers:
        mine = periods.hold(starts)
        counts = np.bincount(cause[mine], lengths[mine], len(CAUSES)).astype(int)
        result.append(dict(zip(CAUSES, counts.tolist(), strict=True)))
    return result


def _held(program: Program, runs: Sequence[Any]) -> dict[str, Periods]:
    """For each cause but the last the cycles in which it holds, others aside."""
    found: dict[str, list[tuple[int, int]]] = {name: [] for name in CAUSES[:-1]}
    for name, start, stop in _intervals(program, runs):
        found[name].append((start, stop))
    return {name: _union(np.array(intervals, np.int64).reshape(-1, 2)) for name, intervals in found.items()}


def _intervals(program: Program, runs: Sequence[Any]) -> Iterator[tuple[str, int, int]]:
    names = {unit: name for name, unit in _WORK.items()}
    starts = accumulate((run.total_cycles for run in runs), initial=0)
    for segment, run, start in zip(program.machine_segments, runs, starts, strict=False):
        for slot in slots(program.code_of(segment), run):
            yield names[slot.unit], slot.begin + start, slot.end + start
            if slot.unit in (Unit.EXEC, Unit.DEPTHWISE):
                for wait in slot.waits:
                    yield f"wait.{wait.cause.name}", wait.start + start, wait.stop + start


def _union(intervals: NDArray[np.int64]) -> Periods:
    return Periods.union(intervals[:, 0], intervals[:, 1])
