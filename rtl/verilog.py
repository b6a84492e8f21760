"""Verilog of the machine as text and as files."""

from __future__ import annotations

import os
from importlib import resources
from pathlib import Path

from amaranth.hdl import ClockSignal, Const, Instance, Module, Value
from amaranth.lib.memory import Memory

from accel.files import write_atomic
from accel.machine.config import ArchConfig
from rtl.top import Accelerator

TOP = "accelerator"
"""Name of the top module."""


class VerilogPlatform:
    """Makes every memory an instance of a module of `ram.v`.

    Amaranth would list the initial value of each memory bit: hundreds of megabytes for a large machine, and a pattern
    that synthesis tools recognise less reliably.
    """

    def get_memory(self, memory: Memory) -> Module:
        """Called by `amaranth.lib.memory.Memory`: one write port, one read port."""
        m = Module()
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
            m.submodules.ram = Instance("accelerator_queue_ram", **common)
        else:
            m.submodules.ram = Instance(
                "accelerator_ram",
                p_LANES=len(write.en),
                p_TRANSPARENT=int(bool(read.transparent_for)),
                i_read_en=read.en,
                **common,
            )
        return m


def _extended(address: Value, bits: int) -> Value:
    """`address`, or zeros for the address of a memory of one word."""
    return address if len(address) == bits else Const(0, bits)


def ports(machine: Accelerator) -> dict:
    """The machine's ports by the names that bus tools expect: `load_arvalid`, `control_wdata`, ..."""
    members = machine.signature.flatten(machine)
    return {"_".join(map(str, path)): (Value.cast(value), None) for path, _, value in members}


def emit(config: ArchConfig, verification: bool = False) -> str:
    """The machine as Verilog-2005; the same configuration always gives the same text.

    Parameters
    ----------
    config : ArchConfig
    verification : bool
        With the outputs that verification reads; see `rtl.top.Accelerator`.

    Returns
    -------
    str
        Synthesizable Verilog; the top module is `TOP`, clock `clk`, synchronous reset `rst`. A comment at the top holds
        the configuration and its fingerprint.
    """
    os.environ["AMARANTH_USE_YOSYS"] = "builtin"
    from amaranth.back import verilog

    machine = Accelerator(config, verification)
    body = verilog.convert(
        machine, name=TOP, platform=VerilogPlatform(), ports=ports(machine), emit_src=False, strip_internal_attrs=True
    )
    memories = resources.files("rtl").joinpath("ram.v").read_text(encoding="utf-8")
    lines = ["INT8 systolic-array accelerator", f"fingerprint {config.fingerprint()}", *config.to_toml().splitlines()]
    return "".join(f"// {line}\n" for line in lines) + body + memories


def write_verilog(config: ArchConfig, folder: str | os.PathLike[str]) -> tuple[Path, Path]:
    """Write `NAME.v` and `NAME.toml` (the configuration) into `folder`, which is created; returns both paths."""
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    paths = target / f"{config.name}.v", target / f"{config.name}.toml"
    for path, text in zip(paths, (emit(config), config.to_toml()), strict=True):
        write_atomic(path, text.encode())
    return paths
