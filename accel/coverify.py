"""Co-verification: one program in the simulator and in the Verilog, compared byte for byte and cycle for cycle."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from functools import partial
from importlib import import_module
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from accel.errors import DivergenceError, InputError
from accel.machine import isa
from accel.machine.config import ArchConfig
from accel.machine.isa import Unit
from accel.machine.registers import CAUSES, COUNTED_UNITS
from accel.program.execution import Execution
from accel.program.parts import HOST
from accel.program.program import Program
from accel.program.samples import Arrays, program_samples

SIMULATORS = ("verilator", "icarus", "amaranth")
"""Outside simulators of the Verilog, and Amaranth's own (which runs the RTL without Verilog)."""


@dataclass(frozen=True)
class Divergence:
    """The first difference between simulator and Verilog.

    Parameters
    ----------
    cycle : int
        When it shows (the run's end for memory bytes and counters).
    instruction : int or None
        Index in the program; None if no single instruction is to blame.
    field : str
        What differs: "issue", "complete", "UNIT issue count", "UNIT complete count" (the Verilog reports more than the
        program has), "memory[ADDRESS]", "total_cycles", "error", or a counter.
    simulator, verilog : int
        Both values.
    text : str
        The instruction, disassembled.
    segment : int or None
        Number of the segment in which `cycle` counts, if the program has several of the machine.
    """

    cycle: int
    instruction: int | None
    field: str
    simulator: int
    verilog: int
    text: str = ""
    segment: int | None = None

    def within(self, program: Program, number: int) -> Divergence:
        """This difference, found in segment `number` of a program."""
        first = program.segments[number].first
        index = None if self.instruction is None else self.instruction + first
        several = len(program.machine_segments) > 1
        return replace(self, instruction=index, segment=number if several else None)

    def __str__(self) -> str:
        where = "" if self.instruction is None else f", instruction {self.instruction} ({self.text})"
        values = f"{self.field} is {self.simulator} in the simulator, {self.verilog} in the Verilog"
        part = "" if self.segment is None else f"segment {self.segment}, "
        return f"{part}cycle {self.cycle}{where}: {values}"


class VerificationError(DivergenceError):
    """Simulator and Verilog differ; `divergence` is the first difference."""

    def __init__(self, divergence: Divergence) -> None:
        super().__init__(str(divergence))
        self.divergence = divergence


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
    differing_bytes, differing_cycles, differing_stamps : int
        Counted in the two results: bytes of memory, the difference of the runs' lengths, and issue and completion
        cycles (two stamps an instruction). All are 0 in the result of `verify`, which raises an error otherwise.
    """

    cycles: int
    instructions: int
    memory_bytes: int
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

    In Verilator the machine is reset once: samples and segments follow each other as under a driver.

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
    with power_up(program.config, simulator) as machine:
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
    units = isa.decode_table(code)[:, 0]
    stamps = 0
    for unit in Unit:
        mine = np.isin(units, [opcode for opcode in isa.Opcode if opcode.unit is unit])
        for kind in ("issue", "complete"):
            stamps += _unequal(getattr(simulated, kind)[mine], getattr(emulated, kind)[unit])
    return Comparison(
        cycles=emulated.total_cycles,
        instructions=len(units),
        memory_bytes=len(simulated.memory),
        differing_bytes=_unequal(simulated.memory, emulated.memory),
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


Machine: TypeAlias = Callable[..., Any]
"""Runs a program on the Verilog: ``machine(code, code_address, memory, max_cycles=...)`` gives the bench's result."""


@contextmanager
def power_up(config: ArchConfig, simulator: str) -> Iterator[Machine]:
    """The Verilog in one of `SIMULATORS`: Verilator resets it once, the others before every program."""
    if simulator not in SIMULATORS:
        raise InputError(f"simulator must be one of {', '.join(SIMULATORS)}, got {simulator!r}")
    bench = import_module(f"rtl.testbench.{simulator}")
    if simulator != "verilator":
        yield partial(bench.run, config)
        return
    with bench.Powered(config) as powered:
        yield powered.run


def execute_both(
    config: ArchConfig, code: bytes, code_address: int, memory: NDArray[np.uint8], machine: Machine | str = "verilator"
) -> tuple[Any, Any]:
    """Results for one memory image: of the simulator (`sim.SimulationResult`) and of the Verilog (the test bench's).

    `machine` comes from `power_up`, or is one of `SIMULATORS`, reset for this run.
    """
    import sim

    if isinstance(machine, str):
        with power_up(config, machine) as powered:
            return execute_both(config, code, code_address, memory, powered)
    simulated = sim.execute(config, code, code_address, memory)
    return simulated, machine(code, code_address, memory, max_cycles=simulated.total_cycles + 10_000)


def first_divergence(code: bytes, simulated: Any, emulated: Any) -> Divergence | None:
    """The earliest difference of two results, None if there is none."""
    instructions = isa.decode(code)
    found = _stamp_divergences(instructions, simulated, emulated)
    if found:
        return min(found, key=lambda d: (d.cycle, len(instructions) if d.instruction is None else d.instruction))
    total = simulated.total_cycles
    different = np.flatnonzero(simulated.memory != emulated.memory)
    if different.size:
        return _memory_divergence(instructions, int(different[0]), total, simulated, emulated)
    if total != emulated.total_cycles:
        return Divergence(min(total, emulated.total_cycles), None, "total_cycles", total, emulated.total_cycles)
    if emulated.error:
        return Divergence(total, None, "error", 0, emulated.error)
    for row, unit in enumerate(COUNTED_UNITS):
        for column, cause in enumerate(CAUSES):
            name = f"{unit}_{cause}".replace(".", "_").upper()
            mine, theirs = int(simulated.causes[row, column]), int(emulated.counters[name])
            if mine != theirs:
                return Divergence(total, None, name, mine, theirs)
    return None


def _stamp_divergences(instructions: list[isa.Instruction], simulated: Any, emulated: Any) -> list[Divergence]:
    """The first differing stamp of each unit and kind, and stamps of instructions that do not exist."""
    found = []
    for unit in Unit:
        indices = np.array([i for i, instruction in enumerate(instructions) if instruction.unit is unit], np.int64)
        for kind in ("issue", "complete"):
            mine, theirs = getattr(simulated, kind)[indices], getattr(emulated, kind)[unit]
            if len(theirs) > len(indices):
                first = int(theirs[len(indices)])
                found.append(Divergence(first, None, f"{unit.name} {kind} count", len(indices), len(theirs)))
            padded = np.full(len(indices), -1, np.int64)
            padded[: min(len(theirs), len(padded))] = theirs[: len(padded)]
            different = np.flatnonzero(mine != padded)
            if different.size:
                first = int(different[0])
                index, values = int(indices[first]), (int(mine[first]), int(padded[first]))
                cycle = min(value for value in values if value >= 0)
                found.append(Divergence(cycle, index, kind, *values, str(instructions[index])))
    return found


def _memory_divergence(
    instructions: list[isa.Instruction], address: int, total: int, simulated: Any, emulated: Any
) -> Divergence:
    """A differing byte, blamed on the last STORE that writes it."""
    writer = None
    for index, instruction in enumerate(instructions):
        if instruction.unit is Unit.STORE and _writes(instruction, address):
            writer = index
    text = "" if writer is None else str(instructions[writer])
    cycle = total if writer is None else int(simulated.complete[writer])
    values = int(simulated.memory[address]), int(emulated.memory[address])
    return Divergence(cycle, writer, f"memory[{address:#x}]", *values, text)


def _writes(store: isa.Instruction, address: int) -> bool:
    size = store["row_words"] * store["word_bytes"]
    starts = (
        store["dram_address"]
        + np.arange(store["outer_count"])[:, None] * store["dram_outer_stride"]
        + np.arange(store["row_count"]) * store["dram_row_stride"]
    )
    return bool(((starts <= address) & (address < starts + size)).any())
