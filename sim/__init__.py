"""Simulation of compiled programs: exact values and exact cycles, by two engines that must agree."""

from __future__ import annotations

from sim.engine import ENGINES, Simulator, Timing, execute
from sim.result import SimulationResult
from sim.stepped.probe import Probe, Snapshot

__all__ = ["ENGINES", "Probe", "SimulationResult", "Simulator", "Snapshot", "Timing", "execute"]
