"""Values of POST: taps or accumulators, bias, requantization, clamp."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from accel import numerics
from accel.isa import Mode, Reduce, Source
from sim.dma import Row
from sim.fields import POST
from sim.jit import jit_group, kernel
from sim.memories import Memories

wrap_int32, requantize_tflite, requantize_single, requantize_fp32 = jit_group(
    numerics.wrap_int32, numerics.requantize_tflite, numerics.requantize_single, numerics.requantize_fp32
)
_ACC, _SUM = int(Source.ACC), int(Reduce.SUM)
_TFLITE, _SINGLE, _FP32 = int(Mode.TFLITE), int(Mode.SINGLE), int(Mode.FP32)

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
    width, words, spad, acc = row[POST.group_count] * lanes, row[POST.word_count], memories.spad, memories.acc
    from_acc, dst_byte = row[POST.source] == _ACC, row[POST.dst_byte]
    records, sums, operands = np.empty((3, width), np.int64), np.empty(width, np.int64), np.empty((2, 256), np.int64)
    for word in range(words):
        if not _read_records(row, memories.param, word, rows, lanes, records):
            return False
    if not from_acc:
        _tabulate(row, operands)
    for word in range(words):
        _read_records(row, memories.param, word, rows, lanes, records)
        for oy in range(row[POST.oy_count]):
            for ox in range(row[POST.ox_count]):
                source = row[POST.src_address] + oy * row[POST.src_oy_stride] + ox * row[POST.src_ox_stride]
                if from_acc:
                    for i in range(width):
                        sums[i] = acc[source, word * rows + i]
                else:
                    _reduce(row, spad, operands, source + word * row[POST.src_word_stride], oy, ox, sums)
                target = row[POST.dst_address] + word * row[POST.dst_word_stride]
                target += oy * row[POST.dst_oy_stride] + ox * row[POST.dst_ox_stride]
                _finish(row, sums, records, spad, target, dst_byte)
    return True


@kernel
def _read_records(row: Row, param: Any, word: int, rows: int, lanes: int, records: Any) -> bool:
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
        legal = multiplier >= 0 and shift_min <= shift <= numerics.SHIFT_MAX
        if row[POST.mode] == _FP32 and multiplier != 0:
            legal &= multiplier >= 1 << 30 and multiplier & 127 == 0
        if not legal:
            return False
    return True


@kernel
def _tabulate(row: Row, operands: Any) -> None:
    """Rescaled value of each byte as the first tap, and as any later one."""
    for x in range(-128, 128):
        first = wrap_int32((x - row[POST.zero_point0]) << row[POST.left_shift])
        later = wrap_int32((x - row[POST.zero_point1]) << row[POST.left_shift])
        operands[0, x + 128] = _requantize(row[POST.mode], first, row[POST.multiplier0], row[POST.shift0])
        operands[1, x + 128] = _requantize(row[POST.mode], later, row[POST.multiplier1], row[POST.shift1])


@kernel
def _requantize(mode: Any, x: Any, q: Any, e: Any) -> Any:
    if mode == _TFLITE:
        return requantize_tflite(x, q, e)
    if mode == _SINGLE:
        return requantize_single(x, q, e)
    return requantize_fp32(x, q, e)


@kernel
def _reduce(row: Row, spad: Any, operands: Any, source: int, oy: int, ox: int, sums: Any) -> None:
    """Sum or maximum of the valid taps of one output."""
    for i in range(len(sums)):
        sums[i] = 0 if row[POST.reduce] == _SUM else numerics.INT32_MIN
    for ky in range(row[POST.ky_count]):
        y = row[POST.y_start] + oy * row[POST.y_step] + ky * row[POST.y_dilation]
        if not 0 <= y < row[POST.height]:
            continue
        for kx in range(row[POST.kx_count]):
            x = row[POST.x_start] + ox * row[POST.x_step] + kx * row[POST.x_dilation]
            if not 0 <= x < row[POST.width]:
                continue
            word = source + ky * row[POST.src_ky_stride] + kx * row[POST.src_kx_stride]
            operand = 1 if ky or kx else 0
            if row[POST.reduce] == _SUM:
                for i in range(len(sums)):
                    sums[i] += operands[operand, np.int64(spad[word, i]) + 128]
            else:
                for i in range(len(sums)):
                    sums[i] = max(sums[i], operands[operand, np.int64(spad[word, i]) + 128])


@kernel
def _finish(row: Row, sums: Any, records: Any, spad: Any, target: int, byte: int) -> None:
    """Add the bias, requantize, add the zero point, clamp and write; one vectorizable loop per mode."""
    zero_point, low, high = row[POST.zero_point], row[POST.act_min], row[POST.act_max]
    if row[POST.mode] == _TFLITE:
        for i in range(len(sums)):
            value = requantize_tflite(wrap_int32(sums[i] + records[0, i]), records[1, i], records[2, i])
            spad[target, byte + i] = min(max(value + zero_point, low), high)
    elif row[POST.mode] == _SINGLE:
        for i in range(len(sums)):
            value = requantize_single(wrap_int32(sums[i] + records[0, i]), records[1, i], records[2, i])
            spad[target, byte + i] = min(max(value + zero_point, low), high)
    else:
        for i in range(len(sums)):
            value = requantize_fp32(wrap_int32(sums[i] + records[0, i]), records[1, i], records[2, i])
            spad[target, byte + i] = min(max(value + zero_point, low), high)
