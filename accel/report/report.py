"""Everything that is told about one inference, computed once for tables, JSON and pages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from accel.machine.area import Area, area
from accel.machine.registers import CAUSES, COUNTED_UNITS
from accel.program.program import Program
from accel.report.bounds import Bound, layer_bounds, network_bound
from accel.report.causes import layer_causes
from accel.report.energy import EnergyTable, LayerEnergy, layer_energies
from accel.report.layers import LayerRow, Timeline, layer_rows
from accel.report.speed import Speed


@dataclass(frozen=True, eq=False)
class Report:
    """The figures of an inference; those of layers are in the order of the program's layers.

    Parameters
    ----------
    program : Program
    timings : sequence of sim.Timing or sim.SimulationResult
        Of each machine segment.
    energy_table : EnergyTable
    host_seconds : float, optional
        Time of the host's operators for one sample, where they ran.
    """

    program: Program
    timings: Sequence[Any]
    energy_table: EnergyTable
    host_seconds: float | None = None

    @cached_property
    def timeline(self) -> Timeline:
        """The segments one after the other."""
        return Timeline.of(self.timings)

    @property
    def cycles(self) -> int:
        """Cycles of the machine."""
        return self.timeline.total_cycles

    @cached_property
    def layers(self) -> list[LayerRow]:
        """Where the cycles go, and traffic."""
        return layer_rows(self.program, self.timeline)

    @cached_property
    def causes(self) -> list[dict[str, int]]:
        """Cycles of each layer by cause."""
        return layer_causes(self.program, self.timings)

    @property
    def stalls(self) -> dict[str, dict[str, int]]:
        """Cycles of the run by unit and cause (docs/timing.md); those of a unit sum to `cycles`."""
        counts = sum((timing.causes for timing in self.timings), np.zeros((len(COUNTED_UNITS), len(CAUSES)), np.int64))
        return {
            unit: {cause: int(counts[i][j]) for j, cause in enumerate(CAUSES)} for i, unit in enumerate(COUNTED_UNITS)
        }

    @cached_property
    def energies(self) -> list[LayerEnergy]:
        """Energy of each layer."""
        return layer_energies(self.program, self.energy_table)

    @cached_property
    def bounds(self) -> list[Bound]:
        """Cycles that each layer alone takes at least."""
        return layer_bounds(self.program)

    @cached_property
    def bound(self) -> Bound:
        """Cycles that the network takes at least."""
        return network_bound(self.program)

    @property
    def area(self) -> Area:
        """Sizes of the machine."""
        return area(self.program.config)

    @property
    def speed(self) -> Speed:
        """Time, rates, and energy of one inference."""
        return Speed.of(self.program, self.cycles, self.energies, self.host_seconds)

    def facts(self) -> dict[str, Any]:
        """All of it for JSON."""
        return {
            "cycles": self.cycles,
            "layers": self.layers,
            "layer_causes": self.causes,
            "stalls": self.stalls,
            "lower_bounds": {"network": self.bound._asdict(), "layers": [one._asdict() for one in self.bounds]},
            "speed": self.speed,
            "energy_pj": self.energies,
            "energy_table_pj": self.energy_table,
            "area": self.area,
        }
