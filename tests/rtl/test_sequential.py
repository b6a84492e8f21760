"""Mutants that only states tell that are never reached are proved equivalent, and no others."""

from __future__ import annotations

import shutil

import pytest
from support.mutants.excitation import MARK, excited, watched
from support.mutants.netlist_mutants import NetlistMutant
from support.mutants.sequential import ABC, indistinguishable

pytestmark = pytest.mark.rtl

VERILOG = """
module accelerator_ram(clk, data, answer, mutant);
  input clk;
  wire clk;
  input data;
  output answer;
  input [2:0] mutant;
  assign answer = data;
endmodule

module accelerator_counter(clk, rst, step, full, asked, twin, mutant);
  input clk, rst, step;
  output full, asked, twin;
  input [2:0] mutant;
  reg [2:0] count = 3'h0, other = 3'h0;
  wire answer;
  wire unreached, reached, apart, from_instance;
  assign unreached = count == 3'h6;
  assign reached = count == 3'h4;
  wire _0_, _1_, _2_, _3_, _4_, _5_, _6_, _7_;
  assign _0_ = mutant == 3'h1;
  assign _4_ = _0_ ? 1'h0 : unreached;
  assign _1_ = mutant == 3'h2;
  assign _5_ = _1_ ? 1'h0 : reached;
  assign _2_ = mutant == 3'h3;
  assign _6_ = _2_ ? 1'h0 : apart;
  assign _3_ = mutant == 3'h4;
  assign _7_ = _3_ ? 1'h1 : answer;
  assign apart = count != other;
  assign full = _4_ | _5_;
  assign twin = _6_;
  assign asked = _7_;
  accelerator_ram leaf (
    .clk(clk),
    .data(count[0]),
    .answer(answer),
    .mutant(mutant)
  );
  always @(posedge clk) begin
    if (rst | count == 3'h5) count <= 3'h0;
    else if (step) count <= count + 3'h1;
    if (rst | count == 3'h5) other <= 3'h0;
    else if (step) other <= count + 3'h1;
  end
endmodule
"""
UNREACHED, REACHED, TWIN, INSTANCE = range(1, 5)


@pytest.mark.skipif(not any(map(shutil.which, ABC)), reason="ABC is not installed")
def test_what_no_run_reaches_is_equivalent() -> None:
    mutants = [NetlistMutant(n, {"module": "\\accelerator_counter"}) for n in (UNREACHED, REACHED, TWIN, INSTANCE)]
    assert indistinguishable(VERILOG, mutants) == {UNREACHED, TWIN}


def test_each_mutant_has_a_branch_that_tells_whether_its_bit_ever_differs() -> None:
    text = watched(VERILOG)
    lines = [number for number, line in enumerate(text.split("\n"), 1) if MARK in line]
    assert len(lines) == 4
    taken = dict(zip(lines, (0, 2, 0, 1), strict=True))
    records = [
        f"C '\x01l\x02{line}\x01page\x02v_branch/accelerator_counter\x01o\x02{kind}' {count}"
        for line, count in taken.items()
        for kind, count in (("if", count), ("else", 5))
    ]
    assert excited(text, ["\n".join(records)]) == {REACHED, INSTANCE}
