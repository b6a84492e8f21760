"""A hand-written program: int8 matrix product with bias, requantization and clamp, in three overlapping strips."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from accel.machine.config import ArchConfig
from accel.machine.isa import Instruction, Memory, Opcode, Source, Unit, encode
from accel.machine.numerics import RequantMode, requantize
from support.machine.param_record import RECORD

STRIPS = 3
PIXELS = 6
CHUNKS = 2
ACTIVATIONS, WEIGHTS, RECORDS, OUTPUTS = 4093, 5120, 6000, 7001
"""Byte addresses; the first and the last are unaligned, the activations cross a page."""

MEMORY_BYTES = 8192
POST_FIELDS = {
    "source": Source.ACC, "mode": RequantMode.SINGLE.code, "per_channel": 1, "src_ox_stride": 1, "dst_ox_stride": 1,
    "zero_point": -3, "act_min": -100, "act_max": 90,
}  # fmt: skip
"""A POST that does what `finish` does."""


def on(*units: Unit) -> int:
    """Mask of units."""
    return sum(1 << unit for unit in units)


def finish(sums: np.ndarray, records: np.ndarray) -> np.ndarray:
    """Bias, requantization and clamp; channels are the last axis."""
    values = requantize(sums + records["bias"], records["multiplier"], records["shift"], "single")
    return np.clip(values + POST_FIELDS["zero_point"], POST_FIELDS["act_min"], POST_FIELDS["act_max"]).astype(np.int8)


@dataclass
class HandWrittenProgram:
    """Program, external memory before, and external memory after the run."""

    instructions: list[Instruction]
    memory: np.ndarray
    expected: np.ndarray

    @property
    def code(self) -> bytes:
        return encode(self.instructions)


def matmul_program(config: ArchConfig, seed: int) -> HandWrittenProgram:
    """Strip s: LOAD its pixels, EXEC them, POST, STORE; consecutive strips use different banks."""
    rng = np.random.default_rng(seed)
    rows, cols = config.rows, config.cols
    activations = rng.integers(-128, 128, (STRIPS, CHUNKS, PIXELS, rows)).astype(np.int8)
    weights = rng.integers(-128, 128, (CHUNKS, rows, cols)).astype(np.int8)
    records = np.zeros(cols, RECORD)
    records["bias"] = rng.integers(-50000, 50000, cols)
    records["multiplier"] = rng.integers(1 << 30, 1 << 31, cols)
    records["shift"] = rng.integers(-10, -5, cols)
    memory = rng.integers(0, 256, MEMORY_BYTES, np.uint8)
    for address, data in ((ACTIVATIONS, activations), (WEIGHTS, weights), (RECORDS, records)):
        memory[address : address + data.nbytes] = np.frombuffer(data.tobytes(), np.uint8)
    output = finish(np.einsum("scpr,crn->spn", activations.astype(np.int64), weights.astype(np.int64)), records)
    words = -(-cols // rows)
    width = min(rows, cols)
    expected = memory.copy()
    stored = output.reshape(STRIPS, PIXELS, words, width).transpose(0, 2, 1, 3)
    expected[OUTPUTS : OUTPUTS + stored.size] = np.frombuffer(stored.tobytes(), np.uint8)
    instructions = _setup(config) + [i for strip in range(STRIPS) for i in _strip(config, strip, words, width)]
    return HandWrittenProgram(instructions, memory, expected)


def _setup(config: ArchConfig) -> list[Instruction]:
    """Weights and records; LOADs complete in order, so the token of the first strip's LOAD stands for them too."""
    rows, cols = config.rows, config.cols
    weights = {"memory": Memory.WBUF, "dram_address": WEIGHTS, "word_bytes": cols, "step_bytes": cols}
    records = {"memory": Memory.PARAM, "dram_address": RECORDS, "word_bytes": 9, "step_bytes": 9}
    return [
        Instruction(Opcode.LOAD, weights | {"row_words": CHUNKS * rows, "row_bytes": CHUNKS * rows * cols}),
        Instruction(Opcode.LOAD, records | {"row_words": cols, "row_bytes": 9 * cols}),
    ]


def _strip(config: ArchConfig, strip: int, words: int, width: int) -> list[Instruction]:
    """One strip; it waits for the strip before the previous one wherever it uses the same bank again."""
    rows = config.rows
    bank = config.spad_bank_words
    source, target = strip % 2 * bank, (2 + strip % 2) * bank
    size = CHUNKS * PIXELS * rows
    window = {"height": 1, "width": PIXELS, "x_step": 1, "oy_count": 1, "ox_count": PIXELS}
    accumulators = strip % 2 * config.acc_bank_words
    reused, reusing = strip >= 2, strip + 2 < STRIPS
    load = {
        "dram_address": ACTIVATIONS + strip * size,
        "address": source,
        "row_words": CHUNKS * PIXELS,
        "row_bytes": size,
        "word_bytes": rows,
        "step_bytes": rows,
        "signal": on(Unit.EXEC),
        "wait": on(Unit.EXEC) if reused else 0,
    }
    execute = {
        "spad_address": source,
        "chunk_count": CHUNKS,
        "chunk_stride": PIXELS,
        "ox_stride": 1,
        "k_rows": rows,
        "acc_address": accumulators,
        "wait": on(Unit.LOAD) | (on(Unit.POST) if reused else 0),
        "signal": on(Unit.POST) | (on(Unit.LOAD) if reusing else 0),
    }
    post = POST_FIELDS | {
        "word_count": words,
        "ox_count": PIXELS,
        "group_count": width // config.post_lanes,
        "src_address": accumulators,
        "dst_address": target,
        "dst_word_stride": PIXELS,
        "wait": on(Unit.EXEC) | (on(Unit.STORE) if reused else 0),
        "signal": on(Unit.STORE) | (on(Unit.EXEC) if reusing else 0),
    }
    store = {
        "dram_address": OUTPUTS + strip * words * PIXELS * width,
        "address": target,
        "row_words": words * PIXELS,
        "word_bytes": width,
        "wait": on(Unit.POST),
        "signal": on(Unit.POST) if reusing else 0,
    }
    return [
        Instruction(Opcode.LOAD, load),
        Instruction(Opcode.EXEC, execute | window),
        Instruction(Opcode.POST, post),
        Instruction(Opcode.STORE, store),
    ]
