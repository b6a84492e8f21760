"""Cycles and bytes of a run: one row per layer, and SCALE-Sim's formula beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from itertools import accumulate
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from accel.machine import isa
from accel.machine.isa import Opcode
from accel.program.program import LayerInfo, Program


class Timed(Protocol):
    """The figures of a run that a report needs: its length, and cycles of the instructions in program order."""

    @property
    def total_cycles(self) -> int:
        """Length of the run."""
        ...

    @property
    def issue(self) -> NDArray[np.int64]:
        """Issue cycle of every instruction, in program order."""
        ...

    @property
    def occupied(self) -> NDArray[np.int64]:
        """Last cycle in which every instruction holds its unit, in program order."""
        ...

    @property
    def complete(self) -> NDArray[np.int64]:
        """Completion cycle of every instruction, in program order."""
        ...


@dataclass(frozen=True, eq=False)
class Timeline:
    """Runs one after the other, in cycles from the start of the first."""

    total_cycles: int
    issue: NDArray[np.int64]
    occupied: NDArray[np.int64]
    complete: NDArray[np.int64]

    @classmethod
    def of(cls, runs: Sequence[Timed]) -> Timeline:
        """The instructions of all runs, those of each behind the end of the one before."""
        starts = [0, *accumulate(run.total_cycles for run in runs)]
        stamps = (
            [np.zeros(0, np.int64), *(getattr(run, kind) + start for run, start in zip(runs, starts, strict=False))]
            for kind in ("issue", "occupied", "complete")
        )
        return cls(starts[-1], *map(np.concatenate, stamps))


class Column(NamedTuple):
    """A column of a table.

    Parameters
    ----------
    heading : str
    is_text : bool
        Left-aligned, and folded where the table is too wide; numbers are never cut.
    only_wide : bool
        Left out unless the table may be wider than 80 columns.
    """

    heading: str
    is_text: bool = False
    only_wide: bool = False


def _column(heading: str, *, is_text: bool = False, only_wide: bool = False) -> Any:
    """A field that reports show under `heading`."""
    return field(metadata={"column": Column(heading, is_text, only_wide)})


@dataclass(frozen=True)
class LayerRow:
    """One layer of a run; every field is a column of the table, in this order.

    Parameters
    ----------
    cycles : int
        Cycles in which the array worked for the layer; of the others those in which the depthwise engine did; of the
        rest those in which it held the oldest unfinished instruction (`layer_periods`). The sum is the run's total.
    hidden_cycles : int
        Cycles in which the depthwise engine worked for the layer while the array worked for another.
    utilization : float
        MACs per cycle, hidden or not, over the array's peak; 0 for layers without weights.
    bound : str
        Unit that the layer's own instructions occupy for most of its cycles: "array", "depthwise", "post", "load" or
        "store"; "latency" if nothing is occupied for longer than any of them.
    read_bytes, written_bytes : int
        External memory traffic of its LOADs and STOREs.
    scalesim_cycles : int
        Weight-stationary cycles of SCALE-Sim (`scalesim_cycles`), 0 for layers without weights.
    """

    name: str = _column("layer", is_text=True)
    op: str = _column("operator", is_text=True)
    macs: int = _column("MACs")
    cycles: int = _column("cycles")
    hidden_cycles: int = _column("hidden", only_wide=True)
    utilization: float = _column("utilization")
    bound: str = _column("bound", is_text=True)
    read_bytes: int = _column("read B", only_wide=True)
    written_bytes: int = _column("written B", only_wide=True)
    scalesim_cycles: int = _column("SCALE-Sim", only_wide=True)

    @classmethod
    def columns(cls) -> list[Column]:
        """The columns of a table of layers."""
        return [one.metadata["column"] for one in fields(cls)]

    @classmethod
    def total(cls, rows: Sequence[LayerRow], name: str) -> LayerRow:
        """Sums of the numbers; the utilization is that of all cycles, texts but the name are empty."""
        values = {one.name: sum(getattr(row, one.name) for row in rows) for one in fields(cls) if one.type == "int"}
        peaks = (row.macs / row.utilization / (row.cycles + row.hidden_cycles) for row in rows if row.macs)
        peak = max(peaks, default=0)
        utilization = values["macs"] / (peak * values["cycles"]) if peak else 0.0
        return cls(name=name, op="", bound="", utilization=utilization, **values)


def scalesim_cycles(layer: LayerInfo, rows: int, cols: int) -> int:
    """Cycles of a weight-stationary array in SCALE-Sim, which drains it between tiles.

    Notes
    -----
    SCALE-Sim knows dense convolutions only, so that groups follow a convention. A grouped convolution is one layer for
    each group, one after the other. A depthwise convolution (groups of one input channel) is, as in the tool's own
    topology of MobileNet, one layer whose filters, one for each multiple of the channels, see all of them. Checked
    against version 3.0.0 of the tool, 16x16, 42 pixels, kernel 3x3: 4 groups of 2 to 2 channels take 4 * 175 cycles,
    6 channels depthwise 351. (Layers whose names hold "DP" are one layer for each channel in the tool: 6 * 87.)

    References
    ----------
    Samajdar et al., "SCALE-Sim: Systolic CNN Accelerator Simulator", 2018, section 3: folds * (2R + C + M - 2) - 1.
    """
    if not layer.macs:
        return 0
    depth, width, count = layer.k, layer.n // layer.groups, layer.groups
    if depth == layer.taps:
        depth, count = depth * layer.groups, 1
    return count * (-(-depth // rows) * -(-width // cols) * (layer.m + 2 * rows + cols - 2) - 1)


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


@dataclass(frozen=True)
class Periods:
    """Disjoint periods of cycles [starts, stops), ascending; both of shape (periods,)."""

    starts: NDArray[np.int64]
    stops: NDArray[np.int64]

    @classmethod
    def union(cls, starts: NDArray[np.int64], stops: NDArray[np.int64]) -> Periods:
        """Every cycle of periods that may overlap, once."""
        order = np.argsort(starts, kind="stable")
        ends = np.maximum.accumulate(stops[order])
        return cls(np.maximum(starts[order], np.concatenate([[0], ends[:-1]])), ends)

    @property
    def cycles(self) -> int:
        """Length of all periods."""
        return int((self.stops - self.starts).sum())

    def common(self, other: Periods) -> int:
        """Cycles that lie in both."""
        return int((self.before(other.stops) - self.before(other.starts)).sum())

    def hold(self, cycles: NDArray[np.int64]) -> NDArray[np.bool_]:
        """For each cycle whether it lies in one of these periods."""
        index = np.searchsorted(self.stops, cycles, side="right")
        return np.asarray(np.append(self.starts, np.iinfo(np.int64).max)[index] <= cycles)

    def before(self, cycles: NDArray[np.int64]) -> NDArray[np.int64]:
        """For each cycle, how many earlier ones lie in these periods."""
        index = np.searchsorted(self.stops, cycles)
        started = np.append(self.starts, np.iinfo(np.int64).max)[index]
        sums = np.concatenate([[0], np.cumsum(self.stops - self.starts)])
        return np.asarray(sums[index] + np.maximum(cycles - started, 0))


def layer_periods(program: Program, run: Timed) -> list[Periods]:
    """Attribute every cycle of a run to one layer, so that the sum is the total and no utilization exceeds 1.

    A cycle belongs to the layer whose EXEC holds the array; if none does, to the layer whose DEPTHWISE holds the
    engine; if none does, to the layer of the oldest instruction that is not complete.
    """
    layers, opcodes = np.array(program.instruction_layers, np.int64), _opcodes(program)
    count = len(program.layers)
    ends = np.zeros(count, np.int64)
    np.maximum.at(ends, layers, run.complete + 1)
    ends = np.maximum.accumulate(ends)
    users = [np.flatnonzero(opcodes == opcode) for opcode in (Opcode.EXEC, Opcode.DEPTHWISE)]
    held = [_held(run, indices) for indices in users]
    edges = [edge for periods in held for edge in (periods.starts, periods.stops)]
    bounds = boundaries([0, run.total_cycles], ends[:-1], *edges)
    starts, stops = bounds[:-1], bounds[1:]
    owner = np.minimum(np.searchsorted(ends, starts, side="right"), count - 1)
    for indices, periods in zip(reversed(users), reversed(held), strict=True):
        holder = np.searchsorted(periods.stops, starts, side="right")
        is_held = np.append(periods.starts, run.total_cycles)[holder] <= starts
        owner = np.where(is_held, np.append(layers[indices], 0)[holder], owner)
    return [Periods(starts[owner == i], stops[owner == i]) for i in range(count)]


def boundaries(*cycles: ArrayLike) -> NDArray[np.int64]:
    """All cycles, ascending, each once; `np.unique` imports `numpy.ma` first, which takes longer than a small run."""
    every = np.sort(np.concatenate(cycles))
    return np.asarray(every[np.diff(every, prepend=every[0] - 1) > 0])


def _opcodes(program: Program) -> NDArray[np.int64]:
    opcodes: NDArray[np.int64] = isa.decode_table(program.code)[:, 0]
    return opcodes


def _held(run: Timed, indices: NDArray[np.intp]) -> Periods:
    """Cycles in which some of the instructions `indices` hold their units, one period for each instruction."""
    return Periods.union(run.issue[indices], run.occupied[indices] + 1)


_GROUPS = {
    "array": Opcode.EXEC,
    "depthwise": Opcode.DEPTHWISE,
    "post": Opcode.POST,
    "load": Opcode.LOAD,
    "store": Opcode.STORE,
}
"""Units that may hold a layer back, and the opcode that each of them executes."""


def bounds_of(program: Program, run: Timed, periods: list[Periods]) -> list[str]:
    """What holds each layer back: see `LayerRow.bound`."""
    opcodes, layers = _opcodes(program), np.array(program.instruction_layers, np.int64)
    return [
        _bound(run, mine, {name: np.flatnonzero((opcodes == o) & (layers == i)) for name, o in _GROUPS.items()})
        for i, mine in enumerate(periods)
    ]


def _bound(run: Timed, mine: Periods, groups: dict[str, NDArray[np.intp]]) -> str:
    """The group of instructions that occupies most of the cycles `mine`, or "latency"."""
    cycles = {name: _occupied(run, mine, indices) for name, indices in groups.items()}
    cycles["latency"] = mine.cycles - _occupied(run, mine, np.concatenate(list(groups.values())))
    return max(cycles, key=lambda name: cycles[name])


def _occupied(run: Timed, mine: Periods, indices: NDArray[np.intp]) -> int:
    return mine.common(_held(run, indices))


def layer_rows(program: Program, run: Timed) -> list[LayerRow]:
    """One row per layer, in order; the cycles sum to `run.total_cycles`."""
    config = program.config
    read, written = traffic(program)
    owner = np.array(program.instruction_layers, np.int64)
    periods = layer_periods(program, run)
    bounds = bounds_of(program, run, periods)
    in_engine = _opcodes(program) == Opcode.DEPTHWISE
    rows = []
    for i, layer in enumerate(program.layers):
        mine, cycles = owner == i, periods[i].cycles
        engine = _held(run, np.flatnonzero(mine & in_engine))
        hidden = engine.cycles - engine.common(periods[i])
        rows.append(
            LayerRow(
                layer.name,
                layer.op,
                layer.macs,
                cycles,
                hidden,
                layer.macs / ((cycles + hidden) * config.rows * config.cols) if cycles + hidden else 0.0,
                bounds[i],
                int(read[mine].sum()),
                int(written[mine].sum()),
                scalesim_cycles(layer, config.rows, config.cols),
            )
        )
    return rows
