"""Co-verification: one program in the simulator and in the Verilog, compared byte for byte and cycle for cycle."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import partial
from importlib import import_module
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from accel.coverify.divergence import Divergence, VerificationError, first_divergence
from accel.errors import InputError
from accel.machine import isa
from accel.machine.config import ArchConfig
from accel.machine.isa import Unit
from accel.machine.memories import Space, memories
from accel.program.execution import Execution
from accel.program.parts import HOST
from accel.program.program import Program
from accel.program.samples import Arrays, program_samples

__all__ = [
    "SIMULATORS",
    "Comparison",
    "Divergence",
    "Verification",
    "VerificationError",
    "compare",
    "execute_both",
    "first_divergence",
    "power_up",
    "random_inputs",
    "random_on_chip",
    "verify",
]

SIMULATORS = ("verilator", "icarus", "amaranth")
"""Outside simulators of the Verilog, and Amaranth's own (which runs the RTL without Verilog)."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What was compared, and how much of it differed.

    Parameters
    ----------
    cycles : int
        Length of the run: of all segments of the machine.
    instructions : int
        Instructions whose issue and completion cycles were compared.
    memory_bytes : int
        Bytes of external memory compared, all of it after each segment.
    on_chip_bytes : int
        Bytes of the memories on the chip compared, all after each segment; 0 where the bench sees none.
    differing_bytes, differing_cycles, differing_stamps : int
        Counted in the two results: bytes of both kinds of memory, the difference of the runs' lengths, and issue and
        completion cycles (two stamps an instruction). All are 0 in the result of `verify`, which raises an error
        otherwise.
    """

    cycles: int
    instructions: int
    memory_bytes: int
    on_chip_bytes: int
    differing_bytes: int
    differing_cycles: int
    differing_stamps: int


@dataclass(frozen=True, kw_only=True)
class Verification(Comparison):
    """What was compared in a whole program.

    Parameters
    ----------
    segments : int
        Machine segments compared, each from the memory that the one before left; the host computed what is between.
    outputs : dict of str to ndarray
        The network's outputs of the last sample, from the Verilog's memory.
    samples : int
        Runs of the network; everything else counts all of them.
    """

    segments: int
    outputs: dict[str, NDArray[Any]]
    samples: int = 1


def verify(
    program: Program,
    inputs: Arrays | Sequence[Arrays] | None = None,
    *,
    simulator: str = "verilator",
    seed: int = 0,
) -> Verification:
    """Run a program in the simulator and in the Verilog and compare everything.

    In Verilator the memories on the chip hold random bytes at power-up, the same as in the simulator, and the machine
    is reset once: samples and segments follow each other as under a driver, each with what the one before left.

    Parameters
    ----------
    program : Program
    inputs : as in `accel.run`, or a sequence of such samples, or None
        None: random int8 from `seed`. The samples of a program with states are one stream of two runs or more: a single
        one is given twice.
    simulator : str
        One of `SIMULATORS`.
    seed : int

    Returns
    -------
    Verification

    Raises
    ------
    VerificationError
        Something differs; the error carries the first divergence.
    InputError
        `inputs` or `simulator` is not valid.
    ToolError
        The outside simulator is missing or failed.
    """
    samples, state, comparisons = _samples(program, inputs, seed), None, list[Comparison]()
    with power_up(program.config, simulator, seed) as machine:
        for sample in samples:
            execution = Execution(program, sample, state)
            comparisons += _compare_segments(execution, machine)
            state = execution.state()
    sums = {field.name: sum(getattr(one, field.name) for one in comparisons) for field in fields(Comparison)}
    return Verification(**sums, segments=len(comparisons), outputs=execution.outputs(), samples=len(samples))


def _samples(program: Program, inputs: Arrays | Sequence[Arrays] | None, seed: int) -> list[dict[str, NDArray[Any]]]:
    """One sample or more, two or more of a program with states."""
    fewest = 2 if program.states else 1
    if inputs is None:
        return [random_inputs(program, seed + number) for number in range(fewest)]
    batches = [inputs] if isinstance(inputs, (np.ndarray, Mapping)) else inputs
    samples = [sample for batch in batches for sample in program_samples(program, batch)]
    return samples * (fewest if len(samples) == 1 else 1)


def _compare_segments(execution: Execution, machine: Machine) -> Iterator[Comparison]:
    """Run all segments, in both machines those that are the machine's; VerificationError at the first difference."""
    program = execution.program
    for number, segment in enumerate(program.segments):
        if segment.unit == HOST:
            execution.run_host(segment)
            continue
        code, address = program.code_of(segment), program.address_of(segment)
        simulated, emulated = execute_both(program.config, code, address, execution.memory, machine)
        divergence = first_divergence(code, simulated, emulated)
        if divergence is not None:
            raise VerificationError(divergence.within(program, number))
        yield compare(code, simulated, emulated)
        execution.memory = emulated.memory


def compare(code: bytes, simulated: Any, emulated: Any) -> Comparison:
    """Compare two results (`execute_both`) of a segment and count what differs, whatever `first_divergence` found."""
    units, on_chip = isa.decode_table(code)[:, 0], emulated.on_chip or {}
    stamps = 0
    for unit in Unit:
        mine = np.isin(units, [opcode for opcode in isa.Opcode if opcode.unit is unit])
        for kind in ("issue", "complete"):
            stamps += _unequal(getattr(simulated, kind)[mine], getattr(emulated, kind)[unit])
    return Comparison(
        cycles=emulated.total_cycles,
        instructions=len(units),
        memory_bytes=len(simulated.memory),
        on_chip_bytes=sum(held.size for held in on_chip.values()),
        differing_bytes=_unequal(simulated.memory, emulated.memory)
        + sum(int((simulated.on_chip[space] != held).sum()) for space, held in on_chip.items()),
        differing_cycles=abs(simulated.total_cycles - emulated.total_cycles),
        differing_stamps=stamps,
    )


def _unequal(mine: NDArray[Any], theirs: NDArray[Any]) -> int:
    """Positions at which two lists differ; elements that only one list has count as different."""
    common = min(len(mine), len(theirs))
    return int(np.count_nonzero(mine[:common] != theirs[:common])) + abs(len(mine) - len(theirs))


def random_inputs(program: Program, seed: int) -> dict[str, NDArray[Any]]:
    """Uniform int8 for every input; integers from 0 to 127 for those that only the host reads, whatever their type."""
    rng = np.random.default_rng(seed)
    return {
        slot.name: rng.integers(-128 if slot.dtype == "int8" else 0, 128, slot.shape, dtype=np.int8).astype(slot.dtype)
        for slot in program.inputs
    }


def random_on_chip(config: ArchConfig, seed: int) -> dict[Space, NDArray[np.uint8]]:
    """Random bytes for every memory on the chip."""
    rng = np.random.default_rng(seed)
    return {
        space: rng.integers(0, 256, (memory.words, memory.word_bytes), np.uint8)
        for space, memory in memories(config).items()
    }


OnChip: TypeAlias = Mapping[Space, NDArray[np.uint8]]
"""The memories on the chip by address space, as bytes of shape (words, bytes of a word)."""


@dataclass
class Machine:
    """The Verilog after power-up.

    Parameters
    ----------
    run : callable
        ``run(code, code_address, memory, max_cycles=...)`` gives the test bench's result.
    on_chip : mapping of Space to ndarray of uint8, or None
        What the memories on the chip hold before the next program; None: the bench resets the machine and clears them.
    """

    run: Callable[..., Any]
    on_chip: OnChip | None


@contextmanager
def power_up(config: ArchConfig, simulator: str, seed: int | None = None) -> Iterator[Machine]:
    """The Verilog in one of `SIMULATORS`: Verilator resets it once, the others before every program.

    With a seed the memories on the chip hold random bytes at power-up, zeros otherwise; in Verilator only.
    """
    if simulator not in SIMULATORS:
        raise InputError(f"simulator must be one of {', '.join(SIMULATORS)}, got {simulator!r}")
    bench = import_module(f"rtl.testbench.{simulator}")
    if simulator != "verilator":
        yield Machine(partial(bench.run, config), None)
        return
    with bench.Powered(config) as powered:
        if seed is not None:
            powered.on_chip = random_on_chip(config, seed)
        yield Machine(powered.run, powered.on_chip)


def execute_both(
    config: ArchConfig, code: bytes, code_address: int, memory: NDArray[np.uint8], machine: Machine | str = "verilator"
) -> tuple[Any, Any]:
    """Results for one memory image: of the simulator (`sim.SimulationResult`) and of the Verilog (the test bench's).

    `machine` comes from `power_up`, and the simulator's memories on the chip hold before the program what the machine's
    do; or `machine` is one of `SIMULATORS`, reset for this run.
    """
    import sim

    if isinstance(machine, str):
        with power_up(config, machine) as powered:
            return execute_both(config, code, code_address, memory, powered)
    simulated = sim.execute(config, code, code_address, memory, on_chip=machine.on_chip)
    emulated = machine.run(code, code_address, memory, max_cycles=simulated.total_cycles + 10_000)
    if machine.on_chip is not None:
        machine.on_chip = simulated.on_chip
    return simulated, emulated
