"""Where tensors lie in external memory, and how tiles of them get into the scratchpad and back."""

from __future__ import annotations

from collections.abc import Callable, Hashable

from accel.machine.config import ArchConfig
from accel.machine.isa import Instruction, Memory, Opcode
from accel.machine.layout import pack, tensor_bytes
from compiler.emit import dma as emit_dma
from compiler.emit.steps import Load, Step
from compiler.lower.geometry import Span, Tile
from compiler.lower.layers import ArrayLayer, ComputeLayer, Network
from compiler.plan.folding import Sources, load_folded
from compiler.plan.plan import LayerPlan, Plan
from compiler.plan.tiles import View, placed, whole

ALIGNMENT_BYTES = 64
"""Alignment of tensors and constants in external memory."""


def align(value: int, alignment: int = ALIGNMENT_BYTES) -> int:
    """The next multiple of `alignment`."""
    return -(-value // alignment) * alignment


class Transfers:
    """Where tensors and tile buffers lie, and the loads and stores between them.

    Attributes
    ----------
    dram : dict of str to int
        Addresses of all values that external memory holds.
    constants_address : int
        What follows them: the constants.
    constants : bytearray
    steps : list of Step
    loads : dict of key to Load
    """

    def __init__(self, network: Network, plan: Plan, config: ArchConfig) -> None:
        self.network, self.plan, self.config = network, plan, config
        self.dram, self.constants_address = self._place_tensors()
        self.constants = bytearray()
        self._constant_addresses: dict[bytes, int] = {}
        for name, value in network.constants.items():
            self.dram[name] = self._constant(pack(value, config.rows))
        self.steps: list[Step] = []
        self.loads: dict[Hashable, Load] = {}
        self._turn = 0
        self._turns: dict[tuple[int, int], list[Hashable]] = {}
        self._last_step: list[int] = []
        self._written: dict[str, list[tuple[Tile, int]]] = {}
        self._band_end: dict[tuple[int, int], int] = {}

    def _place_tensors(self) -> tuple[dict[str, int], int]:
        """Addresses of all values that external memory holds, and of what follows them."""
        address, dram = 0, {}
        network = self.network
        given = (name for name in network.inputs if name not in network.constants)
        boundary = (*given, *(network.aliases.get(name, name) for name in network.outputs))
        made = (network.place(layer.output).whole for layer in network.layers)
        kept = {*boundary, *network.gathered}
        between = {network.layers[index].output for index in self.plan.pairs}
        for value in dict.fromkeys((*boundary, *made)):
            if value in kept or value not in (self.plan.residents.keys() | between):
                dram[value] = address
                address = align(address + tensor_bytes((1, *network.shapes[value])))
        return dram | {name: dram[value] for name, value in network.aliases.items() if value in dram}, address

    def _constant(self, data: bytes) -> int:
        """Place constant bytes, unless equal ones are there; their address."""
        if data not in self._constant_addresses:
            self._constant_addresses[data] = self.constants_address + len(self.constants)
            self.constants += data + bytes(-len(data) % ALIGNMENT_BYTES)
        return self._constant_addresses[data]

    def _input_view(
        self, index: int, plan: LayerPlan, operand: int, number: int, chunks: Span
    ) -> tuple[View, list[Hashable]]:
        """Where channel chunks of operand `operand` of tile `number` are, and the loads that bring them there."""
        layer, tile = plan.layer, plan.tiles[number]
        value, areas = layer.inputs[operand], plan.input_areas[operand]
        part = plan.input_part(tile)
        if areas is None:
            view = self.plan.view(value, layer.input_shape)
            return view, self._preloads(index, value, part)
        key, turns = ("tile", index, operand, number, chunks), self._turns.setdefault((index, operand), [])
        if key not in turns:
            turns.append(key)
        turn = turns.index(key)
        area = areas[turn % len(areas)]
        view = View(area.base - chunks[0] * part.pixels, part.pixels, part)
        if key not in self.loads:
            before = turns[turn - len(areas)] if turn >= len(areas) else None
            ready = max(self._area_ready(area.base, area.words, index), self._last_use(before))
            ready = max(ready, self._tile_written(plan, operand, part))
            self.loads[key] = Load(key, Memory.SPAD, 0, self._tile_loader(plan, value, view, tile, chunks), ready)
        return view, [key]

    def _last_use(self, key: Hashable | None) -> int:
        """The last step so far that needs a load; -1 if there is none."""
        return next((i for i in reversed(range(len(self.steps))) if key in self.steps[i].needs), -1) if key else -1

    def _tile_loader(
        self, plan: LayerPlan, value: str, view: View, tile: Tile, chunks: Span
    ) -> Callable[[int], list[Instruction]]:
        layer = plan.layer
        if plan.folded and isinstance(layer, ArrayLayer):
            sources = Sources(self._home(value).address, self._constant(bytes([layer.pad_value & 255])))
            return lambda _: load_folded(layer, sources, view, tile, plan.chunks)
        return self._loader(value, view, view.tile, chunks)

    def _loader(self, value: str, view: View, tile: Tile, chunks: Span) -> Callable[[int], list[Instruction]]:
        """LOADs of channel chunks of a tile of a value to its place in a view."""
        config, home = self.config, self._home(value)
        return lambda _: emit_dma.transfer_tile(Opcode.LOAD, config, home, view, tile, chunks)

    def _home(self, value: str) -> emit_dma.Home:
        """Where a value lies in external memory."""
        place = self.network.place(value)
        return emit_dma.Home(self.dram[place.whole], self.network.shapes[place.whole], place)

    def _band_view(self, index: int, plan: LayerPlan, number: int, tile: Tile) -> tuple[View, list[Hashable]]:
        """Where the input of band `number` of a pair's array layer is, and the loads of what `tile` needs of it."""
        value, areas, needed = plan.layer.inputs[0], plan.input_areas[0], plan.input_part(tile)
        if areas is None:
            return self.plan.view(value, plan.layer.input_shape), self._preloads(index, value, needed)
        part, area = plan.input_part(self.plan.pairs[index][number].part), areas[number % len(areas)]
        view, keys = View(area.base, part.pixels, part), list[Hashable]()
        for y0, y1 in self._row_bands(part):
            rows = Tile(y0, y1, part.x0, part.x1)
            if rows.intersects(needed):
                key = ("band", index, number, y0)
                keys.append(key)
                if key not in self.loads:
                    ready = max(self._area_ready(area.base, area.words, index), self._tile_written(plan, 0, rows))
                    ready = max(ready, self._band_end.get((index, number - len(areas)), -1))
                    target = View(view.word(0, y0, part.x0), part.pixels, rows)
                    loader = self._tile_loader(plan, value, target, rows, Span(0, len(plan.chunks)))
                    self.loads[key] = Load(key, Memory.SPAD, 0, loader, ready)
        return view, keys

    def _row_bands(self, part: Tile) -> list[Span]:
        """Rows of a tile that are loaded at a time."""
        height = max(1, 16 * self.config.rows // part.width)
        return [Span(y0, min(y0 + height, part.y1)) for y0 in range(part.y0, part.y1, height)]

    def _tile_written(self, plan: LayerPlan, operand: int, part: Tile) -> int:
        """The step that stores the last of what an input tile `part` holds; -1 if no step does."""
        if plan.folded:
            part = Tile(part.y0, part.y1, 0, plan.layer.input_shape[1])
        place = self.network.place(plan.layer.inputs[operand])
        part, writes = placed(part, place), self._written.get(place.whole, [])
        return max((step for tile, step in writes if tile.intersects(part)), default=-1)

    def _area_ready(self, base: int, words: int, index: int) -> int:
        """The last step of earlier layers that own any of these scratchpad words."""
        ready = -1
        owners = [*self.plan.residents.values()]
        for plan in self.plan.layers[:index]:
            owners += plan.areas
        for area in owners:
            if area.last < index and area.base < base + words and base < area.base + area.words:
                ready = max(ready, self._last_step[area.last])
        return ready

    def _preloads(self, index: int, value: str, part: Tile) -> list[Hashable]:
        """Loads of a resident network input, in bands of rows: those that `part` of a value in it needs."""
        place = self.network.place(value)
        value, part = place.whole, placed(part, place)
        if value not in self.network.inputs:
            return []
        shape = self.network.shapes[value]
        view = self.plan.view(value, shape)
        chunks = Span(0, -(-shape[2] // self.config.rows))
        keys: list[Hashable] = []
        for y0, y1 in self._row_bands(whole(shape)):
            if y0 >= part.y1:
                break
            key = ("preload", value, y0)
            keys.append(key)
            if key not in self.loads:
                tile = Tile(y0, y1, 0, shape[1])
                area = self.plan.residents[value]
                self.loads[key] = Load(
                    key,
                    Memory.SPAD,
                    0,
                    self._loader(value, view, tile, chunks),
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

    def _stores(self, layer: ComputeLayer, view: View, tile: Tile, chunks: Span) -> list[Instruction]:
        """STOREs of finished chunks of a tile, if external memory holds the value."""
        if self.network.place(layer.output).whole not in self.dram:
            return []
        return emit_dma.transfer_tile(Opcode.STORE, self.config, self._home(layer.output), view, tile, chunks)

    def _note(self, value: str, tile: Tile) -> None:
        """The last step has written a tile of a value."""
        place = self.network.place(value)
        self._written.setdefault(place.whole, []).append((placed(tile, place), len(self.steps) - 1))
