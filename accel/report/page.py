"""An inference as one HTML page that needs nothing else: pictures, and tables of the numbers behind them."""

from __future__ import annotations

from collections.abc import Sequence

from accel.page import check_library, note, page, table, to_svg
from accel.report import figures
from accel.report.causes import CAUSES
from accel.report.layers import LayerRow
from accel.report.occupancy import Occupancy
from accel.report.placement import host_share
from accel.report.report import Report

ROOFLINE = (
    "One point for each layer with products. The line is what the array, or the depthwise engine (dotted), and one bus "
    "allow; a layer may lie above the slope if its data was loaded while another layer worked."
)
CYCLES = (
    "Every cycle belongs to one layer. array, depthwise: that unit works; wait.U: it has an instruction that waits for "
    "unit U; post, load, store: neither has an instruction, and that unit is busy; none: nothing is. A layer whose "
    "cycles lie under those of another (hidden) has a short bar or none."
)
SIZES = (
    "The lower bound of a layer counts the steps of its busiest unit and the beats of its weights, alone. Hidden "
    "cycles count. A layer is below 1 if it was loaded, or post-processed, in cycles of another layer."
)
TIMELINE = "The share of each moment in which a unit is occupied."
MEMORY = (
    "The most words that hold something that is still read, in each moment: from the issue of the instruction that "
    "writes a word to the completion of its last reader."
)


def to_html(report: Report, memories: Sequence[Occupancy], title: str) -> str:
    """The page of a report, the same bytes each time.

    Raises
    ------
    ToolError
        matplotlib is not installed.
    """
    check_library()
    bound, host = report.bound.cycles, host_share(report.program.operators)
    distance = f" ({report.cycles / bound:.3f} times the lower bound of {bound:,})" if bound else ""
    beside = [f"<p>{host}: no part of the cycles.</p>"] if host.operators else []
    return page(
        title,
        [
            f"<p><b>{report.cycles:,} cycles</b>{distance}; {report.speed}.</p>",
            *beside,
            "<h2>Roofline</h2>", note(ROOFLINE), to_svg(figures.roofline(report)),
            "<h2>Cycles by cause</h2>", note(CYCLES), to_svg(figures.layer_cycles(report)),
            "<h2>Units over time</h2>", note(TIMELINE), to_svg(figures.unit_timeline(report)),
            "<h2>Memories over time</h2>", note(MEMORY), to_svg(figures.memory_occupancy(report, memories)),
            "<h2>Traffic, energy, distance to the bound</h2>", note(SIZES), to_svg(figures.layer_sizes(report)),
            "<h2>Layers</h2>", _layers(report),
            "<h2>Causes of each layer's cycles</h2>", _causes(report),
            "<h2>Causes of each unit's cycles</h2>", _stalls(report),
            "<h2>Memories</h2>", _memories(memories),
        ],
    )  # fmt: skip


def _layers(report: Report) -> str:
    heads = ("layer", "operator", "MACs", "cycles", "hidden", "utilization", "held back by", "lower bound",
             "times the bound", "read B", "written B", "energy uJ")  # fmt: skip
    energies, bounds = [one.total for one in report.energies], [one.cycles for one in report.bounds]
    rows = [
        _layer(*values)
        for values in zip(report.layers, bounds, figures.distances(report), energies, strict=True)
    ]  # fmt: skip
    total, bound = LayerRow.total(report.layers, "network"), report.bound.cycles
    rows.append(_layer(total, bound, report.cycles / bound if bound else None, sum(energies)))
    return table(heads, rows)


def _layer(row: LayerRow, bound: int, distance: float | None, energy: float) -> list[str]:
    return [
        row.name, row.op, f"{row.macs:,}", f"{row.cycles:,}", f"{row.hidden_cycles:,}", f"{row.utilization:.1%}",
        row.bound, f"{bound:,}", "-" if distance is None else f"{distance:.3f}", f"{row.read_bytes:,}",
        f"{row.written_bytes:,}", f"{energy / 1e6:,.3f}",
    ]  # fmt: skip


def _causes(report: Report) -> str:
    rows = [
        [row.name, *(f"{causes[cause]:,}" for cause in CAUSES)]
        for row, causes in zip(report.layers, report.causes, strict=True)
    ]
    return table(("layer", *CAUSES), rows)


def _stalls(report: Report) -> str:
    heads = list(next(iter(report.stalls.values())))
    rows = [[unit, *(f"{causes[head]:,}" for head in heads)] for unit, causes in report.stalls.items()]
    return table(("unit", *heads), rows)


def _memories(memories: Sequence[Occupancy]) -> str:
    rows = [[one.name, f"{one.words:,}", f"{one.peak:,}", f"{one.peak / one.words:.1%}"] for one in memories]
    return table(("memory", "words", "most occupied", "share"), rows)
