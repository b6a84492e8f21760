"""Runs programs on the Verilog with Icarus Verilog: an independent, event-driven and slow simulator."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from importlib import resources
from pathlib import Path

import numpy as np
import numpy.typing as npt

from accel.errors import DivergenceError, ToolError
from accel.machine.config import ArchConfig
from accel.machine.isa import INSTRUCTION_BYTES, Unit
from rtl.axi_monitor import protocol_error
from rtl.registers import ADDRESS_WIDTH
from rtl.testbench.cache import cached_verilog
from rtl.testbench.macros import bench_macros, defines
from rtl.testbench.result import (
    SimulationResult,
    instructions_per_unit,
    outside_memory_error,
    prepared_memory,
    result_from_registers,
    watchdog_error,
)
from rtl.verilog import TOP


def run(
    config: ArchConfig,
    code: bytes,
    program_address: int,
    memory: npt.NDArray[np.uint8],
    *,
    max_cycles: int,
    stalls_seed: int | None = None,
    image_address: int = 0,
) -> SimulationResult:
    """Execute a program on the Verilog in Icarus; parameters and errors as for `rtl.testbench.verilator.run`."""
    counts = instructions_per_unit(code)
    work = prepared_memory(code, program_address, memory)
    macros = {
        **bench_macros(config),
        "MEMORY_BYTES": len(work),
        "IMAGE_ADDRESS": f"64'd{image_address}",
        "PROGRAM_ADDRESS": program_address,
        "PROGRAM_COUNT": len(code) // INSTRUCTION_BYTES,
        "READ_LATENCY": config.read_latency_cycles,
        "WRITE_LATENCY": config.write_latency_cycles,
        "MAX_CYCLES": max_cycles,
        "STALLS_SEED": 0 if stalls_seed is None else stalls_seed + 1,
        "REGISTER_BITS": ADDRESS_WIDTH,
    }
    with tempfile.TemporaryDirectory(prefix="accel-icarus-") as name:
        folder = Path(name)
        (folder / f"{TOP}.v").write_text(cached_verilog(config), encoding="utf-8")
        main = resources.files("rtl.testbench").joinpath("icarus_main.v").read_text(encoding="utf-8")
        (folder / "main.v").write_text(main, encoding="utf-8")
        np.savetxt(folder / "memory.hex", work, fmt="%02x")
        _run(folder, "iverilog", "-g2005", "-s", "testbench", "-o", "testbench", *defines(macros), "main.v", f"{TOP}.v")
        _run(folder, "vvp", "-n", "testbench")
        stamps, registers, (end, value) = _parse((folder / "events.txt").read_text())
        if end == "watchdog":
            raise watchdog_error(max_cycles, [len(stamps[0][unit]) for unit in Unit], counts)
        if end == "outside":
            raise outside_memory_error(value, len(memory))
        if end == "monitor":
            raise protocol_error(value)
        if end != "finished":
            raise DivergenceError(f"the RTL must obey the AXI protocol, got a violation at address {value:#x}")
        after = _read_hex(folder / "memory_out.hex")
    return result_from_registers(after[: len(memory)], value, stamps, registers)


def _run(folder: Path, *command: str) -> None:
    if shutil.which(command[0]) is None:
        raise ToolError(f"{command[0]} must be installed to simulate with Icarus Verilog (apt-get install iverilog)")
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        output = (done.stderr or done.stdout)[-4000:]
        raise ToolError(f"{command[0]} must succeed, got exit code {done.returncode}:\n{output}")


def _parse(text: str) -> tuple[list[dict[Unit, npt.NDArray[np.int64]]], list[int], tuple[str, int]]:
    """Stamps, register values, and how the run ended with its number."""
    events: dict[str, list[list[int]]] = {"issue": [], "complete": [], "register": []}
    *lines, end = text.splitlines()
    for line in lines:
        what, *numbers = line.split()
        events[what].append([int(number) for number in numbers])
    stamps = [
        {unit: np.array([cycle for at, cycle in events[kind] if at == unit], np.int64) for unit in Unit}
        for kind in ("issue", "complete")
    ]
    how, number = end.split()
    return stamps, [value for (value,) in events["register"]], (how, int(number))


def _read_hex(path: Path) -> npt.NDArray[np.uint8]:
    """The memory in a file of $writememh: hexadecimal bytes between comments."""
    lines = (line.split("//")[0] for line in path.read_text().splitlines())
    return np.frombuffer(bytes.fromhex("".join(lines)), np.uint8)
