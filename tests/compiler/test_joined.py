"""Vector layers that join the array layer before them, group by group: values equal the reference."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest
from support.networks.equality import assert_equal, is_equal
from support.networks.small_networks import add, conv, network

from accel.errors import AccelError
from accel.machine.config import ArchConfig, preset
from accel.machine.isa import Opcode, decode
from accel.network.graph import Graph
from compiler import compile_graph, compile_phases
from compiler.emit import steps
from compiler.lower.layers import Network
from compiler.lower.network import lower
from compiler.plan import planner
from compiler.plan.plan import LayerPlan

TINY = preset("tiny")
SMALL = replace(TINY, name="small", spad_bank_words=512)


def block(size: int, channels: int, swapped: bool = False) -> Graph:
    """A convolution, two more of its result, the sum of both ends, and a convolution of that."""
    chain = network(
        (1, size, size + 1, 6), conv(channels, (1, 1)), conv(6, (1, 1)), conv(channels, (3, 3), padding=(1, 1, 1, 1)),
        add(), conv(5, (1, 1)),
    )  # fmt: skip
    first, second, third, sum_, last = chain.nodes
    operands = ("t3", "t1") if swapped else ("t1", "t3")
    nodes = (first, second, third, replace(sum_, inputs=operands), last)
    return replace(chain, nodes=nodes)


def features(graph: Graph, config: ArchConfig) -> Iterator[str]:
    """What of the layers that join is streamed, and what resident."""
    plan = planner.plan_network(lower(graph, config), config)
    for index in plan.choices.joined:
        array, joined = plan.layers[index - 1 : index + 1]
        assert isinstance(array, LayerPlan)
        assert isinstance(joined, LayerPlan)
        other = joined.layer.inputs.index(next(v for v in joined.layer.inputs if v != array.layer.output))
        yield "operand streamed" if joined.input_areas[other] else "operand resident"
        yield "output streamed" if joined.output_areas else "output resident"
        yield "input streamed" if array.input_areas[0] else "input resident"
        yield "groups outside" if array.group_outer else "tiles outside"
        yield "several tiles" if len(array.tiles) > 1 else "one tile"


def run_random(seeds: Sequence[int]) -> Counter[str]:
    """Random blocks on random machines; the features that occurred."""
    seen = Counter[str]()
    for seed in seeds:
        rng = np.random.default_rng(seed)
        rows, cols = rng.choice([2, 4, 8], 2).tolist()
        words, banks = int(rng.choice([32, 64, 256])), int(rng.choice([3, 6, 24]))
        config = replace(
            TINY, name="random", rows=rows, cols=cols, post_lanes=1, spad_bank_words=words, spad_banks=banks,
            acc_bank_words=int(rng.choice([16, 32, 64])), wbuf_words=int(rng.choice([64, 256])),
        )  # fmt: skip
        graph = block(int(rng.integers(3, 9)), int(rng.integers(6, 40)), bool(seed & 1))
        if is_equal(seed, graph, config, rng, ("fast",)):
            seen.update(set(features(graph, config)))
    return seen


def test_random_blocks_equal_the_reference() -> None:
    seen = run_random(range(10))
    for feature in ("operand streamed", "operand resident", "output streamed", "output resident", "several tiles"):
        assert seen[feature], f"{feature} must occur, got {seen}"


@pytest.mark.slow
def test_more_random_blocks_equal_the_reference() -> None:
    run_random(range(100, 160))


def test_what_is_between_never_leaves_the_chip() -> None:
    graph, config = block(20, 64), SMALL
    compilation = compile_phases(graph, config)
    (segment,) = compilation.segments
    between = segment.network.layers[2].output
    assert segment.plan.choices.joined == {3}
    assert between not in segment.emission.addresses
    assert_equal(graph, config, np.random.default_rng(0), ("fast", "stepped"))


def test_posts_of_the_sum_run_between_those_of_the_convolution() -> None:
    program = compile_graph(block(12, 64), TINY)
    posts = [
        layer
        for layer, instruction in zip(program.instruction_layers, decode(program.code), strict=True)
        if instruction.opcode is Opcode.POST and layer in (2, 3)
    ]
    assert posts.index(3) < 4 < posts.count(2)


def _wrong_channels(patch: pytest.MonkeyPatch) -> None:
    original = steps.tile_source
    patch.setattr(
        steps, "tile_source", lambda build, index, operand, tile, chunks: original(build, index, operand, tile, chunks)
        if operand == 0 or chunks.first == 0
        else original(build, index, operand, tile, type(chunks)(0, chunks.size)),
    )  # fmt: skip


def _kept_values_forgotten(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Network, "kept", set())


MUTANTS = {
    "other operand of wrong channels": _wrong_channels,
    "kept values are joined": _kept_values_forgotten,
}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_mutants_are_caught(mutant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    MUTANTS[mutant](monkeypatch)
    with pytest.raises((AssertionError, AccelError, KeyError)):
        run_suite()


def run_suite() -> None:
    """A block, and one whose inner value is an output, too."""
    chain = block(20, 64, swapped=True)
    for graph in (chain, replace(chain, outputs=("t3", "t5"))):
        assert_equal(graph, SMALL, np.random.default_rng(1), ("fast",))
