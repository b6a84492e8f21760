"""The rule of a POST that overwrites what it reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np

from accel.machine.config import ArchConfig
from accel.machine.isa import Source
from accel.machine.rules.post import read, written
from accel.machine.rules.ranges import loop, run
from accel.machine.rules.rows import Broken, Column, Mask, Rows

_FIELDS = (
    "word_count", "oy_count", "ox_count", "group_count", "dst_byte", "src_word_stride", "src_oy_stride",
    "src_ox_stride", "dst_word_stride", "dst_oy_stride", "dst_ox_stride", "y_start", "y_step", "y_dilation", "height",
    "x_start", "x_step", "x_dilation", "width",
)  # fmt: skip
"""What decides whether a POST reads too late under a tap, besides the distance from its words to those written."""


class _Tap(NamedTuple):
    """A tap of the i-th instruction."""

    instruction: int
    ky: int
    kx: int


IN_PLACE = "no SPAD word is read for a later output than the first that writes it"


def late_reads(config: ArchConfig, rows: Rows) -> Iterator[Broken]:
    """The first POST that reads a word for a later output than the first that writes it; all addresses must exist.

    The write follows the read by the pipeline's latency, so that a later read would see the old word or the new one
    depending on that latency. With several groups per word, group g must write the bytes that it alone reads.
    """
    rows = rows.where(rows["source"] == Source.SPAD)
    rows = rows.where(read(rows).overlaps(written(rows)))
    outputs = rows.product("word_count", "oy_count", "ox_count")
    yield from rows.most("outputs (word_count * oy_count * ox_count) in place", outputs, config.spad_words)
    rows = rows.where(outputs <= config.spad_words)
    for tap in sorted(_near_taps(rows)):
        word = _late_read(config, rows.fields(tap.instruction), tap)
        if word is not None:
            yield rows.broken(
                tap.instruction,
                IN_PLACE,
                f"must not read SPAD word {word} for the output that writes it or later; "
                "use another dst_address or split the instruction",
            )
            return


def _near_taps(rows: Rows) -> Iterator[_Tap]:
    """Taps whose words may be among those written; of instructions alike in all that matters the first."""
    for ky, kx in np.ndindex(int(rows["ky_count"].max(initial=0)), int(rows["kx_count"].max(initial=0))):
        chosen = (rows["ky_count"] > ky) & (rows["kx_count"] > kx)
        at, some = np.flatnonzero(chosen), rows.where(chosen)
        address = some["src_address"] + ky * some["src_ky_stride"] + kx * some["src_kx_stride"]
        words = run(address, 1) + loop(some, "word_count", "src_word_stride")
        words += loop(some, "oy_count", "src_oy_stride") + loop(some, "ox_count", "src_ox_stride")
        near = np.flatnonzero(words.overlaps(written(some)))
        alike = np.stack([some["dst_address"] - address, *(some[field] for field in _FIELDS)], axis=1)[near]
        _, first = np.unique(alike, axis=0, return_index=True)
        yield from (_Tap(int(i), ky, kx) for i in at[near[first]])


def _late_read(config: ArchConfig, post: Mapping[str, int], tap: _Tap) -> int | None:
    """A word that one POST reads too late under a tap."""
    shape = post["word_count"], post["oy_count"], post["ox_count"]
    output = np.arange(np.prod(shape)).reshape(shape)
    first_write = np.full(config.spad_words, output.size)
    np.minimum.at(first_write, _addresses(post, "dst"), output)
    groups_disturb = post["dst_byte"] > 0 and post["group_count"] > 1
    y, x = _exists(post, "y", tap.ky, post["height"]), _exists(post, "x", tap.kx, post["width"])
    source = _addresses(post, "src")[:, y][:, :, x]
    words = source + (tap.ky * post["src_ky_stride"] + tap.kx * post["src_kx_stride"])
    late = output[:, y][:, :, x] > first_write[words] - groups_disturb
    return int(words[late][0]) if late.any() else None


def _addresses(post: Mapping[str, int], side: str) -> Column:
    """Words of all outputs, shape (word_count, oy_count, ox_count), on the side "src" (of tap (0, 0)) or "dst"."""
    loops = ("word", "oy", "ox")
    word, oy, ox = (np.arange(post[f"{loop}_count"]) * post[f"{side}_{loop}_stride"] for loop in loops)
    return np.asarray(post[f"{side}_address"] + word[:, None, None] + oy[:, None] + ox)


def _exists(post: Mapping[str, int], axis: str, tap: int, size: int) -> Mask:
    """Which outputs along an axis see a position that exists under a tap."""
    outputs = np.arange(post[f"o{axis}_count"])
    position = post[f"{axis}_start"] + outputs * post[f"{axis}_step"] + tap * post[f"{axis}_dilation"]
    return np.asarray((position >= 0) & (position < size))
