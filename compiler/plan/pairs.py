"""An array layer and the depthwise layer after it, side by side.

Array and depthwise engine work at the same time if the engine has one group of channels to itself while the array makes
the next. A depthwise layer needs all rows around an output but only one group of channels. The tensor between the two
layers therefore has two buffers, each for one group of a band of rows, and no place in external memory. Rows that two
bands need are made twice; bands are as high as the scratchpad allows.

Units that use the same port of a bank take turns, so that the array layer's input, the tensor between and the output
are kept in banks of their own if that is possible.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, combinations, pairwise
from typing import NamedTuple

from accel.machine.config import ArchConfig
from compiler.lower.geometry import Tile
from compiler.lower.layers import ArrayLayer, DepthwiseLayer, Network
from compiler.plan.allocate import Area, Scratchpad
from compiler.plan.folding import can_fold
from compiler.plan.plan import Band, LayerPlan
from compiler.plan.tiles import input_tile, split, tile_pixels, tile_size
from compiler.plan.weights import Chunk, channel_chunks, contraction_words


def may_pair(network: Network, index: int) -> bool:
    """Whether layer `index` is a depthwise layer and alone reads what the array layer before it makes."""
    before, layer = network.layers[index - 1 : index + 1]
    if not isinstance(layer, DepthwiseLayer) or not isinstance(before, ArrayLayer) or before.unit != "array":
        return False
    value = before.output
    kept = {network.aliases.get(name, name) for name in network.outputs} | network.gathered
    alone = network.users(value) == ((index - 1,), (index,))
    return alone and layer.inputs == (value,) and network.place(value).whole == value and value not in kept


def may_trail(network: Network, index: int) -> bool:
    """Whether layer `index` is the depthwise layer of a pair, and the next, on the array, reads what it makes."""
    if not 0 < index < len(network.layers) - 1 or not may_pair(network, index):
        return False
    value, after = network.layers[index].output, network.layers[index + 1]
    on_array = isinstance(after, ArrayLayer) and after.unit == "array" and after.inputs == (value,)
    return on_array and network.place(value).whole == value and network.users(value).writers == (index,)


def suits_tiles(network: Network, config: ArchConfig, index: int) -> bool:
    """Whether a pair had better go tile by tile, with all of the tensor between in the scratchpad.

    Then the next layer can start early, but every tile needs all weights, and more tiles than groups of channels are
    needed for the two units to work at the same time.
    """
    before, layer = network.layers[index - 1 : index + 1]
    assert isinstance(before, ArrayLayer)
    assert isinstance(layer, DepthwiseLayer)
    height, width, channels = before.output_shape
    groups = -(-channels // max(config.rows, config.cols))
    tiles = split(before.output_shape, *tile_size(height, width, tile_pixels(config, before.output_shape, False)))
    lanes = -(-channels // config.depthwise_lanes)
    words = contraction_words(before, channel_chunks(before.input_shape[2], config.rows), config)
    fits = words <= config.wbuf_words // 2 and layer.weight[0].size * lanes <= config.depthwise_words // 2
    return fits and len(tiles) >= groups


class PairPlan(NamedTuple):
    """How both layers of a pair run, by bands."""

    array: LayerPlan
    depthwise: LayerPlan
    bands: tuple[Band, ...]


@dataclass(frozen=True)
class PairPlanner:
    """Plans a pair of layers.

    Parameters
    ----------
    layers : (ArrayLayer, DepthwiseLayer)
    chunks : choices of contraction chunks of the array layer, the best first
    source : Area or None
        The array layer's input if it is resident.
    period : (int, int)
        Layers that the areas live with.
    may_trail : bool
        What is between lives with the layer after them, too, if the output is resident.
    pixels : int
        Most pixels of a tile.
    """

    config: ArchConfig
    scratchpad: Scratchpad
    layers: tuple[ArrayLayer, DepthwiseLayer]
    chunks: tuple[tuple[Chunk, ...], ...]
    source: Area | None
    period: tuple[int, int]
    may_trail: bool
    pixels: int

    def plan(self, output: Area | None, apart: bool) -> PairPlan | None:
        """The plan with the highest bands that have room; None if there is none.

        Parameters
        ----------
        output : Area or None
            The depthwise layer's output if it is resident.
        apart : bool
            Input, output and what is between must not share a bank.
        """
        for chunks in self.chunks:
            for copies in (2, 1) if self.source is None else (0,):
                for plan in self._bandings(chunks):
                    if self._allocate(plan, output, copies, apart):
                        return plan
        return None

    def _bandings(self, chunks: tuple[Chunk, ...]) -> Iterator[PairPlan]:
        """Plans without areas, high bands first, as long as making rows twice costs less than half of what is won."""
        array, depthwise = self.layers
        height = depthwise.output_shape[0]
        for count in range(1, height + 1):
            edges = [height * i // count for i in range(count + 1)]
            plan = self._cut(chunks, edges)
            once = input_tile(depthwise, _rows(depthwise, 0, height)).pixels
            twice = sum(band.part.pixels for band in plan.bands) - once
            window = (1, 1) if chunks[0].by_position else array.window.kernel
            passes = len(chunks) * window[0] * (1 if chunks[0].folded else window[1])
            if 2 * twice * passes > height * depthwise.output_shape[1] * depthwise.window.kernel[0]:
                return
            tiles = (*plan.array.tiles, *(band.part for band in plan.bands))
            if not plan.array.folded or can_fold(array, chunks, tiles):
                yield plan

    def _cut(self, chunks: tuple[Chunk, ...], edges: list[int]) -> PairPlan:
        """Bands between rows `edges`, and their tiles."""
        array, depthwise = self.layers
        rows = [_rows(depthwise, y0, y1) for y0, y1 in pairwise(edges)]
        parts = [input_tile(depthwise, tile) for tile in rows]
        bands = tuple(Band(p, self._tiles(p), self._tiles(r)) for p, r in zip(parts, rows, strict=True))
        made, tiles = (chain.from_iterable(several) for several in ((b.made for b in bands), (b.tiles for b in bands)))
        plain = channel_chunks(depthwise.input_shape[2], self.config.rows)
        return PairPlan(LayerPlan(array, chunks, tuple(made)), LayerPlan(depthwise, plain, tuple(tiles)), bands)

    def _tiles(self, part: Tile) -> tuple[Tile, ...]:
        size = (part.height, part.width)
        tiles = split((*size, 1), *tile_size(*size, self.pixels))
        return tuple(Tile(t.y0 + part.y0, t.y1 + part.y0, t.x0 + part.x0, t.x1 + part.x0) for t in tiles)

    def _allocate(self, plan: PairPlan, output: Area | None, copies: int, apart: bool) -> bool:
        """Give the layers their areas if there is room."""
        first, second, bands = plan
        words = -(-max(self.config.rows, self.config.cols) // self.config.rows)
        groups = -(-first.layer.output_shape[2] // (words * self.config.rows))
        wanted = [
            (min(copies, len(bands)), max(first.input_part(band.part).pixels for band in bands) * len(first.chunks)),
            (min(2, len(bands) * groups), max(band.part.pixels for band in bands) * words),
            (0 if output else min(2, len(second.tiles) * groups), max(tile.pixels for tile in second.tiles) * words),
        ]
        first_layer, last_layer = self.period
        ends = (last_layer, last_layer + (self.may_trail and output is not None), last_layer)
        areas = [
            self.scratchpad.allocate(count * size, first_layer, end)
            for (count, size), end in zip(wanted, ends, strict=True)
            if count
        ]
        present = [area for area in areas if area is not None]
        if len(present) < len(areas) or (apart and self._share_banks([*present, self.source, output])):
            for area in present:
                self.scratchpad.release(area)
            return False
        rooms = [_divide(present.pop(0), count) if count else None for count, _ in wanted]
        first.input_areas, first.output_areas = [rooms[0]], rooms[1]
        second.input_areas, second.output_areas = [rooms[1]], rooms[2]
        return True

    def _share_banks(self, areas: list[Area | None]) -> bool:
        banks = [self.scratchpad.banks(area.base, area.words) for area in areas if area is not None]
        return any(a & b for a, b in combinations(banks, 2))


def _rows(layer: DepthwiseLayer, y0: int, y1: int) -> Tile:
    """Rows of the output."""
    return Tile(y0, y1, 0, layer.output_shape[1])


def _divide(area: Area, count: int) -> list[Area]:
    """Equal parts of an area."""
    words = area.words // count
    return [Area(area.base + i * words, words, area.first, area.last) for i in range(count)]
