"""The first difference between a simulation and the Verilog's run."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from accel.errors import DivergenceError
from accel.machine import isa
from accel.machine.isa import Unit
from accel.machine.registers import CAUSES, COUNTED_UNITS
from accel.program.program import Program


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
        program has), "memory[ADDRESS]", "SPACE[WORD] byte BYTE" (on the chip), "total_cycles", "error", or a counter.
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
    for space, held in (emulated.on_chip or {}).items():
        expected = np.broadcast_to(simulated.on_chip[space], held.shape)
        for word, byte in np.argwhere(expected != held):
            values = int(expected[word, byte]), int(held[word, byte])
            return Divergence(total, None, f"{space.name}[{word}] byte {byte}", *values)
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
