"""Records to instructions: a function for each kind of load and of work."""

from __future__ import annotations

from collections.abc import Mapping

from accel.machine.config import TABLE_ENTRIES
from accel.machine.isa import Instruction, Memory, Opcode
from compiler.emit import compute, dma
from compiler.emit.depthwise import depthwise_parts, post_columns
from compiler.emit.folded import load_folded
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
from compiler.emit.templates import Templates
from compiler.lower.layers import InterpolationLayer

Addresses = Mapping[Key, int]
"""First words of the blocks that a step needs; of PARAM, the first row."""


def load_instructions(templates: Templates, load: Load, address: int) -> list[Instruction]:
    """LOADs of a load; `address` is where a block goes."""
    match load:
        case BlockLoad():
            word = address * templates.config.post_lanes if load.memory is Memory.PARAM else address
            return [dma.load_linear(templates, load.memory, load.dram_address, word, load.count, load.word_bytes)]
        case TileLoad():
            return dma.transfer_tile(Opcode.LOAD, templates, load.home, load.view, load.tile, load.chunks)
        case FoldedLoad():
            return load_folded(load)
        case GatherLoad():
            return load.gather.loads(*load.part, load.base)


def work_instructions(templates: Templates, work: Work, addresses: Addresses) -> list[Instruction]:
    """Everything of a step but its loads."""
    match work:
        case ArrayWork():
            return _array(templates, work, addresses)
        case DepthwiseWork():
            return _depthwise(templates, work, addresses)
        case VectorWork():
            return _vector(templates, work, addresses)
        case GatherWork():
            return [] if work.address is None else work.gather.stores(*work.part, work.base, work.address)


def _array(templates: Templates, work: ArrayWork, addresses: Addresses) -> list[Instruction]:
    result, word = list[Instruction](), addresses[work.weights]
    for piece in work.pieces:
        result.append(compute.exec_piece(templates, work, piece, word, work.accumulate or bool(result)))
        word += piece.words
    if work.post:
        result.append(_post(templates, work, work.post, addresses))
    return result + _stores(templates, work.store)


def _depthwise(templates: Templates, work: DepthwiseWork, addresses: Addresses) -> list[Instruction]:
    sums, posts, offset = list[Instruction](), list[Instruction](), 0
    whole = _post(templates, work, work.post, addresses)
    for columns in work.columns:
        sums += depthwise_parts(templates.config, work, columns, addresses[work.weights], work.accumulators + offset)
        posts.append(post_columns(whole, columns, offset))
        offset += len(columns) * work.tile.height
    return [*sums, *posts, *_stores(templates, work.store)]


def _vector(templates: Templates, work: VectorWork, addresses: Addresses) -> list[Instruction]:
    blocks = compute.PostBlocks(addresses[work.params], table_field(addresses, work.table))
    if isinstance(work.layer, InterpolationLayer):
        posts = post_interpolation(templates.config, work, work.layer, blocks)
    else:
        posts = compute.post_operands(templates, work, blocks)
    return posts + _stores(templates, work.store)


def _post(templates: Templates, work: ArrayWork | DepthwiseWork, post: Post, addresses: Addresses) -> Instruction:
    blocks = compute.PostBlocks(addresses[post.params], table_field(addresses, post.table))
    return compute.post_accumulators(templates, work, post.output, blocks)


def _stores(templates: Templates, store: Store | None) -> list[Instruction]:
    if store is None:
        return []
    return dma.transfer_tile(Opcode.STORE, templates, store.home, store.view, store.tile, store.chunks)


def table_field(addresses: Addresses, table: TableKey | None) -> int:
    """POST's field `table` for a table block."""
    return 0 if table is None else addresses[table] // TABLE_ENTRIES + 1
