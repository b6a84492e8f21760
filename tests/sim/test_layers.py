"""Single EXEC or DEPTHWISE and POST layers on random machines, and sums that overflow."""

from __future__ import annotations

import numpy as np
import pytest
from compare import differences
from naive import Values
from random_instructions import DATA_BYTES, InstructionDraw
from random_programs import RandomProgram, random_config

import sim
from accel import isa
from accel.config import PARAM_RECORD_BYTES, TABLE_WORDS, ArchConfig, preset
from accel.isa import Instruction, Memory, Mode, Opcode, Unit

POSTS = 4


def _fill(config: ArchConfig, address: int) -> list[Instruction]:
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
    modes = [Mode[name.upper()] for name in config.requant_modes]
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
    loads = _fill(config, 0)
    instructions, end = loads + layer, loads[-1]["dram_address"]
    memory = rng.integers(0, 256, end + config.param_channels * PARAM_RECORD_BYTES, np.uint8)
    memory[:end] = rng.choice([memory[:end], np.full(end, 128, np.uint8)], p=[0.9, 0.1])
    memory[end:] = np.frombuffer(_records(config, rng), np.uint8)
    return RandomProgram(isa.encode(instructions), memory, 0, instructions)


def _records(config: ArchConfig, rng: np.random.Generator) -> bytes:
    table = np.zeros(config.param_channels, np.dtype([("bias", "<i4"), ("multiplier", "<i4"), ("shift", "i1")]))
    narrow = rng.integers(0, 32, len(table)) * (rng.random(len(table)) < 0.6)
    table["bias"] = rng.integers(-(2**31), 2**31, len(table)) >> narrow
    extremes = rng.random(len(table)) < 0.2
    table["bias"][extremes] = rng.choice([-(2**31), 2**31 - 1], np.count_nonzero(extremes))
    table["multiplier"] = rng.integers(1 << 30, 1 << 31, len(table)) & ~127
    table["shift"] = rng.integers(-16, 2, len(table))
    return table.tobytes()


@pytest.mark.parametrize("layers", [120, pytest.param(1000, marks=pytest.mark.slow)])
def test_random_layers_agree(layers: int) -> None:
    rng = np.random.default_rng(layers)
    for layer in range(layers):
        config = random_config(rng)
        assert differences(config, random_layer(config, rng), cycles=False) == [], f"layer {layer}"


@pytest.mark.parametrize("engine", sim.ENGINES)
def test_lowest_bytes_overflow_the_accumulators(engine: str) -> None:
    """-128 times -128 everywhere, accumulated beyond 2**31."""
    config = preset("edge")
    tile = {"chunk_count": 256, "k_rows": 16, "ox_count": 3, "ox_stride": 1, "x_step": 1, "height": 1, "width": 3}
    execs = [Instruction(Opcode.EXEC, {**tile, "accumulate": 1}) for _ in range(40)]
    execs[0] = execs[0].replace(wait=1 << Unit.LOAD)
    program = [*_fill(config, 0)[:2], *execs]
    program[1] = program[1].replace(signal=1 << Unit.EXEC)
    memory = np.full(1 << 18 | 1 << 17, 128, np.uint8)
    result = sim.execute(config, isa.encode(program), 0, memory, engine=engine)
    total = 40 * 256 * 16 * 128 * 128
    assert total > 2**31
    assert np.all(result.acc[:3] == total - 2**32)
    assert np.all(result.acc[3:] == 0)


@pytest.mark.parametrize("engine", sim.ENGINES)
def test_lowest_bytes_overflow_in_the_depthwise_engine(engine: str) -> None:
    config = preset("edge")
    window = {"ky_count": 85, "kx_count": 3, "ox_count": 3, "ox_stride": 1, "x_step": 1, "kx_stride": 1}
    window |= {"x_dilation": 1, "height": 1, "width": 5, "lead_steps": 2, "row_steps": 5}
    adds = [Instruction(Opcode.DEPTHWISE, {**window, "accumulate": 1}) for _ in range(600)]
    adds[0] = adds[0].replace(wait=1 << Unit.LOAD)
    program = [*_fill(config, 0)[:-1], *adds]
    program[3] = program[3].replace(signal=1 << Unit.DEPTHWISE)
    result = sim.execute(config, isa.encode(program), 0, np.full(1 << 19, 128, np.uint8), engine=engine)
    total = 600 * 85 * 3 * 128 * 128
    assert total > 2**31
    assert np.all(result.acc[:3] == total - 2**32)
    assert np.all(result.acc[3:] == 0)


@pytest.mark.parametrize("engine", sim.ENGINES)
def test_bias_wraps_like_int32(engine: str) -> None:
    config = preset("tiny")
    post = {"ox_count": 1, "per_channel": 1, "act_min": -128, "act_max": 127, "wait": 1 << Unit.LOAD | 1 << Unit.EXEC}
    loads = _fill(config, 0)
    exec_fields = {"k_rows": 4, "height": 1, "width": 1, "wait": 1 << Unit.LOAD, "signal": 1 << Unit.POST}
    program = [*loads, Instruction(Opcode.EXEC, exec_fields), Instruction(Opcode.POST, post)]
    records = loads[-1]["dram_address"]
    memory = np.full(records + config.param_channels * PARAM_RECORD_BYTES, 128, np.uint8)
    record = np.array([(2**31 - 1, 1 << 30, -23)], np.dtype([("b", "<i4"), ("q", "<i4"), ("e", "i1")])).tobytes()
    memory[records:] = np.frombuffer(record * config.param_channels, np.uint8)
    result = sim.execute(config, isa.encode(program), 0, memory, engine=engine)
    values = Values(config, memory).run(program)
    assert np.all(result.spad[0] == -128)
    np.testing.assert_array_equal(result.spad, values.spad)
