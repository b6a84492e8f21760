"""`execute`: one run of a program on the simulated machine."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from accel.errors import InputError, ProgramError
from accel.machine import timing
from accel.machine.causes import COMPLETE, DISPATCH, EMPTY, ISSUE, OCCUPIED, WORK
from accel.machine.config import ArchConfig
from accel.machine.isa import INSTRUCTION_BYTES, Opcode, Table, decode_table
from accel.machine.registers import CAUSES, COUNTED_UNITS
from accel.machine.rules.check import check_rules
from accel.machine.tokens import pair_tokens
from sim import timeline, work
from sim.fast import depthwise, dma, matmul, post
from sim.jit import jit
from sim.memories import Memories
from sim.result import SimulationResult
from sim.stepped import lanes, systolic
from sim.stepped import units as stepped

ENGINES = ("fast", "stepped")
CHUNK = 256
"""Instructions per call of a compiled loop: between calls the run can be interrupted."""

Progress = Callable[[int, int], None]
"""Called with the number of instructions done and in all."""

_LOAD, _EXEC, _POST, _STORE, _DEPTHWISE = (int(opcode) for opcode in Opcode)


def execute(
    config: ArchConfig,
    code: bytes,
    program_address: int,
    memory: npt.NDArray[np.uint8],
    *,
    engine: str = "fast",
    progress: Progress | None = None,
) -> SimulationResult:
    """Run `code` to its end: exact values and cycles.

    Parameters
    ----------
    config : ArchConfig
    code : bytes
        Instructions; the machine fetches them from `program_address`.
    program_address : int
        Byte address, a multiple of the instruction size. It matters for time only: `code` is what runs.
    memory : ndarray of uint8, shape (bytes,)
        Image of the external memory; not changed.
    engine : {"fast", "stepped"}
        Vectorised kernels and closed forms, or every register of array and depthwise engine in every cycle. Same
        results.
    progress : callable, optional
        Called between chunks of instructions.

    Returns
    -------
    SimulationResult

    Raises
    ------
    InputError
        An argument has the wrong type, shape or value.
    EncodingError
        `code` does not decode.
    ProgramError
        An instruction leaves a memory, waits for a token that is never posted, or means nothing on this machine.
    """
    _check_arguments(code, program_address, memory, engine)
    table, producers = _prepare(config, code, len(memory))
    stamps, causes = _run_time(config, table, producers, program_address, engine == "stepped")
    memories = Memories.of(config, memory)
    report = progress or _silent
    if engine == "stepped":
        _run_stepped(config, table, stamps, memories, report)
    else:
        _run_fast(config, table, memories, report)
    return SimulationResult(
        engine=engine,
        memory=memories.dram,
        total_cycles=int(causes[0].sum()),
        units=table[:, 0] - 1,
        dispatch=stamps[DISPATCH],
        issue=stamps[ISSUE],
        occupied=stamps[OCCUPIED],
        complete=stamps[COMPLETE],
        causes=causes,
        spad=memories.spad[: config.spad_words, : config.rows].astype(np.int8),
        wbuf=memories.wbuf.astype(np.int8),
        taps=memories.taps.astype(np.int8),
        acc=memories.acc,
        param=memories.param.astype(np.int8),
        table=memories.table.astype(np.int8),
        **work.count(config, table),
    )


@lru_cache(maxsize=8)
def _prepare(config: ArchConfig, code: bytes, memory_bytes: int) -> tuple[Table, Table]:
    """Decode and check a program once, however many inputs it runs on; read-only arrays."""
    table = decode_table(code)
    check_rules(config, table, dram_bytes=memory_bytes, most_steps=work.MOST_STEPS)
    producers = pair_tokens(table)
    for array in (table, producers):
        array.flags.writeable = False
    return table, producers


def _silent(done: int, total: int) -> None:
    """No progress report."""


def _check_arguments(code: bytes, program_address: int, memory: npt.NDArray[np.uint8], engine: str) -> None:
    if engine not in ENGINES:
        raise InputError(f"engine must be one of {', '.join(ENGINES)}, got {engine!r}")
    if not code:
        raise ProgramError("code must be at least one instruction, got none")
    if not isinstance(memory, np.ndarray) or memory.dtype != np.uint8 or memory.ndim != 1:
        kind = f"{memory.dtype} {memory.shape}" if isinstance(memory, np.ndarray) else type(memory).__name__
        raise InputError(f"memory must be a one-dimensional array of uint8, got {kind}")
    if program_address < 0 or program_address % INSTRUCTION_BYTES:
        raise ProgramError(f"program address must be a multiple of {INSTRUCTION_BYTES}, got {program_address}")


def _run_time(config: ArchConfig, table: Table, producers: Table, address: int, stepped: bool) -> tuple[Table, Table]:
    """Stamps, shape (6, instructions), and causes, shape (6, 8)."""
    machine, state = timing.Machine.of(config), timeline.State.of(config)
    stamps = np.zeros((WORK + 1, len(table)), np.int64)
    causes = np.zeros((len(COUNTED_UNITS), len(CAUSES)), np.int64)
    covered = np.full(len(COUNTED_UNITS), -1, np.int64)
    for first in range(0, len(table), CHUNK):
        last = min(first + CHUNK, len(table))
        timeline.schedule(machine, state, table, producers, address, stepped, stamps, first, last)
        timeline.count_causes(table[:, 0] - 1, producers, stamps, covered, causes, first, last)
    causes[:, EMPTY] = stamps[COMPLETE].max() + 2 - causes.sum(axis=1)
    return stamps, causes


def _run_fast(config: ArchConfig, table: Table, memories: Memories, progress: Progress) -> None:
    scratch = matmul.Scratch.of(config, table[table[:, 0] == _EXEC])
    for first in range(0, len(table), CHUNK):
        last = min(first + CHUNK, len(table))
        _check_done(_execute_range(table, memories, scratch, config.rows, config.post_lanes, first, last))
        progress(last, len(table))


def _check_done(bad: int) -> None:
    if bad >= 0:
        raise ProgramError(
            f"instruction {bad}: POST reads a parameter record that is not a multiplier and shift of its mode; "
            "load its records before, and signal their arrival"
        )


@jit
def _execute_range(
    table: Any, memories: Memories, scratch: matmul.Scratch, rows: int, lanes: int, first: int, last: int
) -> int:
    """Values of some instructions in program order; the index of one that failed, or -1."""
    for i in range(first, last):
        if table[i, 0] == _LOAD:
            dma.load(table[i], memories)
        elif table[i, 0] == _EXEC:
            matmul.execute(table[i], memories, scratch)
        elif table[i, 0] == _POST:
            if not post.execute(table[i], memories, rows, lanes):
                return i
        elif table[i, 0] == _STORE:
            dma.store(table[i], memories)
        else:
            depthwise.execute(table[i], memories)
    return -1


def _run_stepped(config: ArchConfig, table: Table, stamps: Table, memories: Memories, progress: Progress) -> None:
    """Values in the order of time: array and depthwise engine are stepped to the issue of each instruction."""
    units, scratch, issues = stepped.Units.of(config), matmul.Scratch.of(config, table[:0]), stamps[ISSUE]
    written = np.where(np.isin(table[:, 0], (_EXEC, _DEPTHWISE)), -1, stamps[COMPLETE])
    for done, i in enumerate(np.argsort(issues, kind="stable"), 1):
        stepped.run(units, memories, table, written, issues[i])
        if table[i, 0] == _EXEC:
            systolic.issue(units.array, i, table[i])
        elif table[i, 0] == _DEPTHWISE:
            lanes.issue(units.lanes, i, table[i])
        else:
            _check_done(_execute_range(table, memories, scratch, config.rows, config.post_lanes, i, i + 1))
        if done % CHUNK == 0 or done == len(table):
            progress(done, len(table))
    stepped.run(units, memories, table, written, int(stamps[COMPLETE].max()))
    late = np.flatnonzero(written != stamps[COMPLETE])
    if len(late):
        raise ProgramError(
            f"instruction {late[0]}: its last accumulator write was in cycle {written[late[0]]} and not, "
            f"as its sequencer said, in {stamps[COMPLETE, late[0]]}"
        )
