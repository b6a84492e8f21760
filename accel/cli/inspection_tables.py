"""Summaries of networks and programs as tables for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from accel.cli.console import counted
from accel.cli.tables import make_table
from accel.machine.isa import Unit
from accel.network.graph import Tensor
from accel.program.program import TensorSlot
from accel.report.inspection import GraphSummary, OperatorRow, ProgramLayerRow, ProgramSummary
from accel.report.layers import Column
from accel.report.placement import operator_lines

if TYPE_CHECKING:
    from rich.table import Table

_UNITS = tuple(unit.name for unit in Unit)
_OPERATORS = (
    Column("name", is_text=True),
    Column("operator", is_text=True),
    Column("inputs", is_text=True, only_wide=True),
    Column("output", is_text=True),
    Column("scale"),
    Column("zero"),
    Column("multiplier", only_wide=True),
    Column("shift", only_wide=True),
    Column("weight B"),
    Column("MACs"),
)
_PROGRAM_LAYERS = (
    Column("layer", is_text=True),
    Column("operator", is_text=True),
    *(Column(name, only_wide=True) for name in ("m", "k", "n", *_UNITS)),
    Column("instructions"),
    Column("read B"),
    Column("written B"),
    Column("MACs"),
)


def summarize(summary: GraphSummary | ProgramSummary, name: str, *, wide: bool) -> tuple[Table, list[str]]:
    """A table of the operators or layers, and lines of text with further facts."""
    if isinstance(summary, GraphSummary):
        return graph_table(summary, name, wide=wide), []
    return program_table(summary, name, wide=wide), program_facts(summary)


def graph_table(summary: GraphSummary, name: str, *, wide: bool) -> Table:
    """One row per input and operator; multipliers as fractions of 2**31, ranges over the channels."""
    title = f"{name}: {counted(len(summary.operators), 'operator')}, mode {summary.mode}"
    rows = [_input(tensor) for tensor in summary.inputs] + [_operator(row) for row in summary.operators]
    total = ["total", *[""] * 7, f"{summary.weight_bytes:,}", f"{summary.macs:,}"]
    return make_table(title, _OPERATORS, [rows, [total]], wide=wide)


def _input(tensor: Tensor) -> list[str]:
    return [tensor.name, "input", "", _shape(tensor), *_parameters(tensor), "", "", "", ""]


def _operator(row: OperatorRow) -> list[str]:
    multipliers, shifts = [], []
    for multiplier, shift in row.multipliers:
        multipliers.append(_range([f"{value / 2**31:.4f}" for value in (multiplier.min(), multiplier.max())]))
        shifts.append(_range([str(value) for value in (shift.min(), shift.max())]))
    return [
        row.name, row.op, "\n".join(map(_shape, row.inputs)), _shape(row.output), *_parameters(row.output),
        "\n".join(multipliers), "\n".join(shifts), f"{row.weight_bytes:,}", f"{row.macs:,}",
    ]  # fmt: skip


def program_table(summary: ProgramSummary, name: str, *, wide: bool) -> Table:
    """One row per layer."""
    title = f"{name}: {counted(len(summary.layers), 'layer')} for {summary.config}"
    if summary.host.operators:
        title += f"; {summary.host}"
    counts = [sum(row.instructions[unit] for row in summary.layers) for unit in _UNITS]
    read, written = (sum(getattr(row, name) for row in summary.layers) for name in ("read_bytes", "written_bytes"))
    sums = (*counts, sum(counts), read, written, summary.macs)
    total = ["total", *[""] * 4, *(f"{value:,}" for value in sums)]
    return make_table(title, _PROGRAM_LAYERS, [map(_program_layer, summary.layers), [total]], wide=wide)


def _program_layer(row: ProgramLayerRow) -> list[str]:
    counts = [row.instructions[unit] for unit in _UNITS]
    values = (row.m, row.k, row.n, *counts, sum(counts), row.read_bytes, row.written_bytes, row.macs)
    return [row.name, row.op, *(f"{value:,}" for value in values)]


def program_facts(summary: ProgramSummary) -> list[str]:
    """Facts of a program that the table of layers lacks, a line each."""
    return [
        *_tensors("input", summary.inputs),
        *_tensors("output", summary.outputs),
        f"machine {summary.config}",
        f"fingerprint {summary.fingerprint}",
        f"{summary.instructions:,} instructions of {summary.code_bytes:,} bytes, {summary.constant_bytes:,} constant "
        f"bytes, {summary.memory_bytes:,} bytes of memory",
        *operator_lines(summary.operators),
    ]


def _tensors(kind: str, slots: Sequence[TensorSlot]) -> list[str]:
    return [f"{kind} {s.name}: {_shape(s.tensor)}, scale {s.scale:.9g}, zero point {s.zero_point}" for s in slots]


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape[1:]))


def _parameters(tensor: Tensor) -> tuple[str, str]:
    return f"{tensor.scale:.5g}", str(tensor.zero_point)


def _range(ends: Sequence[str]) -> str:
    return "..".join(dict.fromkeys(ends))
