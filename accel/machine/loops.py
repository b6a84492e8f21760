"""The loops of each instruction: how many steps it takes."""

from __future__ import annotations

from collections.abc import Mapping

from accel.machine.isa import Opcode

LOOPS: Mapping[Opcode, tuple[str, ...]] = {
    Opcode.LOAD: ("outer_count", "row_count", "row_words"),
    Opcode.EXEC: ("chunk_count", "ky_count", "kx_count", "oy_count", "ox_count"),
    Opcode.POST: ("word_count", "oy_count", "ox_count", "group_count", "ky_count", "kx_count"),
    Opcode.STORE: ("outer_count", "row_count", "row_words"),
    Opcode.DEPTHWISE: ("ky_count", "oy_count", "row_steps"),
}
"""Fields whose product counts an instruction's steps: words, or for EXEC weight tiles times pixels; 2**58 at most."""
