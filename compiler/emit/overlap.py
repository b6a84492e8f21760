"""Layers that overlap: tiles of later layers run while earlier ones keep only one of the units busy.

`work_order` builds one *stream* of items after the other. `overlapped` merges the streams: each keeps its own order,
and of those that may go on the one whose unit can begin first does. An item may go ahead of earlier layers if all that
it reads is made, and if no earlier layer still owns scratchpad words that its own layers get. Which merge is the
fastest is hard to tell from here, so that a caller compiles several and times them (`accel.compile`, `effort`).
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import NamedTuple

from accel.machine.config import ArchConfig
from accel.machine.isa import Unit
from accel.machine.latencies import POST_LATENCY, exec_latency
from accel.machine.weight_words import tile_words
from compiler.emit.order import GatherItem, GroupItem, Item, JoinItem, TileItem
from compiler.lower.geometry import Tile
from compiler.lower.layers import ArrayLayer, DepthwiseLayer
from compiler.plan.plan import LayerPlan, Plan
from compiler.plan.tiles import STREAMED_TILES, placed, whole
from compiler.plan.weights import contraction_words, weight_tiles


class Overlap(NamedTuple):
    """How freely layers overlap.

    Parameters
    ----------
    streams : int
        At most so many streams have items left before and behind the next one.
    passing : bool
        Loads that wait for a step are passed by those of later steps that need not (`compiler.schedule.schedule`).
    """

    streams: int
    passing: bool


class Variant(NamedTuple):
    """One way to compile: how layers overlap, if they do, and tiles of a streamed image at least."""

    overlap: Overlap | None = None
    tiles: int = STREAMED_TILES


_OVERLAPS = [None, *(Overlap(streams, passing) for streams in (2, 3, 4) for passing in (False, True))]

EFFORTS: tuple[tuple[Variant, ...], ...] = (
    (Variant(),),
    (Variant(), Variant(Overlap(3, False)), Variant(Overlap(3, True)), Variant(None, 2 * STREAMED_TILES)),
    tuple(Variant(overlap, tiles) for tiles in (STREAMED_TILES, 2 * STREAMED_TILES) for overlap in _OVERLAPS),
)
"""What is tried for each effort."""


@dataclass(eq=False)
class _Node:
    """An item, its first unit, cycles of that unit and then of POST; the items that make what it reads.

    What they make is there `transfer` cycles later, if it passes through external memory.
    """

    item: Item
    unit: Unit
    cycles: int
    post: int
    transfer: int = 0
    needs: list[_Node] = field(default_factory=list)
    done: int | None = None

    @property
    def ready(self) -> int | None:
        """Cycle from which its inputs are there; None if an item that makes them is still to come."""
        ends = [node.done for node in self.needs]
        return None if None in ends else max((end for end in ends if end is not None), default=0) + self.transfer


class _Stream(NamedTuple):
    """Items in their order.

    Parameters
    ----------
    barrier : int
        This layer and all before it must be done before the stream begins: its areas were theirs.
    weights : int
        Words of weights that several tiles use.
    """

    nodes: deque[_Node]
    barrier: int
    weights: int


class _Head(NamedTuple):
    """A stream's next item could begin in cycle `start`."""

    start: int
    stream: _Stream

    @property
    def is_post(self) -> bool:
        """Whether it is work of POST alone."""
        return self.stream.nodes[0].unit is Unit.POST


def overlapped(plan: Plan, config: ArchConfig, order: Sequence[Sequence[Item]], overlap: Overlap) -> list[Item]:
    """The items of `work_order` in an order in which layers overlap."""
    merge, items = _Merge(plan, config, _streams(plan, config, order)), list[Item]()
    while merge.streams:
        items.append(merge.advance(overlap.streams).item)
    return items


class _Merge:
    """The cycle from which each unit is free, if items take what `_node` says, and what is left of the streams."""

    def __init__(self, plan: Plan, config: ArchConfig, streams: list[_Stream]) -> None:
        self.config, self.streams = config, deque(streams)
        self._left = Counter(node.item.layer for stream in streams for node in stream.nodes)
        self._free = dict.fromkeys(Unit, 0)
        self._banks = {unit: deque([0] * config.acc_banks, config.acc_banks) for unit in (Unit.EXEC, Unit.DEPTHWISE)}

    def advance(self, streams: int) -> _Node:
        """Take the next item of a stream."""
        heads = [_Head(self._start(stream.nodes[0]), stream) for stream in self._open(streams)]
        sums = min((head for head in reversed(heads) if not head.is_post), key=lambda head: head.start, default=None)
        post = min((head for head in heads if head.is_post), key=lambda head: head.start, default=None)
        goes_ahead = post and (not sums or post.start <= sums.start + sums.stream.nodes[0].cycles)
        head = post if post and goes_ahead else sums
        assert head is not None
        node = head.stream.nodes.popleft()
        self._run(node, head.start)
        self._left[node.item.layer] -= 1
        if not head.stream.nodes:
            self.streams.remove(head.stream)
        return node

    def _open(self, most: int) -> Iterator[_Stream]:
        """Streams of which the next item may run."""
        lowest, words = min(layer for layer, count in self._left.items() if count), 0
        for number, stream in enumerate(islice(self.streams, most)):
            moves, words = isinstance(stream.nodes[0].item, GatherItem), words + stream.weights
            if number and (moves or (stream.weights and words > self.config.wbuf_words // 2)):
                return
            if number == 0 or (stream.barrier < lowest and stream.nodes[0].ready is not None):
                yield stream
            if moves:
                return

    def _start(self, node: _Node) -> int:
        banks = self._banks.get(node.unit)
        return max(node.ready or 0, self._free[node.unit], banks[0] if banks else 0)

    def _run(self, node: _Node, start: int) -> None:
        end = self._free[node.unit] = start + node.cycles
        if node.unit in self._banks:
            latency = exec_latency(self.config) if node.unit is Unit.EXEC else 0
            end = self._free[Unit.POST] = max(end + latency, self._free[Unit.POST]) + node.post
            self._banks[node.unit].append(end)
        node.done = end + POST_LATENCY


def _streams(plan: Plan, config: ArchConfig, order: Sequence[Sequence[Item]]) -> list[_Stream]:
    """The lists of `work_order` that have items; phases of one operator go tile by tile."""
    lists = list[list[Item]]()
    for items in chain.from_iterable(map(_apart, order)):
        if lists and _are_phases(plan, lists[-1], items):
            lists[-1] = list(chain.from_iterable(zip(lists[-1], items, strict=True)))
        else:
            lists.append(list(items))
    writers: dict[str, list[tuple[Tile, _Node]]] = defaultdict(list)
    streams = list[_Stream]()
    for items in lists:
        nodes = deque(_node(plan, config, item, writers) for item in items)
        layers = {item.layer for item in items}
        streams.append(_Stream(nodes, _barrier(plan, layers), sum(_reused_words(plan, config, i) for i in layers)))
    return streams


def _apart(items: Sequence[Item]) -> Iterator[list[Item]]:
    """Items of a list of `work_order`, and those of its followers, which POST makes when it can."""
    followers = [item for item in items if isinstance(item, TileItem)]
    yield from filter(None, ([item for item in items if not isinstance(item, TileItem)], followers))


def _are_phases(plan: Plan, before: Sequence[Item], items: Sequence[Item]) -> bool:
    """Whether both lists are convolutions of one operator, cut into the same number of items."""
    names = {plan.layers[item.layer].layer.name for item in (*before, *items)}
    alone = all(isinstance(item, GroupItem) and item.between is None for item in (*before, *items))
    return alone and len(names) == 1 and len({item.layer for item in items}) == 1 and len(before) == len(items)


def _barrier(plan: Plan, layers: set[int]) -> int:
    """The last layer that owns words which areas of these layers get after it."""
    areas = [*plan.residents.values(), *(area for layer in plan.layers for area in layer.areas)]
    own = [area for area in areas if min(layers) <= area.first <= max(layers)]
    return max((a.last for a in areas for area in own if a.last < area.first and a.overlaps(area)), default=-1)


def _reused_words(plan: Plan, config: ArchConfig, index: int) -> int:
    """Weights that a layer would load again if they were overwritten between its tiles."""
    layer_plan = plan.layers[index]
    if not isinstance(layer_plan, LayerPlan) or not isinstance(layer_plan.layer, ArrayLayer):
        return 0
    again = len(layer_plan.tiles) > 1 and not layer_plan.group_outer
    return contraction_words(layer_plan.layer, layer_plan.chunks, config) if again else 0


def _node(plan: Plan, config: ArchConfig, item: Item, writers: dict[str, list[tuple[Tile, _Node]]]) -> _Node:
    """An item, after those of `writers` that make what it reads; becomes one of them."""
    network, layer_plan = plan.network, plan.layers[item.layer]
    place = network.place(layer_plan.layer.output)
    if isinstance(item, GatherItem) or not isinstance(layer_plan, LayerPlan):
        node, made = _Node(item, Unit.POST, 0, 0), whole(network.shapes[place.whole])
        read = [(value, whole(network.shapes[value])) for value in network.gathered]
    else:
        node, made = _work(layer_plan, config, item), placed(item.tile, place)
        part = layer_plan.input_part(item.tile)
        if any(layer_plan.input_areas):
            beats = part.pixels * layer_plan.layer.input_shape[2] // config.bus_bytes
            node.transfer = config.write_latency_cycles + config.read_latency_cycles + 2 * beats
        if layer_plan.folded:
            part = whole(layer_plan.layer.input_shape)
        stored = [network.stored(value, part) for value in layer_plan.layer.inputs]
        read = [(source.whole, placed(needed, source)) for source, needed in stored]
    for value, tile in read:
        node.needs += [other for written, other in writers[value] if written.intersects(tile)]
    writers[place.whole].append((made, node))
    return node


def _work(plan: LayerPlan, config: ArchConfig, item: GroupItem | JoinItem | TileItem) -> _Node:
    """About how many cycles an item takes."""
    layer, pixels = plan.layer, item.tile.pixels
    channels = layer.output_shape[2] if isinstance(item, TileItem) else item.channels.size
    post = pixels * -(-channels // config.post_lanes)
    rows, columns = layer.window.kernel
    if not isinstance(item, GroupItem) or not isinstance(layer, ArrayLayer):
        return _Node(item, Unit.POST, post * rows * columns * len(layer.inputs), 0)
    if isinstance(layer, DepthwiseLayer):
        return _Node(item, Unit.DEPTHWISE, pixels * rows * -(-channels // config.depthwise_lanes), post)
    tiles = weight_tiles(layer, plan.chunks, config, item.channels)
    return _Node(item, Unit.EXEC, max(pixels, tile_words(config.rows, int(layer.int4))) * tiles, post)
