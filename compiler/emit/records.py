"""Records of what runs: steps of work, the loads that they need, and all that the emission of a network makes.

A record says what is done and where its data lies; `compiler.emit.instructions` turns it into instructions. Blocks of
weights, taps, parameters and tables have no address yet: the scheduler gives them one, so records name them by key.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

from accel.machine.isa import Memory
from compiler.emit.gather import Gather
from compiler.emit.keys import (
    BandKey,
    GatherKey,
    KernelPart,
    Key,
    ParamsKey,
    PreloadKey,
    TableKey,
    TapsKey,
    TileKey,
    WeightsKey,
)
from compiler.emit.memory import Home
from compiler.lower.geometry import Span, Tile
from compiler.lower.layers import ArrayLayer, DepthwiseLayer, VectorLayer
from compiler.plan.tiles import View
from compiler.plan.weights import Chunk, Piece

# Loads ----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class BlockLoad:
    """Consecutive bytes to a block of WBUF, TAPS, PARAM or TABLE whose place the scheduler chooses.

    Parameters
    ----------
    words : int
        Size of the block: words of WBUF or TAPS, rows of PARAM, the 256 words of one TABLE.
    dram_address : int
    count, word_bytes : int
        Words that LOAD writes (PARAM: records) and the size of each.
    earliest : int
        A load must come after this step, since it overwrites or reads what that step leaves; -1 if any time will do.
    """

    key: WeightsKey | TapsKey | ParamsKey | TableKey
    memory: Memory
    words: int
    dram_address: int
    count: int
    word_bytes: int

    earliest: ClassVar[int] = -1


class _SpadLoad:
    """The base of loads to the scratchpad, which bring their own address."""

    memory: ClassVar[Memory] = Memory.SPAD
    words: ClassVar[int] = 0


@dataclass(frozen=True)
class TileLoad(_SpadLoad):
    """Channel chunks of `tile` of the value at `home` to their place in `view`."""

    key: TileKey | BandKey | PreloadKey
    home: Home
    view: View
    tile: Tile
    chunks: Span
    earliest: int


@dataclass(frozen=True)
class FoldedLoad(_SpadLoad):
    """The input of `layer`, kernel positions folded into words, for the output columns of `tile`.

    Parameters
    ----------
    image, padding : int
        Addresses in external memory: of the input, and of one byte that holds the padding value.
    view : View
        Its tile has the output's columns of `tile`, and the input's rows if folded by columns, else the output's.
    """

    key: TileKey | BandKey
    layer: ArrayLayer
    image: int
    padding: int
    view: View
    tile: Tile
    chunks: tuple[Chunk, ...]
    earliest: int


@dataclass(frozen=True)
class GatherLoad(_SpadLoad):
    """Words `part` of a gather's output to the scratchpad from `base` on."""

    key: GatherKey
    gather: Gather
    part: Span
    base: int
    earliest: int


Load: TypeAlias = BlockLoad | TileLoad | FoldedLoad | GatherLoad


# Work -----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Store:
    """Finished channel chunks of `tile`, which lie in `view`, to the value at `home`."""

    home: Home
    view: View
    tile: Tile
    chunks: Span


@dataclass(frozen=True)
class Post:
    """Sums to results in `output`, by the blocks of these keys."""

    output: View
    params: ParamsKey
    table: TableKey | None


@dataclass(frozen=True)
class ArrayWork:
    """A block of the contraction of a tile and of at most C output channels on the array.

    Parameters
    ----------
    source : View
        The input (folded or not).
    accumulators : int
        First word of ACC.
    accumulate : bool
        An earlier block has left sums there.
    post : Post or None
        After the last block: what becomes of the sums.
    store : Store or None
        After the last channels of a group, if external memory holds the value.
    """

    layer: ArrayLayer
    tile: Tile
    channels: Span
    source: View
    weights: WeightsKey
    pieces: tuple[Piece, ...]
    accumulators: int
    accumulate: bool
    post: Post | None
    store: Store | None


@dataclass(frozen=True)
class DepthwiseWork:
    """A tile and as many channels as the depthwise engine has lanes.

    Parameters
    ----------
    kernel : tuple of KernelPart
        One DEPTHWISE each, for each of the classes of columns.
    columns : tuple of range
        Classes of output columns that are computed together, from the tile's first column on.
    """

    layer: DepthwiseLayer
    tile: Tile
    channels: Span
    source: View
    weights: TapsKey
    kernel: tuple[KernelPart, ...]
    columns: tuple[range, ...]
    accumulators: int
    post: Post
    store: Store | None


@dataclass(frozen=True)
class VectorWork:
    """Channel chunks of a tile of a vector layer whose outputs share a parameter record."""

    layer: VectorLayer
    tile: Tile
    chunks: Span
    sources: tuple[View, ...]
    output: View
    params: ParamsKey
    table: TableKey | None
    store: Store | None


@dataclass(frozen=True)
class GatherWork:
    """Nothing but the store of words `part` of a gather's output, to `address` if external memory holds the value."""

    gather: Gather
    part: Span
    base: int
    address: int | None


Work: TypeAlias = ArrayWork | DepthwiseWork | VectorWork | GatherWork


@dataclass(frozen=True)
class Step:
    """Work of layer number `layer`, after the loads that it needs."""

    layer: int
    needs: tuple[Key, ...]
    work: Work


@dataclass(frozen=True)
class Emission:
    """A planned network as records; a pure function of network, plan and machine (`compiler.emit.emit`).

    Parameters
    ----------
    steps : tuple of Step, in order
    loads : mapping of Key to Load
    addresses : mapping of str to int
        Of all values that external memory holds.
    """

    steps: tuple[Step, ...]
    loads: Mapping[Key, Load]
    addresses: Mapping[str, int]
