"""Layers that overlap: values equal the reference in every order, and the fastest schedule is taken."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain

import numpy as np
import pytest
from support.networks.random_graphs import random_graph, random_inputs
from support.networks.random_movement import MOVES, random_movement_graph
from support.networks.random_pairs import random_chain, random_machine
from support.networks.small_networks import add, conv, network

import accel
from accel.errors import InputError
from accel.machine.config import ArchConfig, preset
from accel.network import reference
from accel.network.graph import Graph
from compiler import EFFORTS, compile_graph, compile_phases
from compiler.emit import overlap
from compiler.emit.order import work_order
from compiler.emit.overlap import Overlap
from compiler.plan.plan import LayerPlan
from compiler.plan.tiles import STREAMED_TILES

FREE = Overlap(4, False)
DATACENTER = preset("datacenter")


def residual(size: int, channels: int, blocks: int = 2) -> Graph:
    """Blocks of three convolutions and a sum, as in ResNet-50."""
    layers = [conv(channels, (1, 1))]
    for _ in range(blocks):
        inner = channels // 4
        layers += [conv(inner, (1, 1)), conv(inner, (3, 3), padding=(1, 1, 1, 1)), conv(channels, (1, 1)), add()]
    graph = network((1, size, size, channels), *layers)
    nodes = list(graph.nodes)
    for index in range(4, len(nodes), 4):
        nodes[index] = replace(nodes[index], inputs=(f"t{index - 3}", f"t{index}"))
    return replace(graph, nodes=tuple(nodes))


def moved(graph: Graph, config: ArchConfig, how: Overlap, tiles: int = STREAMED_TILES) -> int:
    """Compile, run, compare with the reference; how many items are not where they are without overlap."""
    phases = compile_phases(graph, config, how, tiles)
    inputs = random_inputs(np.random.default_rng(0), graph)
    outputs, expected = accel.run(phases.program, inputs).outputs, reference.run(graph, inputs)
    for name, values in outputs.items():
        np.testing.assert_array_equal(values, expected[name], err_msg=name)
    count = 0
    for segment in phases.segments:
        order = work_order(segment.plan, config)
        items = overlap.overlapped(segment.plan, config, order, how)
        before = list(chain.from_iterable(order))
        assert Counter(map(repr, items)) == Counter(map(repr, before))
        count += sum(a is not b for a, b in zip(items, before, strict=True))
    return count


def run_random(seeds: Sequence[int]) -> int:
    """Random networks of every kind on small machines; items that moved."""
    tiny, kinds, total = replace(preset("tiny"), spad_bank_words=4096), sorted(MOVES), 0
    for seed in seeds:
        rng = np.random.default_rng(seed)
        how = Overlap(int(rng.integers(2, 7)), bool(rng.integers(2)))
        graphs = [random_graph(rng, "tflite"), random_movement_graph(rng, "tflite", kinds[seed % len(kinds)])]
        total += sum(moved(graph, tiny, how) for graph in graphs)
        machine = random_machine(rng)
        total += moved(random_chain(rng, machine.requant_modes[0], 9, 24), machine, how)
    return total


def test_random_networks_equal_the_reference() -> None:
    assert run_random(range(4)) > 0


@pytest.mark.slow
def test_more_random_networks_equal_the_reference() -> None:
    run_random(range(100, 125))


@pytest.mark.parametrize(
    "how", [how.overlap for how in EFFORTS[2] if how == (how.overlap, STREAMED_TILES) and how.overlap], ids=str
)
def test_residual_blocks_equal_the_reference(how: Overlap) -> None:
    assert moved(residual(16, 32), replace(preset("tiny"), spad_bank_words=1 << 14), how) > 0


@pytest.mark.parametrize("tiles", [1, 2 * STREAMED_TILES, 1000])
def test_tiles_of_any_size_equal_the_reference(tiles: int) -> None:
    graph, config = residual(16, 32), replace(preset("tiny"), spad_bank_words=1 << 8)
    assert moved(graph, config, FREE, tiles) >= 0
    plan, usual = (compile_phases(graph, config, None, t).segments[0].plan for t in (tiles, STREAMED_TILES))
    counts = [sum(len(layer.tiles) for layer in p.layers if isinstance(layer, LayerPlan)) for p in (plan, usual)]
    assert (counts[0] > counts[1]) == (tiles > STREAMED_TILES)


def test_effort_takes_the_fastest_schedule() -> None:
    graph = residual(56, 256, 1)
    cycles = [accel.estimate(accel.compile(graph, DATACENTER, effort=effort)).cycles for effort in range(3)]
    assert cycles[0] > cycles[1] >= cycles[2]
    tried = (accel.estimate(compile_graph(graph, DATACENTER, *how)).cycles for how in EFFORTS[2])
    assert cycles[2] == min(tried)


def test_effort_is_checked() -> None:
    with pytest.raises(InputError, match=r"^effort must be an integer in 0\.\.2, got 3$"):
        accel.compile(residual(4, 8), effort=3)


def _areas_forgotten(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(overlap, "_barrier", lambda plan, layers: -1)


def _inputs_forgotten(patch: pytest.MonkeyPatch) -> None:
    original = overlap._node

    def alone(*arguments: object) -> overlap._Node:
        return replace(original(*arguments), needs=[])

    patch.setattr(overlap, "_node", alone)


MUTANTS = {"areas of earlier layers": _areas_forgotten, "inputs that are still to be made": _inputs_forgotten}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_mutants_are_caught(mutant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    MUTANTS[mutant](monkeypatch)
    with pytest.raises(AssertionError):
        run_residual()


def run_residual() -> None:
    """Residual blocks in scratchpads that leave little room, and much."""
    for words in (1 << 8, 1 << 10, 1 << 14):
        moved(residual(16, 32), replace(preset("tiny"), spad_bank_words=words), FREE)
