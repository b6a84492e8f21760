"""Steps of layers with weights: one tile and one group of output channels at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable

from accel.machine.config import TABLE_ENTRIES, ArchConfig
from accel.machine.isa import Instruction, Memory
from compiler.emit import compute as emit_compute
from compiler.emit import dma as emit_dma
from compiler.emit.depthwise import KernelPart, column_classes, depthwise_parts, kernel_parts, pack_parts, post_columns
from compiler.emit.steps import Load, Step
from compiler.emit.transfers import Transfers
from compiler.lower.geometry import Span, Tile
from compiler.lower.layers import IDENTITY, ArrayLayer, ComputeLayer, DepthwiseLayer, Network, Record
from compiler.plan.plan import LayerPlan, Plan
from compiler.plan.tiles import View
from compiler.plan.weights import Piece, pack_block, weight_blocks

Source = tuple[View, list[Hashable]]
"""Where an input lies in the scratchpad, and the loads that bring it there."""


def table_field(addresses: dict[Hashable, int], table: Hashable | None) -> int:
    """POST's field `table` for the table block of this name."""
    return 0 if table is None else addresses[table] // TABLE_ENTRIES + 1


class WeightedBuilder(Transfers):
    """Builds steps of array and depthwise layers."""

    def __init__(self, network: Network, plan: Plan, config: ArchConfig) -> None:
        super().__init__(network, plan, config)
        self._bank_turns = Counter[range]()

    def _channel_groups(self, layer: ComputeLayer) -> list[Span]:
        """Output channels that are made at a time: whole scratchpad words, one or more column tiles."""
        channels, width = layer.output_shape[2], max(self.config.rows, self.config.cols)
        return [Span(first, min(first + width, channels)) for first in range(0, channels, width)]

    def _group_chunks(self, channels: Span) -> Span:
        """Channel chunks of a group of channels."""
        return Span(channels[0] // self.config.rows, -(-channels[1] // self.config.rows))

    def _next_accumulators(self, banks: range) -> int:
        """First word of one of these banks, which take turns."""
        self._bank_turns[banks] += 1
        return banks[self._bank_turns[banks] % len(banks)] * self.config.acc_bank_words

    def _build_array_group(
        self, index: int, plan: LayerPlan, tile: Tile, channels: Span, source: Source, output: View, banks: range
    ) -> None:
        """Steps for a tile of the array's layer `index` and a group of channels, with accumulators in `banks`."""
        config, layer, (view, inputs) = self.config, plan.layer, source
        assert isinstance(layer, ArrayLayer)
        for c0 in range(channels[0], channels[1], config.cols):
            part, acc = Span(c0, min(c0 + config.cols, channels[1])), self._next_accumulators(banks)
            blocks = weight_blocks(layer, plan.chunks, config, part)
            for b, pieces in enumerate(blocks):
                weights = self._weight_load(index, layer, part, b, pieces)
                needs = [*inputs, weights]
                last = b == len(blocks) - 1
                params = self._param_load(index, part[0], layer.records[part[0] : part[1]]) if last else None
                table = self._table_load(layer) if last else None

                def make(
                    addresses: dict[Hashable, int],
                    pieces: list[Piece] = pieces,
                    weights: Hashable = weights,
                    params: Hashable | None = params,
                    table: Hashable | None = table,
                    part: Span = part,
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
                        result += self._stores(layer, output, tile, self._group_chunks(channels))
                    return result

                needs += [key for key in (params, table) if key is not None]
                self.steps.append(Step(index, needs, make))
        self._note(layer.output, tile)

    def _build_depthwise_group(
        self, index: int, plan: LayerPlan, tile: Tile, channels: Span, source: Source, output: View, banks: range
    ) -> None:
        """The same for the depthwise engine: as many channels per step as it has lanes."""
        config, layer, (view, inputs) = self.config, plan.layer, source
        assert isinstance(layer, DepthwiseLayer)
        kernel, classes = kernel_parts(layer.window, tile, config), column_classes(layer.window, tile.width)
        for c0 in range(channels[0], channels[1], config.depthwise_lanes):
            part = Span(c0, min(c0 + config.depthwise_lanes, channels[1]))
            acc = self._next_accumulators(banks)
            weights = self._depthwise_load(index, layer, part, tuple(kernel))
            params = self._param_load(index, c0, layer.records[part[0] : part[1]])
            table = self._table_load(layer)

            def make(
                addresses: dict[Hashable, int],
                weights: Hashable = weights,
                params: Hashable = params,
                table: Hashable | None = table,
                part: Span = part,
                acc: int = acc,
            ) -> list[Instruction]:
                result, posts, offset = list[Instruction](), list[Instruction](), 0
                places = (acc, addresses[params], table_field(addresses, table))
                whole = emit_compute.post_accumulators(config, layer, tile, output, part, *places)
                for columns in classes:
                    sums = (addresses[weights], acc + offset)
                    result += depthwise_parts(config, layer, kernel, columns, view, tile, part[0], sums)
                    posts.append(post_columns(whole, columns, offset))
                    offset += columns.count * tile.height
                stores = (
                    self._stores(layer, output, tile, self._group_chunks(channels)) if part[1] == channels[1] else []
                )
                return [*result, *posts, *stores]

            needs = [*inputs, weights, params, *([table] if table is not None else [])]
            self.steps.append(Step(index, needs, make))
        self._note(layer.output, tile)

    def _depthwise_load(
        self, index: int, layer: DepthwiseLayer, part: Span, kernel: tuple[KernelPart, ...]
    ) -> Hashable:
        key = ("weights", index, part[0], kernel)
        if key not in self.loads:
            words, width = sum(piece.words for piece in kernel), part[1] - part[0]
            address = self._constant(pack_parts(layer, kernel, *part))
            self.loads[key] = Load(
                key, Memory.TAPS, words, lambda base: [emit_dma.load_linear(Memory.TAPS, address, base, words, width)]
            )
        return key

    def _weight_load(self, index: int, layer: ArrayLayer, part: Span, block: int, pieces: list[Piece]) -> Hashable:
        key = ("weights", index, part[0], block)
        if key not in self.loads:
            words = sum(piece.words for piece in pieces)
            address = self._constant(pack_block(layer, pieces, part))
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
