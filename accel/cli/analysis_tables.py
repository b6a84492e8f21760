"""The tables that `accel analyze` and `accel evaluate` print."""

from __future__ import annotations

from typing import TYPE_CHECKING

from accel.analysis import Analysis, LayerAnalysis
from accel.cli.tables import make_table
from accel.report.layers import Column

if TYPE_CHECKING:
    from rich.table import Table

    from accel.evaluation import Evaluation

COLUMNS = (
    Column("layer", is_text=True),
    Column("operator", is_text=True, only_wide=True),
    Column("weights"),
    Column("values"),
    Column("so far", only_wide=True),
    Column("only it"),
    Column("all but it"),
    Column("noise"),
    Column("clipped"),
    Column("unused"),
    Column("weight spread", only_wide=True),
    Column("value spread", only_wide=True),
    Column("within 0.1", only_wide=True),
)
"""Columns whose heading is no share or ratio hold signal to quantization noise in dB."""


def analysis_table(analysis: Analysis, name: str, *, wide: bool) -> Table:
    """A rich table: a row for each layer."""
    title = (
        f"{name}: {analysis.sqnr:.1f} dB end to end on {analysis.samples} samples\n"
        "dB of weights, of values, and end to end with only this layer quantized or real"
    )
    return make_table(title, COLUMNS, [map(_cells, analysis.layers)], wide=wide)


def _cells(row: LayerAnalysis) -> list[str]:
    w, a = row.weights, row.activations
    return [
        row.name,
        row.kind,
        f"{w.sqnr:.1f}" if w else "-",
        f"{a.sqnr:.1f}" if a else "-",
        f"{a.sqnr_so_far:.1f}" if a else "-",
        f"{row.only_quantized:.1f}",
        f"{row.only_float:.1f}",
        f"{row.noise:.1f}x",
        f"{a.clipped:.1%}" if a else "-",
        f"{a.dead_codes:.0%}" if a else "-",
        f"{w.spread:.1f}x" if w else "-",
        f"{a.spread:.1f}x" if a else "-",
        f"{w.small:.1%}" if w else "-",
    ]


def evaluation_table(evaluation: Evaluation, name: str) -> Table:
    """A rich table: a row for each way to compute the network."""
    metrics = list(evaluation.rows[0].metrics)
    columns = [Column("network", is_text=True), *map(Column, metrics), Column("SQNR (dB)"), Column("seconds")]
    rows = [
        [
            row.network,
            *(f"{row.metrics[metric]:.2%}" for metric in metrics),
            "-" if row.sqnr is None else f"{row.sqnr:.2f}",
            f"{row.seconds:.1f}",
        ]
        for row in evaluation.rows
    ]
    return make_table(f"{name}: {evaluation.samples:,} samples", columns, [rows], wide=False)
