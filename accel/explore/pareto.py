"""The machines that no other is better than, and the page that shows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from html import escape
from typing import TYPE_CHECKING, Any, NamedTuple

from accel.explore.point import OK, Point
from accel.page import check_library, new_figure, note, page, table, to_svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


class Aim(NamedTuple):
    """Something that should be small: a member of `Point`, and what an axis calls it (in units of `unit`)."""

    member: str
    label: str
    unit: float


CYCLES, ENERGY, AREA = (
    Aim("cycles", "cycles", 1), Aim("energy_pj", "energy in microjoules", 1e6),
    Aim("mm2", "area in mm2 (45 nm, rough)", 1),
)  # fmt: skip
AIMS = (CYCLES, ENERGY, AREA)


def comparable(points: Sequence[Point]) -> list[Point]:
    """Points of one network with figures, of the machines that leave the fewest products to the host."""
    done = [point for point in points if point.status == OK]
    least = min((point.host_macs for point in done), default=0)
    return [point for point in done if point.host_macs == least]


def front(points: Sequence[Point]) -> list[Point]:
    """The `comparable` points of one network that no other beats in cycles, energy and area, by cycles.

    One point beats another if it is nowhere worse and somewhere better.
    """
    candidates = comparable(points)
    aims = {id(point): tuple(getattr(point, aim.member) for aim in AIMS) for point in candidates}

    def beaten(point: Point) -> bool:
        mine = aims[id(point)]
        return any(other != mine and all(a <= b for a, b in zip(other, mine, strict=True)) for other in aims.values())

    return sorted((point for point in candidates if not beaten(point)), key=lambda point: aims[id(point)])


def by_network(points: Sequence[Point]) -> dict[str, list[Point]]:
    """The points of each network, by its name."""
    groups: dict[str, list[Point]] = {}
    for point in points:
        groups.setdefault(point.network, []).append(point)
    return groups


def varied(points: Sequence[Point]) -> list[str]:
    """The keys that differ between machines, in the order of the configuration."""
    rows = [asdict(point.config) for point in points]
    return [key for key in rows[0] if key != "name" and len({row[key] for row in rows}) > 1] if rows else []


def label(point: Point, keys: Sequence[str]) -> list[str]:
    """The values of the keys that differ between machines."""
    return [str(getattr(point.config, key)) for key in keys]


def to_html(points: Sequence[Point], notes: Sequence[str]) -> str:
    """A page with the fronts of all networks, the same bytes each time.

    Parameters
    ----------
    points : sequence of Point
    notes : sequence of str
        Sentences about the space.

    Raises
    ------
    ToolError
        matplotlib is not installed.
    """
    check_library()
    keys = varied(points)
    parts = [note(text) for text in notes]
    parts.append(
        note(
            "Red: no other machine is better in one of cycles, energy and area without being worse in another. "
            "Only machines that leave the fewest products to the host are compared and drawn."
        )
    )
    for name, mine in by_network(points).items():
        best = front(mine)
        parts += [f"<h2>{escape(name)}</h2>", to_svg(_pictures(comparable(mine), best)), _front_table(best, keys)]
        missing = [point for point in mine if point.status != OK]
        if missing:
            rows = [[*label(point, keys), point.status, point.error] for point in missing]
            parts += ["<h3>Without figures</h3>", table((*keys, "status", "why"), rows)]
    return page("Machines: cycles, energy, area", parts)


def figures(point: Point) -> Mapping[str, str]:
    """What tables show of a point."""
    ratio = point.cycles / point.lower_bound if point.lower_bound else 0
    return {
        "cycles": f"{point.cycles:,}", "x bound": f"{ratio:.2f}", "energy uJ": f"{point.energy_pj / 1e6:,.1f}",
        "mm2": f"{point.mm2:.2f}", "multipliers": f"{point.multipliers:,}", "SRAM KB": f"{point.sram_bits / 8192:,.0f}",
    }  # fmt: skip


def _front_table(best: Sequence[Point], keys: Sequence[str]) -> str:
    if not best:
        return "<p>No machine has figures.</p>"
    return table((*keys, *figures(best[0])), [[*label(point, keys), *figures(point).values()] for point in best])


def _pictures(points: Sequence[Point], best: Sequence[Point]) -> Figure:
    """Three views of the same points."""
    figure = new_figure(10, 3.4)
    figure.subplots_adjust(left=0.07, right=0.98, top=0.96, bottom=0.17, wspace=0.32)
    for axes, (x, y) in zip(figure.subplots(1, 3), ((AREA, CYCLES), (AREA, ENERGY), (CYCLES, ENERGY)), strict=True):
        _scatter(axes, points, best, x, y)
    return figure


def _scatter(axes: Axes, points: Sequence[Point], best: Sequence[Point], x: Aim, y: Aim) -> None:
    for group, color, size in ((points, "#9bb7d4", 3), (best, "#c0392b", 5)):
        places: list[Any] = [[getattr(point, aim.member) / aim.unit for point in group] for aim in (x, y)]
        axes.plot(*places, "o", color=color, markersize=size)
    axes.set(xscale="log", yscale="log")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:,g}")
        axis.set_minor_formatter("{x:,g}")
    axes.set_xlabel(x.label, fontsize=8)
    axes.set_ylabel(y.label, fontsize=8)
    axes.tick_params(labelsize=7, which="both")
    axes.grid(alpha=0.3, which="both")
