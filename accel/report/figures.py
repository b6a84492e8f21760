"""The pictures of an inference, one function for each; all are figures of matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from accel.machine.isa import Opcode, Unit, decode_table
from accel.page import new_figure, short_name
from accel.report.causes import CAUSES
from accel.report.layers import Periods
from accel.report.occupancy import Occupancy
from accel.report.report import Report

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLORS = {
    "array": "#2b6cb0", "depthwise": "#63a4dd",
    "wait.LOAD": "#c0392b", "wait.EXEC": "#8e5ea2", "wait.POST": "#e59866", "wait.STORE": "#e6b800",
    "wait.DEPTHWISE": "#b39ddb",
    "post": "#7fb77e", "load": "#3d8f6d", "store": "#a6c36f", "none": "#c8c8c8",
}  # fmt: skip
"""Blue works on sums, warm colours wait, green is the other units."""

BINS = 500
"""Columns of pictures over time."""


def roofline(report: Report) -> Figure:
    """Every layer with MACs: products a cycle over products a byte of the busier external channel."""
    config = report.program.config
    figure = new_figure(10, 4.5)
    figure.subplots_adjust(left=0.1, right=0.98, top=0.97, bottom=0.12)
    axes = figure.subplots()
    rows = [row for row in report.layers if row.macs and row.cycles + row.hidden_cycles]
    xs = [row.macs / max(row.read_bytes, row.written_bytes, 1) for row in rows]
    ys = [row.macs / (row.cycles + row.hidden_cycles) for row in rows]
    for bound in sorted({row.bound for row in rows}):
        chosen = [i for i, row in enumerate(rows) if row.bound == bound]
        label = f"held back by {bound}"
        points = [xs[i] for i in chosen], [ys[i] for i in chosen]
        axes.plot(*points, "o", color=COLORS.get(bound, "#555"), markersize=5, alpha=0.8, label=label)
    low, high = min([0.5, *xs]) / 2, max([1e3, *xs]) * 2
    for peak, name, style in (
        (config.rows * config.cols, "array", "-"),
        (config.depthwise_multipliers, "depthwise engine", ":"),
    ):
        if peak:
            line = np.geomspace(low, high, 200)
            axes.plot(line, np.minimum(peak, line * config.bus_bytes), style, color="#333", linewidth=1)
            axes.text(high, peak, f"{name}: {peak:,}", fontsize=8, ha="right", va="bottom")
    axes.set(xscale="log", yscale="log", xlim=(low, high))
    axes.set_xlabel("MACs per byte of the busier external channel")
    axes.set_ylabel("MACs per cycle")
    if rows:
        axes.legend(fontsize=8, loc="lower right")
    axes.grid(alpha=0.3)
    return figure


def layer_cycles(report: Report) -> Figure:
    """Cycles of each layer, stacked by cause."""
    figure, axes = _layer_panels(report, 1)
    starts = np.zeros(len(report.layers))
    for cause in CAUSES:
        values = np.array([causes[cause] for causes in report.causes])
        if values.any():
            axes[0].barh(range(len(values)), values, left=starts, color=COLORS[cause], label=cause)
            starts = starts + values
    axes[0].set_xlabel("cycles", fontsize=8)
    _legend_above(axes[0], len(CAUSES))
    return figure


def layer_sizes(report: Report) -> Figure:
    """Traffic, energy and distance to the bound of each layer."""
    figure, (traffic, energy, distance) = _layer_panels(report, 3)
    rows, places = report.layers, range(len(report.layers))
    _stacked(traffic, places, {"read": [r.read_bytes for r in rows], "written": [r.written_bytes for r in rows]})
    traffic.set_xlabel("external bytes", fontsize=8)
    parts = ("arithmetic", "on_chip", "external")
    _stacked(energy, places, {p: [getattr(one, p) / 1e6 for one in report.energies] for p in parts})
    energy.set_xlabel("microjoules", fontsize=8)
    distance.barh(places, [ratio or 0 for ratio in distances(report)], color="#888")
    distance.axvline(1, color="#c0392b", linewidth=1)
    distance.set_xlabel("cycles / lower bound", fontsize=8)
    return figure


def distances(report: Report) -> list[float | None]:
    """For each layer its cycles, hidden ones too, over its lower bound; None without one."""
    pairs = zip(report.layers, report.bounds, strict=True)
    return [(row.cycles + row.hidden_cycles) / bound.cycles if bound.cycles else None for row, bound in pairs]


def unit_timeline(report: Report) -> Figure:
    """How busy each unit is over time."""
    timeline, opcodes = report.timeline, decode_table(report.program.code)[:, 0]
    edges = _edges(report)
    figure = new_figure(10, 3.2)
    figure.subplots_adjust(left=0.1, right=0.98, top=0.97, bottom=0.15, hspace=0.15)
    panels = figure.subplots(len(Unit), 1, sharex=True, squeeze=False)[:, 0]
    for unit, axes in zip(Unit, panels, strict=True):
        mine = opcodes == Opcode[unit.name]
        held = Periods.union(timeline.issue[mine], timeline.occupied[mine] + 1)
        busy = np.diff(held.before(edges)) / np.diff(edges)
        axes.stairs(busy, edges, fill=True, color="#2b6cb0")
        axes.set(ylim=(0, 1), yticks=[], xlim=(0, edges[-1]))
        axes.set_ylabel(unit.name, rotation=0, ha="right", va="center", fontsize=8)
    _cycle_axis(panels[-1])
    return figure


def memory_occupancy(report: Report, memories: Sequence[Occupancy]) -> Figure:
    """The most words of each memory that are occupied in each part of the run."""
    edges = _edges(report)
    figure = new_figure(10, 3.2)
    figure.subplots_adjust(left=0.1, right=0.98, top=0.97, bottom=0.15)
    axes = figure.subplots()
    for memory in memories:
        if memory.peak:
            shares = [100 * most / memory.words for most in _most(memory, edges)]
            axes.stairs(shares, edges, label=memory.name, linewidth=1.2)
    axes.set(ylim=(0, 105), xlim=(0, edges[-1]))
    _cycle_axis(axes)
    axes.set_ylabel("% of words occupied", fontsize=8)
    if any(memory.peak for memory in memories):
        axes.legend(fontsize=8, loc="upper right")
    return figure


def _most(memory: Occupancy, edges: np.ndarray[Any, Any]) -> list[int]:
    """The largest occupancy between each two edges."""
    first = np.searchsorted(memory.cycles, edges[:-1], side="right") - 1
    last = np.searchsorted(memory.cycles, edges[1:], side="left")
    return [int(memory.occupied[a : max(b, a + 1)].max()) for a, b in zip(first, last, strict=True)]


def _cycle_axis(axes: Axes) -> None:
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.tick_params(labelsize=8)
    axes.set_xlabel("cycle", fontsize=8)


def _edges(report: Report) -> np.ndarray[Any, Any]:
    """Cycles at which the columns of a picture over time begin and end."""
    cycles = max(report.cycles, 1)
    return np.unique(np.linspace(0, cycles, min(BINS, cycles) + 1).astype(np.int64))


def _stacked(axes: Axes, places: range, parts: dict[str, list[Any]]) -> None:
    starts = np.zeros(len(places))
    for (name, values), color in zip(parts.items(), ("#2b6cb0", "#7fb77e", "#e59866"), strict=False):
        axes.barh(places, values, left=starts, color=color, label=name)
        starts = starts + np.array(values, float)
    _legend_above(axes, len(parts))


def _legend_above(axes: Axes, columns: int) -> None:
    """A legend that covers no bar."""
    if axes.patches:
        place = {"loc": "lower left", "bbox_to_anchor": (0, 1), "borderaxespad": 0.2}
        axes.legend(fontsize=7, ncols=columns, frameon=False, handlelength=1, columnspacing=1, **place)


def _tick(value: float, place: int | None = None) -> str:
    """A number below an axis; large ones in thousands."""
    return f"{value / 1000:,g}k" if value >= 10_000 else f"{value:,g}"


def _layer_panels(report: Report, count: int) -> tuple[Figure, Any]:
    """`count` panels of horizontal bars side by side, a bar for each layer."""
    names = [short_name(row.name, 34) for row in report.layers]
    height = 1.2 + 0.18 * len(names)
    figure = new_figure(10, height)
    figure.subplots_adjust(left=0.22, right=0.98, top=1 - 0.35 / height, bottom=0.5 / height, wspace=0.1)
    panels = figure.subplots(1, count, sharey=True, squeeze=False)[0]
    panels[0].set_yticks(range(len(names)), names, fontsize=7)
    panels[0].set_ylim(len(names) - 0.4, -0.6)
    for axes in panels:
        axes.tick_params(axis="x", labelsize=7)
        axes.xaxis.set_major_formatter(_tick)
        axes.locator_params(axis="x", nbins=12 // count)
        axes.grid(axis="x", alpha=0.3)
    return figure, panels
