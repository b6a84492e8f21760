"""Names of what steps need on chip: a key tells what is loaded, and steps that need the same load share it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from compiler.lower.geometry import Span, Tile
from compiler.lower.layers import Record


class KernelPart(NamedTuple):
    """Kernel rows [ky0, ky1) and columns [kx0, kx1) of one DEPTHWISE."""

    ky0: int
    ky1: int
    kx0: int
    kx1: int

    @property
    def words(self) -> int:
        """Words of TAPS."""
        return (self.ky1 - self.ky0) * (self.kx1 - self.kx0)


@dataclass(frozen=True)
class WeightsKey:
    """Weights of output channels from `channel` on: block `block` of their contraction."""

    layer: int
    channel: int
    block: int


@dataclass(frozen=True)
class TapsKey:
    """Taps of channels from `channel` on, cut to `kernel`."""

    layer: int
    channel: int
    kernel: tuple[KernelPart, ...]


@dataclass(frozen=True)
class ParamsKey:
    """Parameters of output channels from `part` on, or a record that all channels share."""

    layer: int
    part: int | Record


@dataclass(frozen=True)
class TableKey:
    """The table at `address` in external memory; equal tables lie there once."""

    address: int


@dataclass(frozen=True)
class TileKey:
    """Channel chunks of what output tile `tile` needs of an operand."""

    layer: int
    operand: int
    tile: Tile
    chunks: Span


@dataclass(frozen=True)
class BandKey:
    """Rows of the input from `row` on, for band number `band` of a pair."""

    layer: int
    band: int
    row: int


@dataclass(frozen=True)
class PreloadKey:
    """Rows of a resident network input from `row` on."""

    value: str
    row: int


@dataclass(frozen=True)
class GatherKey:
    """Words of a gather's output from `word` on."""

    layer: int
    word: int


Key: TypeAlias = WeightsKey | TapsKey | ParamsKey | TableKey | TileKey | BandKey | PreloadKey | GatherKey
