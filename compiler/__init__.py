"""Graphs to programs: tiling, allocation, scheduling, emission, and the checker that proves any program safe."""

from compiler.check import check
from compiler.compile import compile_graph

__all__ = ["check", "compile_graph"]
