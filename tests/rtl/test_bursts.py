"""Burst generator against the naive cut, cycle by cycle."""

from __future__ import annotations

import numpy as np
import pytest
from amaranth.sim import SimulatorContext
from support.machine.naive_timing import Bursts, cut
from support.rtl.bench import simulate

import rtl.bursts
from rtl.bursts import BurstGenerator

pytestmark = pytest.mark.rtl
ROW_BYTES_BITS = 20
OPEN_CYCLES = 7
"""Cycles from a burst's address to its end in this test."""


def random_pattern(rng: np.random.Generator, bus_bytes: int) -> tuple[dict[str, int], int]:
    """Rows that cross pages, that need more than 256 beats, or that are tiny."""
    longest = int(rng.choice([1, 3 * bus_bytes, 300 * bus_bytes, 5000]))
    pattern = {
        "address": int(rng.integers(1 << 16, 1 << 31)) if rng.random() < 0.5 else (1 << 16) - int(rng.integers(0, 130)),
        "outer_stride": int(rng.integers(-5000, 5000)),
        "row_stride": int(rng.integers(-5000, 5000)),
        "outer_count": int(rng.integers(1, 4)),
        "row_count": int(rng.integers(1, 4)),
    }
    return pattern, int(rng.integers(1, longest + 1))


def rows(pattern: dict[str, int], row_bytes: int) -> list[tuple[int, int]]:
    return [
        ((pattern["address"] + o * pattern["outer_stride"] + r * pattern["row_stride"]) % (1 << 32), row_bytes)
        for o in range(pattern["outer_count"])
        for r in range(pattern["row_count"])
    ]


def check(bus_bytes: int, bound: int, seed: int) -> None:
    """Back-to-back patterns: the address handshakes are those of the naive model, in the same cycles."""
    rng = np.random.default_rng(seed)
    patterns = [random_pattern(rng, bus_bytes) for _ in range(8)]
    dut = BurstGenerator(bus_bytes, bound, ROW_BYTES_BITS)
    model = Bursts(bound)
    got, finals = [], []

    async def testbench(ctx: SimulatorContext) -> None:
        now, waiting = 0, list(patterns)
        ctx.set(dut.burst.ready, 1)
        while waiting or not model.free(now):
            assert ctx.get(dut.free) == model.free(now)
            start = bool(waiting) and model.free(now)
            ctx.set(dut.start, start)
            if start:
                pattern, row_bytes = waiting.pop(0)
                ctx.set(dut.rows, pattern)
                ctx.set(dut.row_bytes, row_bytes)
                model.start(now, cut(rows(pattern, row_bytes), bus_bytes))
            ended = any(time + OPEN_CYCLES == now for time, _ in model.sent)
            ctx.set(dut.ended, ended)
            if ended:
                model.ended.append(now)
            model.step(now)
            if ctx.get(dut.burst.valid):
                burst = ctx.get(dut.burst.payload)
                got.append((now, (burst["address"], burst["length"] + 1)))
                finals.append(bool(burst["final"]))
            await ctx.tick()
            now += 1

    simulate(dut, testbench)
    assert got == model.sent
    assert sum(finals) == len(patterns)
    assert finals[-1]


@pytest.mark.parametrize(("bus_bytes", "bound"), [(4, 1), (8, 2), (16, 8), (64, 64)])
def test_addresses_and_cycles(bus_bytes: int, bound: int) -> None:
    check(bus_bytes, bound, seed=bus_bytes)


@pytest.mark.parametrize(("name", "value", "bus_bytes"), [("BURST_BOUNDARY_BYTES", 8192, 64), ("BURST_BEATS", 255, 4)])
def test_catches_a_wrong_cut(monkeypatch: pytest.MonkeyPatch, name: str, value: int, bus_bytes: int) -> None:
    monkeypatch.setattr(rtl.bursts, name, value)
    with pytest.raises(AssertionError):
        check(bus_bytes, 8, seed=4)


def test_payload_is_stable_until_accepted() -> None:
    rng = np.random.default_rng(0)
    dut = BurstGenerator(4, 4, ROW_BYTES_BITS)
    pattern = {"address": 4090, "outer_stride": 0, "row_stride": 100, "outer_count": 1, "row_count": 5}
    got = []

    async def testbench(ctx: SimulatorContext) -> None:
        ctx.set(dut.rows, pattern)
        ctx.set(dut.row_bytes, 50)
        ctx.set(dut.start, 1)
        await ctx.tick()
        ctx.set(dut.start, 0)
        offered = None
        while not ctx.get(dut.free):
            ready = bool(rng.integers(2))
            ctx.set(dut.burst.ready, ready)
            burst = ctx.get(dut.burst.payload) if ctx.get(dut.burst.valid) else None
            shown = None if burst is None else (burst["address"], burst["length"] + 1)
            assert offered is None or shown == offered
            accepted = shown is not None and ready
            if accepted:
                got.append(shown)
            offered = None if accepted else shown
            ctx.set(dut.ended, bool(got) and bool(rng.integers(2)) and accepted)
            await ctx.tick()

    simulate(dut, testbench)
    assert got == cut(rows(pattern, 50), 4)
