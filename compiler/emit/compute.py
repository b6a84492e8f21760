"""EXECs and POSTs: multiplying tiles and post-processing them."""

from __future__ import annotations

from typing import NamedTuple

from accel.machine.config import ArchConfig
from accel.machine.isa import FIELDS, Instruction, Opcode, Source
from compiler.emit.records import ArrayWork, DepthwiseWork, VectorWork
from compiler.emit.templates import Templates
from compiler.lower.geometry import Span, Tile
from compiler.lower.layers import ArrayLayer, Layer
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


def exec_piece(templates: Templates, work: ArrayWork, piece: Piece, wbuf_address: int, accumulate: bool) -> Instruction:
    """EXEC of one piece of the contraction; `accumulate` if sums are there already."""
    span = (piece.chunks[0].index, len(piece.chunks), piece.ky0, piece.ky1, piece.kx0, piece.kx1)
    key = (Opcode.EXEC, work.layer, work.tile, work.source, span)
    template = templates.find(key, _exec, work.layer, work.tile, work.source, piece)
    return template.replace(wbuf_address=wbuf_address, acc_address=work.accumulators, accumulate=int(accumulate))


def _exec(layer: ArrayLayer, tile: Tile, view: View, piece: Piece) -> Instruction:
    """EXEC of a piece for any outputs, from and to words 0."""
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
    return Instruction(
        Opcode.EXEC,
        {
            **encodable(fields | {"ky_count": piece.ky1 - piece.ky0, "kx_count": piece.kx1 - piece.kx0}),
            "spad_address": address + chunk.index * view.chunk_stride + piece.ky0 * ky_stride + piece.kx0 * kx_stride,
            "chunk_count": len(piece.chunks),
            "oy_count": tile.height,
            "ox_count": tile.width,
            "chunk_stride": view.chunk_stride if len(piece.chunks) > 1 else 0,
            "ky_stride": ky_stride if piece.ky1 - piece.ky0 > 1 else 0,
            "kx_stride": kx_stride if piece.kx1 - piece.kx0 > 1 else 0,
            "oy_stride": (1 if by_position else window.stride[0]) * row if tile.height > 1 else 0,
            "ox_stride": (1 if folded else window.stride[1] * column) if tile.width > 1 else 0,
            "pad_value": layer.pad_value,
            "k_rows": piece.k_rows,
            "int4": int(piece.int4),
        },
    )


def post_accumulators(
    templates: Templates, work: ArrayWork | DepthwiseWork, output: View, blocks: PostBlocks
) -> Instruction:
    """POST of the sums of a tile and its channels from ACC to `output`."""
    tile, (first, last), rows = work.tile, work.channels, templates.config.rows
    key = (Opcode.POST, work.layer, tile, last - first, output.chunk_stride, output.strides)
    template = templates.find(key, _post_sums, templates.config, work.layer, tile, last - first, output)
    return template.replace(
        src_address=work.accumulators,
        dst_address=output.word(first // rows, tile.y0, tile.x0),
        dst_byte=first % rows,
        param_address=blocks.param_row,
        table=blocks.table,
    )


def _post_sums(config: ArchConfig, layer: Layer, tile: Tile, channels: int, output: View) -> Instruction:
    """POST of the sums of a tile and so many channels, from and to words 0."""
    words = -(-channels // config.rows)
    lanes = min(channels, config.rows) if words == 1 else config.rows
    return Instruction(
        Opcode.POST,
        {
            **result_fields(layer, tile),
            "source": Source.ACC,
            "per_channel": 1,
            "word_count": words,
            "group_count": -(-lanes // config.post_lanes),
            "src_oy_stride": tile.width if tile.height > 1 else 0,
            "src_ox_stride": 1 if tile.width > 1 else 0,
            **destination_strides(output, tile, words),
        },
    )


def result_fields(layer: Layer, tile: Tile) -> dict[str, int]:
    """How many results a POST makes, and how sums become results."""
    return {
        "mode": layer.mode.code,
        "oy_count": tile.height,
        "ox_count": tile.width,
        "zero_point": layer.zero_point,
        "act_min": layer.act_min,
        "act_max": layer.act_max,
    }


def destination_strides(view: View, tile: Tile, words: int) -> dict[str, int]:
    """How a POST goes through `words` chunks of a tile that it writes."""
    return {
        "dst_word_stride": view.chunk_stride if words > 1 else 0,
        "dst_oy_stride": view.strides[0] if tile.height > 1 else 0,
        "dst_ox_stride": view.strides[1] if tile.width > 1 else 0,
    }


def post_operands(templates: Templates, work: VectorWork, blocks: PostBlocks) -> list[Instruction]:
    """POSTs that compute a tile of a vector layer (chunk by chunk, row by row where the operands' strides differ)."""
    together = len({view.chunk_stride for view in work.sources}) == 1
    spans = [work.chunks] if together else [Span(chunk, chunk + 1) for chunk in range(*work.chunks)]
    parts = _steady_parts(work.tile, work.sources)
    return [_post_chunks(templates, work, tile, blocks, span) for tile in parts for span in spans]


def _steady_parts(tile: Tile, views: tuple[View, ...]) -> list[Tile]:
    """Parts of a tile in which all operands advance alike."""
    rows, columns = (len({view.strides[axis] for view in views}) > 1 for axis in (0, 1))
    height, width = 1 if rows else tile.height, 1 if columns else tile.width
    return [
        Tile(y, y + height, x, x + width)
        for y in range(tile.y0, tile.y1, height)
        for x in range(tile.x0, tile.x1, width)
    ]


class _Taps(NamedTuple):
    """A POST of values in the scratchpad, and where its first tap lies in each operand, from the view's base on."""

    template: Instruction
    offsets: tuple[int, ...]


def _post_chunks(templates: Templates, work: VectorWork, tile: Tile, blocks: PostBlocks, chunks: Span) -> Instruction:
    """POST of some channel chunks of a tile in which all operands advance alike."""
    layer, views, output, only = work.layer, work.sources, work.output, chunks == (0, 1)
    shapes = tuple((view.chunk_stride, view.strides, view.tile) for view in views)
    key = (Opcode.POST, layer, tile, chunks.size, only, shapes, output.chunk_stride, output.strides)
    taps = templates.find(key, _taps, templates.config, work, tile, chunks.size, only)
    places = zip(views, taps.offsets, strict=True)
    addresses = [view.base + chunks.first * view.chunk_stride + offset for view, offset in places]
    distance = {"src_ky_stride": addresses[1] - addresses[0]} if len(views) == 2 else {}
    return taps.template.replace(
        src_address=addresses[0],
        dst_address=output.word(chunks.first, tile.y0, tile.x0),
        param_address=blocks.param_row,
        table=blocks.table,
        **distance,
    )


def _taps(config: ArchConfig, work: VectorWork, tile: Tile, count: int, only: bool) -> _Taps:
    """POST of `count` chunks of a tile, from and to words 0; `only` if there is no other chunk before or beside."""
    layer, views, window = work.layer, work.sources, work.layer.window
    row, column = views[0].strides
    fields, _ = window_fields(layer, views[0], tile, folded=False)
    offsets = tuple(window_fields(layer, view, tile, folded=False)[1] - view.base for view in views)
    counts, strides = window.kernel, (window.dilation[0] * row, window.dilation[1] * column)
    if len(views) == 2:
        counts, strides, fields["y_dilation"] = (2, 1), (0, 0), 0
    width = layer.output_shape[2] if only else config.rows
    operands = {
        f"{name}{i}": value for i, operand in enumerate(layer.operands) for name, value in operand._asdict().items()
    }
    template = Instruction(
        Opcode.POST,
        {
            **fields,
            **operands,
            "ky_count": counts[0],
            "kx_count": counts[1],
            "source": Source.SPAD,
            **result_fields(layer, tile),
            "reduce": layer.reduce,
            "word_count": count,
            "group_count": -(-min(width, config.rows) // config.post_lanes),
            "src_word_stride": views[0].chunk_stride if count > 1 else 0,
            "src_oy_stride": window.stride[0] * row if tile.height > 1 else 0,
            "src_ox_stride": window.stride[1] * column if tile.width > 1 else 0,
            "src_ky_stride": strides[0] if counts[0] > 1 else 0,
            "src_kx_stride": strides[1] if counts[1] > 1 else 0,
            "left_shift": layer.left_shift,
            **destination_strides(work.output, tile, count),
        },
    )
    return _Taps(template, offsets)
