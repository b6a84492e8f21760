"""Summaries of networks and programs as tables for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from accel.machine.isa import Unit
from accel.network.graph import Tensor
from accel.program.program import TensorSlot
from accel.report.inspection import GraphSummary, OperatorRow, ProgramSummary
from accel.report.layers import operator_lines

if TYPE_CHECKING:
    from rich.table import Table

_NAME_WIDTH = 22
_UNITS = tuple(unit.name for unit in Unit)


def summarize(summary: GraphSummary | ProgramSummary, name: str) -> tuple[Table, list[str]]:
    """A table of the operators or layers, and what it does not say, a line each."""
    if isinstance(summary, GraphSummary):
        return graph_table(summary, name), []
    return program_table(summary, name), program_facts(summary)


def graph_table(summary: GraphSummary, name: str) -> Table:
    """One row per input and operator; multipliers as fractions of 2**31, ranges over the channels."""
    table = _table(
        f"{name}: {len(summary.operators)} operators, mode {summary.mode}",
        ("name", "operator", "inputs", "output"),
        ("scale", "zero", "multiplier", "shift", "weight B", "MACs"),
    )
    for tensor in summary.inputs:
        table.add_row(tensor.name, "input", "", _shape(tensor), *_parameters(tensor), "", "", "", "")
    for row in summary.operators:
        table.add_row(*_operator(row))
    table.add_section()
    table.add_row("total", *[""] * 7, f"{summary.weight_bytes:,}", f"{summary.macs:,}")
    return table


def _operator(row: OperatorRow) -> list[str]:
    multipliers, shifts = [], []
    for multiplier, shift in row.multipliers:
        multipliers.append(_range([f"{value / 2**31:.4f}" for value in (multiplier.min(), multiplier.max())]))
        shifts.append(_range([str(value) for value in (shift.min(), shift.max())]))
    return [
        row.name, row.op, "\n".join(map(_shape, row.inputs)), _shape(row.output), *_parameters(row.output),
        "\n".join(multipliers), "\n".join(shifts), f"{row.weight_bytes:,}", f"{row.macs:,}",
    ]  # fmt: skip


def program_table(summary: ProgramSummary, name: str) -> Table:
    """One row per layer."""
    numbers = ("m", "k", "n", *_UNITS, "read B", "written B", "MACs")
    table = _table(f"{name}: {len(summary.layers)} layers for {summary.config}", ("layer", "operator"), numbers)
    for row in summary.layers:
        counts = [row.instructions[unit] for unit in _UNITS]
        values = (row.m, row.k, row.n, *counts, row.read_bytes, row.written_bytes, row.macs)
        table.add_row(row.name, row.op, *(f"{value:,}" for value in values))
    table.add_section()
    counts = [sum(row.instructions[unit] for row in summary.layers) for unit in _UNITS]
    read, written = (sum(getattr(row, name) for row in summary.layers) for name in ("read_bytes", "written_bytes"))
    table.add_row("total", *[""] * 4, *(f"{value:,}" for value in (*counts, read, written, summary.macs)))
    return table


def program_facts(summary: ProgramSummary) -> list[str]:
    """What the table of layers does not say, a line each."""
    return [
        *_tensors("input", summary.inputs),
        *_tensors("output", summary.outputs),
        f"machine {summary.config}, fingerprint {summary.fingerprint}",
        f"{summary.instructions:,} instructions of {summary.code_bytes:,} bytes, {summary.constant_bytes:,} constant "
        f"bytes, {summary.memory_bytes:,} bytes of memory",
        *operator_lines(summary.operators),
    ]


def _tensors(kind: str, slots: Sequence[TensorSlot]) -> list[str]:
    return [f"{kind} {s.name}: {_shape(s.tensor)}, scale {s.scale:.9g}, zero point {s.zero_point}" for s in slots]


def _table(title: str, texts: Sequence[str], numbers: Sequence[str]) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(title=title, box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for heading in texts:
        table.add_column(heading, max_width=_NAME_WIDTH, overflow="fold")
    for heading in numbers:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape[1:]))


def _parameters(tensor: Tensor) -> tuple[str, str]:
    return f"{tensor.scale:.5g}", str(tensor.zero_point)


def _range(ends: Sequence[str]) -> str:
    return "..".join(dict.fromkeys(ends))
