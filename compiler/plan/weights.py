"""The contraction of an array layer: channel chunks, folded kernel positions, and blocks that fit the weight buffer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from numpy.typing import NDArray

from accel.machine.config import ArchConfig
from accel.machine.isa import FIELDS, Opcode
from accel.machine.weight_words import pack_int4, tile_words
from compiler.lower.geometry import Span
from compiler.lower.layers import ArrayLayer
from compiler.lower.weighted import DILATION_MAX
from compiler.plan.tiles import even_spans


def _largest(opcode: Opcode, name: str) -> int:
    return next(field.maximum for field in FIELDS[opcode] if field.name == name)


TAPS_MAX = _largest(Opcode.EXEC, "ky_count")
"""Tap rows, and tap columns, of an instruction."""
_CHUNKS_MAX = _largest(Opcode.EXEC, "chunk_count")
_ROW_BYTES_MAX = _largest(Opcode.LOAD, "row_bytes")


@dataclass(frozen=True)
class Chunk:
    """Contraction indices that share scratchpad words, `rows` bytes each.

    Plain, a chunk is up to R input channels of one pixel, from `channel` on (`taps` = 0). Folded, it is `taps`
    neighbouring kernel columns, or positions of the whole kernel if `by_position`, from number `first` on, with all
    input channels each.

    Words of positions may hold just the first of several `lines` of equal height into which the kernel is divided; the
    words of the others lie `pitch` rows of words further each.
    """

    index: int
    rows: int
    channel: int = 0
    first: int = 0
    taps: int = 0
    by_position: bool = False
    lines: int = 1
    pitch: int = 0

    @property
    def folded(self) -> bool:
        """Whether the words hold several kernel positions."""
        return self.taps > 0


@dataclass(frozen=True)
class Piece:
    """Weight tiles of one EXEC: chunks of equal `rows`, kernel rows [ky0, ky1) and columns [kx0, kx1); int4 or int8."""

    chunks: tuple[Chunk, ...]
    ky0: int
    ky1: int
    kx0: int
    kx1: int
    int4: bool = False

    @property
    def k_rows(self) -> int:
        """Rows of a tile."""
        return self.chunks[0].rows

    @property
    def words(self) -> int:
        """Weight words in all."""
        tiles = len(self.chunks) * (self.ky1 - self.ky0) * (self.kx1 - self.kx0)
        return tiles * int(tile_words(self.k_rows, int(self.int4)))


def channel_chunks(channels: int, rows: int) -> tuple[Chunk, ...]:
    """Chunks of a tensor that lies in the scratchpad as it is."""
    starts = range(0, channels, rows)
    return tuple(Chunk(i, min(rows, channels - c), channel=c) for i, c in enumerate(starts))


def weight_blocks(
    layer: ArrayLayer, chunks: tuple[Chunk, ...], config: ArchConfig, channels: Span
) -> list[list[Piece]]:
    """Cut the contraction of output `channels` into blocks of pieces.

    A block is loaded at once and fits half of the weight buffer. Blocks are even, so that the load of each one hides
    behind the work on the one before. Of a grouped convolution only the chunks that hold
    input channels of these outputs take part.
    """
    limit = min(config.wbuf_words // 2, _ROW_BYTES_MAX // config.cols)
    blocks, words = list[list[Piece]](), limit
    for piece in _pieces(layer, _used_chunks(layer, chunks, channels), limit):
        if words + piece.words > limit:
            blocks.append([])
            words = 0
        blocks[-1].append(piece)
        words += piece.words
    return blocks


def _used_chunks(layer: ArrayLayer, chunks: tuple[Chunk, ...], channels: Span) -> tuple[Chunk, ...]:
    if layer.groups == 1:
        return chunks
    first, last = layer.input_channels(channels.first).first, layer.input_channels(channels.last - 1).last
    return tuple(chunk for chunk in chunks if chunk.channel < last and first < chunk.channel + chunk.rows)


def contraction_words(layer: ArrayLayer, chunks: tuple[Chunk, ...], config: ArchConfig) -> int:
    """Weight words of all output channels together."""
    used = _tile_chunks(layer, chunks, config, Span(0, layer.output_shape[2]))
    return sum(int(tile_words(chunk.rows, int(layer.int4))) for chunk in used) * _taps(layer, chunks)


def weight_tiles(layer: ArrayLayer, chunks: tuple[Chunk, ...], config: ArchConfig, channels: Span) -> int:
    """Weight tiles of some output channels."""
    return len(_tile_chunks(layer, chunks, config, channels)) * _taps(layer, chunks)


def _tile_chunks(layer: ArrayLayer, chunks: tuple[Chunk, ...], config: ArchConfig, channels: Span) -> list[Chunk]:
    """The chunk of every weight tile of one tap."""
    parts = [Span(first, min(first + config.cols, channels.last)) for first in range(*channels, config.cols)]
    return [chunk for part in parts for chunk in _used_chunks(layer, chunks, part)]


def _taps(layer: ArrayLayer, chunks: tuple[Chunk, ...]) -> int:
    """Positions of the kernel through which EXEC steps."""
    if chunks[0].by_position:
        return chunks[0].lines
    return layer.window.kernel[0] * (1 if chunks[0].folded else layer.window.kernel[1])


def _pieces(layer: ArrayLayer, chunks: tuple[Chunk, ...], limit: int) -> list[Piece]:
    kh = chunks[0].lines if chunks[0].by_position else layer.window.kernel[0]
    kw = 1 if chunks[0].folded else layer.window.kernel[1]
    most_rows, most_columns = (TAPS_MAX if step <= DILATION_MAX else 1 for step in layer.window.dilation)
    pieces = []
    for group in _equal_runs(chunks):
        rows = tile_words(group[0].rows, int(layer.int4))
        per_chunk, per_line = rows * kh * kw, rows * kw
        if per_chunk <= limit and kh <= most_rows and kw <= most_columns:
            parts = even_spans(len(group), -(-len(group) // (limit // per_chunk)))
            pieces += [Piece(group[first:last], 0, kh, 0, kw, layer.int4) for first, last in parts]
        elif per_line <= limit and kw <= most_columns:
            many = min(limit // per_line, most_rows)
            pieces += [Piece((c,), y, min(y + many, kh), 0, kw, layer.int4) for c in group for y in range(0, kh, many)]
        else:
            many = min(limit // rows, most_columns)
            pieces += [
                Piece((c,), y, y + 1, x, min(x + many, kw), layer.int4)
                for c in group
                for y in range(kh)
                for x in range(0, kw, many)
            ]
    return pieces


def cut_apart(pieces: Sequence[Piece], first: int) -> list[Piece]:
    """The same weights in the same order, every chunk from number `first` on in a piece of its own."""
    result = list[Piece]()
    for piece in pieces:
        early = tuple(chunk for chunk in piece.chunks if chunk.index < first)
        result += [replace(piece, chunks=early)] * bool(early)
        result += [replace(piece, chunks=(chunk,)) for chunk in piece.chunks if chunk.index >= first]
    return result


def _equal_runs(chunks: tuple[Chunk, ...]) -> list[tuple[Chunk, ...]]:
    """Full chunks together, a smaller last one alone (and at most as many as an EXEC can count)."""
    full = tuple(chunk for chunk in chunks if chunk.rows == chunks[0].rows)
    runs = [full[i : i + _CHUNKS_MAX] for i in range(0, len(full), _CHUNKS_MAX)]
    return runs + [(chunk,) for chunk in chunks[len(full) :]]


def pack_block(layer: ArrayLayer, pieces: Sequence[Piece], channels: Span) -> bytes:
    """Weight words of output `channels` in the order in which EXEC reads them."""
    return b"".join(_words(layer, piece, channels).tobytes() for piece in pieces)


def _words(layer: ArrayLayer, piece: Piece, channels: Span) -> NDArray[np.int8]:
    """Weights of a piece: its tiles along the first axis, a column for each output channel at the end."""
    if layer.groups == 1 and not piece.chunks[0].folded:
        tiles = _dense_tiles(layer, piece, channels)
    else:
        tiles = np.stack(list(_single_tiles(layer, piece, channels)))
    return np.stack([pack_int4(tile) for tile in tiles]) if piece.int4 else tiles


def _dense_tiles(layer: ArrayLayer, piece: Piece, channels: Span) -> NDArray[np.int8]:
    """Tiles (tile, chunk row, output channel) of neighbouring chunks of an input that all outputs see whole."""
    first, count = piece.chunks[0].channel, len(piece.chunks)
    weight = layer.weight[channels.first : channels.last, piece.ky0 : piece.ky1, piece.kx0 : piece.kx1]
    weight = weight[..., first : first + count * piece.k_rows]
    by_chunk = weight.reshape(*weight.shape[:3], count, piece.k_rows).transpose(3, 1, 2, 4, 0)
    return np.ascontiguousarray(by_chunk).reshape(-1, piece.k_rows, channels.size)


def _single_tiles(layer: ArrayLayer, piece: Piece, channels: Span) -> Iterator[NDArray[np.int8]]:
    """The same, one at a time, of folded chunks and of groups."""
    weight = layer.weight[channels.first : channels.last]
    for chunk, ky, kx in product(piece.chunks, range(piece.ky0, piece.ky1), range(piece.kx0, piece.kx1)):
        if chunk.by_position:
            part = _line_part(weight, chunk, ky)
        elif chunk.folded:
            part = weight[:, ky, chunk.first : chunk.first + chunk.taps, : layer.input_shape[2]]
        else:
            part = _group_part(layer, chunk, ky, kx, channels)
        yield part.reshape(channels.size, -1).T


def _line_part(weight: NDArray[np.int8], chunk: Chunk, line: int) -> NDArray[np.int8]:
    """Weights (output channel, position, input channel) of a chunk's words in a line; zero below the kernel."""
    first = chunk.first + line * chunk.taps
    part = weight.reshape(len(weight), -1, weight.shape[3])[:, first : first + chunk.taps]
    return np.pad(part, ((0, 0), (0, chunk.taps - part.shape[1]), (0, 0)))


def _group_part(layer: ArrayLayer, chunk: Chunk, ky: int, kx: int, channels: Span) -> NDArray[np.int8]:
    """Weights (output channel, chunk row) of one tap; zero where an output's group does not have the input channel."""
    first, last = chunk.channel, chunk.channel + chunk.rows
    part = np.zeros((channels.size, chunk.rows), np.int8)
    for row, channel in enumerate(range(*channels)):
        low, high = layer.input_channels(channel)
        start, stop = max(low, first), min(high, last)
        if start < stop:
            part[row, start - first : stop - first] = layer.weight[channel, ky, kx, start - low : stop - low]
    return part
