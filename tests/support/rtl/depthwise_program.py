"""A hand-written program for array and depthwise engine at the same time, in overlapping strips."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from accel.machine.config import ArchConfig
from accel.machine.depthwise import row_stream
from accel.machine.isa import Instruction, Memory, Opcode, Unit
from support.rtl.matmul_program import (
    POST_FIELDS,
    RECORD,
    RECORDS,
    STRIPS,
    HandWrittenProgram,
    finish,
    matmul_program,
    on,
)

HEIGHT, WIDTH, TAP_ROWS, PAD = 3, 5, 3, -7
IMAGES, TAPS, OUTPUTS = 2049, 2801, 3203
"""Byte addresses between the program and the matrix product's data."""


def depthwise_program(config: ArchConfig, seed: int) -> HandWrittenProgram:
    """The strips of `matmul_program`, each beside a depthwise convolution in other banks; every second one halves x.

    Needs 8 scratchpad banks and 4 accumulator banks.
    """
    program, rng = matmul_program(config, seed), np.random.default_rng(seed)
    lanes, columns = config.depthwise_lanes, config.depthwise_taps
    images = rng.integers(-128, 128, (STRIPS, HEIGHT, WIDTH, lanes)).astype(np.int8)
    weights = rng.integers(-128, 128, (TAP_ROWS, columns, lanes)).astype(np.int8)
    for memory in (program.memory, program.expected):
        for address, data in ((IMAGES, images), (TAPS, weights)):
            memory[address : address + data.nbytes] = np.frombuffer(data.tobytes(), np.uint8)
    records = np.frombuffer(program.memory[RECORDS:].tobytes(), RECORD, lanes)
    setup, strips = program.instructions[:2], program.instructions[2:]
    taps = {"memory": Memory.TAPS, "dram_address": TAPS, "word_bytes": lanes, "step_bytes": lanes}
    instructions = [
        *setup,
        Instruction(Opcode.LOAD, taps | {"row_words": TAP_ROWS * columns, "row_bytes": weights.size}),
    ]
    address = OUTPUTS
    for strip in range(STRIPS):
        output = finish(windows(images[strip], weights, _move(config, strip)), records)
        program.expected[address : address + output.size] = np.frombuffer(output.tobytes(), np.uint8)
        both = zip(strips[4 * strip :], _strip(config, strip, output.shape[1], address), strict=False)
        instructions += [instruction for pair in both for instruction in pair]
        address += output.size
    return HandWrittenProgram(instructions, program.memory, program.expected)


def windows(image: np.ndarray, weights: np.ndarray, move: int) -> np.ndarray:
    """Sums (oy, ox, lane) of the windows over a padded image, `move` columns apart."""
    taps = weights.shape[1]
    padded = np.pad(image.astype(np.int64), ((1, 1), (taps // 2, taps // 2), (0, 0)), constant_values=PAD)
    starts = range(0, padded.shape[1] - taps + 1, move)
    rows = range(padded.shape[0] - TAP_ROWS + 1)
    return np.array([[(padded[y : y + TAP_ROWS, x : x + taps] * weights).sum((0, 1)) for x in starts] for y in rows])


def _move(config: ArchConfig, strip: int) -> int:
    """Columns between windows: 1 and 2 by turns; windows of one column are never 2 apart."""
    return 1 + (strip % 2 if config.depthwise_taps > 1 else 0)


def _strip(config: ArchConfig, strip: int, outputs: int, store_address: int) -> Iterator[Instruction]:
    """One strip; it waits for the strip before the previous one wherever it uses the same bank again."""
    lanes, columns, move = config.depthwise_lanes, config.depthwise_taps, _move(config, strip)
    source, target = (4 + strip % 2) * config.spad_bank_words, (6 + strip % 2) * config.spad_bank_words
    accumulators, byte = (2 + strip % 2) * config.acc_bank_words, config.rows - lanes
    reused, reusing = strip >= 2, strip + 2 < STRIPS
    lead, steps = row_stream(-(columns // 2), 1, move, WIDTH, columns, outputs)
    yield Instruction(
        Opcode.LOAD,
        {
            "dram_address": IMAGES + strip * HEIGHT * WIDTH * lanes, "address": source, "row_words": HEIGHT * WIDTH,
            "row_bytes": HEIGHT * WIDTH * lanes, "word_bytes": lanes, "step_bytes": lanes, "byte_offset": byte,
            "signal": on(Unit.DEPTHWISE), "wait": on(Unit.DEPTHWISE) if reused else 0,
        },
    )  # fmt: skip
    yield Instruction(
        Opcode.DEPTHWISE,
        {
            "spad_address": source - WIDTH - columns // 2, "spad_byte": byte, "ky_count": TAP_ROWS, "kx_count": columns,
            "oy_count": HEIGHT, "ox_count": outputs, "ky_stride": WIDTH, "kx_stride": 1, "oy_stride": WIDTH,
            "ox_stride": move, "y_start": -1, "x_start": -(columns // 2), "y_step": 1, "x_step": move, "y_dilation": 1,
            "x_dilation": 1, "height": HEIGHT, "width": WIDTH, "pad_value": PAD, "acc_address": accumulators,
            "lead_steps": lead, "row_steps": steps, "wait": on(Unit.LOAD) | (on(Unit.POST) if reused else 0),
            "signal": on(Unit.POST) | (on(Unit.LOAD) if reusing else 0),
        },
    )  # fmt: skip
    yield Instruction(
        Opcode.POST,
        POST_FIELDS
        | {
            "ox_count": HEIGHT * outputs, "group_count": lanes // config.post_lanes, "src_address": accumulators,
            "dst_address": target, "wait": on(Unit.DEPTHWISE) | (on(Unit.STORE) if reused else 0),
            "signal": on(Unit.STORE) | (on(Unit.DEPTHWISE) if reusing else 0),
        },
    )  # fmt: skip
    yield Instruction(
        Opcode.STORE,
        {
            "dram_address": store_address, "address": target, "row_words": HEIGHT * outputs, "word_bytes": lanes,
            "wait": on(Unit.POST), "signal": on(Unit.POST) if reusing else 0,
        },
    )  # fmt: skip
