"""Bilinear resizing on the post unit: random sizes on random machines, the rounding of ties, the number of POSTs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from support.machine.random_programs import random_config
from support.networks.equality import assert_equal, is_equal
from support.networks.random_graphs import GraphBuilder
from support.networks.random_movement import append_node, mixes

from accel.errors import AccelError
from accel.machine.config import ArchConfig, preset
from accel.machine.isa import Opcode, decode
from accel.machine.numerics import RequantMode, requantize, round_half_away
from accel.network.graph import Graph, Tensor
from accel.network.nodes import ResizeBilinear
from compiler.emit import instructions
from compiler.emit import interpolation as emit_interpolation
from compiler.emit.interpolation import runs
from compiler.lower import interpolation as lower_interpolation
from compiler.lower.geometry import Span
from compiler.lower.layers import InterpolationLayer, Neighbours
from compiler.lower.network import lower

TINY, EDGE = preset("tiny"), preset("edge")


def half_pixel(size: int, length: int) -> NDArray[np.int32]:
    """Neighbours and weights of `length` outputs, centres of pixels matched."""
    scale = (1024 * size + length // 2) // length
    position = np.arange(length) * scale + scale // 2 - 512
    first, second = (position // 1024).clip(0, size - 1), (-(-position // 1024)).clip(0, size - 1)
    return np.column_stack([first, second, position - 1024 * first]).astype(np.int32)


def resized(shape: tuple[int, int, int], *sizes: tuple[int, int], mode: str = "tflite") -> Graph:
    """One resizing after the other."""
    builder = GraphBuilder(np.random.default_rng(3), mode)
    current = builder.given((1, *shape))
    for height, width in sizes:
        current = resize(builder, current, half_pixel(current.shape[1], height), half_pixel(current.shape[2], width))
    return builder.graph(current)


def resize(builder: GraphBuilder, source: Tensor, rows: NDArray[np.int32], columns: NDArray[np.int32]) -> Tensor:
    return append_node(builder, ResizeBilinear, [source], rows=rows, columns=columns)


# Values ---------------------------------------------------------------------------------------------------------------


def run_random(seeds: range) -> int:
    """Random sizes on random machines, two resizings in some; how many of them a machine had room for."""
    count = 0
    for seed in seeds:
        rng = np.random.default_rng([seed, 0xB1])
        small = replace(random_config(rng), spad_banks=4, spad_bank_words=64, acc_bank_words=16)
        config: ArchConfig = (TINY, EDGE, random_config(rng), small)[seed % 4]
        builder = GraphBuilder(rng, str(rng.choice(config.requant_modes)))
        current = builder.given((1, builder.pick(1, 14), builder.pick(1, 14), builder.pick(1, 40)))
        for _ in range(builder.pick(1, 2)):
            rows, columns = (mixes(builder, size, builder.pick(1, 30)) for size in current.shape[1:3])
            current = resize(builder, current, rows, columns)
            if rng.random() < 0.3:
                current = builder.table(current)
        engines = ("fast", "stepped") if seed % 8 == 0 else ("fast",)
        count += is_equal(seed, builder.graph(current), config, rng, engines)
    return count


def test_random_sizes_equal_the_reference() -> None:
    assert run_random(range(40)) >= 25


@pytest.mark.slow
def test_more_random_sizes_equal_the_reference() -> None:
    assert run_random(range(100, 160)) >= 35


@pytest.mark.marathon
def test_many_random_sizes_equal_the_reference() -> None:
    assert run_random(range(200, 400)) >= 130


@pytest.mark.parametrize("modes", [("tflite",), ("single",), ("fp32", "single")])
def test_every_mode_that_rounds_integers_will_do(modes: tuple[str, ...]) -> None:
    config = replace(TINY, requant_modes=modes)
    assert_equal(resized((5, 6, 7), (11, 9), mode=modes[0]), config, np.random.default_rng(1), ("fast", "stepped"))


def test_float_rounding_alone_leaves_it_to_the_host() -> None:
    config, graph = replace(TINY, requant_modes=("fp32",)), resized((5, 6, 7), (11, 9), mode="fp32")
    program = assert_equal(graph, config, np.random.default_rng(1), ("fast",))
    assert [(o.unit, o.why) for o in program.operators if o.op == "ResizeBilinear"] == [
        ("host", "it needs 'single' or 'tflite' in requant_modes of the config")
    ]


def test_tensors_beyond_the_scratchpad_stream() -> None:
    config = replace(TINY, spad_banks=2, spad_bank_words=256)
    assert_equal(resized((30, 30, 9), (60, 60), (41, 33)), config, np.random.default_rng(2), ("fast",))


@pytest.mark.parametrize("mode", [RequantMode.TFLITE, RequantMode.SINGLE])
def test_taps_are_exact_and_ties_round_away_from_zero(mode: RequantMode) -> None:
    name, (shift, record) = mode.name.lower(), lower_interpolation.scaling(mode)
    weights = np.unique(np.outer(np.arange(1025), np.arange(1025)))
    factor = 2 if mode is RequantMode.TFLITE else 1
    for x in range(-128, 128):
        taps = requantize(np.int64(x << lower_interpolation.OPERAND_SHIFT), weights << 10, shift, name)
        np.testing.assert_array_equal(taps, factor * x * weights)
    ties = np.arange(-255, 256, 2) << 19
    near = np.random.default_rng(0).integers(-(2**27), 2**27, 10**6)
    for sums in (ties, ties - 1, ties + 1, near, np.array([-(2**27), 2**27 - 1, 2**27, -1, 0, 1])):
        assert record[0] == 0
        rounded = requantize(factor * sums, *record[1:], name)
        np.testing.assert_array_equal(rounded, round_half_away(sums / 2**20))


# Work -----------------------------------------------------------------------------------------------------------------


def covered(neighbours: tuple[Neighbours, ...], begin: int, end: int) -> list[tuple[int, Neighbours]]:
    """Outputs and neighbours that runs stand for."""
    return sorted(
        (run.start + i * run.step, Neighbours(run.first + i * run.advance, run.distance, run.weight))
        for run in runs(neighbours, begin, end)
        for i in range(run.count)
    )


def test_runs_cover_every_output_once() -> None:
    rng = np.random.default_rng(4)
    for _ in range(200):
        length = int(rng.integers(1, 20))
        neighbours = tuple(Neighbours(*(int(n) for n in rng.integers(0, (5, 2, 2)))) for _ in range(length))
        begin = int(rng.integers(length))
        end = int(rng.integers(begin + 1, length + 1))
        assert covered(neighbours, begin, end) == [(i, neighbours[i]) for i in range(begin, end)]


@pytest.mark.parametrize(("factor", "classes"), [(1, 1), (2, 3), (4, 6), (8, 10)])
def test_powers_of_two_take_few_posts(factor: int, classes: int) -> None:
    """A run for every residue of the output, and one at each border (one for both if they have a single output)."""
    (layer,) = lower(resized((16, 16, 4), (16 * factor, 16 * factor)), EDGE).layers
    assert isinstance(layer, InterpolationLayer)
    assert len(runs(layer.rows, 0, 16 * factor)) == classes


def test_any_other_size_compiles_and_runs_at_its_taps_speed() -> None:
    program = assert_equal(resized((17, 23, 16), (40, 40)), EDGE, np.random.default_rng(5), ("fast",))
    posts = Counter(i.opcode for i in decode(program.code))[Opcode.POST]
    assert posts <= 40 * 40


def test_what_follows_runs_on_the_machine() -> None:
    builder = GraphBuilder(np.random.default_rng(6), "tflite")
    wide = resize(builder, builder.pointwise(builder.given((1, 4, 5, 3)), 6), half_pixel(4, 8), half_pixel(5, 10))
    lowered = lower(builder.graph(builder.pointwise(wide, 2)), EDGE)
    assert [(o.unit, o.why) for o in lowered.operators] == [
        ("array", "sums of products"),
        ("post", "weighted means of neighbouring pixels"),
        ("array", "sums of products"),
    ]


# Mutants --------------------------------------------------------------------------------------------------------------

Patch = Callable[[pytest.MonkeyPatch], None]


def _posts(**changes: Callable[[int], int]) -> Patch:
    """Fields of every POST changed."""
    original = emit_interpolation.post_interpolation

    def altered(*args: Any) -> Any:
        return [i.replace(**{f: change(i[f]) for f, change in changes.items()}) for i in original(*args)]

    return lambda patch: patch.setattr(instructions, "post_interpolation", altered)


def _careless_runs(patch: pytest.MonkeyPatch) -> None:
    """Runs go on even where the inputs do not."""
    extended = emit_interpolation.Run.extended

    def careless(run: emit_interpolation.Run, output: int, first: int) -> emit_interpolation.Run | None:
        return extended(run, output, run.first + run.advance * run.count if run.count > 1 else first)

    patch.setattr(emit_interpolation.Run, "extended", careless)


def _record(**changes: int) -> Patch:
    original = lower_interpolation.scaling

    def altered(mode: RequantMode) -> Any:
        shift, record = original(mode)
        return shift, record._replace(multiplier=record.multiplier + changes[mode.name])

    return lambda patch: patch.setattr(lower_interpolation, "scaling", altered)


def _one_row_less(patch: pytest.MonkeyPatch) -> None:
    span = InterpolationLayer.span

    def shorter(layer: InterpolationLayer, axis: int, outputs: Span) -> Span:
        low, high = span(layer, axis, outputs)
        return Span(low, max(low + 1, high - 1))

    patch.setattr(InterpolationLayer, "span", shorter)


MUTANTS: dict[str, Patch] = {
    "rows weighed the other way round": _posts(y_weight=lambda weight: 1024 - weight),
    "columns not weighed": _posts(x_weight=lambda weight: 0),
    "weights one 1024th off": _posts(x_weight=lambda weight: max(weight - 1, 0)),
    "irregular runs": _careless_runs,
    "ties towards plus infinity": _record(SINGLE=-1, TFLITE=0),
    "input tiles without their last row": _one_row_less,
    "always single rounding": lambda patch: patch.setattr(
        lower_interpolation, "integer_mode", lambda node, config, mode: RequantMode.SINGLE
    ),
}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_mutants_are_caught(mutant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    MUTANTS[mutant](monkeypatch)
    with pytest.raises((AssertionError, AccelError)):
        run_random(range(60))
