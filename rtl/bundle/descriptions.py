"""Texts about a machine for an integrator's tools: constraints, FuseSoC core, register description, ports."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

import accel
from accel.machine.config import ArchConfig
from accel.machine.registers import REGISTERS, Register, reset_values

IO_SHARE = 0.3
"""Part of a clock period that the constraints leave to the logic outside of the ports."""

LINT_OPTIONS = ("-Wno-fatal", "-Wno-lint", "-Wno-style")

ACCESS = {
    "constant": "sw = r; hw = na;",
    "ro": "sw = r; hw = w;",
    "rw": "sw = rw; hw = r;",
    "w1c": "sw = rw; onwrite = woclr; hw = rw;",
    "w1p": "sw = w; singlepulse; hw = r;",
}
"""A field's properties in SystemRDL, by `Field.access`."""


class Port(NamedTuple):
    """A port of the top module; `high` is the number of its highest bit, None if it is no vector."""

    direction: str
    high: int | None
    name: str


def ports(verilog: str, top: str) -> list[Port]:
    """The ports of module `top`, of which `verilog` is the text."""
    module = verilog[verilog.index(f"module {top}(") :].split("endmodule")[0]
    found = re.findall(r"^  (input|output) (?:\[(\d+):0\] )?(\w+);$", module, re.MULTILINE)
    return [Port(direction, int(high) if high else None, name) for direction, high, name in found]


def constraints(config: ArchConfig, found: Iterable[Port]) -> str:
    """Clock and port delays in the format of Synopsys, by those of its commands that all tools know."""
    period = 1000 / config.clock_mhz
    delays = (
        f"set_{port.direction}_delay -clock clk {IO_SHARE * period:.3f} "
        f"[get_ports {{{port.name}{'' if port.high is None else '[*]'}}}]\n"
        for port in found
        if port.name != "clk"
    )
    return (
        f"# SPDX-License-Identifier: Apache-2.0\n# {config.clock_mhz:g} MHz; one clock, synchronous reset.\n"
        f"create_clock -name clk -period {period:.3f} [get_ports clk]\n{''.join(delays)}"
    )


def core(name: str, top: str, verilog: list[str], simulation: list[str]) -> str:
    """A core description for FuseSoC, version 2: the files, a lint by Verilator, the simulation of `sim/`, and the
    machine as a top by itself: constraints in `default` would be those of every design that the core is a part of."""
    return f"""CAPI=2:
# SPDX-License-Identifier: Apache-2.0
name: accel:accel:{name}:{accel.__version__}
description: INT8 systolic-array accelerator
filesets:
  rtl:
    files:
{_files(verilog)}
    file_type: verilogSource
  simulation:
    files:
{_files(simulation)}
    file_type: verilogSource
  constraints:
    files:
      - {name}.sdc : {{file_type: SDC}}
targets:
  default:
    filesets: [rtl]
    toplevel: {top}
  alone:
    filesets: [rtl, constraints]
    toplevel: {top}
  lint:
    flow: lint
    flow_options:
      tool: verilator
      verilator_options: [{", ".join(LINT_OPTIONS)}]
    filesets: [rtl]
    toplevel: {top}
  sim:
    flow: sim
    flow_options:
      tool: icarus
      iverilog_options: [-g2005]
    filesets: [rtl, simulation]
    toplevel: {top}_testbench
    parameters: [requests, responses]
parameters:
  requests:
    datatype: str
    description: Named pipe from which the testbench reads requests (sim/run.sh makes it)
    paramtype: plusarg
  responses:
    datatype: str
    description: Named pipe to which the testbench writes responses
    paramtype: plusarg
"""


def _files(paths: list[str]) -> str:
    return "\n".join(f"      - {path}" for path in paths)


def system_rdl(config: ArchConfig, top: str) -> str:
    """The registers of `accel.machine.registers` in SystemRDL 2.0, with their values after a reset of this machine."""
    resets = reset_values(config)
    registers = "".join(_rdl(register, resets[register.name]) for register in REGISTERS.values())
    head = "// SPDX-License-Identifier: Apache-2.0\n"
    return f"{head}addrmap {top} {{\n  default regwidth = 32;\n  default accesswidth = 32;\n{registers}}};\n"


def _rdl(register: Register, reset: int) -> str:
    fields = "".join(
        f"    field {{ desc = {_quoted(field.doc)}; {ACCESS[field.access]} }} "
        f"{field.name}[{field.low + field.width - 1}:{field.low}] = {(reset & field.mask) >> field.low:#x};\n"
        for field in register.fields
    )
    head = f"  reg {{\n    desc = {_quoted(register.doc)};\n"
    return f"{head}{fields}  }} {register.name} @ {register.address:#x};\n"


def _quoted(text: str) -> str:
    """A text as SystemRDL takes it."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def port_page(found: Iterable[Port], top: str) -> str:
    """The ports of the top module as a table."""
    rows = [f"| `{port.name}` | {port.direction} | {(port.high or 0) + 1} |" for port in found]
    intro = (
        "`control` is an AXI4-Lite subordinate; `fetch`, `load` and `store` are AXI4 managers; `rst` is synchronous."
    )
    return "\n".join([f"# Ports of `{top}`\n", f"{intro}\n", "| port | direction | bits |", "|---|---|---|", *rows, ""])


def memory_page(verilog: Iterable[str], top: str) -> str:
    """The memories below module `top`, whose modules are in the texts of `verilog`, as a table."""
    modules = dict(re.findall(r"^module (\w+)(.*?)^endmodule$", "".join(verilog), re.DOTALL | re.MULTILINE))
    rows = []
    for (module, where, sizes), count in sorted(_memories(modules, top).items()):
        fields = {"LANES": 1, **dict(sizes)}
        cells = (f"`{module}`", *(fields[name] for name in ("WIDTH", "DEPTH", "LANES")), count, where)
        rows.append(f"| {' | '.join(map(str, cells))} |")
    head = ["| module | WIDTH | DEPTH | LANES | instances | in |", "|---|---|---|---|---|---|"]
    intro = "Words of WIDTH bits, DEPTH of them; README.md says what the modules do and how to replace them."
    return "\n".join([f"# Memories of `{top}`\n", f"{intro}\n", *head, *rows, ""])


Memory = tuple[str, str, tuple[tuple[str, int], ...]]
"""Module of a memory, module that it is in, parameters."""


def _memories(modules: dict[str, str], module: str) -> Counter[Memory]:
    """How often each memory occurs in `module` and below it."""
    found: Counter[Memory] = Counter()
    for kind, parameters in re.findall(r"^  (\w+) (?:#\((.*?)\) )?\w+ \(", modules[module], re.DOTALL | re.MULTILINE):
        if kind.endswith("_ram"):
            sizes = re.findall(r"\.(\w+)\((?:\d+'s?d)?(\d+)\)", parameters)
            found[kind, module, tuple((name, int(value)) for name, value in sizes)] += 1
        elif kind in modules:
            found += _memories(modules, kind)
    return found
