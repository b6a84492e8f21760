"""Plans: tiles cover every output once, buffers hold what tiles need, nothing alive shares words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.machine.random_programs import random_config
from support.networks.random_graphs import random_graph
from support.networks.random_movement import MOVES, random_movement_graph
from support.networks.small_networks import add, conv, network

from accel.errors import CompileError
from accel.machine.config import ArchConfig, preset
from compiler.lower.geometry import Span, Tile, Window
from compiler.lower.layers import ArrayLayer, DepthwiseLayer, Network
from compiler.lower.network import lower, lower_graph
from compiler.plan.allocate import Area
from compiler.plan.plan import Band, LayerPlan, MovePlan, Plan
from compiler.plan.planner import plan_network
from compiler.plan.tiles import View, input_tile, is_covered, split, whole

sizes = st.integers(1, 60)


@given(sizes, sizes, sizes, sizes)
def test_tiles_cover_every_output_once(height: int, width: int, tile_height: int, tile_width: int) -> None:
    seen = np.zeros((height, width), int)
    tiles = split((height, width, 1), tile_height, tile_width)
    for tile in tiles:
        assert 0 < tile.height <= tile_height
        assert 0 < tile.width <= tile_width
        seen[tile.y0 : tile.y1, tile.x0 : tile.x1] += 1
    assert (seen == 1).all()
    assert max(t.height for t in tiles) - min(t.height for t in tiles) <= 1
    assert max(t.width for t in tiles) - min(t.width for t in tiles) <= 1


@given(st.data())
def test_input_tiles_hold_every_tap(data: st.DataObject) -> None:
    draw = data.draw
    kernel, stride, dilation, padding = (draw(st.integers(low, 4)) for low in (1, 1, 1, 0))
    size = draw(st.integers(max(1, (kernel - 1) * dilation + 1 - 2 * padding), 30))
    window = Window((kernel,) * 2, (stride,) * 2, (padding,) * 2, (dilation,) * 2)
    outputs = (size + 2 * padding - (kernel - 1) * dilation - 1) // stride + 1
    first = draw(st.integers(0, outputs - 1))
    last = draw(st.integers(first + 1, outputs))
    taps = {o * stride - padding + k * dilation for o in range(first, last) for k in range(kernel)}
    existing = sorted(tap for tap in taps if 0 <= tap < size)
    low, high = window.span(0, Span(first, last), size)
    assert set(existing) <= set(range(low, high))
    if existing:
        assert low <= existing[0]
        assert high >= existing[-1] + 1
        assert high - low <= (last - 1 - first) * stride + (kernel - 1) * dilation + 1


@given(sizes, sizes, st.integers(0, 5))
def test_views_address_every_pixel_once(height: int, width: int, chunk: int) -> None:
    tile = Tile(3, 3 + height, 7, 7 + width)
    view = View(100, tile.pixels, tile)
    words = [view.word(chunk, y, x) for y in range(3, 3 + height) for x in range(7, 7 + width)]
    assert words == list(range(100 + chunk * tile.pixels, 100 + (chunk + 1) * tile.pixels))


def living_areas(plan: Plan) -> list[Area]:
    areas = list(plan.residents.values())
    for layer in plan.layers:
        areas += layer.areas
    return areas


def plans(seeds: range) -> Iterator[tuple[ArchConfig, Network, Plan]]:
    """Plans of random networks for random machines, where there is one."""
    for seed in seeds:
        rng = np.random.default_rng([seed, 0xA1])
        config = random_config(rng)
        mode = str(rng.choice(config.requant_modes))
        graph = random_movement_graph(rng, mode, str(rng.choice(list(MOVES)))) if seed % 3 else random_graph(rng, mode)
        with suppress(CompileError):
            for lowered in lower_graph(graph, config).networks:
                yield config, lowered, plan_network(lowered, config)


def covers_once(tiles: Sequence[Tile], shape: tuple[int, int, int]) -> bool:
    seen = np.zeros(shape[:2], int)
    for tile in tiles:
        seen[tile.y0 : tile.y1, tile.x0 : tile.x1] += 1
    return bool((seen == 1).all())


def check_bands(config: ArchConfig, plan: Plan, index: int, bands: tuple[Band, ...]) -> None:
    """Every band's tiles make all that its outputs need, and a group of channels of it has room."""
    first, second = plan.layers[index : index + 2]
    assert isinstance(first, LayerPlan)
    assert isinstance(second, LayerPlan)
    assert first.output_areas is second.input_areas[0]
    words = -(-max(config.rows, config.cols) // config.rows)
    for band in bands:
        assert all(is_covered(input_tile(second.layer, tile).common(band.part), band.made) for tile in band.tiles)
        assert all(
            input_tile(second.layer, tile).shared_pixels(band.part) == input_tile(second.layer, tile).pixels
            for tile in band.tiles
        )
        assert all(area.words >= band.part.pixels * words for area in first.output_areas or ())


def check_plan(config: ArchConfig, lowered: Network, plan: Plan) -> None:
    """Tiles cover outputs, buffers hold what they need, living areas are disjoint, residents live long enough."""
    for index, (layer, made) in enumerate(zip(lowered.layers, plan.layers, strict=True)):
        if isinstance(made, MovePlan):
            assert (layer.output in plan.residents) == (not made.areas)
            continue
        assert all(tile.pixels <= config.acc_bank_words for tile in made.tiles)
        held = len(made.chunks)
        if isinstance(layer, DepthwiseLayer) or index in plan.choices.joined:
            held = min(held, -(-max(config.rows, config.cols) // config.rows))
        parts = [made.input_part(tile) for tile in made.tiles]
        if index in plan.pairs:
            parts = [made.input_part(band.part) for band in plan.pairs[index]]
        assert all(
            area.words >= part.pixels * held for part in parts for areas in made.input_areas for area in areas or ()
        )
        assert covers_once(made.tiles, layer.output_shape) or index in plan.pairs
        for value, areas in zip(layer.inputs, made.input_areas, strict=True):
            inside = index - 1 in plan.pairs or lowered.place(value).whole not in plan.residents
            assert (areas is not None) == inside
    for index, bands in plan.pairs.items():
        check_bands(config, plan, index, bands)
    for a, b in combinations(living_areas(plan), 2):
        assert a is b or not (a.lives_with(b) and a.overlaps(b))
    for value, area in plan.residents.items():
        assert area.last >= max(lowered.users(value).readers)


@pytest.mark.parametrize("part", range(4))
def test_random_plans_keep_their_promises(part: int) -> None:
    count = 0
    for config, lowered, plan in plans(range(part * 60, part * 60 + 60)):
        count += 1
        check_plan(config, lowered, plan)
    assert count > 30


def test_tensors_stay_on_chip_where_they_fit() -> None:
    network_ = lower(network((1, 8, 8, 4), conv(8, (3, 3)), conv(8, (3, 3)), add()), preset("tiny"))
    plan = plan_network(network_, preset("tiny"))
    assert sorted(plan.residents) == ["t0", "t1", "t2"]
    assert [layer.output_areas is None for layer in plan.layers] == [True, True, False]


def test_the_largest_tensor_is_spilled_first() -> None:
    graph = network((1, 60, 60, 8), conv(4, (3, 3), stride=(2, 2)), conv(4, (3, 3)), conv(4, (3, 3)))
    plan = plan_network(lower(graph, preset("tiny")), preset("tiny"))
    assert "t0" not in plan.residents or plan.residents["t0"].words == 7200
    assert {"t1", "t2"} <= set(plan.residents)


def test_whole_tiles_and_neighbours() -> None:
    assert whole((3, 4, 5)) == Tile(0, 3, 0, 4)
    assert Tile(0, 2, 0, 2).intersects(Tile(1, 3, 1, 3))
    assert not Tile(0, 2, 0, 2).intersects(Tile(2, 3, 0, 2))
    layer = lower(network((1, 9, 9, 2), conv(2, (3, 3), padding=(1, 1, 1, 1))), preset("tiny")).layers[0]
    assert isinstance(layer, ArrayLayer)
    assert input_tile(layer, Tile(0, 3, 4, 9)) == Tile(0, 4, 3, 9)
