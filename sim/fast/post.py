"""Values of POST: taps or accumulators, bias, requantization, clamp, table."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from accel.machine import numerics
from accel.machine.config import TABLE_ENTRIES
from accel.machine.isa import Reduce, Source
from sim.fast.dma import Row
from sim.fast.post_vectors import finish_fp32, finish_single, finish_tflite
from sim.fast.vectors import PANEL
from sim.fields import POST
from sim.jit import DISABLED, index, jit_group, kernel
from sim.memories import OFFSET, Memories
from sim.views import flat

wrap_int32, requantize_tflite, requantize_single, scale_fp32, multiply_fp32 = jit_group(
    numerics.wrap_int32, numerics.requantize_tflite, numerics.requantize_single, numerics.scale_fp32,
    numerics.multiply_fp32,
)  # fmt: skip
_ACC, _SUM, _MAX, _SUB, _MUL = (int(value) for value in (Source.ACC, Reduce.SUM, Reduce.MAX, Reduce.SUB, Reduce.MUL))
_INTERPOLATE = int(Reduce.INTERPOLATE)
_TFLITE, _SINGLE, _FP32 = (mode.code for mode in numerics.RequantMode)

SUMS = 1 << 12
"""Sums of pairs that are computed at a time if their rows follow each other, which its first cache holds."""

_OPERAND_FIELDS = (
    POST.source, POST.reduce, POST.mode, POST.left_shift, POST.zero_point0, POST.multiplier0, POST.shift0,
    POST.zero_point1, POST.multiplier1, POST.shift1, POST.y_weight, POST.x_weight,
)  # fmt: skip
"""All that the contributions of taps depend on."""


class Scratch(NamedTuple):
    """Working arrays of `execute`, large enough for every POST of a program.

    Parameters
    ----------
    records : int32 array, shape (3, channels)
        Bias, multiplier and shift of every byte of the words that are written; words padded to whole panels.
    scales : float32 array, shape (channels,)
        The multiplier and shift of mode `fp32` as a number.
    operands : int32 array, shape (4, 256)
        `_tabulate`'s result for `tabulated`.
    tabulated : int64 array
        The instruction that `operands` belong to.
    sums : int32 array, shape (max(SUMS, ox_count * bytes),)
    """

    records: npt.NDArray[np.int32]
    scales: npt.NDArray[np.float32]
    operands: npt.NDArray[np.int32]
    tabulated: npt.NDArray[np.int64]
    sums: npt.NDArray[np.int32]

    @classmethod
    def of(cls, table: npt.NDArray[np.int64], lanes: int) -> Scratch:
        """Scratch for the POST instructions in the decoded `table` of a machine with `lanes` post lanes."""
        width = -(-table[:, POST.group_count] * lanes // PANEL) * PANEL
        channels = int((table[:, POST.word_count] * width).max(initial=PANEL))
        sums = max(SUMS, int((table[:, POST.ox_count] * width).max(initial=1)))
        return cls(
            np.zeros((3, channels), np.int32), np.zeros(channels, np.float32), np.zeros((4, 256), np.int32),
            np.zeros(table.shape[1], np.int64), np.zeros(sums, np.int32),
        )  # fmt: skip


@kernel
def execute(row: Row, memories: Memories, scratch: Scratch, rows: int, lanes: int) -> bool:
    """Run a POST on a machine with `rows` bytes per SPAD word and `lanes` post lanes.

    Returns
    -------
    bool
        False, with memories unchanged, if a parameter record is not a multiplier and shift of the mode.
    """
    width, words = row[POST.group_count] * lanes, row[POST.word_count]
    padded = (width + PANEL - 1) // PANEL * PANEL
    for word in range(words):
        if not _read_records(row, memories.param, word, rows, lanes, width, word * padded, scratch):
            return False
    if row[POST.source] != _ACC and not _is_tabulated(row, scratch.tabulated):
        _tabulate(row, scratch.operands)
    sums, stride = flat(memories.acc), memories.acc.shape[1]
    if row[POST.source] != _ACC:
        sums = scratch.sums
    count, rows_count, pairs = row[POST.ox_count], row[POST.oy_count], _are_pairs(row)
    whole = row[POST.source] == _ACC or (pairs and count * rows_count * width <= SUMS)
    if whole and _is_one_row(row):
        count, rows_count = count * rows_count, 1
    for word in range(words):
        for oy in range(rows_count):
            first, step = 0, width
            if row[POST.source] == _ACC:
                first = (row[POST.src_address] + oy * row[POST.src_oy_stride]) * stride + word * rows
                step = row[POST.src_ox_stride] * stride
            elif pairs:
                _add_pairs(row, memories.spad, scratch.operands, word, oy, count, sums, width)
            else:
                _reduce(row, memories.spad, scratch.operands, word, oy, sums, width)
            _finish(row, sums, first, step, count, width, scratch, word * padded, memories, word, oy)
    return True


@kernel
def _is_one_row(row: Row) -> bool:
    """Whether rows of outputs follow each other in both memories as outputs of a row do."""
    source = row[POST.src_oy_stride] == row[POST.ox_count] * row[POST.src_ox_stride]
    return bool(source and row[POST.dst_oy_stride] == row[POST.ox_count] * row[POST.dst_ox_stride])


@kernel
def _read_records(
    row: Row, param: Any, word: int, rows: int, lanes: int, width: int, first: int, scratch: Scratch
) -> bool:
    """Bias, multiplier and shift of every written byte of `word`, from element `first` on; False if one is illegal."""
    shift_min = numerics.SHIFT_MIN_FP32 if row[POST.mode] == _FP32 else numerics.SHIFT_MIN_INTEGER
    legal = True
    for i in range(width):
        channel = index(row[POST.param_address] * lanes + (word * rows + i if row[POST.per_channel] else i % lanes))
        for field, start in enumerate((0, 4)):
            value = np.int64(0)
            for byte in range(4):
                value |= (np.int64(param[channel, start + byte]) & 255) << (8 * byte)
            scratch.records[field, index(first + i)] = wrap_int32(value)
        multiplier, shift = np.int64(scratch.records[1, index(first + i)]), np.int64(param[channel, 8])
        scratch.records[2, index(first + i)] = shift
        legal = legal and bool(multiplier >= 0 and shift_min <= shift <= numerics.SHIFT_MAX)
        if row[POST.mode] == _FP32:
            scratch.scales[index(first + i)] = scale_fp32(multiplier, shift)
            normal = multiplier >= numerics.MULTIPLIER_MIN and multiplier % numerics.FP32_MULTIPLIER_STEP == 0
            legal = legal and bool(multiplier == 0 or normal)
    return legal


@kernel
def _is_tabulated(row: Row, tabulated: Any) -> bool:
    """Whether the operands of the POST before serve this one; notes `row`."""
    same = True
    for field in _OPERAND_FIELDS:
        same &= tabulated[field] == row[field]
    for field in _OPERAND_FIELDS:
        tabulated[field] = row[field]
    return bool(same)


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
def _reduce(row: Row, spad: Any, operands: Any, word: int, oy: int, sums: Any, width: int) -> None:
    """Sum (of operands that are negated or weighted), maximum or product of the valid taps of a row of outputs."""
    reduce = row[POST.reduce]
    neutral = numerics.INT32_MIN if reduce == _MAX else 1 if reduce == _MUL else 0
    source = row[POST.src_address] + word * row[POST.src_word_stride] + oy * row[POST.src_oy_stride]
    for ox in range(row[POST.ox_count]):
        to = ox * width
        for i in range(width):
            sums[index(to + i)] = neutral
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
                            value = operands[operand, index(spad[at, index(i)])]
                            sums[index(to + i)] = max(sums[index(to + i)], value)
                    elif reduce == _MUL:
                        for i in range(width):
                            value = np.int64(operands[operand, index(spad[at, index(i)])])
                            sums[index(to + i)] = sums[index(to + i)] * value
                    else:
                        for i in range(width):
                            value = np.int64(operands[operand, index(spad[at, index(i)])])
                            sums[index(to + i)] = wrap_int32(sums[index(to + i)] + value)


@kernel
def _are_pairs(row: Row) -> bool:
    """Whether all outputs are sums of two taps that lie in the image: the first and the last do, as places grow."""
    sums = row[POST.source] != _ACC and (row[POST.reduce] == _SUM or row[POST.reduce] == _SUB)
    y, x = row[POST.y_start], row[POST.x_start]
    last_y = y + (row[POST.oy_count] - 1) * row[POST.y_step] + (row[POST.ky_count] - 1) * row[POST.y_dilation]
    last_x = x + (row[POST.ox_count] - 1) * row[POST.x_step] + (row[POST.kx_count] - 1) * row[POST.x_dilation]
    inside = y >= 0 and x >= 0 and last_y < row[POST.height] and last_x < row[POST.width]
    return bool(sums and inside and row[POST.ky_count] * row[POST.kx_count] == 2)


@kernel
def _add_pairs(row: Row, spad: Any, operands: Any, word: int, oy: int, count: int, sums: Any, width: int) -> None:
    """Sums modulo 2**32 of the pairs of a row of `count` outputs; whole words that follow each other are one run."""
    source = row[POST.src_address] + word * row[POST.src_word_stride] + oy * row[POST.src_oy_stride]
    apart = row[POST.src_ky_stride] if row[POST.ky_count] == 2 else row[POST.src_kx_stride]
    all_bytes, step, run, runs = flat(spad), row[POST.src_ox_stride] * spad.shape[1], width, count
    if step == width:
        run, runs = run * runs, 1
    for i in range(runs):
        left = source * spad.shape[1] + i * step
        right, to = left + apart * spad.shape[1], i * run
        for j in range(run):
            value = np.int64(operands[0, index(all_bytes[index(left + j)])])
            sums[index(to + j)] = value + np.int64(operands[1, index(all_bytes[index(right + j)])])


@kernel
def _finish(
    row: Row, sums: Any, first: int, step: int, count: int, width: int, scratch: Scratch, records: int,
    memories: Memories, word: int, oy: int,
) -> None:  # fmt: skip
    """Add the bias, requantize, add the zero point, clamp, look up and write a row of `count` outputs.

    Output ox has its `width` sums from element ``first + ox * step`` on; its records begin at element `records`.
    """
    spad = memories.spad
    target = row[POST.dst_address] + word * row[POST.dst_word_stride] + oy * row[POST.dst_oy_stride]
    bytes_, bytes_step = target * spad.shape[1] + row[POST.dst_byte], row[POST.dst_ox_stride] * spad.shape[1]
    for channel in range(0, width, PANEL):
        at = channel + records
        if width - channel < PANEL:
            _finish_lanes(row, sums, first + channel, step, count, width - channel, scratch, at, spad, bytes_ + channel)
        else:
            _finish_panel(row, sums, first + channel, step, count, scratch, at, spad, bytes_ + channel, bytes_step)
    if row[POST.table] > 0:
        for ox in range(count if row[POST.dst_ox_stride] else 1):
            _look_up(row[POST.table], memories, index(target + ox * row[POST.dst_ox_stride]), row[POST.dst_byte], width)


@kernel
def _finish_lanes(
    row: Row, sums: Any, first: int, step: int, count: int, lanes: int, scratch: Scratch, at: int, spad: Any,
    bytes_: int,
) -> None:  # fmt: skip
    """The end of POST up to the clamp for `lanes` channels of a row of outputs, written from byte `bytes_` on."""
    records, all_bytes, zero_point = scratch.records, flat(spad), row[POST.zero_point]
    low, high = row[POST.act_min], row[POST.act_max]
    for ox in range(count):
        source, target = first + ox * step, bytes_ + ox * row[POST.dst_ox_stride] * spad.shape[1]
        for i in range(lanes):
            total = wrap_int32(np.int64(sums[source + i]) + np.int64(records[0, at + i]))
            multiplier, shift = np.int64(records[1, at + i]), np.int64(records[2, at + i])
            if row[POST.mode] == _TFLITE:
                value = requantize_tflite(total, multiplier, shift)
            elif row[POST.mode] == _SINGLE:
                value = requantize_single(total, multiplier, shift)
            else:
                value = multiply_fp32(total, scratch.scales[at + i])
            all_bytes[target + i] = min(max(value + zero_point, low), high) + OFFSET


@kernel
def _finish_panel_plain(
    row: Row, sums: Any, first: int, step: int, count: int, scratch: Scratch, at: int, spad: Any, bytes_: int,
    bytes_step: int,
) -> None:  # fmt: skip
    """`_finish_lanes` for `PANEL` channels."""
    _finish_lanes(row, sums, first, step, count, PANEL, scratch, at, spad, bytes_)


@kernel
def _finish_panel_vectors(
    row: Row, sums: Any, first: int, step: int, count: int, scratch: Scratch, at: int, spad: Any, bytes_: int,
    bytes_step: int,
) -> None:  # fmt: skip
    records, bias = scratch.records, scratch.records.ctypes.data + 4 * at
    multiplier, shift = bias + 4 * records.shape[1], bias + 8 * records.shape[1]
    source, target = sums.ctypes.data + 4 * first, spad.ctypes.data + bytes_
    scale, zero_point, low, high = (
        scratch.scales.ctypes.data + 4 * at,
        row[POST.zero_point],
        row[POST.act_min],
        row[POST.act_max],
    )
    if row[POST.mode] == _TFLITE:
        finish_tflite(
            source, 4 * step, count, bias, multiplier, shift, scale, zero_point, low, high, target, bytes_step
        )
    elif row[POST.mode] == _SINGLE:
        finish_single(
            source, 4 * step, count, bias, multiplier, shift, scale, zero_point, low, high, target, bytes_step
        )
    else:
        finish_fp32(source, 4 * step, count, bias, multiplier, shift, scale, zero_point, low, high, target, bytes_step)


_finish_panel = _finish_panel_plain if DISABLED else _finish_panel_vectors


@kernel
def _look_up(table: int, memories: Memories, word: Any, byte: int, width: int) -> None:
    """Replace `width` bytes of a scratchpad word by their entries of a table."""
    spad, first = memories.spad, (table - 1) * TABLE_ENTRIES
    for i in range(byte, byte + width):
        spad[word, index(i)] = memories.table[index(first + spad[word, index(i)]), 0]
