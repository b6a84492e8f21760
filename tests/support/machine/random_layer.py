"""One random layer on filled memories: EXEC or DEPTHWISE, then POSTs."""

from __future__ import annotations

import numpy as np

from accel.machine import isa
from accel.machine.config import PARAM_RECORD_BYTES, TABLE_WORDS, ArchConfig
from accel.machine.isa import Instruction, Memory, Opcode, Unit
from accel.machine.numerics import RequantMode
from support.machine.param_record import RECORD
from support.machine.random_instructions import DATA_BYTES, InstructionDraw
from support.machine.random_programs import RandomProgram

POSTS = 4


def fill_memories(config: ArchConfig, address: int) -> list[Instruction]:
    """LOADs of every word of all memories from `address` on; the last one, of PARAM, signals the units that compute."""
    loads = []
    for memory, words, size in (
        (Memory.SPAD, config.spad_words, config.rows),
        (Memory.WBUF, config.wbuf_words, config.cols),
        (Memory.TABLE, TABLE_WORDS, 1),
        *([(Memory.TAPS, config.depthwise_words, config.depthwise_lanes)] if config.depthwise_taps else []),
        (Memory.PARAM, config.param_channels, PARAM_RECORD_BYTES),
    ):
        fields = {"memory": memory, "dram_address": address, "row_words": words, "word_bytes": size}
        fields |= {"row_bytes": words * size, "step_bytes": size}
        loads.append(Instruction(Opcode.LOAD, fields))
        address += words * size
    loads[-1] = loads[-1].replace(signal=1 << Unit.EXEC | 1 << Unit.POST | 1 << Unit.DEPTHWISE)
    return loads


def random_layer(config: ArchConfig, rng: np.random.Generator) -> RandomProgram:
    """Filled memories, a random EXEC, mostly a DEPTHWISE on its accumulators, random POSTs, one after the other."""
    modes = [RequantMode(name) for name in config.requant_modes]
    draw = InstructionDraw(config, rng, 0, DATA_BYTES, modes)
    follow = {"wait": 1 << Unit.POST, "signal": 1 << Unit.POST}
    layer = [draw.instruction(Opcode.EXEC).replace(wait=1 << Unit.LOAD)]
    if config.depthwise_taps and rng.random() < 0.7:
        layer[0] = layer[0].replace(signal=1 << Unit.DEPTHWISE)
        second = draw.instruction(Opcode.DEPTHWISE).replace(wait=1 << Unit.EXEC | 1 << Unit.LOAD)
        if layer[0]["acc_address"] + second["oy_count"] * second["ox_count"] <= config.acc_words:
            second = second.replace(acc_address=layer[0]["acc_address"])
        layer.append(second)
    layer[-1] = layer[-1].replace(signal=1 << Unit.POST)
    producer = layer[-1].unit
    layer += [draw.instruction(Opcode.POST).replace(**follow) for _ in range(POSTS)]
    layer[-POSTS] = layer[-POSTS].replace(wait=1 << producer | 1 << Unit.LOAD)
    loads = fill_memories(config, 0)
    instructions, end = loads + layer, loads[-1]["dram_address"]
    memory = rng.integers(0, 256, end + config.param_channels * PARAM_RECORD_BYTES, np.uint8)
    memory[:end] = rng.choice([memory[:end], np.full(end, 128, np.uint8)], p=[0.9, 0.1])
    memory[end:] = np.frombuffer(_records(config, rng), np.uint8)
    return RandomProgram(isa.encode(instructions), memory, 0, instructions)


def _records(config: ArchConfig, rng: np.random.Generator) -> bytes:
    table = np.zeros(config.param_channels, RECORD)
    narrow = rng.integers(0, 32, len(table)) * (rng.random(len(table)) < 0.6)
    table["bias"] = rng.integers(-(2**31), 2**31, len(table)) >> narrow
    extremes = rng.random(len(table)) < 0.2
    table["bias"][extremes] = rng.choice([-(2**31), 2**31 - 1], np.count_nonzero(extremes))
    table["multiplier"] = rng.integers(1 << 30, 1 << 31, len(table)) & ~127
    table["shift"] = rng.integers(-16, 2, len(table))
    return table.tobytes()
