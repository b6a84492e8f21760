"""Random machines and random valid programs: the stimulus that simulator, RTL and checker are compared on.

Programs are made at the level of the instruction set, not by the compiler, so that they reach field values that no
network needs. Each instruction is drawn until it keeps the rules, then the stream is synchronised.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from accel.machine import isa
from accel.machine.config import PARAM_RECORD_BYTES, REQUANT_MODES, TABLE_WORDS, ArchConfig
from accel.machine.isa import INSTRUCTION_BYTES, Instruction, Memory, Opcode, Source
from accel.machine.numerics import RequantMode
from compiler.schedule.synchronize import synchronized
from support.machine.param_record import RECORD
from support.machine.random_instructions import DATA_BYTES, RECORDS, InstructionDraw, random_multiplier

WEIGHTS = {Opcode.LOAD: 0.35, Opcode.EXEC: 0.15, Opcode.POST: 0.25, Opcode.STORE: 0.15, Opcode.DEPTHWISE: 0.1}


@dataclass(frozen=True)
class RandomProgram:
    """A program and the external memory that it runs on.

    Parameters
    ----------
    code : bytes
        The encoded program; it also lies in `memory` at `program_address` (a multiple of 64).
    memory : ndarray of uint8
        The whole external memory before the run, a multiple of 64 bytes.
    program_address : int
    instructions : list of Instruction
    """

    code: bytes
    memory: npt.NDArray[np.uint8]
    program_address: int
    instructions: list[Instruction]


def with_semaphores(config: ArchConfig, program: Sequence[Instruction]) -> list[Instruction]:
    """The same instructions, synchronised."""
    return [isa.instruction_of(row) for row in synchronized(config, isa.table_of(program))]


def random_config(rng: np.random.Generator) -> ArchConfig:
    """A small machine: arrays up to 16 on a side, any memory parameters."""
    small = int(rng.integers(1, 17))
    rows, cols = rng.permutation([small, small * int(rng.integers(1, 16 // small + 1))]).tolist()
    lanes = int(rng.choice([n for n in (1, 2, 4, 8, 16) if small % n == 0]))
    modes = tuple(str(m) for m in rng.permutation(REQUANT_MODES)[: rng.integers(1, len(REQUANT_MODES) + 1)])

    def power(low: int, high: int, at_least: int = 1) -> int:
        return max(1 << int(rng.integers(low, high + 1)), 1 << (at_least - 1).bit_length())

    return ArchConfig(
        name="random",
        rows=rows,
        cols=cols,
        spad_banks=int(rng.integers(1, 9)),
        spad_bank_words=power(3, 6),
        wbuf_words=power(3, 7, 2 * rows),
        acc_banks=int(rng.integers(1, 9)),
        acc_bank_words=power(0, 5),
        param_channels=power(2, 7, 4 * cols),
        post_lanes=lanes,
        depthwise_taps=int(rng.integers(1, 8)) if rows > 1 and rng.random() < 0.6 else 0,
        depthwise_words=power(3, 6),
        queue_depth=int(rng.integers(2, 9)),
        bus_bytes=power(2, 6),
        outstanding_bursts=int(rng.integers(1, 9)),
        read_latency_cycles=int(rng.integers(1, 61)),
        write_latency_cycles=int(rng.integers(1, 61)),
        requant_modes=modes,
        int4_weights=bool(rng.spawn(1)[0].random() < 0.6),  # what is drawn after it does not depend on it
    )


def random_program(config: ArchConfig, rng: np.random.Generator, size: int, *, framed: bool = False) -> RandomProgram:
    """A valid program of `size` instructions whose memory accesses collide often.

    Parameters
    ----------
    config : ArchConfig
    rng : numpy Generator
    size : int
        Number of random instructions, at least 1.
    framed : bool
        Before them, fill all on-chip memories; after them, store the whole scratchpad and post-processed accumulators,
        so that every value that was computed shows in external memory.
    """
    program_address = INSTRUCTION_BYTES * int(rng.integers(0, 64))
    pool = program_address + size * INSTRUCTION_BYTES + int(rng.integers(0, 64))
    data = pool + RECORDS * PARAM_RECORD_BYTES + int(rng.integers(0, 64))
    draw = InstructionDraw(config, rng, pool, data, [RequantMode(m) for m in config.requant_modes])
    if rng.random() < 0.5:
        draw.modes = draw.modes[:1]
    stream = _stream(draw, size)
    dump = data + DATA_BYTES
    if framed:
        # The program grows: it moves behind everything else.
        stream = [*fill(config, pool, data), *stream, *show(config, dump, draw.modes[0])]
        program_address = -(-(dump + (config.spad_words + config.acc_words * config.cols) * config.rows) // 64) * 64
    instructions = with_semaphores(config, stream)
    code = isa.encode(instructions)
    end = program_address + len(code) if framed else dump
    memory = _bytes(rng, -(-end // 64) * 64)
    memory[pool : pool + RECORDS * PARAM_RECORD_BYTES] = random_records(rng, RequantMode.FP32 in draw.modes)
    memory[program_address : program_address + len(code)] = np.frombuffer(code, np.uint8)
    return RandomProgram(code, memory, program_address, instructions)


def _stream(draw: InstructionDraw, size: int) -> list[Instruction]:
    """Random instructions; where there is an engine, EXECs mostly have a DEPTHWISE at their side."""
    stream: list[Instruction] = []
    for number in draw.rng.choice(list(WEIGHTS), size, p=list(WEIGHTS.values())):
        opcode = Opcode(int(number))
        if not draw.config.depthwise_taps and opcode is Opcode.DEPTHWISE:
            opcode = Opcode.EXEC
        if draw.config.depthwise_taps and stream and stream[-1].opcode is Opcode.EXEC and draw.rng.random() < 0.6:
            stream.append(draw.depthwise_beside(stream[-1]))
        else:
            stream.append(draw.instruction(opcode))
    return stream


def linear(memory: Memory, source: int, address: int, words: int, word_bytes: int, limit: int) -> list[Instruction]:
    """LOADs of `words` consecutive words from the first `limit` bytes at `source`, read again as often as needed."""
    most = max(1, limit // word_bytes)
    result = []
    for first in range(0, words, most):
        count = min(most, words - first)
        fields = {"memory": memory, "dram_address": source, "address": address + first, "row_bytes": count * word_bytes}
        fields |= {"row_words": count, "word_bytes": word_bytes, "step_bytes": word_bytes}
        result.append(Instruction(Opcode.LOAD, fields))
    return result


def fill(config: ArchConfig, pool: int, data: int) -> list[Instruction]:
    """LOADs that write every word of SPAD, WBUF, PARAM, TABLE and, if there is an engine, TAPS."""
    records = RECORDS * PARAM_RECORD_BYTES
    loads = [
        *linear(Memory.PARAM, pool, 0, config.param_channels, PARAM_RECORD_BYTES, records),
        *linear(Memory.WBUF, data + 1, 0, config.wbuf_words, config.cols, DATA_BYTES - 1),
        *linear(Memory.SPAD, data + 2, 0, config.spad_words, config.rows, DATA_BYTES - 2),
        *linear(Memory.TABLE, data + 3, 0, TABLE_WORDS, 1, DATA_BYTES - 3),
    ]
    if config.depthwise_taps:
        loads += linear(Memory.TAPS, data + 4, 0, config.depthwise_words, config.depthwise_lanes, DATA_BYTES - 4)
    return loads


def show(config: ArchConfig, dump: int, mode: RequantMode) -> list[Instruction]:
    """STOREs of the whole scratchpad, then of every accumulator after POST, from `dump` on."""

    def store(address: int, words: int) -> Instruction:
        fields = {"dram_address": address, "row_words": words, "word_bytes": config.rows}
        return Instruction(Opcode.STORE, fields)

    result, address = [store(dump, config.spad_words)], dump + config.spad_words * config.rows
    pixels = min(config.acc_bank_words, config.spad_words)
    words = min(-(-config.cols // config.rows), config.spad_words // pixels)
    for bank in range(config.acc_banks):
        fields = {"source": Source.ACC, "mode": mode.code, "per_channel": 1, "word_count": words, "ox_count": pixels}
        fields |= {"group_count": min(config.rows, config.cols) // config.post_lanes, "act_min": -128, "act_max": 127}
        fields |= {"src_address": bank * config.acc_bank_words, "src_ox_stride": 1, "dst_ox_stride": 1}
        result += [Instruction(Opcode.POST, fields | {"dst_word_stride": pixels}), store(address, words * pixels)]
        address += words * pixels * config.rows
    return result


def _bytes(rng: np.random.Generator, count: int) -> npt.NDArray[np.uint8]:
    """Any bytes, or only the extremes of int8, or only the lowest."""
    kind = rng.random()
    if kind < 0.7:
        return rng.integers(0, 256, count, np.uint8)
    return rng.choice(np.array([128, 127] if kind < 0.85 else [128], np.uint8), count)


def random_records(rng: np.random.Generator, fp32: bool) -> npt.NDArray[np.uint8]:
    """Channel records that every mode in use accepts."""
    table = np.zeros(RECORDS, RECORD)
    for record in table:
        bits = int(rng.choice([4, 16, 32]))
        record["bias"] = rng.integers(-(1 << (bits - 1)), 1 << (bits - 1))
        if rng.random() < 0.2:
            record["bias"] = rng.choice([-(1 << 31), (1 << 31) - 1])
        record["multiplier"], record["shift"] = random_multiplier(rng, fp32)
    return np.frombuffer(table.tobytes(), np.uint8)
