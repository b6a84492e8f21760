"""Cycles as time: milliseconds, frames and bytes a second, inferences per joule, at the clock of the configuration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from accel.program.program import Program
from accel.report.energy import LayerEnergy
from accel.report.layers import traffic


@dataclass(frozen=True)
class Speed:
    """One inference of a program at `clock_mhz`.

    Parameters
    ----------
    clock_mhz : float
        `ArchConfig.clock_mhz`: what reports assume, not what a technology reaches.
    machine_ms : float
        Time of the machine, without the host's.
    frames_per_second : float
        Inferences of the machine alone, one after the other.
    gb_per_second : float
        Bytes on the three external channels over the time of the machine, 10^9 bytes a second; instructions count.
    peak_gb_per_second : float
        One beat in every cycle: what the bus of LOAD, and again that of STORE, could carry.
    host_operators : int
        Operators that the host computes.
    host_ms : float or None
        Time that they took on the computer that simulated, on average of all samples; None if nothing ran.
    inferences_per_joule : float
        Of the machine, by the table of energies.
    """

    clock_mhz: float
    machine_ms: float
    frames_per_second: float
    gb_per_second: float
    peak_gb_per_second: float
    host_operators: int
    host_ms: float | None
    inferences_per_joule: float

    @classmethod
    def of(
        cls, program: Program, cycles: int, energies: Sequence[LayerEnergy], host_seconds: float | None = None
    ) -> Speed:
        """The speed of a program that takes `cycles`; `host_seconds` are those of one sample."""
        clock, picojoules = program.config.clock_mhz, sum(one.total for one in energies)
        seconds = cycles / (clock * 1e6)
        external = sum(int(part.sum()) for part in traffic(program)) + len(program.code)
        return cls(
            clock_mhz=clock,
            machine_ms=seconds * 1e3,
            frames_per_second=_ratio(1, seconds),
            gb_per_second=_ratio(external / 1e9, seconds),
            peak_gb_per_second=program.config.bus_bytes * clock / 1e3,
            host_operators=sum(operator.unit == "host" for operator in program.operators),
            host_ms=None if host_seconds is None else host_seconds * 1e3,
            inferences_per_joule=_ratio(1e12, picojoules),
        )

    def __str__(self) -> str:
        text = (
            f"at {self.clock_mhz:g} MHz: {_short(self.machine_ms)} ms, {_short(self.frames_per_second)} frames/s, "
            f"{self.gb_per_second:.3g} of {self.peak_gb_per_second:g} GB/s, "
            f"{_short(self.inferences_per_joule)} inferences/J"
        )
        if not self.host_operators:
            return text
        host = "not timed" if self.host_ms is None else f"{_short(self.host_ms)} ms on this computer"
        return f"{text}; beside it the host's operators, {host}"


def _ratio(amount: float, per: float) -> float:
    """0 for a program without instructions of the machine."""
    return amount / per if per else 0.0


def _short(number: float) -> str:
    """Four digits, or all before the point."""
    return f"{number:,.0f}" if number >= 1000 else f"{number:.4g}"
