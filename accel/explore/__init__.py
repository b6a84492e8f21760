"""Exploring a space of machines: every network on every machine, in parallel, kept in one file that can be resumed."""

from accel.explore.explore import explore
from accel.explore.pareto import front
from accel.explore.point import Point
from accel.explore.space import Space

__all__ = ["Point", "Space", "explore", "front"]
