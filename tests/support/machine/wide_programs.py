"""Programs that set the bits of instructions which small random programs never set: high addresses, long loops."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import prod

import numpy as np

from accel.machine import isa
from accel.machine.config import PARAM_RECORD_BYTES, ArchConfig
from accel.machine.depthwise import row_stream
from accel.machine.isa import INSTRUCTION_BYTES, Instruction, Memory, Opcode, Unit
from accel.machine.loops import LOOPS
from accel.machine.memories import Space, memories
from accel.machine.numerics import RequantMode
from accel.machine.rules.field_limits import greatest
from support.machine.random_instructions import RECORDS, InstructionDraw
from support.machine.random_programs import RandomProgram, linear, random_records, with_semaphores

DATA_BYTES = 1 << 25
TRIES = 40
MOST_STEPS = 1 << 13
MOST_TOKENS = 24
ABOVE = -128
"""A row position from which nothing is read: the address may be any."""

NO_BITS = ("opcode", "wait", "signal")


def bits_seen(programs: Iterable[RandomProgram]) -> Mapping[tuple[Opcode, isa.Field], int]:
    """By opcode and field, the bits that some instruction sets."""
    seen = {(opcode, field): 0 for opcode in Opcode for field in isa.FIELDS[opcode]}
    for program in programs:
        for instruction in program.instructions:
            for field in isa.FIELDS[instruction.opcode]:
                seen[instruction.opcode, field] |= instruction[field.name] & ((1 << field.width) - 1)
    return seen


def greatest_used(config: ArchConfig) -> Mapping[tuple[Opcode, str], int]:
    """The greatest value that a rule on what an instruction uses leaves to a field."""
    memory = memories(config)
    words = max(memory[Space(target)].words for target in Memory)
    spad, sums = memory[Space.SPAD].words, memory[Space.ACC].words
    return {
        (Opcode.LOAD, "address"): words - 1,
        (Opcode.LOAD, "row_words"): words,
        (Opcode.LOAD, "row_bytes"): words * config.load_word_bytes,
        (Opcode.EXEC, "wbuf_address"): config.wbuf_words - 1,
        (Opcode.EXEC, "acc_address"): sums - 1,
        (Opcode.POST, "dst_address"): spad - 1,
        (Opcode.POST, "param_address"): config.param_rows - 1,
        (Opcode.STORE, "address"): spad - 1,
        (Opcode.STORE, "row_words"): spad,
        (Opcode.DEPTHWISE, "lead_steps"): config.depthwise_taps - 1,
        (Opcode.DEPTHWISE, "row_steps"): (1 << 12) - 1,
        (Opcode.DEPTHWISE, "tap_address"): config.depthwise_words - 1,
        (Opcode.DEPTHWISE, "acc_address"): sums - 1,
    }


def impossible_bits(config: ArchConfig) -> Mapping[tuple[Opcode, isa.Field], int]:
    """By opcode and field, the bits that no legal instruction sets."""
    most = {**greatest(config), **greatest_used(config)}
    found = {}
    for opcode in Opcode:
        for field in isa.FIELDS[opcode]:
            every = (1 << field.width) - 1
            value = int(opcode) if field.name == "opcode" else every
            if (opcode, field.name) in most:
                value = (1 << most[opcode, field.name].bit_length()) - 1
            found[opcode, field] = every & ~value
    return found


def wide_program(config: ArchConfig, rng: np.random.Generator, most_steps: int = MOST_STEPS) -> RandomProgram:
    """A valid program with an instruction for each bit of each field, as far as the machine and the limits allow.

    Parameters
    ----------
    config : ArchConfig
    rng : numpy Generator
    most_steps : int
        Of one instruction; external memory has `DATA_BYTES`.
    """
    data = -(-RECORDS * PARAM_RECORD_BYTES // INSTRUCTION_BYTES) * INSTRUCTION_BYTES
    draw = InstructionDraw(config, rng, 0, data, [RequantMode(mode) for mode in config.requant_modes], DATA_BYTES)
    wanted = [
        (opcode, field, bit)
        for opcode in Opcode
        for field in isa.FIELDS[opcode]
        if field.name not in NO_BITS and (config.depthwise_taps or opcode is not Opcode.DEPTHWISE)
        for bit in range(field.width)
    ]
    stream = [widened(draw, *wanted[i], most_steps) for i in rng.permutation(len(wanted))]
    records = RECORDS * PARAM_RECORD_BYTES
    filling = linear(Memory.PARAM, 0, 0, config.param_channels, PARAM_RECORD_BYTES, records)
    program = with_semaphores(config, filling + [instruction for instruction in stream if instruction is not None])
    instructions = with_tokens(program, rng)
    code, address = isa.encode(instructions), data + DATA_BYTES
    memory = np.zeros(address + len(code), np.uint8)
    memory[:address] = rng.integers(0, 256, address, np.uint8)
    memory[:records] = random_records(rng, RequantMode.FP32 in draw.modes)
    memory[address:] = np.frombuffer(code, np.uint8)
    return RandomProgram(code, memory, address, instructions)


def widened(
    draw: InstructionDraw, opcode: Opcode, field: isa.Field, bit: int, most_steps: int = MOST_STEPS
) -> Instruction | None:
    """A legal instruction with this bit set, by turns as the only one of its field; None if some tries find none."""
    if impossible_bits(draw.config)[opcode, field] >> bit & 1:
        return None
    for number in range(TRIES):
        fields = dict(draw.instruction(opcode).fields)
        fields.pop("opcode", None)
        value = ((0 if number % 2 else fields[field.name]) | 1 << bit) & ((1 << field.width) - 1)
        fields[field.name] = value - (1 << field.width) * (field.signed and value >> (field.width - 1))
        _make_room(draw.config, opcode, field.name, fields)
        if any(
            not known.minimum <= fields.get(known.name, known.minimum) <= known.maximum for known in isa.FIELDS[opcode]
        ):
            continue
        instruction = Instruction(opcode, fields)
        if opcode is Opcode.LOAD and fields["memory"] == Memory.PARAM and not _of_whole_records(fields, draw.pool):
            continue
        if prod(instruction[loop] for loop in LOOPS[opcode]) <= most_steps and draw.legal(instruction) is not None:
            return instruction
    return None


def _of_whole_records(fields: Mapping[str, int], pool: int) -> bool:
    """Whether a LOAD of PARAM leaves records there that every mode accepts: those of the pool, or zeros."""
    lengths = ("row_bytes", "pad_bytes", "step_bytes", "dram_row_stride", "dram_outer_stride")
    places = (fields["dram_address"] - pool, *(fields.get(name, 0) for name in lengths))
    return not any(place % PARAM_RECORD_BYTES for place in places) and not fields.get("pad_value", 0)


def _make_room(config: ArchConfig, opcode: Opcode, name: str, fields: dict[str, int]) -> None:
    """Let the other fields follow one that has become large."""
    if name.endswith("_count") or name in ("row_words", "row_bytes"):
        fields |= {other: 1 for other in fields if other.endswith("_count") and other != name}
        fields |= {other: 0 for other in fields if other.endswith("_stride")}
    if name in ("row_words", "row_bytes"):
        fields["address"] = 0
    if name in ("spad_address", "src_address"):
        fields |= {"y_start": ABOVE, "oy_count": 1, "ky_count": 1}
    if opcode is Opcode.LOAD and name == "pad_bytes":
        words = fields["pad_bytes"] // fields["word_bytes"] + 2
        fields |= {"row_count": 1, "outer_count": 1, "row_words": words, "step_bytes": fields["word_bytes"]}
        fields |= {"address": 0, "row_bytes": words * fields["word_bytes"] - fields["pad_bytes"]}
    if opcode is Opcode.LOAD and name in ("row_words", "row_bytes"):
        fields["step_bytes"] = fields["word_bytes"]
        if name == "row_bytes":
            fields["row_words"] = -(-fields["row_bytes"] // fields["word_bytes"])
        fields |= {"pad_bytes": 0, "row_bytes": fields["row_words"] * fields["word_bytes"]}
    if opcode is Opcode.DEPTHWISE and name in ("x_step", "x_dilation"):
        fields |= {"x_step": fields[name], "x_dilation": fields[name], "ox_stride": fields["kx_stride"]}
    if opcode is Opcode.DEPTHWISE and fields["x_dilation"]:
        move = max(1, fields["x_step"] // fields["x_dilation"])
        window = (
            fields["x_start"],
            fields["x_dilation"],
            move,
            fields["width"],
            fields["kx_count"],
            fields["ox_count"],
        )
        fields["lead_steps"], fields["row_steps"] = row_stream(*window)


def with_tokens(instructions: list[Instruction], rng: np.random.Generator) -> list[Instruction]:
    """A token more for every semaphore that the program does not use, those from a unit to itself among them."""
    result = list(instructions)
    places = {unit: [i for i, each in enumerate(result) if each.unit is unit] for unit in Unit}
    for producer in Unit:
        for consumer in Unit:
            if any(result[i]["signal"] >> consumer & 1 for i in places[producer]):
                continue
            pairs = [(i, j) for i in places[producer] for j in places[consumer] if i < j <= i + 40]
            if pairs:
                first, second = pairs[int(rng.integers(len(pairs)))]
                result[first] = result[first].replace(signal=result[first]["signal"] | 1 << consumer)
                result[second] = result[second].replace(wait=result[second]["wait"] | 1 << producer)
    return result


def with_many_tokens(program: RandomProgram, rng: np.random.Generator) -> RandomProgram:
    """The program with several tokens at once in every semaphore that it does not use, where the order allows it."""
    result = list(program.instructions)
    for producer in Unit:
        for consumer in Unit:
            if any(each.unit is producer and each["signal"] >> consumer & 1 for each in result):
                continue
            middle = int(rng.integers(1, len(result)))
            posts = [i for i in range(middle) if result[i].unit is producer][-MOST_TOKENS:]
            takes = [i for i in range(middle, len(result)) if result[i].unit is consumer][:MOST_TOKENS]
            for first, second in zip(posts, takes, strict=False):
                result[first] = result[first].replace(signal=result[first]["signal"] | 1 << consumer)
                result[second] = result[second].replace(wait=result[second]["wait"] | 1 << producer)
    code, memory = isa.encode(result), program.memory.copy()
    memory[program.program_address : program.program_address + len(code)] = np.frombuffer(code, np.uint8)
    return RandomProgram(code, memory, program.program_address, result)


def at_base(program: RandomProgram, base: int) -> RandomProgram:
    """The program for a memory that begins at address `base` of the image."""
    result = []
    for instruction in program.instructions:
        if "dram_address" in {field.name for field in isa.FIELDS[instruction.opcode]}:
            instruction = instruction.replace(dram_address=(instruction["dram_address"] + base) % (1 << 32))
        result.append(instruction)
    code, memory = isa.encode(result), program.memory.copy()
    memory[program.program_address : program.program_address + len(code)] = np.frombuffer(code, np.uint8)
    return RandomProgram(code, memory, program.program_address, result)
