"""Mutants that only states tell that are never reached are proved equivalent, and no others."""

from __future__ import annotations

import shutil

import pytest
from support.mutants.excitation import MARK, excitements, unchanged, watched
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

MACHINE = """
module accelerator_writer(clk, rst, go, value, en, data, mutant);
  input clk, rst, go, value;
  output en, data;
  input [2:0] mutant;
  reg en = 1'h0, held = 1'h0;
  wire _0_, _1_, _2_;
  assign _0_ = mutant == 3'h1;
  assign _1_ = mutant == 3'h2;
  assign _2_ = _0_ ? held ^ ~en : held;
  assign data = _1_ ? held ^ en : _2_;
  always @(posedge clk) begin
    en <= go & ~rst;
    held <= value;
  end
endmodule

module accelerator_UNIT(clk, en, data, answer);
  input clk, en, data;
  output answer;
  reg answer = 1'h0;
  always @(posedge clk) if (en) answer <= data;
endmodule

module accelerator(clk, rst, go, value, answer, mutant);
  input clk, rst, go, value;
  output answer;
  input [2:0] mutant;
  wire en, data;
  accelerator_writer writer (
    .clk(clk),
    .rst(rst),
    .go(go),
    .value(value),
    .en(en),
    .data(data),
    .mutant(mutant)
  );
  accelerator_UNIT unit (
    .clk(clk),
    .en(en),
    .data(data),
    .answer(answer)
  );
endmodule
"""
NOT_ENABLED, ENABLED = 1, 2

needs_abc = pytest.mark.skipif(not any(map(shutil.which, ABC)), reason="ABC is not installed")


@needs_abc
@pytest.mark.parametrize(("unit", "proved"), [("scratchpad", {NOT_ENABLED}), ("other_unit", set())])
def test_what_a_memory_is_given_without_an_enable_has_no_effect(unit: str, proved: set[int]) -> None:
    mutants = [NetlistMutant(n, {"module": "\\accelerator_writer"}) for n in (NOT_ENABLED, ENABLED)]
    assert indistinguishable(MACHINE.replace("UNIT", unit), mutants) == proved


CHOICE = """
module accelerator_choice(clk, first, given, answer, mutant);
  input clk, first;
  input [1:0] given;
  output answer;
  input [2:0] mutant;
  wire _0_, _1_, _2_, _3_;
  assign _0_ = mutant == 3'h1;
  assign _1_ = mutant == 3'h2;
  assign _2_ = _0_ ? 1'h1 : ~first;
  assign _3_ = _1_ ? 1'h1 : first;
  function [0:0] chosen;
    input [0:0] a;
    input [1:0] b;
    input [1:0] s;
    casez (s) // synopsys parallel_case
      2'b?1:
        chosen = b[0:0];
      2'b1?:
        chosen = b[1:1];
      default:
        chosen = a;
    endcase
  endfunction
  assign answer = chosen(1'hx, given, { _2_, _3_ });
endmodule
"""
LAST, FIRST = 1, 2


@needs_abc
def test_of_several_choices_the_first_counts() -> None:
    mutants = [NetlistMutant(n, {"module": "\\accelerator_choice"}) for n in (LAST, FIRST)]
    assert indistinguishable(CHOICE, mutants) == {LAST}


BUS = """
module accelerator(clk, rst, go, value, bus_awvalid, bus_awaddr, bus_awready, data__awaddr, protocol, mutant);
  input clk, rst, go, value, bus_awready;
  output bus_awvalid, bus_awaddr, data__awaddr, protocol;
  input [2:0] mutant;
  reg valid = 1'h0, held = 1'h0;
  wire _0_, _1_, _2_, _3_;
  assign _0_ = mutant == 3'h1;
  assign _1_ = mutant == 3'h2;
  assign _2_ = _0_ ? held ^ ~valid : held;
  assign _3_ = _1_ ? held ^ valid : _2_;
  assign bus_awvalid = valid;
  assign bus_awaddr = NAMED;
  assign data__awaddr = OTHER;
  always @(posedge clk) begin
    valid <= go & ~rst;
    held <= value;
  end
  accelerator_bus_monitor monitor (
    .clk(clk),
    .violations(protocol)
  );
endmodule

module accelerator_bus_monitor(clk, violations);
  input clk;
  output violations;
endmodule
"""
NOT_VALID, VALID = 1, 2


@needs_abc
@pytest.mark.parametrize(("named", "other", "proved"), [("_3_", "1'h0", {NOT_VALID}), ("1'h0", "_3_", set())])
def test_what_a_bus_offers_counts_while_it_is_valid(named: str, other: str, proved: set[int]) -> None:
    mutants = [NetlistMutant(n, {"module": "\\accelerator"}) for n in (NOT_VALID, VALID)]
    assert indistinguishable(BUS.replace("NAMED", named).replace("OTHER", other), mutants) == proved


PAIR = """
module accelerator_words_queue(clk, rst, word, head, mutant);
  input clk, rst, word;
  output head;
  input [2:0] mutant;
  reg head = 1'h0;
  wire _0_, _1_, _2_, _3_;
  assign _0_ = mutant == 3'h1;
  assign _1_ = mutant == 3'h2;
  assign _2_ = _0_ ? ~word : word;
  always @(posedge clk) head <= _2_;
endmodule

module accelerator_words_unit(clk, head, answer);
  input clk, head;
  output answer;
  reg answer = 1'h0;
  always @(posedge clk) answer <= head & KEPT;
endmodule

module accelerator(clk, rst, word, answer, mutant);
  input clk, rst, word;
  output answer;
  input [2:0] mutant;
  wire head;
  accelerator_words_queue queue (
    .clk(clk),
    .rst(rst),
    .word(word),
    .head(head),
    .mutant(mutant)
  );
  accelerator_NAME user (
    .clk(clk),
    .head(head),
    .answer(answer)
  );
endmodule
"""


@needs_abc
@pytest.mark.parametrize(
    ("name", "kept", "proved"), [("words_unit", "1'h0", {1}), ("words_unit", "1'h1", set()), ("other", "1'h0", set())]
)
def test_a_unit_and_its_queue_are_seen_together(name: str, kept: str, proved: set[int]) -> None:
    text = PAIR.replace("accelerator_words_unit", f"accelerator_{name}").replace("NAME", name).replace("KEPT", kept)
    assert indistinguishable(text, [NetlistMutant(1, {"module": "\\accelerator_words_queue"})]) == proved


@needs_abc
@pytest.mark.parametrize(("head", "proved"), [("1'h0", {1}), ("word", set())])
def test_a_unit_knows_what_its_queue_never_holds(head: str, proved: set[int]) -> None:
    text = (
        PAIR.replace("head <= _2_", f"head <= {head}").replace("NAME", "words_unit").replace("KEPT", "(mutant == 3'h1)")
    )
    text = text.replace("unit(clk, head, answer);", "unit(clk, head, answer, mutant);\n  input [2:0] mutant;")
    text = text.replace(".answer(answer)\n", ".answer(answer),\n    .mutant(mutant)\n")
    assert indistinguishable(text, [NetlistMutant(1, {"module": "\\accelerator_words_unit"})]) == proved


@needs_abc
def test_nothing_is_proved_of_a_clock() -> None:
    options = {"module": "\\accelerator_counter", "port": "\\CLK"}
    assert not indistinguishable(VERILOG, [NetlistMutant(UNREACHED, options)])


@needs_abc
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
    assert +excitements(text, "\n".join(records)) == {REACHED: 2, INSTANCE: 1}


def test_a_constant_that_is_there_anyway_is_no_mutant() -> None:
    mutants = [NetlistMutant(n, {"module": "\\accelerator_counter"}) for n in (UNREACHED, REACHED, TWIN, INSTANCE)]
    text = VERILOG.replace("1'h0 : unreached", "1'h0 : 1'h0").replace("1'h1 : answer", "1'h1 : 1'hx")
    assert unchanged(VERILOG, mutants) == set()
    assert unchanged(text, mutants) == {UNREACHED, INSTANCE}


def test_a_mutant_on_which_nothing_depends_is_none() -> None:
    mutants = [NetlistMutant(n, {"module": "\\accelerator_counter"}) for n in (REACHED, TWIN, INSTANCE + 1)]
    assert unchanged(VERILOG, mutants) == {INSTANCE + 1}
