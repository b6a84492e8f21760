"""Graphs to programs: tiling, allocation, scheduling, emission, and the checker that proves any program safe."""

from compiler.check.check import check, check_program
from compiler.compile import Compilation, compile_graph, compile_phases
from compiler.emit.overlap import EFFORTS

__all__ = ["EFFORTS", "Compilation", "check", "check_program", "compile_graph", "compile_phases"]
