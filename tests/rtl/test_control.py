"""Semaphores and the register block."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from amaranth.sim import SimulatorContext
from support.rtl.bench import simulate, small

import rtl.control
from accel.machine.isa import Unit
from accel.machine.registers import (
    COUNT_BITS,
    ERRORS,
    FEATURE_INT4,
    MAGIC,
    NO_SOURCE,
    REGISTERS,
    VERSION,
    capabilities,
)
from rtl.control import Semaphores
from rtl.registers import RESPONSE_ERROR, RegisterBlock

pytestmark = pytest.mark.rtl


def check_semaphores(steps: int = 300) -> None:
    rng = np.random.default_rng(0)
    dut = Semaphores()
    count: Counter[tuple[int, int]] = Counter()

    async def testbench(ctx: SimulatorContext) -> None:
        taken = [0] * len(Unit)
        for _ in range(steps):
            posts = [int(rng.integers(1 << len(Unit))) for _ in Unit]
            takes = []
            for unit in Unit:
                held = sum(1 << p for p in Unit if count[p, unit])
                assert ctx.get(dut.tokens[unit]) & ~taken[unit] == held & ~taken[unit]
                takes.append(held & ~taken[unit] & int(rng.integers(1 << len(Unit))))
                ctx.set(dut.post[unit], posts[unit])
                ctx.set(dut.take[unit], takes[unit])
            for p in Unit:
                for u in Unit:
                    count[p, u] += (posts[p] >> u & 1) - (takes[u] >> p & 1)
            assert not ctx.get(dut.overflow)
            taken = takes
            await ctx.tick()

    simulate(dut, testbench)


def test_tokens_are_counted_per_pair() -> None:
    check_semaphores()


def test_catches_counters_that_are_too_narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rtl.control, "SEMAPHORE_BITS", 2)
    with pytest.raises(AssertionError):
        check_semaphores()


def test_overflow_is_reported_and_a_clear_empties(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rtl.control, "SEMAPHORE_BITS", 2)
    dut = Semaphores()
    overflows = []

    async def testbench(ctx: SimulatorContext) -> None:
        ctx.set(dut.post[Unit.LOAD], 1 << Unit.EXEC)
        for _ in range(7):
            overflows.append(ctx.get(dut.overflow))
            await ctx.tick()
        ctx.set(dut.clear, 1)
        await ctx.tick()
        assert not ctx.get(dut.tokens[Unit.EXEC]) & 1

    simulate(dut, testbench)
    assert overflows == [0, 0, 0, 0, 0, 0, 1]


class Bus:
    """A driver for AXI4-Lite that is slow to accept answers."""

    def __init__(self, dut: RegisterBlock, ctx: SimulatorContext):
        self.bus, self.ctx = dut.bus, ctx

    async def write(self, address: int, value: int, strobe: int = 15, data_delay: int = 0) -> int:
        bus, ctx = self.bus, self.ctx
        ctx.set(bus.awaddr, address)
        ctx.set(bus.awvalid, 1)
        for _ in range(data_delay):
            await self._tick(bus.awvalid, bus.awready)
        ctx.set(bus.wdata, value)
        ctx.set(bus.wstrb, strobe)
        ctx.set(bus.wvalid, 1)
        while ctx.get(bus.awvalid) or ctx.get(bus.wvalid):
            assert not ctx.get(bus.bvalid)
            await self._tick(bus.awvalid, bus.awready, bus.wvalid, bus.wready)
        await ctx.tick().until(bus.bvalid)
        for _ in range(3):
            assert ctx.get(bus.bvalid)
            assert not ctx.get(bus.awready) | ctx.get(bus.wready)
            await ctx.tick()
        response = ctx.get(bus.bresp)
        ctx.set(bus.bready, 1)
        await ctx.tick()
        ctx.set(bus.bready, 0)
        assert not ctx.get(bus.bvalid)
        return response

    async def _tick(self, *channels) -> None:
        """One cycle; of pairs of valid and ready, valid ends with the handshake."""
        done = [v for v, r in zip(channels[::2], channels[1::2], strict=True) if self.ctx.get(v) & self.ctx.get(r)]
        await self.ctx.tick()
        for valid in done:
            self.ctx.set(valid, 0)

    async def read(self, address: int) -> tuple[int, int]:
        bus, ctx = self.bus, self.ctx
        ctx.set(bus.araddr, address)
        ctx.set(bus.arvalid, 1)
        await ctx.tick().until(bus.arready)
        ctx.set(bus.arvalid, 0)
        await ctx.tick().until(bus.rvalid)
        for _ in range(2):
            assert ctx.get(bus.rvalid)
            await ctx.tick()
        answer = ctx.get(bus.rdata), ctx.get(bus.rresp)
        ctx.set(bus.rready, 1)
        await ctx.tick()
        ctx.set(bus.rready, 0)
        return answer


def test_register_map() -> None:
    config = small()
    dut = RegisterBlock(config)
    address = {name: register.address for name, register in REGISTERS.items()}

    async def testbench(ctx: SimulatorContext) -> None:
        for i, count in enumerate(dut.counts):
            ctx.set(count, 1000 + i)
        bus = Bus(dut, ctx)
        assert await bus.read(address["IDENTITY"]) == (MAGIC, 0)
        low, _ = await bus.read(address["FINGERPRINT_LO"])
        high, _ = await bus.read(address["FINGERPRINT_HI"])
        assert f"{low:08x}{high:08x}" == config.fingerprint()[:16]
        assert await bus.write(address["PROGRAM_ADDRESS"], 0x12345678, data_delay=2) == 0
        assert await bus.write(address["PROGRAM_ADDRESS"], 0xFFFFFFFF, strobe=0b0010) == 0
        assert await bus.read(address["PROGRAM_ADDRESS"]) == (0x1234FF78, 0)
        assert await bus.write(address["IDENTITY"], 0) == 0
        assert await bus.read(address["IDENTITY"]) == (MAGIC, 0)
        assert await bus.write(4 * len(REGISTERS), 0) == RESPONSE_ERROR
        assert await bus.read(4 * len(REGISTERS)) == (0, RESPONSE_ERROR)
        assert await bus.read(4 * (len(REGISTERS) - 1)) == (1000 + len(dut.counts) - 1, 0)

    simulate(dut, testbench)


def test_ready_does_not_look_at_inputs() -> None:
    dut = RegisterBlock(small())
    inputs = ("awvalid", "wvalid", "bready", "arvalid", "rready", "awaddr", "wdata", "wstrb", "araddr")
    outputs = ("awready", "wready", "bvalid", "bresp", "arready", "rvalid", "rdata", "rresp")

    async def testbench(ctx: SimulatorContext) -> None:
        rng = np.random.default_rng(0)
        for _ in range(200):
            answers = set()
            for _ in range(4):
                for name in inputs:
                    ctx.set(getattr(dut.bus, name), int(rng.integers(1 << len(getattr(dut.bus, name)))))
                answers.add(tuple(ctx.get(getattr(dut.bus, name)) for name in outputs))
            assert len(answers) == 1
            await ctx.tick()

    simulate(dut, testbench)


def test_start_run_and_interrupt() -> None:
    dut = RegisterBlock(small())
    control, status, error, cycles = (REGISTERS[n].address for n in ("CONTROL", "STATUS", "ERROR", "CYCLES"))

    async def testbench(ctx: SimulatorContext) -> None:
        bus = Bus(dut, ctx)
        await bus.write(REGISTERS["PROGRAM_COUNT"].address, 1)
        await bus.write(control, 3)
        assert ctx.get(dut.running)
        assert (await bus.read(status))[0] == 1
        ctx.set(dut.errors, 1 << 3)
        await ctx.tick()
        ctx.set(dut.errors, 0)
        assert not ctx.get(dut.irq)
        ctx.set(dut.finished, 1)
        await ctx.tick()
        ctx.set(dut.finished, 0)
        assert ctx.get(dut.irq)
        assert (await bus.read(status))[0] == 2
        total = (await bus.read(cycles))[0]
        assert total == (await bus.read(cycles))[0] > 0
        await bus.write(status, 2)
        assert not ctx.get(dut.irq)
        assert (await bus.read(error))[0] == 1 << 3
        await bus.write(error, 1 << 3)
        assert (await bus.read(error))[0] == 0
        await bus.write(control, 0)
        assert (await bus.read(control))[0] == 0
        assert not ctx.get(dut.running)

    simulate(dut, testbench)


BIT = {name: 1 << i for i, name in enumerate(ERRORS)}
ADDRESS = {name: register.address for name, register in REGISTERS.items()}


@pytest.mark.parametrize(
    ("name", "value", "found"),
    [
        ("PROGRAM_ADDRESS", 32, "alignment"),
        ("IMAGE_ADDRESS_LO", 0x80000800, "alignment"),
        ("PROGRAM_COUNT", 0, "count"),
        ("PROGRAM_COUNT", 1 << COUNT_BITS, "count"),
        ("PROGRAM_COUNT", 1 << 31 | 1, "count"),
    ],
)
def test_a_start_that_is_refused_ends_at_once(name: str, value: int, found: str) -> None:
    dut = RegisterBlock(small())

    async def testbench(ctx: SimulatorContext) -> None:
        bus = Bus(dut, ctx)
        await bus.write(ADDRESS["PROGRAM_COUNT"], 1)
        await bus.write(ADDRESS[name], value)
        await bus.write(ADDRESS["CONTROL"], 3)
        assert not ctx.get(dut.running)
        assert ctx.get(dut.irq)
        assert (await bus.read(ADDRESS["STATUS"]))[0] == 2
        assert (await bus.read(ADDRESS["ERROR"]))[0] == BIT[found]
        assert (await bus.read(ADDRESS["ERROR_FIRST"]))[0] == BIT[found] | NO_SOURCE << 16
        await bus.write(ADDRESS[name], 1 if name == "PROGRAM_COUNT" else 0)
        await bus.write(ADDRESS["CONTROL"], 1)
        assert ctx.get(dut.running)
        assert (await bus.read(ADDRESS["ERROR"]))[0] == (await bus.read(ADDRESS["ERROR_FIRST"]))[0] & 0xFFFF == 0
        await bus.write(ADDRESS[name], value)
        assert (await bus.read(ADDRESS[name]))[0] != value, "the program must not change while it runs"

    simulate(dut, testbench)


LATEST = 2
"""Cycles after a start at once in which errors are those of the run before. The last one is a semaphore's, in the first
of them: three cycles after the post, which is two before that start."""


@pytest.mark.parametrize("late", range(LATEST + 2))
def test_what_the_run_before_raises_late_is_none_of_the_next_one(late: int) -> None:
    dut, found = RegisterBlock(small()), list[int]()

    async def driver(ctx: SimulatorContext) -> None:
        bus = Bus(dut, ctx)
        await bus.write(ADDRESS["PROGRAM_COUNT"], 1)
        await bus.write(ADDRESS["CONTROL"], 1)
        await ctx.tick().repeat(2 * LATEST)
        found.extend([(await bus.read(ADDRESS[name]))[0] & 0xFFFF for name in ("ERROR", "ERROR_FIRST")])

    async def unit(ctx: SimulatorContext) -> None:
        while not ctx.get(dut.start):
            await ctx.tick()
        for _ in range(late):
            await ctx.tick()
        ctx.set(dut.errors, BIT["semaphore"])
        await ctx.tick()
        ctx.set(dut.errors, 0)

    simulate(dut, driver, unit)
    assert found == [BIT["semaphore"] * (late > LATEST)] * 2


def test_the_first_error_stays_and_interrupts() -> None:
    dut = RegisterBlock(small())

    async def testbench(ctx: SimulatorContext) -> None:
        bus = Bus(dut, ctx)

        async def happen(error: str, unit: int, number: int, address: int) -> None:
            ctx.set(dut.place, {"unit": unit, "number": number, "address": address})
            ctx.set(dut.errors, BIT[error])
            await ctx.tick()
            ctx.set(dut.errors, 0)
            await ctx.tick()

        await bus.write(ADDRESS["PROGRAM_COUNT"], 5000)
        await bus.write(ADDRESS["ERROR_MASK"], BIT["read_response"])
        await bus.write(ADDRESS["CONTROL"], 1)
        ctx.set(dut.dispatched, 3000)
        await happen("read_response", Unit.LOAD, 2990 % 1024, 0x1234)
        assert ctx.get(dut.irq)
        await happen("write_response", Unit.STORE, 7, 0x5678)
        assert (await bus.read(ADDRESS["ERROR"]))[0] == BIT["read_response"] | BIT["write_response"]
        assert (await bus.read(ADDRESS["ERROR_FIRST"]))[0] == BIT["read_response"] | Unit.LOAD << 16
        assert (await bus.read(ADDRESS["ERROR_INDEX"]))[0] == 2990
        assert (await bus.read(ADDRESS["ERROR_ADDRESS"]))[0] == 0x1234
        await bus.write(ADDRESS["ERROR_MASK"], BIT["write_response"])
        assert ctx.get(dut.irq)
        await bus.write(ADDRESS["ERROR"], BIT["write_response"])
        assert not ctx.get(dut.irq)

    simulate(dut, testbench)


def test_capabilities_are_those_of_the_configuration() -> None:
    config = small(int4_weights=True, requant_modes=("single", "fp32"), cols=8, spad_banks=5, param_channels=32)
    dut = RegisterBlock(config)
    values = {}

    async def testbench(ctx: SimulatorContext) -> None:
        bus = Bus(dut, ctx)
        for name in ("VERSION", *capabilities(config)):
            values[name] = (await bus.read(ADDRESS[name]))[0]

    simulate(dut, testbench)
    assert values == {"VERSION": VERSION, **capabilities(config)}
    assert values["FEATURES"] == FEATURE_INT4 | 0b110
    assert (values["COLS"], values["SPAD_WORDS"], values["PARAM_CHANNELS"]) == (8, 5 * 64, 32)
