"""`Simulator`: runs of a program on the simulated machine."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from accel.errors import InputError, ProgramError
from accel.machine import timing
from accel.machine.causes import COMPLETE, DISPATCH, EMPTY, ISSUE, OCCUPIED, WORK
from accel.machine.config import ArchConfig
from accel.machine.isa import INSTRUCTION_BYTES, Memory, Opcode, Table, decode_table
from accel.machine.registers import CAUSES, COUNTED_UNITS
from accel.machine.rules.check import check_rules
from accel.machine.tokens import pair_tokens
from sim import timeline, work
from sim.fast import depthwise, dma, matmul, post, weights
from sim.fast.weights import Weights
from sim.fields import LOAD
from sim.jit import bind, kernel
from sim.memories import Memories, OnChip
from sim.result import SimulationResult
from sim.stepped import units as stepped
from sim.stepped.probe import Probe

ENGINES = ("fast", "stepped")
CHUNK = 256
"""Instructions per call of a compiled loop: between calls the run can be interrupted."""

TIMING_CHUNK = 1 << 13
"""The same for the loops that compute time only."""

Progress = Callable[[int, int], None]
"""Called with the number of instructions done and in all."""

_LOAD, _EXEC, _POST, _STORE, _DEPTHWISE = (int(opcode) for opcode in Opcode)


class Timing(NamedTuple):
    """Cycles of a run, which do not depend on values.

    `stamps` has shape (6, instructions), `causes` (6, 8); see `accel.machine.causes`.
    """

    stamps: Table
    causes: Table

    @property
    def total_cycles(self) -> int:
        """Cycles from the first in which `running` is high to the last."""
        return int(self.causes[0].sum())

    @property
    def dispatch(self) -> Table:
        """Dispatch cycle of every instruction."""
        return np.asarray(self.stamps[DISPATCH])

    @property
    def issue(self) -> Table:
        """Issue cycle of every instruction."""
        return np.asarray(self.stamps[ISSUE])

    @property
    def occupied(self) -> Table:
        """Last cycle in which every instruction holds its unit."""
        return np.asarray(self.stamps[OCCUPIED])

    @property
    def complete(self) -> Table:
        """Completion cycle of every instruction."""
        return np.asarray(self.stamps[COMPLETE])


class Scratch(NamedTuple):
    """Working arrays of one run."""

    matmul: matmul.Scratch
    post: post.Scratch
    depthwise: depthwise.Scratch

    @classmethod
    def of(cls, config: ArchConfig, table: Table) -> Scratch:
        """Scratch for the instructions in the decoded `table`."""
        opcodes = table[:, 0]
        return cls(
            matmul.Scratch.of(table[opcodes == _EXEC]),
            post.Scratch.of(table[opcodes == _POST], config.post_lanes),
            depthwise.Scratch.of(table[opcodes == _DEPTHWISE], config.cols),
        )

    def fresh(self) -> Scratch:
        """Arrays of the same sizes for another run."""
        return Scratch._make(type(part)._make(map(np.zeros_like, part)) for part in self)


class Simulator:
    """A program, decoded and checked once for all of its runs, which also share its timing and its packed weights.

    Parameters
    ----------
    config : ArchConfig
    code : bytes
        Instructions; the machine fetches them from `program_address`.
    program_address : int
        Byte address, a multiple of the instruction size. It matters for time only: `code` is what runs.
    memory_bytes : int
        Size of the external memory.
    constants : (int, int), optional
        First and end of bytes of external memory that are the same before every run: weights from there are packed
        in the first run for all further ones.

    Raises
    ------
    EncodingError
        `code` does not decode.
    ProgramError
        An instruction leaves a memory, waits for a token that is never posted, or means nothing on this machine.
    """

    def __init__(
        self,
        config: ArchConfig,
        code: bytes,
        program_address: int,
        memory_bytes: int,
        constants: tuple[int, int] | None = None,
    ) -> None:
        if not code:
            raise ProgramError("code must be at least one instruction, got none")
        if program_address < 0 or program_address % INSTRUCTION_BYTES:
            raise ProgramError(f"program address must be a multiple of {INSTRUCTION_BYTES}, got {program_address}")
        self.config, self.program_address, self.memory_bytes = config, program_address, memory_bytes
        self.table = decode_table(code)
        check_rules(config, self.table, dram_bytes=memory_bytes, most_steps=work.MOST_STEPS)
        self._producers = pair_tokens(self.table)
        for array in (self.table, self._producers):
            array.flags.writeable = False
        self._is_constant = constants is not None and weights.are_constant(self.table, constants)
        self._packed: tuple[Weights, npt.NDArray[np.int8]] | None = None

    @cached_property
    def timing(self) -> Timing:
        """Cycles of every run; computed when first asked for."""
        return self._time(stepped=False)

    @cached_property
    def _scratch(self) -> Scratch:
        return Scratch.of(self.config, self.table)

    @cached_property
    def work(self) -> dict[str, int]:
        """Multiplications, and bytes that cross each channel."""
        return work.count(self.config, self.table)

    def run(
        self,
        memory: npt.NDArray[np.uint8],
        *,
        engine: str = "fast",
        progress: Progress | None = None,
        in_place: bool = False,
        on_chip: OnChip | None = None,
        probe: Probe | None = None,
    ) -> SimulationResult:
        """Run the program to its end: exact values and cycles.

        Parameters
        ----------
        memory : ndarray of uint8, shape (memory_bytes,)
            Image of the external memory.
        engine : {"fast", "stepped"}
            Vectorised kernels and closed forms, or every register of array and depthwise engine in every cycle. Same
            results.
        progress : callable, optional
            Called between chunks of instructions.
        in_place : bool
            `memory` becomes the memory after the run; otherwise it is not changed.
        on_chip : mapping of Space to ndarray of uint8, optional
            What the memories on the chip hold before the run (`SimulationResult.on_chip` of another); default: zeros.
        probe : Probe, optional
            Collects registers of the array; for the engine "stepped".

        Raises
        ------
        InputError
            An argument has the wrong type, shape or value.
        ProgramError
            A parameter record is not legal.
        """
        _check_memory(memory, self.memory_bytes)
        _check_engine(engine)
        memories = Memories.of(self.config, memory if in_place else memory.copy(), on_chip)
        report = progress or _silent
        if probe and engine != "stepped":
            raise InputError(f"engine must be 'stepped' to have registers, got {engine!r}")
        if engine == "stepped":
            timing = self._time(stepped=True)
            _run_stepped(self.config, self.table, timing.stamps, memories, report, probe)
            if probe:
                probe.end(timing.total_cycles)
        else:
            timing = self.timing
            memories = self._run_fast(memories, report)
        return SimulationResult(
            engine=engine,
            memory=memories.dram,
            total_cycles=timing.total_cycles,
            units=self.table[:, 0] - 1,
            dispatch=timing.dispatch,
            issue=timing.issue,
            occupied=timing.occupied,
            complete=timing.complete,
            causes=timing.causes,
            memories=memories,
            rows=self.config.rows,
            **self.work,
        )

    def _run_fast(self, memories: Memories, progress: Progress) -> Memories:
        table, packed = self.table, self._packed
        if packed is None:
            prepared = Weights.of(self.config, table)
        else:
            prepared, memories = packed[0], memories._replace(wbuf=packed[1])
        scratch, lanes = self._scratch.fresh(), self.config.post_lanes
        execute = bind(_execute_range, table, memories, scratch, prepared, self.config.rows, lanes, further=2)
        for first in range(0, len(table), CHUNK):
            last = min(first + CHUNK, len(table))
            _check_done(execute(first, last))
            progress(last, len(table))
        if packed is None and self._is_constant:
            skipped = (table[:, 0] == _LOAD) & (table[:, LOAD.memory] == int(Memory.WBUF))
            self._packed = prepared._replace(fresh=np.where(skipped, weights.DONE, 0)), memories.wbuf
        return memories

    def _time(self, *, stepped: bool) -> Timing:
        config, table, units = self.config, self.table, self.table[:, 0] - 1
        machine, state = timing.Machine.of(config), timeline.State.of(config)
        stamps = np.zeros((WORK + 1, len(table)), np.int64)
        causes = np.zeros((len(COUNTED_UNITS), len(CAUSES)), np.int64)
        covered = np.full(len(COUNTED_UNITS), -1, np.int64)
        for first in range(0, len(table), TIMING_CHUNK):
            last = min(first + TIMING_CHUNK, len(table))
            timeline.schedule(
                machine, state, table, self._producers, self.program_address, stepped, stamps, first, last
            )
            timeline.count_causes(units, self._producers, stamps, covered, causes, first, last)
        causes[:, EMPTY] = stamps[COMPLETE].max() + 2 - causes.sum(axis=1)
        return Timing(stamps, causes)


def execute(
    config: ArchConfig,
    code: bytes,
    program_address: int,
    memory: npt.NDArray[np.uint8],
    *,
    engine: str = "fast",
    progress: Progress | None = None,
    on_chip: OnChip | None = None,
) -> SimulationResult:
    """Run `code` once on the external memory `memory`; arguments and errors as those of `Simulator` and its `run`."""
    _check_engine(engine)
    if not isinstance(memory, np.ndarray):
        _check_memory(memory, 0)
    simulator = _simulator(config, code, program_address, len(memory))
    return simulator.run(memory, engine=engine, progress=progress, on_chip=on_chip)


@lru_cache(maxsize=8)
def _simulator(config: ArchConfig, code: bytes, program_address: int, memory_bytes: int) -> Simulator:
    return Simulator(config, code, program_address, memory_bytes)


def _silent(done: int, total: int) -> None:
    """No progress report."""


def _check_engine(engine: str) -> None:
    if engine not in ENGINES:
        raise InputError(f"engine must be one of {', '.join(ENGINES)}, got {engine!r}")


def _check_memory(memory: npt.NDArray[np.uint8], size: int) -> None:
    if not isinstance(memory, np.ndarray) or memory.dtype != np.uint8 or memory.ndim != 1:
        kind = f"{memory.dtype} {memory.shape}" if isinstance(memory, np.ndarray) else type(memory).__name__
        raise InputError(f"memory must be a one-dimensional array of uint8, got {kind}")
    if len(memory) != size or not memory.flags.c_contiguous:
        raise InputError(f"memory must be a contiguous array of {size} bytes, got {len(memory)}")


def _check_done(bad: int) -> None:
    if bad >= 0:
        raise ProgramError(
            f"instruction {bad}: POST reads a parameter record that is not a multiplier and shift of its mode; "
            "load its records before, and signal their arrival"
        )


@kernel
def _execute_range(
    table: Any, memories: Memories, scratch: Scratch, prepared: Weights, rows: int, lanes: int, first: int, last: int
) -> int:
    """Values of some instructions in program order; the index of one that failed, or -1."""
    for i in range(first, last):
        if table[i, 0] == _LOAD:
            if prepared.fresh[i] != weights.DONE:
                dma.load(table[i], memories)
        elif table[i, 0] == _EXEC:
            matmul.execute(table[i], memories, scratch.matmul, prepared.packed, prepared.slots[i], prepared.fresh[i])
        elif table[i, 0] == _POST:
            if not post.execute(table[i], memories, scratch.post, rows, lanes):
                return i
        elif table[i, 0] == _STORE:
            dma.store(table[i], memories)
        else:
            depthwise.execute(table[i], memories, scratch.depthwise)
    return -1


def _run_stepped(
    config: ArchConfig, table: Table, stamps: Table, memories: Memories, progress: Progress, probe: Probe | None
) -> None:
    """Values in the order of time: array and depthwise engine are stepped to the issue of each instruction."""
    units, scratch, issues = stepped.Units.of(config), Scratch.of(config, table), stamps[ISSUE]
    unused = Weights.none(len(table))
    written = np.where(np.isin(table[:, 0], (_EXEC, _DEPTHWISE)), -1, stamps[COMPLETE])
    step = bind(stepped.run, units, memories, table, written, further=1)
    issue = bind(stepped.issue, units, table, further=1)
    execute = bind(_execute_range, table, memories, scratch, unused, config.rows, config.post_lanes, further=2)
    for done, i in enumerate(np.argsort(issues, kind="stable"), 1):
        _step(step, units, int(issues[i]), probe)
        if table[i, 0] in (_EXEC, _DEPTHWISE):
            issue(i)
        else:
            _check_done(execute(i, i + 1))
        if done % CHUNK == 0 or done == len(table):
            progress(done, len(table))
    _step(step, units, int(stamps[COMPLETE].max()) + 1, probe)
    late = np.flatnonzero(written != stamps[COMPLETE])
    if len(late):
        raise ProgramError(
            f"instruction {late[0]}: its last accumulator write was in cycle {written[late[0]]} and not, "
            f"as its sequencer said, in {stamps[COMPLETE, late[0]]}"
        )


def _step(run: Callable[[int], object], units: stepped.Units, until: int, probe: Probe | None) -> None:
    """Step by `run` to the end of cycle `until`, in the window of `probe` by single cycles."""
    if probe:
        for cycle in probe.cycles(int(units.clock[0]) + 1, until):
            run(cycle)
            probe.collect(units.array, cycle)
    run(until)
