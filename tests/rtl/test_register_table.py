"""Resets and access of the register table are those of the model that the Verilog is held to."""

from __future__ import annotations

import pytest
from support.rtl.hostile import MACHINE
from support.rtl.register_accesses import RegisterFile

from accel.machine.registers import REGISTERS, Register, reset_values

ALL = (1 << 32) - 1


def test_resets() -> None:
    assert reset_values(MACHINE) == RegisterFile().values


@pytest.mark.parametrize("register", REGISTERS.values(), ids=list(REGISTERS))
def test_access(register: Register) -> None:
    """Ones are written to what holds ones in all its fields, then to what holds none."""
    fields = sum(field.mask for field in register.fields)
    kept = sum(field.mask for field in register.fields if field.access in ("ro", "constant", "rw"))
    written = sum(field.mask for field in register.fields if field.access == "rw")
    for before, after in ((fields, kept), (0, written)):
        model = RegisterFile()
        model.values[register.name] = before
        model.write(register.name, ALL, ALL)
        assert model.values[register.name] == after
