"""Blocks are written once; their modules are proven equal to what Amaranth makes of them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from amaranth.back import rtlil
from support.rtl.bench import small
from support.rtl.yosys import run_yosys

from accel.machine.config import REQUANT_MODES
from rtl.array import PE, PEGrid
from rtl.blocks import Block
from rtl.depthwise_lane import DepthwiseLane
from rtl.requantize import Requantizer
from rtl.verilog import TOP, emit

pytestmark = pytest.mark.rtl

CONFIG = small(rows=4, cols=4, post_lanes=2, depthwise_taps=2, int4_weights=True, requant_modes=REQUANT_MODES)
BLOCKS: list[Block] = [PE(True, 0), PE(True, 1), DepthwiseLane(2), Requantizer(CONFIG)]
PROOF = """
read_rtlil gold.il; hierarchy -top gold; proc; flatten; chtype -set $xor t:$mul; opt_clean; design -stash gold
read_verilog machine.v; hierarchy -top {gate}; proc; flatten; chtype -set $xor t:$mul; opt_clean; design -stash gate
design -copy-from gold -as gold gold; design -copy-from gate -as gate {gate}
equiv_make gold gate proof; hierarchy -top proof; opt_clean; equiv_simple; equiv_induct; equiv_status -assert
"""
GRID_PROOF = f"""
read_rtlil gold.il; hierarchy -top gold; proc; flatten; chtype -set $xor t:$mul; opt_clean; design -stash gold
read_verilog machine.v; hierarchy -top {TOP}_pe_grid -chparam ROWS 2 -chparam COLS 2 -chparam INT4 1
rename -top gate; proc; flatten; chtype -set $xor t:$mul; opt_clean; design -stash gate
design -copy-from gold -as gold gold; design -copy-from gate -as gate gate
miter -equiv -flatten gold gate miter; hierarchy -top miter; sat -verify -prove trigger 0 -seq 12 -set-init-zero miter
"""
"""Products are replaced by a function that is easier to prove equal, here and above: this is about what enters them
and what becomes of them."""


@pytest.fixture(scope="module")
def verilog() -> str:
    return emit(CONFIG)


def test_a_block_is_written_once_and_instantiated(verilog: str) -> None:
    instances = {
        "pe_even": 1, "pe_odd": 1, "accumulator_column": 4, "depthwise_lane": 4, "post_lane": 2, "requantizer": 2,
    }  # fmt: skip
    for module, count in instances.items():
        assert verilog.count(f"module {TOP}_{module}(") == 1
        assert len(re.findall(rf"^ +{TOP}_{module} \w+ \($", verilog, re.MULTILINE)) == count


def proven(block: Block, verilog: str, folder: Path) -> bool:
    """Whether yosys proves that the module of a block does what the block does by itself."""
    (folder / "gold.il").write_text(rtlil.convert(block, name="gold", emit_src=False))
    (folder / "machine.v").write_text(verilog)
    return run_yosys(PROOF.format(gate=f"{TOP}_{block.module}"), folder).returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.module)
def test_a_module_equals_its_block(block: Block, verilog: str, tmp_path: Path) -> None:
    assert proven(block, verilog, tmp_path)


def grid_proven(verilog: str, folder: Path) -> bool:
    """Whether yosys proves that the grid in Verilog is that in Amaranth, for 12 cycles after power-up."""
    (folder / "gold.il").write_text(rtlil.convert(PEGrid(2, 2, True), name="gold", emit_src=False))
    (folder / "machine.v").write_text(verilog)
    return run_yosys(GRID_PROOF, folder).returncode == 0


@pytest.mark.slow
def test_the_grid_equals_its_block(verilog: str, tmp_path: Path) -> None:
    assert grid_proven(verilog, tmp_path)
    assert not grid_proven(verilog.replace("assign captures[0] = capture[r]", "assign captures[0] = 0"), tmp_path)


@pytest.mark.slow
def test_a_module_that_differs_is_seen(verilog: str, tmp_path: Path) -> None:
    assert verilog.count("weight_next = shadow;") == 2
    assert not proven(PE(True, 0), verilog.replace("weight_next = shadow;", "weight_next = weight;"), tmp_path)
    signed = "product_1_next = $signed(right__activation)"
    assert verilog.count(signed) == 2
    assert not proven(PE(True, 0), verilog.replace(signed, "product_1_next = right__activation"), tmp_path)
