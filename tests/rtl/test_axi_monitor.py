"""The assertions on the buses: silent on what AXI allows, and each of them speaks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
from amaranth.sim import SimulatorContext
from support.rtl.bench import simulate, small

from rtl.axi import Axi4Lite, Axi4Read, Axi4Write
from rtl.axi_monitor import BURST, DATA, OPEN, RESPONSE, STROBES, UNSTABLE, AxiMonitor

pytestmark = pytest.mark.rtl
CONFIG = small(bus_bytes=4, outstanding_bursts=2)
ADDRESS = {"awvalid": 1, "awaddr": 4096, "awlen": 1, "awsize": 2, "awburst": 1}
DATA_BEAT = {"wvalid": 1, "wdata": 7, "wstrb": 0b0110}
ACCEPT = {"awready": 1, "wready": 1, "bready": 1}
READ = {"arvalid": 1, "araddr": 4092, "arlen": 0, "arsize": 2, "arburst": 1}
WRITE_BURST = [ADDRESS | ACCEPT, DATA_BEAT | ACCEPT, DATA_BEAT | ACCEPT | {"wlast": 1}, ACCEPT | {"bvalid": 1}]
LITE_READ = [{"arvalid": 1, "arready": 1}, {"rvalid": 1, "rdata": 3}, {"rvalid": 1, "rdata": 3, "rready": 1}, {}]


def violations(signature: object, cycles: Sequence[Mapping[str, int]]) -> int:
    """What the monitor reports of a bus with these signals in each cycle; all others are 0."""
    dut = AxiMonitor(CONFIG, signature)
    found = 0

    async def testbench(ctx: SimulatorContext) -> None:
        nonlocal found
        for cycle in cycles:
            for name in dut.bus.signature.members:
                ctx.set(getattr(dut.bus, name), cycle.get(name, 0))
            await ctx.tick()
        found = ctx.get(dut.violations)

    simulate(dut, testbench)
    return found


@pytest.mark.parametrize(
    ("cycles", "found"),
    [
        (WRITE_BURST * 3, None),
        ([ADDRESS, ADDRESS | DATA_BEAT, ADDRESS | DATA_BEAT | ACCEPT, *WRITE_BURST[2:]], None),
        ([ADDRESS, {}], UNSTABLE),
        ([ADDRESS, ADDRESS | {"awaddr": 4100}], UNSTABLE),
        ([ADDRESS | ACCEPT, DATA_BEAT, DATA_BEAT | {"wdata": 8}], UNSTABLE),
        ([ADDRESS | {"awaddr": 4098, "awready": 1}], BURST),
        ([ADDRESS | {"awaddr": 8188, "awready": 1}], BURST),
        ([ADDRESS | {"awsize": 1, "awready": 1}], BURST),
        ([ADDRESS | {"awready": 1}] * 3, OPEN),
        ([DATA_BEAT | ACCEPT], DATA),
        ([ADDRESS | ACCEPT, DATA_BEAT | ACCEPT | {"wlast": 1}], DATA),
        ([ADDRESS | ACCEPT, DATA_BEAT | ACCEPT, DATA_BEAT | ACCEPT], DATA),
        ([ADDRESS | ACCEPT, DATA_BEAT | ACCEPT | {"wstrb": 0b0101}], STROBES),
    ],
)
def test_writes(cycles: list[dict[str, int]], found: int | None) -> None:
    assert violations(Axi4Write(4), cycles) == (0 if found is None else 1 << found)


@pytest.mark.parametrize(
    ("cycles", "found"),
    [
        ([READ, READ | {"arready": 1}, {"rvalid": 1}, {"rvalid": 1, "rready": 1, "rlast": 1}] * 3, None),
        ([READ, READ | {"arlen": 1}], UNSTABLE),
        ([READ | {"arready": 1}] * 3, OPEN),
    ],
)
def test_reads(cycles: list[dict[str, int]], found: int | None) -> None:
    got = violations(Axi4Read(4), cycles)
    assert got & (1 << UNSTABLE | 1 << OPEN) == (0 if found is None else 1 << found)


@pytest.mark.parametrize(
    ("cycles", "found"),
    [
        (LITE_READ * 2, None),
        ([LITE_READ[1]], RESPONSE),
        ([*LITE_READ[:2], {"rvalid": 1, "rdata": 4}], UNSTABLE),
        ([{"awvalid": 1, "awready": 1}, {"bvalid": 1}], RESPONSE),
    ],
)
def test_registers(cycles: list[dict[str, int]], found: int | None) -> None:
    assert violations(Axi4Lite(8), cycles) == (0 if found is None else 1 << found)
