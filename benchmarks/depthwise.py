"""Depthwise layers of real networks: in the engine, and on the array of the same machine without one.

A layer's cycles are those in which the engine works for it, beside the array or alone, and those in which it alone
holds the machine up (`accel.report.layers.LayerRow`).
"""

from __future__ import annotations

import dataclasses

from accel import api
from accel.coverify import random_inputs
from accel.network.graph import Graph
from accel.program.program import Program
from accel.report.layers import LayerRow

HEADER = [
    "| network | layers | MACs | engine: cycles | MACs/cycle | whole | array: cycles | MACs/cycle | whole | ratio | "
    "least of a layer |",
    "|---|---|---|---|---|---|---|---|---|---|---|",
]


def row(graph: Graph, program: Program) -> str | None:
    """One line of the table; None if no layer runs in the engine."""
    names = {operator.name for operator in program.operators if operator.unit == "depthwise"}
    if not names:
        return None
    diagonal = api.compile(graph, dataclasses.replace(program.config, depthwise_taps=0))
    runs = [api.run(p, random_inputs(p, 0)) for p in (program, diagonal)]
    ours, theirs = ({layer.name: layer for layer in run.layers if layer.name in names} for run in runs)
    macs = sum(layer.macs for layer in ours.values())
    totals = [sum(map(_cycles, layers.values())) for layers in (ours, theirs)]
    ratios = {name: _cycles(theirs[name]) / _cycles(ours[name]) for name in names}
    least = min(sorted(names), key=lambda name: ratios[name])
    cells = [f"{len(names)}", f"{macs:,}"]
    for total, run in zip(totals, runs, strict=True):
        cells += [f"{total:,}", f"{macs / total:.1f}", f"{run.cycles:,}"]
    cells += [f"{totals[1] / totals[0]:.2f}", f"{ratios[least]:.2f} ({least}, bound by {ours[least].bound})"]
    return f"| {graph.name} | {' | '.join(cells)} |"


def _cycles(layer: LayerRow) -> int:
    return layer.cycles + layer.hidden_cycles
