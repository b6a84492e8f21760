"""The order of work: which tile of which layer comes next, before anything is placed or loaded.

Most layers are built tile by tile, one after the other. Some run between the tiles of others: a vector layer
follows the layer with weights before it as soon as its inputs are there, or joins it group by group; a depthwise layer
runs in a pair with the array layer before it (`compiler.plan.pairs`); and the last tiles of such a depthwise layer, its
*tail*, run beside the array layer after it.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Sequence
from itertools import cycle
from typing import NamedTuple, TypeAlias

from accel.machine.config import ArchConfig
from compiler.lower.geometry import Span, Tile
from compiler.lower.layers import ComputeLayer, DepthwiseLayer, VectorLayer
from compiler.plan.allocate import Area
from compiler.plan.plan import LayerPlan, MovePlan, Plan
from compiler.plan.tiles import View, is_covered


class GroupItem(NamedTuple):
    """A tile and a group of output channels of a layer with weights.

    Parameters
    ----------
    banks : range
        Accumulator banks that take turns.
    band : int or None
        Number of the band whose rows an array layer makes, in a pair by bands.
    between : View or None
        In a pair by bands, or if a vector layer joins, where this part of the tensor between the two layers lies:
        output of the one and input of the other.
    """

    layer: int
    tile: Tile
    channels: Span
    banks: range
    band: int | None = None
    between: View | None = None


class JoinItem(NamedTuple):
    """The tile and channels of a joined vector layer that an array layer has just made, in `between`."""

    layer: int
    tile: Tile
    channels: Span
    between: View


class TileItem(NamedTuple):
    """A tile of a vector layer, all channels."""

    layer: int
    tile: Tile


class GatherItem(NamedTuple):
    """All of a layer that moves bytes."""

    layer: int


Item: TypeAlias = GroupItem | JoinItem | TileItem | GatherItem


def work_order(plan: Plan, config: ArchConfig) -> list[list[Item]]:
    """For each layer, the items from its beginning to the next layer's; followers have none of their own."""
    order = _Order(plan, config)
    for index, layer_plan in enumerate(plan.layers):
        order.begin()
        if index in plan.followers:
            continue
        if isinstance(layer_plan, MovePlan):
            order.append(GatherItem(index))
        elif isinstance(layer_plan.layer, VectorLayer):
            order.append(*(TileItem(index, tile) for tile in layer_plan.tiles))
        elif _is_depthwise(plan, index + 1):
            _order_pair(order, index)
        else:
            _order_alone(order, index)
    return order.layers


def channel_groups(layer: ComputeLayer, config: ArchConfig) -> list[Span]:
    """Output channels that are made at a time: whole scratchpad words, one or more column tiles."""
    channels, width = layer.output_shape[2], max(config.rows, config.cols)
    return [Span(first, min(first + width, channels)) for first in range(0, channels, width)]


class _Order:
    """The order so far, what of each layer is done, and the tail that is left of a depthwise layer."""

    def __init__(self, plan: Plan, config: ArchConfig) -> None:
        self.plan, self.config = plan, config
        self.layers: list[list[Item]] = []
        self._done: dict[int, list[Tile]] = defaultdict(list)
        self._tail: deque[GroupItem] = deque()
        self._waiting = {
            index: deque(layer_plan.tiles)
            for index in plan.followers
            if isinstance(layer_plan := plan.layers[index], LayerPlan) and isinstance(layer_plan.layer, VectorLayer)
            if index not in plan.choices.joined
        }

    def begin(self) -> None:
        """The next layer begins."""
        self.layers.append([])

    def append(self, *items: Item) -> None:
        self.layers[-1] += items

    def free_banks(self) -> range:
        """Accumulator banks of a layer that is not in a pair."""
        banks = self.config.acc_banks
        return _split_banks(banks)[0] if self._tail else range(banks)

    def build(self, item: GroupItem) -> None:
        """Add an item; before one of the array what it needs of the tail, and after it the next item of the tail."""
        plan = self.plan.layers[item.layer]
        assert isinstance(plan, LayerPlan)
        if isinstance(plan.layer, DepthwiseLayer):
            self.append(item)
        else:
            self._await_tail(plan.input_part(self._read_at_once(item, plan)))
            self.append(item)
            if item.layer + 1 in self.plan.choices.joined and item.between is not None:
                self.append(JoinItem(item.layer + 1, item.tile, item.channels, item.between))
            self._advance_tail()
        if item.channels.last == plan.layer.output_shape[2]:
            self._finish_tile(item)

    def _read_at_once(self, item: GroupItem, plan: LayerPlan) -> Tile:
        """Outputs whose input must be there: loads bring rows of a band that other tiles of it need, too."""
        if item.band is None or plan.input_areas[0] is None:
            return item.tile
        return self.plan.pairs[item.layer][item.band].part

    def replace_tail(self, items: Sequence[GroupItem]) -> None:
        """Add what is left of the tail; `items` are the next one."""
        while self._tail:
            self._advance_tail()
        self._tail.extend(items)

    def _await_tail(self, part: Tile) -> None:
        """Add what `part` of the trailing layer's output lacks."""
        while self._tail and not is_covered(part, self._done[self._tail[0].layer]):
            self._advance_tail()

    def _advance_tail(self) -> None:
        if self._tail:
            self.build(self._tail.popleft())

    def _finish_tile(self, item: GroupItem) -> None:
        """All channels of a tile are done: add the tiles of a following vector layer that can run now."""
        done, follower = self._done[item.layer], item.layer + 1
        done.append(item.tile)
        if follower in self._waiting:
            plan = self.plan.layers[follower]
            assert isinstance(plan, LayerPlan)
            self.append(*(TileItem(follower, tile) for tile in _take_ready(self._waiting[follower], plan, done)))


def _order_alone(order: _Order, index: int) -> None:
    """A layer with weights that is not in a pair."""
    plan = order.plan.layers[index]
    assert isinstance(plan, LayerPlan)
    groups = channel_groups(plan.layer, order.config)
    work = [(tile, group) for tile in plan.tiles for group in groups]
    if plan.group_outer:
        work = [(tile, group) for group in groups for tile in plan.tiles]
    rooms = plan.output_areas if index + 1 in order.plan.choices.joined else None
    for (tile, group), room in zip(work, cycle(rooms or (None,)), strict=False):
        between = None if room is None else _room_view(room, tile, group, order.config)
        order.build(GroupItem(index, tile, group, order.free_banks(), None, between))
    order.replace_tail(())


def _room_view(room: Area, part: Tile, channels: Span, config: ArchConfig) -> View:
    """A room that holds these channels of a part."""
    return View(room.base - channels.first // config.rows * part.pixels, part.pixels, part)


# Array and depthwise engine side by side ------------------------------------------------------------------------------


class _Slot(NamedTuple):
    """Outputs of the array, and those that the engine makes of them in the next slot."""

    made: list[GroupItem]
    used: list[GroupItem]


def _order_pair(order: _Order, index: int) -> None:
    """Both layers of a pair: while the array makes a slot's outputs, the engine reads those of the slot before."""
    behind: list[GroupItem] = []
    for slot in (_band_slots if index in order.plan.pairs else _tile_slots)(order.plan, order.config, index):
        for item in interleaved(slot.made, behind):
            order.build(item)
        behind = slot.used
    order.replace_tail(behind)
    if index + 1 not in order.plan.trailing:
        order.replace_tail(())


def interleaved(first: Sequence[GroupItem], second: Sequence[GroupItem]) -> list[GroupItem]:
    """Both sequences merged, each in its own order, evenly spread."""
    places = [((i + 1) * len(second), 0, item) for i, item in enumerate(first)]
    places += [((i + 1) * len(first), 1, item) for i, item in enumerate(second)]
    return [item for _, _, item in sorted(places, key=lambda place: place[:2])]


def _band_slots(plan: Plan, config: ArchConfig, index: int) -> list[_Slot]:
    """One group of channels of a band after the other."""
    array = plan.layers[index]
    assert isinstance(array, LayerPlan)
    banks, rooms, slots = _split_banks(config.acc_banks), cycle(array.output_areas or ()), []
    for number, band in enumerate(plan.pairs[index]):
        for channels, room in zip(channel_groups(array.layer, config), rooms, strict=False):
            between = _room_view(room, band.part, channels, config)
            made = [GroupItem(index, tile, channels, banks[0], number, between) for tile in band.made]
            used = [GroupItem(index + 1, tile, channels, banks[1], None, between) for tile in band.tiles]
            slots.append(_Slot(made, used))
    return slots


def _tile_slots(plan: Plan, config: ArchConfig, index: int) -> list[_Slot]:
    """One tile after the other, all groups of channels; then the tiles of the depthwise layer that it completes."""
    array, depthwise = plan.layers[index : index + 2]
    assert isinstance(array, LayerPlan)
    assert isinstance(depthwise, LayerPlan)
    groups, banks, slots = channel_groups(array.layer, config), _split_banks(config.acc_banks), []
    done, waiting = list[Tile](), deque(depthwise.tiles)
    for tile in array.tiles:
        done.append(tile)
        ready = _take_ready(waiting, depthwise, done)
        made = [GroupItem(index, tile, channels, banks[0]) for channels in groups]
        used = [GroupItem(index + 1, other, channels, banks[1]) for other in ready for channels in groups]
        slots.append(_Slot(made, used))
    return slots


def _is_depthwise(plan: Plan, index: int) -> bool:
    """Whether layer `index` is a depthwise layer that runs beside the one before."""
    layer_plan = plan.layers[index] if index in plan.followers else None
    return isinstance(layer_plan, LayerPlan) and isinstance(layer_plan.layer, DepthwiseLayer)


def _take_ready(waiting: deque[Tile], plan: LayerPlan, done: Sequence[Tile]) -> list[Tile]:
    """Remove and return the next tiles of a layer, as long as they need no more than the tiles `done` before it."""
    ready = []
    while waiting and is_covered(plan.input_part(waiting[0]), done):
        ready.append(waiting.popleft())
    return ready


def _split_banks(banks: int) -> tuple[range, range]:
    """Accumulator banks of the array and of the depthwise engine while both work."""
    upper = banks // 2
    return range(banks - upper), range(banks - upper, banks) if upper else range(banks)
