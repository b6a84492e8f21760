"""Results as tables for people and as JSON for machines."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

from accel.report.layers import LayerRow

if TYPE_CHECKING:
    from rich.table import Table

_HEADINGS = (
    "layer", "operator", "MACs", "cycles", "hidden", "utilization", "bound", "read B", "written B", "SCALE-Sim",
)  # fmt: skip


def layer_table(rows: list[LayerRow], title: str) -> Table:
    """A rich table of a run's layers, with their sum."""
    from rich.table import Table

    table = Table(title=title)
    for heading in _HEADINGS:
        table.add_column(heading, justify="left" if heading in ("layer", "operator", "bound") else "right")
    for row in rows:
        table.add_row(*_cells(row))
    table.add_section()
    table.add_row(*_cells(_total(rows)))
    return table


def _cells(row: LayerRow) -> list[str]:
    return [
        *(row.name, row.op, f"{row.macs:,}", f"{row.cycles:,}", f"{row.hidden_cycles:,}"),
        *(f"{row.utilization:.1%}", row.bound),
        *(f"{number:,}" for number in (row.read_bytes, row.written_bytes, row.scalesim_cycles)),
    ]


def _total(rows: list[LayerRow]) -> LayerRow:
    def total(name: str) -> int:
        return sum(getattr(row, name) for row in rows)

    peak = max((row.macs / row.utilization / (row.cycles + row.hidden_cycles) for row in rows if row.macs), default=0)
    return LayerRow(
        "total",
        "",
        total("macs"),
        total("cycles"),
        total("hidden_cycles"),
        total("macs") / (peak * total("cycles")) if peak else 0.0,
        total("read_bytes"),
        total("written_bytes"),
        total("scalesim_cycles"),
        "",
    )


def to_json(value: Any) -> str:
    """JSON of dataclasses, mappings, sequences and numbers, keys sorted."""
    return json.dumps(value, default=_plain, sort_keys=True, indent=2)


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if hasattr(value, "tolist"):
        return value.tolist()
    return str(value)
