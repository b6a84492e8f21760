"""Area and slack in a 180 nm process, by open tools. Run: python benchmarks/asic.py tiny [CONFIG ...]

Each machine (a preset or a .toml file) is mapped by yosys to the standard cells of a Liberty file, without memories:
those are black boxes, a module for each size, as a foundry's macros would be; queues become flip-flops. OpenSTA then
finds the slowest path between registers. There is no placement: wires have no length, and the clock is ideal. The
result becomes the section of RESULTS.md.

Debian has all parts: `apt install yosys opensta qflow-tech-osu018` (cells of Oklahoma State University). Without a
`yosys` on the PATH that of the extra `synth` is taken.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from synthesis import run_tool, tool_version, write_section

from accel.machine.config import ArchConfig, load_config, preset
from rtl.bundle.descriptions import memory_page
from rtl.verilog import TOP, emit

LIBERTY = Path("/usr/share/qflow/tech/osu018/osu018_stdcells.lib")
TITLE = "## Area and slack at 180 nm"
PERIOD_NS = 10.0
CONSTRAINTS = "set_driving_cell INVX4\nset_load 0.05\n"
SYNTHESIS = f"""\
read_verilog machine.v
attrmap -remove init
synth -top {TOP} -noabc -noshare
dfflibmap -liberty cells.lib
abc -liberty cells.lib -constr abc.constr -D {PERIOD_NS * 1000:.0f}
opt_clean -purge
tee -o stat.txt stat -liberty cells.lib -top {TOP}
write_verilog -noattr -simple-lhs netlist.v
"""
TIMING = f"""\
read_liberty cells.lib
read_verilog netlist.v
link_design {TOP}
create_clock -name clk -period {PERIOD_NS} [get_ports clk]
report_checks -from [all_registers -clock_pins] -to [all_registers -data_pins] -format full
report_worst_slack
exit
"""
INSTANCE = re.compile(rf"^  {TOP}_(?:lane_)?ram #\(\n(.*?)\n  \) (\w+)", re.MULTILINE | re.DOTALL)
PARAMETER = re.compile(r"\.(\w+)\(32'd(\d+)\)")
BLACK_BOX = """\
(* blackbox *)
module {name} (
  input clk, input read_en, input [{ADDRESS_BITS}-1:0] read_addr, output [{WIDTH}-1:0] read_data,
  input [{LANES}-1:0] write_en, input [{ADDRESS_BITS}-1:0] write_addr, input [{WIDTH}-1:0] write_data
);
endmodule
"""


class Result(NamedTuple):
    """Area of all cells in square millimetres, cells, flip-flops among them, slack in ns, where the path is."""

    area: float
    cells: int
    flip_flops: int
    slack: float
    start: str
    end: str


def with_black_boxes(verilog: str) -> str:
    """The same machine; each memory is an instance of a module of its size, which has ports alone."""
    boxes: dict[str, str] = {}

    def box(instance: re.Match[str]) -> str:
        sizes = dict(PARAMETER.findall(instance[1]))
        name = f"{TOP}_ram_{sizes['DEPTH']}x{sizes['WIDTH']}_{sizes['LANES']}"
        boxes[name] = BLACK_BOX.format(name=name, **sizes)
        return f"  {name} {instance[2]}"

    return INSTANCE.sub(box, verilog) + "".join(boxes.values())


def measure(config: ArchConfig, liberty: Path, folder: Path) -> tuple[Result, str]:
    """Area and slack of a machine, and the table of its memories."""
    verilog = emit(config)
    shutil.copy(liberty, folder / "cells.lib")
    for name, text in (("machine.v", with_black_boxes(verilog)), ("abc.constr", CONSTRAINTS), ("timing.tcl", TIMING)):
        (folder / name).write_text(text)
    run_tool("yosys", ["-q", "-p", "; ".join(SYNTHESIS.splitlines())], folder)
    timing = analyse(folder)
    rows = (line for line in memory_page([verilog], TOP).splitlines() if line.startswith("|"))
    memories = "\n".join(row for row in rows if f"{TOP}_queue_ram" not in row)
    found = parse((folder / "stat.txt").read_text(), timing)
    netlist = (folder / "netlist.v").read_text()
    ends = {side: register(netlist, getattr(found, side)) for side in ("start", "end")}
    return found._replace(**ends), memories


def analyse(folder: Path) -> str:
    """What OpenSTA finds; after a statement that it cannot read it goes on without, and would time another netlist."""
    done = subprocess.run(["sta", "timing.tcl"], cwd=folder, capture_output=True, text=True, check=True)
    if errors := re.findall(r"^Error.*", done.stdout + done.stderr, re.MULTILINE):
        raise RuntimeError(f"sta did not read the netlist: {errors[0]}")
    return done.stdout


def parse(statistics: str, timing: str) -> Result:
    """What yosys and OpenSTA print as numbers."""
    total = statistics[statistics.index("design hierarchy") :]
    area = float(re.findall(r"Chip area for top module.*: ([\d.]+)", total)[0])
    cells = int(re.findall(r"Number of cells: +(\d+)", total)[0])
    flip_flops = sum(int(count) for count in re.findall(r"^ +DFF\w+ +(\d+)", total, re.MULTILINE))
    start, end = (re.findall(rf"{side}point: (\S+)", timing)[0] for side in ("Start", "End"))
    slack = float(re.findall(r"(-?[\d.]+) +slack", timing)[0])
    return Result(area / 1e6, cells, flip_flops, slack, start, end)


def register(netlist: str, path: str) -> str:
    """Instances and signal of the flip-flop at `path`, which synthesis numbered; `path` where none is found."""
    modules = dict(re.findall(r"^module (\S+)\s?\((.*?)^endmodule$", netlist, re.MULTILINE | re.DOTALL))
    *instances, cell = path.split("/")
    module = TOP
    for instance in instances:
        module = re.findall(rf"^  (\S+) {re.escape(instance)} \(", modules[module], re.MULTILINE)[0]
    pins = re.findall(rf"^  DFF\w+ {re.escape(cell)} \((.*?)\);$", modules[module], re.MULTILINE | re.DOTALL)
    signals = re.findall(r"\.Q\(\\?(.+?)\s*\)", pins[0]) if pins else [cell]
    return "/".join([*instances, *signals])


def section(results: dict[str, tuple[Result, str]]) -> list[str]:
    """The section of RESULTS.md."""
    lines = [
        f"`python benchmarks/asic.py {' '.join(results)}`: {tool_version('yosys')}, OpenSTA and the cells of Debian's "
        f"`qflow-tech-osu018` (1.8 V, 25 degrees, typical). Clock period {PERIOD_NS:g} ns; memories are black boxes, "
        "listed below, but queues are flip-flops; no wires.\n",
        "| machine | area of cells (mm2) | cells | flip-flops | worst slack (ns) | clock (MHz) | slowest path |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, (found, _) in results.items():
        clock = 1000 / (PERIOD_NS - found.slack)
        lines.append(
            f"| {name} | {found.area:.3f} | {found.cells:,} | {found.flip_flops:,} | {found.slack:.2f} | {clock:.1f} "
            f"| `{found.start}` to `{found.end}` |"
        )
    return lines + [text for name, (_, table) in results.items() for text in (f"\nMemories of `{name}`:\n", table)]


def main(arguments: list[str] | None = None) -> None:
    """Measure, write, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("configs", nargs="+", help="presets or .toml files")
    parser.add_argument("--liberty", type=Path, default=LIBERTY, help="standard cells (default: %(default)s)")
    options = parser.parse_args(arguments)
    if not options.liberty.is_file() or not shutil.which("sta"):
        sys.exit(f"needs {options.liberty} and OpenSTA's sta on the PATH: apt install opensta qflow-tech-osu018")
    results = {}
    for name in options.configs:
        config = load_config(name) if name.endswith(".toml") else preset(name)
        with tempfile.TemporaryDirectory() as folder:
            results[config.name] = measure(config, options.liberty, Path(folder))
    lines = section(results)
    write_section(TITLE, lines)
    print(*lines, sep="\n")


if __name__ == "__main__":
    main()
