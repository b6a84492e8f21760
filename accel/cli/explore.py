"""The command explore."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from accel.cli.console import counted, echo_json, echo_lines, print_table, progress
from accel.cli.options import ENERGY, FILE, JSON, REPORT, WIDE, check_report, output
from accel.cli.relations import excludes, related
from accel.errors import InputError

if TYPE_CHECKING:
    from accel.explore import Point
    from accel.explore.point import Network
    from accel.explore.space import Machines


@click.command()
@click.argument("networks", type=FILE, nargs=-1, required=True)
@click.option("--space", "space_path", type=FILE, required=True, help="TOML file of machines (docs/exploring.md).")
@output("Results: a SQLite file, which a repeated command continues.")
@click.option("--workers", type=click.IntRange(min=1), help="Local processes (default: one for each core).")
@click.option("--scheduler", help="Address of a Dask scheduler, in place of local processes.")
@ENERGY
@REPORT
@WIDE
@JSON
@related(excludes("wide", "as_json"), excludes("workers", "scheduler"))
def explore(
    networks: Sequence[Path], space_path: Path, output: Path, workers: int | None, scheduler: str | None,
    energy: Path | None, report: Path | None, wide: bool, as_json: bool,
) -> None:  # fmt: skip
    """Time NETWORKS on every machine of a space.

    Each is compiled for each machine, on several processes. What is in the file of results already is not done again.
    """
    from accel.explore import Space
    from accel.explore.explore import check_library
    from accel.explore.explore import explore as explore_space
    from accel.explore.pareto import to_html
    from accel.files import write_atomic
    from accel.report.energy import energy_table

    check_library()
    check_report(report)
    table, space = energy_table(energy), Space.load(space_path)
    machines, loaded = space.machines(), _networks(networks)
    with progress() as stage:
        points = explore_space(
            loaded, machines.configs, output, energies=table, workers=workers, scheduler=scheduler, stage=stage
        )
    notes = _notes(machines, points)
    if report:
        write_atomic(report, to_html(points, notes).encode())
    if as_json:
        echo_json([point.row() for point in points])
        return
    _print(points, wide=wide)
    echo_lines([*notes, f"{output}: {counted(len(points), 'point')}"])


def _networks(paths: Sequence[Path]) -> list[Network]:
    from accel import api
    from accel.explore.point import Network
    from accel.network.graph import Graph

    loaded: dict[str, Network] = {}
    for path in paths:
        graph = api.load(path)
        if not isinstance(graph, Graph):
            raise InputError(f"{path}: must be a network, got a program, which is for one machine only")
        network = Network(path.name, graph)
        loaded.setdefault(network.digest, network)
    if len({network.name for network in loaded.values()}) < len(loaded):
        raise InputError("networks must have different file names")
    return list(loaded.values())


def _notes(machines: Machines, points: Sequence[Point]) -> list[str]:
    """What became of the combinations and of the points."""
    from accel.explore.point import OK

    notes = [counted(len(machines.configs), "machine")]
    if machines.beyond:
        notes[0] += f"; {counted(machines.beyond, 'combination')} beyond the limits"
    if machines.impossible:
        notes[0] += f"; {counted(machines.impossible, 'combination')} impossible, the first because {machines.why}"
    missing = [point for point in points if point.status != OK]
    if missing:
        first = missing[0]
        notes.append(
            f"{counted(len(missing), 'point')} without figures, the first {first.network} on {first.config.name}, "
            f"{first.status}: {first.error}"
        )
    return notes


def _print(points: Sequence[Point], *, wide: bool) -> None:
    """The front of each network."""
    from accel.cli.tables import make_table
    from accel.explore.pareto import by_network, figures, front, label, varied
    from accel.report.layers import Column

    keys = varied(points)
    for name, mine in by_network(points).items():
        best = front(mine)
        heads = [Column(head, only_wide=head in ("x bound", "multipliers")) for head in figures(mine[0])]
        cells = [[*label(point, keys), *figures(point).values()] for point in best]
        title = f"{name}: best of {counted(len(mine), 'machine')} by cycles, energy, area"
        print_table(make_table(title, [*map(Column, keys), *heads], [cells], wide=wide), wide=wide)


COMMANDS = (explore,)
