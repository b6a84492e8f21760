"""Results as tables for people and as JSON for machines."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from accel.program.program import OperatorInfo
from accel.report.layers import LayerRow

if TYPE_CHECKING:
    from rich.table import Table

_NAME_WIDTH = 22


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


_LAYERS = (
    Column("layer", is_text=True),
    Column("operator", is_text=True),
    Column("MACs"),
    Column("cycles"),
    Column("hidden", only_wide=True),
    Column("utilization"),
    Column("bound", is_text=True),
    Column("read B", only_wide=True),
    Column("written B", only_wide=True),
    Column("SCALE-Sim", only_wide=True),
)


def make_table(
    title: str, columns: Sequence[Column], sections: Sequence[Iterable[Sequence[str]]], *, wide: bool
) -> Table:
    """A rich table of sections of rows; every row has a cell for each column, shown or not."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(title=title, box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    shown = [index for index, column in enumerate(columns) if wide or not column.only_wide]
    for index in shown:
        if columns[index].is_text:
            table.add_column(columns[index].heading, max_width=_NAME_WIDTH, overflow="fold")
        else:
            table.add_column(columns[index].heading, justify="right", no_wrap=True)
    for rows in sections:
        table.add_section()
        for row in rows:
            table.add_row(*(row[index] for index in shown))
    return table


def layer_table(rows: list[LayerRow], title: str, *, host: Sequence[OperatorInfo] = (), wide: bool) -> Table:
    """A rich table of a run's layers with their sum, then of the operators on the host, which the sum leaves out."""
    total = _total(rows, "total on the machine" if host else "total")
    sections = [map(_cells, rows), [_cells(total)]]
    if host:
        macs = sum(operator.macs for operator in host)
        sections += [map(_host_cells, host), [_host_cells(OperatorInfo("total on the host", "", "", "", macs))]]
    return make_table(title, _LAYERS, sections, wide=wide)


def _host_cells(operator: OperatorInfo) -> list[str]:
    return [operator.name, operator.op, f"{operator.macs:,}", "-", "-", "-", operator.unit, "-", "-", "-"]


def _cells(row: LayerRow) -> list[str]:
    return [
        *(row.name, row.op, f"{row.macs:,}", f"{row.cycles:,}", f"{row.hidden_cycles:,}"),
        *(f"{row.utilization:.1%}", row.bound),
        *(f"{number:,}" for number in (row.read_bytes, row.written_bytes, row.scalesim_cycles)),
    ]


def _total(rows: list[LayerRow], name: str) -> LayerRow:
    def total(field: str) -> int:
        return sum(getattr(row, field) for row in rows)

    peak = max((row.macs / row.utilization / (row.cycles + row.hidden_cycles) for row in rows if row.macs), default=0)
    return LayerRow(
        name,
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
