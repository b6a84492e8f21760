"""Steps and loads of a planned network, and the constants that they read."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from functools import partial

import numpy as np

from accel.config import TABLE_ENTRIES, ArchConfig
from accel.isa import Instruction, Memory
from compiler import emit_compute, emit_dma
from compiler.depthwise import KernelPart, column_classes, exec_parts, kernel_parts, pack_parts, post_columns
from compiler.emit_interpolation import post_interpolation
from compiler.layers import (
    IDENTITY,
    ArrayLayer,
    ComputeLayer,
    DepthwiseLayer,
    InterpolationLayer,
    MoveLayer,
    Network,
    Record,
    VectorLayer,
)
from compiler.moves import Gather, fill_values
from compiler.plan import LayerPlan, MovePlan, Plan
from compiler.schedule import Load, Step
from compiler.tiles import Tile, View, whole
from compiler.transfers import Transfers
from compiler.weights import Piece, pack_block, weight_blocks


def table_field(addresses: dict[Hashable, int], table: Hashable | None) -> int:
    """POST's field `table` for the table block of this name."""
    return 0 if table is None else addresses[table] // TABLE_ENTRIES + 1


class Builder(Transfers):
    """Steps and loads of a planned network, and the constants that they read."""

    def __init__(self, network: Network, plan: Plan, config: ArchConfig) -> None:
        super().__init__(network, plan, config)
        self._bank = 0
        for index in range(len(network.layers)):
            if index not in plan.followers:
                self._build_layer(index)
            self._last_step.append(len(self.steps) - 1)

    def _build_layer(self, index: int) -> None:
        plan = self.plan.layers[index]
        if isinstance(plan, MovePlan):
            self._build_move_layer(index, plan)
        elif isinstance(plan.layer, ArrayLayer):
            self._build_array_layer(index, plan, plan.layer)
        else:
            self._build_vector_layer(index, plan, plan.layer)

    # Array layers -------------------------------------------------------------------------------------------------

    def _build_array_layer(self, index: int, plan: LayerPlan, layer: ArrayLayer) -> None:
        channels = layer.output_shape[2]
        width = max(self.config.rows, self.config.cols)
        groups = [(c, min(c + width, channels)) for c in range(0, channels, width)]
        done = list[Tile]()
        follower = self._follower(index + 1, done)
        order = [(t, g) for t in range(len(plan.tiles)) for g in range(len(groups))]
        if plan.group_outer:
            order = [(t, g) for g in range(len(groups)) for t in range(len(plan.tiles))]
        for number, group in order:
            if isinstance(layer, DepthwiseLayer):
                self._build_depthwise_group(index, plan, layer, number, groups[group])
            else:
                self._build_group(index, plan, layer, number, groups[group])
            if group == len(groups) - 1:
                done.append(plan.tiles[number])
                next(follower, None)

    def _all_chunks(self, layer: ComputeLayer) -> tuple[int, int]:
        """All channel chunks of a layer's input."""
        return 0, -(-layer.input_shape[2] // self.config.rows)

    def _next_accumulators(self) -> int:
        """First word of a bank; the banks take turns."""
        self._bank = (self._bank + 1) % self.config.acc_banks
        return self._bank * self.config.acc_bank_words

    def _build_group(
        self, index: int, plan: LayerPlan, layer: ArrayLayer, number: int, channels: tuple[int, int]
    ) -> None:
        """Steps for one tile and one group of output channels (whole scratchpad words, one or more column tiles)."""
        config, tile = self.config, plan.tiles[number]
        first_chunk, last_chunk = channels[0] // config.rows, -(-channels[1] // config.rows)
        output = self._output_view(plan, tile, first_chunk)
        for c0 in range(channels[0], channels[1], config.cols):
            part, acc = (c0, min(c0 + config.cols, channels[1])), self._next_accumulators()
            blocks = weight_blocks(layer, plan.chunks, config, part)
            for b, pieces in enumerate(blocks):
                view, needs = self._input_view(index, plan, 0, number, self._all_chunks(layer))
                weights = self._weight_load(index, layer, part, b, pieces)
                needs = [*needs, weights]
                last = b == len(blocks) - 1
                params = self._param_load(index, part[0], layer.records[part[0] : part[1]]) if last else None
                table = self._table_load(layer) if last else None

                def make(
                    addresses: dict[Hashable, int],
                    pieces: list[Piece] = pieces,
                    view: View = view,
                    weights: Hashable = weights,
                    params: Hashable | None = params,
                    table: Hashable | None = table,
                    part: tuple[int, int] = part,
                    acc: int = acc,
                    first: bool = b == 0,
                ) -> list[Instruction]:
                    result, word = [], addresses[weights]
                    for i, piece in enumerate(pieces):
                        accumulate = not first or i > 0
                        result.append(emit_compute.exec_piece(layer, piece, view, tile, word, acc, accumulate))
                        word += piece.words
                    if params is not None:
                        places = (acc, addresses[params], table_field(addresses, table))
                        result.append(emit_compute.post_accumulators(config, layer, tile, output, part, *places))
                    if params is not None and part[1] == channels[1]:
                        result += self._stores(layer, output, tile, (first_chunk, last_chunk))
                    return result

                needs += [key for key in (params, table) if key is not None]
                self.steps.append(Step(index, needs, make))
        self._note(layer.output, tile)

    def _build_depthwise_group(
        self, index: int, plan: LayerPlan, layer: DepthwiseLayer, number: int, channels: tuple[int, int]
    ) -> None:
        """The same for the depthwise engine: as many channels per step as it has lanes."""
        config, tile = self.config, plan.tiles[number]
        chunks = (channels[0] // config.rows, -(-channels[1] // config.rows))
        output, lanes = self._output_view(plan, tile, chunks[0]), config.depthwise_lanes
        kernel, classes = kernel_parts(layer.window, tile, config), column_classes(layer.window, tile.width)
        for c0 in range(channels[0], channels[1], lanes):
            part, acc = (c0, min(c0 + lanes, channels[1])), self._next_accumulators()
            view, needs = self._input_view(index, plan, 0, number, chunks)
            weights = self._depthwise_load(index, layer, part, tuple(kernel))
            params = self._param_load(index, c0, layer.records[part[0] : part[1]])
            table = self._table_load(layer)

            def make(
                addresses: dict[Hashable, int],
                view: View = view,
                weights: Hashable = weights,
                params: Hashable = params,
                table: Hashable | None = table,
                part: tuple[int, int] = part,
                acc: int = acc,
            ) -> list[Instruction]:
                result, posts, offset = list[Instruction](), list[Instruction](), 0
                places = (acc, addresses[params], table_field(addresses, table))
                whole = emit_compute.post_accumulators(config, layer, tile, output, part, *places)
                for columns in classes:
                    sums = (addresses[weights], acc + offset)
                    result += exec_parts(config, layer, kernel, columns, view, tile, part[0], sums)
                    posts.append(post_columns(whole, columns, offset))
                    offset += columns.count * tile.height
                stores = self._stores(layer, output, tile, chunks) if part[1] == channels[1] else []
                return [*result, *posts, *stores]

            needs = [*needs, weights, params, *([table] if table is not None else [])]
            self.steps.append(Step(index, needs, make))
        self._note(layer.output, tile)

    def _depthwise_load(
        self, index: int, layer: DepthwiseLayer, part: tuple[int, int], kernel: tuple[KernelPart, ...]
    ) -> Hashable:
        key = ("weights", index, part[0], kernel)
        if key not in self.loads:
            words, width = sum(piece.words for piece in kernel), part[1] - part[0]
            address = self._constant(pack_parts(layer, kernel, *part))
            self.loads[key] = Load(
                key, Memory.WBUF, words, lambda base: [emit_dma.load_linear(Memory.WBUF, address, base, words, width)]
            )
        return key

    def _weight_load(
        self, index: int, layer: ArrayLayer, part: tuple[int, int], block: int, pieces: list[Piece]
    ) -> Hashable:
        key = ("weights", index, part[0], block)
        if key not in self.loads:
            words = sum(piece.words for piece in pieces)
            address = self._constant(pack_block(layer, pieces, *part))
            width = part[1] - part[0]
            self.loads[key] = Load(
                key, Memory.WBUF, words, lambda base: [emit_dma.load_linear(Memory.WBUF, address, base, words, width)]
            )
        return key

    def _param_load(self, index: int, part: Hashable, records: tuple[Record, ...]) -> Hashable:
        """Parameters of a part of a layer's channels, and neutral ones for the unused lanes of the last word."""
        key = ("params", index, part)
        if key not in self.loads:
            lanes, rows = self.config.post_lanes, self.config.rows
            unit = rows if len(records) > rows else lanes
            padded = [*records, *[IDENTITY] * (-len(records) % unit)]
            address, count = self._constant(emit_dma.pack_records(padded)), len(padded)
            self.loads[key] = Load(
                key, Memory.PARAM, count // lanes, lambda row: [emit_dma.load_records(address, self.config, row, count)]
            )
        return key

    def _table_load(self, layer: ComputeLayer) -> Hashable | None:
        """The layer's table; equal tables are loaded once."""
        if layer.table is None:
            return None
        key = ("table", layer.table.tobytes())
        if key not in self.loads:
            address = self._constant(layer.table.tobytes())
            self.loads[key] = Load(
                key,
                Memory.TABLE,
                TABLE_ENTRIES,
                lambda base: [emit_dma.load_linear(Memory.TABLE, address, base, TABLE_ENTRIES, 1)],
            )
        return key

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
            if isinstance(layer, InterpolationLayer):
                result = post_interpolation(self.config, layer, part, views, output, *fields)
            else:
                result = emit_compute.post_operands(self.config, layer, part, views, output, *fields)
            return result + (self._stores(layer, output, stored, chunks) if stored else [])

        return make
