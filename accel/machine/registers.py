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


WORD_BITS = 32
"""Bits of a register."""

WORD = "value"
"""Name of a field that is the whole register."""

CONSTANT = "constant"


@dataclass(frozen=True)
class Field:
    """Bits `low` and up of a register.

    Parameters
    ----------
    access : str
        "ro": the machine changes it. "constant": nothing does. "rw": software does. "w1c": the machine sets it, a one
        that is written clears it. "w1p": a one that is written acts once; it reads as 0.
    reset : int or None
        Value after a reset; None of a constant that depends on the configuration (`reset_values`).
    """

    name: str
    low: int
    width: int
    access: str
    doc: str
    reset: int | None = 0

    @property
    def mask(self) -> int:
        """The field's bits in the register."""
        return (1 << self.width) - 1 << self.low

    @property
    def place(self) -> str:
        """The numbers of its bits, in words."""
        return f"bit {self.low}" if self.width == 1 else f"bits {self.low + self.width - 1}:{self.low}"


@dataclass(frozen=True)
class Register:
    """One 32-bit register at byte `address`; bits that are in no field read as 0."""

    name: str
    address: int
    doc: str
    fields: tuple[Field, ...]

    @property
    def access(self) -> str:
        """How software may change it: "ro" for not at all, else each access of its fields that does something."""
        found = dict.fromkeys(field.access for field in self.fields if field.access not in ("ro", CONSTANT))
        return "/".join(found) or "ro"

    @property
    def reset(self) -> int | None:
        """Value after a reset; None if it depends on the configuration."""
        values = [field.reset for field in self.fields]
        if None in values:
            return None
        return sum(value << field.low for value, field in zip(values, self.fields, strict=True) if value)

    @property
    def meaning(self) -> str:
        """The text about it and its fields, on one line."""
        if [field.name for field in self.fields] == [WORD]:
            return self.doc
        known = (CONSTANT, self.access)
        fields = (
            f"{field.place} `{field.name}`{'' if field.access in known else f' ({field.access})'}: {field.doc}"
            for field in self.fields
        )
        return f"{self.doc}; {'; '.join(fields)}"

    def bit(self, name: str) -> int:
        """The mask of a field."""
        return next(field.mask for field in self.fields if field.name == name)


WATCHDOG_CYCLES = 1 << 20
"""WATCHDOG after reset: more than any unit or memory rests in a run that will go on."""

COUNT_BITS = ((1 << 32) // INSTRUCTION_BYTES).bit_length() - 1
"""Of PROGRAM_COUNT: a program of 2**COUNT_BITS instructions is as large as the image's addresses reach."""

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
    "count": f"PROGRAM_COUNT is 0, or 2^{COUNT_BITS} or more",
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


def _word(name: str, access: str, doc: str, reset: int | None = 0) -> tuple[str, str, tuple[Field, ...]]:
    """The row of a register that is one number."""
    return name, doc, (Field(WORD, 0, WORD_BITS, access, doc, reset),)


def _control_rows() -> list[tuple[str, str, tuple[Field, ...]]]:
    sources = ", ".join(f"{i} {name}" for i, name in enumerate(COUNTED_UNITS))
    while_running = "; writes are ignored while running"
    return [
        _word("IDENTITY", CONSTANT, '"AXCL" in ASCII, little-endian', MAGIC),
        ("VERSION", "version of this map", (
            Field("minor", 0, 16, CONSTANT, "counts compatible changes", VERSION & 0xFFFF),
            Field("major", 16, 16, CONSTANT, "counts others", VERSION >> 16),
        )),
        _word("FINGERPRINT_LO", CONSTANT, "first 32 bits of the configuration's fingerprint", None),
        _word("FINGERPRINT_HI", CONSTANT, "next 32 bits of the configuration's fingerprint", None),
        ("CONTROL", "start and end of a run", (
            Field("start", 0, 1, "w1p", "start; ignored while running"),
            Field("interrupt_enable", 1, 1, "rw", "enable the interrupt of done"),
            Field("stop", 2, 1, "w1p", "stop the run; ignored if none is under way"),
        )),
        ("STATUS", "how the run stands", (
            Field("running", 0, 1, "ro", "a run is under way"),
            Field("done", 1, 1, "w1c", "the run has ended; also the interrupt"),
            Field("stopping", 2, 1, "ro", "the run is being stopped"),
        )),
        ("ERROR", "errors of the last or current run; a start clears them, too",
         tuple(Field(name, i, 1, "w1c", meaning) for i, (name, meaning) in enumerate(ERRORS.items()))),
        ("ERROR_MASK", "what raises the interrupt", (
            Field("errors", 0, len(ERRORS), "rw", "bits that raise it while they are set in ERROR, too"),
        )),
        ("ERROR_FIRST", "the first error of the last or current run", (
            Field("errors", 0, 16, "ro", "what was raised first, as in ERROR; 0 if nothing was: then the other field, "
                  "ERROR_INDEX and ERROR_ADDRESS are those of a run before"),
            Field("unit", 16, 4, "ro", f"by which unit: {sources}, {NO_SOURCE} none"),
        )),
        _word("ERROR_INDEX", "ro", "index in the program of the instruction that raised the first error, or, if no "
              "unit is to blame, of the next one to be dispatched"),
        _word("ERROR_ADDRESS", "ro", "where in the image: the burst with the first error response; fetch: the "
              "instruction"),
        _word("IMAGE_ADDRESS_LO", "rw", f"bus address of the program's image, a multiple of {IMAGE_ALIGNMENT}; all "
              f"addresses of the program are relative to it, modulo 2^32{while_running}"),
        _word("IMAGE_ADDRESS_HI", "rw", f"upper 32 bits of it{while_running}"),
        _word("PROGRAM_ADDRESS", "rw", "where in the image the first instruction is, a multiple of "
              f"{INSTRUCTION_BYTES}{while_running}"),
        _word("PROGRAM_COUNT", "rw", f"number of instructions, from 1 to 2^{COUNT_BITS} - 1{while_running}"),
        _word("WATCHDOG", "rw", "cycles in which nothing moves, and WATCHDOG is not written, after which the run is "
              "stopped; 0: never",
              WATCHDOG_CYCLES),
        _word("CYCLES", "ro", "cycles of the last or current run"),
    ]  # fmt: skip


def _table() -> dict[str, Register]:
    rows = _control_rows()
    rows += [_word(name, CONSTANT, meaning, None) for name, (_, meaning) in _CAPABILITIES.items()]
    features = (*((mode, f"requantization mode {mode}") for mode in REQUANT_MODES), ("int4", "int4 weights"))
    rows.append((
        "FEATURES", "what the machine can do",
        tuple(Field(name, i, 1, CONSTANT, doc, None) for i, (name, doc) in enumerate(features)),
    ))  # fmt: skip
    rows += [
        _word(f"{unit}_{cause}".replace(".", "_").upper(), "ro", f"cycles of {unit} with cause {cause}")
        for unit in COUNTED_UNITS
        for cause in CAUSES
    ]
    return {name: Register(name, 4 * i, doc, fields) for i, (name, doc, fields) in enumerate(rows)}


REGISTERS = _table()
"""All registers by name, addresses ascending by 4."""

CONTROL_START, CONTROL_INTERRUPT_ENABLE, CONTROL_STOP = map(
    REGISTERS["CONTROL"].bit, ("start", "interrupt_enable", "stop")
)
STATUS_RUNNING, STATUS_DONE = map(REGISTERS["STATUS"].bit, ("running", "done"))


def reset_values(config: ArchConfig) -> dict[str, int]:
    """Values of all registers of a machine after a reset."""
    own = dict(zip(("FINGERPRINT_LO", "FINGERPRINT_HI"), fingerprint_words(config), strict=True)) | capabilities(config)
    return {name: own[name] if register.reset is None else register.reset for name, register in REGISTERS.items()}
