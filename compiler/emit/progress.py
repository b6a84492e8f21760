"""The steps and loads so far, and the step after which each part of memory may be read or overwritten."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import chain
from typing import NamedTuple

from accel.machine.config import ArchConfig
from compiler.emit.keys import Key
from compiler.emit.memory import ExternalMemory
from compiler.emit.records import Load, Step, Work
from compiler.lower.geometry import Place, Span, Tile
from compiler.lower.layers import ArrayLayer, Network
from compiler.plan.allocate import Area
from compiler.plan.plan import LayerPlan, Plan
from compiler.plan.tiles import placed
from compiler.plan.weights import Piece, weight_blocks


class Progress:
    """Steps and loads in the order in which they are made. Steps are numbered from 0; -1 means before all of them."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.loads: dict[Key, Load] = {}
        self._last_use: dict[Key, int] = {}
        self._written: dict[str, dict[Tile, int]] = defaultdict(dict)
        self._layer_end: dict[int, int] = {}
        self._band_end: dict[tuple[int, int], int] = {}

    @property
    def last(self) -> int:
        """The last step."""
        return len(self.steps) - 1

    def step(self, layer: int, needs: list[Key], work: Work) -> None:
        """Add a step."""
        self.steps.append(Step(layer, tuple(needs), work))
        self._last_use |= dict.fromkeys(needs, self.last)

    def note_written(self, place: Place, tile: Tile) -> None:
        """The last step has written a tile of the value at `place`."""
        self._written[place.whole][placed(tile, place)] = self.last

    def note_layer(self, layer: int) -> None:
        """The last step is one of a layer."""
        self._layer_end[layer] = self.last

    def note_band(self, layer: int, band: int) -> None:
        """The last step is the last one that reads a band of the input of a pair, so far."""
        self._band_end[layer, band] = self.last

    def last_use(self, key: Key) -> int:
        """The last step that needs a load."""
        return self._last_use.get(key, -1)

    def written(self, place: Place, tile: Tile) -> int:
        """The last step that stores some of a tile of the value at `place`."""
        part = placed(tile, place)
        tiles = self._written[place.whole]
        return max((step for other, step in tiles.items() if other.intersects(part)), default=-1)

    def complete(self, value: str) -> int:
        """The last step that stores some of a value that is not a part of another."""
        return max(self._written[value].values(), default=-1)

    def layer_end(self, layer: int) -> int:
        """The last step of a layer so far."""
        return self._layer_end.get(layer, -1)

    def band_end(self, layer: int, band: int) -> int:
        """The last step that needs a band, if there is such a band."""
        return self._band_end.get((layer, band), -1)


class Turns:
    """Turns: the next of several buffers or accumulator banks."""

    def __init__(self) -> None:
        self._banks = Counter[range]()
        self._outputs = 0
        self._inputs: dict[tuple[int, int], dict[Key, int]] = defaultdict(dict)
        self._filled: dict[tuple[int, int], list[Key]] = defaultdict(list)

    def next_bank(self, banks: range) -> int:
        """One of these accumulator banks."""
        self._banks[banks] += 1
        return banks[self._banks[banks] % len(banks)]

    def next_output(self, areas: Sequence[Area]) -> Area:
        """One of a layer's output buffers."""
        self._outputs += 1
        return areas[self._outputs % len(areas)]

    def input_turn(self, layer: int, operand: int, key: Key, areas: Sequence[Area]) -> tuple[Area, Key | None]:
        """The input buffer that a load fills, and the load that filled it before."""
        turns, filled = self._inputs[layer, operand], self._filled[layer, operand]
        turn = turns.setdefault(key, len(turns))
        if turn == len(filled):
            filled.append(key)
        return areas[turn % len(areas)], filled[turn - len(areas)] if turn >= len(areas) else None


class Build(NamedTuple):
    """Shared state of the functions that make steps: the plan, and the steps and loads so far.

    Parameters
    ----------
    owners : dict
        For an area and a layer, the earlier layers that are the last to own some of its words.
    blocks : dict
        Weight blocks of a layer, and of its output channels if it has groups.
    """

    network: Network
    plan: Plan
    config: ArchConfig
    memory: ExternalMemory
    progress: Progress
    turns: Turns
    owners: dict[tuple[Area, int], frozenset[int]]
    blocks: dict[tuple[int, Span | None], list[list[Piece]]]

    def layer_plan(self, index: int) -> LayerPlan:
        """The plan of a layer that computes."""
        plan = self.plan.layers[index]
        assert isinstance(plan, LayerPlan)
        return plan

    def chunks(self, channels: Span) -> Span:
        """Channel chunks that hold these channels."""
        return Span(channels.first // self.config.rows, -(-channels.last // self.config.rows))

    def area_free(self, area: Area, index: int) -> int:
        """The last step of layers before `index` that own any words of an area."""
        if (area, index) not in self.owners:
            areas = chain(self.plan.residents.values(), *(plan.areas for plan in self.plan.layers[:index]))
            self.owners[area, index] = frozenset(a.last for a in areas if a.last < index and a.overlaps(area))
        return max(map(self.progress.layer_end, self.owners[area, index]), default=-1)

    def weight_blocks(self, index: int, channels: Span) -> list[list[Piece]]:
        """The contraction of some output channels of an array layer, cut into blocks."""
        plan = self.layer_plan(index)
        assert isinstance(plan.layer, ArrayLayer)
        key = (index, channels if plan.layer.groups > 1 else None)
        if key not in self.blocks:
            self.blocks[key] = weight_blocks(plan.layer, plan.chunks, self.config, channels)
        return self.blocks[key]
