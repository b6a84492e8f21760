"""Columns of decoded instructions, as constants for kernels: ``row[EXEC.k_rows]``."""

from __future__ import annotations

from accel.machine.isa import Opcode, columns

LOAD = columns(Opcode.LOAD)
EXEC = columns(Opcode.EXEC)
POST = columns(Opcode.POST)
STORE = columns(Opcode.STORE)
DEPTHWISE = columns(Opcode.DEPTHWISE)
