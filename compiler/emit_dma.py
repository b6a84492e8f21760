"""LOADs and STOREs: moving tiles, weights and parameters between external memory and the chip."""

from __future__ import annotations

import struct

from accel import layout
from accel.config import PARAM_RECORD_BYTES, ArchConfig
from accel.isa import Instruction, Memory, Opcode
from accel.layout import Hwc
from compiler.layers import Record
from compiler.tiles import Tile, View

_DMA_ROW_LIMIT = 1 << 19
"""Bytes of one DMA row; longer runs are cut at image rows."""


def pack_records(records: list[Record]) -> bytes:
    """Parameter records as LOAD expects them."""
    return b"".join(struct.pack("<iib", *record) for record in records)


def load_linear(memory: Memory, dram_address: int, address: int, words: int, word_bytes: int) -> Instruction:
    """Consecutive words of `word_bytes` bytes from consecutive bytes."""
    return Instruction(
        Opcode.LOAD,
        {
            "memory": memory,
            "dram_address": dram_address,
            "address": address,
            "row_bytes": words * word_bytes,
            "row_words": words,
            "word_bytes": word_bytes,
            "step_bytes": word_bytes,
        },
    )


def load_records(dram_address: int, config: ArchConfig, row: int, count: int) -> Instruction:
    """`count` parameter records to parameter row `row` and following."""
    return load_linear(Memory.PARAM, dram_address, row * config.post_lanes, count, PARAM_RECORD_BYTES)


def _runs(shape: Hwc, tile: Tile, word_bytes: int) -> tuple[int, int]:
    """(rows, words per row) of a tile: one long row where the tile spans the image's width."""
    if tile.width == shape[1] and tile.pixels * word_bytes <= _DMA_ROW_LIMIT:
        return 1, tile.pixels
    return tile.height, tile.width


def _chunk_groups(channels: int, rows: int, first: int, last: int) -> list[tuple[int, int, int]]:
    """(first chunk, chunks, bytes per pixel) of chunks [first, last): full ones together, a partial last one alone."""
    full = min(last, channels // rows)
    groups = [(first, full - first, rows)] if full > first else []
    return groups + ([(full, 1, channels % rows)] if last > full else [])


def transfer_tile(
    opcode: Opcode, config: ArchConfig, address: int, shape: Hwc, view: View, tile: Tile, chunks: tuple[int, int]
) -> list[Instruction]:
    """LOAD or STORE channel chunks [chunks[0], chunks[1]) of a tile between memory and scratchpad.

    Parameters
    ----------
    address : int
        Byte address of the whole tensor of `shape`.
    view : View
        Where the tile (part of `view.tile`) lies in the scratchpad.
    """
    result = []
    for first, count, width in _chunk_groups(shape[2], config.rows, *chunks):
        rows, words = _runs(shape, tile, width)
        pixel = (tile.y0 * shape[1] + tile.x0) * width
        fields = {
            "dram_address": address + layout.chunk_offset(shape, first, config.rows) + pixel,
            "address": view.word(first, tile.y0, tile.x0),
            "outer_count": count,
            "row_count": rows,
            "dram_outer_stride": shape[0] * shape[1] * width if count > 1 else 0,
            "dram_row_stride": shape[1] * width if rows > 1 else 0,
            "outer_stride": view.chunk_stride if count > 1 else 0,
            "row_stride": view.tile.width if rows > 1 else 0,
            "row_words": words,
            "word_bytes": width,
        }
        if opcode is Opcode.LOAD:
            fields |= {"memory": Memory.SPAD, "row_bytes": words * width, "step_bytes": width}
        result.append(Instruction(opcode, fields))
    return result
