"""What the memories on the chip hold when numbers are to meet the borders of rounding and saturation.

Random sums and multipliers leave alone what happens when all bits but one are alike.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from accel.coverify import OnChip, random_on_chip
from accel.machine.config import PARAM_RECORD_BYTES
from accel.machine.isa import Instruction, Opcode, Reduce, Source, encode
from accel.machine.memories import Space
from accel.machine.numerics import (
    FP32_MULTIPLIER_STEP,
    MULTIPLIER_MAX,
    MULTIPLIER_MIN,
    OPERAND_SHIFT_MAX,
    SHIFT_MAX,
    SHIFT_MIN_INTEGER,
    RequantMode,
)
from support.machine.param_record import RECORD
from support.rtl.hostile import MACHINE

ACC_VALUES = MACHINE.acc_words * MACHINE.cols
ALIKE = 3
"""Different bytes of which half of SPAD consists, so that taps cancel each other."""


def near_powers(rng: np.random.Generator, count: int, bits: int = 32) -> np.ndarray:
    """`count` powers of two, differences of two, and their neighbours, of both signs; int64 below 2^(bits-1)."""
    powers = 1 << rng.integers(0, bits - 1, (2, count))
    values = powers[0] - rng.integers(2, size=count) * powers[1] + rng.integers(-1, 2, count)
    values = np.where(rng.integers(2, size=count) == 1, ~values, values)
    return np.clip(values, -(1 << (bits - 1)), (1 << (bits - 1)) - 1)


def border_records(rng: np.random.Generator, count: int) -> np.ndarray:
    """Legal records of all modes: mostly a power of two as multiplier, or all bits but few; uint8 of (count, bytes)."""
    table = np.zeros(count, RECORD)
    few = np.where(rng.integers(2, size=count) == 1, FP32_MULTIPLIER_STEP << rng.integers(0, 23, count), 0)
    table["multiplier"] = np.where(
        rng.integers(2, size=count) == 1, MULTIPLIER_MIN + few, MULTIPLIER_MAX - (FP32_MULTIPLIER_STEP - 1) - few
    )
    table["shift"] = rng.integers(SHIFT_MIN_INTEGER, SHIFT_MAX + 1, count)
    kind = rng.integers(4, size=count)
    table["bias"] = np.select([kind == 0, kind == 1], [near_powers(rng, count), rng.integers(-1, 2, count)], 0)
    return np.frombuffer(table.tobytes(), np.uint8).reshape(count, PARAM_RECORD_BYTES)


def border_state(rng: np.random.Generator) -> OnChip:
    """All memories: half of SPAD of few values, sums near powers of two, records at the borders of what is legal."""
    state = dict(random_on_chip(MACHINE, int(rng.integers(1 << 31))))
    spad, sums = state[Space.SPAD], state[Space.ACC]
    spad[: len(spad) // 2] = rng.choice(rng.integers(0, 256, ALIKE), spad[: len(spad) // 2].shape)
    sums[:] = near_powers(rng, sums.size // 4).astype("<i4").view(np.uint8).reshape(sums.shape)
    state[Space.PARAM] = border_records(rng, MACHINE.param_channels)
    return state


def border_programs(seed: int, count: int) -> Iterator[tuple[bytes, OnChip]]:
    """By turns POSTs of a whole ACC to all of SPAD, and of pairs of words of its lower half to its upper; and the
    memories before each."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        posts = [*(_pairs(rng) if number % 2 else _sums(rng))]
        yield encode([Instruction(Opcode.POST, _common(rng) | fields) for fields in posts]), border_state(rng)


def _sums(rng: np.random.Generator) -> Iterator[dict[str, int]]:
    for address in range(0, MACHINE.spad_words - MACHINE.acc_words + 1, MACHINE.acc_words):
        for byte in range(0, MACHINE.rows - MACHINE.cols + 1, MACHINE.cols):
            loops = {"ox_count": MACHINE.acc_words, "src_ox_stride": 1, "dst_ox_stride": 1}
            record = int(rng.integers(MACHINE.param_channels - MACHINE.cols))
            place = {"dst_address": address, "dst_byte": byte, "per_channel": 1, "param_address": record}
            yield place | loops | {"source": Source.ACC, "group_count": MACHINE.cols}


def _pairs(rng: np.random.Generator) -> Iterator[dict[str, int]]:
    """Two taps of words of which few differ, with multipliers that are nearly equal."""
    words, most = MACHINE.spad_words // 8, MULTIPLIER_MAX // FP32_MULTIPLIER_STEP
    for block in range(4):
        multiplier = int(rng.integers(MULTIPLIER_MIN // FP32_MULTIPLIER_STEP, most)) * FP32_MULTIPLIER_STEP
        left, zero_point = int(rng.integers(OPERAND_SHIFT_MAX + 1)), int(rng.integers(-128, 128))
        shift = int(rng.integers(-4, 8) if rng.integers(2) else OPERAND_SHIFT_MAX - left - rng.integers(4))
        yield {
            "source": Source.SPAD, "reduce": Reduce.SUB, "group_count": MACHINE.rows, "kx_count": 2,
            "width": 1, "height": 1, "ox_count": words, "src_ox_stride": 1, "dst_ox_stride": 1,
            "src_kx_stride": int(rng.integers(words)), "dst_address": (4 + block) * words,
            "left_shift": left, "zero_point0": zero_point, "zero_point1": zero_point,
            "multiplier0": multiplier, "shift0": shift,
            "multiplier1": multiplier + int(rng.integers(2)) * FP32_MULTIPLIER_STEP, "shift1": shift,
            "param_address": int(rng.integers(MACHINE.param_channels)),
        }  # fmt: skip


def _common(rng: np.random.Generator) -> dict[str, int]:
    mode = RequantMode(str(rng.choice(MACHINE.requant_modes)))
    return {"mode": mode.code, "zero_point": int(rng.integers(-128, 128)), "act_min": -128, "act_max": 127}


def tie_programs(seed: int, count: int) -> Iterator[tuple[bytes, OnChip]]:
    """POSTs of a whole ACC in fp32, of sums half way between two of 24 bits, or next to that; and the memories before
    each. Those of 24 bits are, scaled, half way between two results, so that one bit of them decides."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        halvings = int(rng.integers(24, 26))
        yield _in_fp32(rng, _ties(rng, ACC_VALUES, halvings), MULTIPLIER_MIN, 1 - halvings)


def carry_programs(seed: int, count: int) -> Iterator[tuple[bytes, OnChip]]:
    """The same of products of 24 bits each that are a power of two but for less than 2^-24 of it, which rounding makes
    of them, or next to that; scaled, it is 2^31, which is no result, or half of it.

    (2^24 - 2 b) (2^23 + b) = 2^47 - 2 b^2.
    """
    rng = np.random.default_rng(seed)
    for _ in range(count):
        b, doublings = int(rng.integers(1, 1448)), int(rng.integers(7))
        sums = ((1 << 24) - 2 * b + rng.integers(-1, 2, ACC_VALUES)) << doublings
        sums = np.where(rng.integers(2, size=ACC_VALUES) == 1, -sums, sums)
        multiplier = ((1 << 23) + b) * FP32_MULTIPLIER_STEP
        yield _in_fp32(rng, sums, multiplier, 8 - doublings - int(rng.integers(2)))


def _in_fp32(rng: np.random.Generator, sums: np.ndarray, multiplier: int, shift: int) -> tuple[bytes, OnChip]:
    """POSTs of a whole ACC that holds these sums, with one multiplier and shift; and the memories before."""
    state = dict(random_on_chip(MACHINE, int(rng.integers(1 << 31))))
    state[Space.ACC] = sums.astype("<i4").view(np.uint8).reshape(state[Space.ACC].shape)
    records = np.zeros(MACHINE.param_channels, RECORD)
    records["multiplier"], records["shift"] = multiplier, shift
    state[Space.PARAM] = np.frombuffer(records.tobytes(), np.uint8).reshape(-1, PARAM_RECORD_BYTES)
    posts = [_common(rng) | {"mode": RequantMode.FP32.code} | fields for fields in _sums(rng)]
    return encode([Instruction(Opcode.POST, fields) for fields in posts]), state


def _ties(rng: np.random.Generator, count: int, halvings: int) -> np.ndarray:
    """`count` sums of both signs that are, after so many halvings, odd halves below 2^6 but for a bit behind 24 ones;
    int64."""
    bits = rng.integers(1, 7, count)
    odd = (1 << bits) + 1 + 2 * (rng.integers(1 << 6, size=count) % (1 << (bits - 1)))
    cut = halvings + bits - 24
    sums = (odd << halvings - 1) + ((1 << cut) >> 1) + rng.integers(-1, 2, count)
    return np.where(rng.integers(2, size=count) == 1, -sums, sums)
