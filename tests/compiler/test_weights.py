"""The contraction: every weight is multiplied once, blocks fit, packed bytes are in the order of EXEC's loops."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from support.networks.small_networks import conv, network

from accel.machine.config import preset
from compiler.lower.geometry import Span
from compiler.lower.layers import ArrayLayer
from compiler.lower.network import lower
from compiler.plan.folding import TapRow, folded_chunks, tap_rows
from compiler.plan.weights import Chunk, Piece, channel_chunks, cut_apart, pack_block, weight_blocks

EDGE, DATACENTER = preset("edge"), preset("datacenter")


def layer_of(channels: int, kernel: tuple[int, int], outputs: int, **fields: Any) -> ArrayLayer:
    (layer,) = lower(network((1, 40, 40, channels), conv(outputs, kernel, **fields)), EDGE).layers
    assert isinstance(layer, ArrayLayer)
    return layer


def rows_of(layer: ArrayLayer, piece: Piece) -> Iterator[tuple[int, int, int]]:
    """(ky, kx, input channel) of each weight word of a piece, as EXEC's loops and LOAD's words define them."""
    channels = layer.input_shape[2]
    for chunk in piece.chunks:
        for ky in range(piece.ky0, piece.ky1):
            for kx in range(piece.kx0, piece.kx1):
                for row in range(piece.k_rows):
                    if chunk.by_position:
                        position = chunk.first + ky * chunk.taps + row // channels
                        yield *divmod(position, layer.window.kernel[1]), row % channels
                    elif chunk.folded:
                        yield ky, chunk.first + row // channels, row % channels
                    else:
                        yield ky, kx, chunk.channel + row


CASES = [
    (3, (3, 3), 16, 4096, True),
    (1, (7, 7), 8, 4096, True),
    (40, (3, 3), 40, 4096, False),
    (40, (5, 4), 7, 128, False),
    (33, (3, 7), 7, 32, False),
    (16, (1, 1), 3, 64, False),
    (3, (5, 7), 5, 64, True),
    (3, (3, 3), 60, 4096, True),
    (1, (10, 4), 64, 32, True),
]
case = pytest.mark.parametrize(("channels", "kernel", "outputs", "wbuf", "folded"), CASES)


@case
def test_every_weight_is_packed_once(
    channels: int, kernel: tuple[int, int], outputs: int, wbuf: int, folded: bool
) -> None:
    layer = layer_of(channels, kernel, outputs)
    config = replace(EDGE, wbuf_words=wbuf)
    chunks = folded_chunks(layer, config) if folded else channel_chunks(channels, config.rows)
    assert chunks
    seen = np.zeros((*kernel, channels), int)
    for block in weight_blocks(layer, chunks, config, Span(1, 3)):
        assert 0 < sum(piece.words for piece in block) <= wbuf // 2
        words = [row for piece in block for row in rows_of(layer, piece)]
        assert len(words) == sum(piece.words for piece in block)
        data = np.frombuffer(pack_block(layer, block, Span(1, 3)), np.int8).reshape(-1, 2)
        for (ky, kx, ic), word in zip(words, data, strict=True):
            if ky >= kernel[0]:  # the last line is not full
                assert not word.any()
                continue
            seen[ky, kx, ic] += 1
            np.testing.assert_array_equal(word, layer.weight[1:3, ky, kx, ic])
    assert (seen == 1).all()


@case
def test_int4_weights_lie_two_in_each_byte(
    channels: int, kernel: tuple[int, int], outputs: int, wbuf: int, folded: bool
) -> None:
    """Words of a tile hold an even row in their low nibbles and the next row in the high ones."""
    layer = replace(layer_of(channels, kernel, outputs), int4=True)
    layer = replace(layer, weight=layer.weight >> 4)
    config = replace(EDGE, wbuf_words=wbuf)
    chunks = folded_chunks(layer, config) if folded else channel_chunks(channels, config.rows)
    assert chunks
    seen = np.zeros((*kernel, channels), int)
    for block in weight_blocks(layer, chunks, config, Span(1, 3)):
        assert 0 < sum(piece.words for piece in block) <= wbuf // 2
        data = np.frombuffer(pack_block(layer, block, Span(1, 3)), np.uint8).reshape(-1, 2).tolist()
        for piece in block:
            rows = list(rows_of(layer, piece))
            for start in range(0, len(rows), piece.k_rows):
                for r, (ky, kx, ic) in enumerate(rows[start : start + piece.k_rows]):
                    word = data[r // 2]
                    nibbles = [byte >> 4 if r % 2 else byte & 15 for byte in word]
                    if ky >= kernel[0]:  # the last line is not full
                        assert nibbles == [0, 0]
                        continue
                    assert nibbles == [weight % 16 for weight in layer.weight[1:3, ky, kx, ic].tolist()]
                    seen[ky, kx, ic] += 1
                data = data[-(-piece.k_rows // 2) :]
        assert data == []
    assert (seen == 1).all()


@pytest.mark.parametrize(("channels", "groups", "outputs"), [(40, 40, 40), (40, 2, 40), (18, 6, 36), (33, 3, 9)])
def test_grouped_weights_lie_on_the_channels_that_they_see(channels: int, groups: int, outputs: int) -> None:
    layer = layer_of(channels, (2, 3), outputs, groups=groups)
    dense = np.zeros((outputs, 2, 3, channels), np.int8)
    for channel in range(outputs):
        first = channel // (outputs // groups) * (channels // groups)
        dense[channel, :, :, first : first + channels // groups] = layer.weight[channel]
    chunks = channel_chunks(channels, EDGE.rows)
    for start in range(0, outputs, EDGE.cols):
        part = Span(start, min(start + EDGE.cols, outputs))
        rest = dense[part.first : part.last].copy()
        for block in weight_blocks(layer, chunks, EDGE, part):
            data = np.frombuffer(pack_block(layer, block, part), np.int8).reshape(-1, part.size)
            words = [row for piece in block for row in rows_of(layer, piece)]
            for (ky, kx, ic), word in zip(words, data, strict=True):
                np.testing.assert_array_equal(word, dense[part.first : part.last, ky, kx, ic])
                rest[:, ky, kx, ic] = 0
        assert not rest.any()


@case
def test_pieces_fit_the_instruction(
    channels: int, kernel: tuple[int, int], outputs: int, wbuf: int, folded: bool
) -> None:
    layer = layer_of(channels, kernel, outputs)
    chunks = channel_chunks(channels, EDGE.rows)
    for block in weight_blocks(layer, chunks, replace(EDGE, wbuf_words=wbuf), Span(0, outputs)):
        for piece in block:
            assert 0 < piece.k_rows <= EDGE.rows
            assert {chunk.rows for chunk in piece.chunks} == {piece.k_rows}
            assert {b.index - a.index for a, b in pairwise(piece.chunks)} <= {1}


def test_chunks_of_channels() -> None:
    assert channel_chunks(40, 16) == (Chunk(0, 16, 0), Chunk(1, 16, 16), Chunk(2, 8, 32))
    assert channel_chunks(3, 16) == (Chunk(0, 3, 0),)


def test_chunks_of_columns() -> None:
    assert folded_chunks(layer_of(3, (3, 3), 4), EDGE) == (Chunk(0, 9, first=0, taps=3),)
    assert tap_rows(layer_of(3, (3, 3), 4), Chunk(0, 9, first=0, taps=3)) == [TapRow(0, 0, 3, 0)]


def test_chunks_of_positions() -> None:
    """Where many channels come out, full words are worth the LOADs that make them in pieces."""
    layer = layer_of(3, (3, 3), 40)
    chunks = folded_chunks(layer, EDGE)
    assert chunks == (Chunk(0, 15, first=0, taps=5, by_position=True), Chunk(1, 12, first=5, taps=4, by_position=True))
    assert tap_rows(layer, chunks[0]) == [TapRow(0, 0, 3, 0), TapRow(1, 0, 2, 9)]
    assert tap_rows(layer, chunks[1]) == [TapRow(1, 2, 3, 0), TapRow(2, 0, 3, 3)]


def test_chunks_of_lines() -> None:
    """Two rows of a 7x7 kernel in each word: the array steps through four lines, LOAD makes words of two pieces."""
    layer = layer_of(3, (7, 7), 64, stride=(2, 2), padding=(3, 3, 3, 3))
    chunks = folded_chunks(layer, DATACENTER)
    assert chunks == (Chunk(0, 42, first=0, taps=14, by_position=True, lines=4, pitch=1),)
    assert tap_rows(layer, chunks[0]) == [TapRow(0, 0, 7, 0), TapRow(1, 0, 7, 21)]
    (block,) = weight_blocks(layer, chunks, DATACENTER, Span(0, 64))
    weights = np.frombuffer(pack_block(layer, block, Span(0, 64)), np.int8)
    lines = weights.reshape(4, 2, 7, 3, 64).transpose(4, 0, 1, 2, 3).reshape(64, 8, 7, 3)
    np.testing.assert_array_equal(lines[:, :7], layer.weight)
    assert not lines[:, 7].any()


@pytest.mark.parametrize(
    ("channels", "kernel", "fields", "reason"),
    [
        (9, (3, 3), {}, "no two columns fit a word"),
        (3, (3, 1), {}, "one column"),
        (3, (3, 3), {"dilation": (1, 2)}, "columns are not neighbours"),
        (5, (3, 3), {"stride": (1, 4)}, "words would skip bytes that LOAD has no step for"),
        (3, (1, 9), {"padding": (0, 100, 0, 0)}, "more padding than LOAD makes"),
    ],
)
def test_what_is_not_folded(channels: int, kernel: tuple[int, int], fields: dict[str, Any], reason: str) -> None:
    assert folded_chunks(layer_of(channels, kernel, 4, **fields), EDGE) is None


def test_blocks_use_the_buffer() -> None:
    """No two blocks could be one."""
    blocks = weight_blocks(layer_of(40, (5, 5), 4), channel_chunks(40, 16), replace(EDGE, wbuf_words=512), Span(0, 4))
    sizes = [sum(piece.words for piece in block) for block in blocks]
    assert all(a + b > 256 for a, b in pairwise(sizes))


@pytest.mark.parametrize("first", range(6))
def test_pieces_cut_apart_hold_the_same_words(first: int) -> None:
    chunks = tuple(Chunk(i, 4) for i in range(4))
    pieces = [Piece(chunks, 0, 3, 0, 3), Piece((Chunk(4, 2),), 0, 3, 0, 3)]
    cut = cut_apart(pieces, first)
    assert [chunk for piece in cut for chunk in piece.chunks] == [chunk for piece in pieces for chunk in piece.chunks]
    assert sum(piece.words for piece in cut) == sum(piece.words for piece in pieces)
    assert all(len(piece.chunks) == 1 or piece.chunks[-1].index < first for piece in cut)
