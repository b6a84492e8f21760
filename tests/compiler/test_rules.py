"""Rules of single instructions: one verdict and one sentence for checker and simulator, and exact ranges."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np
import pytest
from support.machine.random_instructions import InstructionDraw
from support.machine.random_programs import random_config
from support.machine.rules import refusal

from accel.errors import ProgramError
from accel.machine.config import ArchConfig, preset
from accel.machine.isa import FIELDS, Instruction, Opcode, Source
from accel.machine.numerics import RequantMode
from compiler.check.check import check
from compiler.schedule.footprint import footprint
from sim import Simulator

MEMORY_BYTES = 1 << 16


def mutants(seed: int, count: int) -> Iterator[tuple[ArchConfig, Instruction]]:
    """Random instructions that keep the rules, each with one field a little or altogether different."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        config = random_config(rng)
        draw = InstructionDraw(config, rng, 0, 1000, [RequantMode(mode) for mode in config.requant_modes])
        opcodes = [opcode for opcode in Opcode if opcode is not Opcode.DEPTHWISE or config.depthwise_taps]
        for opcode in opcodes:
            instruction = draw.instruction(opcode)
            for field in FIELDS[opcode][3:]:
                near = instruction[field.name] + int(rng.choice([-1, 1, 9]))
                far = int(rng.choice([field.minimum, field.maximum, rng.integers(field.minimum, field.maximum + 1)]))
                value = near if rng.random() < 0.6 else far
                if field.minimum <= value <= field.maximum:
                    yield config, instruction.replace(**{field.name: value})


def checker_says(config: ArchConfig, instruction: Instruction) -> str:
    try:
        check(config, [instruction], dram_bytes=MEMORY_BYTES)
    except ProgramError as error:
        return str(error)
    return ""


def simulator_says(config: ArchConfig, instruction: Instruction) -> str:
    try:
        Simulator(config, instruction.encode(), 0, MEMORY_BYTES)
    except ProgramError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("machines", [8, pytest.param(25, marks=pytest.mark.slow)])
def test_checker_and_simulator_refuse_the_same_instructions_with_the_same_sentence(machines: int) -> None:
    seen: Counter[str] = Counter()
    for config, instruction in mutants(0, machines):
        simulator = simulator_says(config, instruction)
        if "steps to be simulated" in simulator:
            seen["too long to simulate"] += 1
            continue
        assert checker_says(config, instruction) == simulator, str(instruction)
        seen["refused" if simulator else "accepted"] += 1
    print(dict(seen))
    assert min(seen["refused"], seen["accepted"]) > 20 * machines


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"left_shift": 30}, "instruction 0: POST left_shift must be at most 23, got 30"),
        (
            {"src_address": 2047, "ox_count": 4, "src_ox_stride": 1, "dst_address": 2048, "dst_ox_stride": 1},
            "instruction 0: POST must not read SPAD word 2048 for the output that writes it or later; use another "
            "dst_address or split the instruction",
        ),
    ],
    ids=["left_shift", "in place"],
)
def test_the_simulator_once_ran_what_the_checker_refused(fields: dict[str, int], sentence: str) -> None:
    post = Instruction(Opcode.POST, {"source": Source.SPAD, "x_step": 1, "height": 1, "width": 4, **fields})
    assert checker_says(preset("tiny"), post) == sentence
    assert simulator_says(preset("tiny"), post) == sentence


def test_ranges_are_the_extremes_of_footprints() -> None:
    """The footprint enumerates the offsets of all loops; the rules know only their ends."""
    seen: Counter[bool] = Counter()
    for config, instruction in mutants(1, 25):
        message = refusal(config, instruction)
        if message and "must stay within" not in message:
            continue
        try:
            footprint(config, instruction)
            exact = ""
        except ProgramError as error:
            exact = str(error)
        seen[bool(exact)] += 1
        assert bool(exact) == bool(message), str(instruction)
        if exact and exact.split(" must")[0] == message.split(" must")[0]:
            assert exact == message
    print(dict(seen))
    assert min(seen.values()) > 200


def test_the_first_instruction_that_breaks_a_rule_is_named() -> None:
    good = Instruction(Opcode.STORE, {"word_bytes": 4})
    late, early = good.replace(word_bytes=5), Instruction(Opcode.EXEC, {"k_rows": 5})
    assert refusal_of_program([good, good, early, late]) == "instruction 2: EXEC k_rows must be at most 4, got 5"
    assert refusal_of_program([good, late, early]) == (
        "instruction 1: STORE byte_offset + word_bytes must be at most 4, got 5"
    )


def refusal_of_program(program: list[Instruction]) -> str:
    with pytest.raises(ProgramError) as error:
        check(preset("tiny"), program)
    return str(error.value)
