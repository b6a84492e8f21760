"""The loop nest against nested Python loops, nests back to back and with pauses."""

from __future__ import annotations

import itertools
import random

import pytest
from amaranth.hdl import signed, unsigned
from amaranth.sim import Simulator

from rtl.loop_nest import LoopNest

pytestmark = pytest.mark.rtl

LEVELS = {"a": 3, "b": 2, "c": 3}
VARIABLES = {"all": (unsigned(6), ("a", "b", "c")), "inner": (signed(9), ("c",)), "middle": (unsigned(7), ("b",))}


def random_nest(rng: random.Random) -> dict:
    return {
        "counts": {level: rng.choice((1, rng.randrange(1, 1 << width))) for level, width in LEVELS.items()},
        "starts": {name: rng.randrange(32) for name in VARIABLES},
        "strides": {
            name: {level: rng.randrange(-20, 20) if shape.signed else rng.randrange(64) for level in moved}
            for name, (shape, moved) in VARIABLES.items()
        },
    }


def naive(nest: dict) -> list[dict]:
    """Values and flags of every iteration."""
    rows = []
    for index in itertools.product(*(range(count) for count in nest["counts"].values())):
        at = dict(zip(LEVELS, index, strict=True))
        row = {f"first.{level}": int(at[level] == 0) for level in LEVELS}
        row |= {f"last.{level}": int(at[level] == nest["counts"][level] - 1) for level in LEVELS}
        row["done"] = int(all(row[f"last.{level}"] for level in LEVELS))
        for name, (shape, moved) in VARIABLES.items():
            value = nest["starts"][name] + sum(at[level] * nest["strides"][name][level] for level in moved)
            value %= 1 << shape.width
            row[name] = value - (1 << shape.width) * (shape.signed and value >> (shape.width - 1))
        rows.append(row)
    return rows


def simulate(dut: LoopNest, nests: list[dict], rng: random.Random) -> list[list[dict]]:
    """Values and flags of the iterations of each nest; steps at random, each nest loaded with the last step before."""
    seen: list[list[dict]] = []

    async def bench(ctx):
        for following in [*nests, None]:
            if following is not None:
                for port in ("counts", "starts", "strides"):
                    ctx.set(getattr(dut, port), following[port])
            while seen:
                row = {
                    f"{port}.{level}": ctx.get(getattr(dut, port)[level])
                    for port in ("first", "last")
                    for level in LEVELS
                }
                row |= {"done": ctx.get(dut.done)} | {name: ctx.get(dut.values[name]) for name in VARIABLES}
                step = rng.random() < 0.7
                if step:
                    seen[-1].append(row)
                ctx.set(dut.step, step)
                if step and row["done"]:
                    break
                await ctx.tick()
            ctx.set(dut.load, following is not None)
            await ctx.tick()
            ctx.set(dut.load, 0)
            seen.append([])
        seen.pop()

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    return seen


def test_every_iteration_and_no_gap_between_nests():
    rng = random.Random(1)
    nests = [random_nest(rng) for _ in range(12)]
    assert simulate(LoopNest(LEVELS, VARIABLES), nests, rng) == [naive(nest) for nest in nests]


def test_a_swapped_stride_is_seen():
    class Mutant(LoopNest):
        def _variable(self, m, name, strides, moves):
            swapped = {0: 1, 1: 0}

            def others(outer, inner):
                return (
                    moves(swapped.get(outer, outer), swapped.get(inner, inner))
                    if outer == inner
                    else moves(outer, inner)
                )

            super()._variable(m, name, strides, others)

    rng = random.Random(1)
    nests = [random_nest(rng) for _ in range(4)]
    assert simulate(Mutant(LEVELS, VARIABLES), nests, rng) != [naive(nest) for nest in nests]


def test_a_nest_without_variables_only_counts():
    dut = LoopNest({"a": 2}, {})

    async def bench(ctx):
        ctx.set(dut.counts, {"a": 3})
        ctx.set(dut.load, 1)
        await ctx.tick()
        ctx.set(dut.load, 0)
        ctx.set(dut.step, 1)
        done = []
        for _ in range(3):
            done.append(ctx.get(dut.done))
            await ctx.tick()
        assert done == [0, 0, 1]

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
