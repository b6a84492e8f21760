"""Rules of POST."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import reduce
from operator import or_

import numpy as np

from accel.machine.config import TABLES, ArchConfig
from accel.machine.isa import Reduce, Source
from accel.machine.memories import Space, memories
from accel.machine.numerics import (
    FP32_MULTIPLIER_STEP,
    INTERPOLATION_ONE,
    MULTIPLIER_MAX,
    MULTIPLIER_MIN,
    OPERAND_SHIFT_MAX,
    SHIFT_MAX,
    SHIFT_MIN_INTEGER,
    RequantMode,
)
from accel.machine.rules.ranges import Range, inside, loop, run, window
from accel.machine.rules.rows import Broken, Column, Mask, Rows

_OPERANDS = (("multiplier0", "shift0"), ("multiplier1", "shift1"))
_INTERPOLATION_LIMITS = (
    ("ky_count", 2),
    ("kx_count", 2),
    ("y_weight", INTERPOLATION_ONE),
    ("x_weight", INTERPOLATION_ONE),
)


def post_fields(config: ArchConfig, rows: Rows) -> Iterator[Broken]:
    """Rules of POST on single fields and small sums."""
    mode, width = rows["mode"], rows["group_count"] * config.post_lanes
    built = [mode == RequantMode(name).code for name in config.requant_modes]
    names = dict(enumerate(RequantMode))
    yield from rows.refuse(
        ~reduce(or_, built),
        "mode is one that the machine has",
        lambda i: f"mode must be one of {', '.join(config.requant_modes)}, got {names.get(mode[i], mode[i])}",
    )
    yield from rows.most("reduce", rows["reduce"], max(Reduce))
    yield from rows.most("table", rows["table"], TABLES)
    yield from rows.most("dst_byte + group_count * post_lanes", rows["dst_byte"] + width, config.rows)
    yield from rows.most("act_min (with act_max as the limit)", rows["act_min"], rows["act_max"])
    yield from _acc_fields(config, rows.where(rows["source"] == Source.ACC))
    yield from _spad_fields(rows.where(rows["source"] == Source.SPAD))


def post_uses(config: ArchConfig, rows: Rows) -> Iterator[Broken]:
    """Rules of POST on the words that it uses, without that of `accel.machine.rules.in_place`."""
    memory, width = memories(config), rows["group_count"] * config.post_lanes
    used = np.where(rows["per_channel"] == 1, (rows["word_count"] - 1) * config.rows + width, config.post_lanes)
    records = run(rows["param_address"] * config.post_lanes, used)
    yield from inside(rows, "param_address", Space.PARAM, memory[Space.PARAM].words, records)
    yield from inside(rows, "dst_address", Space.SPAD, memory[Space.SPAD].words, written(rows))
    sums = rows.where(rows["source"] == Source.ACC)
    pixels = loop(sums, "oy_count", "src_oy_stride") + loop(sums, "ox_count", "src_ox_stride")
    words = run(sums["src_address"], 1) + pixels
    yield from inside(sums, "src_address", Space.ACC, memory[Space.ACC].words, words)
    taps = rows.where(rows["source"] == Source.SPAD)
    yield from inside(taps, "src_address", Space.SPAD, memory[Space.SPAD].words, read(taps))


def written(rows: Rows) -> Range:
    """Scratchpad words that are written."""
    pixels = loop(rows, "oy_count", "dst_oy_stride") + loop(rows, "ox_count", "dst_ox_stride")
    return run(rows["dst_address"], 1) + loop(rows, "word_count", "dst_word_stride") + pixels


def read(rows: Rows) -> Range:
    """Scratchpad words that are read, with source SPAD."""
    return run(rows["src_address"], 1) + loop(rows, "word_count", "src_word_stride") + window(rows, "src_")


def _acc_fields(config: ArchConfig, rows: Rows) -> Iterator[Broken]:
    """Source ACC."""
    ky, kx = rows["ky_count"], rows["kx_count"]
    yield from rows.refuse(
        (ky > 1) | (kx > 1),
        "source ACC has one tap",
        lambda i: f"ky_count * kx_count of source ACC must be at most 1, got {ky[i] * kx[i]}",
    )
    # One word more on both sides, so that a cycle of the machine holds a sum and a comparison, and no difference.
    what, words = "accumulator columns (word_count, group_count)", rows["word_count"] * config.rows
    columns = words + rows["group_count"] * config.post_lanes
    yield from rows.refuse(
        columns > config.cols + config.rows,
        f"{what} has a limit",
        lambda i: f"{what} must be at most {config.cols}, got {columns[i] - config.rows}",
    )


def _spad_fields(rows: Rows) -> Iterator[Broken]:
    """Source SPAD."""
    yield from rows.most("left_shift", rows["left_shift"], OPERAND_SHIFT_MAX)
    mixes = rows["reduce"] == Reduce.INTERPOLATE
    yield from _interpolation_rules(rows.where(mixes))
    yield from _multiplier_rules(rows.where(~mixes))
    yield from _product_rules(rows.where(rows["reduce"] == Reduce.MUL))


def _interpolation_rules(rows: Rows) -> Iterator[Broken]:
    """At most two tap rows and columns, whose weights stand in for multipliers."""
    yield from rows.refuse(
        rows["mode"] == RequantMode.FP32.code,
        "mode is tflite or single for an interpolation",
        lambda i: "mode must be tflite or single for an interpolation, got fp32",
    )
    for field, limit in _INTERPOLATION_LIMITS:
        yield from rows.most(f"{field} of an interpolation", rows[field], limit)
    for multiplier, shift in _OPERANDS:
        q, e = rows[multiplier], rows[shift]
        what = f"{multiplier} and {shift} must be 0 and in {SHIFT_MIN_INTEGER}..{SHIFT_MAX} for an interpolation"
        legal = (q == 0) & _within(e, SHIFT_MIN_INTEGER, SHIFT_MAX)
        yield from rows.refuse(
            ~legal, f"{multiplier} is 0 and {shift} in range for an interpolation", _but_got(what, q, e)
        )


def _multiplier_rules(rows: Rows) -> Iterator[Broken]:
    """Taps are rescaled by normalised multipliers, or dropped by a zero."""
    for mode in RequantMode:
        chosen, fp32 = rows.where(rows["mode"] == mode.code), mode is RequantMode.FP32
        for multiplier, shift in _OPERANDS if len(chosen) else ():
            q, e = chosen[multiplier], chosen[shift]
            legal = ((q >= MULTIPLIER_MIN) & _within(e, mode.shift_min, SHIFT_MAX)) | ((q == 0) & (e == 0))
            what = f"{multiplier} and {shift} must be 0 and 0, or in {MULTIPLIER_MIN}..{MULTIPLIER_MAX} and "
            yield from chosen.refuse(
                ~legal,
                f"{multiplier} and {shift} are those of mode {mode}",
                _but_got(f"{what}{mode.shift_min}..{SHIFT_MAX} for mode {mode}", q, e),
            )
            what = f"{multiplier} must be a multiple of {FP32_MULTIPLIER_STEP} for mode fp32"
            if fp32:
                odd = (q & (FP32_MULTIPLIER_STEP - 1)) != 0
                yield from chosen.refuse(odd, f"{multiplier} is what fp32 can hold", _but_got(what, q))


def _product_rules(rows: Rows) -> Iterator[Broken]:
    """At most two factors. Counts are at least 1, so that a sum of 3 tells it."""
    ky, kx = rows["ky_count"], rows["kx_count"]
    yield from rows.refuse(
        ky + kx > 3,
        "a product has at most two taps",
        lambda i: f"ky_count * kx_count of a product must be at most 2, got {ky[i] * kx[i]}",
    )


def _within(values: Column, low: int, high: int) -> Mask:
    return (values >= low) & (values <= high)


def _but_got(what: str, *columns: Column) -> Callable[[int], str]:
    """A function from an instruction to a sentence that ends with the values of some columns."""
    return lambda i: f"{what}, got {' and '.join(str(column[i]) for column in columns)}"
