"""The rule of a POST that overwrites what it reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from accel.machine.config import ArchConfig
from accel.machine.isa import Source
from accel.machine.rules.post import read, written
from accel.machine.rules.rows import Broken, Column, Mask, Rows


def late_reads(config: ArchConfig, rows: Rows) -> Iterator[Broken]:
    """The first POST that reads a word for a later output than the first that writes it; all addresses must exist.

    The write follows the read by the pipeline's latency, so that a later read would see the old word or the new one
    depending on that latency. With several groups per word, group g must write the bytes that it alone reads.
    """
    rows = rows.where(rows["source"] == Source.SPAD)
    rows = rows.where(read(rows).overlaps(written(rows)))
    outputs = rows.product("word_count", "oy_count", "ox_count")
    yield from rows.most("outputs (word_count * oy_count * ox_count) in place", outputs, config.spad_words)
    for i in np.flatnonzero(outputs <= config.spad_words).tolist():
        word = _late_read(config, rows.fields(i))
        if word is not None:
            yield rows.broken(
                i,
                f"must not read SPAD word {word} for the output that writes it or later; "
                "use another dst_address or split the instruction",
            )
            return


def _late_read(config: ArchConfig, post: Mapping[str, int]) -> int | None:
    """A word that one POST reads too late."""
    shape = post["word_count"], post["oy_count"], post["ox_count"]
    output = np.arange(np.prod(shape)).reshape(shape)
    first_write = np.full(config.spad_words, output.size)
    np.minimum.at(first_write, _addresses(post, "dst"), output)
    source = _addresses(post, "src")
    groups_disturb = post["dst_byte"] > 0 and post["group_count"] > 1
    for ky, kx in np.ndindex(post["ky_count"], post["kx_count"]):
        y, x = _exists(post, "y", ky, post["height"]), _exists(post, "x", kx, post["width"])
        words = source[:, y][:, :, x] + (ky * post["src_ky_stride"] + kx * post["src_kx_stride"])
        late = output[:, y][:, :, x] > first_write[words] - groups_disturb
        if late.any():
            return int(words[late][0])
    return None


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
