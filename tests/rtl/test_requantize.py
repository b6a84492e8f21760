"""One requantization lane against `accel.machine.numerics`, every mode and every shift."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from amaranth.hdl import Cat, Module
from amaranth.sim import Simulator
from support.mutants.rtl_mutation import mutate

from accel.machine import latencies
from accel.machine.config import REQUANT_MODES, preset
from accel.machine.numerics import RequantMode, requantize
from rtl import requantize as rtl_requantize
from rtl.requantize import Requantizer

pytestmark = pytest.mark.rtl

EDGES = [0, 1, -1, 2, 3, 255, 257, 2**24 - 1, 2**24 + 1, -(2**24) - 3, 2**25 + 2, 2**30, 2**31 - 1, -(2**31), 585, -585]


def stimulus(mode: str, count: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sums, multipliers and shifts: extremes, all magnitudes, and near ties; every shift of the mode several times."""
    rng = np.random.default_rng(seed)
    x = rng.integers(-(2**31), 2**31, count) >> rng.integers(0, 32, count)
    x[: len(EDGES)] = EDGES
    q = rng.integers(2**30, 2**31, count)
    extremes = rng.random(count) < 0.3
    q[extremes] = rng.choice([2**30, 2**30 + 128, 3 << 29, 2**31 - 128, 2**31 - 1, 0], extremes.sum())
    e = np.arange(count) % (31 - RequantMode(mode).shift_min) + RequantMode(mode).shift_min
    if mode == "fp32":
        q &= ~127
        near = rng.random(count) < 0.7
        e[near] = rng.integers(-26, 16, near.sum())
    ties = np.arange(count) % 4
    x[ties == 1] >>= 12
    q[ties == 1], e[ties == 1] = 2**30, rng.integers(-5, 1, (ties == 1).sum())
    x[ties == 2] = (x[ties == 2] & 0xFFF) | 0x1001
    q[ties == 2], e[ties == 2] = (q[ties == 2] >> 18 << 18) | (1 << 18) | (1 << 30), 13
    return x, q, e


def simulate(dut: Requantizer, x: np.ndarray, q: np.ndarray, e: np.ndarray, modes: list[int]) -> list[int]:
    """One result per input, all inputs in consecutive cycles."""
    results: list[int] = []
    ports = (dut.x, dut.multiplier, dut.shift, dut.mode)
    inputs = list(zip(x.tolist(), q.tolist(), e.tolist(), modes, strict=True))

    async def bench(ctx):
        for i in range(len(inputs) + dut.latency):
            if i >= dut.latency:
                results.append(ctx.get(dut.y))
            for port, value in zip(ports, inputs[min(i, len(inputs) - 1)], strict=True):
                ctx.set(port, value)
            await ctx.tick()

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    return results


def test_latency_is_the_contract():
    assert Requantizer.latency == latencies.REQUANTIZE_LATENCY


def mismatches(dut: Requantizer, mode: str, count: int, seed: int) -> int:
    """How many of `count` results differ from the definition."""
    x, q, e = stimulus(mode, count, seed)
    expected = requantize(x, q, e, mode)
    assert len(np.unique(expected)) > count // 8
    return int((np.array(simulate(dut, x, q, e, [RequantMode(mode).code] * count)) != expected).sum())


@pytest.mark.parametrize("mode", REQUANT_MODES)
@pytest.mark.parametrize("built", ["all", "one"])
def test_equals_the_definition(mode, built):
    modes = REQUANT_MODES if built == "all" else (mode,)
    dut = Requantizer(dataclasses.replace(preset("tiny"), requant_modes=modes))
    assert mismatches(dut, mode, 400, seed=len(modes)) == 0


@pytest.mark.slow
@pytest.mark.parametrize("mode", REQUANT_MODES)
def test_equals_the_definition_at_length(mode):
    assert mismatches(Requantizer(preset("tiny")), mode, 60_000, seed=2) == 0


def test_modes_may_change_every_cycle():
    parts = [stimulus(mode, 60, seed=7) for mode in REQUANT_MODES]
    x, q, e = (np.stack(values, axis=1).reshape(-1) for values in zip(*parts, strict=True))
    expected = np.stack([requantize(*part, mode) for part, mode in zip(parts, REQUANT_MODES, strict=True)], axis=1)
    assert (
        simulate(Requantizer(preset("tiny")), x, q, e, [i % 3 for i in range(len(x))]) == expected.reshape(-1).tolist()
    )


def test_a_rounding_that_breaks_ties_upwards_is_seen(monkeypatch):
    mutate(monkeypatch, rtl_requantize, "Requantizer", "_number", " & ~ties", "")
    assert mismatches(Requantizer(preset("tiny")), "fp32", 400, seed=3) > 0


@pytest.mark.parametrize("mode", ["tflite", "single"])
def test_the_other_integer_rounding_is_seen(mode):
    class Mutant(Requantizer):
        def _round(self, m: Module, mode, number, right, overflow, negative):
            super()._round(m, Cat(mode[1], mode[0], mode[2]), number, right, overflow, negative)

    assert mismatches(Mutant(preset("tiny")), mode, 400, seed=4) > 0
