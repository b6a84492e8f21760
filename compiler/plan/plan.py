"""Plans: where every tensor lives and how every layer is tiled; `compiler.plan.planner` makes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

from accel.machine.layout import Hwc
from compiler.lower.geometry import Span, Tile
from compiler.lower.layers import ComputeLayer, MoveLayer, Network
from compiler.plan.allocate import Area
from compiler.plan.choices import Choices
from compiler.plan.tiles import View, input_tile, whole
from compiler.plan.weights import Chunk


@dataclass(frozen=True)
class Tiling:
    """How a layer is cut.

    Parameters
    ----------
    chunks : tuple of Chunk
        Contraction chunks of an array layer (folded or not); channel chunks of a vector layer.
    tiles : tuple of Tile
        Tiles of the output, in order.
    """

    layer: ComputeLayer
    chunks: tuple[Chunk, ...]
    tiles: tuple[Tile, ...]

    @property
    def folded(self) -> bool:
        """Whether kernel positions are folded into words."""
        return self.chunks[0].folded

    def input_part(self, tile: Tile) -> Tile:
        """What a tile buffer of the input holds for an output tile."""
        if tile not in self._parts:
            self._parts[tile] = input_part(self.layer, self.chunks, tile)
        return self._parts[tile]

    @cached_property
    def _parts(self) -> dict[Tile, Tile]:
        return {}

    @cached_property
    def part_pixels(self) -> tuple[int, ...]:
        """Pixels of the input part of each tile; rows and columns of parts depend on those of tiles alone."""
        heights, widths = dict[Span, int](), dict[Span, int]()
        for tile in self.tiles:
            rows, columns = Span(tile.y0, tile.y1), Span(tile.x0, tile.x1)
            if rows not in heights or columns not in widths:
                heights[rows], widths[columns] = (part := self.input_part(tile)).height, part.width
        return tuple(heights[Span(tile.y0, tile.y1)] * widths[Span(tile.x0, tile.x1)] for tile in self.tiles)


def input_part(layer: ComputeLayer, chunks: tuple[Chunk, ...], tile: Tile) -> Tile:
    """What a tile buffer of the input holds for an output tile, in rows of words if it is folded by positions.

    Folded by columns, it has input rows and output columns.
    """
    if chunks[0].by_position:
        return Tile(tile.y0, tile.y1 + (chunks[0].lines - 1) * chunks[0].pitch, tile.x0, tile.x1)
    part = input_tile(layer, tile)
    return Tile(part.y0, part.y1, tile.x0, tile.x1) if chunks[0].folded else part


@dataclass(frozen=True)
class LayerPlan(Tiling):
    """How one layer runs: its tiling, and where its tiles lie.

    Parameters
    ----------
    input_areas : tuple of (tuple of Area or None)
        Per input: tile buffers used in turn, None if the tensor is resident.
    output_areas : tuple of Area or None
        Tile buffers of the output, None if it is resident.
    group_outer : bool
        Output channel groups are the outer loop (weights are loaded once), tiles the inner.
    """

    input_areas: tuple[tuple[Area, ...] | None, ...]
    output_areas: tuple[Area, ...] | None
    group_outer: bool = False

    @classmethod
    def of(
        cls,
        tiling: Tiling,
        inputs: tuple[tuple[Area, ...] | None, ...],
        output: tuple[Area, ...] | None,
        group_outer: bool = False,
    ) -> LayerPlan:
        """The plan of a tiling whose tiles have these buffers."""
        return cls(tiling.layer, tiling.chunks, tiling.tiles, inputs, output, group_outer)

    @property
    def areas(self) -> tuple[Area, ...]:
        """All tile buffers."""
        return tuple(area for areas in (*self.input_areas, self.output_areas) for area in areas or ())


@dataclass(frozen=True)
class MovePlan:
    """How a gather runs: `words` at a time, into `areas` used in turn; straight to its place if it is resident."""

    layer: MoveLayer
    words: int
    areas: tuple[Area, ...] = ()


AnyPlan: TypeAlias = LayerPlan | MovePlan
"""The plan of a layer."""


@dataclass(frozen=True)
class Band:
    """Rows of a depthwise layer's output that are made together in a pair.

    Parameters
    ----------
    part : Tile
        What they need of the layer's input.
    made : tuple of Tile
        Tiles of the layer before that make it.
    tiles : tuple of Tile
        Tiles of the rows.
    """

    part: Tile
    made: tuple[Tile, ...]
    tiles: tuple[Tile, ...]


@dataclass(frozen=True)
class Plan:
    """Placement of a network.

    Parameters
    ----------
    choices : Choices
        What gave the plan.
    residents : mapping of str to Area
        By name of values that are no parts.
    layers : tuple of LayerPlan or MovePlan
    pairs : mapping of int to tuple of Band
        By index of the array layer of a pair (`compiler.plan.pairs`). Its output areas, which are the depthwise layer's
        input areas, hold one group of channels of a band each; its input areas hold what a band needs.
    trailing : frozenset of int
        Depthwise layers whose last tiles run beside the array layer after them.
    """

    network: Network
    choices: Choices
    residents: Mapping[str, Area]
    layers: tuple[AnyPlan, ...]
    pairs: Mapping[int, tuple[Band, ...]]
    trailing: frozenset[int]

    @property
    def followers(self) -> frozenset[int]:
        """Layers whose tiles run between those of the array layer before them, as soon as their inputs are there.

        Vector layers, and depthwise layers in a pair.
        """
        return self.choices.beside

    @property
    def between(self) -> set[str]:
        """Values that no memory ever holds as a whole: of pairs by bands, and of joined layers."""
        firsts = {*self.pairs, *(index - 1 for index in self.choices.joined)}
        return {self.network.layers[index].output for index in firsts}

    def view(self, value: str, shape: Hwc) -> View:
        """All of a value that is resident, or a part of a resident value."""
        place = self.network.place(value)
        height, width, _ = self.network.shapes[place.whole]
        y, x = place.origin
        base = self.residents[place.whole].base + place.chunk * height * width + y * width + x
        return View(base, height * width, whole(shape), (place.step[0] * width, place.step[1]))
