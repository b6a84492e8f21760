"""Tilings of a layer, the best first, and the tile buffers that they need.

What a search would vary for each layer is a `Candidate`: any tiling that covers the output once will do.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from typing import NamedTuple

from accel.machine.config import ArchConfig
from compiler.lower.geometry import Tile
from compiler.lower.layers import ArrayLayer, ComputeLayer, DepthwiseLayer, Network
from compiler.plan.folding import can_fold, folded_chunks
from compiler.plan.plan import Tiling
from compiler.plan.tiles import (
    SMALLEST_TILE,
    STREAMED_TILES,
    group_chunks,
    resident_tile_pixels,
    split,
    streamed_tile_pixels,
    tile_size,
)
from compiler.plan.weights import Chunk, channel_chunks, contraction_words

BUFFERS = (2, 1)
"""Buffers for each streamed tensor, the best first: with two, a transfer runs beside the work on the other."""


class Candidate(NamedTuple):
    """A tiling, and how many buffers each streamed tensor has for its tiles."""

    tiling: Tiling
    buffers: int


class Buffer(NamedTuple):
    """Words of one tile buffer; 0 if the tensor is resident and needs none."""

    inputs: tuple[int, ...]
    output: int


def folded(network: Network, layer: ComputeLayer, config: ArchConfig) -> tuple[Chunk, ...] | None:
    """Folded chunks where the layer runs on the array, alone reads a network input, and folding pays."""
    if not isinstance(layer, ArrayLayer) or layer.unit != "array" or layer.inputs[0] not in network.inputs:
        return None
    return folded_chunks(layer, config) if len(network.users(layer.inputs[0]).readers) == 1 else None


def chunkings(network: Network, layer: ComputeLayer, config: ArchConfig) -> tuple[tuple[Chunk, ...], ...]:
    """Choices of contraction or channel chunks, the best first."""
    plain, packed = channel_chunks(layer.input_shape[2], config.rows), folded(network, layer, config)
    return (packed, plain) if packed else (plain,)


def candidates(
    layer: ComputeLayer,
    chunkings: Sequence[tuple[Chunk, ...]],
    config: ArchConfig,
    streams: bool,
    floor: int,
    at_least: int = STREAMED_TILES,
) -> Iterator[Candidate]:
    """Tilings whose largest tile has at least `floor` pixels: large tiles first, double buffers before single ones.

    Parameters
    ----------
    streams : bool
        Whether an input or the output passes through the scratchpad in tiles.
    at_least : int
        So many tiles it then has, if they are not too small.
    """
    for chunks, buffers in product(chunkings, BUFFERS):
        for tiles in _cuts(layer, config, streams, floor, at_least):
            tiling = Tiling(layer, chunks, tiles)
            if not tiling.folded or not isinstance(layer, ArrayLayer) or can_fold(layer, chunks, tiles):
                yield Candidate(tiling, min(buffers, len(tiles)))


def _cuts(
    layer: ComputeLayer, config: ArchConfig, streams: bool, floor: int, at_least: int
) -> Iterator[tuple[Tile, ...]]:
    """Ways to cut the output, tiles of falling size: first fewer rows, then fewer columns."""
    height, width, _ = shape = layer.output_shape
    pixels = streamed_tile_pixels(config, shape, at_least) if streams else resident_tile_pixels(config, shape)
    columns = tile_size(height, width, config.acc_bank_words).width
    rows = max(1, min(height, pixels // columns))
    floor = min(floor, rows * columns, height * width)
    last: tuple[Tile, ...] = ()
    while True:
        tiles = split(shape, rows, columns)
        if max(tile.pixels for tile in tiles) < floor:
            return
        if streams:
            tiles = _short_ends(tiles, config)
        if tiles != last:
            yield tiles
        last = tiles
        if rows > 1:
            rows = fewer_rows(rows)
        elif columns > 1 and len(layer.inputs) == 1:
            columns = -(-columns // 2)
        else:
            return


def _short_ends(tiles: tuple[Tile, ...], config: ArchConfig) -> tuple[Tile, ...]:
    """The same tiles, the first and last row of them cut in two if the parts are not too small.

    The first work begins when its input is there, and what follows the last work is not hidden behind any.
    """
    result = list[Tile]()
    for tile in tiles:
        middle = (tile.y0 + tile.y1) // 2
        is_end = tile.y0 == tiles[0].y0 or tile.y1 == tiles[-1].y1
        if is_end and (middle - tile.y0) * tile.width >= SMALLEST_TILE * config.rows:
            result += [tile._replace(y1=middle), tile._replace(y0=middle)]
        else:
            result.append(tile)
    return tuple(sorted(result))


def fewer_rows(rows: int) -> int:
    """The next smaller height that is tried, a quarter less: few tries, and at most a quarter of the room is wasted."""
    return max(1, rows * 3 // 4)


def buffer(tiling: Tiling, config: ArchConfig, streamed: Sequence[bool], store: bool) -> Buffer:
    """What tiles need of the scratchpad.

    Parameters
    ----------
    streamed : sequence of bool
        For every input, whether it passes through the scratchpad in tiles.
    store : bool
        Whether the output does.
    """
    words = _input_words(tiling, config) if any(streamed) else 0
    return Buffer(tuple(words * flag for flag in streamed), _output_words(tiling, config) if store else 0)


class Cost(NamedTuple):
    """Cycles that a tiling takes at least: those of the array, and those of the bus for weights and streamed inputs."""

    array: int
    load: int

    @property
    def cycles(self) -> int:
        """The unit that takes longer hides the other."""
        return max(self)


def cost(tiling: Tiling, config: ArchConfig, streamed: bool, group_outer: bool) -> Cost:
    """What an array layer's tiling costs; nothing for others and for folded inputs, whose first tiling is taken.

    Parameters
    ----------
    streamed : bool
        Whether the input passes through the scratchpad in tiles.
    group_outer : bool
        Weights are loaded once; otherwise once for each tile unless all of them fit the weight buffer.
    """
    layer, tiles = tiling.layer, tiling.tiles
    if not isinstance(layer, ArrayLayer) or layer.unit != "array" or tiling.folded:
        return Cost(0, 0)
    words = contraction_words(layer, tiling.chunks, config)
    times = 1 if group_outer or words <= config.wbuf_words else len(tiles)
    weights = words * config.cols * times
    inputs = sum(tiling.part_pixels) * len(tiling.chunks) * config.rows * streamed
    rows = -(-config.rows // 2) if layer.int4 else config.rows
    steps = sum(max(tile.pixels, rows) for tile in tiles) * -(-words // rows)
    return Cost(steps, (weights + inputs) // config.bus_bytes)


def _input_words(tiling: Tiling, config: ArchConfig) -> int:
    """The largest input tile: all chunks, or those of one group of channels in the depthwise engine."""
    chunks = len(tiling.chunks)
    if isinstance(tiling.layer, DepthwiseLayer):
        chunks = min(chunks, group_chunks(config))
    return max(tiling.part_pixels) * chunks


def _output_words(tiling: Tiling, config: ArchConfig) -> int:
    """The largest output tile: all chunks, or those of one group of channels if the layer has weights."""
    chunks = -(-tiling.layer.output_shape[2] // config.rows)
    if isinstance(tiling.layer, ArrayLayer):
        chunks = min(chunks, group_chunks(config))
    return max(tile.pixels for tile in tiling.tiles) * chunks
