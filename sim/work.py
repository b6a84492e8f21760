"""The work of instructions: the counters of a run, and the limit of steps for one instruction."""

from __future__ import annotations

from accel.machine.config import ArchConfig
from accel.machine.isa import INSTRUCTION_BYTES, Opcode, Table
from accel.machine.loops import LOOPS
from accel.machine.rules.rows import Rows

MOST_STEPS = 1 << 32
"""Most steps of one instruction, minutes to hours of simulation: more is a mistake, and the run would seem to hang."""


def count(config: ArchConfig, table: Table) -> dict[str, int]:
    """Multiplications, and bytes that crossed each channel, of a whole program: fields of `SimulationResult`."""
    exec_, depthwise, load, store = (
        Rows.of(opcode, table) for opcode in (Opcode.EXEC, Opcode.DEPTHWISE, Opcode.LOAD, Opcode.STORE)
    )
    products = exec_.product(*LOOPS[Opcode.EXEC], "k_rows").sum() * config.cols
    lane_products = depthwise.product("ky_count", "kx_count", "oy_count", "ox_count").sum() * config.depthwise_lanes
    return {
        "macs": int(products + lane_products),
        "fetch_bytes": len(table) * INSTRUCTION_BYTES,
        "load_bytes": int(load.product("outer_count", "row_count", "row_bytes").sum()),
        "store_bytes": int(store.product(*LOOPS[Opcode.STORE], "word_bytes").sum()),
    }
