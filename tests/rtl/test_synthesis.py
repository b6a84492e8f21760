"""What synthesis makes of the machine: block RAMs and multipliers of an ECP5."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.rtl.yosys import run_yosys

from accel.machine.config import preset
from rtl.verilog import TOP, emit

pytestmark = [pytest.mark.rtl, pytest.mark.slow]


def test_block_rams_and_multipliers_of_tiny(tmp_path: Path) -> None:
    """Up to the mapping of memories, module by module: the whole flow gives the same two counts in far more time."""
    (tmp_path / "machine.v").write_text(emit(preset("tiny")))
    script = f"""
        read_verilog machine.v
        synth_ecp5 -noflatten -top {TOP} -run begin:map_gates
        tee -o cells.json stat -top {TOP} -json
    """
    done = run_yosys(script, tmp_path)
    assert done.returncode == 0, done.stderr
    cells = json.loads((tmp_path / "cells.json").read_text())["design"]["num_cells_by_type"]
    assert {name: cells[name] for name in ("DP16KD", "MULT18X18D")} == {"DP16KD": 49, "MULT18X18D": 69}
