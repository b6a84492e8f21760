"""`check_rules`: all rules on all instructions of a program."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TypeAlias

from accel.errors import ProgramError
from accel.machine.config import ArchConfig
from accel.machine.isa import Opcode, Table, Unit
from accel.machine.loops import LOOPS
from accel.machine.memories import DRAM_BYTES
from accel.machine.rules.in_place import late_reads
from accel.machine.rules.post import post_fields, post_uses
from accel.machine.rules.rows import Broken, Rows
from accel.machine.rules.sums import depthwise_fields, depthwise_stream, depthwise_uses, exec_fields, exec_uses
from accel.machine.rules.transfers import dram_rules, load_fields, load_uses, store_fields, store_uses

Rules: TypeAlias = Callable[[ArchConfig, Rows], Iterator[Broken]]

FIELD_RULES: Mapping[Opcode, Rules] = {
    Opcode.LOAD: load_fields,
    Opcode.EXEC: exec_fields,
    Opcode.POST: post_fields,
    Opcode.STORE: store_fields,
    Opcode.DEPTHWISE: depthwise_fields,
}
"""Rules on fields and small sums of them: the RTL makes gates of the same functions (`rtl.legality`)."""

USE_RULES: Mapping[Opcode, Rules] = {
    Opcode.LOAD: load_uses,
    Opcode.EXEC: exec_uses,
    Opcode.POST: post_uses,
    Opcode.STORE: store_uses,
    Opcode.DEPTHWISE: depthwise_uses,
}
"""Rules on what an instruction uses: the RTL sees a break when it comes to it."""


def check_rules(
    config: ArchConfig, table: Table, *, dram_bytes: int = DRAM_BYTES, most_steps: int | None = None
) -> None:
    """Prove that each instruction by itself is defined on a machine and stays inside of its memories.

    Parameters
    ----------
    config : ArchConfig
    table : ndarray of int64, shape (instructions, COLUMNS)
        The program as `accel.machine.isa.decode_table` returns it.
    dram_bytes : int
        Size of the external memory.
    most_steps : int, optional
        Refuse instructions of more steps (`accel.machine.loops`).

    Raises
    ------
    ProgramError
        One sentence: the first instruction that breaks a rule, its field, the limit and the value.

    Notes
    -----
    The contents of memory are not examined: PARAM records are the producer's responsibility.
    """
    groups = [rows for rows in (Rows.of(opcode, table) for opcode in Opcode) if len(rows)]
    broken = [found for rows in groups for found in _broken(config, rows, dram_bytes, most_steps)]
    if not broken:  # only now do all addresses exist
        broken = [found for rows in groups if rows.opcode is Opcode.POST for found in late_reads(config, rows)]
    if broken:
        raise ProgramError(min(broken, key=lambda found: found.instruction).sentence)


def _broken(config: ArchConfig, rows: Rows, dram_bytes: int, most_steps: int | None) -> Iterator[Broken]:
    """For each rule that is broken the first instruction that breaks it."""
    for mask in ("wait", "signal"):
        yield from rows.most(f"{mask} bits", rows[mask], (1 << len(Unit)) - 1)
    if most_steps is not None:
        steps = rows.product(*LOOPS[rows.opcode])
        yield from rows.refuse(
            steps > most_steps,
            "the simulator can take that many steps",
            lambda i: f"must have at most {most_steps} steps to be simulated, got {steps[i]}",
        )
    yield from FIELD_RULES[rows.opcode](config, rows)
    if rows.opcode is Opcode.DEPTHWISE:
        yield from depthwise_stream(config, rows)
    yield from USE_RULES[rows.opcode](config, rows)
    if rows.opcode in (Opcode.LOAD, Opcode.STORE):
        yield from dram_rules(rows, dram_bytes)
