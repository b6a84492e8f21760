"""Random machines and random valid programs: the stimulus that simulator, RTL and checker are compared on.

Programs are made at the level of the instruction set, not by the compiler, so that they reach field values that no
network needs. Each instruction is drawn until it keeps the rules, then the stream is synchronised.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from random_instructions import DATA_BYTES, RECORDS, InstructionDraw, random_multiplier

from accel import isa
from accel.config import PARAM_RECORD_BYTES, REQUANT_MODES, ArchConfig
from accel.isa import INSTRUCTION_BYTES, Instruction, Mode, Opcode
from compiler.synchronize import Synchronizer

WEIGHTS = {Opcode.LOAD: 0.35, Opcode.EXEC: 0.25, Opcode.POST: 0.25, Opcode.STORE: 0.15}


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
        queue_depth=int(rng.integers(2, 9)),
        bus_bytes=power(2, 6),
        outstanding_bursts=int(rng.integers(1, 9)),
        read_latency_cycles=int(rng.integers(1, 61)),
        write_latency_cycles=int(rng.integers(1, 61)),
        requant_modes=modes,
    )


def random_program(config: ArchConfig, rng: np.random.Generator, size: int) -> RandomProgram:
    """A valid program of `size` instructions whose memory accesses collide often.

    Parameters
    ----------
    config : ArchConfig
    rng : numpy Generator
    size : int
        Number of instructions, at least 1.
    """
    program_address = INSTRUCTION_BYTES * int(rng.integers(0, 64))
    pool = program_address + size * INSTRUCTION_BYTES + int(rng.integers(0, 64))
    data = pool + RECORDS * PARAM_RECORD_BYTES + int(rng.integers(0, 64))
    draw = InstructionDraw(config, rng, pool, data, [Mode[m.upper()] for m in config.requant_modes])
    if rng.random() < 0.5:
        draw.modes = draw.modes[:1]
    synchronizer = Synchronizer(config)
    for opcode in rng.choice(list(WEIGHTS), size, p=list(WEIGHTS.values())):
        synchronizer.add(draw.instruction(Opcode(int(opcode))))
    instructions = synchronizer.finish()
    code = isa.encode(instructions)
    memory = _bytes(rng, -(-(data + DATA_BYTES) // 64) * 64)
    memory[pool : pool + RECORDS * PARAM_RECORD_BYTES] = _records(rng, Mode.FP32 in draw.modes)
    memory[program_address : program_address + len(code)] = np.frombuffer(code, np.uint8)
    return RandomProgram(code, memory, program_address, instructions)


def _bytes(rng: np.random.Generator, count: int) -> npt.NDArray[np.uint8]:
    """Any bytes, or only the extremes of int8, or only the lowest."""
    kind = rng.random()
    if kind < 0.7:
        return rng.integers(0, 256, count, np.uint8)
    return rng.choice(np.array([128, 127] if kind < 0.85 else [128], np.uint8), count)


def _records(rng: np.random.Generator, fp32: bool) -> npt.NDArray[np.uint8]:
    """Channel records that every mode in use accepts."""
    table = np.zeros(RECORDS, np.dtype([("bias", "<i4"), ("multiplier", "<i4"), ("shift", "i1")]))
    for record in table:
        bits = int(rng.choice([4, 16, 32]))
        record["bias"] = rng.integers(-(1 << (bits - 1)), 1 << (bits - 1))
        if rng.random() < 0.2:
            record["bias"] = rng.choice([-(1 << 31), (1 << 31) - 1])
        record["multiplier"], record["shift"] = random_multiplier(rng, fp32)
    return np.frombuffer(table.tobytes(), np.uint8)
