"""Registers of the Verilog answer random accesses as docs/registers.md says."""

from __future__ import annotations

import pytest
from support.rtl.hostile import COUNTED, MACHINE
from support.rtl.register_accesses import RegisterFile, check_registers

from rtl.testbench.verilator import Powered

pytestmark = [pytest.mark.rtl, pytest.mark.slow]


def test_random_accesses() -> None:
    for seed in range(5):
        with Powered(MACHINE, variant=COUNTED) as machine:
            check_registers(seed, 400, machine)


def test_a_strobe_that_is_ignored_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    write = RegisterFile.write
    monkeypatch.setattr(RegisterFile, "write", lambda self, name, data, _: write(self, name, data, 0xFFFFFFFF))
    with Powered(MACHINE, variant=COUNTED) as machine, pytest.raises(AssertionError):
        check_registers(0, 400, machine)
