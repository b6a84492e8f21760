"""Values of POST: taps or accumulators, bias, requantization, clamp, table."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from accel.machine import numerics
from accel.machine.config import TABLE_ENTRIES
from accel.machine.isa import Reduce, Source
from sim.fast.dma import Row
from sim.fields import POST
from sim.jit import index, jit_group, kernel
from sim.memories import Memories

wrap_int32, requantize_tflite, requantize_single, scale_fp32, multiply_fp32 = jit_group(
    numerics.wrap_int32, numerics.requantize_tflite, numerics.requantize_single, numerics.scale_fp32,
    numerics.multiply_fp32,
)  # fmt: skip
_ACC, _MAX, _SUB, _MUL = int(Source.ACC), int(Reduce.MAX), int(Reduce.SUB), int(Reduce.MUL)
_INTERPOLATE = int(Reduce.INTERPOLATE)
_TFLITE, _SINGLE, _FP32 = (mode.code for mode in numerics.RequantMode)

Vector = npt.NDArray[np.int64]
"""One value per byte of the words that are written."""


@kernel
def execute(row: Row, memories: Memories, rows: int, lanes: int) -> bool:
    """Run a POST on a machine with `rows` bytes per SPAD word and `lanes` post lanes.

    Returns
    -------
    bool
        False, with memories unchanged, if a parameter record is not a multiplier and shift of the mode.
    """
    width, words = row[POST.group_count] * lanes, row[POST.word_count]
    records, scales, operands = (
        np.empty((3, width), np.int64),
        np.empty(width, np.float32),
        np.empty((4, 256), np.int64),
    )
    sums = np.empty((row[POST.ox_count], width), np.int64)
    for word in range(words):
        if not _read_records(row, memories.param, word, rows, lanes, records, scales):
            return False
    if row[POST.source] != _ACC:
        _tabulate(row, operands)
    for word in range(words):
        _read_records(row, memories.param, word, rows, lanes, records, scales)
        for oy in range(row[POST.oy_count]):
            if row[POST.source] == _ACC:
                _read_acc(row, memories.acc, word * rows, oy, sums)
            else:
                _reduce(row, memories.spad, operands, word, oy, sums)
            _finish(row, sums, records, scales, memories, word, oy)
    return True


@kernel
def _read_records(row: Row, param: Any, word: int, rows: int, lanes: int, records: Any, scales: Any) -> bool:
    """Bias, multiplier and shift of every written byte of `word`; False if one is not legal."""
    shift_min = numerics.SHIFT_MIN_FP32 if row[POST.mode] == _FP32 else numerics.SHIFT_MIN_INTEGER
    for i in range(records.shape[1]):
        channel = row[POST.param_address] * lanes + (word * rows + i if row[POST.per_channel] else i % lanes)
        for field, first in enumerate((0, 4)):
            value = np.int64(0)
            for byte in range(4):
                value |= (np.int64(param[channel, first + byte]) & 255) << (8 * byte)
            records[field, i] = wrap_int32(value)
        multiplier, shift = records[1, i], np.int64(param[channel, 8])
        records[2, i] = shift
        if row[POST.mode] == _FP32:
            scales[i] = scale_fp32(multiplier, shift)
        legal = multiplier >= 0 and shift_min <= shift <= numerics.SHIFT_MAX
        if row[POST.mode] == _FP32 and multiplier != 0:
            legal &= multiplier >= numerics.MULTIPLIER_MIN and multiplier % numerics.FP32_MULTIPLIER_STEP == 0
        if not legal:
            return False
    return True


@kernel
def _tabulate(row: Row, operands: Any) -> None:
    """Contribution of each byte as the first tap, and as a later one: rescaled, negated or cut to a factor.

    In an interpolation every tap has a row of its own: 2 * ky + kx.
    """
    for tap in range(4 if row[POST.reduce] == _INTERPOLATE else 2):
        zero_point = row[POST.zero_point1] if tap else row[POST.zero_point0]
        multiplier, shift = row[POST.multiplier0], row[POST.shift0]
        if tap:
            multiplier, shift = row[POST.multiplier1], row[POST.shift1]
        if row[POST.reduce] == _INTERPOLATE:
            multiplier = _weight(row, tap) << 10
        scale = scale_fp32(multiplier, shift)
        for byte in range(256):
            x = wrap_int32((byte - 128 - zero_point) << row[POST.left_shift])
            if row[POST.mode] == _TFLITE:
                operands[tap, byte] = requantize_tflite(x, multiplier, shift)
            elif row[POST.mode] == _SINGLE:
                operands[tap, byte] = requantize_single(x, multiplier, shift)
            else:
                operands[tap, byte] = multiply_fp32(x, scale)
            if row[POST.reduce] == _MUL:
                operands[tap, byte] = ((operands[tap, byte] + 256) & 511) - 256
            elif row[POST.reduce] == _SUB and tap:
                operands[tap, byte] = -operands[tap, byte]


@kernel
def _weight(row: Row, tap: int) -> Any:
    """Share of tap 2 * ky + kx of an interpolation in 2**-20."""
    y_weight, x_weight = row[POST.y_weight], row[POST.x_weight]
    rows = y_weight if tap >> 1 else numerics.INTERPOLATION_ONE - y_weight
    return rows * (x_weight if tap & 1 else numerics.INTERPOLATION_ONE - x_weight)


@kernel
def _read_acc(row: Row, acc: Any, column: int, oy: int, sums: Any) -> None:
    """Accumulators of one row of outputs."""
    source = row[POST.src_address] + oy * row[POST.src_oy_stride]
    for ox in range(sums.shape[0]):
        word = index(source + ox * row[POST.src_ox_stride])
        for i in range(sums.shape[1]):
            sums[ox, i] = acc[word, index(column + i)]


@kernel
def _reduce(row: Row, spad: Any, operands: Any, word: int, oy: int, sums: Any) -> None:
    """Sum (of operands that are negated or weighted), maximum or product of the valid taps of a row of outputs."""
    reduce, width = row[POST.reduce], sums.shape[1]
    neutral = numerics.INT32_MIN if reduce == _MAX else 1 if reduce == _MUL else 0
    source = row[POST.src_address] + word * row[POST.src_word_stride] + oy * row[POST.src_oy_stride]
    for ox in range(sums.shape[0]):
        for i in range(width):
            sums[ox, i] = neutral
        for ky in range(row[POST.ky_count]):
            y = row[POST.y_start] + oy * row[POST.y_step] + ky * row[POST.y_dilation]
            for kx in range(row[POST.kx_count]):
                x = row[POST.x_start] + ox * row[POST.x_step] + kx * row[POST.x_dilation]
                if 0 <= y < row[POST.height] and 0 <= x < row[POST.width]:
                    tap = ky * row[POST.src_ky_stride] + kx * row[POST.src_kx_stride]
                    at, operand = index(source + ox * row[POST.src_ox_stride] + tap), 1 if ky or kx else 0
                    if reduce == _INTERPOLATE:
                        operand = 2 * ky + kx
                    if reduce == _MAX:
                        for i in range(width):
                            sums[ox, i] = max(sums[ox, i], operands[operand, index(spad[at, i] + 128)])
                    elif reduce == _MUL:
                        for i in range(width):
                            sums[ox, i] = wrap_int32(sums[ox, i] * operands[operand, index(spad[at, i] + 128)])
                    else:
                        for i in range(width):
                            sums[ox, i] += operands[operand, index(spad[at, i] + 128)]


@kernel
def _finish(row: Row, sums: Any, records: Any, scales: Any, memories: Memories, word: int, oy: int) -> None:
    """Add the bias, requantize, add the zero point, clamp, look up and write a row of outputs; one loop per mode."""
    spad = memories.spad
    zero_point, low, high, byte = row[POST.zero_point], row[POST.act_min], row[POST.act_max], row[POST.dst_byte]
    first = row[POST.dst_address] + word * row[POST.dst_word_stride] + oy * row[POST.dst_oy_stride]
    for ox in range(sums.shape[0]):
        target = index(first + ox * row[POST.dst_ox_stride])
        if row[POST.mode] == _TFLITE:
            for i in range(sums.shape[1]):
                value = requantize_tflite(wrap_int32(sums[ox, i] + records[0, i]), records[1, i], records[2, i])
                spad[target, index(byte + i)] = min(max(value + zero_point, low), high)
        elif row[POST.mode] == _SINGLE:
            for i in range(sums.shape[1]):
                value = requantize_single(wrap_int32(sums[ox, i] + records[0, i]), records[1, i], records[2, i])
                spad[target, index(byte + i)] = min(max(value + zero_point, low), high)
        else:
            for i in range(sums.shape[1]):
                value = multiply_fp32(wrap_int32(sums[ox, i] + records[0, i]), scales[i])
                spad[target, index(byte + i)] = min(max(value + zero_point, low), high)
        if row[POST.table] > 0:
            _look_up(row[POST.table], memories, target, byte, sums.shape[1])


@kernel
def _look_up(table: int, memories: Memories, word: Any, byte: int, width: int) -> None:
    """Replace `width` bytes of a scratchpad word by their entries of a table."""
    spad, zero = memories.spad, (table - 1) * TABLE_ENTRIES + 128
    for i in range(byte, byte + width):
        spad[word, index(i)] = memories.table[index(zero + spad[word, index(i)]), 0]
