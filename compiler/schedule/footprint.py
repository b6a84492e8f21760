"""Footprints: exactly which words, bytes and bank ports an instruction uses, derived from its fields alone.

Every address pattern of the machine is a sum of independent loop offsets, and the validity of a window's taps is
separable in y and x. A footprint is therefore a Minkowski sum of small offset sets, merged to intervals set by set;
its extremes are the sums of the sets' extremes, so that bounds are known before anything is enumerated.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from functools import lru_cache
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from accel.errors import ProgramError
from accel.machine.config import TABLE_ENTRIES, ArchConfig
from accel.machine.isa import Instruction, Opcode, Source
from accel.machine.memories import BANKED, Space, memories, space_words
from accel.machine.rules.ranges import outside
from accel.machine.weight_words import tile_words

Intervals: TypeAlias = npt.NDArray[np.int64]
"""Half-open intervals [start, stop), shape (n, 2), sorted, disjoint and not adjacent."""


class Access(IntEnum):
    """Kinds of access, and the ports of a bank."""

    READ = 0
    WRITE = 1


@dataclass(frozen=True)
class Footprint:
    """Words, bytes and ports of one instruction; spaces that it does not use are absent.

    Parameters
    ----------
    reads, writes : mapping of Space to Intervals
        Words of SPAD, WBUF, TAPS, TABLE and ACC, channel records of PARAM, bytes of DRAM.
    ports : mapping of (Space, Access) to int
        Bit b: this port of bank b is used. SPAD and ACC only; each port of the others has a single user.
    """

    reads: Mapping[Space, Intervals] = field(default_factory=dict)
    writes: Mapping[Space, Intervals] = field(default_factory=dict)
    ports: Mapping[tuple[Space, Access], int] = field(default_factory=dict)


def footprint(config: ArchConfig, instruction: Instruction) -> Footprint:
    """Words, bytes and ports that `instruction` uses on the machine `config`.

    EXEC and POST touch the scratchpad for valid taps only; the row stream of a DEPTHWISE, whose steps
    `accel.machine.rules` checks, reads those words too and no other. EXEC and DEPTHWISE always read the accumulators
    that they write.

    Raises
    ------
    ProgramError
        An address lies outside of its memory; the message names the field to change and the range that was computed.
    """
    reads, writes = _TOUCH[instruction.opcode](config, instruction)
    reads = {space: intervals for space, intervals in reads.items() if len(intervals)}
    ports: dict[tuple[Space, Access], int] = {}
    for access, touched in ((Access.READ, reads), (Access.WRITE, writes)):
        for space in touched:
            if space in BANKED:
                ports[space, access] = _banks(touched[space], memories(config)[space].bank_words)
    return Footprint(reads, writes, ports)


def merge(intervals: npt.NDArray[np.int64]) -> Intervals:
    """Sort intervals of shape (n, 2) and unite those that overlap or touch."""
    if len(intervals) < 2:
        return intervals
    starts, stops = intervals[np.argsort(intervals[:, 0], kind="stable")].T
    reach = np.maximum.accumulate(stops)
    gaps = np.flatnonzero(starts[1:] > reach[:-1])
    merged = np.empty((len(gaps) + 1, 2), np.int64)
    merged[0, 0], merged[1:, 0] = starts[0], starts[gaps + 1]
    merged[:-1, 1], merged[-1, 1] = reach[gaps], reach[-1]
    return merged


def overlap(a: Intervals, b: Intervals) -> tuple[int, int] | None:
    """First common interval of two sets of disjoint ascending intervals."""
    if not len(a) or not len(b):
        return None
    partner = np.minimum(np.searchsorted(b[:, 1], a[:, 0], side="right"), len(b) - 1)
    start, stop = np.maximum(a[:, 0], b[partner, 0]), np.minimum(a[:, 1], b[partner, 1])
    common = start < stop
    at = int(np.argmax(common))
    return (int(start[at]), int(stop[at])) if common[at] else None


_Touched: TypeAlias = dict[Space, Intervals]


def _touch_load(config: ArchConfig, i: Instruction) -> tuple[_Touched, _Touched]:
    target = Space(i["memory"])
    words = _rows(config, i, target)
    return {Space.DRAM: _dram_rows(config, i, i["row_bytes"])}, {target: words}


def _touch_exec(config: ArchConfig, i: Instruction) -> tuple[_Touched, _Touched]:
    words = i["chunk_count"] * i["ky_count"] * i["kx_count"] * tile_words(i["k_rows"], i["int4"])
    wbuf = _place(config, i, Space.WBUF, "wbuf_address", i["wbuf_address"], _run(words))
    return _touch_sums(config, i, {Space.WBUF: wbuf}, _offsets(i["chunk_count"], i["chunk_stride"]))


def _touch_depthwise(config: ArchConfig, i: Instruction) -> tuple[_Touched, _Touched]:
    taps = _place(config, i, Space.TAPS, "tap_address", i["tap_address"], _run(i["ky_count"] * i["kx_count"]))
    return _touch_sums(config, i, {Space.TAPS: taps})


def _touch_sums(
    config: ArchConfig, i: Instruction, weights: _Touched, *chunks: npt.NDArray[np.int64]
) -> tuple[_Touched, _Touched]:
    """Windows over the scratchpad, whose sums go to the accumulators."""
    acc = _place(config, i, Space.ACC, "acc_address", i["acc_address"], _run(i["oy_count"] * i["ox_count"]))
    spad = _place(
        config, i, Space.SPAD, "spad_address", i["spad_address"], _run(1), _axis(i, "", "x"), _axis(i, "", "y"), *chunks
    )
    return {Space.SPAD: spad, **weights, Space.ACC: acc}, {Space.ACC: acc}


def _touch_post(config: ArchConfig, i: Instruction) -> tuple[_Touched, _Touched]:
    if i["source"] == Source.ACC:
        source = _place(
            config, i, Space.ACC, "src_address", i["src_address"], _run(1),
            _offsets(i["ox_count"], i["src_ox_stride"]), _offsets(i["oy_count"], i["src_oy_stride"]),
        )  # fmt: skip
        reads = {Space.ACC: source}
    else:
        source = _place(
            config, i, Space.SPAD, "src_address", i["src_address"], _run(1), _axis(i, "src_", "x"),
            _axis(i, "src_", "y"), _offsets(i["word_count"], i["src_word_stride"]),
        )  # fmt: skip
        reads = {Space.SPAD: source}
    lanes = config.post_lanes
    groups, rows = (i["group_count"], i["word_count"]) if i["per_channel"] else (1, 1)
    reads[Space.PARAM] = _place(
        config, i, Space.PARAM, "param_address", i["param_address"] * lanes, _run(groups * lanes),
        _offsets(rows, config.rows),
    )  # fmt: skip
    if i["table"]:
        first = (i["table"] - 1) * TABLE_ENTRIES
        reads[Space.TABLE] = _place(config, i, Space.TABLE, "table", first, _run(TABLE_ENTRIES))
    target = _place(
        config, i, Space.SPAD, "dst_address", i["dst_address"], _run(1), _offsets(i["ox_count"], i["dst_ox_stride"]),
        _offsets(i["oy_count"], i["dst_oy_stride"]), _offsets(i["word_count"], i["dst_word_stride"]),
    )  # fmt: skip
    return reads, {Space.SPAD: target}


def _touch_store(config: ArchConfig, i: Instruction) -> tuple[_Touched, _Touched]:
    words = _rows(config, i, Space.SPAD)
    return {Space.SPAD: words}, {Space.DRAM: _dram_rows(config, i, i["row_words"] * i["word_bytes"])}


_TOUCH = {
    Opcode.LOAD: _touch_load,
    Opcode.EXEC: _touch_exec,
    Opcode.POST: _touch_post,
    Opcode.STORE: _touch_store,
    Opcode.DEPTHWISE: _touch_depthwise,
}


def _rows(config: ArchConfig, i: Instruction, space: Space) -> Intervals:
    """On-chip side of LOAD and STORE."""
    return _place(
        config, i, space, "address", i["address"], _run(i["row_words"]),
        _offsets(i["row_count"], i["row_stride"]), _offsets(i["outer_count"], i["outer_stride"]),
    )  # fmt: skip


def _dram_rows(config: ArchConfig, i: Instruction, row_bytes: int) -> Intervals:
    """External side of LOAD and STORE."""
    return _place(
        config, i, Space.DRAM, "dram_address", i["dram_address"], _run(row_bytes),
        _offsets(i["row_count"], i["dram_row_stride"]), _offsets(i["outer_count"], i["dram_outer_stride"]),
    )  # fmt: skip


def _axis(i: Instruction, prefix: str, axis: str) -> npt.NDArray[np.int64]:
    """Offsets along one axis of a window, for the pairs of output and tap whose position exists."""
    return _valid_offsets(
        i[f"{axis}_start"], i["height" if axis == "y" else "width"],
        (i[f"o{axis}_count"], i[f"{axis}_step"], i[f"{prefix}o{axis}_stride"]),
        (i[f"k{axis}_count"], i[f"{axis}_dilation"], i[f"{prefix}k{axis}_stride"]),
    )  # fmt: skip


@lru_cache(maxsize=1024)
def _valid_offsets(
    start: int, size: int, output: tuple[int, int, int], tap: tuple[int, int, int]
) -> npt.NDArray[np.int64]:
    """Sorted; `output` and `tap` are (count, position step, address stride). Cached: tiles of a layer share windows."""
    outputs, taps = np.arange(output[0]), np.arange(tap[0])[:, None]
    position = start + outputs * output[1] + taps * tap[1]
    offset = outputs * output[2] + taps * tap[2]
    offsets = np.unique(offset[(position >= 0) & (position < size)])
    offsets.setflags(write=False)
    return offsets


def _run(length: int) -> Intervals:
    return np.array([[0, length]], np.int64)


def _offsets(count: int, stride: int) -> npt.NDArray[np.int64]:
    return np.arange(count, dtype=np.int64) * stride


def _place(
    config: ArchConfig, i: Instruction, space: Space, name: str, base: int, run: Intervals,
    *axes: npt.NDArray[np.int64],
) -> Intervals:  # fmt: skip
    """Minkowski sum of `base`, the intervals `run` and the offset sets `axes`, proven to lie inside of `space`."""
    if not len(run) or not all(len(axis) for axis in axes):
        return np.zeros((0, 2), np.int64)
    low = base + int(run[0, 0]) + sum(int(axis.min()) for axis in axes)
    high = base + int(run[-1, 1]) + sum(int(axis.max()) for axis in axes)
    size = space_words(config, space)
    if low < 0 or high > size:
        raise ProgramError(f"{i.opcode.name} {outside(name, space, size, low, high - 1)}")
    intervals = run + base
    for axis in axes:
        intervals = _spread(intervals, axis)
    return intervals


def _spread(intervals: Intervals, offsets: npt.NDArray[np.int64]) -> Intervals:
    """Union of `intervals` at all `offsets`."""
    if len(offsets) == 1:
        return np.asarray(intervals + offsets)
    if len(intervals) == 1 and np.abs(np.diff(offsets)).max() <= intervals[0, 1] - intervals[0, 0]:
        return np.asarray(intervals + np.array([offsets.min(), offsets.max()]))
    return merge((intervals[None] + offsets[:, None, None]).reshape(-1, 2))


def _banks(intervals: Intervals, bank_words: int) -> int:
    """Bit b: some interval touches bank b."""
    first, last = intervals[:, 0] // bank_words, (intervals[:, 1] - 1) // bank_words
    if len(intervals) == 1 or first[0] == last[-1]:
        return (2 << int(last[-1])) - (1 << int(first[0]))
    length = int(last[-1]) + 2
    used = np.cumsum(np.bincount(first, minlength=length) - np.bincount(last + 1, minlength=length))
    return sum(1 << int(bank) for bank in np.flatnonzero(used))
