"""Random accesses to the registers of a machine that runs nothing, and a model of what they answer."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from accel.machine.isa import INSTRUCTION_BYTES
from accel.machine.registers import (
    CONTROL_INTERRUPT_ENABLE,
    CONTROL_START,
    COUNT_BITS,
    ERRORS,
    IMAGE_ALIGNMENT,
    MAGIC,
    NO_SOURCE,
    REGISTERS,
    STATUS_DONE,
    VERSION,
    WATCHDOG_CYCLES,
    capabilities,
    fingerprint_words,
)
from rtl.testbench.verilator import Access, Powered
from support.rtl.hostile import MACHINE

OKAY, SUBORDINATE_ERROR = 0, 2
NAMES = {register.address: name for name, register in REGISTERS.items()}
ADDRESSES = 4 << (len(REGISTERS) - 1).bit_length()
PLAIN = ("IMAGE_ADDRESS_LO", "IMAGE_ADDRESS_HI", "PROGRAM_ADDRESS", "PROGRAM_COUNT", "WATCHDOG", "ERROR_MASK")
BITS = {"ERROR_MASK": (1 << len(ERRORS)) - 1}


class RegisterFile:
    """The registers by docs/registers.md, after a reset, as long as every start is refused."""

    def __init__(self) -> None:
        low, high = fingerprint_words(MACHINE)
        fixed = {"IDENTITY": MAGIC, "VERSION": VERSION, "FINGERPRINT_LO": low, "FINGERPRINT_HI": high}
        self.values = dict.fromkeys(REGISTERS, 0) | fixed | capabilities(MACHINE) | {"WATCHDOG": WATCHDOG_CYCLES}

    @property
    def interrupt(self) -> bool:
        done = self.values["STATUS"] & STATUS_DONE and self.values["CONTROL"] & CONTROL_INTERRUPT_ENABLE
        return bool(done or self.values["ERROR"] & self.values["ERROR_MASK"])

    def refusal(self) -> int:
        """Bits of ERROR that a start would raise."""
        image, program = self.values["IMAGE_ADDRESS_LO"] % IMAGE_ALIGNMENT, self.values["PROGRAM_ADDRESS"]
        found = {
            "alignment": image or program % INSTRUCTION_BYTES,
            "count": not 0 < self.values["PROGRAM_COUNT"] < 1 << COUNT_BITS,
        }
        return sum(1 << list(ERRORS).index(name) for name, wrong in found.items() if wrong)

    def write(self, name: str, data: int, mask: int) -> None:
        values = self.values
        if name in PLAIN:
            values[name] = (values[name] & ~mask | data & mask) & BITS.get(name, 0xFFFFFFFF)
        elif name == "ERROR":
            values[name] &= ~(data & mask)
        elif name == "STATUS":
            values[name] &= ~(data & mask & STATUS_DONE)
        elif name == "CONTROL" and mask & 1:
            values[name] = data & CONTROL_INTERRUPT_ENABLE
            if data & CONTROL_START:
                first = values["ERROR"] = self.refusal()
                values |= {"STATUS": STATUS_DONE, "CYCLES": 0, "ERROR_FIRST": first | NO_SOURCE << 16}
                values |= {"ERROR_INDEX": 0, "ERROR_ADDRESS": 0}


def check_reset_values(machine: Powered) -> None:
    """All registers are as a reset leaves them."""
    for name, value in RegisterFile().values.items():
        read = Access(REGISTERS[name].address)
        machine.access(read)
        assert read.data == value, name


def check_cleared(errors: int, rng: np.random.Generator, machine: Powered) -> None:
    """Of the errors of a run those are cleared that a write says."""
    address = REGISTERS["ERROR"].address
    for bits in (random_data(rng), random_data(rng), (1 << 32) - 1):
        machine.access(Access(address, bits, 15, write=1))
        errors, read = errors & ~bits, Access(address)
        machine.access(read)
        assert read.data == errors


def check_kept(registers: Mapping[str, int], machine: Powered) -> None:
    """While nothing runs each register holds what was read, in odd cycles and even ones."""
    for name, value in registers.items():
        for hold in (0, 1):
            read = Access(REGISTERS[name].address, hold=hold)
            machine.access(read)
            assert read.data == value, name


def random_data(rng: np.random.Generator) -> int:
    """Any bits, few bits, or all but few."""
    few = int(np.bitwise_or.reduce(1 << rng.integers(0, 32, rng.integers(0, 3))))
    return (int(rng.integers(1 << 32)), few, 0xFFFFFFFF ^ few)[rng.integers(3)]


def check_registers(seed: int, count: int, machine: Powered) -> None:
    """Writes with random strobes and order of channels, mapped or not; all registers after each few of them."""
    rng, model = np.random.default_rng(seed), RegisterFile()
    writable = [register.address for register in REGISTERS.values() if register.access != "ro"]
    for number in range(count):
        address = int(rng.choice(writable) if rng.random() < 0.8 else rng.integers(ADDRESSES))
        name, data, strobe = (
            NAMES.get(address & ~3, ""),
            random_data(rng),
            int(rng.choice([15, 15, 15, rng.integers(16)])),
        )
        if name == "CONTROL" and not model.refusal():
            data &= ~CONTROL_START
        write = Access(address, data, strobe, int(rng.integers(4)), int(rng.integers(-3, 4)), 1)
        machine.access(write)
        model.write(name, data, sum(0xFF << 8 * byte for byte in range(4) if strobe >> byte & 1))
        assert write.response == (OKAY if name else SUBORDINATE_ERROR)
        assert bool(write.interrupt) == model.interrupt
        whole = number % 16 == 15
        for address in range(0, ADDRESSES, 4) if whole else (int(rng.choice(writable)),):
            read = Access(address + int(rng.integers(4)), hold=int(rng.integers(3)))
            machine.access(read)
            assert (read.data, read.response) == (
                (model.values[NAMES[address]], OKAY) if address in NAMES else (0, SUBORDINATE_ERROR)
            ), NAMES.get(address)
