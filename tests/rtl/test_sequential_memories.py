"""What proofs of mutants know of memories that are cut out: enables, what is held, and bits that are always 0."""

from __future__ import annotations

import shutil

import pytest
from support.mutants.netlist_mutants import NetlistMutant
from support.mutants.sequential import ABC, indistinguishable

pytestmark = pytest.mark.rtl

needs_abc = pytest.mark.skipif(not any(map(shutil.which, ABC)), reason="ABC is not installed")


MEMORY = """
module accelerator_ram(clk, read_en, read_addr, read_data, write_en, write_addr, write_data, mutant);
  input clk, read_en, write_en;
  input [1:0] read_addr, write_addr, write_data;
  output [1:0] read_data;
  input [2:0] mutant;
  wire _0_, _1_, _2_, _3_;
  assign _0_ = mutant == 3'h1;
  assign _1_ = mutant == 3'h2;
  assign _2_ = _0_ ? 1'h1 : stored[1];
  assign _3_ = _1_ ? 1'h0 : write_data[0];
  reg [1:0] words [3:0];
  reg [1:0] stored = 2'h0;
  assign read_data = stored;
  always @(posedge clk) begin
    stored <= read_en ? words[read_addr] : {_2_, stored[0]};
    if (write_en) words[write_addr] <= {write_data[1], _3_};
  end
endmodule

module accelerator_reader(clk, ask, address, answer, write_en, write_addr, write_data, mutant);
  input clk, ask, write_en;
  input [1:0] address, write_addr, write_data;
  output [1:0] answer;
  input [2:0] mutant;
  wire _0_, _1_, _2_, _3_;
  assign _0_ = mutant == 3'h3;
  assign _1_ = mutant == 3'h4;
  assign _2_ = _0_ ? address[0] ^ ~ask : address[0];
  assign _3_ = _1_ ? address[1] ^ ask : address[1];
  wire [1:0] read_data;
  reg asked = 1'h0;
  assign answer = asked ? read_data : 2'h0;
  accelerator_ram memory (
    .clk(clk),
    .read_en(ask),
    .read_addr({_3_, _2_}),
    .read_data(read_data),
    .write_en(write_en),
    .write_addr(write_addr),
    .write_data(write_data),
    .mutant(mutant)
  );
  always @(posedge clk) asked <= ask;
endmodule
"""


HELD, WRITTEN, IDLE, ADDRESS = range(1, 5)


@needs_abc
def test_what_a_memory_holds_counts_where_it_was_asked() -> None:
    mutants = [NetlistMutant(n, {"module": "\\accelerator_ram"}) for n in (HELD, WRITTEN)]
    assert indistinguishable(MEMORY, mutants) == {HELD}


@needs_abc
def test_where_a_memory_reads_counts_where_it_is_asked() -> None:
    mutants = [NetlistMutant(n, {"module": "\\accelerator_reader"}) for n in (IDLE, ADDRESS)]
    assert indistinguishable(MEMORY.replace("{_2_, stored[0]}", "stored"), mutants) == {IDLE}


KEPT = """
module accelerator_keeper(clk, ask, address, answer, write_en, write_data, mutant);
  input clk, ask, write_en;
  input [1:0] address, write_data;
  output [1:0] answer;
  input [2:0] mutant;
  wire _0_, _1_, _2_, _3_;
  assign _0_ = mutant == 3'h1;
  assign _1_ = mutant == 3'h2;
  assign _2_ = _0_ ? 1'h1 : asked;
  assign _3_ = _1_ ? ~asked : _2_;
  reg [1:0] words [3:0];
  reg [1:0] stored = 2'h0, answer = 2'h0;
  reg asked = 1'h0;
  always @(posedge clk) begin
    asked <= ask;
    if (ask) stored <= words[address];
    if (write_en) words[address] <= write_data;
    if (_3_) answer <= stored;
  end
endmodule
"""
AGAIN, LATE = 1, 2


@needs_abc
def test_what_a_memory_answers_stays_until_it_is_asked_again() -> None:
    mutants = [NetlistMutant(n, {"module": "\\accelerator_keeper"}) for n in (AGAIN, LATE)]
    assert indistinguishable(KEPT, mutants) == {AGAIN}


CONSTANT = """
module accelerator_fifo(clk, word, at, en, answer, mutant);
  input clk, word, at, en;
  output answer;
  input [2:0] mutant;
  reg [1:0] words [1:0];
  reg held = 1'h0, above = 1'h0;
  initial begin
    words[0] = 2'h0;
    words[1] = 2'hFIRST;
  end
  wire _0_, _1_, _2_, _3_;
  wire [1:0] read;
  assign read = words[at];
  assign _0_ = mutant == 3'h1;
  assign _1_ = mutant == 3'h2;
  assign _2_ = _0_ ? word ^ read[1] : word;
  assign _3_ = _1_ ? _2_ ^ read[0] : _2_;
  assign answer = _3_;
  always @(posedge clk) begin
    held <= word;
    above <= above & en;
    if (en) words[at] <= {ABOVE, held};
  end
endmodule
"""
NEVER_WRITTEN, EVER_WRITTEN = 1, 2


@needs_abc
@pytest.mark.parametrize(("above", "proved"), [("above", {NEVER_WRITTEN}), ("word", set())])
def test_a_bit_into_which_only_zeros_are_written_is_0(above: str, proved: set[int]) -> None:
    mutants = [NetlistMutant(n, {"module": "\\accelerator_fifo"}) for n in (NEVER_WRITTEN, EVER_WRITTEN)]
    assert indistinguishable(CONSTANT.replace("FIRST", "0").replace("ABOVE", above), mutants) == proved


def test_a_memory_that_is_not_0_at_first_is_an_error() -> None:
    with pytest.raises(AssertionError, match="memories must be 0 at first"):
        indistinguishable(CONSTANT.replace("FIRST", "2"), [])


@needs_abc
def test_what_a_memory_is_written_counts_with_its_enable() -> None:
    text = MEMORY.replace("write_data[0];", "write_data[0] ^ (DIFFERS);").replace(
        "_1_ ? 1'h0 :", "_1_ ? write_data[0] :"
    )
    mutants = [NetlistMutant(WRITTEN, {"module": "\\accelerator_ram"})]
    assert indistinguishable(text.replace("DIFFERS", "~write_en"), mutants) == {WRITTEN}
    assert indistinguishable(text.replace("DIFFERS", "write_en"), mutants) == set()
