"""How much instructions do: the counters of a run, and the most that one of them may."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from accel.errors import ProgramError
from accel.machine.config import ArchConfig
from accel.machine.isa import INSTRUCTION_BYTES, Opcode
from sim.fields import DEPTHWISE, EXEC, LOAD, POST, STORE

MOST_STEPS = 1 << 32
"""Most steps of one instruction, minutes to hours of simulation: more is a mistake, and the run would seem to hang."""

LOOPS = {
    Opcode.LOAD: (LOAD.outer_count, LOAD.row_count, LOAD.row_words),
    Opcode.EXEC: (EXEC.chunk_count, EXEC.ky_count, EXEC.kx_count, EXEC.oy_count, EXEC.ox_count),
    Opcode.POST: (
        POST.word_count, POST.oy_count, POST.ox_count, POST.group_count, POST.ky_count, POST.kx_count,
    ),
    Opcode.STORE: (STORE.outer_count, STORE.row_count, STORE.row_words),
    Opcode.DEPTHWISE: (DEPTHWISE.ky_count, DEPTHWISE.oy_count, DEPTHWISE.row_steps),
}  # fmt: skip
"""Fields whose product are an instruction's steps: words, or for EXEC weight tiles times pixels; 2**58 at most."""

Table = npt.NDArray[np.int64]


def check_steps(table: Table) -> None:
    """Refuse a program with an instruction of more than `MOST_STEPS` steps.

    Raises
    ------
    ProgramError
        Naming the first such instruction of its kind and its steps.
    """
    for opcode, loops in LOOPS.items():
        at = np.flatnonzero(table[:, 0] == opcode)
        steps = np.prod(table[np.ix_(at, loops)], axis=1)
        bad = np.flatnonzero(steps > MOST_STEPS)
        if len(bad):
            raise ProgramError(
                f"instruction {at[bad[0]]}: {opcode.name} must have at most {MOST_STEPS} steps to be simulated, "
                f"got {steps[bad[0]]}"
            )


def count(config: ArchConfig, table: Table) -> dict[str, int]:
    """Multiplications, and bytes that crossed each channel, of a whole program: fields of `SimulationResult`."""
    execs, depthwise, loads, stores = (
        table[table[:, 0] == opcode] for opcode in (Opcode.EXEC, Opcode.DEPTHWISE, Opcode.LOAD, Opcode.STORE)
    )
    products = np.prod(execs[:, LOOPS[Opcode.EXEC]], axis=1) * execs[:, EXEC.k_rows] * config.cols
    window = (DEPTHWISE.ky_count, DEPTHWISE.kx_count, DEPTHWISE.oy_count, DEPTHWISE.ox_count)
    lane_products = np.prod(depthwise[:, window], axis=1) * config.depthwise_lanes
    store_loops = (*LOOPS[Opcode.STORE], STORE.word_bytes)
    return {
        "macs": int(products.sum() + lane_products.sum()),
        "fetch_bytes": len(table) * INSTRUCTION_BYTES,
        "load_bytes": int(np.prod(loads[:, (LOAD.outer_count, LOAD.row_count, LOAD.row_bytes)], axis=1).sum()),
        "store_bytes": int(np.prod(stores[:, store_loops], axis=1).sum()),
    }
