"""Depthwise layers of real networks: in the engine, and on the array of the same machine without one."""

from __future__ import annotations

import dataclasses

from accel import api
from accel.coverify import random_inputs
from accel.graph import Graph
from accel.program import Program
from accel.report import LayerRow

HEADER = [
    "| network | layers | MACs | engine: cycles | MACs/cycle | array: cycles | MACs/cycle | ratio | least of a layer |",
    "|---|---|---|---|---|---|---|---|---|",
]


def row(graph: Graph, program: Program) -> str | None:
    """One line of the table; None if no layer runs in the engine."""
    names = {operator.name for operator in program.operators if operator.unit == "depthwise"}
    if not names:
        return None
    diagonal = api.compile(graph, dataclasses.replace(program.config, depthwise_taps=0))
    ours, theirs = _layers(program, names), _layers(diagonal, names)
    macs = sum(layer.macs for layer in ours.values())
    totals = [sum(layer.cycles for layer in layers.values()) for layers in (ours, theirs)]
    ratios = {name: theirs[name].cycles / ours[name].cycles for name in names}
    least = min(sorted(names), key=lambda name: ratios[name])
    cells = [f"{len(names)}", f"{macs:,}"]
    cells += [cell for total in totals for cell in (f"{total:,}", f"{macs / total:.1f}")]
    cells += [f"{totals[1] / totals[0]:.2f}", f"{ratios[least]:.2f} ({least}, bound by {ours[least].bound})"]
    return f"| {graph.name} | {' | '.join(cells)} |"


def _layers(program: Program, names: set[str]) -> dict[str, LayerRow]:
    return {layer.name: layer for layer in api.run(program, random_inputs(program, 0)).layers if layer.name in names}
