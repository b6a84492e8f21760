"""C headers for drivers: the register map, which all machines share, and the numbers of one machine."""

from __future__ import annotations

from collections.abc import Iterable

from accel.machine.config import ArchConfig
from accel.machine.isa import INSTRUCTION_BYTES
from accel.machine.registers import (
    CAPABILITIES,
    COUNTED_UNITS,
    ERRORS,
    IMAGE_ALIGNMENT,
    MAGIC,
    REGISTERS,
    VERSION,
    WATCHDOG_CYCLES,
    capabilities,
    fingerprint_words,
)
from accel.program.sections import MAGIC as FILE_MAGIC
from accel.program.sections import VERSION as FILE_VERSION

LICENCE = "/* SPDX-License-Identifier: Apache-2.0 */\n"

BITS = {
    f"{name}_{field.name.upper()}": field.mask
    for register, name in (("CONTROL", "CONTROL"), ("STATUS", "STATUS"), ("ERROR", "ERROR"), ("FEATURES", "FEATURE"))
    for field in REGISTERS[register].fields
}
"""Bits of registers by name."""


def register_header() -> str:
    """`accel_registers.h`."""
    numbers = {
        "MAGIC": f"{MAGIC:#010x}u",
        "VERSION_MAJOR": f"{VERSION >> 16}u",
        "CAPABILITIES": f"{len(CAPABILITIES)}u",
        "ERRORS": f"{len(ERRORS)}u",
        "IMAGE_ALIGNMENT": f"{IMAGE_ALIGNMENT}u",
        "INSTRUCTION_BYTES": f"{INSTRUCTION_BYTES}u",
        "WATCHDOG_DEFAULT": f"{WATCHDOG_CYCLES}u",
        "FILE_MAGIC": f'"{FILE_MAGIC.decode()}"',
        "FILE_VERSION": f"{FILE_VERSION}u",
    }
    registers = [
        f"/* {r.access}: {r.meaning} */\n#define ACCEL_REG_{r.name} {r.address:#05x}u\n" for r in REGISTERS.values()
    ]
    return _guarded("ACCEL_REGISTERS_H", [
        "/* Generated from accel/machine/registers.py. Register addresses, their bits, numbers of the driver. */\n",
        *(f"#define ACCEL_{name} {value}\n" for name, value in numbers.items()),
        "\n",
        *registers,
        "\n",
        *(f"#define ACCEL_{name} {value:#x}u\n" for name, value in BITS.items()),
        "\n/* X(name, cause) for each bit of ERROR, from bit 0. */\n",
        _each("ERROR", (f'"{name}", "{cause}"' for name, cause in ERRORS.items())),
        "\n/* X(name) for each unit of ERROR_FIRST, from 0. */\n",
        _each("UNIT", (f'"{unit}"' for unit in COUNTED_UNITS)),
    ])  # fmt: skip


def machine_macro(name: str) -> str:
    """The macro of `machine_header` that initializes a `struct accel_machine`."""
    return f"{_space(name)}_INITIALIZER"


def machine_file(name: str) -> str:
    """The file of `machine_header`, of which no other header has the name: the driver's, the example's, or C's."""
    return f"machine_{name}.h"


def _space(name: str) -> str:
    """What all macros of a machine begin with, and no others: neither the driver's nor those of C."""
    return f"MACHINE_{name.upper()}"


def machine_header(name: str, config: ArchConfig) -> str:
    """`machine_NAME.h`: what a driver may expect of this machine."""
    space = _space(name)
    words, values = fingerprint_words(config), capabilities(config)
    initializer = ", ".join(f"{value}u" for value in values.values())
    return _guarded(f"{space}_H", [
        f"/* The machine {name}. Fingerprint {config.fingerprint()}. */\n",
        *(f"#define {space}_{capability} {value}u\n" for capability, value in values.items()),
        "\n/* Initializer of struct accel_machine. */\n",
        f"#define {machine_macro(name)} {{{{{words[0]:#010x}u, {words[1]:#010x}u}}, {{{initializer}}}}}\n",
    ])  # fmt: skip


def _guarded(guard: str, lines: Iterable[str]) -> str:
    return f"{LICENCE}#ifndef {guard}\n#define {guard}\n\n{''.join(lines)}\n#endif\n"


def _each(what: str, rows: Iterable[str]) -> str:
    """A macro that calls its argument for each row."""
    return f"#define ACCEL_EACH_{what}(X)" + "".join(f" \\\n    X({row})" for row in rows) + "\n"
