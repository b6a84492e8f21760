"""Runs that end before their programs: the buses finish what they began, and the next run is right."""

from __future__ import annotations

import numpy as np
import pytest
from amaranth.sim import SimulatorContext
from support.mutants.rtl_mutation import mutate
from support.rtl.bench import simulate, small
from support.rtl.beyond_runs import check_cleared_at_the_end
from support.rtl.matmul_program import HandWrittenProgram, matmul_program

from accel.errors import DivergenceError
from accel.machine.isa import Instruction, Opcode, Unit, encode
from accel.machine.latencies import reset_cycles
from rtl import bursts
from rtl.bursts import BurstGenerator
from rtl.stop_control import StopControl
from rtl.testbench import verilate
from rtl.testbench.result import SimulationResult
from rtl.testbench.verilator import UNDISTURBED, Conditions, Powered
from rtl.verilog import emit

pytestmark = pytest.mark.rtl
SMALL = small(rows=2, cols=4, spad_banks=4, post_lanes=1)
MAX_CYCLES = 20000
DEAD = Conditions(watchdog=400, answer_outside=True)


def run(machine: Powered, program: HandWrittenProgram, conditions: Conditions = UNDISTURBED) -> SimulationResult:
    return machine.run(program.code, 0, program.memory, max_cycles=MAX_CYCLES, conditions=conditions)


def check_right(machine: Powered, program: HandWrittenProgram) -> int:
    """A whole run; returns its cycles."""
    got = run(machine, program)
    expected = program.expected.copy()
    expected[: len(program.code)] = np.frombuffer(program.code, np.uint8)
    np.testing.assert_array_equal(got.memory, expected)
    assert got.error == 0
    return got.total_cycles


def check_stops(stalls_seed: int | None, step: int) -> None:
    """Stop in every `step`-th cycle of a program; the bench refuses an end with an open burst."""
    program = matmul_program(SMALL, seed=0)
    with Powered(SMALL, stalls_seed=stalls_seed) as machine:
        whole = check_right(machine, program)
        for cycle in range(1, whole, step):
            got = run(machine, program, Conditions(stop_cycles=cycle))
            if not got.error:
                continue  # the stalls let it end before
            assert got.first_error.errors == ("stopped",)
            assert got.total_cycles <= 2 * whole + 300
            changed = got.memory != program.memory
            stored = program.expected != program.memory
            stored[: len(program.code)] = True
            assert not (changed & ~stored).any(), "a stop must write nothing that the program would not"
            again = check_right(machine, program)
            assert stalls_seed is not None or again == whole


@pytest.mark.slow
@pytest.mark.parametrize(("stalls_seed", "step"), [(None, 1), (3, 5)])
def test_the_run_after_a_stop_is_right(stalls_seed: int | None, step: int) -> None:
    check_stops(stalls_seed, step)


@pytest.mark.slow
def test_the_run_after_a_reset_is_right() -> None:
    program = matmul_program(SMALL, seed=2)
    with Powered(SMALL) as machine:
        whole = check_right(machine, program)
        for cycle in range(1, whole, 5):
            with pytest.raises(DivergenceError, match=f"must finish within {cycle} cycles"):
                machine.run(program.code, 0, program.memory, max_cycles=cycle)
            machine.reset()
            assert check_right(machine, program) == whole


@pytest.mark.slow
def test_catches_a_reset_that_does_not_wait_for_open_bursts(monkeypatch: pytest.MonkeyPatch) -> None:
    mutate(monkeypatch, bursts, "BurstGenerator", "elaborate", "halted & (open_bursts == 0)", "halted")
    monkeypatch.setattr(verilate, "cached_verilog", lambda config: emit(config, verification=True))
    with pytest.raises(DivergenceError, match="the RTL must obey the AXI protocol"):
        check_stops(None, 1)


@pytest.mark.slow
def test_what_stands_still_is_stopped() -> None:
    wait = Instruction(Opcode.EXEC, {"wait": 1 << Unit.LOAD})
    load = Instruction(Opcode.LOAD, {"dram_address": 1024, "row_bytes": 3, "word_bytes": 2, "row_words": 2})
    program = matmul_program(SMALL, seed=1)
    with Powered(SMALL) as machine:
        whole = check_right(machine, program)
        for code, unit, index in (
            ([load, load, wait, load], "EXEC", 2),
            ([load, Instruction(Opcode.STORE, {"wait": 1 << Unit.POST}), wait], "STORE", 1),
            ([*[load.replace(wait=1 << Unit.POST)] * 6], "LOAD", 0),
        ):
            got = machine.run(encode(code), 0, np.zeros(2048, np.uint8), max_cycles=MAX_CYCLES, conditions=DEAD)
            assert got.first_error[:3] == (("watchdog",), unit, index)
            assert got.total_cycles < 1000
            assert check_right(machine, program) == whole


@pytest.mark.slow
@pytest.mark.parametrize("limit", [1, 2, 3])
def test_a_short_watchdog_names_an_instruction_of_its_own_run(limit: int) -> None:
    """The first instruction takes longer to come; the run before ended behind many."""
    program = matmul_program(SMALL, seed=0)
    with Powered(SMALL) as machine:
        check_right(machine, program)
        got = run(machine, program, Conditions(watchdog=limit))
        assert got.first_error[:3] == (("watchdog",), "FETCH", 0)
        check_right(machine, program)


@pytest.mark.slow
def test_a_machine_without_watchdog_waits() -> None:
    wait = encode([Instruction(Opcode.EXEC, {"wait": 1 << Unit.LOAD})])
    with Powered(SMALL) as machine, pytest.raises(DivergenceError, match="must finish within 5000 cycles"):
        machine.run(wait, 0, np.zeros(64, np.uint8), max_cycles=5000, conditions=Conditions(watchdog=0))


def test_a_halted_generator_keeps_its_offer_and_makes_no_other() -> None:
    dut = BurstGenerator(4, 4, 20)
    rows = {"address": 4096, "outer_stride": 0, "row_stride": 100, "outer_count": 1, "row_count": 5}

    async def testbench(ctx: SimulatorContext) -> None:
        ctx.set(dut.rows, rows)
        ctx.set(dut.row_bytes, 50)
        ctx.set(dut.start, 1)
        await ctx.tick()
        ctx.set(dut.start, 0)
        ctx.set(dut.halt, 1)
        for _ in range(3):
            await ctx.tick()
            assert ctx.get(dut.burst.valid)
            assert ctx.get(dut.burst.payload)["address"] == 4096
        ctx.set(dut.burst.ready, 1)
        await ctx.tick()
        for _ in range(3):
            assert not ctx.get(dut.burst.valid) | ctx.get(dut.quiet)
            await ctx.tick()
        ctx.set(dut.ended, 1)
        await ctx.tick()
        assert ctx.get(dut.quiet)

    simulate(dut, testbench)


def test_the_watchdog_waits_for_the_buses_and_resets_long_enough() -> None:
    dut = StopControl(SMALL)

    async def testbench(ctx: SimulatorContext) -> None:
        async def wait(signal, most: int) -> int:
            for cycle in range(most):
                if ctx.get(signal):
                    return cycle
                await ctx.tick()
            raise AssertionError(signal.name)

        ctx.set(dut.limit, 20)
        ctx.set(dut.running, 1)
        for _ in range(100):
            ctx.set(dut.progress, not ctx.get(dut.progress))
            assert not ctx.get(dut.expired)
            await ctx.tick()
        ctx.set(dut.progress, 0)
        assert 18 <= await wait(dut.expired, 30) <= 21
        await ctx.tick()
        for _ in range(10):
            assert ctx.get(dut.halt) & ~ctx.get(dut.reset) & ~ctx.get(dut.expired)
            await ctx.tick()
        ctx.set(dut.drained, 1)
        await wait(dut.reset, 3)
        assert await wait(dut.ended, 200) == reset_cycles(SMALL) - 1
        ctx.set(dut.running, 0)
        await ctx.tick()
        assert not ctx.get(dut.halt) | ctx.get(dut.reset)

    simulate(dut, testbench)


def test_a_watchdog_that_is_set_while_nothing_moves_counts_from_then_on() -> None:
    dut = StopControl(SMALL)

    async def testbench(ctx: SimulatorContext) -> None:
        ctx.set(dut.running, 1)
        for limit, cycles in ((0, 50), (20, 20), (0, 50)):
            ctx.set(dut.limit, limit)
            for _ in range(cycles):
                assert not ctx.get(dut.expired)
                await ctx.tick()

    simulate(dut, testbench)


def test_a_write_that_clears_the_done_bit_waits_for_no_run() -> None:
    program = matmul_program(SMALL, seed=3)
    with Powered(SMALL) as machine:
        check_cleared_at_the_end(program, check_right(machine, program), machine)


@pytest.mark.slow
def test_catches_a_memory_that_is_written_half_a_cycle_early(monkeypatch: pytest.MonkeyPatch) -> None:
    write = "@(posedge clk)\n    if (write_en) words"
    early = emit(SMALL, verification=True).replace(write, write.replace("posedge", "negedge"))
    assert "negedge" in early
    monkeypatch.setattr(verilate, "cached_verilog", lambda config: early)
    program = matmul_program(SMALL, seed=3)
    with pytest.raises((AssertionError, DivergenceError)), Powered(SMALL, stalls_seed=1) as machine:
        check_right(machine, program)
