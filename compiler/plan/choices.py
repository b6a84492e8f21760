"""What planning may do in more than one way: which values leave the chip, and which layers run side by side.

A plan is a pure function of a network, a machine and these choices (`compiler.plan.planner.walk`); a refusal says what
was in the way. `first_choices` wants everything, `Choices.without` gives up what a refusal names. A search may vary
them in any other order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple, TypeAlias

from accel.machine.config import ArchConfig
from compiler.lower.layers import ArrayLayer, DepthwiseLayer, Network, VectorLayer
from compiler.plan.allocate import Area
from compiler.plan.tiles import STREAMED_TILES, channel_group, resident_tile_pixels, split, tile_size
from compiler.plan.weights import channel_chunks, contraction_words


class NoRoom(NamedTuple):
    """Layer `layer` has no tiling that fits: its smallest needs `words`, and the residents live with it."""

    layer: int
    words: int
    residents: Mapping[str, Area]

    @property
    def largest(self) -> str:
        """The resident that takes most room."""
        return max(self.residents, key=lambda value: (self.residents[value].words, value))

    @property
    def cause(self) -> int:
        """The first layer that may run otherwise if the largest resident is spilled."""
        return self.residents[self.largest].first


class NotBeside(NamedTuple):
    """Layer `layer` cannot run between the tiles of the layer before it."""

    layer: int

    @property
    def cause(self) -> int:
        """The first layer that may run otherwise if it need not: the one before it."""
        return self.layer - 1


Refusal: TypeAlias = NoRoom | NotBeside
"""Why choices give no plan."""


@dataclass(frozen=True)
class Choices:
    """One way to place a network.

    Parameters
    ----------
    spilled : frozenset of str
        Values that external memory holds although they might stay in the scratchpad.
    followers : frozenset of int
        Vector layers whose tiles run between those of the array layer before them.
    by_tiles, by_bands : frozenset of int
        Depthwise layers of pairs: side by side with the array layer before them tile by tile, or band by band.
    joined : frozenset of int
        Vector layers that join the array layer before them: group by group of its channels, what it makes goes through
        two rooms of the scratchpad to the vector layer, and nowhere else.
    joinable : frozenset of int
        Those that do, and followers that may join where they cannot follow.
    tiles : int
        Tiles of a streamed image at least, if they are not too small.
    """

    spilled: frozenset[str] = frozenset()
    followers: frozenset[int] = frozenset()
    by_tiles: frozenset[int] = frozenset()
    by_bands: frozenset[int] = frozenset()
    joined: frozenset[int] = frozenset()
    joinable: frozenset[int] = frozenset()
    tiles: int = STREAMED_TILES

    @cached_property
    def beside(self) -> frozenset[int]:
        """All layers whose tiles run between those of the layer before."""
        return self.followers | self.joined | self.by_tiles | self.by_bands

    def start(self, index: int) -> int:
        """The first layer between whose tiles layer `index` runs; perhaps itself."""
        while index in self.beside:
            index -= 1
        return index

    def without(self, refusal: Refusal) -> Choices:
        """Less of what was refused: a resident, the largest, or a layer beside another."""
        if isinstance(refusal, NoRoom):
            return replace(self, spilled=self.spilled | {refusal.largest})
        index = {refusal.layer}
        if refusal.layer in self.joined:
            joinable = self.joinable - index
            return replace(self, joined=self.joined - index, joinable=joinable, followers=self.followers | index)
        if refusal.layer in self.followers:
            joined = self.joined | (index & self.joinable)
            return replace(self, followers=self.followers - index, joined=joined)
        if refusal.layer in self.by_tiles:
            return replace(self, by_tiles=self.by_tiles - index, by_bands=self.by_bands | index)
        return replace(self, by_bands=self.by_bands - index)


def first_choices(network: Network, config: ArchConfig, tiles: int = STREAMED_TILES) -> Choices:
    """Nothing spilled but what is large, and side by side whatever may be."""
    indices = range(1, len(network.layers))
    pairs = frozenset(i for i in indices if may_pair(network, i))
    by_tiles = frozenset(i for i in pairs if suits_tiles(network, config, i))
    followers = frozenset(i for i in indices if may_follow(network, i))
    joinable = frozenset(i for i in followers if may_join(network, i))
    joined = frozenset(i for i in joinable if _groups(network, config, i) >= JOINED_GROUPS)
    return Choices(
        spilled=large_values(network, config),
        followers=followers - joined,
        joined=joined,
        joinable=joinable,
        by_tiles=by_tiles,
        by_bands=pairs - by_tiles,
        tiles=tiles,
    )


LARGEST_RESIDENT = 0.5
"""Share of the scratchpad that a value may take to stay there.

A larger one would leave its neighbours small tiles with single buffers, in banks that several units use.
"""


def large_values(network: Network, config: ArchConfig) -> frozenset[str]:
    """What layers make and had better go to external memory, because it would take too much of the scratchpad."""
    made = {network.place(layer.output).whole for layer in network.layers}
    shapes = {value: network.shapes[value] for value in made}
    return frozenset(
        value
        for value, (height, width, channels) in shapes.items()
        if height * width * -(-channels // config.rows) > LARGEST_RESIDENT * config.spad_words
    )


def may_follow(network: Network, index: int) -> bool:
    """Whether a vector layer reads all of what the array layer before it makes, and nothing else made it."""
    before, layer = network.layers[index - 1 : index + 1]
    if not isinstance(before, ArrayLayer) or not isinstance(layer, VectorLayer) or before.output not in layer.inputs:
        return False
    return network.place(before.output).whole == before.output and network.users(before.output).writers == (index - 1,)


JOINED_GROUPS = 8
"""Groups of channels from which on a vector layer joins the array layer before it rather than follow it.

A follower begins when a tile has all of its channels, so that the last tile's work is seen; a joined layer begins when
one group is there, but then adds a pipeline's latency for each.
"""


def may_join(network: Network, index: int) -> bool:
    """Whether a vector layer alone, pixel by pixel, reads what the array layer before it makes, and another value."""
    before, layer = network.layers[index - 1 : index + 1]
    assert isinstance(layer, VectorLayer)
    others = [value for value in layer.inputs if value != before.output]
    alone = network.users(before.output).readers == (index,) and before.output not in network.kept
    pixelwise = layer.window.kernel == layer.window.stride == (1, 1) and layer.input_shape == layer.output_shape
    return isinstance(before, ArrayLayer) and before.unit == "array" and len(others) == 1 and alone and pixelwise


def may_pair(network: Network, index: int) -> bool:
    """Whether layer `index` is a depthwise layer and alone reads what the array layer before it makes."""
    before, layer = network.layers[index - 1 : index + 1]
    if not isinstance(layer, DepthwiseLayer) or not isinstance(before, ArrayLayer) or before.unit != "array":
        return False
    value = before.output
    alone = network.users(value) == ((index - 1,), (index,)) and value not in network.kept
    return alone and layer.inputs == (value,) and network.place(value).whole == value


def may_trail(network: Network, index: int) -> bool:
    """Whether layer `index` is the depthwise layer of a pair, and the next, on the array, reads what it makes."""
    if not 0 < index < len(network.layers) - 1 or not may_pair(network, index):
        return False
    value, after = network.layers[index].output, network.layers[index + 1]
    on_array = isinstance(after, ArrayLayer) and after.unit == "array" and after.inputs == (value,)
    return on_array and network.place(value).whole == value and network.users(value).writers == (index,)


def _groups(network: Network, config: ArchConfig, index: int) -> int:
    """Groups of output channels that a layer makes."""
    return -(-network.layers[index].output_shape[2] // channel_group(config))


def suits_tiles(network: Network, config: ArchConfig, index: int) -> bool:
    """Whether a pair had better go tile by tile, with all of the tensor between in the scratchpad.

    Then the next layer can start early, but every tile needs all weights: of both layers they must fit in half of their
    memories, which leaves the other half for what is loaded ahead. And more tiles than groups of channels are needed
    for the two units to work at the same time.
    """
    before, layer = network.layers[index - 1 : index + 1]
    assert isinstance(before, ArrayLayer)
    assert isinstance(layer, DepthwiseLayer)
    height, width, channels = before.output_shape
    groups = _groups(network, config, index - 1)
    tiles = split(before.output_shape, *tile_size(height, width, resident_tile_pixels(config, before.output_shape)))
    lanes = -(-channels // config.depthwise_lanes)
    words = contraction_words(before, channel_chunks(before.input_shape[2], config.rows), config)
    fits = words <= config.wbuf_words // 2 and layer.weight[0].size * lanes <= config.depthwise_words // 2
    return fits and len(tiles) >= groups
