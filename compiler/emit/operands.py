"""Where inputs and outputs of tiles lie in the scratchpad, and the loads that bring inputs there."""

from __future__ import annotations

from typing import NamedTuple

from accel.machine.config import ArchConfig
from compiler.emit.keys import BandKey, Key, PreloadKey, TileKey
from compiler.emit.progress import Build
from compiler.emit.records import FoldedLoad, Store, TileLoad
from compiler.lower.geometry import Span, Tile
from compiler.lower.layers import ArrayLayer, ComputeLayer
from compiler.plan.plan import LayerPlan
from compiler.plan.tiles import View, placed, whole

LOAD_PIXELS_PER_ROW = 16
"""Pixels of a load of whole rows for each row of the array: long bursts, but work begins before all is there."""


class Source(NamedTuple):
    """Where an input lies in the scratchpad, and the loads that bring it there."""

    view: View
    loads: list[Key]


def tile_source(build: Build, index: int, operand: int, tile: Tile, chunks: Span) -> Source:
    """Channel chunks of an operand of an output tile: in the resident value, or in a tile buffer."""
    plan = build.layer_plan(index)
    areas, part = plan.input_areas[operand], plan.input_part(tile)
    if areas is None:
        return _resident_source(build, index, operand, part)
    key = TileKey(index, operand, tile, chunks)
    area, before = build.turns.input_turn(index, operand, key, areas)
    view = View(area.base - chunks.first * part.pixels, part.pixels, part)
    if key not in build.progress.loads:
        overwritten = build.progress.last_use(before) if before else -1
        earliest = max(build.area_free(area, index), overwritten, _written(build, plan, operand, part))
        build.progress.loads[key] = _input_load(build, plan, key, operand, view, tile, chunks, earliest)
    return Source(view, [key])


def band_source(build: Build, index: int, band: int, tile: Tile) -> Source:
    """Input of a tile of a pair's array layer; the buffer holds the input of the whole band."""
    plan = build.layer_plan(index)
    areas, needed = plan.input_areas[0], plan.input_part(tile)
    if areas is None:
        return _resident_source(build, index, 0, needed)
    part, area = plan.input_part(build.plan.pairs[index][band].part), areas[band % len(areas)]
    view, keys = View(area.base, part.pixels, part), list[Key]()
    for rows in _row_loads(build.config, part):
        if not rows.intersects(needed):
            continue
        key = BandKey(index, band, rows.y0)
        keys.append(key)
        if key not in build.progress.loads:
            overwritten = build.progress.band_end(index, band - len(areas))
            earliest = max(build.area_free(area, index), overwritten, _written(build, plan, 0, rows))
            target, chunks = View(view.word(0, rows.y0, part.x0), part.pixels, rows), Span(0, len(plan.chunks))
            build.progress.loads[key] = _input_load(build, plan, key, 0, target, rows, chunks, earliest)
    return Source(view, keys)


def output_view(build: Build, index: int, tile: Tile, first_chunk: int) -> View:
    """Where results of a tile go; buffers, used in turn, hold chunks from `first_chunk` on."""
    plan = build.layer_plan(index)
    if plan.output_areas is None:
        return build.plan.view(plan.layer.output, plan.layer.output_shape)
    area = build.turns.next_output(plan.output_areas)
    return View(area.base - first_chunk * tile.pixels, tile.pixels, tile)


def output_store(build: Build, layer: ComputeLayer, view: View, tile: Tile, channels: Span) -> Store | None:
    """The store of finished channels of a tile, if external memory holds the value."""
    if not build.memory.holds(layer.output):
        return None
    return Store(build.memory.home(layer.output), view, tile, build.chunks(channels))


def _resident_source(build: Build, index: int, operand: int, part: Tile) -> Source:
    """A resident value; it must be loaded if it is a network input: the rows that `part` needs."""
    layer = build.layer_plan(index).layer
    value = layer.inputs[operand]
    return Source(build.plan.view(value, layer.input_shape), _preloads(build, index, value, part))


def _preloads(build: Build, index: int, value: str, part: Tile) -> list[Key]:
    place = build.network.place(value)
    if place.whole not in build.network.inputs:
        return []
    shape, area = build.network.shapes[place.whole], build.plan.residents[place.whole]
    view, home, keys = build.plan.view(place.whole, shape), build.memory.home(place.whole), list[Key]()
    for rows in _row_loads(build.config, whole(shape)):
        if rows.y0 >= placed(part, place).y1:
            break
        key = PreloadKey(place.whole, rows.y0)
        keys.append(key)
        if key not in build.progress.loads:
            chunks, earliest = build.chunks(Span(0, shape[2])), build.area_free(area, index)
            build.progress.loads[key] = TileLoad(key, home, view, rows, chunks, earliest)
    return keys


def _input_load(
    build: Build,
    plan: LayerPlan,
    key: TileKey | BandKey,
    operand: int,
    view: View,
    tile: Tile,
    chunks: Span,
    earliest: int,
) -> TileLoad | FoldedLoad:
    """The load that fills a buffer at `view`; of folded words those for the output columns of `tile`."""
    layer, home = plan.layer, build.memory.home(plan.layer.inputs[operand])
    if plan.folded and isinstance(layer, ArrayLayer):
        padding = build.memory.constant(bytes([layer.pad_value & 255]))
        return FoldedLoad(key, layer, home.address, padding, view, tile, plan.chunks, earliest)
    return TileLoad(key, home, view, view.tile, chunks, earliest)


def _row_loads(config: ArchConfig, part: Tile) -> list[Tile]:
    """Rows of a tile that are loaded at a time."""
    height = max(1, LOAD_PIXELS_PER_ROW * config.rows // part.width)
    return [Tile(y0, min(y0 + height, part.y1), part.x0, part.x1) for y0 in range(part.y0, part.y1, height)]


def _written(build: Build, plan: LayerPlan, operand: int, part: Tile) -> int:
    """The last step that stores some of what an input tile holds; `part` is as in `LayerPlan.input_part`."""
    if plan.folded:
        part = Tile(part.y0, part.y1, 0, plan.layer.input_shape[1])
    return build.progress.written(*build.network.stored(plan.layer.inputs[operand], part))
