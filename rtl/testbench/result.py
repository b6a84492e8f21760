"""Arguments and results of every co-simulation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from accel.errors import DivergenceError, InputError, ProgramError
from accel.machine import isa
from accel.machine.isa import INSTRUCTION_BYTES, Unit
from accel.machine.registers import CAUSES, COUNTED_UNITS, ERRORS, NO_SOURCE, REGISTERS
from rtl.testbench.on_chip import OnChip

MEMORY_ALIGNMENT = 64
"""External memory is extended to a multiple of this, so that every beat lies inside or outside of it."""


class FirstError(NamedTuple):
    """What the registers tell of the first error of a run.

    Parameters
    ----------
    errors : tuple of str
        Names of the bits of ERROR that were raised first, none without an error.
    unit : str
        Who raised it: a unit, FETCH or nobody alone ("").
    index : int
        Index of the instruction in the program.
    address : int
        In the image.
    """

    errors: tuple[str, ...]
    unit: str
    index: int
    address: int

    @classmethod
    def of(cls, values: Mapping[str, int]) -> FirstError:
        """From the registers' values by name."""
        first, unit = values["ERROR_FIRST"] & 0xFFFF, values["ERROR_FIRST"] >> 16
        return cls(
            tuple(name for i, name in enumerate(ERRORS) if first >> i & 1),
            "" if unit == NO_SOURCE or not first else COUNTED_UNITS[unit],
            values["ERROR_INDEX"],
            values["ERROR_ADDRESS"],
        )


@dataclass(frozen=True)
class SimulationResult:
    """Outcome of one run on the RTL.

    Parameters
    ----------
    memory : ndarray of uint8
        The whole external memory after the run.
    total_cycles : int
    issue, complete : mapping of Unit to ndarray of int64
        Stamps of each unit's instructions in program order (docs/timing.md).
    counters : mapping of str to int
        The stall counters by register name, read over AXI4-Lite.
    error : int
        The ERROR register.
    first_error : FirstError
    registers : mapping of str to int
        All registers by name, as they were read after the run.
    on_chip : mapping of Space to ndarray of uint8, or None
        The memories on the chip (`rtl.testbench.on_chip`), where the test bench sees them.
    """

    memory: npt.NDArray[np.uint8]
    total_cycles: int
    issue: Mapping[Unit, npt.NDArray[np.int64]]
    complete: Mapping[Unit, npt.NDArray[np.int64]]
    counters: Mapping[str, int]
    error: int
    first_error: FirstError
    registers: Mapping[str, int]
    on_chip: OnChip | None = None


COUNTERS = [f"{unit}_{cause}".replace(".", "_").upper() for unit in COUNTED_UNITS for cause in CAUSES]
"""Names of the stall counters' registers, in the order of addresses."""


def instructions_per_unit(code: bytes) -> list[int]:
    """How many instructions of `code` each unit executes, as far as opcodes tell."""
    if not code:
        raise InputError("code must be at least one instruction, got none")
    opcodes = np.frombuffer(code, np.uint8)[::INSTRUCTION_BYTES] & 15
    return [int((opcodes == isa.Opcode[unit.name]).sum()) for unit in Unit]


def prepared_memory(code: bytes, program_address: int, memory: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """A copy of `memory`, extended to a multiple of `MEMORY_ALIGNMENT`, with the program in it.

    Raises
    ------
    InputError
        The memory is not one-dimensional uint8, or the program is misaligned or does not fit.
    """
    if memory.dtype != np.uint8 or memory.ndim != 1:
        raise InputError(f"memory must be a one-dimensional array of uint8, got {memory.dtype} {memory.shape}")
    if program_address % INSTRUCTION_BYTES or not 0 <= program_address <= len(memory) - len(code):
        raise InputError(
            f"program_address must be a multiple of {INSTRUCTION_BYTES} with room for {len(code)} bytes in a memory of "
            f"{len(memory)}, got {program_address}"
        )
    result = np.zeros(-(-len(memory) // MEMORY_ALIGNMENT) * MEMORY_ALIGNMENT, np.uint8)
    result[: len(memory)] = memory
    result[program_address : program_address + len(code)] = np.frombuffer(code, np.uint8)
    return result


def result_from_registers(
    memory: npt.NDArray[np.uint8],
    total_cycles: int,
    stamps: list[dict[Unit, npt.NDArray[np.int64]]],
    registers: list[int],
) -> SimulationResult:
    """The result of a finished run whose registers were read back in address order.

    Raises
    ------
    DivergenceError
        The CYCLES register differs from the cycles that the test bench counted.
    """
    values = dict(zip(REGISTERS, registers, strict=True))
    if values["CYCLES"] != total_cycles & 0xFFFFFFFF:
        raise DivergenceError(f"CYCLES register must be {total_cycles}, the cycles counted, got {values['CYCLES']}")
    issue, complete = stamps
    counters = {name: values[name] for name in COUNTERS}
    first = FirstError.of(values)
    return SimulationResult(memory, total_cycles, issue, complete, counters, values["ERROR"], first, values)


def watchdog_error(max_cycles: int, issued: list[int], expected: list[int]) -> DivergenceError:
    """The error for a run that did not end."""
    progress = ", ".join(f"{unit.name} {issued[unit]} of {expected[unit]}" for unit in Unit)
    return DivergenceError(
        f"the RTL must finish within {max_cycles} cycles, got no end (issued: {progress}); "
        "raise max_cycles or check the program for waits without signals"
    )


def outside_memory_error(address: int, size: int) -> ProgramError:
    """The error for an access outside of the external memory."""
    return ProgramError(f"memory accesses must lie inside the external memory of {size} bytes, got {address:#x}")
