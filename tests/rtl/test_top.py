"""The whole machine: hand-written and random programs, bytes and cycles, in three simulators."""

from __future__ import annotations

import shutil
from collections.abc import Callable

import numpy as np
import pytest
from amaranth.hdl import Const
from support.machine.naive_timing import Machine
from support.machine.random_programs import random_config, random_program
from support.rtl.bench import small
from support.rtl.depthwise_program import depthwise_program
from support.rtl.matmul_program import HandWrittenProgram, matmul_program

import rtl.top
from accel.errors import DivergenceError, InputError, ProgramError, ToolError
from accel.machine.config import ArchConfig
from accel.machine.isa import Instruction, Memory, Opcode, Unit, encode
from accel.machine.registers import COUNTED_UNITS, ERRORS
from rtl.interfaces import MASK_BITS
from rtl.testbench import amaranth, icarus, result, verilator
from rtl.testbench.result import SimulationResult

pytestmark = pytest.mark.rtl
Run = Callable[..., SimulationResult]
SMALL = small(rows=2, cols=4, spad_banks=4, post_lanes=1)
ODD = (
    small(rows=1, cols=1, post_lanes=1, spad_banks=4, bus_bytes=4, outstanding_bursts=1, queue_depth=2),
    small(rows=3, cols=3, post_lanes=1, spad_banks=5, bus_bytes=64, read_latency_cycles=1),
    small(rows=7, cols=14, post_lanes=1, spad_banks=7, bus_bytes=16, param_channels=64, acc_banks=8),
    small(rows=4, cols=16, post_lanes=4, spad_banks=8, bus_bytes=32, param_channels=64),
    small(rows=16, cols=4, post_lanes=2, spad_banks=4, bus_bytes=8, outstanding_bursts=8, queue_depth=8),
)
ENGINE = small(rows=4, cols=2, spad_banks=8, acc_banks=4, acc_bank_words=64, post_lanes=1, depthwise_taps=3)
ENGINES = (
    ENGINE,
    small(rows=2, cols=6, spad_banks=8, acc_banks=4, post_lanes=1, depthwise_taps=1, bus_bytes=4, param_channels=32),
    small(rows=8, cols=8, spad_banks=8, acc_banks=4, depthwise_taps=5, bus_bytes=16, param_channels=32),
)
MAX_CYCLES = 20000


def check(
    run: Run, config: ArchConfig, instructions: list[Instruction], memory: np.ndarray, address: int = 0
) -> SimulationResult:
    """Stamps, total and counters are those of the naive machine; stalls change no byte."""
    code = encode(instructions)
    machine = Machine(config, instructions, address)
    total = machine.run()
    got = run(config, code, address, memory, max_cycles=MAX_CYCLES)
    assert got.error == 0
    assert got.total_cycles == total
    assert {unit: got.issue[unit].tolist() for unit in Unit} == machine.issue
    assert {unit: got.complete[unit].tolist() for unit in Unit} == machine.complete
    for unit in COUNTED_UNITS:
        assert sum(n for name, n in got.counters.items() if name.startswith(f"{unit}_")) == total
    stalled = run(config, code, address, memory, max_cycles=10 * MAX_CYCLES, stalls_seed=total)
    np.testing.assert_array_equal(stalled.memory, got.memory)
    return got


def check_away_from_zero(run: Run) -> None:
    """An image anywhere in 64 bits of address: bytes and cycles are those of the same image at 0."""
    program = matmul_program(SMALL, seed=3)
    here, away = (
        run(SMALL, program.code, 0, program.memory, max_cycles=MAX_CYCLES, image_address=image)
        for image in (0, 0x1_8000_0000)
    )
    assert away.error == 0
    np.testing.assert_array_equal(here.memory, away.memory)
    assert here.total_cycles == away.total_cycles


def check_hand_written(run: Run, config: ArchConfig, program: HandWrittenProgram) -> SimulationResult:
    got = check(run, config, program.instructions, program.memory)
    expected = program.expected.copy()
    expected[: len(program.code)] = np.frombuffer(program.code, np.uint8)
    np.testing.assert_array_equal(got.memory, expected)
    return got


def check_matmul(run: Run, config: ArchConfig, seed: int) -> None:
    check_hand_written(run, config, matmul_program(config, seed))


def check_depthwise(run: Run, config: ArchConfig, seed: int) -> None:
    """Values and cycles, with EXECs and DEPTHWISEs that run at the same time."""
    got = check_hand_written(run, config, depthwise_program(config, seed))
    spans = {
        unit: {cycle for span in zip(got.issue[unit], got.complete[unit], strict=True) for cycle in range(*span)}
        for unit in (Unit.EXEC, Unit.DEPTHWISE)
    }
    assert len(spans[Unit.EXEC] & spans[Unit.DEPTHWISE]) > 10


def check_random(run: Run, seed: int, programs: int) -> None:
    rng = np.random.default_rng(seed)
    config = random_config(rng)
    for _ in range(programs):
        program = random_program(config, rng, int(rng.integers(1, 40)))
        check(run, config, program.instructions, program.memory, program.program_address)


@pytest.fixture
def icarus_run() -> Run:
    if shutil.which("iverilog") is None:
        pytest.skip("Icarus Verilog is not installed")
    return icarus.run


def test_matmul() -> None:
    check_matmul(amaranth.run, SMALL, seed=0)


def test_matmul_in_icarus(icarus_run: Run) -> None:
    check_matmul(icarus_run, SMALL, seed=1)


def test_an_image_may_lie_anywhere(icarus_run: Run) -> None:
    check_away_from_zero(icarus_run)


@pytest.mark.slow
@pytest.mark.parametrize("run", [amaranth.run, verilator.run])
def test_an_image_may_lie_anywhere_in_other_simulators(run: Run) -> None:
    check_away_from_zero(run)


@pytest.mark.slow
def test_depthwise_beside_the_array() -> None:
    check_depthwise(amaranth.run, ENGINE, seed=0)


def test_depthwise_beside_the_array_in_icarus(icarus_run: Run) -> None:
    check_depthwise(icarus_run, ENGINE, seed=1)


@pytest.mark.parametrize(
    "machine", [pytest.param(i, marks=pytest.mark.slow if i < 1 else pytest.mark.marathon) for i in range(len(ENGINES))]
)
def test_depthwise_beside_the_array_on_odd_machines(machine: int) -> None:
    check_depthwise(verilator.run, ENGINES[machine], seed=machine)


@pytest.mark.parametrize(
    "machine", [pytest.param(i, marks=pytest.mark.slow if i < 1 else pytest.mark.marathon) for i in range(len(ODD))]
)
def test_matmul_on_odd_machines(machine: int) -> None:
    check_matmul(verilator.run, ODD[machine], seed=machine)


@pytest.mark.slow
def test_random_programs() -> None:
    check_random(verilator.run, seed=0, programs=20)


@pytest.mark.slow
def test_random_programs_in_other_simulators(icarus_run: Run) -> None:
    check_random(icarus_run, seed=5, programs=3)
    check_random(amaranth.run, seed=5, programs=1)


def test_catches_tokens_that_are_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rtl.top, "taken_tokens", lambda control: Const(0, MASK_BITS))
    with pytest.raises(AssertionError):
        check_matmul(amaranth.run, SMALL, seed=0)


def errors(got: SimulationResult) -> list[str]:
    return [name for i, name in enumerate(ERRORS) if got.error >> i & 1]


PIXELS = {"oy_count": 8, "ox_count": 8, "height": 1, "width": 1}
ROWS = PIXELS | {"x_dilation": 1, "x_step": 1, "width": 8, "row_steps": 8}


@pytest.mark.parametrize(
    ("other", "found"),
    [
        pytest.param(
            Instruction(Opcode.STORE, {"dram_address": 512, "row_words": 60, "word_bytes": 2}),
            ["spad_read"],
            marks=pytest.mark.slow,
        ),
        (Instruction(Opcode.DEPTHWISE, ROWS | {"acc_address": 64}), ["spad_read"]),
        pytest.param(Instruction(Opcode.DEPTHWISE, ROWS | {"spad_address": 64}), ["acc_port"], marks=pytest.mark.slow),
        (Instruction(Opcode.DEPTHWISE, ROWS | {"spad_address": 64, "acc_address": 64}), []),
    ],
)
def test_conflicting_ports_are_reported(other: Instruction, found: list[str]) -> None:
    both = encode([Instruction(Opcode.EXEC, PIXELS | {"k_rows": 2}), other])
    got = amaranth.run(ENGINE, both, 0, np.zeros(1024, np.uint8), max_cycles=MAX_CYCLES)
    assert errors(got) == found


@pytest.mark.slow
def test_a_machine_without_engine_drops_what_is_meant_for_it() -> None:
    load = {"memory": Memory.TAPS, "dram_address": 512, "row_bytes": 2, "word_bytes": 2}
    memory = np.full(1024, 5, np.uint8)
    got = amaranth.run(SMALL, encode([Instruction(Opcode.LOAD, load)]), 0, memory, max_cycles=MAX_CYCLES)
    assert errors(got) == ["rule"]
    assert got.first_error[1:3] == ("FETCH", 0)
    program = [Instruction(Opcode.DEPTHWISE, {}), Instruction(Opcode.LOAD, load)]
    got = amaranth.run(SMALL, encode(program), 0, memory, max_cycles=MAX_CYCLES)
    assert errors(got) == ["opcode"]
    assert not any(len(stamps) for stamps in (*got.issue.values(), *got.complete.values()))
    assert got.counters["DEPTHWISE_EMPTY"] == got.total_cycles


def test_error_responses_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    program = matmul_program(SMALL, seed=2)
    original = amaranth.Bench.__init__

    def faulty(self: amaranth.Bench, *arguments: object) -> None:
        original(self, *arguments)
        for memory in self.memories[1:]:
            memory.response = 2

    monkeypatch.setattr(amaranth.Bench, "__init__", faulty)
    got = amaranth.run(SMALL, program.code, 0, program.memory, max_cycles=MAX_CYCLES)
    assert errors(got) == ["read_response", "write_response"]
    assert got.first_error == (("read_response",), "LOAD", 0, program.instructions[0]["dram_address"])


def test_a_program_without_an_end_is_stopped() -> None:
    stuck = encode([Instruction(Opcode.EXEC, {"wait": 1 << Unit.LOAD})])
    with pytest.raises(DivergenceError) as caught:
        amaranth.run(SMALL, stuck, 0, np.zeros(64, np.uint8), max_cycles=50)
    progress = "LOAD 0 of 0, EXEC 0 of 1, POST 0 of 0, STORE 0 of 0, DEPTHWISE 0 of 0"
    assert str(caught.value) == (
        f"the RTL must finish within 50 cycles, got no end (issued: {progress}); "
        "raise max_cycles or check the program for waits without signals"
    )


def test_arguments_are_checked() -> None:
    code = encode([Instruction(Opcode.EXEC, {})])
    memory = np.zeros(128, np.uint8)
    with pytest.raises(InputError, match="program_address must be a multiple of 64 with room for 64 bytes"):
        result.prepared_memory(code, 32, memory)
    with pytest.raises(InputError, match="memory must be a one-dimensional array of uint8, got int64"):
        result.prepared_memory(code, 0, memory.astype(np.int64))
    with pytest.raises(InputError, match="code must be at least one instruction, got none"):
        result.instructions_per_unit(b"")


def test_accesses_outside_of_memory_are_refused(icarus_run: Run) -> None:
    outside = encode([Instruction(Opcode.LOAD, {"dram_address": 4096, "row_bytes": 4, "word_bytes": 4})])
    with pytest.raises(ProgramError) as caught:
        icarus_run(SMALL, outside, 0, np.zeros(1024, np.uint8), max_cycles=MAX_CYCLES)
    assert str(caught.value) == "memory accesses must lie inside the external memory of 1024 bytes, got 0x1000"


def test_missing_icarus_is_one_clear_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(icarus.shutil, "which", lambda name: None)
    with pytest.raises(ToolError, match="iverilog must be installed to simulate with Icarus Verilog"):
        icarus.run(SMALL, encode([Instruction(Opcode.EXEC, {})]), 0, np.zeros(64, np.uint8), max_cycles=10)
