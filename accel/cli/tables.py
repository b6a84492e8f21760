"""Results as tables for people and as JSON for machines."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from accel.program.program import OperatorInfo
from accel.report.layers import Column, LayerRow

if TYPE_CHECKING:
    from rich.table import Table

_NAME_WIDTH = 22


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
    total = LayerRow.total(rows, "total on the machine" if host else "total")
    sections = [map(_cells, rows), [_cells(total)]]
    if host:
        macs = sum(operator.macs for operator in host)
        sections += [map(_host_cells, host), [_host_cells(OperatorInfo("total on the host", "", "", "", macs))]]
    return make_table(title, LayerRow.columns(), sections, wide=wide)


def _host_cells(operator: OperatorInfo) -> list[str]:
    known = {"name": operator.name, "op": operator.op, "macs": f"{operator.macs:,}", "bound": operator.unit}
    return [known.get(one.name, "-") for one in dataclasses.fields(LayerRow)]


def _cells(row: LayerRow) -> list[str]:
    return [_cell(value) for value in dataclasses.astuple(row)]


def _cell(value: str | int | float) -> str:
    """A share as a percentage, an integer with separators."""
    if isinstance(value, str):
        return value
    return f"{value:.1%}" if isinstance(value, float) else f"{value:,}"


def to_json(value: Any) -> str:
    """JSON of dataclasses, mappings, sequences and numbers, keys sorted."""
    return json.dumps(value, default=_plain, sort_keys=True, indent=2)


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if hasattr(value, "tolist"):
        return value.tolist()
    return str(value)
