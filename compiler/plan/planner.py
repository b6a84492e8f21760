"""Where every tensor lives and how every layer is tiled.

A tensor stays in the scratchpad from its producer to its last consumer if there is room; otherwise it lives in external
memory and passes through the scratchpad in tiles, two buffers each so that transfers overlap with work. What passes
from an array layer to the depthwise layer that follows it lives in neither, but in bands (`compiler.plan.pairs`).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

from accel.errors import CompileError
from accel.machine.config import ArchConfig
from accel.machine.layout import Hwc
from compiler.lower.geometry import Tile
from compiler.lower.layers import AnyLayer, ArrayLayer, ComputeLayer, DepthwiseLayer, MoveLayer, Network, VectorLayer
from compiler.plan.allocate import Area, Scratchpad
from compiler.plan.folding import can_fold, folded_chunks
from compiler.plan.pairs import PairPlanner, may_pair, may_trail, suits_tiles
from compiler.plan.plan import Band, LayerPlan, MovePlan, Plan
from compiler.plan.tiles import split, tile_pixels, tile_size
from compiler.plan.weights import Chunk, channel_chunks, contraction_words

MOVE_WORDS = 1024
"""Words that a gather brings at a time."""


class _NoRoomError(Exception):
    """A layer has no tiling beside the residents alive with it."""

    def __init__(self, index: int, needed: int) -> None:
        self.index, self.needed = index, needed


class _NoPlaceBesideError(Exception):
    """A layer cannot run between the tiles of the layer before it."""

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
    pairs = {i for i in range(1, len(network.layers)) if may_pair(network, i)}
    by_tiles = {i for i in pairs if suits_tiles(network, config, i)}
    while True:
        planner = _Planner(network, config, spilled, followers | pairs, pairs - by_tiles)
        try:
            return planner.run()
        except _NoPlaceBesideError as problem:
            next(indices for indices in (followers, by_tiles, pairs) if problem.index in indices).remove(problem.index)
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
    return network.place(before.output).whole == before.output and network.users(before.output).writers == (index - 1,)


class _Planner:
    """Places layer by layer; areas of a follower live with those of the layer before it."""

    def __init__(
        self, network: Network, config: ArchConfig, spilled: set[str], followers: set[int], by_bands: set[int]
    ) -> None:
        self.network, self.config, self.spilled, self.followers = network, config, spilled, followers
        self.by_bands = by_bands
        self.scratchpad = Scratchpad(config)
        self.residents: dict[str, Area] = {}
        self.pairs: dict[int, tuple[Band, ...]] = {}

    def run(self) -> Plan:
        layers, plans = self.network.layers, list[LayerPlan | MovePlan]()
        while len(plans) < len(layers):
            index = len(plans)
            if index + 1 in self.by_bands:
                plans += self._place_pair(index)
            else:
                plans.append(self._place(index, layers[index]))
        trailing = {
            i for i, layer in enumerate(layers) if may_trail(self.network, i) and layer.output in self.residents
        }
        return Plan(self.residents, plans, self.network, self.followers, self.pairs, trailing & self.followers)

    def _start(self, index: int) -> int:
        """The first layer between whose tiles layer `index` runs; perhaps itself."""
        while index in self.followers:
            index -= 1
        return index

    def _place(self, index: int, layer: AnyLayer) -> LayerPlan | MovePlan:
        if isinstance(layer, MoveLayer):
            return self._place_move(index, layer)
        for value in layer.inputs:
            self._preload(index, layer, self.network.place(value).whole)
        if index in self.followers and any(self._streams(name) for name in layer.inputs):
            raise _NoPlaceBesideError(index)
        smallest = 0
        for floor in (8 * self.config.rows, 1):
            for resident in self._homes(index, layer):
                plan, smallest = self._tile(index, layer, not resident, floor)
                if plan is not None:
                    return plan
        if index in self.followers:
            raise _NoPlaceBesideError(index)
        raise _NoRoomError(index, smallest)

    def _homes(self, index: int, layer: ComputeLayer) -> Iterator[bool]:
        """Homes of a layer's output, each taken back when the next is asked for: the scratchpad, external memory."""
        value = self.network.place(layer.output).whole
        writers, readers = self.network.users(value)
        if min(writers) < index:
            yield value in self.residents
            return
        if readers and value not in self.spilled:
            last = max(writers + readers)
            area = self._resident(self.network.shapes[value], index, last + may_trail(self.network, last))
            if area is not None:
                self.residents[value] = area
                yield True
                del self.residents[value]
                self.scratchpad.release(area)
            elif index in self.followers and isinstance(layer, VectorLayer):
                raise _NoPlaceBesideError(index)
        yield False

    def _place_pair(self, index: int) -> tuple[LayerPlan, LayerPlan]:
        """An array layer and the depthwise layer after it, by bands."""
        before, layer = self.network.layers[index : index + 2]
        assert isinstance(before, ArrayLayer)
        assert isinstance(layer, DepthwiseLayer)
        value = self.network.place(before.inputs[0]).whole
        self._preload(index, before, value)
        planner = PairPlanner(
            self.config,
            self.scratchpad,
            (before, layer),
            self._chunkings(before),
            self.residents.get(value),
            (self._start(index), index + 1),
            may_trail(self.network, index + 1),
            min(self.config.acc_bank_words, 16 * self.config.rows),
        )
        for apart in (True, False):
            for _ in self._homes(index + 1, layer):
                plan = planner.plan(self.residents.get(self.network.place(layer.output).whole), apart)
                if plan is not None:
                    self.pairs[index] = plan.bands
                    return plan.array, plan.depthwise
        raise _NoPlaceBesideError(index + 1)

    def _streams(self, value: str) -> bool:
        """Whether a value passes through the scratchpad in tiles."""
        return self.network.place(value).whole not in self.residents

    def _place_move(self, index: int, layer: MoveLayer) -> MovePlan:
        readers = self.network.users(layer.output).readers
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
        return self.scratchpad.allocate(words, self._start(first), last)

    def _preload(self, index: int, layer: ComputeLayer, value: str) -> None:
        """Give a network input a home in the scratchpad, unless its kernel positions are folded or it has no room."""
        readers = self.network.users(value).readers
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
        if len(self.network.users(layer.inputs[0]).readers) > 1:
            return None
        return folded_chunks(layer, self.config)

    def _chunkings(self, layer: ComputeLayer) -> tuple[tuple[Chunk, ...], ...]:
        """Choices of contraction or channel chunks, the best first."""
        plain, folded = channel_chunks(layer.input_shape[2], self.config.rows), self._folded(layer)
        return (folded, plain) if folded else (plain,)

    def _tile(self, index: int, layer: ComputeLayer, store: bool, floor: int) -> tuple[LayerPlan | None, int]:
        """The first tiling (largest tiles first, double buffers before single ones) that has room."""
        streamed = [self._streams(value) for value in layer.inputs]
        smallest = 0
        for chunks, count in product(self._chunkings(layer), (2, 1)):
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
        """Tilings by falling size."""
        height, width, _ = layer.output_shape
        columns = tile_size(height, width, self.config.acc_bank_words)[1]
        rows = max(1, min(height, tile_pixels(self.config, layer.output_shape, streams) // columns))
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
                area = self.scratchpad.allocate(size, self._start(index), index)
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
