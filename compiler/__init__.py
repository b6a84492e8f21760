"""Graphs to programs: tiling, allocation, scheduling, emission, and the checker that proves any program safe."""

from compiler.check.check import check, check_program
from compiler.compile import compile_graph

__all__ = ["check", "check_program", "compile_graph"]
