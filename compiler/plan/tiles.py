"""Parts of tensors: tiles of outputs, and views of what lies in the scratchpad."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from accel.machine.config import ArchConfig
from accel.machine.layout import Hwc
from accel.network.nodes import Pair
from compiler.lower.geometry import Place, Span, Tile
from compiler.lower.layers import Layer

STREAMED_TILES = 4
"""Tiles of a streamed image at least, if they are not too small: transfers and work of different tiles overlap."""

SMALLEST_TILE = 2
"""Pixels of a tile for each row of the array, below which an image is not cut just to have more tiles.

The array loads `rows` words of weights while it works on the tile before; shorter tiles would wait for them.
"""

FOLLOWED_TILE = 16
"""Pixels of a tile for each row of the array at most where nothing is streamed.

Larger tiles would be hardly faster, and what follows between the tiles of a layer would start later.
"""


class View(NamedTuple):
    """A tile of a tensor in the scratchpad: word of (chunk, y, x) is base + chunk * chunk_stride + pixel offset.

    Chunk 0, pixel (tile.y0, tile.x0) lies at `base`. Rows and columns are `pitch` words apart, (tile.width, 1) if None.
    """

    base: int
    chunk_stride: int
    tile: Tile
    pitch: Pair | None = None

    @property
    def strides(self) -> Pair:
        """Words between rows and between columns."""
        return self.pitch or (self.tile.width, 1)

    def word(self, chunk: int, y: int, x: int) -> int:
        """Address of a pixel, given in coordinates of the whole image."""
        row, column = self.strides
        return self.base + chunk * self.chunk_stride + (y - self.tile.y0) * row + (x - self.tile.x0) * column


def whole(shape: Hwc) -> Tile:
    """The tile that is the whole image."""
    return Tile(0, shape[0], 0, shape[1])


def split(shape: Hwc, height: int, width: int) -> tuple[Tile, ...]:
    """Tiles of at most `height` x `width` pixels that cover an image once, row by row, sizes balanced."""
    rows, columns = _parts(shape[0], height), _parts(shape[1], width)
    return tuple(Tile(y0, y1, x0, x1) for y0, y1 in rows for x0, x1 in columns)


def is_covered(part: Tile, tiles: Sequence[Tile]) -> bool:
    """Whether disjoint tiles hold every pixel of a part."""
    return sum(part.shared_pixels(tile) for tile in tiles) == part.pixels


def streamed_tile_pixels(config: ArchConfig, shape: Hwc, tiles: int = STREAMED_TILES) -> int:
    """Most pixels of a tile if an output, or an input, passes through the scratchpad in `tiles` tiles or more."""
    return min(config.acc_bank_words, max(SMALLEST_TILE * config.rows, shape[0] * shape[1] // tiles))


def resident_tile_pixels(config: ArchConfig, shape: Hwc) -> int:
    """Most pixels of a tile where inputs and output are resident."""
    return min(streamed_tile_pixels(config, shape), FOLLOWED_TILE * config.rows)


def band_tile_pixels(config: ArchConfig) -> int:
    """Most pixels of a tile of a band."""
    return min(config.acc_bank_words, FOLLOWED_TILE * config.rows)


class Size(NamedTuple):
    """Rows and columns."""

    height: int
    width: int


def tile_size(height: int, width: int, pixels: int) -> Size:
    """The largest tiles of at most `pixels` pixels: whole rows if they are not longer."""
    columns = -(-width // -(-width // pixels))
    return Size(max(1, min(height, pixels // columns)), columns)


def channel_group(config: ArchConfig) -> int:
    """Output channels that are made at a time: whole scratchpad words, one or more column tiles of the array."""
    return max(config.rows, config.cols)


def group_chunks(config: ArchConfig) -> int:
    """Channel chunks of a group of channels."""
    return -(-channel_group(config) // config.rows)


def _parts(size: int, largest: int) -> list[Span]:
    return even_spans(size, -(-size // largest))


def even_spans(size: int, count: int) -> list[Span]:
    """`count` spans that make up `size` positions, equally long where that is possible."""
    edges = [size * i // count for i in range(count + 1)]
    return [Span(first, last) for first, last in pairwise(edges)]


def placed(tile: Tile, place: Place) -> Tile:
    """The smallest tile of the whole that holds a tile of a value with a place in it."""
    (y0, x0), (y1, x1) = place.pixel(tile.y0, tile.x0), place.pixel(tile.y1 - 1, tile.x1 - 1)
    return Tile(y0, y1 + 1, x0, x1 + 1)


def input_tile(layer: Layer, tile: Tile) -> Tile:
    """The part of the input that a tile of the output needs; a pixel that it does not need if that is nothing."""
    height, width, _ = layer.input_shape
    y0, y1 = layer.span(0, Span(tile.y0, tile.y1))
    x0, x1 = layer.span(1, Span(tile.x0, tile.x1))
    y0, x0 = min(y0, height - 1), min(x0, width - 1)
    return Tile(y0, max(y1, y0 + 1), x0, max(x1, x0 + 1))
