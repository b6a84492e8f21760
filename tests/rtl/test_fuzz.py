"""No program hangs the machine: random and mutated ones end, or stop with an error and its place; the next is right."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.rtl.hostile import COUNTED, MACHINE, check_verdicts, fuzz, hostile_programs, single_mutants

from rtl.testbench.verilator import Powered

pytestmark = pytest.mark.rtl


@pytest.fixture
def machine() -> Iterator[Powered]:
    with Powered(MACHINE, variant=COUNTED) as powered:
        yield powered


@pytest.mark.slow
def test_the_machine_refuses_what_the_checker_refuses(machine: Powered) -> None:
    check_verdicts(single_mutants(seed=0, count=400), machine)


@pytest.mark.marathon
def test_the_machine_refuses_what_the_checker_refuses_of_many(machine: Powered) -> None:
    check_verdicts(single_mutants(seed=1, count=10000), machine)


@pytest.mark.slow
def test_no_program_hangs_the_machine(machine: Powered) -> None:
    ends = fuzz(0, hostile_programs(seed=0, count=300), machine)
    assert {"done", "rule", "bounds", "opcode", "watchdog"} <= set(ends)


@pytest.mark.marathon
@pytest.mark.parametrize("seed", range(100))
def test_no_program_of_many_hangs_the_machine(seed: int, machine: Powered) -> None:
    print(dict(fuzz(seed, hostile_programs(seed=100 + seed, count=1000), machine)))


@pytest.mark.slow
def test_steps_that_an_instruction_leaves_do_not_reach_the_next_run(machine: Powered) -> None:
    """The run behind one of these read wrong words when DEPTHWISE loaded a row only after all steps of another."""
    fuzz(20, hostile_programs(seed=120, count=1000), machine)
