"""Comparison of the engines with each other and with the naive machine."""

from __future__ import annotations

import numpy as np

import sim
from accel.machine.config import ArchConfig
from accel.machine.isa import Unit
from support.machine.naive import Cycles, Values
from support.machine.random_programs import RandomProgram

MEMORIES = ("memory", "spad", "wbuf", "taps", "param", "table", "acc")
TIMES = ("total_cycles", "dispatch", "issue", "complete", "causes")


def differences(config: ArchConfig, program: RandomProgram, *, cycles: bool = True) -> list[str]:
    """What differs between naive, fast and stepped, by name; empty if nothing does."""
    fast, stepped = (
        sim.execute(config, program.code, program.program_address, program.memory, engine=engine)
        for engine in sim.ENGINES
    )
    pairs = [(name, getattr(fast, name), getattr(stepped, name)) for name in (*MEMORIES, *TIMES)]
    values = Values(config, program.memory).run(program.instructions)
    pairs += [(f"naive {name}", getattr(fast, name), getattr(values, name)) for name in MEMORIES]
    if cycles:
        naive = Cycles(config, program.instructions, program.program_address)
        pairs += [("naive total", fast.total_cycles, naive.total), ("naive causes", fast.causes, naive.causes())]
        pairs += [("naive dispatch", fast.dispatch, naive.dispatched)]
        for unit in Unit:
            issue, complete = fast.stamps(unit)
            pairs += [(f"naive issue {unit.name}", issue, naive.issue[unit])]
            pairs += [(f"naive complete {unit.name}", complete, naive.complete[unit])]
    return [name for name, left, right in pairs if not np.array_equal(left, right)]
