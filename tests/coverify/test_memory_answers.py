"""What a memory answers for a word that is written in that cycle is used by no program without races."""

from __future__ import annotations

import numpy as np
import pytest
from support.machine.random_programs import random_program
from support.rtl.bench import small
from support.rtl.matmul_program import RECORD

from accel.coverify import Machine, execute_both, first_divergence, random_on_chip
from accel.machine.isa import Instruction, Memory, Opcode, Source, decode_table, encode
from accel.machine.latencies import POST_LATENCY
from accel.machine.memories import Space
from accel.machine.numerics import RequantMode
from accel.machine.rules.check import check_rules
from rtl.testbench.cache import cached_verilog
from rtl.testbench.verilate import EMITTED, Variant
from rtl.testbench.verilator import Powered

pytestmark = [pytest.mark.rtl, pytest.mark.slow]

MACHINE = small(
    spad_bank_words=16, wbuf_words=16, acc_bank_words=64, post_lanes=2, depthwise_taps=2, depthwise_words=8,
    requant_modes=("tflite",), int4_weights=True,
)  # fmt: skip
PROGRAMS = 60
ANSWER = "if (read_en) stored <= words[read_addr];"
INVERTED = """if (read_en)
      stored <= write_en != {LANES{1'b0}} && read_addr == write_addr ? ~words[read_addr] : words[read_addr];"""


def inverting() -> Variant:
    """The machine with memories that answer the inverse of the old value where a word is written as it is read."""
    verilog = cached_verilog(MACHINE)
    assert verilog.count(ANSWER) == 1
    return Variant(verilog.replace(ANSWER, INVERTED))


def pool_in_place() -> bytes:
    """A POST that reads one word under many taps, in groups, and writes it: a group's bytes while others are read."""
    fields = {
        "source": Source.SPAD, "mode": RequantMode.TFLITE.code, "ky_count": 2, "kx_count": POST_LATENCY,
        "group_count": MACHINE.rows // MACHINE.post_lanes, "height": 1, "width": 1, "act_min": -128,
        "act_max": 127, "multiplier0": 1 << 30, "multiplier1": 1 << 30,
    }  # fmt: skip
    code = encode([Instruction(Opcode.POST, fields)])
    check_rules(MACHINE, decode_table(code))
    return code


def test_programs_use_no_answer_for_a_word_that_is_being_written() -> None:
    with Powered(MACHINE, variant=inverting()) as powered:
        powered.on_chip = random_on_chip(MACHINE, seed=1)
        for seed in range(PROGRAMS):
            program = random_program(MACHINE, np.random.default_rng(seed), 60, framed=True)
            machine = Machine(powered.run, powered.on_chip)
            results = execute_both(MACHINE, program.code, program.program_address, program.memory, machine)
            divergence = first_divergence(program.code, *results)
            assert divergence is None, f"program {seed}: {divergence}"


def sums_of_a_race(variant: Variant) -> np.ndarray:
    """ACC after an EXEC that reads a word for 64 pixels while a LOAD writes it again and again, without a semaphore."""
    load = {
        "memory": Memory.SPAD, "word_bytes": MACHINE.rows, "step_bytes": MACHINE.rows, "row_bytes": MACHINE.rows,
        "row_words": 1, "outer_count": 8, "row_count": 32,
    }  # fmt: skip
    execute = {
        "k_rows": MACHINE.rows, "chunk_count": 1, "ky_count": 1, "kx_count": 1, "oy_count": 8, "ox_count": 8,
        "height": 1, "width": 1,
    }  # fmt: skip
    code = encode([Instruction(Opcode.LOAD, load), Instruction(Opcode.EXEC, execute)])
    memory = np.zeros(1024, np.uint8)
    with Powered(MACHINE, variant=variant) as powered:
        powered.on_chip = random_on_chip(MACHINE, seed=1)
        result = powered.run(code, 512, memory, max_cycles=5000)
    assert result.error == 0
    assert result.on_chip is not None
    return result.on_chip[Space.ACC]


def test_a_race_does_use_it() -> None:
    assert (sums_of_a_race(EMITTED) != sums_of_a_race(inverting())).any()


def test_groups_in_place_read_and_write_different_memories() -> None:
    code, state = pool_in_place(), random_on_chip(MACHINE, seed=1)
    memory = np.zeros(1024, np.uint8)
    memory[512 : 512 + len(code)] = np.frombuffer(code, np.uint8)
    records = np.zeros(len(state[Space.PARAM]), RECORD)
    records["multiplier"], records["shift"] = 1 << 30, -6
    state[Space.PARAM] = np.frombuffer(records.tobytes(), np.uint8).reshape(state[Space.PARAM].shape)
    with Powered(MACHINE, variant=inverting()) as powered:
        powered.on_chip = state
        results = execute_both(MACHINE, code, 512, memory, Machine(powered.run, powered.on_chip))
    assert first_divergence(code, *results) is None
