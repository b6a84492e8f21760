"""The rules as gates against the checker: random legal instructions, and mutants of them."""

from __future__ import annotations

import numpy as np
import pytest
from amaranth.sim import SimulatorContext
from support.machine.random_programs import random_config, random_program
from support.rtl.bench import simulate, small
from support.rtl.instruction_mutants import breaks_a_field_rule, mutant

from accel.machine.config import REQUANT_MODES, ArchConfig
from accel.machine.isa import INSTRUCTION_BYTES
from rtl.interfaces import opcodes
from rtl.legality import Gates, Legality

pytestmark = pytest.mark.rtl
ENGINE = small(rows=8, cols=4, depthwise_taps=3, requant_modes=REQUANT_MODES, post_lanes=2, int4_weights=True)
MACHINES = (
    ENGINE,
    small(rows=7, cols=14, post_lanes=1, param_channels=64),
    small(rows=2, cols=2, post_lanes=1, depthwise_taps=1, requant_modes=("fp32",)),
)


def instructions(config: ArchConfig, rng: np.random.Generator, count: int) -> list[bytes]:
    """Half of them legal."""
    codes: list[bytes] = []
    while len(codes) < count:
        code = random_program(config, rng, 40).code
        for i in range(0, len(code), INSTRUCTION_BYTES):
            legal = code[i : i + INSTRUCTION_BYTES]
            codes += [legal, mutant(legal, rng)]
    return codes[:count]


def check(config: ArchConfig, seed: int, count: int = 200) -> None:
    rng = np.random.default_rng(seed)
    codes = instructions(config, rng, count)
    dut = Legality(config)
    found: list[int] = []

    async def testbench(ctx: SimulatorContext) -> None:
        for i in range(len(codes) + dut.latency):
            if i < len(codes):
                ctx.set(dut.instruction, int.from_bytes(codes[i], "little"))
                ctx.set(dut.number, i)
            ctx.set(dut.dispatched, i < len(codes))
            if ctx.get(dut.broken):
                assert ctx.get(dut.broken_number) == i - dut.latency
                found.append(i - dut.latency)
            await ctx.tick()

    simulate(dut, testbench)
    known = [int(opcode) for opcode in opcodes(config)]
    expected = [i for i, code in enumerate(codes) if code[0] & 15 in known and breaks_a_field_rule(config, code)]
    assert found == expected
    assert count / 8 < len(found) < count * 3 / 4


@pytest.mark.parametrize("machine", [0, 2])
def test_gates_find_what_the_checker_finds(machine: int) -> None:
    check(MACHINES[machine], seed=machine)


@pytest.mark.slow
def test_gates_find_what_the_checker_finds_on_random_machines() -> None:
    rng = np.random.default_rng(5)
    for seed in range(10):
        check(random_config(rng), seed=seed, count=1000)


def test_catches_a_bound_that_is_off_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Gates, "most", lambda self, what, values, limit: self.refuse(values >= limit, what, str))
    with pytest.raises(AssertionError):
        check(ENGINE, seed=0)
