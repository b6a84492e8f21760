"""A machine as an integrator takes it: Verilog in files, driver, simulation, and texts for an integrator's tools."""

from __future__ import annotations

import os
import re
from importlib import resources
from pathlib import Path

from accel.machine.config import ArchConfig
from rtl.bundle.c_headers import machine_file, machine_header, machine_macro, register_header
from rtl.bundle.descriptions import constraints, core, memory_page, port_page, ports, system_rdl
from rtl.bundle.drawing import block_diagram
from rtl.bundle.folder import MANIFEST, manifest, write_folder
from rtl.registers import ADDRESS_WIDTH
from rtl.verilog import TOP, emit, head, top_name

STATIC = {
    "README.md": "integration.md",
    "Makefile": "example/Makefile",
    "sim/run.sh": "simulation/run.sh",
    **{f"sim/{name}.v": f"simulation/{name}.v" for name in ("axi_memory", "testbench")},
    **{f"example/{name}": f"example/{name}" for name in ("main.c", "host.c", "host.h", "simulation.c", "simulation.h")},
    **{
        f"driver/{name}.{kind}": f"driver/{name}.{kind}"
        for name in ("accel", "accel_json", "accel_program", "accel_sha256")
        for kind in "ch"
    },
}
"""Files of the bundle that are the same for every machine but for its name, and where they are in this package."""


def write_bundle(config: ArchConfig, folder: str | os.PathLike[str], prefix: str = "") -> list[Path]:
    """Write all files of `bundle`, or none, into `folder` (`rtl.bundle.folder.write_folder`); returns their paths."""
    return write_folder(Path(folder), bundle(config, prefix))


def bundle(config: ArchConfig, prefix: str = "") -> dict[str, str]:
    """Texts of the files by their relative paths; NAME is the configuration's, behind `prefix` if there is one.

    `README.md` is the integrator's page. `rtl/*.v` hold the modules, one file for each part of the machine, in the
    order of the file list `NAME.f`. `driver/` is a bare-metal driver in C, `example/` a program that uses it, `sim/` a
    simulation of the machine with a memory, and `Makefile` runs the one on the other. `NAME.sdc` constrains clock and
    ports; `NAME.core` is a core for FuseSoC; `NAME.rdl` describes the registers in SystemRDL; `NAME.ports.md` and
    `NAME.memories.md` list ports and memories; `NAME.svg` draws the machine; `NAME.toml` is the configuration.
    `MANIFEST` lists the files.

    Raises
    ------
    ConfigError
        The prefix is no identifier, or too long.
    """
    name, top = f"{prefix}_{config.name}" if prefix else config.name, top_name(prefix)
    modules = {f"rtl/{part}.v": text for part, text in split(emit(config, prefix=prefix), top, config).items()}
    found = ports(modules[f"rtl/{top}.v"], top)
    simulation = [path for path in STATIC if path.startswith("sim/") and path.endswith(".v")]
    texts = {
        **modules,
        **{target: _static(source, name, top, config) for target, source in STATIC.items()},
        "driver/accel_registers.h": register_header(),
        f"driver/{machine_file(name)}": machine_header(name, config),
        f"{name}.f": "".join(f"{path}\n" for path in modules),
        f"{name}.sdc": constraints(config, found),
        f"{name}.core": core(name, top, list(modules), simulation),
        f"{name}.rdl": system_rdl(config, top),
        f"{name}.ports.md": port_page(found, top),
        f"{name}.memories.md": memory_page(modules.values(), top),
        f"{name}.svg": block_diagram(config, name),
        f"{name}.toml": config.to_toml(),
    }
    return texts | {MANIFEST: manifest([*texts, MANIFEST])}


def _static(source: str, name: str, top: str, config: ArchConfig) -> str:
    """The text of a file of this package, for one machine."""
    text = resources.files("rtl.bundle").joinpath(source).read_text(encoding="utf-8")
    values = {
        "NAME": name, "INITIALIZER": machine_macro(name), "TOP": top, "BUS_BYTES": config.bus_bytes,
        "READ_LATENCY": config.read_latency_cycles, "WRITE_LATENCY": config.write_latency_cycles,
        "REGISTER_BITS": ADDRESS_WIDTH,
    }  # fmt: skip
    for key, value in values.items():
        text = text.replace(f"@{key}@", str(value))
    return text.replace(TOP, top) if source.endswith(".v") else text


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
