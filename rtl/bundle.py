"""A machine as an integrator takes it: Verilog in files, constraints, FuseSoC core, register description, ports."""

from __future__ import annotations

import os
import re
from pathlib import Path

import accel
from accel.files import write_atomic
from accel.machine.config import ArchConfig
from accel.machine.registers import REGISTERS, Register
from rtl.verilog import emit, head, top_name

IO_SHARE = 0.3
"""Part of a clock period that the constraints leave to the logic outside of the ports."""

LINT_OPTIONS = ("-Wno-fatal", "-Wno-lint", "-Wno-style")

ACCESS = {"ro": "sw = r; hw = w;", "rw": "sw = rw; hw = rw;", "w1c": "sw = rw; onwrite = woclr; hw = rw;"}
"""A field's properties in SystemRDL, by `Register.access`."""


def write_bundle(config: ArchConfig, folder: str | os.PathLike[str], prefix: str = "") -> list[Path]:
    """Write all files of `bundle` into `folder`, which is created; returns their paths."""
    target, paths = Path(folder), []
    for name, text in bundle(config, prefix).items():
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, text.encode())
        paths.append(path)
    return paths


def bundle(config: ArchConfig, prefix: str = "") -> dict[str, str]:
    """Texts of the files by their relative paths; NAME is the configuration's, behind `prefix` if there is one.

    `rtl/*.v` hold the modules, one file for each part of the machine, in the order of the file list `NAME.f`;
    `NAME.sdc` constrains clock and ports; `NAME.core` is a core for FuseSoC; `NAME.rdl` describes the registers in
    SystemRDL; `NAME.ports.md` lists the ports; `NAME.toml` is the configuration.
    """
    name, top = f"{prefix}_{config.name}" if prefix else config.name, top_name(prefix)
    modules = {f"rtl/{part}.v": text for part, text in split(emit(config, prefix=prefix), top, config).items()}
    return {
        **modules,
        f"{name}.f": "".join(f"{path}\n" for path in modules),
        f"{name}.sdc": constraints(config),
        f"{name}.core": core(name, top, list(modules)),
        f"{name}.rdl": system_rdl(top),
        f"{name}.ports.md": port_page(modules[f"rtl/{top}.v"], top),
        f"{name}.toml": config.to_toml(),
    }


def split(verilog: str, top: str, config: ArchConfig) -> dict[str, str]:
    """Texts of files by the part of the machine that they hold: the top, each of its submodules, each block."""
    chunks = {}
    for chunk in re.findall(r".*?^endmodule\n", verilog, re.DOTALL | re.MULTILINE):
        chunks[re.findall(r"^module (\w+)", chunk, re.MULTILINE)[0]] = re.sub(r"\A(?:\s*//.*\n|/\*.*?\*/)*", "", chunk)
    parts = set(re.findall(rf"^  ({top}_\w+) \w+ \($", chunks[top], re.MULTILINE))
    files: dict[str, str] = {}
    for module, text in chunks.items():
        part = max((part for part in parts if module.startswith(f"{part}_")), key=len, default=module)
        files[part] = files.get(part, head(config)) + "\n" + text.lstrip("\n")
    return files


def constraints(config: ArchConfig) -> str:
    """Clock and port delays in the format of Synopsys, which most tools read."""
    period = 1000 / config.clock_mhz
    return (
        f"# SPDX-License-Identifier: Apache-2.0\n# {config.clock_mhz:g} MHz; one clock, synchronous reset.\n"
        f"create_clock -name clk -period {period:.3f} [get_ports clk]\n"
        f"set_input_delay -clock clk {IO_SHARE * period:.3f} [remove_from_collection [all_inputs] [get_ports clk]]\n"
        f"set_output_delay -clock clk {IO_SHARE * period:.3f} [all_outputs]\n"
    )


def core(name: str, top: str, verilog: list[str]) -> str:
    """A core description for FuseSoC, version 2: the files, and a lint by Verilator."""
    files = "\n".join(f"      - {path}" for path in verilog)
    return f"""CAPI=2:
# SPDX-License-Identifier: Apache-2.0
name: accel:accel:{name}:{accel.__version__}
description: INT8 systolic-array accelerator
filesets:
  rtl:
    files:
{files}
    file_type: verilogSource
  constraints:
    files:
      - {name}.sdc : {{file_type: SDC}}
targets:
  default:
    filesets: [rtl, constraints]
    toplevel: {top}
  lint:
    filesets: [rtl]
    toplevel: {top}
    default_tool: verilator
    tools:
      verilator:
        mode: lint-only
        verilator_options: [{", ".join(LINT_OPTIONS)}]
"""


def system_rdl(top: str) -> str:
    """The registers of `accel.machine.registers` in SystemRDL 2.0."""
    registers = "".join(_rdl(register) for register in REGISTERS.values())
    head = "// SPDX-License-Identifier: Apache-2.0\n"
    return f"{head}addrmap {top} {{\n  default regwidth = 32;\n  default accesswidth = 32;\n{registers}}};\n"


def _rdl(register: Register) -> str:
    text = register.doc.replace('"', "'")
    field = f"field {{ {ACCESS[register.access]} }} value[31:0];"
    return f'  reg {{ desc = "{text}"; {field} }} {register.name} @ {register.address:#x};\n'


def port_page(verilog: str, top: str) -> str:
    """The ports of the top module, of which `verilog` is the text, as a table."""
    module = verilog[verilog.index(f"module {top}(") :].split("endmodule")[0]
    ports = re.findall(r"^  (input|output) (?:\[(\d+):0\] )?(\w+);$", module, re.MULTILINE)
    rows = [f"| `{port}` | {direction} | {int(high or 0) + 1} |" for direction, high, port in ports]
    intro = (
        "`control` is an AXI4-Lite subordinate; `fetch`, `load` and `store` are AXI4 managers; `rst` is synchronous."
    )
    return "\n".join([f"# Ports of `{top}`\n", f"{intro}\n", "| port | direction | bits |", "|---|---|---|", *rows, ""])
