"""Steps and loads of a planned network, and the constants that they read."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from functools import partial
from itertools import cycle

import numpy as np

from accel.config import ArchConfig
from accel.isa import Instruction, Memory
from compiler import emit_compute
from compiler.build_weighted import WeightedBuilder, table_field
from compiler.layers import ArrayLayer, ComputeLayer, DepthwiseLayer, MoveLayer, Network, Pair, VectorLayer
from compiler.moves import Gather, fill_values
from compiler.plan import LayerPlan, MovePlan, Plan
from compiler.schedule import Load, Step
from compiler.tiles import Tile, View, whole


def run_interleaved(first: Sequence[Callable[[], None]], second: Sequence[Callable[[], None]]) -> None:
    """Call all functions of both sequences, each in its order, evenly spread."""
    places = [((i + 1) * len(second), 0, call) for i, call in enumerate(first)]
    places += [((i + 1) * len(first), 1, call) for i, call in enumerate(second)]
    for _, _, call in sorted(places, key=lambda place: place[:2]):
        call()


def _split_banks(banks: int) -> tuple[range, range]:
    """Accumulator banks of the array and of the depthwise engine while both work."""
    upper = banks // 2
    return range(banks - upper), range(banks - upper, banks) if upper else range(banks)


class Builder(WeightedBuilder):
    """Steps and loads of a planned network, and the constants that they read."""

    def __init__(self, network: Network, plan: Plan, config: ArchConfig) -> None:
        super().__init__(network, plan, config)
        for index in range(len(network.layers)):
            if index not in plan.followers:
                self._build_layer(index)
            self._last_step.append(len(self.steps) - 1)

    def _build_layer(self, index: int) -> None:
        plan = self.plan.layers[index]
        if isinstance(plan, MovePlan):
            self._build_move_layer(index, plan)
        elif index in self.plan.pairs:
            following = self.plan.layers[index + 1]
            assert isinstance(following, LayerPlan)
            self._build_pair(index, plan, following)
        elif isinstance(plan.layer, ArrayLayer):
            self._build_weighted_layer(index, plan, plan.layer)
        else:
            self._build_vector_layer(index, plan, plan.layer)

    # Layers with weights -------------------------------------------------------------------------------------------

    def _build_weighted_layer(self, index: int, plan: LayerPlan, layer: ArrayLayer) -> None:
        groups, done = self._channel_groups(layer), list[Tile]()
        follower = self._follower(index + 1, done)
        order = [(t, g) for t in range(len(plan.tiles)) for g in range(len(groups))]
        if plan.group_outer:
            order = [(t, g) for g in range(len(groups)) for t in range(len(plan.tiles))]
        depthwise, banks = isinstance(layer, DepthwiseLayer), range(self.config.acc_banks)
        build = self._build_depthwise_group if depthwise else self._build_array_group
        for number, group in order:
            channels, tile = groups[group], plan.tiles[number]
            chunks = self._group_chunks(channels)
            source = self._input_view(index, plan, 0, number, chunks if depthwise else self._all_chunks(layer))
            build(index, plan, tile, channels, source, self._output_view(plan, tile, chunks[0]), banks)
            if group == len(groups) - 1:
                done.append(tile)
                next(follower, None)

    def _build_pair(self, index: int, array: LayerPlan, depthwise: LayerPlan) -> None:
        """Both layers of a pair: while the engine works on a group of channels, the array makes the next."""
        groups, done = self._channel_groups(array.layer), list[Tile]()
        follower, behind = self._follower(index + 2, done), list[Callable[[], None]]()
        rooms, banks = cycle(array.output_areas or ()), _split_banks(self.config.acc_banks)

        def make(number: int, tile: Tile, channels: Pair, between: View) -> None:
            source = self._band_view(index, array, number, tile)
            self._build_array_group(index, array, tile, channels, source, between, banks[0])
            self._band_end[index, number] = len(self.steps) - 1

        def use(tile: Tile, channels: Pair, between: View) -> None:
            output = self._output_view(depthwise, tile, self._group_chunks(channels)[0])
            self._build_depthwise_group(index + 1, depthwise, tile, channels, (between, []), output, banks[1])
            if channels == groups[-1]:
                done.append(tile)
                next(follower, None)

        for number, band in enumerate(self.plan.pairs[index]):
            for channels, area in zip(groups, rooms, strict=False):
                base = area.base - self._group_chunks(channels)[0] * band.part.pixels
                between = View(base, band.part.pixels, band.part)
                run_interleaved([partial(make, number, tile, channels, between) for tile in band.made], behind)
                behind = [partial(use, tile, channels, between) for tile in band.tiles]
        run_interleaved([], behind)

    def _all_chunks(self, layer: ComputeLayer) -> Pair:
        """All channel chunks of a layer's input."""
        return 0, -(-layer.input_shape[2] // self.config.rows)

    # Gathers ------------------------------------------------------------------------------------------------------

    def _build_move_layer(self, index: int, plan: MovePlan) -> None:
        layer = plan.layer
        resident = self.plan.residents.get(layer.output)
        values = fill_values(layer.locations)
        fills = {value: self._constant(np.int8(value).tobytes()) for value in values}
        gather = Gather(self.config, layer, [self.dram[source] for source in layer.sources], fills)
        written = max((step for source in layer.sources for _, step in self._written.get(source, [])), default=-1)
        steps: list[int] = []
        for number, (first, last) in enumerate(gather.parts(plan.words)):
            area = resident or plan.areas[number % len(plan.areas)]
            base = area.base + (first if resident else 0)
            ready = max(written, self._area_ready(area.base, area.words, index))
            if not resident and number >= len(plan.areas):
                ready = max(ready, steps[number - len(plan.areas)])
            key = ("move", index, first)
            self.loads[key] = Load(key, Memory.SPAD, 0, partial(gather.loads, first, last, base), ready)
            self.steps.append(Step(index, [key], self._store_step(gather, layer, first, last, base)))
            steps.append(len(self.steps) - 1)
        self._note(layer.output, whole(layer.output_shape))

    def _store_step(
        self, gather: Gather, layer: MoveLayer, first: int, last: int, base: int
    ) -> Callable[[dict[Hashable, int]], list[Instruction]]:
        """STOREs of a part, if external memory holds the value."""
        address = self.dram.get(layer.output)
        return lambda _: [] if address is None else gather.stores(first, last, base, address)

    # Vector layers ------------------------------------------------------------------------------------------------

    def _build_vector_layer(self, index: int, plan: LayerPlan, layer: VectorLayer) -> None:
        for number in range(len(plan.tiles)):
            self._build_vector_tile(index, plan, layer, number)

    def _build_vector_tile(self, index: int, plan: LayerPlan, layer: VectorLayer, number: int) -> None:
        tile = plan.tiles[number]
        every = self._all_chunks(layer)
        inputs = [self._input_view(index, plan, operand, number, every) for operand in range(len(layer.inputs))]
        views, needs = tuple(view for view, _ in inputs), [key for _, keys in inputs for key in keys]
        output = self._output_view(plan, tile, 0)
        parts = [(tile.common(Tile(r.y0, r.y1, r.x0, r.x1)), r.record) for r in layer.regions]
        parts = [(part, record) for part, record in parts if part.height > 0 and part.width > 0]
        for number_of_part, (part, record) in enumerate(parts, 1):
            params = self._param_load(index, record, (record,) * self.config.post_lanes)
            stored = tile if number_of_part == len(parts) else None
            table = self._table_load(layer)
            make = self._vector_step(layer, part, views, output, (params, table), stored)
            self.steps.append(Step(index, [*needs, params, *([table] if table is not None else [])], make))
        self._note(layer.output, tile)

    def _follower(self, index: int, done: list[Tile]) -> Iterator[None]:
        """The follower `index`, if the plan has one there."""
        plan = self.plan.layers[index] if index in self.plan.followers else None
        if isinstance(plan, LayerPlan) and isinstance(plan.layer, VectorLayer):
            return self._follow(index, plan, plan.layer, done)
        return iter(())

    def _follow(self, index: int, plan: LayerPlan, layer: VectorLayer, done: list[Tile]) -> Iterator[None]:
        """Build, whenever asked, those tiles of a vector layer that need no more than the tiles `done` before it."""
        for number, tile in enumerate(plan.tiles):
            part = plan.input_part(tile)
            while sum(part.shared_pixels(other) for other in done) < part.pixels:
                yield
            self._build_vector_tile(index, plan, layer, number)

    def _vector_step(
        self,
        layer: VectorLayer,
        part: Tile,
        views: tuple[View, ...],
        output: View,
        blocks: tuple[Hashable, Hashable | None],
        stored: Tile | None,
    ) -> Callable[[dict[Hashable, int]], list[Instruction]]:
        """Outputs `part`, which share the record and the table in `blocks`; then the complete tile is stored."""
        chunks = (0, -(-layer.output_shape[2] // self.config.rows))

        def make(addresses: dict[Hashable, int]) -> list[Instruction]:
            fields = (addresses[blocks[0]], table_field(addresses, blocks[1]))
            result = emit_compute.post_operands(self.config, layer, part, views, output, *fields)
            return result + (self._stores(layer, output, stored, chunks) if stored else [])

        return make
