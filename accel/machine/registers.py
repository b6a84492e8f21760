"""The AXI4-Lite register map: one table for RTL, test benches and docs."""

from __future__ import annotations

from dataclasses import dataclass

from accel.machine.isa import Unit

FETCH = "FETCH"
CAUSES = ("busy", "memory", *(f"wait.{unit.name}" for unit in Unit), "empty")
"""Where a cycle of a unit goes, in the order of counters; see docs/timing.md."""

COUNTED_UNITS = (*(unit.name for unit in Unit), FETCH)
"""Units that have stall counters, in the order of counters."""

MAGIC = 0x4C435841
"""Value of the IDENTITY register: "AXCL" in little-endian ASCII."""


@dataclass(frozen=True)
class Register:
    """One 32-bit register at byte `address`; `access` is "ro", "rw" or "w1c" (write one to clear)."""

    name: str
    address: int
    access: str
    doc: str


CONTROL_START = 1 << 0
CONTROL_INTERRUPT_ENABLE = 1 << 1

STATUS_RUNNING = 1 << 0
STATUS_DONE = 1 << 1

ERRORS = (
    "opcode",
    "spad_read",
    "spad_write",
    "acc_port",
    "semaphore",
    "read_response",
    "write_response",
    "fetch_response",
)
"""Sticky error bits of the ERROR register, from bit 0."""


def _table() -> dict[str, Register]:
    rows = [
        ("IDENTITY", "ro", f"constant {MAGIC:#010x}"),
        ("FINGERPRINT_LO", "ro", "first 32 bits of the configuration's fingerprint"),
        ("FINGERPRINT_HI", "ro", "next 32 bits of the configuration's fingerprint"),
        ("CONTROL", "rw", "bit 0 start (self-clearing; ignored while running), bit 1 interrupt enable"),
        ("STATUS", "w1c", "bit 0 running (read-only), bit 1 done (also the interrupt; write one to clear)"),
        ("ERROR", "w1c", "sticky errors: " + ", ".join(f"bit {i} {name}" for i, name in enumerate(ERRORS))),
        ("PROGRAM_ADDRESS", "rw", "byte address of the first instruction"),
        ("PROGRAM_COUNT", "rw", "number of instructions, at least 1"),
        ("CYCLES", "ro", "cycles of the last or current run"),
    ]
    rows += [
        (f"{unit}_{cause}".replace(".", "_").upper(), "ro", f"cycles of {unit} with cause {cause}")
        for unit in COUNTED_UNITS
        for cause in CAUSES
    ]
    return {name: Register(name, 4 * i, access, doc) for i, (name, access, doc) in enumerate(rows)}


REGISTERS = _table()
"""All registers by name, addresses ascending by 4."""
