"""Which words, bytes and records an instruction uses, counted from its addresses on.

Every address pattern of the machine is a sum of independent loop offsets, and the validity of a window's taps is
separable in y and x. What is used is therefore a Minkowski sum of small offset sets, merged to intervals set by set. It
does not depend on addresses, so that instructions that differ in nothing else have the same parts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from accel.machine.config import TABLE_ENTRIES, ArchConfig
from accel.machine.isa import FIELDS, Opcode, Source
from accel.machine.memories import Space
from accel.machine.weight_words import tile_words
from compiler.schedule.intervals import Intervals, spread

Fields: TypeAlias = Mapping[str, int]
Offsets: TypeAlias = npt.NDArray[np.int64]


class Access(IntEnum):
    """Kinds of access, and the ports of a bank."""

    READ = 0
    WRITE = 1


@dataclass(frozen=True, eq=False)
class Part:
    """Words of one space that an instruction uses in one way.

    Parameters
    ----------
    space : Space
    access : Access
    field : str
        The field that error messages name.
    intervals : Intervals
        Counted from the address in `field` on, if that is one of `ADDRESSES`; at least one.
    address_words : int
        Words that an address counts.
    """

    space: Space
    access: Access
    field: str
    intervals: Intervals
    address_words: int = 1


ADDRESSES = {
    *("dram_address", "address", "spad_address", "wbuf_address", "tap_address"),
    *("acc_address", "src_address", "dst_address", "param_address"),
}
"""Fields that say where words begin, but not how many they are or how they lie."""

SHAPE_FIELDS = {
    opcode: tuple(f.name for f in fields if f.name not in ADDRESSES | {"opcode", "wait", "signal"})
    for opcode, fields in FIELDS.items()
}
"""All others but those that say what is to be done and when."""


@lru_cache(maxsize=1 << 13)
def parts_of(config: ArchConfig, opcode: Opcode, shape: tuple[int, ...]) -> tuple[Part, ...]:
    """What instructions use whose `SHAPE_FIELDS` have these values; DRAM in bytes, PARAM in channel records."""
    parts = _PARTS[opcode](config, dict(zip(SHAPE_FIELDS[opcode], shape, strict=True)))
    return tuple(part for part in parts if len(part.intervals))


def _load(config: ArchConfig, i: Fields) -> Iterator[Part]:
    yield Part(Space(i["memory"]), Access.WRITE, "address", _rows(i))
    yield Part(Space.DRAM, Access.READ, "dram_address", _dram_rows(i, i["row_bytes"]))


def _store(config: ArchConfig, i: Fields) -> Iterator[Part]:
    yield Part(Space.SPAD, Access.READ, "address", _rows(i))
    yield Part(Space.DRAM, Access.WRITE, "dram_address", _dram_rows(i, i["row_words"] * i["word_bytes"]))


def _exec(config: ArchConfig, i: Fields) -> Iterator[Part]:
    words = i["chunk_count"] * i["ky_count"] * i["kx_count"] * tile_words(i["k_rows"], i["int4"])
    yield Part(Space.WBUF, Access.READ, "wbuf_address", _run(words))
    yield from _sums(i, _offsets(i["chunk_count"], i["chunk_stride"]))


def _depthwise(config: ArchConfig, i: Fields) -> Iterator[Part]:
    yield Part(Space.TAPS, Access.READ, "tap_address", _run(i["ky_count"] * i["kx_count"]))
    yield from _sums(i)


def _sums(i: Fields, *chunks: Offsets) -> Iterator[Part]:
    """Windows over the scratchpad, whose sums go to the accumulators."""
    sums = _run(i["oy_count"] * i["ox_count"])
    yield Part(Space.ACC, Access.READ, "acc_address", sums)
    yield Part(Space.SPAD, Access.READ, "spad_address", _sum(_run(1), _axis(i, "", "x"), _axis(i, "", "y"), *chunks))
    yield Part(Space.ACC, Access.WRITE, "acc_address", sums)


def _post(config: ArchConfig, i: Fields) -> Iterator[Part]:
    if i["source"] == Source.ACC:
        axes = _offsets(i["ox_count"], i["src_ox_stride"]), _offsets(i["oy_count"], i["src_oy_stride"])
        yield Part(Space.ACC, Access.READ, "src_address", _sum(_run(1), *axes))
    else:
        words = _offsets(i["word_count"], i["src_word_stride"])
        source = _sum(_run(1), _axis(i, "src_", "x"), _axis(i, "src_", "y"), words)
        yield Part(Space.SPAD, Access.READ, "src_address", source)
    lanes = config.post_lanes
    groups, rows = (i["group_count"], i["word_count"]) if i["per_channel"] else (1, 1)
    records = _sum(_run(groups * lanes), _offsets(rows, config.rows))
    yield Part(Space.PARAM, Access.READ, "param_address", records, lanes)
    if i["table"]:
        first = (i["table"] - 1) * TABLE_ENTRIES
        yield Part(Space.TABLE, Access.READ, "table", first + _run(TABLE_ENTRIES))
    axes = _offsets(i["ox_count"], i["dst_ox_stride"]), _offsets(i["oy_count"], i["dst_oy_stride"])
    target = _sum(_run(1), *axes, _offsets(i["word_count"], i["dst_word_stride"]))
    yield Part(Space.SPAD, Access.WRITE, "dst_address", target)


_PARTS: Mapping[Opcode, Callable[[ArchConfig, Fields], Iterator[Part]]] = {
    Opcode.LOAD: _load,
    Opcode.EXEC: _exec,
    Opcode.POST: _post,
    Opcode.STORE: _store,
    Opcode.DEPTHWISE: _depthwise,
}


def _rows(i: Fields) -> Intervals:
    """On-chip side of LOAD and STORE."""
    rows, outer = _offsets(i["row_count"], i["row_stride"]), _offsets(i["outer_count"], i["outer_stride"])
    return _sum(_run(i["row_words"]), rows, outer)


def _dram_rows(i: Fields, row_bytes: int) -> Intervals:
    """External side of LOAD and STORE."""
    rows = _offsets(i["row_count"], i["dram_row_stride"])
    return _sum(_run(row_bytes), rows, _offsets(i["outer_count"], i["dram_outer_stride"]))


def _axis(i: Fields, prefix: str, axis: str) -> Offsets:
    """Offsets along one axis of a window, for the pairs of output and tap whose position exists."""
    return _valid_offsets(
        i[f"{axis}_start"], i["height" if axis == "y" else "width"],
        (i[f"o{axis}_count"], i[f"{axis}_step"], i[f"{prefix}o{axis}_stride"]),
        (i[f"k{axis}_count"], i[f"{axis}_dilation"], i[f"{prefix}k{axis}_stride"]),
    )  # fmt: skip


@lru_cache(maxsize=1024)
def _valid_offsets(start: int, size: int, output: tuple[int, int, int], tap: tuple[int, int, int]) -> Offsets:
    """Sorted; `output` and `tap` are (count, position step, address stride). Cached: tiles of a layer share windows."""
    outputs, taps = np.arange(output[0]), np.arange(tap[0])[:, None]
    position = start + outputs * output[1] + taps * tap[1]
    offset = outputs * output[2] + taps * tap[2]
    offsets = np.unique(offset[(position >= 0) & (position < size)])
    offsets.setflags(write=False)
    return offsets


def _run(length: int) -> Intervals:
    return np.array([[0, length]], np.int64)


def _offsets(count: int, stride: int) -> Offsets:
    return np.arange(count, dtype=np.int64) * stride


def _sum(run: Intervals, *axes: Offsets) -> Intervals:
    """Minkowski sum of intervals and sets of offsets; empty if one of the sets is."""
    if not all(len(axis) for axis in axes):
        return np.zeros((0, 2), np.int64)
    for axis in axes:
        run = spread(run, axis)
    return run
