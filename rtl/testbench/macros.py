"""Numbers of the machine that both compiled test benches take from the command line."""

from __future__ import annotations

from collections.abc import Mapping

from accel.machine.config import ArchConfig
from accel.machine.isa import Unit
from accel.machine.latencies import BURST_BOUNDARY_BYTES
from accel.machine.registers import CONTROL_INTERRUPT_ENABLE, CONTROL_START, CONTROL_STOP, REGISTERS, STATUS_DONE

_WRITTEN = ("CONTROL", "STATUS", "WATCHDOG", "IMAGE_ADDRESS_LO", "IMAGE_ADDRESS_HI", "PROGRAM_ADDRESS", "PROGRAM_COUNT")


def bench_macros(config: ArchConfig) -> dict[str, int]:
    """Macros by name: sizes, the addresses of the registers that are written, and what starts a run."""
    return {
        "BUS_BYTES": config.bus_bytes,
        "BURST_BOUNDARY_BYTES": BURST_BOUNDARY_BYTES,
        "UNITS": len(Unit),
        "REGISTERS": len(REGISTERS),
        **{f"REGISTER_{name}": REGISTERS[name].address for name in _WRITTEN},
        "CONTROL_RUN": CONTROL_START | CONTROL_INTERRUPT_ENABLE,
        "CONTROL_HALT": CONTROL_STOP | CONTROL_INTERRUPT_ENABLE,
        "STATUS_DONE": STATUS_DONE,
    }


def defines(macros: Mapping[str, int | str]) -> list[str]:
    """Arguments of a compiler that define `macros`."""
    return [f"-D{name}={value}" for name, value in macros.items()]
