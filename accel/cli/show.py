"""Commands that show what a model or program holds: inspect, disassemble, check."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from accel.cli.console import echo_json, echo_lines, print_table
from accel.cli.options import JSON, MODEL_CONFIG, WIDE, with_model
from accel.cli.relations import excludes, related

if TYPE_CHECKING:
    from accel.frontends.onnx.file import Shapes


@click.command()
@with_model
@WIDE
@JSON
@related(excludes("wide", "as_json"))
def inspect(model: Path, shapes: Shapes, wide: bool, as_json: bool) -> None:
    """List the operators of a MODEL, or the layers of a program.

    Operators come with shapes, scales, multipliers and sizes, layers with instructions and traffic.
    """
    from accel import api
    from accel.cli import inspection_tables
    from accel.network.graph import Graph
    from accel.report.inspection import inspect_graph, inspect_program

    network = api.load(model, shapes=shapes)
    summary = inspect_graph(network) if isinstance(network, Graph) else inspect_program(network)
    if as_json:
        echo_json(summary)
        return
    table, lines = inspection_tables.summarize(summary, model.name, wide=wide)
    print_table(table, wide=wide)
    echo_lines(lines)


@click.command()
@with_model
@MODEL_CONFIG
@click.option("--steps", is_flag=True, help="Print what each step loads, computes and stores; not for programs.")
def disassemble(model: Path, shapes: Shapes, config: str | None, steps: bool) -> None:
    """Print the instructions of a MODEL's program."""
    from accel import api
    from accel.cli.phases import compiled_phases
    from accel.machine import isa

    if steps:
        click.echo(compiled_phases(model, config, shapes).schedule_text(), nl=False)
        return
    click.echo(isa.disassemble(api.load_program(model, config, shapes=shapes).code), nl=False)


@click.command()
@with_model
@MODEL_CONFIG
@JSON
def check(model: Path, shapes: Shapes, config: str | None, as_json: bool) -> None:
    """Prove that a MODEL's program is safe.

    It has no deadlocks, data races, port conflicts or accesses out of bounds, for any inputs.
    """
    from accel import api
    from compiler import check_program

    report = check_program(api.load_program(model, config, shapes=shapes))
    if as_json:
        echo_json(report)
    else:
        echo_lines([f"{model}: proven safe; {report}"])


COMMANDS = (inspect, disassemble, check)
