"""Gathering bytes: any map from bytes of external memory to scratchpad words as few LOADs.

A LOAD has three loops: words of a row (neighbours in the scratchpad, at most `load_word_bytes` apart in memory), rows,
and outer iterations, which both have any strides. So bytes that are neighbours on both sides are joined to pieces of
words, and pieces to arithmetic progressions, three times.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from accel.machine.config import ArchConfig
from accel.machine.isa import FIELDS, Instruction, Memory, Opcode
from compiler.lower.geometry import Span
from compiler.lower.layers import FILL, SOURCE_SHIFT, MoveLayer

Ints = NDArray[np.int64]

_COUNT_MAX = next(field.maximum for field in FIELDS[Opcode.LOAD] if field.name == "row_count")
_STRIDE_MAX = next(field.maximum for field in FIELDS[Opcode.LOAD] if field.name == "row_stride")


class Gather:
    """LOADs and STOREs of a gather, for any part of its output.

    The output is seen as a line of words: chunk after chunk, pixel after pixel, as in external memory.

    Parameters
    ----------
    config : ArchConfig
    layer : MoveLayer
    sources : sequence of int
        Address of each source.
    fills : mapping of int to int
        Address of one byte that holds the value, for each value that occurs by itself.
    """

    def __init__(self, config: ArchConfig, layer: MoveLayer, sources: Sequence[int], fills: Mapping[int, int]) -> None:
        self._config, self._fills = config, fills
        locations = layer.locations
        bases = np.append(np.array(sources, np.int64), 0)
        offsets = locations & (1 << SOURCE_SHIFT) - 1
        addresses = np.where(locations < 0, locations, bases[locations >> SOURCE_SHIFT] + offsets)
        height, width, channels = layer.output_shape
        full = channels // config.rows
        whole = addresses[:, :, : full * config.rows].reshape(height * width, full, config.rows)
        self._whole = whole.transpose(1, 0, 2).reshape(-1, config.rows)
        self._rest = addresses[:, :, full * config.rows :].reshape(height * width, -1)

    def parts(self, words: int) -> Iterator[Span]:
        """Spans of at most `words` words, all of one width."""
        whole = len(self._whole)
        total = whole + (len(self._rest) if self._rest.size else 0)
        for first, last in ((0, whole), (whole, total)):
            for start in range(first, last, words):
                yield Span(start, min(start + words, last))

    def loads(self, first: int, last: int, base: int) -> list[Instruction]:
        """Fill the scratchpad words from `base` on with words [first, last)."""
        addresses = self._part(first, last)
        rows = _rows(_pieces(addresses), self._config.load_word_bytes)
        return [_load(row, base, self._fills) for row in rows]

    def stores(self, first: int, last: int, base: int, address: int) -> list[Instruction]:
        """Store words [first, last), which lie from `base` on, to the tensor at `address`."""
        whole, width = len(self._whole), self._part(first, last).shape[1]
        offset = min(first, whole) * self._config.rows + max(first - whole, 0) * width
        fields = {"dram_address": address + offset, "address": base, "row_words": last - first, "word_bytes": width}
        return [Instruction(Opcode.STORE, fields)]

    def _part(self, first: int, last: int) -> Ints:
        whole = len(self._whole)
        return self._whole[first:last] if last <= whole else self._rest[first - whole : last - whole]


def fill_values(locations: Ints) -> list[int]:
    """Values that occur in `locations` by themselves."""
    return [int(value) + FILL for value in np.unique(locations[locations < 0])]


@dataclass(frozen=True)
class _Progressions:
    """Transfers, one a row: `origin` is (address, word), `shape` all else; only those of equal shape may be joined."""

    origin: Ints
    shape: Ints

    def join(self, limit: int, allowed: NDArray[np.bool_]) -> _Progressions:
        """Neighbours of one shape at a constant distance become one, with columns count, distance (2) in its shape.

        `allowed[i]` tells whether transfer i + 1 may follow transfer i.
        """
        distance = np.diff(self.origin, axis=0)
        follows = allowed & (np.diff(self.shape, axis=0) == 0).all(axis=1)
        steady = follows[1:] & follows[:-1] & (np.diff(distance, axis=0) == 0).all(axis=1)
        stops = [*np.flatnonzero(~steady).tolist(), len(follows) - 1]
        starts, counts, at = [], [], 0
        chained = follows.tolist()
        while at < len(self.origin):
            count = 1
            if at < len(chained) and chained[at]:
                count = min(stops[bisect_left(stops, at)] + 2 - at, limit)
            starts.append(at)
            counts.append(count)
            at += count
        count_column = np.array(counts, np.int64)
        steps = np.append(distance, np.zeros((1, 2), np.int64), axis=0)[starts] * (count_column > 1)[:, None]
        return _Progressions(self.origin[starts], np.column_stack([self.shape[starts], count_column, steps]))


def _pieces(addresses: Ints) -> _Progressions:
    """Bytes that follow each other in memory and in one word; shape is (byte in the word, bytes, fill or 0)."""
    words, width = addresses.shape
    flat = addresses.reshape(-1)
    filled = flat[1:] < 0
    joined = np.where(filled, flat[1:] == flat[:-1], (flat[1:] == flat[:-1] + 1) & (flat[:-1] >= 0))
    joined &= np.arange(1, words * width) % width != 0
    starts = np.append(0, np.flatnonzero(~joined) + 1)
    lengths = np.diff(np.append(starts, len(flat)))
    address = flat[starts]
    word, byte = starts // width, starts % width
    order = np.lexsort((word, np.minimum(address, 0), lengths, byte))
    shape = np.column_stack([byte, lengths, np.minimum(address, 0)])
    return _Progressions(np.column_stack([address, word])[order], shape[order])


def _rows(pieces: _Progressions, longest_step: int) -> list[list[int]]:
    """Pieces to rows, rows to outer iterations: address, word, byte, bytes, fill, three (count, distance)."""
    distance = np.diff(pieces.origin, axis=0)
    step = np.where(pieces.origin[1:, 0] < 0, 1, distance[:, 0])
    made = pieces.join(_COUNT_MAX, (distance[:, 1] == 1) & (step >= 1) & (step <= longest_step))
    for _ in range(2):
        near = np.abs(np.diff(made.origin[:, 1])) <= _STRIDE_MAX
        made = made.join(_COUNT_MAX, near)
    rows: list[list[int]] = np.column_stack([made.origin, made.shape]).tolist()
    return rows


def _load(row: list[int], base: int, fill_bytes: Mapping[int, int]) -> Instruction:
    (address, word, byte, size, fill), (words, step, _), *outside = row[:5], row[5:8], row[8:11], row[11:]
    (rows, row_address, row_word), (outers, outer_address, outer_word) = outside
    step = step if words > 1 and not fill else size
    fields = {
        "memory": Memory.SPAD,
        "dram_address": fill_bytes[fill + FILL] if fill else address,
        "address": base + word,
        "outer_count": outers,
        "row_count": rows,
        "row_bytes": 1 if fill else (words - 1) * step + size,
        "dram_outer_stride": outer_address,
        "dram_row_stride": row_address,
        "outer_stride": outer_word,
        "row_stride": row_word,
        "row_words": words,
        "word_bytes": size,
        "step_bytes": step,
        "byte_offset": byte,
        "pad_value": fill + FILL if fill else 0,
    }
    return Instruction(Opcode.LOAD, fields)
