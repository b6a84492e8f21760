"""Single EXEC or DEPTHWISE and POST layers on random machines, and sums that overflow."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from support.machine.compare import differences
from support.machine.naive import Values
from support.machine.param_record import RECORD
from support.machine.random_layer import fill_memories, random_layer
from support.machine.random_programs import random_config

import sim
from accel.machine import isa
from accel.machine.config import PARAM_RECORD_BYTES, preset
from accel.machine.isa import Instruction, Opcode, Source, Unit
from accel.machine.numerics import RequantMode


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
    program = [*fill_memories(config, 0)[:2], *execs]
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
    program = [*fill_memories(config, 0)[:-1], *adds]
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
    loads = fill_memories(config, 0)
    exec_fields = {"k_rows": 4, "height": 1, "width": 1, "wait": 1 << Unit.LOAD, "signal": 1 << Unit.POST}
    program = [*loads, Instruction(Opcode.EXEC, exec_fields), Instruction(Opcode.POST, post)]
    records = loads[-1]["dram_address"]
    memory = np.full(records + config.param_channels * PARAM_RECORD_BYTES, 128, np.uint8)
    record = np.array([(2**31 - 1, 1 << 30, -23)], RECORD).tobytes()
    memory[records:] = np.frombuffer(record * config.param_channels, np.uint8)
    result = sim.execute(config, isa.encode(program), 0, memory, engine=engine)
    values = Values(config, memory).run(program)
    assert np.all(result.spad[0] == -128)
    np.testing.assert_array_equal(result.spad, values.spad)


@pytest.mark.parametrize("engine", sim.ENGINES)
@pytest.mark.parametrize("mode", RequantMode)
@pytest.mark.parametrize("zero_point", [-128, 127])
def test_zero_point_wraps_no_result(engine: str, mode: RequantMode, zero_point: int) -> None:
    """Beside a requantized sum at the border of int32."""
    config = replace(preset("edge"), requant_modes=tuple(mode.value for mode in RequantMode))
    post = {"source": Source.ACC, "mode": mode.code, "per_channel": 1, "wait": 1 << Unit.LOAD}
    post |= {"group_count": config.cols // config.post_lanes, "zero_point": zero_point, "act_min": -128, "act_max": 127}
    loads = fill_memories(config, 0)
    records = loads[-1]["dram_address"]
    multiplier = 2**31 - (128 if mode is RequantMode.FP32 else 1)
    borders = [(-(2**31), multiplier, 0), (2**31 - 1, multiplier, 0)] * (config.param_channels // 2)
    table = np.array(borders, RECORD)
    memory = np.append(np.zeros(records, np.uint8), np.frombuffer(table.tobytes(), np.uint8))
    result = sim.execute(config, isa.encode([*loads, Instruction(Opcode.POST, post)]), 0, memory, engine=engine)
    assert result.spad[0].astype(np.int8).tolist() == [-128, 127] * (config.cols // 2)
