"""Steps and loads of a planned network, and the constants that they read."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import cycle, takewhile

import numpy as np

from accel.machine.config import ArchConfig
from accel.machine.isa import Instruction, Memory
from compiler.emit import compute as emit_compute
from compiler.emit.build_weighted import Source, WeightedBuilder, table_field
from compiler.emit.interpolation import post_interpolation
from compiler.emit.moves import Gather, fill_values
from compiler.emit.steps import Load, Step
from compiler.lower.geometry import Span, Tile
from compiler.lower.layers import (
    ArrayLayer,
    ComputeLayer,
    DepthwiseLayer,
    InterpolationLayer,
    MoveLayer,
    Network,
    VectorLayer,
)
from compiler.plan.plan import LayerPlan, MovePlan, Plan
from compiler.plan.tiles import View, is_covered, whole

Work = list[Callable[[], None]]
"""Things to build, in order."""


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


@dataclass
class Tail:
    """What is left to build of depthwise layer `index`, which runs beside the layer after it, too."""

    index: int
    work: Work


class Builder(WeightedBuilder):
    """Steps and loads of a planned network, and the constants that they read."""

    def __init__(self, network: Network, plan: Plan, config: ArchConfig) -> None:
        super().__init__(network, plan, config)
        self._done: dict[int, list[Tile]] = defaultdict(list)
        self._tail: Tail | None = None
        for index in range(len(network.layers)):
            if index not in plan.followers:
                self._build_layer(index)
            self._last_step.append(len(self.steps) - 1)

    def _build_layer(self, index: int) -> None:
        plan = self.plan.layers[index]
        if isinstance(plan, MovePlan):
            self._build_move_layer(index, plan)
        elif (following := self._depthwise_follower(index + 1)) is not None:
            self._build_pair(index, plan, following)
        elif isinstance(plan.layer, ArrayLayer):
            self._build_weighted_layer(index, plan, plan.layer)
        else:
            self._build_vector_layer(index, plan, plan.layer)

    # Layers with weights -------------------------------------------------------------------------------------------

    def _build_weighted_layer(self, index: int, plan: LayerPlan, layer: ArrayLayer) -> None:
        groups, finish = self._channel_groups(layer), self._finisher(index)
        order = [(tile, group) for tile in range(len(plan.tiles)) for group in groups]
        if plan.group_outer:
            order = [(tile, group) for group in groups for tile in range(len(plan.tiles))]
        build = self._build_depthwise_tile if isinstance(layer, DepthwiseLayer) else self._build_array_tile
        for number, channels in order:
            banks = _split_banks(self.config.acc_banks)[0] if self._tail else range(self.config.acc_banks)
            build(index, plan, number, channels, banks)
            if channels == groups[-1]:
                finish(plan.tiles[number])
        self._finish_tail()

    def _build_array_tile(self, index: int, plan: LayerPlan, number: int, channels: Span, banks: range) -> None:
        self._await_tail(plan.input_part(plan.tiles[number]))
        source = self._input_view(index, plan, 0, number, self._all_chunks(plan.layer))
        output = self._output_view(plan, plan.tiles[number], self._group_chunks(channels)[0])
        self._build_array_group(index, plan, plan.tiles[number], channels, source, output, banks)
        self._advance_tail()

    def _build_depthwise_tile(self, index: int, plan: LayerPlan, number: int, channels: Span, banks: range) -> None:
        source = self._input_view(index, plan, 0, number, self._group_chunks(channels))
        self._use_group(index, plan, plan.tiles[number], channels, source, banks)

    def _use_group(self, index: int, plan: LayerPlan, tile: Tile, channels: Span, source: Source, banks: range) -> None:
        output = self._output_view(plan, tile, self._group_chunks(channels)[0])
        self._build_depthwise_group(index, plan, tile, channels, source, output, banks)

    # Array and depthwise engine side by side ------------------------------------------------------------------------

    def _build_pair(self, index: int, array: LayerPlan, depthwise: LayerPlan) -> None:
        """Both layers of a pair: whatever the array makes next, the engine works beside it on what was made last."""
        slots = (
            self._band_slots(index, array, depthwise)
            if index in self.plan.pairs
            else self._tile_slots(index, array, depthwise)
        )
        behind: Work = []
        for ahead, following in slots:
            run_interleaved(ahead, behind)
            behind = following
        self._finish_tail()
        self._tail = Tail(index + 1, behind) if behind else None
        if index + 1 not in self.plan.trailing:
            self._finish_tail()

    def _await_tail(self, part: Tile) -> None:
        """Build what `part` of the trailing layer's output lacks."""
        while self._tail and not is_covered(part, self._done[self._tail.index]):
            self._advance_tail()

    def _advance_tail(self) -> None:
        """Build the next piece of the trailing layer, if there is one."""
        if self._tail:
            self._tail.work.pop(0)()
            if self._tail.index < len(self._last_step):  # the layer after it is being built
                self._last_step[self._tail.index] = len(self.steps) - 1
            if not self._tail.work:
                self._tail = None

    def _finish_tail(self) -> None:
        while self._tail:
            self._advance_tail()

    def _band_slots(self, index: int, array: LayerPlan, depthwise: LayerPlan) -> Iterator[tuple[Work, Work]]:
        """One group of channels of a band after the other."""
        groups, finish = self._channel_groups(array.layer), self._finisher(index + 1)
        rooms, banks = cycle(array.output_areas or ()), _split_banks(self.config.acc_banks)

        def make(number: int, tile: Tile, channels: Span, between: View) -> None:
            self._await_tail(array.input_part(tile))
            source = self._band_view(index, array, number, tile)
            self._build_array_group(index, array, tile, channels, source, between, banks[0])
            self._band_end[index, number] = len(self.steps) - 1
            self._advance_tail()

        def use(tile: Tile, channels: Span, between: View) -> None:
            self._use_group(index + 1, depthwise, tile, channels, (between, []), banks[1])
            if channels == groups[-1]:
                finish(tile)

        for number, band in enumerate(self.plan.pairs[index]):
            for channels, area in zip(groups, rooms, strict=False):
                base = area.base - self._group_chunks(channels)[0] * band.part.pixels
                between = View(base, band.part.pixels, band.part)
                yield (
                    [partial(make, number, tile, channels, between) for tile in band.made],
                    [partial(use, tile, channels, between) for tile in band.tiles],
                )

    def _tile_slots(self, index: int, array: LayerPlan, depthwise: LayerPlan) -> Iterator[tuple[Work, Work]]:
        """One tile after the other, all groups of channels; then the tiles of the depthwise layer that it completes."""
        groups, finish = self._channel_groups(array.layer), self._finisher(index + 1)
        banks, made, waiting = _split_banks(self.config.acc_banks), list[Tile](), list(range(len(depthwise.tiles)))

        def use(number: int, channels: Span) -> None:
            self._build_depthwise_tile(index + 1, depthwise, number, channels, banks[1])
            if channels == groups[-1]:
                finish(depthwise.tiles[number])

        for number, tile in enumerate(array.tiles):
            made.append(tile)
            ready = list(takewhile(lambda i: is_covered(depthwise.input_part(depthwise.tiles[i]), made), waiting))
            del waiting[: len(ready)]
            yield (
                [partial(self._build_array_tile, index, array, number, channels, banks[0]) for channels in groups],
                [partial(use, i, channels) for i in ready for channels in groups],
            )

    def _all_chunks(self, layer: ComputeLayer) -> Span:
        """All channel chunks of a layer's input."""
        return Span(0, -(-layer.input_shape[2] // self.config.rows))

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
        parts = [(tile.common(region.tile), region.record) for region in layer.regions]
        parts = [(part, record) for part, record in parts if part.height > 0 and part.width > 0]
        for number_of_part, (part, record) in enumerate(parts, 1):
            params = self._param_load(index, record, (record,) * self.config.post_lanes)
            stored = tile if number_of_part == len(parts) else None
            table = self._table_load(layer)
            make = self._vector_step(layer, part, views, output, (params, table), stored)
            self.steps.append(Step(index, [*needs, params, *([table] if table is not None else [])], make))
        self._note(layer.output, tile)

    def _depthwise_follower(self, index: int) -> LayerPlan | None:
        """The plan of layer `index` if it is a depthwise layer that runs beside the one before."""
        plan = self.plan.layers[index] if index in self.plan.followers else None
        return plan if isinstance(plan, LayerPlan) and isinstance(plan.layer, DepthwiseLayer) else None

    def _finisher(self, index: int) -> Callable[[Tile], None]:
        """To be called with every finished tile of layer `index`: goes on with a vector layer that follows it."""
        plan = self.plan.layers[index + 1] if index + 1 in self.plan.followers else None
        follower: Iterator[None] = iter(())
        if isinstance(plan, LayerPlan) and isinstance(plan.layer, VectorLayer):
            follower = self._follow(index + 1, plan, plan.layer, self._done[index])

        def finish(tile: Tile) -> None:
            self._done[index].append(tile)
            next(follower, None)

        return finish

    def _follow(self, index: int, plan: LayerPlan, layer: VectorLayer, done: list[Tile]) -> Iterator[None]:
        """Build, whenever asked, those tiles of a vector layer that need no more than the tiles `done` before it."""
        for number, tile in enumerate(plan.tiles):
            while not is_covered(plan.input_part(tile), done):
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
        chunks = Span(0, -(-layer.output_shape[2] // self.config.rows))

        def make(addresses: dict[Hashable, int]) -> list[Instruction]:
            fields = (addresses[blocks[0]], table_field(addresses, blocks[1]))
            if isinstance(layer, InterpolationLayer):
                result = post_interpolation(self.config, layer, part, views, output, *fields)
            else:
                result = emit_compute.post_operands(self.config, layer, part, views, output, *fields)
            return result + (self._stores(layer, output, stored, chunks) if stored else [])

        return make
