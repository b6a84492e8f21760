"""LOADs of inputs with kernel positions folded into words (`compiler.plan.folding`)."""

from __future__ import annotations

from collections.abc import Iterator

from accel.machine.isa import Instruction, Memory, Opcode
from compiler.emit.records import FoldedLoad
from compiler.plan.folding import TapRow, tap_rows
from compiler.plan.weights import Chunk


def load_folded(load: FoldedLoad) -> list[Instruction]:
    """LOADs of folded words: word (chunk, y, ox) holds the chunk's kernel positions around output column ox."""
    return [
        instruction
        for chunk in load.chunks
        for taps in tap_rows(load.layer, chunk)
        for instruction in _load_taps(load, chunk, taps)
    ]


def _load_taps(load: FoldedLoad, chunk: Chunk, taps: TapRow) -> Iterator[Instruction]:
    """LOADs of one part of the words of a chunk: rows of padding above, rows of the image, rows of padding below."""
    layer, view, tile, window = load.layer, load.view, load.tile, load.layer.window
    height, width, channels = layer.input_shape
    step, word_bytes = window.stride[1] * channels, (taps.x1 - taps.x0) * channels
    start = tile.x0 * window.stride[1] - window.padding[1] + taps.x0
    first, stream = max(start, 0), (tile.width - 1) * step + word_bytes
    pad = min((first - start) * channels, stream - 1)
    row_step, row_start = (window.stride[0], taps.ky * window.dilation[0] - window.padding[0])
    if not chunk.by_position:
        row_step, row_start = 1, 0
    inside = [y for y in range(view.tile.y0, view.tile.y1) if 0 <= y * row_step + row_start < height]
    top, bottom = (inside[0], inside[-1] + 1) if inside else (view.tile.y0, view.tile.y0)
    common = {
        "memory": Memory.SPAD,
        "row_stride": view.tile.width,
        "row_words": tile.width,
        "word_bytes": word_bytes,
        "step_bytes": step,
        "byte_offset": taps.byte,
        "pad_value": layer.pad_value,
    }
    image = {
        "dram_address": load.image + ((top * row_step + row_start) * width + first) * channels,
        "dram_row_stride": row_step * width * channels,
        "row_bytes": min((width - first) * channels, stream - pad),
        "pad_bytes": pad,
    }
    nothing = {"dram_address": load.padding, "dram_row_stride": 0, "row_bytes": 1}
    for y0, y1, source in ((view.tile.y0, top, nothing), (top, bottom, image), (bottom, view.tile.y1, nothing)):
        if y1 > y0:
            place = {"address": view.word(chunk.index, y0, view.tile.x0), "row_count": y1 - y0}
            yield Instruction(Opcode.LOAD, common | source | place)
