"""The benchmarks of area and clock, but for the tools: what goes into them, and what is made of what they print."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import accel

INSTANCES = """\
module accelerator_ram #(
  parameter WIDTH = 8
) (input wire clk);
endmodule
module m(clk);
  accelerator_ram #(
    .ADDRESS_BITS(32'd7),
    .DEPTH(32'd128),
    .LANES(32'd1),
    .WIDTH(32'd32)
  ) bank0 (
    .clk(clk)
  );
  accelerator_ram #(
    .ADDRESS_BITS(32'd9),
    .DEPTH(32'd512),
    .LANES(32'd4),
    .WIDTH(32'd64)
  ) bank1 (
    .clk(clk)
  );
endmodule
"""
STATISTICS = """\
=== accelerator_small ===
   Number of cells:                 20
   Chip area for module '\\accelerator_small': 900.0
=== design hierarchy ===
   Number of cells:              1,000
     AND2X1                         88
     DFFPOSX1                       10
     DFFSR                           2
   Chip area for top module '\\accelerator': 123456.500000
"""
TIMING = """\
Startpoint: unit/a_reg (rising edge-triggered flip-flop clocked by clk)
Endpoint: unit/b_reg (rising edge-triggered flip-flop clocked by clk)
          -2.50   slack (VIOLATED)
"""

NETLIST = """\
module accelerator(clk);
  accelerator_unit unit (
    .clk(clk)
  );
endmodule
module accelerator_unit(clk);
  INVX1 _1_ (
    .A(_5_),
    .Y(_6_)
  );
  DFFPOSX1 _2_ (
    .CLK(clk),
    .D(_6_),
    .Q(level[3])
  );
endmodule
"""


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Imports a script of the benchmarks by name."""
    monkeypatch.syspath_prepend(Path(accel.__file__).parents[1] / "benchmarks")
    return import_module


def test_every_memory_is_a_black_box_of_its_size(scripts: Any) -> None:
    text = scripts("asic").with_black_boxes(INSTANCES)
    assert "  accelerator_ram_128x32_1 bank0 (\n" in text
    assert "  accelerator_ram_512x64_4 bank1 (\n" in text
    assert "module accelerator_ram #(" in text
    boxes = text.split("(* blackbox *)\n")[1:]
    assert [box.split(" (")[0] for box in boxes] == [
        "module accelerator_ram_128x32_1", "module accelerator_ram_512x64_4",
    ]  # fmt: skip
    assert "input [9-1:0] read_addr, output [64-1:0] read_data" in boxes[1]


def test_area_and_slack_are_read_from_what_the_tools_print(scripts: Any) -> None:
    found = scripts("asic").parse(STATISTICS.replace(",", ""), TIMING)
    assert found == (0.1234565, 1000, 12, -2.5, "unit/a_reg", "unit/b_reg")


def test_a_netlist_that_the_timing_tool_reads_in_part_is_refused(
    scripts: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenSTA drops what it cannot parse, joins the modules around it, and ends with code 0."""
    tool = tmp_path / "sta"
    tool.write_text("#!/bin/sh\necho 'Error: netlist.v, line 7 syntax error, expecting ID.'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with pytest.raises(RuntimeError, match=r"did not read the netlist: Error: netlist\.v, line 7"):
        scripts("asic").analyse(tmp_path)


def test_a_register_is_called_by_its_signal(scripts: Any) -> None:
    assert scripts("asic").register(NETLIST, "unit/_2_") == "unit/level[3]"
    assert scripts("asic").register(NETLIST, "unit/_1_") == "unit/_1_"


def test_cells_of_a_module_count_for_each_instance(scripts: Any) -> None:
    modules = {
        "top": {"attributes": {}, "cells": {"a": {"type": "part"}, "b": {"type": "part"}, "c": {"type": "LUT4"}}},
        "part": {"attributes": {}, "cells": {"x": {"type": "LUT4"}, "y": {"type": "LUT4"}, "z": {"type": "DP16KD"}}},
        "DP16KD": {"attributes": {"blackbox": "1"}, "cells": {}},
    }
    assert scripts("synthesis").count_cells(modules, "top") == {"LUT4": 5, "DP16KD": 2}


def test_every_port_of_a_machine_is_on_a_register_behind_a_shift_register(scripts: Any) -> None:
    widths = {"clk": ("input", 1), "a": ("input", 3), "x": ("output", 2), "b": ("input", 1), "y": ("output", 4)}
    ports = {name: {"direction": side, "bits": list(range(bits))} for name, (side, bits) in widths.items()}
    text = scripts("synthesis").harness(ports, "top")
    connected = ".clk(clk), .a(driven[0 +: 3]), .x(seen[0 +: 2]), .b(driven[3 +: 1]), .y(seen[2 +: 4])"
    assert f"  top machine ({connected});\n" in text
    assert "reg [4-1:0] shifted, driven;" in text
    assert "reg [6-1:0] taken, chained;" in text
    assert "wire [6-1:0] seen;" in text
    assert "    driven <= shifted;\n    taken <= seen;\n" in text
    assert "module top(input [0:0] clk, input [2:0] a, output [1:0] x," in text


def test_a_section_replaces_that_of_its_title(scripts: Any, tmp_path: Path) -> None:
    write, page = scripts("synthesis").write_section, tmp_path / "page.md"
    page.write_text("# Page\n\n## A\n\na\n\n## B\n\nb\n")
    write("## A", ["new"], page)
    write("## C", ["c"], page)
    assert page.read_text() == "# Page\n\n## A\n\nnew\n\n## B\n\nb\n\n## C\n\nc\n"


def test_routes_of_the_same_netlist_stay_beside_each_other(
    scripts: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synthesis, config = scripts("synthesis"), accel.preset("tiny")
    verilog = ["module a; endmodule"]
    for name, value in {
        "RESULTS": tmp_path / "results.json",
        "write_section": lambda title, lines: None,
        "tool_version": str,
        "emit": lambda config: verilog[0],
        "synthesize": lambda *arguments, flatten: synthesis.Area(1, 2, 3, 4, 5),
        "place_and_route": lambda folder, top, grade, seed: synthesis.Route(grade, seed, 6, 90.0 + seed, "a", "b", ()),
    }.items():
        monkeypatch.setattr(synthesis, name, value)

    def rows() -> list[str]:
        return [" | ".join(line.split(" | ")[6:9]) for line in synthesis.table()[2:]]

    synthesis.measure(config, [6], [1, 2])
    synthesis.measure(config, [8], [1])
    assert rows() == ["6 | 1 | 6", "6 | 2 | 6", "8 | 1 | 6"]
    verilog[0] = "module b; endmodule"
    synthesis.measure(config, [6], [3])
    assert rows() == ["6 | 3 | 6"]
    synthesis.measure(config, [], [1])
    assert rows() == ["6 | 3 | 6"]
    monkeypatch.setattr(synthesis, "synthesize", lambda *arguments, flatten: synthesis.Area(9, 2, 3, 4, 5))
    synthesis.measure(config, [], [1])
    assert rows() == ["- | - | -"]
