"""The systolic array against matrix products, tiles as close together as the contract allows."""

from __future__ import annotations

import dataclasses
from itertools import pairwise

import numpy as np
import pytest
from amaranth.sim import Simulator
from support.mutants.rtl_mutation import mutate_pe

from accel.machine.config import preset
from rtl.array import SystolicArray

pytestmark = pytest.mark.rtl

STUCK = 'getattr(self.right, name).eq(left.swap if name == "swap" else passed)'
SHAPES = [(1, 1), (1, 5), (5, 1), (3, 3), (3, 6), (4, 2)]


@dataclasses.dataclass
class Tile:
    """Weights (rows, cols) whose words enter from cycle `load` on, pixels (count, rows) from cycle `start` on."""

    load: int
    start: int
    weights: np.ndarray
    pixels: np.ndarray
    int4: bool

    @property
    def words(self) -> np.ndarray:
        """Weight words as docs/architecture.md packs them."""
        if not self.int4:
            return self.weights
        even = np.vstack([self.weights, np.zeros((len(self.weights) % 2, self.weights.shape[1]), np.int64)])
        return even[0::2] % 16 + 16 * (even[1::2] % 16)


def random_tiles(rng: np.random.Generator, rows: int, cols: int, count: int) -> list[Tile]:
    """Tiles at their earliest cycles, sometimes later; values uniform or extreme."""
    tiles, load, end = [], 0, 0
    for _ in range(count):
        pixels = int(rng.choice([1, 2, rows, 2 * rows]))
        low, int4 = int(rng.choice([-128, 127])), bool(rng.integers(2))
        start = max(load + (-(-rows // 2) if int4 else rows), end) + int(rng.choice([0, 0, 0, 1, 5]))
        weights = rng.integers(-128, low + 1 if low < 0 else 128, (rows, cols))
        if int4:
            weights = rng.integers(-8, 8, (rows, cols))
        tiles.append(Tile(load, start, weights, rng.integers(-128, 128 if low > 0 else -127, (pixels, rows)), int4))
        load, end = start, start + pixels
    return tiles


def simulate(rows: int, cols: int, tiles: list[Tile]) -> list[np.ndarray]:
    """Psums of each tile (pixels, cols), taken where the contract puts them."""
    config = dataclasses.replace(preset("tiny"), rows=rows, cols=cols, post_lanes=1, depthwise_taps=0)
    dut = SystolicArray(config)
    cycles = tiles[-1].start + len(tiles[-1].pixels) + rows + cols + 2
    words = {name: np.zeros((cycles, size), np.int64) for name, size in (("weights", cols), ("activations", rows))}
    words["activations"][:] = np.random.default_rng(0).integers(-128, 128, words["activations"].shape)
    seen = np.zeros((cycles, cols), np.int64)
    for tile in tiles:
        words["weights"][tile.load : tile.load + len(tile.words)] = tile.words
        words["activations"][tile.start : tile.start + len(tile.pixels)] = tile.pixels

    async def bench(ctx):
        for cycle in range(cycles):
            ctx.set(dut.capture, any(cycle == tile.load for tile in tiles))
            ctx.set(dut.int4, any(cycle == tile.load and tile.int4 for tile in tiles))
            ctx.set(dut.swap, any(cycle == tile.start for tile in tiles))
            for name, values in words.items():
                ctx.set(getattr(dut, name), int.from_bytes(values[cycle].astype(np.int8).tobytes(), "little"))
            seen[cycle] = np.frombuffer(ctx.get(dut.psums).to_bytes(4 * cols, "little"), np.int32)
            await ctx.tick()

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    return [
        np.array([[seen[tile.start + p + rows + 2 + c, c] for c in range(cols)] for p in range(len(tile.pixels))])
        for tile in tiles
    ]


def wrong_tiles(rows: int, cols: int, count: int, seed: int = 1) -> list[int]:
    """Indices of the tiles whose psums are not the product."""
    tiles = random_tiles(np.random.default_rng(seed), rows, cols, count)
    psums = simulate(rows, cols, tiles)
    return [i for i, tile in enumerate(tiles) if not np.array_equal(psums[i], tile.pixels @ tile.weights)]


@pytest.mark.parametrize(("rows", "cols"), SHAPES)
def test_products_are_where_the_contract_puts_them(rows, cols):
    assert wrong_tiles(rows, cols, 16) == []


@pytest.mark.slow
@pytest.mark.parametrize(("rows", "cols"), [*SHAPES, (7, 14), (4, 16), (16, 4), (16, 16)])
def test_products_are_where_the_contract_puts_them_at_length(rows, cols):
    assert wrong_tiles(rows, cols, 120, seed=2) == []


def test_a_shadow_that_follows_the_transit_is_seen(monkeypatch):
    mutate_pe(monkeypatch, 1, 0, "m.If(left.capture)", "m.If(1)")
    assert wrong_tiles(3, 3, 16)


def test_a_swap_that_stays_behind_is_seen(monkeypatch):
    mutate_pe(
        monkeypatch,
        2,
        0,
        "getattr(self.right, name).eq(passed)",
        'getattr(self.right, name).eq(getattr(left, name) if name == "swap" else passed)',
    )
    assert wrong_tiles(3, 3, 16)


def test_random_tiles_reach_the_extremes():
    tiles = random_tiles(np.random.default_rng(1), 3, 3, 16)
    assert any((tile.weights == -128).all() and (tile.pixels == -128).all() for tile in tiles)
    assert {a.int4 for a in tiles if a.start == a.load + len(a.words)} == {False, True}
    assert any(a.int4 and not b.int4 for a, b in pairwise(tiles))
    assert any(b.int4 and not a.int4 for a, b in pairwise(tiles))
