"""Random programs on random machines: simulator and Verilog agree in bytes, cycles, stamps and stall counters.

The memories on the chip hold random bytes at power-up, and each program finds there what the one before left.

`ACCEL_SEED` moves the stimulus; it is printed, and a failure names the machine's seed and the program's.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np
import pytest
from support.machine.random_programs import random_config, random_program
from support.machine.wide_programs import with_many_tokens

from accel.coverify import execute_both, first_divergence, power_up
from accel.machine.config import ArchConfig

pytestmark = pytest.mark.rtl

SEED = int(os.environ.get("ACCEL_SEED", "0"))


@dataclass(frozen=True)
class Campaign:
    """`machines` random configurations, from number `first` on, with `programs` random programs each."""

    first: int
    machines: int
    programs: int


QUICK = Campaign(first=0, machines=1, programs=10)
SLOW = Campaign(first=0, machines=6, programs=30)
MARATHON = Campaign(first=1000, machines=200, programs=20)


def machine(number: int) -> ArchConfig:
    """Configuration `number` of this seed."""
    return random_config(np.random.default_rng([SEED, number]))


def coverify(number: int, programs: int, simulator: str = "verilator") -> None:
    """Compare random programs on machine `number`, all after one power-up; fails with the first divergence."""
    config = machine(number)
    with power_up(config, simulator, seed=number) as powered:
        for index in range(programs):
            rng = np.random.default_rng([SEED, number, index])
            program = random_program(config, rng, int(rng.integers(4, 60)), framed=True)
            if index % 2:
                program = with_many_tokens(program, rng)
            results = execute_both(config, program.code, program.program_address, program.memory, powered)
            divergence = first_divergence(program.code, *results)
            assert divergence is None, f"ACCEL_SEED={SEED} machine {number} program {index}: {divergence}\n{config}"
    print(f"seed {SEED}: {programs} programs equal on machine {number} ({config.rows}x{config.cols})")


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
    coverify(number, MARATHON.programs)
