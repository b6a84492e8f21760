"""An array layer and the depthwise layer after it, side by side.

Array and depthwise engine work at the same time if the engine has one group of channels to itself while the array makes
the next. A depthwise layer needs all rows around an output but only one group of channels. The tensor between the two
layers therefore has two buffers, each for one group of a band of rows, and no place in external memory. Rows that two
bands need are made twice; bands are as high as the scratchpad allows.

Units that use the same port of a bank take turns, so that the array layer's input, the tensor between and the output
are kept in banks of their own if that is possible.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, combinations
from typing import NamedTuple

from accel.machine.config import ArchConfig
from compiler.lower.geometry import Tile
from compiler.lower.layers import ArrayLayer, DepthwiseLayer
from compiler.plan.allocate import Area, Request, Scratchpad
from compiler.plan.folding import can_fold
from compiler.plan.plan import Band, LayerPlan, Tiling, input_part
from compiler.plan.tiles import band_tile_pixels, even_spans, group_chunks, input_tile, split, tile_size
from compiler.plan.tilings import BUFFERS
from compiler.plan.weights import Chunk, channel_chunks

ROOMS = 2
"""Rooms for what the array makes and the engine uses, and for what the engine makes and STORE takes away."""


class Cut(NamedTuple):
    """The output of a pair cut into bands of rows, and what they need of the tensor between."""

    rows: tuple[Tile, ...]
    parts: tuple[Tile, ...]


class Pairing(NamedTuple):
    """The layers of a pair, and contraction chunks of the array layer."""

    config: ArchConfig
    array: ArrayLayer
    depthwise: DepthwiseLayer
    chunks: tuple[Chunk, ...]


class PairPlan(NamedTuple):
    """How both layers of a pair run, and the scratchpad in which their areas are taken."""

    array: LayerPlan
    depthwise: LayerPlan
    bands: tuple[Band, ...]
    scratchpad: Scratchpad


@dataclass(frozen=True)
class PairSite:
    """What surrounds a pair.

    Parameters
    ----------
    source : Area or None
        The array layer's input if it is resident.
    output : Area or None
        The depthwise layer's output if it is resident.
    first, last : int
        Layers that the areas of the pair live with.
    trails : bool
        What is between, and rooms for the output, live with the layer after them, too.
    """

    source: Area | None
    output: Area | None
    first: int
    last: int
    trails: bool


def place_pair(
    scratchpad: Scratchpad, pairing: Pairing, cuts: Sequence[Cut], site: PairSite, apart: bool
) -> PairPlan | None:
    """The plan with the first of these cuts that has room; None if there is none.

    Parameters
    ----------
    apart : bool
        Input, output and what is between must not share a bank.
    """
    for buffers in BUFFERS if site.source is None else (0,):
        for cut in cuts:
            rooms = _rooms(pairing, cut, site, buffers)
            grants = scratchpad.allocate_all(Request(r.copies * r.words, site.first, r.last) for r in rooms if r.copies)
            if grants is None or (apart and share_banks(scratchpad, [*grants.areas, site.source, site.output])):
                continue
            areas = iter(grants.areas)
            source, between, output = (next(areas).divided(room.copies) if room.copies else None for room in rooms)
            array, depthwise, bands = _tilings(pairing, cut)
            plans = LayerPlan.of(array, (source,), between), LayerPlan.of(depthwise, (between,), output)
            return PairPlan(*plans, bands, grants.scratchpad)
    return None


def cuts_of(pairing: Pairing) -> Iterator[Cut]:
    """Ways to cut a pair, high bands first, as long as they pay."""
    config, array, depthwise, chunks = pairing
    height, width, _ = depthwise.output_shape
    for count in range(1, height + 1):
        rows = tuple(Tile(*span, 0, width) for span in even_spans(height, count))
        cut = Cut(rows, tuple(input_tile(depthwise, tile) for tile in rows))
        if not _pays(pairing, cut):
            return
        made = chain.from_iterable(_tiles(part, config) for part in cut.parts)
        if not chunks[0].folded or can_fold(array, chunks, (*made, *cut.parts)):
            yield cut


def _pays(pairing: Pairing, cut: Cut) -> bool:
    """Whether making rows twice costs the array at most half of the cycles that the engine then works beside it."""
    _, array, depthwise, chunks = pairing
    height, width, _ = depthwise.output_shape
    once = input_tile(depthwise, Tile(0, height, 0, width)).pixels
    twice = sum(part.pixels for part in cut.parts) - once
    kernel = (chunks[0].lines, 1) if chunks[0].by_position else array.window.kernel
    passes = len(chunks) * kernel[0] * (1 if chunks[0].folded else kernel[1])
    return 2 * twice * passes <= height * width * depthwise.window.kernel[0]


def _tilings(pairing: Pairing, cut: Cut) -> tuple[Tiling, Tiling, tuple[Band, ...]]:
    """The tiles of both layers, band by band."""
    config, array, depthwise, chunks = pairing
    bands = tuple(Band(part, _tiles(part, config), _tiles(rows, config)) for rows, part in zip(*cut, strict=True))
    made = tuple(tile for band in bands for tile in band.made)
    tiles = tuple(tile for band in bands for tile in band.tiles)
    plain = channel_chunks(depthwise.input_shape[2], config.rows)
    return Tiling(array, chunks, made), Tiling(depthwise, plain, tiles), bands


def _tiles(part: Tile, config: ArchConfig) -> tuple[Tile, ...]:
    """Tiles that make up a part."""
    tiles = split((part.height, part.width, 1), *tile_size(part.height, part.width, band_tile_pixels(config)))
    return tuple(Tile(t.y0 + part.y0, t.y1 + part.y0, t.x0 + part.x0, t.x1 + part.x0) for t in tiles)


class _Rooms(NamedTuple):
    """Equal rooms side by side that live until layer `last`."""

    copies: int
    words: int
    last: int


def _rooms(pairing: Pairing, cut: Cut, site: PairSite, buffers: int) -> tuple[_Rooms, _Rooms, _Rooms]:
    """What the layers need: for bands of the source, for one group of what is between, for one of the output."""
    config, array, _, chunks = pairing
    group = group_chunks(config)
    groups = -(-array.output_shape[2] // (group * config.rows))
    source = max(input_part(array, chunks, part).pixels for part in cut.parts) * len(chunks)
    between = max(part.pixels for part in cut.parts) * group
    heights = Counter(tile.height for tile in cut.rows)
    tiles = {height: _tiles(Tile(0, height, *cut.rows[0][2:]), config) for height in heights}
    output = max(tile.pixels for several in tiles.values() for tile in several) * group
    made = sum(len(tiles[height]) * many for height, many in heights.items()) * groups
    trailing = site.last + site.trails
    return (
        _Rooms(min(buffers, len(cut.rows)), source, site.last),
        _Rooms(min(ROOMS, len(cut.rows) * groups), between, trailing),
        _Rooms(0 if site.output else min(ROOMS, made), output, trailing),
    )


def share_banks(scratchpad: Scratchpad, areas: Sequence[Area | None]) -> bool:
    """Whether two of these areas lie in one bank."""
    banks = [scratchpad.banks(area.base, area.words) for area in areas if area is not None]
    return any(a & b for a, b in combinations(banks, 2))
