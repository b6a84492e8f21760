"""Runs programs on the Verilog with Verilator: the whole run is compiled code, one call from Python."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from accel.errors import DivergenceError
from accel.machine.config import ArchConfig
from accel.machine.isa import INSTRUCTION_BYTES, Unit
from accel.machine.registers import REGISTERS, WATCHDOG_CYCLES
from rtl.axi_monitor import protocol_error
from rtl.testbench.on_chip import OnChip, entry_bytes, parts, zeros
from rtl.testbench.result import (
    SimulationResult,
    instructions_per_unit,
    outside_memory_error,
    prepared_memory,
    result_from_registers,
    watchdog_error,
)
from rtl.testbench.verilate import COUNTERS, EMITTED, STATUSES, Variant, build

RUNNING, FINISHED, WATCHDOG, OUTSIDE_MEMORY, BUS_PROTOCOL, TOO_MANY_EVENTS, MONITOR = range(len(STATUSES))
UNITS = len(Unit)


class Job(ctypes.Structure):
    """Mirrors `Job` in verilator_main.cpp."""

    _fields_ = (
        ("memory", ctypes.c_void_p),
        ("memory_bytes", ctypes.c_uint64),
        ("max_cycles", ctypes.c_uint64),
        ("stalls_seed", ctypes.c_uint64),
        ("image_address", ctypes.c_uint64),
        ("memory_base", ctypes.c_uint64),
        ("program_address", ctypes.c_uint32),
        ("program_count", ctypes.c_uint32),
        ("read_latency", ctypes.c_uint32),
        ("write_latency", ctypes.c_uint32),
        ("watchdog", ctypes.c_uint32),
        ("answer_outside", ctypes.c_uint32),
        ("wrong_beat", ctypes.c_uint64),
        ("stop_cycles", ctypes.c_uint64),
        ("clear_cycles", ctypes.c_uint64),
        ("pause_begin", ctypes.c_uint64),
        ("pause_cycles", ctypes.c_uint64),
        ("mutant", ctypes.c_uint64),
        ("offsets", ctypes.c_void_p),
        ("offset_cycle", ctypes.c_uint64),
        ("stamps", (ctypes.c_void_p * UNITS) * 2),
        ("capacity", ctypes.c_uint64 * UNITS),
        ("count", (ctypes.c_uint64 * UNITS) * 2),
        ("total_cycles", ctypes.c_uint64),
        ("fault_address", ctypes.c_uint64),
        ("registers", ctypes.c_uint32 * len(REGISTERS)),
    )


class Access(ctypes.Structure):
    """Mirrors `Access` in verilator_main.cpp: one access to a register, and what came back.

    Parameters
    ----------
    address, data, strobe : int
        Data and strobe are a write's.
    write : int
        1 for a write.
    apart : int
        Cycles from a write's address to its data; negative if the data come first.
    hold : int
        Cycles before the response is accepted.
    """

    _fields_ = (
        ("address", ctypes.c_uint32),
        ("data", ctypes.c_uint32),
        ("strobe", ctypes.c_uint32),
        ("hold", ctypes.c_uint32),
        ("apart", ctypes.c_int32),
        ("write", ctypes.c_uint32),
        ("response", ctypes.c_uint32),
        ("interrupt", ctypes.c_uint32),
    )


@dataclass(frozen=True)
class Conditions:
    """What a driver or a memory may do beside running the program.

    Parameters
    ----------
    stop_cycles : int
        Stop the run in this cycle if it is still under way; 0: never.
    clear_cycles : int
        Clear the done bit in this cycle, which has no effect while the run is under way; 0: never.
    watchdog : int
        Value of the register.
    answer_outside : bool
        Accesses outside of the memory are answered by decode errors; otherwise they raise ProgramError.
    wrong_beat : int
        The beat at this address of the memory is read with an error response; -1: none.
    memory_base : int
        Where in the image the memory begins, a multiple of `accel.machine.registers.IMAGE_ALIGNMENT` below 2^32.
    pause_begin, pause_cycles : int
        From this cycle of the run on, for so many, the memory accepts nothing and offers nothing new.
    beyond : int
        PROGRAM_COUNT has so many instructions more than the code.
    offset_cycle : int
        In which offsets are added to counters: these have been cleared in the default, and no instruction been fetched.
    """

    stop_cycles: int = 0
    clear_cycles: int = 0
    watchdog: int = WATCHDOG_CYCLES
    answer_outside: bool = False
    wrong_beat: int = -1
    memory_base: int = 0
    pause_begin: int = 0
    pause_cycles: int = 0
    beyond: int = 0
    offset_cycle: int = 4


UNDISTURBED = Conditions()


class Powered:
    """The Verilated machine from its reset on: programs run one after the other, without another reset.

    Parameters
    ----------
    config : ArchConfig
    stalls_seed : int, optional
        Random stalls on every bus channel instead of the memory of docs/timing.md.
    variant : Variant
    mutant : int
        What the input `mutant` is, from the reset on, if the variant has it.

    Raises
    ------
    ToolError
        Verilator or a C++ compiler is missing or fails.

    Notes
    -----
    `on_chip` reads and writes the model's variables; the Verilog has no port for it.
    """

    def __init__(
        self, config: ArchConfig, *, stalls_seed: int | None = None, variant: Variant = EMITTED, mutant: int = 0
    ) -> None:
        self._timing = {
            "stalls_seed": 0 if stalls_seed is None else _nonzero(stalls_seed),
            "read_latency": config.read_latency_cycles,
            "write_latency": config.write_latency_cycles,
            "mutant": mutant,
        }
        self._config = config
        self._library = ctypes.CDLL(str(build(config, variant)))
        self._library.testbench_create.restype = ctypes.c_void_p
        self._library.testbench_memory.restype = ctypes.POINTER(ctypes.c_uint8)
        self._handle = ctypes.c_void_p(self._library.testbench_create(ctypes.byref(Job(**self._timing))))

    def __enter__(self) -> Powered:
        return self

    def __exit__(self, *error: object) -> None:
        self._library.testbench_destroy(self._handle)

    def run(
        self,
        code: bytes,
        program_address: int,
        memory: npt.NDArray[np.uint8],
        *,
        max_cycles: int,
        image_address: int = 0,
        conditions: Conditions = UNDISTURBED,
        offsets: npt.NDArray[np.uint32] | None = None,
    ) -> SimulationResult:
        """Execute a program; all else as for `run`.

        `offsets` are added to `COUNTERS` in the cycle that `conditions` tell, and replaced by what was added.
        """
        counts, given = instructions_per_unit(code), asdict(conditions)
        work = prepared_memory(code, program_address, memory)
        stamps = [[np.zeros(count, np.int64) for count in counts] for _ in range(2)]
        job = Job(
            memory=work.ctypes.data,
            memory_bytes=len(work),
            max_cycles=max_cycles,
            image_address=image_address,
            program_address=program_address,
            program_count=len(code) // INSTRUCTION_BYTES + given.pop("beyond"),
            offsets=None if offsets is None else offsets.ctypes.data,
            **given,
            **self._timing,
        )
        for unit in Unit:
            job.capacity[unit] = counts[unit]
            for kind in range(2):
                job.stamps[kind][unit] = stamps[kind][unit].ctypes.data
        status = self._finish(job)
        if status == WATCHDOG:
            raise watchdog_error(max_cycles, list(job.count[0]), counts)
        if status == OUTSIDE_MEMORY:
            raise outside_memory_error(job.fault_address, len(memory))
        if status == MONITOR:
            raise protocol_error(job.fault_address)
        if status != FINISHED:
            what = "the AXI protocol" if status == BUS_PROTOCOL else "one issue and completion per instruction"
            raise DivergenceError(f"the RTL must obey {what}, got a violation at address {job.fault_address:#x}")
        per_unit = [{unit: kind[unit][: job.count[k][unit]] for unit in Unit} for k, kind in enumerate(stamps)]
        result = result_from_registers(work[: len(memory)], job.total_cycles, per_unit, list(job.registers))
        return replace(result, on_chip=self.on_chip)

    @property
    def on_chip(self) -> OnChip:
        """The memories on the chip, as copies; assigning puts other values into them, between programs."""
        state = zeros(self._config)
        for view, held in self._memory_views(state):
            view[:] = held
        return state

    @on_chip.setter
    def on_chip(self, state: OnChip) -> None:
        whole = {space: np.broadcast_to(state[space], held.shape) for space, held in zeros(self._config).items()}
        for view, held in self._memory_views(whole):
            held[:] = view

    @property
    def counters(self) -> npt.NDArray[np.uint32]:
        """What `COUNTERS` hold after a run; needs a variant with counters."""
        held = np.zeros(len(COUNTERS), np.uint32)
        self._library.testbench_counters(self._handle, ctypes.c_void_p(held.ctypes.data))
        return held

    def access(self, access: Access) -> None:
        """Write or read a register while no program runs; fills in `response`, `interrupt` and a read's `data`."""
        self._library.testbench_access(self._handle, ctypes.byref(access))

    def reset(self) -> None:
        """Reset machine and memory, in any state; what is in the memories on the chip stays."""
        self._library.testbench_reset(self._handle)

    def write_coverage(self, path: Path) -> None:
        """What was covered since the model was made, in Verilator's format; needs a variant with coverage."""
        self._library.testbench_coverage(self._handle, str(path).encode())

    def _memory_views(self, state: OnChip) -> Iterator[tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]]:
        """Each part of a state, and the same bytes in the running model."""
        size = ctypes.c_uint64()
        for index, part in enumerate(parts(self._config)):
            view = state[part.space][part.words, part.columns]
            data = self._library.testbench_memory(self._handle, index, ctypes.byref(size))
            entries = np.ctypeslib.as_array(data, (size.value,)).reshape(-1, entry_bytes(view.shape[1]))
            yield view, entries[: view.shape[0], : view.shape[1]]

    def _finish(self, job: Job) -> int:
        """Run in slices, so that Python handles an interrupt from the keyboard in between."""
        self._library.testbench_start(self._handle, ctypes.byref(job))
        while (status := self._library.testbench_advance(self._handle, ctypes.byref(job))) == RUNNING:
            pass
        return int(status)


def run(
    config: ArchConfig,
    code: bytes,
    program_address: int,
    memory: npt.NDArray[np.uint8],
    *,
    max_cycles: int,
    stalls_seed: int | None = None,
    image_address: int = 0,
) -> SimulationResult:
    """Execute a program on the Verilated machine after a reset, started and read back over AXI4-Lite.

    Parameters
    ----------
    config : ArchConfig
    code : bytes
        Encoded program; it is copied to `program_address`.
    program_address : int
        Multiple of 64.
    memory : ndarray of uint8, one-dimensional
        The program's image: external memory from `image_address` on; it is not changed.
    max_cycles : int
        Give up after so many cycles.
    stalls_seed : int, optional
        Random stalls on every bus channel instead of the memory of docs/timing.md.
    image_address : int
        Multiple of `accel.machine.registers.IMAGE_ALIGNMENT`, 64 bits.

    Raises
    ------
    ToolError
        Verilator or a C++ compiler is missing or fails.
    ProgramError
        The program accesses memory outside of `memory`.
    DivergenceError
        The machine does not end within `max_cycles`, or breaks the bus protocol.
    """
    with Powered(config, stalls_seed=stalls_seed) as machine:
        return machine.run(code, program_address, memory, max_cycles=max_cycles, image_address=image_address)


def _nonzero(seed: int) -> int:
    """A well-mixed, non-zero 64-bit state for a seed."""
    return int(np.random.SeedSequence(seed).generate_state(1, np.uint64)[0]) | 1
