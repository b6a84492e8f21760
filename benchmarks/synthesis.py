"""Area and clock on an FPGA, by open tools (extra `synth`). Run: python benchmarks/synthesis.py tiny [CONFIG ...]

Each machine (a preset or a .toml file) goes through yosys `synth_ecp5` and is placed and routed by nextpnr on an
ECP5-85. It has more ports than the part has pads: a shift register drives its inputs, another one takes its outputs, so
that the clock is that of the paths between registers, on the part's clock network; of all counts, only that of logic
cells has them. Results are kept in benchmarks/synthesis.json, one entry per machine, and become the section of
RESULTS.md. Tools on the PATH (`yosys`, `nextpnr-ecp5`) are taken before those of the extra, which are slower; an entry
names them.

`--grade` places for one speed grade of the part instead of the slowest and the fastest one, `--seed` from one or more
other starts; each is a row, which stays until the machine's Verilog is another. `--no-place` counts cells only, module
by module: for machines that do not fit the part. `--module NAME` takes one module of the hierarchy
(`load_unit.writer`) and prints its slowest path; nothing is kept.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from dsp_registers import absorb_registers

from accel.files import write_atomic
from accel.machine.config import ArchConfig, load_config, preset
from rtl.verilog import TOP, emit

FOLDER = Path(__file__).resolve().parent
RESULTS, PAGE = FOLDER / "synthesis.json", FOLDER / "RESULTS.md"
PLACE = "--85k --package CABGA756 --freq 100 --placer static --lpf-allow-unconstrained --timing-allow-fail -q"
GRADES = (6, 8)
"""The part's slowest and fastest speed grade."""
LEVELS = 5
"""Tables between two registers, memories, carry chains or multipliers that mapping may use. Left alone it uses as few
as the longest path needs on every path, and the tables which that costs crowd the placement."""
MAP_LUTS = (
    "techmap -map +/ecp5/latches_map.v; abc -dress -lut 4 -script "
    f"+strash;&get,-n;&fraig,-x;&put;scorr;dc2;dretime;strash;dch,-f;if,-D,{LEVELS};mfs2; clean"
)
"""`synth_ecp5`'s own step of that name, with `LEVELS`; without tables of more inputs than four, each of which is two to
eight cells that must lie side by side."""
HARNESS = """\
module harness(input clk, input shift_in, output shift_out);
  reg [{inputs}-1:0] shifted, driven;
  reg [{outputs}-1:0] taken, chained;
  wire [{outputs}-1:0] seen;
  always @(posedge clk) begin
    shifted <= {{shifted, shift_in}};
    driven <= shifted;
    taken <= seen;
    chained <= {{chained, 1'b0}} ^ taken;
  end
  assign shift_out = chained[{outputs}-1];
  {top} machine ({connections});
endmodule
(* blackbox *) module {top}({ports}); endmodule
"""
TITLE = "## Area and clock on ECP5"
ABOUT = (
    "`python benchmarks/synthesis.py MACHINE` places and routes a machine on an ECP5-85 (83,640 logic cells, 156 "
    f"MULT18X18D, 208 DP16KD) of the slowest and of the fastest speed grade, {' and '.join(map(str, GRADES))}, "
    "with its ports on registers behind shift registers, which are counted among the logic cells alone. Another seed "
    "is another placement. Registers behind multipliers go into the part's multipliers "
    "(`benchmarks/dsp_registers.py`). Where there is no clock, cells only were counted; `--no-place` does it without "
    "optimization across the borders of modules. MULT18X18D: multipliers of 18 x 18 bits; DP16KD: block RAMs of 18 "
    "Kbit; TRELLIS_DPR16X4: RAMs of 16 x 4 bits, in logic cells."
)
HEADER = [
    "| machine | LUT4 | FF | MULT18X18D | DP16KD | TRELLIS_DPR16X4 | grade | seed | logic cells | Fmax (MHz) "
    "| slowest path | tools |",
    "|---|---|---|---|---|---|---|---|---|---|---|---|",
]


@dataclass(frozen=True)
class Area:
    """Cells after `synth_ecp5`: 4-input tables, flip-flops, multipliers, 18 Kbit block RAMs, 16 x 4 RAMs of tables.

    Of a flat netlist without the flip-flops that went into multipliers.
    """

    lut4: int
    ff: int
    mult18x18d: int
    dp16kd: int
    dpr16x4: int


@dataclass(frozen=True)
class Route:
    """nextpnr's report: occupied logic cells (of 83,640), clock in MHz, registers at the slowest path's ends, steps."""

    grade: int
    seed: int
    logic_cells: int
    fmax: float
    source: str
    sink: str
    steps: tuple[str, ...]


def run_tool(tool: str, arguments: Sequence[str], folder: Path) -> None:
    """Run a tool in `folder`: that of the PATH or of YoWASP, whose sandbox sees the working folder only."""
    done = subprocess.run([*_command(tool), *arguments], cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{tool} failed with code {done.returncode}:\n{(done.stdout + done.stderr)[-2000:]}")


def _command(tool: str) -> list[str]:
    """How a tool is started."""
    if path := shutil.which(tool):
        return [path]
    package, function = f"yowasp_{tool.replace('-', '_')}", f"run_{tool.replace('-', '_')}"
    return [sys.executable, "-c", f"import sys, {package}; sys.exit({package}.{function}(sys.argv[1:]))"]


def tool_version(tool: str) -> str:
    """Name and version of what `run_tool` runs."""
    if not shutil.which(tool):
        return f"yowasp-{tool} {version(f'yowasp-{tool}')}"
    done = subprocess.run([tool, "--version"], capture_output=True, text=True, check=False)
    return f"{tool} {re.findall(r'(?:Yosys|Version) (?:nextpnr-)?([^ )]+)', done.stdout + done.stderr)[0]}"


def synthesize(verilog: str, top: str, folder: Path, *, flatten: bool = True) -> Area:
    """Synthesize module `top`; the netlist is left in `folder`/netlist.json."""
    (folder / "machine.v").write_text(verilog)
    first = "" if flatten else "-noflatten"
    script = (
        f"read_verilog machine.v; synth_ecp5 -top {top} {first} -run begin:map_luts; {MAP_LUTS}; "
        f"synth_ecp5 -top {top} -run map_cells: -json netlist.json"
    )
    run_tool("yosys", ["-q", "-p", script], folder)
    netlist = json.loads((folder / "netlist.json").read_text())
    if flatten:
        absorb_registers(netlist["modules"][top])
        (folder / "netlist.json").write_text(json.dumps(netlist))
    cells = count_cells(netlist["modules"], top)
    return Area(*(cells[name] for name in ("LUT4", "TRELLIS_FF", "MULT18X18D", "DP16KD", "TRELLIS_DPR16X4")))


def count_cells(modules: dict[str, Any], top: str) -> Counter[str]:
    """The part's cells below module `top` of yosys's JSON, by type; a module counts once for each instance."""
    found: Counter[str] = Counter()
    for kind, instances in Counter(cell["type"] for cell in modules[top]["cells"].values()).items():
        inside = modules.get(kind, {"attributes": {"blackbox": 1}})
        cells = {kind: 1} if "blackbox" in inside["attributes"] else count_cells(modules, kind)
        found.update({name: instances * count for name, count in cells.items()})
    return found


def harness(ports: dict[str, Any], top: str) -> str:
    """A module with three ports around module `top` with `ports` (of yosys's JSON), which becomes a black box."""
    declared, connections, used = [], [], {"input": 0, "output": 0}
    for name, port in ports.items():
        side, bits = port["direction"], len(port["bits"])
        declared.append(f"{side} [{bits - 1}:0] {name}")
        if name == "clk":
            connections.append(".clk(clk)")
            continue
        connections.append(f".{name}({'driven' if side == 'input' else 'seen'}[{used[side]} +: {bits}])")
        used[side] += bits
    return HARNESS.format(
        inputs=used["input"], outputs=used["output"], top=top,
        connections=", ".join(connections), ports=", ".join(declared),
    )  # fmt: skip


def place_and_route(folder: Path, top: str, grade: int, seed: int) -> Route:
    """Place and route `folder`/netlist.json, whose module is `top`, between the shift registers of a harness.

    `grade` is the part's speed grade: 6, 7 or 8, the fastest one; `seed` is the placement's.
    """
    netlist = json.loads((folder / "netlist.json").read_text())
    (folder / "harness.v").write_text(harness(netlist["modules"][top]["ports"], top))
    # The netlist brings the black boxes of its cells with it.
    script = "read_verilog harness.v; synth_ecp5 -top harness; delete =A:blackbox; read_json netlist.json"
    run_tool("yosys", ["-q", "-p", f"{script}; hierarchy -top harness; flatten; write_json placed.json"], folder)
    options = ["--speed", str(grade), "--seed", str(seed), "--json", "placed.json", "--report", "report.json"]
    run_tool("nextpnr-ecp5", [*PLACE.split(), *options], folder)
    report = json.loads((folder / "report.json").read_text())
    (clock,) = report["fmax"].values()
    clocked = [path for path in report["critical_paths"] if path["from"] == path["to"] and "posedge" in path["from"]]
    path = clocked[0]["path"]
    return Route(
        grade,
        seed,
        report["utilization"]["TRELLIS_COMB"]["used"],
        round(clock["achieved"], 1),
        _register(path[0]["from"]),
        _register(path[-1]["to"]),
        tuple(f"{step['delay']:.2f} {step['type']} {step.get('net') or _register(step['to'])}" for step in path),
    )


def _register(end: dict[str, Any]) -> str:
    """The Verilog name of what drives a cell's pin: yosys derives cell names from it."""
    cell = str(end["cell"]).removeprefix("machine.")
    return cell.split("_TRELLIS")[0].split("_LUT4")[0].split("_CCU2C")[0] + "." + str(end["port"])


def table() -> list[str]:
    """All kept results as a table."""
    lines = list(HEADER)
    for name, result in json.loads(RESULTS.read_text()).items() if RESULTS.exists() else ():
        area = [f"{cells:,}" for cells in result["area"].values()]
        routes = [
            [
                str(route["grade"]), str(route["seed"]), f"{route['logic_cells']:,}", str(route["fmax"]),
                f"{route['source']} to {route['sink']}",
            ]
            for route in result["routes"]
        ]  # fmt: skip
        for route in routes or [["-", "-", "-", "-", "not placed"]]:
            lines.append(f"| {' | '.join([name, *area, *route, ', '.join(result['tools'])])} |")
    return lines


def write_section(title: str, lines: Sequence[str], page: Path = PAGE) -> None:
    """Put a section in the place of that of the same title, or behind all others."""
    parts = re.split(r"^(?=## )", page.read_text(), flags=re.MULTILINE)
    section = "\n".join([title, "", *lines]) + "\n"
    places = [i for i, part in enumerate(parts) if part.startswith(f"{title}\n")] or [len(parts)]
    parts[places[0] : places[0] + 1] = [section]
    write_atomic(page, ("\n\n".join(part.strip() for part in parts) + "\n").encode())


def measure(config: ArchConfig, grades: Sequence[int], seeds: Sequence[int]) -> None:
    """Synthesize one machine, place and route it for some speed grades and seeds, and keep each result as it comes."""
    verilog = emit(config)
    with tempfile.TemporaryDirectory() as folder:
        area = synthesize(verilog, TOP, Path(folder), flatten=bool(grades))
        _keep(config, verilog, area, [])
        for grade, seed in itertools.product(grades, seeds):
            _keep(config, verilog, area, [asdict(place_and_route(Path(folder), TOP, grade, seed))])


def _keep(config: ArchConfig, verilog: str, area: Area, placed: list[dict[str, Any]]) -> None:
    """Put an area and routes beside those that are kept of the same netlist, and in the place of any others."""
    kept = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    netlist = {"verilog": hashlib.sha256(verilog.encode()).hexdigest(), "area": asdict(area)}
    before = kept.get(config.name, {})
    same = before["routes"] if before.items() >= netlist.items() else []
    routes = {(route["grade"], route["seed"]): route for route in [*same, *placed]}
    kept[config.name] = {
        "fingerprint": config.fingerprint(), **netlist, "routes": [route for _, route in sorted(routes.items())],
        "tools": [tool_version(tool) for tool in ("yosys", "nextpnr-ecp5")[: 1 + bool(routes)]],
    }  # fmt: skip
    write_atomic(RESULTS, (json.dumps(dict(sorted(kept.items())), indent=1) + "\n").encode())
    write_section(TITLE, [ABOUT, "", *table()])


def main(arguments: list[str] | None = None) -> None:
    """Measure, keep, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("configs", nargs="+", help="presets or .toml files")
    parser.add_argument(
        "--module", help="one module below the top instead of the whole machine; prints its slowest path"
    )
    parser.add_argument(
        "--grade", type=int, choices=range(GRADES[0], GRADES[-1] + 1), help=f"speed grade (default: each of {GRADES})"
    )
    parser.add_argument("--seed", type=int, nargs="+", default=[1], help="of the placement (default: 1)")
    parser.add_argument("--no-place", action="store_true", help="cells only: for machines that do not fit the part")
    options = parser.parse_args(arguments)
    grades = (options.grade,) if options.grade else GRADES
    for name in options.configs:
        config = load_config(name) if name.endswith(".toml") else preset(name)
        if options.module:
            top = f"{TOP}_{options.module.replace('.', '_')}"
            with tempfile.TemporaryDirectory() as folder:
                print(synthesize(emit(config), top, Path(folder)))
                route = place_and_route(Path(folder), top, grades[0], options.seed[0])
            print(f"{route.fmax} MHz, {route.logic_cells} logic cells", *route.steps, sep="\n")
        else:
            measure(config, () if options.no_place else grades, options.seed)
    print(*table(), sep="\n")


if __name__ == "__main__":
    main()
