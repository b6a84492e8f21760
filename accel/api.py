"""The Python API: the command line's verbs as functions. `import accel` exports them lazily."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

from numpy.typing import NDArray

from accel.errors import InputError, ProgramError
from accel.frontends import check_no_shapes, load_model
from accel.machine import isa
from accel.machine.config import ArchConfig, load_config
from accel.network.graph import Graph
from accel.program.execution import Execution
from accel.program.parts import HOST
from accel.program.program import Program
from accel.program.samples import Arrays, join_own, program_samples
from accel.program.sections import MAGIC
from accel.report.energy import EnergyTable
from accel.report.layers import LayerRow, Timeline, layer_rows
from accel.report.occupancy import occupancy
from accel.report.report import Report

if TYPE_CHECKING:
    from accel.frontends.onnx.file import Shapes
    from compiler import Compilation
    from sim import Probe, Simulator, Snapshot


@dataclass(frozen=True, eq=False)
class RunResult:
    """Inferences in the simulator.

    Parameters
    ----------
    program : Program
    outputs : dict of str to ndarray
        In the shapes of the graph, under the model's names and in its order; several samples along the first axis.
    cycles : int
        Of the machine, over all of its segments, for one sample: they do not depend on values.
    simulations : tuple of sim.SimulationResult
        Everything else of each machine segment, for the last sample: stamps, stall causes, memories. Segments share the
        external memory, so that each shows it after the last one.
    host_seconds : float
        Time that the host's segments took here, for all samples; no part of the cycles.
    state : dict of str to ndarray
        For the next run of a program with states (`Program.states`).
    """

    program: Program
    outputs: dict[str, NDArray[Any]]
    cycles: int
    simulations: tuple[Any, ...]
    host_seconds: float
    state: dict[str, NDArray[Any]]

    @property
    def simulation(self) -> Any:
        """The simulation of a program that has one machine segment; InputError for any other."""
        if len(self.simulations) != 1:
            raise InputError(f"program must have 1 machine segment, got {len(self.simulations)}: see `simulations`")
        return self.simulations[0]

    @cached_property
    def layers(self) -> list[LayerRow]:
        """Where the cycles went, a row for each layer; computed when first asked for."""
        return layer_rows(self.program, Timeline.of(self.simulations))


class Estimate(Report):
    """The figures of a run that do not depend on values."""

    def page(self, title: str) -> str:
        """A self-contained page of pictures and tables (docs/reporting.md); ToolError without matplotlib."""
        from accel.report.page import to_html
        from compiler.schedule.footprint import footprints

        table = isa.decode_table(self.program.code)
        touched = map(footprints(self.program.config, table).of, range(len(table)))
        return to_html(self, occupancy(self.program, self.timings, touched), title)


def as_config(config: ArchConfig | str) -> ArchConfig:
    """A configuration: itself, or by the name of a preset or the path of a TOML file."""
    return config if isinstance(config, ArchConfig) else load_config(config)


def compile(
    model: Graph | str | os.PathLike[str],
    config: ArchConfig | str = "edge",
    *,
    shapes: Shapes | None = None,
    effort: int = 0,
) -> Program:
    """Compile a quantized network for a machine.

    Parameters
    ----------
    model : Graph or path
        A path is read by `accel.load_model`.
    config : ArchConfig or str
        A configuration, a preset's name, or a TOML file.
    shapes : mapping of str to tuple of int, optional
        Sizes of inputs that a model file leaves free, by name.
    effort : int
        0: one schedule; 1: three more, two in which layers overlap and one of smaller tiles; 2: thirteen more, of both
        sizes of tiles. The fastest is taken.

    Raises
    ------
    CompileError, ConfigError, GraphError, InputError, ModelError
        See `compiler.compile_graph`, `accel.load_config` and `accel.load_model`.
    """
    if isinstance(model, Program):
        raise InputError("model must be a graph or a path, got a program, which is compiled already")
    if isinstance(model, Graph):
        check_no_shapes(shapes)
    machine = as_config(config)
    return best_phases(model if isinstance(model, Graph) else load_model(model, shapes=shapes), machine, effort).program


def best_phases(graph: Graph, config: ArchConfig, effort: int = 0) -> Compilation:
    """What each phase of the compiler made of a graph: the schedule of an effort that takes the fewest cycles."""
    from compiler import EFFORTS, compile_phases

    if effort not in range(len(EFFORTS)):
        raise InputError(f"effort must be an integer in 0..{len(EFFORTS) - 1}, got {effort!r}")
    first, *others = EFFORTS[effort]
    best = compile_phases(graph, config, *first)
    cycles = estimate(best.program).cycles if others else 0
    for variant in others:
        other = compile_phases(graph, config, *variant)
        taken = estimate(other.program).cycles
        if taken < cycles:
            best, cycles = other, taken
    return best


def load(path: str | os.PathLike[str], *, shapes: Shapes | None = None) -> Program | Graph:
    """The program in a program file, or the network in any other (`accel.load_model`)."""
    if not _is_program(Path(path)):
        return load_model(path, shapes=shapes)
    check_no_shapes(shapes)
    return Program.load(path)


def load_program(
    path: str | os.PathLike[str], config: ArchConfig | str | None = None, *, shapes: Shapes | None = None
) -> Program:
    """The program in a program file, or that of any other model file (`compile`).

    Parameters
    ----------
    path : path
    config : ArchConfig or str, optional
        The machine; for a program file its own (with name and clock of `config`), otherwise `edge` unless it is given.
    shapes : mapping of str to tuple of int, optional
        As for `compile`.

    Raises
    ------
    ProgramError
        The program file is damaged, or for another machine than `config`.
    CompileError, ConfigError, GraphError, ModelError
        As `compile` raises them.
    """
    program = load(path, shapes=shapes)
    if isinstance(program, Graph):
        return compile(program, "edge" if config is None else config)
    if config is None:
        return program
    machine = as_config(config)
    if machine.fingerprint() != program.config.fingerprint():
        raise ProgramError(
            f"{os.fspath(path)}: must be compiled for config {config!r}, got a program for another machine "
            f"({program.config.name!r}); compile the model again"
        )
    return program if machine == program.config else replace(program, config=machine)


def _is_program(path: Path) -> bool:
    if path.suffix == ".program" or not path.is_file():
        return path.suffix == ".program"
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def run(
    program: Program,
    inputs: Arrays,
    *,
    state: Mapping[str, NDArray[Any]] | None = None,
    layout: str | None = None,
    engine: str = "fast",
    threads: int = 1,
) -> RunResult:
    """Run a program in the simulator, once for each sample.

    Parameters
    ----------
    program : Program
    inputs : ndarray, or mapping of input name to ndarray
        One array is enough if there is one input. One sample or more along the first axis: int8 in the shapes of
        `Program.inputs`; or real numbers, which are quantized, or the model's own integers, in the model's shapes.
        Inputs that only the host reads have types of their own.
    state : mapping of input name to ndarray, optional
        Where a program with states starts: what the last run left (`RunResult.state`), by default what the model says.
        Each sample starts from what the one before left.
    layout : {"NCHW", "NHWC"}, optional
        Order of images' axes in `inputs`; needed if their shape fits both.
    engine : str
        "fast" or "stepped"; both give the same values and cycles.
    threads : int
        Threads that run samples at the same time, at most the number of cores; samples of a program with states follow
        each other.

    Raises
    ------
    InputError
        A name, shape, type, the engine or the number of threads is not valid.
    """
    if not 1 <= threads <= (os.cpu_count() or 1):
        raise InputError(f"threads must be an integer in 1..{os.cpu_count()}, the number of cores, got {threads!r}")
    samples = program_samples(program, inputs, layout)
    if threads > 1 and not program.states:
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(threads) as pool:
            runs = list(pool.map(lambda sample: _run_sample(program, sample, state, engine), samples))
    else:
        runs = []
        for sample in samples:
            runs.append(_run_sample(program, sample, runs[-1].state if runs else state, engine))
    last = runs[-1]
    outputs, seconds = join_own(program, [one.outputs for one in runs]), sum(one.host_seconds for one in runs)
    cycles = sum(result.total_cycles for result in last.simulations)
    return RunResult(program, outputs, cycles, last.simulations, seconds, last.state)


class _SampleRun(NamedTuple):
    """What one run leaves; the members of `RunResult`."""

    outputs: dict[str, NDArray[Any]]
    simulations: tuple[Any, ...]
    host_seconds: float
    state: dict[str, NDArray[Any]]


def _run_sample(
    program: Program, sample: Mapping[str, NDArray[Any]], state: Mapping[str, NDArray[Any]] | None, engine: str
) -> _SampleRun:
    execution = Execution(program, sample, state)
    simulations = _simulate(execution, engine)
    return _SampleRun(execution.outputs(), simulations, execution.host_seconds, execution.state())


def estimate(program: Program, *, energies: EnergyTable | None = None, host_seconds: float | None = None) -> Estimate:
    """Cycles, traffic, stalls and energy of a program, without values: they are the same for all inputs.

    Parameters
    ----------
    program : Program
    energies : EnergyTable, optional
        Picojoules in place of the built-in ones.

    The cycles are those of `run`; they are computed once for each program.
    """
    if not isinstance(program, Program):
        raise InputError(f"program must be a Program, got {type(program).__name__}")
    timings = tuple(simulator.timing for simulator in _simulators(program))
    return Estimate(program, timings, energies or EnergyTable())


def snapshots(program: Program, inputs: Arrays, first: int, last: int, *, layout: str | None = None) -> list[Snapshot]:
    """Registers of the array in cycles `first` .. `last` of one inference, from the stepped engine.

    Parameters
    ----------
    program, inputs, layout
        As for `run`; the first sample counts.
    first, last : int
        Cycles of the machine, its segments one after the other.
    """
    from sim import Probe

    probe = Probe(program.config, first, last)
    _simulate(Execution(program, program_samples(program, inputs, layout)[0]), "stepped", probe)
    return probe.snapshots


def _simulate(execution: Execution, engine: str, probe: Probe | None = None) -> tuple[Any, ...]:
    """Run all segments; the simulator's results for the machine's."""
    program, simulations = execution.program, list[Any]()
    simulators = iter(_simulators(program))
    for segment in program.segments:
        if segment.unit == HOST:
            execution.run_host(segment)
            continue
        simulations.append(next(simulators).run(execution.memory, engine=engine, in_place=True, probe=probe))
    return tuple(simulations)


_SIMULATORS: WeakKeyDictionary[Program, tuple[Simulator, ...]] = WeakKeyDictionary()


def _simulators(program: Program) -> tuple[Simulator, ...]:
    """A simulator for each machine segment, which serves all runs of the program."""
    from sim import Simulator

    if program not in _SIMULATORS:
        constants = program.constants_address, program.constants_address + len(program.constants)
        _SIMULATORS[program] = tuple(
            Simulator(
                program.config, program.code_of(segment), program.address_of(segment), program.memory_bytes, constants
            )
            for segment in program.machine_segments
        )
    return _SIMULATORS[program]


def verilog(config: ArchConfig | str, *, verification: bool = False) -> str:
    """Verilog of a machine; `verification` adds the port that reports issue and completion."""
    from rtl.verilog import emit

    return str(emit(as_config(config), verification=verification))
