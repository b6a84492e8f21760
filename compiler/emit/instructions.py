"""Records to instructions: a function for each kind of load and of work."""

from __future__ import annotations

from collections.abc import Mapping

from accel.machine.config import TABLE_ENTRIES, ArchConfig
from accel.machine.isa import Instruction, Memory, Opcode
from compiler.emit import compute, dma
from compiler.emit.depthwise import depthwise_parts, post_columns
from compiler.emit.interpolation import post_interpolation
from compiler.emit.keys import Key, TableKey
from compiler.emit.records import (
    ArrayWork,
    BlockLoad,
    DepthwiseWork,
    FoldedLoad,
    GatherLoad,
    GatherWork,
    Load,
    Post,
    Store,
    TileLoad,
    VectorWork,
    Work,
)
from compiler.lower.layers import InterpolationLayer
from compiler.plan.folding import load_folded

Addresses = Mapping[Key, int]
"""First words of the blocks that a step needs; of PARAM, the first row."""


def load_instructions(config: ArchConfig, load: Load, address: int) -> list[Instruction]:
    """LOADs of a load; `address` is where a block goes."""
    match load:
        case BlockLoad():
            word = address * config.post_lanes if load.memory is Memory.PARAM else address
            return [dma.load_linear(load.memory, load.dram_address, word, load.count, load.word_bytes)]
        case TileLoad():
            return dma.transfer_tile(Opcode.LOAD, config, load.home, load.view, load.tile, load.chunks)
        case FoldedLoad():
            return load_folded(load.layer, load.sources, load.view, load.tile, load.chunks)
        case GatherLoad():
            return load.gather.loads(*load.part, load.base)


def work_instructions(config: ArchConfig, work: Work, addresses: Addresses) -> list[Instruction]:
    """Everything of a step but its loads."""
    match work:
        case ArrayWork():
            return _array(config, work, addresses)
        case DepthwiseWork():
            return _depthwise(config, work, addresses)
        case VectorWork():
            return _vector(config, work, addresses)
        case GatherWork():
            return [] if work.address is None else work.gather.stores(*work.part, work.base, work.address)


def _array(config: ArchConfig, work: ArrayWork, addresses: Addresses) -> list[Instruction]:
    result, word = list[Instruction](), addresses[work.weights]
    for piece in work.pieces:
        accumulate = work.accumulate or bool(result)
        result.append(
            compute.exec_piece(work.layer, piece, work.source, work.tile, word, work.accumulators, accumulate)
        )
        word += piece.words
    if work.post:
        result.append(_post(config, work, work.post, addresses))
    return result + _stores(config, work.store)


def _depthwise(config: ArchConfig, work: DepthwiseWork, addresses: Addresses) -> list[Instruction]:
    sums, posts, offset = list[Instruction](), list[Instruction](), 0
    whole = _post(config, work, work.post, addresses)
    for columns in work.columns:
        places = (addresses[work.weights], work.accumulators + offset)
        first = work.channels.first
        sums += depthwise_parts(config, work.layer, work.kernel, columns, work.source, work.tile, first, places)
        posts.append(post_columns(whole, columns, offset))
        offset += len(columns) * work.tile.height
    return [*sums, *posts, *_stores(config, work.store)]


def _vector(config: ArchConfig, work: VectorWork, addresses: Addresses) -> list[Instruction]:
    fields = (addresses[work.params], table_field(addresses, work.table))
    if isinstance(work.layer, InterpolationLayer):
        posts = post_interpolation(config, work.layer, work.tile, work.sources, work.output, *fields)
    else:
        posts = compute.post_operands(config, work.layer, work.tile, work.sources, work.output, *fields)
    return posts + _stores(config, work.store)


def _post(config: ArchConfig, work: ArrayWork | DepthwiseWork, post: Post, addresses: Addresses) -> Instruction:
    places = (work.accumulators, addresses[post.params], table_field(addresses, post.table))
    return compute.post_accumulators(config, work.layer, work.tile, post.output, work.channels, *places)


def _stores(config: ArchConfig, store: Store | None) -> list[Instruction]:
    if store is None:
        return []
    return dma.transfer_tile(Opcode.STORE, config, store.home, store.view, store.tile, store.chunks)


def table_field(addresses: Addresses, table: TableKey | None) -> int:
    """POST's field `table` for a table block."""
    return 0 if table is None else addresses[table] // TABLE_ENTRIES + 1
