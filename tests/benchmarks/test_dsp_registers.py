"""Registers that move into multipliers: the netlist with them is the design, proved by yosys."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from support.rtl.yosys import run_yosys

import accel

pytestmark = [pytest.mark.rtl, pytest.mark.slow]

DESIGN = """\
module design(input clk, input go, input signed [4:0] a, input signed [4:0] b, output reg signed [9:0] plain,
              output reg signed [9:0] enabled, output reg signed [9:0] shared, output signed [9:0] seen,
              output reg signed [9:0] late);
  assign seen = (a + 5'sd1) * b;
  always @(posedge clk) begin
    plain <= a * a;
    if (go) enabled <= b * b;
    shared <= seen;
  end
  always @(negedge clk) late <= a * (b - 5'sd1);
  initial {plain, enabled, shared, late} = 0;
endmodule
"""
PINS = ", ".join(
    [*(f"input {side}{i}" for side in "ABC" for i in range(18)), *(f"output P{i}" for i in range(36))]
    + [f"input {name}" for name in ("SIGNEDA", "SIGNEDB", "SOURCEA", "SOURCEB", "CLK0", "CE0", "RST0")]
)
MULTIPLIER = f"""\
module MULT18X18D({PINS});
  parameter REG_OUTPUT_CLK = "NONE", REG_OUTPUT_CE = "CE0", REG_OUTPUT_RST = "RST0", RESETMODE = "SYNC",
            GSR = "ENABLED";
  wire signed [17:0] a = {{{", ".join(f"A{i}" for i in reversed(range(18)))}}};
  wire signed [17:0] b = {{{", ".join(f"B{i}" for i in reversed(range(18)))}}};
  wire signed [35:0] product = a * b;
  reg signed [35:0] q = 0;
  always @(posedge CLK0) if (RST0) q <= 0; else if (CE0) q <= product;
  assign {{{", ".join(f"P{i}" for i in reversed(range(36)))}}} = REG_OUTPUT_CLK == "CLK0" ? q : product;
endmodule
"""
"""Of signed operands: the part of Lattice's MULT18X18D that the design uses."""
BOTH = """\
module both(input clk, input go, input signed [4:0] a, input signed [4:0] b, output differ);
  wire [9:0] p0, e0, s0, w0, l0, p1, e1, s1, w1, l1;
  design before(.clk(clk), .go(go), .a(a), .b(b), .plain(p0), .enabled(e0), .shared(s0), .seen(w0), .late(l0));
  absorbed after(.clk(clk), .go(go), .a(a), .b(b), .plain(p1), .enabled(e1), .shared(s1), .seen(w1), .late(l1));
  assign differ = {p0, e0, s0, w0, l0} != {p1, e1, s1, w1, l1};
endmodule
"""
PROOF = """\
read_verilog design.v both.v multiplier.v
read_json absorbed.json
read_verilog -overwrite +/ecp5/cells_sim.v
hierarchy -top both
proc
flatten
opt -full
sat -verify -tempinduct -prove differ 0 -set-init-zero both
"""


@pytest.fixture
def absorbing(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module under test."""
    monkeypatch.syspath_prepend(Path(accel.__file__).parents[1] / "benchmarks")
    return import_module("dsp_registers")


def absorbed(absorbing: Any, folder: Path) -> int:
    """Synthesize DESIGN and absorb; how many flip-flops went, while the netlist is left in `folder`."""
    (folder / "design.v").write_text(DESIGN)
    (folder / "multiplier.v").write_text(MULTIPLIER)
    (folder / "both.v").write_text(BOTH)
    done = run_yosys("read_verilog design.v\nsynth_ecp5 -top design -json netlist.json", folder)
    assert done.returncode == 0, done.stderr
    netlist = json.loads((folder / "netlist.json").read_text())
    design = netlist["modules"]["design"]  # beside the black boxes of its cells
    count = absorbing.absorb_registers(design)
    (folder / "absorbed.json").write_text(json.dumps({"modules": {"absorbed": design}}))
    return int(count)


def test_only_a_plain_register_alone_behind_its_product_goes(absorbing: Any, tmp_path: Path) -> None:
    assert absorbed(absorbing, tmp_path) == 10
    cells = json.loads((tmp_path / "absorbed.json").read_text())["modules"]["absorbed"]["cells"].values()
    multipliers = [cell for cell in cells if cell["type"] == "MULT18X18D"]
    assert sorted(cell["parameters"].get("REG_OUTPUT_CLK", "") for cell in multipliers) == ["", "", "", "CLK0"]
    done = run_yosys(PROOF, tmp_path)
    assert done.returncode == 0, done.stderr + done.stdout


def test_the_proof_sees_an_enable_that_is_lost(absorbing: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def careless(cells: dict[str, Any], sinks: list[tuple[str, str]]) -> str | None:
        (name, _), *others = sinks
        return None if others else name

    monkeypatch.setattr(absorbing, "_plain_register", careless)
    assert absorbed(absorbing, tmp_path) == 30
    assert run_yosys(PROOF, tmp_path).returncode != 0
