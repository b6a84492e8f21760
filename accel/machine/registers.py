"""The AXI4-Lite register map: one table for RTL, test benches and docs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from accel.machine.config import REQUANT_MODES, ArchConfig
from accel.machine.isa import INSTRUCTION_BYTES, Unit
from accel.machine.latencies import BURST_BOUNDARY_BYTES

FETCH = "FETCH"
CAUSES = ("busy", "memory", *(f"wait.{unit.name}" for unit in Unit), "empty")
"""Where a cycle of a unit goes, in the order of counters; see docs/timing.md."""

COUNTED_UNITS = (*(unit.name for unit in Unit), FETCH)
"""Units that have stall counters, in the order of counters."""

MAGIC = 0x4C435841
"""Value of the IDENTITY register: "AXCL" in little-endian ASCII."""

VERSION = 1 << 16 | 0
"""Value of the VERSION register: major << 16 | minor. A driver of one major works with each of its minors."""

IMAGE_ALIGNMENT = BURST_BOUNDARY_BYTES
"""IMAGE_ADDRESS is a multiple of this, so that bursts are cut at the same places wherever the image lies."""


@dataclass(frozen=True)
class Register:
    """One 32-bit register at byte `address`; `access` is "ro", "rw" or "w1c" (write one to clear)."""

    name: str
    address: int
    access: str
    doc: str


CONTROL_START = 1 << 0
CONTROL_INTERRUPT_ENABLE = 1 << 1
CONTROL_STOP = 1 << 2

STATUS_RUNNING = 1 << 0
STATUS_DONE = 1 << 1
STATUS_STOPPING = 1 << 2

WATCHDOG_CYCLES = 1 << 20
"""WATCHDOG after reset: more than any unit or memory rests in a run that will go on."""

ERRORS: Mapping[str, str] = {
    "opcode": "an opcode that the machine has no unit for",
    "spad_read": "two units read one bank of SPAD in one cycle",
    "spad_write": "two units write one bank of SPAD in one cycle",
    "acc_port": "two units use one bank of ACC in one cycle",
    "semaphore": "a semaphore overflows",
    "read_response": "an error response to a read of LOAD, whose data are used all the same",
    "write_response": "an error response to a write of STORE",
    "fetch_response": "an error response to the read of an instruction",
    "alignment": f"PROGRAM_ADDRESS is no multiple of {INSTRUCTION_BYTES} or IMAGE_ADDRESS none of {IMAGE_ALIGNMENT}",
    "count": "PROGRAM_COUNT is 0",
    "rule": "an instruction breaks a rule of docs/isa.md on its fields; it stops the run",
    "bounds": "an instruction uses a word outside of a memory; it stops the run",
    "stopped": "the driver stopped the run",
    "watchdog": "nothing moved for WATCHDOG cycles; the instruction is the oldest one that does not go on",
}
"""Bits of the ERROR register by name, from bit 0, and what raises them."""

STOPPING = ("rule", "bounds")
"""Errors that stop the run. After `opcode` and `fetch_response` the rest of the program is dropped, but what came
before it ends; all others are only noted."""

NO_SOURCE = 15
"""Unit of an error that no single instruction is to blame for, in ERROR_FIRST."""

FETCH_SOURCE = len(Unit)
"""Unit of an error that fetch finds, in ERROR_FIRST."""

_CAPABILITIES = {
    "ROWS": ("rows", "rows of the array, bytes of a SPAD word"),
    "COLS": ("cols", "columns of the array, values of a WBUF and of an ACC word"),
    "SPAD_BANKS": ("spad_banks", "banks of SPAD"),
    "SPAD_WORDS": ("spad_words", "words of SPAD, all banks"),
    "WBUF_WORDS": ("wbuf_words", "words of WBUF"),
    "ACC_BANKS": ("acc_banks", "banks of ACC"),
    "ACC_WORDS": ("acc_words", "words of ACC, all banks"),
    "PARAM_CHANNELS": ("param_channels", "channel records of PARAM"),
    "POST_LANES": ("post_lanes", "lanes of POST"),
    "DEPTHWISE_TAPS": ("depthwise_taps", "multipliers in each lane of the depthwise engine; 0: there is none"),
    "DEPTHWISE_WORDS": ("depthwise_words", "words of TAPS, if there is a depthwise engine"),
    "QUEUE_DEPTH": ("queue_depth", "instructions in each unit's queue"),
    "BUS_BYTES": ("bus_bytes", "bytes of a beat of the AXI4 masters"),
}
"""Registers that hold a number of the configuration: its attribute, its meaning."""

CAPABILITIES = (*_CAPABILITIES, "FEATURES")
"""Names of the registers that tell a driver what machine it has, addresses ascending by 4."""

FEATURE_INT4 = 1 << len(REQUANT_MODES)
"""Bit of the FEATURES register."""


def fingerprint_words(config: ArchConfig) -> tuple[int, int]:
    """Values of FINGERPRINT_LO and FINGERPRINT_HI: the first and the next eight hexadecimal digits."""
    digits = config.fingerprint()
    return int(digits[:8], 16), int(digits[8:16], 16)


def capabilities(config: ArchConfig) -> dict[str, int]:
    """Values of `CAPABILITIES` by name."""
    modes = sum(1 << i for i, mode in enumerate(REQUANT_MODES) if mode in config.requant_modes)
    numbers = {name: int(getattr(config, attribute)) for name, (attribute, _) in _CAPABILITIES.items()}
    return {**numbers, "FEATURES": modes | FEATURE_INT4 * config.int4_weights}


def _control_rows() -> list[tuple[str, str, str]]:
    errors = "; ".join(f"bit {i} `{name}`: {meaning}" for i, (name, meaning) in enumerate(ERRORS.items()))
    sources = ", ".join(f"{i} {name}" for i, name in enumerate(COUNTED_UNITS))
    return [
        ("IDENTITY", "ro", f"constant {MAGIC:#010x}"),
        ("VERSION", "ro", f"version of this map: {VERSION >> 16}.{VERSION & 0xFFFF} as major << 16, minor"),
        ("FINGERPRINT_LO", "ro", "first 32 bits of the configuration's fingerprint"),
        ("FINGERPRINT_HI", "ro", "next 32 bits of the configuration's fingerprint"),
        ("CONTROL", "rw", "bit 0 start (self-clearing; ignored while running), bit 1 enable the interrupt of done, "
         "bit 2 stop the run (self-clearing; ignored if none is under way)"),
        ("STATUS", "w1c", "bit 0 running (read-only), bit 1 done (also the interrupt; write one to clear), bit 2 "
         "stopping (read-only)"),
        ("ERROR", "w1c", f"errors of the last or current run; a start clears them, too. {errors}"),
        ("ERROR_MASK", "rw", "a bit that is set here and in ERROR raises the interrupt; 0 after reset"),
        ("ERROR_FIRST", "ro", f"bits 15:0 what was raised first, 19:16 by which unit: {sources}, {NO_SOURCE} none"),
        ("ERROR_INDEX", "ro", "index in the program of the instruction that raised the first error, or, if no unit is "
         "to blame, of the next one to be dispatched"),
        ("ERROR_ADDRESS", "ro", "where in the image: the burst with the first error response; fetch: the instruction"),
        ("IMAGE_ADDRESS_LO", "rw", f"bus address of the program's image, a multiple of {IMAGE_ALIGNMENT}; all "
         "addresses of the program are relative to it, modulo 2^32"),
        ("IMAGE_ADDRESS_HI", "rw", "upper 32 bits of it"),
        ("PROGRAM_ADDRESS", "rw", f"where in the image the first instruction is, a multiple of {INSTRUCTION_BYTES}"),
        ("PROGRAM_COUNT", "rw", "number of instructions, at least 1"),
        ("WATCHDOG", "rw", f"cycles in which nothing moves after which the run is stopped; 0: never; {WATCHDOG_CYCLES} "
         "after reset"),
        ("CYCLES", "ro", "cycles of the last or current run"),
    ]  # fmt: skip


def _table() -> dict[str, Register]:
    modes = ", ".join(f"bit {i} {mode}" for i, mode in enumerate(REQUANT_MODES))
    rows = _control_rows()
    rows += [(name, "ro", meaning) for name, (_, meaning) in _CAPABILITIES.items()]
    rows.append(("FEATURES", "ro", f"requantization modes: {modes}; bit {len(REQUANT_MODES)} int4 weights"))
    rows += [
        (f"{unit}_{cause}".replace(".", "_").upper(), "ro", f"cycles of {unit} with cause {cause}")
        for unit in COUNTED_UNITS
        for cause in CAUSES
    ]
    return {name: Register(name, 4 * i, access, doc) for i, (name, access, doc) in enumerate(rows)}


REGISTERS = _table()
"""All registers by name, addresses ascending by 4."""
