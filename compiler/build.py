"""Steps and loads of a planned network, and the constants that they read."""

from __future__ import annotations

from collections.abc import Callable, Hashable

from accel.config import TABLE_ENTRIES, ArchConfig
from accel.isa import Instruction, Memory, Opcode
from accel.layout import tensor_bytes
from compiler import emit_compute, emit_dma
from compiler.depthwise import KernelPart, column_classes, exec_parts, kernel_parts, pack_parts, post_columns
from compiler.folding import load_folded
from compiler.layers import IDENTITY, AnyLayer, ArrayLayer, DepthwiseLayer, Network, Record, VectorLayer
from compiler.plan import LayerPlan, Plan
from compiler.schedule import Load, Step
from compiler.tiles import Tile, View
from compiler.weights import Piece, pack_block, weight_blocks

ALIGNMENT_BYTES = 64
"""Alignment of tensors and constants in external memory."""


def align(value: int, alignment: int = ALIGNMENT_BYTES) -> int:
    """The next multiple of `alignment`."""
    return -(-value // alignment) * alignment


def table_field(addresses: dict[Hashable, int], table: Hashable | None) -> int:
    """POST's field `table` for the table block of this name."""
    return 0 if table is None else addresses[table] // TABLE_ENTRIES + 1


class Builder:
    """Steps and loads of a planned network, and the constants that they read."""

    def __init__(self, network: Network, plan: Plan, config: ArchConfig) -> None:
        self.network, self.plan, self.config = network, plan, config
        self.shapes = network.inputs | {layer.output: layer.output_shape for layer in network.layers}
        self.dram, self.constants_address = self._place_tensors()
        self.constants = bytearray()
        self._constant_addresses: dict[bytes, int] = {}
        self.steps: list[Step] = []
        self._bank = 0
        self._turn = 0
        self._tile_steps: list[int] = []
        self.loads: dict[Hashable, Load] = {}
        self._last_step: list[int] = []
        self._written: dict[str, list[tuple[Tile, int]]] = {}
        for index in range(len(network.layers)):
            self._build_layer(index)
            self._last_step.append(len(self.steps) - 1)

    def _place_tensors(self) -> tuple[dict[str, int], int]:
        """Addresses of all values that external memory holds, and of what follows them."""
        address, dram = 0, {}
        network = self.network
        boundary = (*network.inputs, *(network.aliases.get(name, name) for name in network.outputs))
        made = (layer.output for layer in network.layers)
        for value in dict.fromkeys((*boundary, *made)):
            if value in boundary or value not in self.plan.residents:
                dram[value] = address
                address = align(address + tensor_bytes((1, *self.shapes[value])))
        return dram | {name: dram[value] for name, value in network.aliases.items() if value in dram}, address

    def _constant(self, data: bytes) -> int:
        """Place constant bytes, unless equal ones are there; their address."""
        if data not in self._constant_addresses:
            self._constant_addresses[data] = self.constants_address + len(self.constants)
            self.constants += data + bytes(-len(data) % ALIGNMENT_BYTES)
        return self._constant_addresses[data]

    def _build_layer(self, index: int) -> None:
        plan = self.plan.layers[index]
        if isinstance(plan.layer, ArrayLayer):
            self._build_array_layer(index, plan, plan.layer)
        else:
            self._build_vector_layer(index, plan, plan.layer)

    # Inputs and outputs -------------------------------------------------------------------------------------------

    def _input_view(self, index: int, operand: int, number: int) -> tuple[View, list[Hashable]]:
        """Where operand `operand` of tile `number` is, and the loads that bring it there."""
        plan = self.plan.layers[index]
        layer, tile = plan.layer, plan.tiles[number]
        value, areas = layer.inputs[operand], plan.input_areas[operand]
        part = plan.input_part(tile)
        if areas is None:
            view = self.plan.view(value, layer.input_shape)
            return view, self._preloads(index, value, view, part) if value in self.network.inputs else []
        view = View(areas[number % len(areas)].base, part.pixels, part)
        key = ("tile", index, operand, number)
        if key not in self.loads:
            self.loads[key] = Load(
                key,
                Memory.SPAD,
                0,
                self._tile_loader(plan, value, view, tile),
                self._tile_ready(index, operand, number),
            )
        return view, [key]

    def _tile_loader(self, plan: LayerPlan, value: str, view: View, tile: Tile) -> Callable[[int], list[Instruction]]:
        config, layer, address = self.config, plan.layer, self.dram[value]
        if plan.folded and isinstance(layer, ArrayLayer):
            addresses = (address, self._constant(bytes([layer.pad_value & 255])))
            return lambda _: load_folded(layer, addresses, view, tile, plan.chunks)
        chunks = (0, -(-layer.input_shape[2] // config.rows))
        return lambda _: emit_dma.transfer_tile(
            Opcode.LOAD, config, address, layer.input_shape, view, view.tile, chunks
        )

    def _tile_ready(self, index: int, operand: int, number: int) -> int:
        """The step after which a tile may be loaded: its buffer is free and its data is stored."""
        plan = self.plan.layers[index]
        areas = plan.input_areas[operand] or []
        ready = self._area_ready(areas[number % len(areas)].base, areas[0].words, index)
        before = number - len(areas)
        if before >= 0:
            ready = max(ready, self._tile_steps[before])
        part = plan.input_part(plan.tiles[number])
        if plan.folded:
            part = Tile(part.y0, part.y1, 0, plan.layer.input_shape[1])
        writes = self._written.get(plan.layer.inputs[operand], [])
        return max([ready, *(step for tile, step in writes if tile.intersects(part))])

    def _area_ready(self, base: int, words: int, index: int) -> int:
        """The last step of earlier layers that own any of these scratchpad words."""
        ready = -1
        owners = [*self.plan.residents.values()]
        for plan in self.plan.layers[:index]:
            owners += [area for areas in (*plan.input_areas, plan.output_areas) for area in areas or ()]
        for area in owners:
            if area.last < index and area.base < base + words and base < area.base + area.words:
                ready = max(ready, self._last_step[area.last])
        return ready

    def _preloads(self, index: int, value: str, view: View, part: Tile) -> list[Hashable]:
        """Loads of a resident network input, in bands of rows; those that rows up to `part.y1` need."""
        shape = self.shapes[value]
        chunks = (0, -(-shape[2] // self.config.rows))
        band = max(1, min(shape[0], 16 * self.config.rows // shape[1]))
        keys: list[Hashable] = []
        for y0 in range(0, part.y1, band):
            key = ("preload", value, y0)
            keys.append(key)
            if key not in self.loads:
                tile = Tile(y0, min(y0 + band, shape[0]), 0, shape[1])
                area = self.plan.residents[value]
                self.loads[key] = Load(
                    key,
                    Memory.SPAD,
                    0,
                    lambda _, tile=tile: emit_dma.transfer_tile(  # type: ignore[misc]
                        Opcode.LOAD, self.config, self.dram[value], shape, view, tile, chunks
                    ),
                    self._area_ready(area.base, area.words, index),
                )
        return keys

    def _output_view(self, plan: LayerPlan, tile: Tile, first_chunk: int) -> View:
        """Where results of a tile go; buffers, used in turn, hold chunks from `first_chunk` on."""
        if plan.output_areas is None:
            return self.plan.view(plan.layer.output, plan.layer.output_shape)
        self._turn += 1
        base = plan.output_areas[self._turn % len(plan.output_areas)].base
        return View(base - first_chunk * tile.pixels, tile.pixels, tile)

    def _stores(self, layer: AnyLayer, view: View, tile: Tile, chunks: tuple[int, int]) -> list[Instruction]:
        """STOREs of finished chunks of a tile, if external memory holds the value."""
        if layer.output not in self.dram:
            return []
        address = self.dram[layer.output]
        return emit_dma.transfer_tile(Opcode.STORE, self.config, address, layer.output_shape, view, tile, chunks)

    # Array layers -------------------------------------------------------------------------------------------------

    def _build_array_layer(self, index: int, plan: LayerPlan, layer: ArrayLayer) -> None:
        channels = layer.output_shape[2]
        width = max(self.config.rows, self.config.cols)
        groups = [(c, min(c + width, channels)) for c in range(0, channels, width)]
        self._tile_steps = [0] * len(plan.tiles)
        order = [(t, g) for t in range(len(plan.tiles)) for g in range(len(groups))]
        if plan.group_outer:
            order = [(t, g) for g in range(len(groups)) for t in range(len(plan.tiles))]
        for number, group in order:
            if isinstance(layer, DepthwiseLayer):
                self._build_depthwise_group(index, plan, layer, number, groups[group])
            else:
                self._build_group(index, plan, layer, number, groups[group])
            self._tile_steps[number] = len(self.steps) - 1

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
                view, needs = self._input_view(index, 0, number)
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
        self._written.setdefault(layer.output, []).append((tile, len(self.steps) - 1))

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
            view, needs = self._input_view(index, 0, number)
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
        self._written.setdefault(layer.output, []).append((tile, len(self.steps) - 1))

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

    def _table_load(self, layer: AnyLayer) -> Hashable | None:
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

    # Vector layers ------------------------------------------------------------------------------------------------

    def _build_vector_layer(self, index: int, plan: LayerPlan, layer: VectorLayer) -> None:
        self._tile_steps = [0] * len(plan.tiles)
        for number, tile in enumerate(plan.tiles):
            inputs = [self._input_view(index, operand, number) for operand in range(len(layer.inputs))]
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
            self._tile_steps[number] = len(self.steps) - 1
            self._written.setdefault(layer.output, []).append((tile, len(self.steps) - 1))

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
