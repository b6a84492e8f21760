"""Instructions for parts of layers: moving tiles, multiplying them, post-processing them."""

from __future__ import annotations

import struct

from accel import layout
from accel.config import PARAM_RECORD_BYTES, ArchConfig
from accel.errors import CompileError
from accel.isa import Instruction, Memory, Opcode, Source
from accel.layout import Hwc
from compiler.layers import ArrayLayer, Layer, Record, VectorLayer
from compiler.tiles import Tile, View, input_tile
from compiler.weights import Chunk, Piece

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


def load_folded(
    config: ArchConfig, layer: ArrayLayer, address: int, view: View, tile: Tile, chunks: tuple[Chunk, ...]
) -> list[Instruction]:
    """LOADs that fold kernel columns: word (chunk, y, ox) holds the chunk's columns around output column ox.

    `view.tile` has the input's rows and the output's columns of `tile`.
    """
    _, width, channels = layer.input_shape
    step = layer.window.stride[1] * channels
    result = []
    for chunk in chunks:
        start = tile.x0 * layer.window.stride[1] - layer.window.padding[1] + chunk.column
        stream = (tile.width - 1) * step + chunk.rows
        first = max(start, 0)
        pad = min((first - start) * channels, stream - 1)
        size = min((width - first) * channels, stream - pad)
        rows = view.tile.height
        fields = {
            "memory": Memory.SPAD,
            "dram_address": address + (view.tile.y0 * width + first) * channels,
            "address": view.word(chunk.index, view.tile.y0, view.tile.x0),
            "row_count": rows,
            "row_bytes": size,
            "dram_row_stride": width * channels if rows > 1 else 0,
            "row_stride": view.tile.width if rows > 1 else 0,
            "row_words": tile.width,
            "word_bytes": chunk.rows,
            "step_bytes": step,
            "pad_bytes": pad,
            "pad_value": layer.pad_value,
        }
        result.append(Instruction(Opcode.LOAD, fields))
    return result


def can_fold(layer: ArrayLayer, chunks: tuple[Chunk, ...], tiles: tuple[Tile, ...]) -> bool:
    """Whether every folded row of every tile has at least one byte of the image in its first and last chunk."""
    width = layer.input_shape[1]
    for tile in tiles:
        for chunk in chunks:
            start = tile.x0 * layer.window.stride[1] - layer.window.padding[1] + chunk.column
            end = start + (tile.width - 1) * layer.window.stride[1] + chunk.taps
            if start >= width or end <= 0:
                return False
    return True


def _window_fields(layer: Layer, view: View, tile: Tile, folded: bool) -> tuple[dict[str, int], int]:
    """Window fields and the source address (chunk 0) for outputs `tile` read from `view`."""
    window = layer.window
    part = input_tile(layer, tile)
    y_start = tile.y0 * window.stride[0] - window.padding[0] - part.y0
    row = view.tile.width
    fields = {
        "y_start": y_start,
        "y_step": window.stride[0],
        "y_dilation": window.dilation[0],
        "height": part.height,
        "width": 1,
    }
    if folded:
        return fields, view.base + (part.y0 - view.tile.y0 + y_start) * row + tile.x0 - view.tile.x0
    x_start = tile.x0 * window.stride[1] - window.padding[1] - part.x0
    fields |= {
        "x_start": x_start,
        "x_step": window.stride[1],
        "x_dilation": window.dilation[1],
        "width": part.width,
    }
    return fields, view.word(0, part.y0, part.x0) + y_start * row + x_start


def exec_piece(
    layer: ArrayLayer, piece: Piece, view: View, tile: Tile, wbuf_address: int, acc_address: int, accumulate: bool
) -> Instruction:
    """EXEC of one piece of the contraction over the outputs of `tile`; `view` holds the input (folded or not)."""
    folded = piece.chunks[0].folded
    row = view.tile.width
    window = layer.window
    fields, address = _window_fields(layer, view, tile, folded)
    ky_stride, kx_stride = window.dilation[0] * row, 0 if folded else window.dilation[1]
    fields["y_start"] += piece.ky0 * window.dilation[0]
    if not folded:
        fields["x_start"] += piece.kx0 * window.dilation[1]
    chunk_stride = view.chunk_stride if len(piece.chunks) > 1 else 0
    return Instruction(
        Opcode.EXEC,
        {
            **fields,
            "spad_address": address
            + piece.chunks[0].index * view.chunk_stride
            + piece.ky0 * ky_stride
            + piece.kx0 * kx_stride,
            "chunk_count": len(piece.chunks),
            "ky_count": piece.ky1 - piece.ky0,
            "kx_count": piece.kx1 - piece.kx0,
            "oy_count": tile.height,
            "ox_count": tile.width,
            "chunk_stride": chunk_stride,
            "ky_stride": ky_stride if piece.ky1 - piece.ky0 > 1 else 0,
            "kx_stride": kx_stride if piece.kx1 - piece.kx0 > 1 else 0,
            "oy_stride": window.stride[0] * row if tile.height > 1 else 0,
            "ox_stride": (1 if folded else window.stride[1]) if tile.width > 1 else 0,
            "pad_value": layer.pad_value,
            "k_rows": piece.k_rows,
            "wbuf_address": wbuf_address,
            "acc_address": acc_address,
            "accumulate": int(accumulate),
        },
    )


def post_accumulators(
    config: ArchConfig,
    layer: ArrayLayer,
    tile: Tile,
    view: View,
    channels: tuple[int, int],
    acc_address: int,
    param_row: int,
) -> Instruction:
    """POST of output channels [channels[0], channels[1]) of a tile from ACC to `view` of the output."""
    first, last = channels
    words = -(-(last - first) // config.rows)
    lanes = min(last - first, config.rows) if words == 1 else config.rows
    return Instruction(
        Opcode.POST,
        {
            "source": Source.ACC,
            "mode": layer.mode,
            "per_channel": 1,
            "word_count": words,
            "oy_count": tile.height,
            "ox_count": tile.width,
            "group_count": -(-lanes // config.post_lanes),
            "src_address": acc_address,
            "src_oy_stride": tile.width if tile.height > 1 else 0,
            "src_ox_stride": 1 if tile.width > 1 else 0,
            "param_address": param_row,
            "zero_point": layer.zero_point,
            "act_min": layer.act_min,
            "act_max": layer.act_max,
            **_destination(view, tile, first // config.rows, words),
            "dst_byte": first % config.rows,
        },
    )


def _destination(view: View, tile: Tile, chunk: int, words: int) -> dict[str, int]:
    return {
        "dst_address": view.word(chunk, tile.y0, tile.x0),
        "dst_word_stride": view.chunk_stride if words > 1 else 0,
        "dst_oy_stride": view.tile.width if tile.height > 1 else 0,
        "dst_ox_stride": 1 if tile.width > 1 else 0,
    }


def post_operands(
    config: ArchConfig, layer: VectorLayer, tile: Tile, views: tuple[View, ...], output: View, param_row: int
) -> list[Instruction]:
    """POSTs that compute a tile of a vector layer (chunk by chunk where the operands' strides differ)."""
    channels = layer.output_shape[2]
    chunks = -(-channels // config.rows)
    together = len({view.chunk_stride for view in views}) == 1
    runs = [(0, chunks)] if together else [(chunk, 1) for chunk in range(chunks)]
    return [_post_run(config, layer, tile, views, output, param_row, first, count) for first, count in runs]


def _post_run(
    config: ArchConfig,
    layer: VectorLayer,
    tile: Tile,
    views: tuple[View, ...],
    output: View,
    param_row: int,
    first: int,
    count: int,
) -> Instruction:
    window, row = layer.window, views[0].tile.width
    fields, address = _window_fields(layer, views[0], tile, folded=False)
    taps = {"ky_count": window.kernel[0], "kx_count": window.kernel[1]}
    strides = (window.dilation[0] * row, window.dilation[1])
    address += first * views[0].chunk_stride
    if len(views) == 2:
        other = _window_fields(layer, views[1], tile, folded=False)[1] + first * views[1].chunk_stride
        taps, strides = {"ky_count": 2, "kx_count": 1}, (other - address, 0)
        fields["y_dilation"] = 0
        if views[1].tile.width != row and tile.height > 1:
            raise CompileError(f"layer {layer.name!r}: both operands must have rows of one length in the scratchpad")
    width = layer.output_shape[2] if first == 0 and count == 1 else config.rows
    names = (("zero_point", "multiplier", "shift"), layer.operands)
    operands = {f"{name}{i}": value for i in (0, 1) for name, value in zip(names[0], names[1][i], strict=True)}
    return Instruction(
        Opcode.POST,
        {
            **fields,
            **taps,
            **operands,
            "source": Source.SPAD,
            "reduce": layer.reduce,
            "mode": layer.mode,
            "word_count": count,
            "oy_count": tile.height,
            "ox_count": tile.width,
            "group_count": -(-min(width, config.rows) // config.post_lanes),
            "src_address": address,
            "src_word_stride": views[0].chunk_stride if count > 1 else 0,
            "src_oy_stride": window.stride[0] * row if tile.height > 1 else 0,
            "src_ox_stride": window.stride[1] if tile.width > 1 else 0,
            "src_ky_stride": strides[0] if taps["ky_count"] > 1 else 0,
            "src_kx_stride": strides[1] if taps["kx_count"] > 1 else 0,
            "left_shift": layer.left_shift,
            "param_address": param_row,
            "zero_point": layer.zero_point,
            "act_min": layer.act_min,
            "act_max": layer.act_max,
            **_destination(output, tile, first, count),
        },
    )
