"""EXECs and POSTs: multiplying tiles and post-processing them."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from accel.machine.config import ArchConfig
from accel.machine.isa import FIELDS, Instruction, Opcode, Source
from compiler.emit.records import ArrayWork, DepthwiseWork, VectorWork
from compiler.lower.geometry import Span, Tile
from compiler.lower.layers import Layer
from compiler.plan.tiles import View, input_tile
from compiler.plan.weights import Piece

_MAXIMA = {field.name: field.maximum for field in FIELDS[Opcode.EXEC]}


def window_fields(layer: Layer, view: View, tile: Tile, folded: bool) -> tuple[dict[str, int], int]:
    """Window fields and the source address (chunk 0) for outputs `tile` read from `view`."""
    window = layer.window
    part = input_tile(layer, tile)
    row, column = view.strides
    y_start = min(tile.y0 * window.stride[0] - window.padding[0] - part.y0, part.height)
    fields = {
        "y_start": y_start,
        "y_step": window.stride[0],
        "y_dilation": window.dilation[0],
        "height": part.height,
        "width": 1,
    }
    if folded:
        return fields, view.base + (part.y0 - view.tile.y0 + y_start) * row + tile.x0 - view.tile.x0
    x_start = min(tile.x0 * window.stride[1] - window.padding[1] - part.x0, part.width)
    fields |= {
        "x_start": x_start,
        "x_step": window.stride[1],
        "x_dilation": window.dilation[1],
        "width": part.width,
    }
    return fields, view.word(0, part.y0, part.x0) + y_start * row + x_start * column


def encodable(fields: dict[str, int]) -> dict[str, int]:
    """The fields of EXEC or DEPTHWISE, the same window in smaller numbers where a field does not hold its own.

    Positions then count from the first that the window sees, and one tap has no distance to another.
    """
    result = dict(fields)
    for axis, size in (("y", "height"), ("x", "width")):
        start, dilation = f"{axis}_start", f"{axis}_dilation"
        if result.get(start, 0) > _MAXIMA[start]:
            unseen = min(result[start], result[size])
            result |= {start: result[start] - unseen, size: result[size] - unseen}
        if result.get(dilation, 0) > _MAXIMA[dilation] and result[f"k{axis}_count"] == 1:
            result[dilation] = 0
    return result


class PostBlocks(NamedTuple):
    """Where a POST finds its blocks: the first row of PARAM, and its field `table`."""

    param_row: int
    table: int


def exec_piece(work: ArrayWork, piece: Piece, wbuf_address: int, accumulate: bool) -> Instruction:
    """EXEC of one piece of the contraction; `accumulate` if sums are there already."""
    layer, view, tile = work.layer, work.source, work.tile
    chunk, folded, by_position = piece.chunks[0], piece.chunks[0].folded, piece.chunks[0].by_position
    row, column = view.strides
    window = layer.window
    if by_position:
        height, address = tile.height + (chunk.lines - 1) * chunk.pitch, view.word(0, tile.y0, tile.x0)
        fields = {"y_start": 0, "y_step": 1, "y_dilation": chunk.pitch, "height": height, "width": 1}
    else:
        fields, address = window_fields(layer, view, tile, folded)
    dilation = chunk.pitch if by_position else window.dilation[0]
    ky_stride, kx_stride = dilation * row, 0 if folded else window.dilation[1] * column
    fields["y_start"] += piece.ky0 * dilation
    if not folded:
        fields["x_start"] += piece.kx0 * window.dilation[1]
    chunk_stride = view.chunk_stride if len(piece.chunks) > 1 else 0
    return Instruction(
        Opcode.EXEC,
        {
            **encodable(fields | {"ky_count": piece.ky1 - piece.ky0, "kx_count": piece.kx1 - piece.kx0}),
            "spad_address": address
            + piece.chunks[0].index * view.chunk_stride
            + piece.ky0 * ky_stride
            + piece.kx0 * kx_stride,
            "chunk_count": len(piece.chunks),
            "oy_count": tile.height,
            "ox_count": tile.width,
            "chunk_stride": chunk_stride,
            "ky_stride": ky_stride if piece.ky1 - piece.ky0 > 1 else 0,
            "kx_stride": kx_stride if piece.kx1 - piece.kx0 > 1 else 0,
            "oy_stride": (1 if by_position else window.stride[0]) * row if tile.height > 1 else 0,
            "ox_stride": (1 if folded else window.stride[1] * column) if tile.width > 1 else 0,
            "pad_value": layer.pad_value,
            "k_rows": piece.k_rows,
            "wbuf_address": wbuf_address,
            "acc_address": work.accumulators,
            "accumulate": int(accumulate),
            "int4": int(piece.int4),
        },
    )


def post_accumulators(
    config: ArchConfig, work: ArrayWork | DepthwiseWork, output: View, blocks: PostBlocks
) -> Instruction:
    """POST of the sums of a tile and its channels from ACC to `output`."""
    tile, (first, last) = work.tile, work.channels
    words = -(-(last - first) // config.rows)
    lanes = min(last - first, config.rows) if words == 1 else config.rows
    return Instruction(
        Opcode.POST,
        {
            **result_fields(work.layer, tile, blocks),
            "source": Source.ACC,
            "per_channel": 1,
            "word_count": words,
            "group_count": -(-lanes // config.post_lanes),
            "src_address": work.accumulators,
            "src_oy_stride": tile.width if tile.height > 1 else 0,
            "src_ox_stride": 1 if tile.width > 1 else 0,
            **destination_fields(output, tile, first // config.rows, words),
            "dst_byte": first % config.rows,
        },
    )


def result_fields(layer: Layer, tile: Tile, blocks: PostBlocks) -> dict[str, int]:
    """How many results a POST makes, and how sums become results."""
    return {
        "mode": layer.mode.code,
        "oy_count": tile.height,
        "ox_count": tile.width,
        "param_address": blocks.param_row,
        "zero_point": layer.zero_point,
        "act_min": layer.act_min,
        "act_max": layer.act_max,
        "table": blocks.table,
    }


def destination_fields(view: View, tile: Tile, chunk: int, words: int) -> dict[str, int]:
    """Where a POST writes `words` chunks of a tile from `chunk` on."""
    return {
        "dst_address": view.word(chunk, tile.y0, tile.x0),
        "dst_word_stride": view.chunk_stride if words > 1 else 0,
        "dst_oy_stride": view.strides[0] if tile.height > 1 else 0,
        "dst_ox_stride": view.strides[1] if tile.width > 1 else 0,
    }


def post_operands(config: ArchConfig, work: VectorWork, blocks: PostBlocks) -> list[Instruction]:
    """POSTs that compute a tile of a vector layer (chunk by chunk, row by row where the operands' strides differ)."""
    together = len({view.chunk_stride for view in work.sources}) == 1
    spans = [work.chunks] if together else [Span(chunk, chunk + 1) for chunk in range(*work.chunks)]
    parts = [replace(work, tile=tile) for tile in _steady_parts(work.tile, work.sources)]
    return [_post_chunks(config, part, blocks, span) for part in parts for span in spans]


def _steady_parts(tile: Tile, views: tuple[View, ...]) -> list[Tile]:
    """Parts of a tile in which all operands advance alike."""
    rows, columns = (len({view.strides[axis] for view in views}) > 1 for axis in (0, 1))
    height, width = 1 if rows else tile.height, 1 if columns else tile.width
    return [
        Tile(y, y + height, x, x + width)
        for y in range(tile.y0, tile.y1, height)
        for x in range(tile.x0, tile.x1, width)
    ]


def _post_chunks(config: ArchConfig, work: VectorWork, blocks: PostBlocks, chunks: Span) -> Instruction:
    """POST of some channel chunks of a tile in which all operands advance alike."""
    layer, tile, views, (first, count) = work.layer, work.tile, work.sources, (chunks.first, chunks.size)
    window, (row, column) = layer.window, views[0].strides
    fields, address = window_fields(layer, views[0], tile, folded=False)
    taps = {"ky_count": window.kernel[0], "kx_count": window.kernel[1]}
    strides = (window.dilation[0] * row, window.dilation[1] * column)
    address += first * views[0].chunk_stride
    if len(views) == 2:
        other = window_fields(layer, views[1], tile, folded=False)[1] + first * views[1].chunk_stride
        taps, strides = {"ky_count": 2, "kx_count": 1}, (other - address, 0)
        fields["y_dilation"] = 0
    width = layer.output_shape[2] if first == 0 and count == 1 else config.rows
    operands = {
        f"{name}{i}": value for i, operand in enumerate(layer.operands) for name, value in operand._asdict().items()
    }
    return Instruction(
        Opcode.POST,
        {
            **fields,
            **taps,
            **operands,
            "source": Source.SPAD,
            **result_fields(layer, tile, blocks),
            "reduce": layer.reduce,
            "word_count": count,
            "group_count": -(-min(width, config.rows) // config.post_lanes),
            "src_address": address,
            "src_word_stride": views[0].chunk_stride if count > 1 else 0,
            "src_oy_stride": window.stride[0] * row if tile.height > 1 else 0,
            "src_ox_stride": window.stride[1] * column if tile.width > 1 else 0,
            "src_ky_stride": strides[0] if taps["ky_count"] > 1 else 0,
            "src_kx_stride": strides[1] if taps["kx_count"] > 1 else 0,
            "left_shift": layer.left_shift,
            **destination_fields(work.output, tile, first, count),
        },
    )
