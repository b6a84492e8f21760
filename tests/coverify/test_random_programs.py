"""Random programs on random machines: simulator and Verilog agree in bytes, cycles, stamps and stall counters.

The memories on the chip hold random bytes at power-up, and each program finds there what the one before left.

`ACCEL_SEED` moves the stimulus; it is printed, and a failure names the machine's seed and the program's. Without it the
long runs (`marathon`) have the date as their seed, so that each day tries other programs.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count, islice

import numpy as np
import pytest
from support.machine.random_programs import RandomProgram, random_config, random_program
from support.machine.wide_programs import with_many_tokens

from accel.coverify import execute_both, first_divergence, power_up
from accel.machine.config import ArchConfig

pytestmark = pytest.mark.rtl

SEED = int(os.environ.get("ACCEL_SEED", "0"))
SEED_OF_TODAY = int(os.environ.get("ACCEL_SEED", datetime.now(UTC).strftime("%Y%m%d")))


@dataclass(frozen=True)
class Campaign:
    """`machines` random configurations, from number `first` on, with `programs` random programs each."""

    first: int
    machines: int
    programs: int


QUICK = Campaign(first=0, machines=1, programs=10)
SLOW = Campaign(first=0, machines=6, programs=30)
MARATHON = Campaign(first=1000, machines=200, programs=20)

MILLION_MACHINES = range(2000, 2020)
MILLION_INSTRUCTIONS = 1_000_000 // len(MILLION_MACHINES)


def machine(number: int, seed: int = SEED) -> ArchConfig:
    """Configuration `number` of this seed."""
    return random_config(np.random.default_rng([seed, number]))


def programs_of(config: ArchConfig, number: int, seed: int) -> Iterator[RandomProgram]:
    """Random programs without end; every second one has several tokens in each semaphore."""
    for index in count():
        rng = np.random.default_rng([seed, number, index])
        program = random_program(config, rng, int(rng.integers(4, 60)), framed=True)
        yield with_many_tokens(program, rng) if index % 2 else program


def coverify(
    number: int, programs: int | None = None, *, instructions: int = 0, seed: int = SEED, simulator: str = "verilator"
) -> None:
    """Compare `programs` random programs on machine `number`, or as many as have `instructions` together.

    All run after one power-up. Fails with the first divergence.
    """
    config, done, total = machine(number, seed), 0, 0
    with power_up(config, simulator, seed=number) as powered:
        for done, program in enumerate(islice(programs_of(config, number, seed), programs), 1):
            results = execute_both(config, program.code, program.program_address, program.memory, powered)
            divergence = first_divergence(program.code, *results)
            assert divergence is None, f"ACCEL_SEED={seed} machine {number} program {done - 1}: {divergence}\n{config}"
            total += len(program.instructions)
            if programs is None and total >= instructions:
                break
    print(f"seed {seed}: {done} programs, {total} instructions equal on machine {number} ({config.rows}x{config.cols})")


@pytest.mark.parametrize("number", range(QUICK.first, QUICK.first + QUICK.machines))
def test_random_programs(number: int) -> None:
    coverify(number, QUICK.programs)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(SLOW.first, SLOW.first + SLOW.machines))
def test_random_programs_on_several_machines(number: int) -> None:
    coverify(number, SLOW.programs)


@pytest.mark.marathon
@pytest.mark.parametrize("number", range(MARATHON.first, MARATHON.first + MARATHON.machines))
def test_random_programs_on_hundreds_of_machines(number: int) -> None:
    coverify(number, MARATHON.programs, seed=SEED_OF_TODAY)


@pytest.mark.marathon
@pytest.mark.parametrize("number", MILLION_MACHINES)
def test_a_million_instructions(number: int) -> None:
    coverify(number, instructions=MILLION_INSTRUCTIONS, seed=SEED_OF_TODAY)
