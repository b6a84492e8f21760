"""Mutants without a path to an output are found, and no others."""

from __future__ import annotations

import pytest
from support.mutants.netlist_mutants import MUTABLE, mutated
from support.mutants.observability import unobservable

pytestmark = pytest.mark.rtl

VERILOG = """
module accelerator_counter(input clk, input [3:0] step, output reg [3:0] count);
  always @(posedge clk) count <= count + step;
endmodule

module accelerator(input clk, input [3:0] step, input address, output reg [1:0] low,
                   output protocol);
  wire [3:0] count;
  reg [3:0] words [0:1];
  assign protocol = ^count;
  accelerator_counter counter(.clk(clk), .step(step), .count(count));
  always @(posedge clk) begin
    words[address] <= count;
    low <= words[~address][1:0];
  end
endmodule
"""


def test_upper_bits_that_nobody_reads_are_unobservable_through_registers_and_memories() -> None:
    _, mutants = mutated(VERILOG, 60, 1, cells=MUTABLE + " t:$mem* %d")
    inside = [mutant for mutant in mutants if mutant.module == "counter" and mutant.options["port"] != "\\CLK"]
    found = unobservable(VERILOG, mutants)
    assert {mutant.number for mutant in inside if int(mutant.options["portbit"]) >= 2} <= found
    assert found.isdisjoint(mutant.number for mutant in inside if int(mutant.options["portbit"]) < 2)
    assert 0 < len(found) < len(mutants)


def test_what_only_an_open_port_sees_is_unobservable() -> None:
    text = VERILOG.replace("reg [3:0] count);", "reg [3:0] count, output parity);\n  assign parity = ^count;")
    _, mutants = mutated(text, 60, 1)
    parity = {mutant.number for mutant in mutants if "$reduce_xor" in mutant.options["cell"]}
    low = {m.number for m in mutants if "$add" in m.options["cell"] and int(m.options["portbit"]) < 2}
    assert parity
    assert low
    found = unobservable(text, mutants)
    assert parity <= found
    assert found.isdisjoint(low)


def test_what_only_a_monitor_is_given_is_unobservable() -> None:
    instance = "wire seen; accelerator_bus_monitor monitor(.given(low), .violations(seen));"
    ports, body = "input [1:0] given, output violations", "assign violations = ^given;"
    monitor = f"module accelerator_bus_monitor({ports});\n  {body}\nendmodule\n"
    text = VERILOG.replace("assign protocol = ^count;", f"{instance}\n  assign protocol = seen;") + monitor
    _, given = mutated(text, 4, 1, cells="t:*_monitor")
    _, sums = mutated(text, 20, 1, cells="t:$add")
    low = [mutant for mutant in sums if int(mutant.options["portbit"]) < 2]
    assert given
    assert low
    assert unobservable(text, given) == {mutant.number for mutant in given}
    assert not unobservable(text, low)
