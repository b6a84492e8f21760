"""The Python API: the command line's verbs as functions. `import accel` exports them lazily."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accel.config import ArchConfig, load_config
from accel.graph import Graph
from accel.program import Program
from accel.report import LayerRow, layer_rows


@dataclass(frozen=True)
class RunResult:
    """One inference in the simulator.

    Parameters
    ----------
    outputs : dict of str to ndarray of int8
        The graph's outputs.
    cycles : int
        Length of the run.
    layers : list of LayerRow
    simulation : sim.SimulationResult
        Everything else: stamps, stall causes, memories.
    """

    outputs: dict[str, NDArray[np.int8]]
    cycles: int
    layers: list[LayerRow]
    simulation: Any


def as_config(config: ArchConfig | str) -> ArchConfig:
    """A configuration as it is, or by preset name or TOML path."""
    return config if isinstance(config, ArchConfig) else load_config(config)


def compile(graph: Graph, config: ArchConfig | str = "edge") -> Program:
    """Compile an integer graph for a machine (a configuration, a preset's name, or a TOML file).

    Raises
    ------
    CompileError, ConfigError
        See `compiler.compile_graph` and `accel.config.load_config`.
    """
    from compiler import compile_graph

    return compile_graph(graph, as_config(config))


def run(
    program: Program, inputs: Mapping[str, NDArray[np.int8]] | NDArray[np.int8], *, engine: str = "fast"
) -> RunResult:
    """Run a program in the simulator.

    Parameters
    ----------
    program : Program
    inputs : ndarray of int8, or mapping of input name to ndarray of int8
    engine : str
        "fast" or "stepped"; both give the same values and cycles.

    Raises
    ------
    InputError
        A name, shape, type or the engine is not valid.
    """
    import sim

    memory = program.memory_image(inputs)
    result = sim.execute(program.config, program.code, program.code_address, memory, engine=engine)
    outputs = program.read_outputs(result.memory)
    return RunResult(outputs, result.total_cycles, layer_rows(program, result), result)


def verilog(config: ArchConfig | str, *, verification: bool = False) -> str:
    """Verilog of a machine; `verification` adds the port that reports issue and completion."""
    from rtl.verilog import emit

    return str(emit(as_config(config), verification=verification))
