"""Small machines and a one-line simulator for the tests of single components."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from amaranth.sim import Simulator, SimulatorContext

from accel.machine.config import ArchConfig


def simulate(component: object, *testbenches: Callable[[SimulatorContext], Awaitable[None]]) -> None:
    """Run test benches side by side to their ends, with a clock."""
    simulator = Simulator(component)
    simulator.add_clock(1e-8)
    for testbench in testbenches:
        simulator.add_testbench(testbench)
    simulator.run()


def small(**changes: object) -> ArchConfig:
    """A small machine; `changes` replace its parameters."""
    parameters: dict = {
        "name": "small",
        "rows": 4,
        "cols": 4,
        "spad_banks": 2,
        "spad_bank_words": 64,
        "wbuf_words": 64,
        "acc_banks": 2,
        "acc_bank_words": 16,
        "param_channels": 16,
        "post_lanes": 4,
        "depthwise_taps": 0,
        "depthwise_words": 32,
        "queue_depth": 3,
        "bus_bytes": 8,
        "outstanding_bursts": 2,
        "read_latency_cycles": 9,
        "write_latency_cycles": 5,
        "requant_modes": ("single",),
        "int4_weights": False,
    }
    return ArchConfig(**(parameters | changes))


MACHINES = (
    small(),
    small(rows=1, cols=1, post_lanes=1, bus_bytes=4, spad_banks=1, outstanding_bursts=1, read_latency_cycles=1),
    small(
        rows=7, cols=14, post_lanes=1, param_channels=64, bus_bytes=4, write_latency_cycles=1, depthwise_taps=3,
        int4_weights=True,
    ),
    small(
        rows=16, cols=4, bus_bytes=32, outstanding_bursts=8, read_latency_cycles=3, depthwise_taps=1, int4_weights=True,
    ),
)  # fmt: skip
"""Machines whose words are narrower than, as wide as and wider than a beat."""
