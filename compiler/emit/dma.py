"""LOADs and STOREs: moving tiles, weights and parameters between external memory and the chip."""

from __future__ import annotations

import struct

from accel.machine import layout
from accel.machine.isa import Instruction, Memory, Opcode
from compiler.emit.memory import Home
from compiler.emit.templates import Templates
from compiler.lower.geometry import Tile
from compiler.lower.layers import Record
from compiler.plan.tiles import View

_Loop = tuple[int, int, int]
"""Count, bytes and scratchpad words between iterations."""

_DMA_ROW_LIMIT = 1 << 19
"""Bytes of one DMA row; longer runs are cut at image rows."""


def pack_records(records: list[Record]) -> bytes:
    """Parameter records as LOAD expects them."""
    return b"".join(struct.pack("<iib", *record) for record in records)


def load_linear(
    templates: Templates, memory: Memory, dram_address: int, address: int, words: int, word_bytes: int
) -> Instruction:
    """Consecutive words of `word_bytes` bytes from consecutive bytes."""
    key = (Opcode.LOAD, memory, words, word_bytes)
    template = templates.find(key, _linear, memory, words, word_bytes)
    return template.replace(dram_address=dram_address, address=address)


def _linear(memory: Memory, words: int, word_bytes: int) -> Instruction:
    return Instruction(
        Opcode.LOAD,
        {
            "memory": memory,
            "row_bytes": words * word_bytes,
            "row_words": words,
            "word_bytes": word_bytes,
            "step_bytes": word_bytes,
        },
    )


def _chunk_groups(channels: int, rows: int, first: int, last: int) -> list[tuple[int, int, int]]:
    """(first chunk, chunks, bytes per pixel) of chunks [first, last): full ones together, a partial last one alone."""
    full = min(last, channels // rows)
    groups = [(first, full - first, rows)] if full > first else []
    return groups + ([(full, 1, channels % rows)] if last > full else [])


def transfer_tile(
    opcode: Opcode, templates: Templates, home: Home, view: View, tile: Tile, chunks: tuple[int, int]
) -> list[Instruction]:
    """LOAD or STORE channel chunks [chunks[0], chunks[1]) of a tile between memory and scratchpad.

    Parameters
    ----------
    home : Home
    view : View
        Where the tile (part of `view.tile`) lies in the scratchpad.
    """
    result, rows = [], templates.config.rows
    pixel = home.place.pixel(tile.y0, tile.x0)
    for first, count, width in _chunk_groups(home.shape[2], rows, *(home.place.chunk + i for i in chunks)):
        offset = layout.chunk_offset(home.shape, first, rows)
        start = home.address + offset + (pixel[0] * home.shape[1] + pixel[1]) * width
        plane = (count, home.shape[0] * home.shape[1] * width, view.chunk_stride)
        loops, words = _loops(home, view, tile, width)
        inner, separate = ((plane, *loops), 1) if len(loops) == 1 else (loops, count)
        for chunk in range(separate):
            address = view.word(first - home.place.chunk + chunk, tile.y0, tile.x0)
            key = (opcode, *inner, words, width)
            template = templates.find(key, _transfer, opcode, inner, words, width)
            result.append(template.replace(dram_address=start + chunk * plane[1], address=address))
    return result


def _loops(home: Home, view: View, tile: Tile, width: int) -> tuple[tuple[_Loop, ...], int]:
    """Loops over a tile, and the words in a row: long rows where nothing lies between the tile's, pixels if apart."""
    (y_step, x_step), (row, column) = home.place.step, view.strides
    pitch = home.shape[1] * width
    if x_step > 1 or column > 1:
        return ((tile.height, pitch * y_step, row), (tile.width, width * x_step, column)), 1
    together = tile.width == home.shape[1] == row and y_step == 1
    if together and tile.pixels * width <= _DMA_ROW_LIMIT:
        return ((1, 0, 0),), tile.pixels
    return ((tile.height, pitch * y_step, row),), tile.width


def _transfer(opcode: Opcode, loops: tuple[_Loop, ...], words: int, width: int) -> Instruction:
    fields = {"row_words": words, "word_bytes": width}
    for name, (count, dram_stride, stride) in zip(("outer", "row"), loops, strict=True):
        fields[f"{name}_count"] = count
        fields[f"dram_{name}_stride"] = dram_stride if count > 1 else 0
        fields[f"{name}_stride"] = stride if count > 1 else 0
    if opcode is Opcode.LOAD:
        fields |= {"memory": Memory.SPAD, "row_bytes": words * width, "step_bytes": width}
    return Instruction(opcode, fields)
