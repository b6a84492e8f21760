"""Blocks of constants for WBUF, TAPS, PARAM and TABLE: each is packed and placed once, when first needed."""

from __future__ import annotations

from collections.abc import Sequence

from accel.machine.config import PARAM_RECORD_BYTES, TABLE_ENTRIES
from accel.machine.isa import Memory
from compiler.emit.depthwise import pack_parts
from compiler.emit.dma import pack_records
from compiler.emit.keys import KernelPart, ParamsKey, TableKey, TapsKey, WeightsKey
from compiler.emit.progress import Build
from compiler.emit.records import BlockLoad
from compiler.lower.geometry import Span
from compiler.lower.layers import IDENTITY, ArrayLayer, ComputeLayer, DepthwiseLayer, Record
from compiler.plan.weights import Piece, pack_block


def weight_block(
    build: Build, index: int, layer: ArrayLayer, channels: Span, block: int, pieces: Sequence[Piece]
) -> WeightsKey:
    """Weights of one block of the contraction of output channels."""
    key = WeightsKey(index, channels.first, block)
    if key not in build.progress.loads:
        words, width = sum(piece.words for piece in pieces), channels.last - channels.first
        address = build.memory.constant(pack_block(layer, pieces, channels))
        build.progress.loads[key] = BlockLoad(key, Memory.WBUF, words, address, words, width)
    return key


def tap_block(
    build: Build, index: int, layer: DepthwiseLayer, channels: Span, kernel: tuple[KernelPart, ...]
) -> TapsKey:
    """Taps of a depthwise layer's channels."""
    key = TapsKey(index, channels.first, kernel)
    if key not in build.progress.loads:
        words, width = sum(part.words for part in kernel), channels.last - channels.first
        address = build.memory.constant(pack_parts(layer, kernel, *channels))
        build.progress.loads[key] = BlockLoad(key, Memory.TAPS, words, address, words, width)
    return key


def param_block(build: Build, key: ParamsKey, records: Sequence[Record]) -> ParamsKey:
    """Parameter records of some channels, and neutral ones for the unused lanes of the last word."""
    if key not in build.progress.loads:
        lanes, rows = build.config.post_lanes, build.config.rows
        unit = rows if len(records) > rows else lanes
        padded = [*records, *[IDENTITY] * (-len(records) % unit)]
        address, count = build.memory.constant(pack_records(padded)), len(padded)
        build.progress.loads[key] = BlockLoad(key, Memory.PARAM, count // lanes, address, count, PARAM_RECORD_BYTES)
    return key


def table_block(build: Build, layer: ComputeLayer) -> TableKey | None:
    """The layer's table, if it has one."""
    if layer.table is None:
        return None
    key = TableKey(build.memory.constant(layer.table.tobytes()))
    if key not in build.progress.loads:
        build.progress.loads[key] = BlockLoad(key, Memory.TABLE, TABLE_ENTRIES, key.address, TABLE_ENTRIES, 1)
    return key
