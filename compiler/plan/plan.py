"""Plans: where every tensor lives and how every layer is tiled; `compiler.plan.planner` makes them."""

from __future__ import annotations

from dataclasses import dataclass, field

from accel.machine.layout import Hwc
from compiler.lower.geometry import Tile
from compiler.lower.layers import ComputeLayer, MoveLayer, Network
from compiler.plan.allocate import Area
from compiler.plan.tiles import View, input_tile, whole
from compiler.plan.weights import Chunk


@dataclass
class LayerPlan:
    """How one layer runs.

    Parameters
    ----------
    chunks : tuple of Chunk
        Contraction chunks of an array layer (folded or not); channel chunks of a vector layer.
    tiles : tuple of Tile
        Tiles of the output, in order.
    input_areas : list of (list of Area or None)
        Per input: tile buffers used in turn, None if the tensor is resident.
    output_areas : list of Area or None
        Tile buffers of the output, None if it is resident.
    group_outer : bool
        Output channel groups are the outer loop (weights are loaded once), tiles the inner.
    """

    layer: ComputeLayer
    chunks: tuple[Chunk, ...]
    tiles: tuple[Tile, ...]
    input_areas: list[list[Area] | None] = field(default_factory=list)
    output_areas: list[Area] | None = None
    group_outer: bool = False

    @property
    def folded(self) -> bool:
        """Whether kernel positions are folded into words."""
        return self.chunks[0].folded

    def input_part(self, tile: Tile) -> Tile:
        """Tile of the input in its buffer for an output tile (folded by columns: input rows, output columns)."""
        if self.chunks[0].by_position:
            return tile
        part = input_tile(self.layer, tile)
        return Tile(part.y0, part.y1, tile.x0, tile.x1) if self.folded else part

    @property
    def areas(self) -> list[Area]:
        """All tile buffers."""
        return [area for areas in (*self.input_areas, self.output_areas) for area in areas or ()]


@dataclass
class MovePlan:
    """How a gather runs: `words` at a time, into `areas` used in turn; straight to its place if it is resident."""

    layer: MoveLayer
    words: int
    areas: list[Area]


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


@dataclass
class Plan:
    """Placement of a network.

    Parameters
    ----------
    residents : dict of str to Area
        By name of values that are no parts.
    layers : list of LayerPlan or MovePlan
    followers : set of int
        Layers whose tiles run between those of the array layer before them, as soon as their inputs are there: vector
        layers, and depthwise layers in a pair.
    pairs : dict of int to tuple of Band
        By index of the array layer of a pair (`compiler.plan.pairs`). Its output areas, which are the depthwise layer's
        input areas, hold one group of channels of a band each; its input areas hold what a band needs.
    trailing : set of int
        Depthwise layers whose last tiles run beside the array layer after them.
    """

    residents: dict[str, Area]
    layers: list[LayerPlan | MovePlan]
    network: Network
    followers: set[int]
    pairs: dict[int, tuple[Band, ...]]
    trailing: set[int]

    def view(self, value: str, shape: Hwc) -> View:
        """All of a value that is resident, or a part of a resident value."""
        place = self.network.place(value)
        height, width, _ = self.network.shapes[place.whole]
        y, x = place.origin
        base = self.residents[place.whole].base + place.chunk * height * width + y * width + x
        return View(base, height * width, whole(shape), (place.step[0] * width, place.step[1]))
