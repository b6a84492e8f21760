"""Where every tensor lives and how every layer is tiled.

A tensor stays in the scratchpad from its producer to its last consumer if there is room; otherwise it lives in external
memory and passes through the scratchpad in tiles, two buffers each so that transfers overlap with work.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product

from accel.config import ArchConfig
from accel.errors import CompileError
from accel.layout import Hwc
from compiler.allocate import Area, Scratchpad
from compiler.folding import can_fold, folded_chunks
from compiler.layers import AnyLayer, ArrayLayer, ComputeLayer, DepthwiseLayer, MoveLayer, Network, VectorLayer
from compiler.tiles import Tile, View, input_tile, split, whole
from compiler.weights import Chunk, channel_chunks, contraction_words

MOVE_WORDS = 1024
"""Words that a gather brings at a time."""


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
        """What a tile buffer of the input holds for an output tile (folded by columns: input rows, output columns)."""
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


@dataclass
class Plan:
    """Placement of a network.

    Parameters
    ----------
    residents : dict of str to Area
        By name of values that are no parts.
    layers : list of LayerPlan or MovePlan
    followers : set of int
        Vector layers whose tiles run between those of the array layer before them, as soon as their inputs are there.
    """

    residents: dict[str, Area]
    layers: list[LayerPlan | MovePlan]
    network: Network
    followers: set[int]

    def view(self, value: str, shape: Hwc) -> View:
        """All of a resident value, whatever it is a part of."""
        place = self.network.place(value)
        height, width, _ = self.network.shapes[place.whole]
        y, x = place.origin
        base = self.residents[place.whole].base + place.chunk * height * width + y * width + x
        return View(base, height * width, whole(shape), (place.step[0] * width, place.step[1]))


class _NoRoomError(Exception):
    """A layer has no tiling beside the residents alive with it."""

    def __init__(self, index: int, needed: int) -> None:
        self.index, self.needed = index, needed


class _NoPlaceBesideError(Exception):
    """A vector layer cannot run between the tiles of the layer before it."""

    def __init__(self, index: int) -> None:
        self.index = index


def plan_network(network: Network, config: ArchConfig) -> Plan:
    """Place all values and tile all layers; spills the largest resident tensor until everything has room.

    Raises
    ------
    CompileError
        A layer does not fit even with nothing resident beside it; the message has the numbers.
    """
    spilled: set[str] = set()
    followers = {i for i in range(1, len(network.layers)) if _may_follow(network, i)}
    while True:
        planner = _Planner(network, config, spilled, followers)
        try:
            return planner.run()
        except _NoPlaceBesideError as problem:
            followers.remove(problem.index)
        except _NoRoomError as problem:
            alive = {
                value: area for value, area in planner.residents.items() if area.first <= problem.index <= area.last
            }
            if not alive:
                layer = network.layers[problem.index]
                raise CompileError(
                    f"layer {layer.name!r} ({layer.op}): no tiling fits config {config.name!r}: the smallest needs "
                    f"{problem.needed} scratchpad words of {config.rows} bytes, the scratchpad has {config.spad_words}"
                ) from None
            spilled.add(max(alive, key=lambda value: (alive[value].words, value)))


def _may_follow(network: Network, index: int) -> bool:
    """Whether a vector layer reads all of what the array layer before it makes, and nothing else made it."""
    before, layer = network.layers[index - 1 : index + 1]
    if not isinstance(before, ArrayLayer) or not isinstance(layer, VectorLayer) or before.output not in layer.inputs:
        return False
    return network.place(before.output).whole == before.output and network.users(before.output)[0] == [index - 1]


class _Planner:
    """Places layer by layer; areas of a follower live with those of the layer before it."""

    def __init__(self, network: Network, config: ArchConfig, spilled: set[str], followers: set[int]) -> None:
        self.network, self.config, self.spilled, self.followers = network, config, spilled, followers
        self.scratchpad = Scratchpad(config)
        self.residents: dict[str, Area] = {}

    def run(self) -> Plan:
        plans = [self._place(i, layer) for i, layer in enumerate(self.network.layers)]
        return Plan(self.residents, plans, self.network, self.followers)

    def _place(self, index: int, layer: AnyLayer) -> LayerPlan | MovePlan:
        if isinstance(layer, MoveLayer):
            return self._place_move(index, layer)
        for value in layer.inputs:
            self._preload(index, layer, self.network.place(value).whole)
        value = self.network.place(layer.output).whole
        writers, readers = self.network.users(value)
        if index in self.followers and any(self._streams(name) for name in layer.inputs):
            raise _NoPlaceBesideError(index)
        begun = min(writers) < index
        wants_resident = value in self.residents if begun else bool(readers) and value not in self.spilled
        smallest = 0
        for floor in (8 * self.config.rows, 1):
            for resident in (True,) if begun and wants_resident else (True, False) if wants_resident else (False,):
                area = None
                if resident and not begun:
                    area = self._resident(self.network.shapes[value], index, max(writers + readers))
                    if area is None and index in self.followers:
                        raise _NoPlaceBesideError(index)
                    if area is None:
                        continue
                plan, smallest = self._tile(index, layer, not resident, floor)
                if plan is not None:
                    if area is not None:
                        self.residents[value] = area
                    return plan
                if area is not None:
                    self.scratchpad.release(area)
        if index in self.followers:
            raise _NoPlaceBesideError(index)
        raise _NoRoomError(index, smallest)

    def _streams(self, value: str) -> bool:
        """Whether a value passes through the scratchpad in tiles."""
        return self.network.place(value).whole not in self.residents

    def _place_move(self, index: int, layer: MoveLayer) -> MovePlan:
        readers = self.network.users(layer.output)[1]
        if readers and layer.output not in self.spilled:
            area = self._resident(layer.output_shape, index, max(readers))
            if area is not None:
                self.residents[layer.output] = area
                return MovePlan(layer, min(area.words, MOVE_WORDS), [])
        height, width, channels = layer.output_shape
        words = min(height * width * -(-channels // self.config.rows), MOVE_WORDS)
        while words:
            areas = [area for _ in "ab" if (area := self.scratchpad.allocate(words, index, index)) is not None]
            if areas:
                return MovePlan(layer, words, areas)
            words //= 2
        raise _NoRoomError(index, 1)

    def _resident(self, shape: Hwc, first: int, last: int) -> Area | None:
        words = shape[0] * shape[1] * -(-shape[2] // self.config.rows)
        return self.scratchpad.allocate(words, first - (first in self.followers), last)

    def _preload(self, index: int, layer: ComputeLayer, value: str) -> None:
        """Give a network input a home in the scratchpad, unless its kernel positions are folded or it has no room."""
        readers = self.network.users(value)[1]
        first_use = value in self.network.inputs and readers[0] == index
        if not first_use or value in self.spilled or self._folded(layer) is not None:
            return
        area = self._resident(self.network.shapes[value], index, max(readers))
        if area is not None:
            self.residents[value] = area

    def _folded(self, layer: ComputeLayer) -> tuple[Chunk, ...] | None:
        """Folded chunks where the layer runs on the array, alone reads a network input, and folding pays."""
        if not isinstance(layer, ArrayLayer) or layer.unit != "array" or layer.inputs[0] not in self.network.inputs:
            return None
        if len(self.network.users(layer.inputs[0])[1]) > 1:
            return None
        return folded_chunks(layer, self.config)

    def _tile(self, index: int, layer: ComputeLayer, store: bool, floor: int) -> tuple[LayerPlan | None, int]:
        """The first tiling (largest tiles first, double buffers before single ones) that has room."""
        streamed = [self._streams(value) for value in layer.inputs]
        plain, folded = channel_chunks(layer.input_shape[2], self.config.rows), self._folded(layer)
        smallest = 0
        for chunks, count in product((folded, plain) if folded else (plain,), (2, 1)):
            for tiles in self._tilings(layer, store or any(streamed), floor):
                plan = LayerPlan(layer, chunks, tiles)
                if plan.folded and isinstance(layer, ArrayLayer) and not can_fold(layer, chunks, tiles):
                    continue
                areas, smallest = self._buffers(index, plan, streamed, store, min(count, len(tiles)))
                if areas is None:
                    continue
                plan.input_areas = [areas.pop(0) if flag else None for flag in streamed]
                plan.output_areas = areas.pop(0) if store else None
                if isinstance(layer, ArrayLayer):
                    words = contraction_words(layer, chunks, self.config)
                    plan.group_outer = not any(streamed) and words > self.config.wbuf_words
                return plan, smallest
        return None, smallest

    def _tilings(self, layer: ComputeLayer, streams: bool, floor: int) -> Iterator[tuple[Tile, ...]]:
        """Tilings by falling size; small tiles where all is resident, so that the next layer can follow closely."""
        height, width, _ = layer.output_shape
        most = self.config.acc_bank_words
        target = min(most, max(2 * self.config.rows, height * width // 4))
        if not streams:
            target = min(target, 16 * self.config.rows)
        columns = -(-width // -(-width // most))
        rows = max(1, min(height, target // columns))
        floor = min(floor, rows * columns, height * width)
        seen = set()
        while True:
            tiles = split(layer.output_shape, rows, columns)
            if max(tile.pixels for tile in tiles) < floor:
                return
            if tiles not in seen:
                seen.add(tiles)
                yield tiles
            if rows > 1:
                rows = max(1, rows * 3 // 4)
            elif columns > 1 and (len(layer.inputs) == 1):
                columns = -(-columns // 2)
            else:
                return

    def _buffers(
        self, index: int, plan: LayerPlan, streamed: list[bool], store: bool, count: int
    ) -> tuple[list[list[Area]] | None, int]:
        """Tile buffers for every streamed input and the output, or None; and the words that they need."""
        sizes = [self._input_words(plan)] * sum(streamed) + ([self._output_words(plan)] if store else [])
        given: list[list[Area]] = []
        for size in sizes:
            given.append([])
            for _ in range(count):
                area = self.scratchpad.allocate(size, index - (index in self.followers), index)
                if area is None:
                    for taken in given:
                        for one in taken:
                            self.scratchpad.release(one)
                    return None, count * sum(sizes)
                given[-1].append(area)
        return given, count * sum(sizes)

    def _input_words(self, plan: LayerPlan) -> int:
        """The largest input tile: all chunks, or those of one group of channels in the depthwise engine."""
        chunks = len(plan.chunks)
        if isinstance(plan.layer, DepthwiseLayer):
            chunks = min(chunks, -(-max(self.config.rows, self.config.cols) // self.config.rows))
        return max(plan.input_part(tile).pixels for tile in plan.tiles) * chunks

    def _output_words(self, plan: LayerPlan) -> int:
        channels, rows = plan.layer.output_shape[2], self.config.rows
        if isinstance(plan.layer, ArrayLayer):
            channels = min(channels, max(rows, self.config.cols))
        return max(tile.pixels for tile in plan.tiles) * -(-channels // rows)
