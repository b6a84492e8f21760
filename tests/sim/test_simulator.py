"""What the runs of one simulator share, and must not share."""

from __future__ import annotations

import numpy as np
import pytest
from support.machine.compare import MEMORIES, TIMES
from support.networks.small_networks import every_compiled_operation

import accel
import sim
from accel.errors import InputError
from accel.machine.config import preset
from accel.machine.isa import Instruction, Opcode, Unit, decode_table, encode
from accel.program.program import Program
from sim.fast import weights


@pytest.fixture(scope="module")
def program() -> Program:
    return accel.compile(every_compiled_operation(), "edge")


def _simulator(program: Program) -> sim.Simulator:
    constants = program.constants_address, program.constants_address + len(program.constants)
    return sim.Simulator(program.config, program.code, program.code_address, program.memory_bytes, constants)


def test_runs_with_kept_weights_equal_single_runs(program: Program) -> None:
    simulator, rng = _simulator(program), np.random.default_rng(1)
    for _ in range(3):
        inputs = {slot.name: rng.integers(-128, 128, slot.shape, np.int8) for slot in program.inputs}
        memory = program.memory_image(inputs)
        single = sim.execute(program.config, program.code, program.code_address, memory)
        shared = simulator.run(memory)
        for name in (*MEMORIES, *TIMES):
            np.testing.assert_array_equal(getattr(shared, name), getattr(single, name), name)
        assert not np.shares_memory(shared.memory, memory)
    assert np.shares_memory(simulator.run(memory, in_place=True).memory, memory)


def test_weights_that_a_store_may_change_are_not_kept() -> None:
    fields = {"dram_address": 64, "row_bytes": 16, "row_words": 4, "word_bytes": 4, "step_bytes": 4}
    load = Instruction(Opcode.LOAD, {**fields, "memory": 1, "row_count": 3, "dram_row_stride": 16})
    store = Instruction(Opcode.STORE, {"row_words": 4, "word_bytes": 4, "row_count": 2, "dram_row_stride": -16})

    def are_constant(store_address: int, constants: tuple[int, int]) -> bool:
        code = encode([load, store.replace(dram_address=store_address)])
        return weights.are_constant(decode_table(code), constants)

    assert are_constant(16 + 32, (64, 112))
    assert are_constant(112 + 16, (64, 112))
    assert not are_constant(112, (64, 112))
    assert not are_constant(64, (64, 112))
    assert not are_constant(512, (65, 112))
    assert not are_constant(512, (64, 111))


def test_changed_weights_show() -> None:
    """Bytes that are not declared constant may differ from run to run."""
    tile = {"memory": 1, "row_bytes": 16, "row_words": 4, "word_bytes": 4, "step_bytes": 4}
    program = [
        Instruction(Opcode.LOAD, {**tile, "memory": 0, "signal": 1 << Unit.EXEC}),
        Instruction(Opcode.LOAD, {**tile, "dram_address": 16, "signal": 1 << Unit.EXEC}),
        Instruction(Opcode.EXEC, {"k_rows": 4, "height": 1, "width": 1, "wait": 1 << Unit.LOAD}),
    ]
    simulator = sim.Simulator(preset("tiny"), encode(program), 0, 64, (32, 64))
    memory = np.ones(64, np.uint8)
    assert simulator.run(memory).acc[0, 0] == 4
    memory[16:32] = 2
    assert simulator.run(memory).acc[0, 0] == 8


def test_memory_must_have_its_size(program: Program) -> None:
    memory = np.zeros(program.memory_bytes + 1, np.uint8)
    message = f"memory must be a contiguous array of {program.memory_bytes} bytes, got {program.memory_bytes + 1}"
    with pytest.raises(InputError, match=message):
        _simulator(program).run(memory)
