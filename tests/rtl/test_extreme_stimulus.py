"""What the mutants' suites draw: instructions at the borders of what is legal, counts of any size, silent memories."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from support.machine.param_record import RECORD
from support.machine.random_programs import random_program
from support.rtl import pauses
from support.rtl.beyond_runs import check_all_tokens, check_semaphore_counts, check_watchdog
from support.rtl.border_values import border_programs, border_state, carry_programs, near_powers, tie_programs
from support.rtl.extreme_strides import extreme_instructions, extreme_programs
from support.rtl.faulty_beats import check_faulty_beat, faulty_beats
from support.rtl.held_values import held_programs
from support.rtl.hostile import COUNTED, HOSTILE, LONG, MACHINE, MEMORY_BYTES, check_verdict, run, verdicts
from support.rtl.large_counts import LONGEST, check_long_program, large_loops, long_programs
from support.rtl.pauses import Pause, SilentMemory
from support.rtl.refused_loads import check_refused_load, refused_loads
from support.rtl.register_accesses import check_cleared, check_kept

import sim
from accel.machine import isa
from accel.machine.isa import Opcode, decode
from accel.machine.memories import Space
from accel.machine.numerics import MULTIPLIER_MIN
from accel.machine.rules.check import check_rules
from rtl.testbench.verilator import Powered

pytestmark = pytest.mark.rtl

STRIDES = 40


@pytest.mark.slow
def test_extreme_instructions_keep_all_rules_and_set_all_bits_of_strides() -> None:
    drawn = extreme_instructions(0, STRIDES)
    assert {kind[0] for kind in drawn} == {*Opcode}
    seen = Counter[tuple[Opcode, str]]()
    for (opcode, _), instructions in drawn.items():
        assert len(instructions) == STRIDES
        check_rules(MACHINE, isa.table_of(instructions))
        for field in isa.FIELDS[opcode]:
            values = [instruction[field.name] & (1 << field.width) - 1 for instruction in instructions]
            seen[opcode, field.name] |= int(np.bitwise_or.reduce(values))
    strides = {key: bits for key, bits in seen.items() if key[1].endswith("_stride") and "dram" not in key[1]}
    assert {key: bits for key, bits in strides.items() if bits != (1 << 18) - 1} == {}


def test_extreme_programs_have_the_waits_that_they_need() -> None:
    lengths = Counter[int]()
    for code in extreme_programs(0, 4):
        lengths[len(decode(code))] += 1
        sim.execute(MACHINE, code, 0, np.zeros(MEMORY_BYTES, np.uint8))
    assert sum(length * count for length, count in lengths.items()) == 4 * (len(Opcode) + 1)
    assert len(lengths) > 1


def test_borders_of_rounding_are_met() -> None:
    values = near_powers(np.random.default_rng(0), 10_000)
    ones = np.array([int(value).bit_count() for value in values & 0xFFFFFFFF])
    assert {1, 31} <= {*ones.tolist()}
    records = np.frombuffer(border_state(np.random.default_rng(0))[Space.PARAM].tobytes(), RECORD)
    assert MULTIPLIER_MIN in records["multiplier"]
    for code, state in border_programs(0, 2):
        result = sim.execute(MACHINE, code, 0, np.zeros(MEMORY_BYTES, np.uint8), on_chip=state)
        assert (result.on_chip[Space.SPAD] != state[Space.SPAD]).any()


def test_one_bit_of_a_tie_decides_the_result() -> None:
    for code, state in tie_programs(0, 2):
        result = sim.execute(MACHINE, code, 0, np.zeros(MEMORY_BYTES, np.uint8), on_chip=state)
        assert (result.on_chip[Space.SPAD] != state[Space.SPAD]).any()
        sums = state[Space.ACC].view("<i4").ravel().astype(np.int64)
        (shift,) = {*np.frombuffer(state[Space.PARAM].tobytes(), RECORD)["shift"].tolist()}
        near = np.abs(sums).astype(np.float32)
        scaled = [np.ldexp(each, shift - 1) for each in (near, np.nextafter(near, np.float32(np.inf)))]
        down = (near < np.abs(sums)) & (np.rint(scaled[0]) < np.rint(scaled[1]))
        assert down.sum() > 10


def test_rounding_alone_makes_a_product_too_large() -> None:
    for code, state in carry_programs(0, 4):
        sim.execute(MACHINE, code, 0, np.zeros(MEMORY_BYTES, np.uint8), on_chip=state)
        sums = state[Space.ACC].view("<i4").ravel().astype(np.float64)
        record = np.frombuffer(state[Space.PARAM].tobytes(), RECORD)[0]
        exact = np.ldexp(sums * record["multiplier"], int(record["shift"]) - 31)  # of 47 bits
        rounded, most = np.abs(exact).astype(np.float32), np.exp2(np.rint(np.log2(np.median(np.abs(exact)))))
        assert most in (2.0**30, 2.0**31)
        assert ((np.abs(exact) < most) & (rounded == most) & (sums > 0)).sum() > 10


def test_images_are_as_large_as_their_fields_say() -> None:
    windows = [each for code in held_programs(0, 60) for each in decode(code) if each.opcode is Opcode.POST]
    for size, start in (("height", "y_start"), ("width", "x_start")):
        assert max(each[size] - each[start] for each in windows) > 1 << 11


def test_what_is_held_is_held_for_odd_numbers_of_cycles() -> None:
    instructions = [instruction for code in held_programs(0, 8) for instruction in decode(code)]
    check_rules(MACHINE, isa.table_of(instructions))
    rows = [each for each in instructions if each.opcode is Opcode.DEPTHWISE]
    assert {1, 2} & {row["lead_steps"] for row in rows}
    assert any(2 * row["lead_steps"] + 1 == row["kx_count"] and not row["spad_address"] for row in rows)
    assert {2} & {row["oy_count"] * row["row_steps"] for row in rows if row["ky_count"] > 1}
    tiles = [each for each in instructions if each.opcode is Opcode.EXEC]
    inner = [np.prod([each[f"{loop}_count"] for loop in ("ky", "kx", "oy", "ox")]) for each in tiles]
    assert all(steps % 2 for steps in inner)
    assert all(each["chunk_count"] > 1 for each in tiles)


def test_a_refused_load_changes_what_it_names_only() -> None:
    with Powered(MACHINE, variant=COUNTED) as machine:
        loads = [*refused_loads(0, 12)]
        for code in loads:
            check_refused_load(code, machine)
        refused = [code for code in loads if run(machine, code, np.zeros(MEMORY_BYTES, np.uint8)).error]
        assert len(refused) > len(loads) // 2


def test_a_single_beat_with_an_error_is_reported() -> None:
    with Powered(MACHINE, variant=COUNTED) as machine:
        for beat in faulty_beats(0, 40):
            check_faulty_beat(beat, machine)


def test_the_watchdog_counts_in_all_bits() -> None:
    with Powered(MACHINE, variant=COUNTED) as machine:
        check_watchdog(0, machine)


def test_semaphores_count_in_all_bits() -> None:
    with Powered(MACHINE, variant=COUNTED) as machine:
        check_semaphore_counts(0, machine)
        check_all_tokens(0, machine)


@pytest.mark.slow
def test_large_loops_leave_a_memory_by_the_bit_that_they_have() -> None:
    found = large_loops(0)
    assert {Opcode(code[0] & 15) for code, _ in found} == {*Opcode}
    with Powered(MACHINE, variant=COUNTED) as machine:
        for verdict in verdicts(found):
            check_verdict(verdict, machine, LONGEST)
    loads = [instruction for code, _ in found if (instruction := decode(code)[0]).opcode is Opcode.LOAD]
    assert max(instruction["row_words"] for instruction in loads) >= 1 << 17


@pytest.mark.slow
def test_an_index_of_any_size_is_reported_and_kept() -> None:
    with Powered(MACHINE, variant=COUNTED) as machine:
        for program in [*long_programs(0)][::6]:
            check_long_program(program, 0, machine)
        program = program._replace(index=program.index + 1)
        with pytest.raises(AssertionError):
            check_long_program(program, 0, machine)


@pytest.mark.slow
def test_a_silent_memory_ends_in_the_watchdog_at_the_oldest_instruction(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    program = random_program(MACHINE, rng, 20, framed=True)
    cycles = sim.execute(MACHINE, program.code, program.program_address, program.memory).total_cycles
    with Powered(MACHINE, variant=COUNTED) as machine:
        begins = rng.integers(cycles, size=6).tolist()
        memory = SilentMemory(MACHINE, machine, 1 << 31)
        assert all(memory.check(Pause(program, cycles, begin)) for begin in begins)
        monkeypatch.setattr(pauses, "WATCHDOG", 2 * pauses.PAUSE)
        with pytest.raises(AssertionError):
            memory.check(Pause(program, cycles, 0))
        monkeypatch.undo()
        monkeypatch.setattr(pauses, "cut", lambda rows, bus_bytes: [])
        memory = SilentMemory(MACHINE, machine, 1 << 31)
        with pytest.raises(AssertionError):
            all(memory.check(Pause(program, cycles, begin)) for begin in begins)


@pytest.mark.slow
def test_errors_are_cleared_one_by_one_and_registers_keep_their_values() -> None:
    conditions = replace(HOSTILE, beyond=MEMORY_BYTES)
    code = random_program(MACHINE, np.random.default_rng(0), 4).code
    with Powered(MACHINE, variant=COUNTED) as machine:
        memory = np.zeros(MEMORY_BYTES, np.uint8)
        got = machine.run(code, 0, memory, max_cycles=3 * LONG, conditions=conditions)
        assert got.error
        check_kept(got.registers, machine)
        with pytest.raises(AssertionError, match="CYCLES"):
            check_kept({"CYCLES": got.registers["CYCLES"] + 1}, machine)
        check_cleared(got.error, np.random.default_rng(0), machine)
        with pytest.raises(AssertionError):
            check_cleared(got.error, np.random.default_rng(0), machine)
