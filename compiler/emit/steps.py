"""Steps of each kind of layer: one item of the order of work at a time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from compiler.emit.blocks import param_block, table_block, tap_block, weight_block
from compiler.emit.depthwise import column_classes, kernel_parts
from compiler.emit.gather import Gather, fill_values
from compiler.emit.keys import GatherKey, Key, ParamsKey
from compiler.emit.operands import Source, band_source, output_store, output_view, tile_source
from compiler.emit.order import GatherItem, GroupItem, JoinItem, TileItem
from compiler.emit.progress import Build
from compiler.emit.records import ArrayWork, DepthwiseWork, GatherLoad, GatherWork, Post, Store, VectorWork
from compiler.lower.geometry import Span
from compiler.lower.layers import ArrayLayer, DepthwiseLayer, VectorLayer
from compiler.plan.pairs import ROOMS
from compiler.plan.plan import MovePlan
from compiler.plan.tiles import View, group_chunks, whole
from compiler.plan.weights import cut_apart


def emit_group(build: Build, item: GroupItem) -> None:
    """Steps of a tile and a group of channels of a layer with weights."""
    layer = build.layer_plan(item.layer).layer
    source = _group_source(build, item)
    output, store = item.between, None
    if output is None or isinstance(layer, DepthwiseLayer):
        output = output_view(build, item.layer, item.tile, build.chunks(item.channels).first)
        store = output_store(build, layer, output, item.tile, item.channels)
    if isinstance(layer, DepthwiseLayer):
        _emit_depthwise(build, item, layer, source, output, store)
    elif isinstance(layer, ArrayLayer):
        _emit_array(build, item, layer, source, output, store)
    build.progress.note_written(build.network.place(layer.output), item.tile)
    if item.band is not None:
        build.progress.note_band(item.layer, item.band)


def _group_source(build: Build, item: GroupItem) -> Source:
    """The array needs all channels of the input, the depthwise engine those that it makes."""
    layer = build.layer_plan(item.layer).layer
    if item.band is not None:
        return band_source(build, item.layer, item.band, item.tile)
    if item.between is not None and isinstance(layer, DepthwiseLayer):
        return Source(item.between, [])
    channels = item.channels if isinstance(layer, DepthwiseLayer) else Span(0, layer.input_shape[2])
    return tile_source(build, item.layer, 0, item.tile, build.chunks(channels))


def _emit_array(
    build: Build, item: GroupItem, layer: ArrayLayer, source: Source, output: View, store: Store | None
) -> None:
    """A step for each block of weights: at most C output channels, and what fits the weight buffer."""
    config, plan = build.config, build.layer_plan(item.layer)
    for channels in _split(item.channels, config.cols):
        accumulators = build.turns.next_bank(item.banks) * config.acc_bank_words
        blocks = build.weight_blocks(item.layer, channels)
        if item.layer - 1 in build.plan.trailing and item.tile == plan.tiles[0] and plan.input_areas[0] is None:
            blocks = [cut_apart(pieces, _late_chunks(build, item.layer).first) for pieces in blocks]
        for number, pieces in enumerate(blocks):
            weights = weight_block(build, item.layer, layer, channels, number, pieces)
            is_last = number == len(blocks) - 1
            post = _post(build, item.layer, layer, output, channels) if is_last else None
            work = ArrayWork(
                layer,
                item.tile,
                channels,
                source.view,
                weights,
                tuple(pieces),
                accumulators,
                accumulate=number > 0,
                post=post,
                store=store if is_last and channels.last == item.channels.last else None,
            )
            build.progress.step(item.layer, [*source.loads, weights, *_post_keys(post)], work)


def _late_chunks(build: Build, index: int) -> Span:
    """Input chunks that the depthwise layer before makes last, while the array multiplies the others."""
    chunks = len(build.layer_plan(index).chunks)
    return Span(max(chunks - ROOMS * group_chunks(build.config), 0), chunks)


def _emit_depthwise(
    build: Build, item: GroupItem, layer: DepthwiseLayer, source: Source, output: View, store: Store | None
) -> None:
    """A step for as many channels as the depthwise engine has lanes."""
    config = build.config
    kernel, columns = kernel_parts(layer.window, item.tile, config), column_classes(layer.window, item.tile.width)
    for channels in _split(item.channels, config.depthwise_lanes):
        accumulators = build.turns.next_bank(item.banks) * config.acc_bank_words
        weights = tap_block(build, item.layer, layer, channels, kernel)
        post = _post(build, item.layer, layer, output, channels)
        stored = store if channels.last == item.channels.last else None
        work = DepthwiseWork(
            layer, item.tile, channels, source.view, weights, kernel, columns, accumulators, post, stored
        )
        build.progress.step(item.layer, [*source.loads, weights, *_post_keys(post)], work)


def _post(build: Build, index: int, layer: ArrayLayer, output: View, channels: Span) -> Post:
    key = ParamsKey(index, channels.first)
    params = param_block(build, key, layer.records[channels.first : channels.last])
    return Post(output, params, table_block(build, layer))


def _post_keys(post: Post | None) -> list[Key]:
    return [key for key in (post.params, post.table) if key is not None] if post else []


def _split(channels: Span, width: int) -> list[Span]:
    """Parts of at most `width` channels."""
    return [Span(c, min(c + width, channels.last)) for c in range(channels.first, channels.last, width)]


def emit_vector_tile(build: Build, item: TileItem) -> None:
    """All channels of a tile of a vector layer."""
    layer = build.layer_plan(item.layer).layer
    chunks = build.chunks(Span(0, layer.input_shape[2]))
    sources = [tile_source(build, item.layer, i, item.tile, chunks) for i in range(len(layer.inputs))]
    _emit_vector(build, item, Span(0, layer.output_shape[2]), sources)


def emit_joined(build: Build, item: JoinItem) -> None:
    """The channels of a tile that the array layer before has just made; other operands are loaded."""
    inputs, between = build.layer_plan(item.layer).layer.inputs, build.layer_plan(item.layer - 1).layer.output
    chunks = build.chunks(item.channels)
    sources = [
        Source(item.between, []) if value == between else tile_source(build, item.layer, i, item.tile, chunks)
        for i, value in enumerate(inputs)
    ]
    _emit_vector(build, item, item.channels, sources)


def _emit_vector(build: Build, item: TileItem | JoinItem, channels: Span, sources: Sequence[Source]) -> None:
    """A step for each region of a tile of a vector layer; the last one stores the tile."""
    layer, chunks = build.layer_plan(item.layer).layer, build.chunks(channels)
    assert isinstance(layer, VectorLayer)
    views, needs = tuple(source.view for source in sources), [key for source in sources for key in source.loads]
    output = output_view(build, item.layer, item.tile, chunks.first)
    store = output_store(build, layer, output, item.tile, channels)
    parts = [(item.tile.common(region.tile), region.record) for region in layer.regions]
    parts = [(part, record) for part, record in parts if part.height > 0 and part.width > 0]
    for number, (part, record) in enumerate(parts, 1):
        params = param_block(build, ParamsKey(item.layer, record), (record,) * build.config.post_lanes)
        table = table_block(build, layer)
        stored = store if number == len(parts) else None
        work = VectorWork(layer, part, chunks, views, output, params, table, stored)
        build.progress.step(item.layer, [*needs, params, *([table] if table else [])], work)
    build.progress.note_written(build.network.place(layer.output), item.tile)


def emit_gather(build: Build, item: GatherItem) -> None:
    """A load and a step for as many words of a gather's output as have room."""
    plan = build.plan.layers[item.layer]
    assert isinstance(plan, MovePlan)
    layer, progress = plan.layer, build.progress
    resident = build.plan.residents.get(layer.output)
    fills = {value: build.memory.constant(np.int8(value).tobytes()) for value in fill_values(layer.locations)}
    gather = Gather(build.config, layer, [build.memory.addresses[source] for source in layer.sources], fills)
    written = max((progress.complete(source) for source in layer.sources), default=-1)
    first_step = progress.last + 1
    for number, part in enumerate(gather.parts(plan.words)):
        area = resident or plan.areas[number % len(plan.areas)]
        base = area.base + (part.first if resident else 0)
        earliest = max(written, build.area_free(area, item.layer))
        if not resident and number >= len(plan.areas):
            earliest = max(earliest, first_step + number - len(plan.areas))
        key = GatherKey(item.layer, part.first)
        progress.loads[key] = GatherLoad(key, gather, part, base, earliest)
        progress.step(item.layer, [key], GatherWork(gather, part, base, build.memory.addresses.get(layer.output)))
    progress.note_written(build.network.place(layer.output), whole(layer.output_shape))
