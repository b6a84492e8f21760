"""An array layer and a depthwise layer side by side: values equal the reference however the pair is cut."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from equality import assert_equal
from random_graphs import GraphBuilder
from random_programs import random_config

from accel.config import ArchConfig, preset
from accel.errors import AccelError, CompileError
from accel.graph import Graph, Tensor
from accel.nodes import Conv2d
from compiler import planner
from compiler.lower import lower
from compiler.plan import LayerPlan

EDGE = preset("edge")
SMALL = replace(
    preset("tiny"), name="small", spad_banks=8, spad_bank_words=64, wbuf_words=64, acc_bank_words=16, param_channels=64,
    depthwise_words=32,
)  # fmt: skip


def random_machine(rng: np.random.Generator) -> ArchConfig:
    """A random machine that has an engine and rather many banks."""
    config = random_config(rng)
    rows = max(config.rows, 2)
    cols = config.cols if config.rows > 1 else 2
    return replace(
        config, rows=rows, cols=cols, post_lanes=1, depthwise_taps=int(rng.integers(1, 5)),
        spad_banks=int(rng.choice([2, 4, 8])), param_channels=max(config.param_channels, 256),
    )  # fmt: skip


def random_chain(rng: np.random.Generator, mode: str, size: int, channels: int) -> Graph:
    """Convolutions, most of them followed by a depthwise one, and now and then something else."""
    builder = GraphBuilder(rng, mode)
    value = builder.given((1, builder.pick(1, size), builder.pick(1, size), builder.pick(1, channels)))
    for _ in range(builder.pick(1, 3)):
        value = (builder.conv if rng.random() < 0.4 else partial(pointwise, builder))(value, builder.pick(1, channels))
        if rng.random() < 0.9:
            value = depthwise(builder, value)
        if rng.random() < 0.25:
            value = builder.pool(value)
    return builder.graph(value)


def pointwise(builder: GraphBuilder, value: Tensor, channels: int) -> Tensor:
    node = Conv2d(
        name=f"conv{len(builder.nodes)}", inputs=(value.name,), output="",
        **builder.weights((channels, 1, 1, value.shape[3])), **builder.clamp(),
    )  # fmt: skip
    return builder.append(node, builder.tensor(node.output_shape(value.shape)))


def depthwise(builder: GraphBuilder, value: Tensor) -> Tensor:
    """Every window that random convolutions have; the engine takes those that it can."""
    window = builder.window(value.shape, 4, dilated=bool(builder.rng.random() < 0.3))
    channels, kernel = value.shape[3], window.pop("kernel")
    node = Conv2d(
        name=f"conv{len(builder.nodes)}", inputs=(value.name,), output="", groups=channels,
        **builder.weights((channels, *kernel, 1)), **window, **builder.clamp(),
    )  # fmt: skip
    return builder.append(node, builder.tensor(node.output_shape(value.shape)))


def features(graph: Graph, config: ArchConfig) -> Iterator[str]:
    """What is special about the pairs of a network."""
    network_ = lower(graph, config)
    planned = planner.plan_network(network_, config)
    for index in planned.followers:
        first, second = planned.layers[index - 1 : index + 1]
        assert isinstance(first, LayerPlan)
        assert isinstance(second, LayerPlan)
        if second.layer.unit != "depthwise":
            continue
        bands = planned.pairs.get(index - 1, ())
        yield "bands" if bands else "tiles"
        if len(bands) > 1:
            yield "several bands"
        if bands and len(first.output_areas or ()) == 1:
            yield "one room"
        if bands:
            yield "streamed source" if first.input_areas[0] else "resident source"
            yield (
                "one room for the source" if len(first.input_areas[0] or ()) == 1 else "no or two rooms for the source"
            )
        if first.folded:
            yield "folded source"
        yield "streamed output" if second.output_areas else "resident output"
        if index in planned.trailing:
            yield "tail"
            yield "tail beside a pair" if index + 2 in planned.followers else "tail beside a layer"
        if index + 1 in planned.followers:
            yield "a vector layer follows"


FEATURES = {
    "bands", "tiles", "several bands", "one room", "streamed source", "resident source", "one room for the source",
    "folded source", "streamed output", "resident output", "tail", "tail beside a pair", "tail beside a layer",
    "a vector layer follows",
}  # fmt: skip


def run_random(seeds: range, size: int, channels: int, stepped_every: int) -> Counter[str]:
    seen: Counter[str] = Counter()
    for seed in seeds:
        rng = np.random.default_rng([seed, 0xB5])
        config = random_machine(rng)
        graph = random_chain(rng, str(rng.choice(config.requant_modes)), size, channels)
        try:
            assert_equal(graph, config, rng, ("fast", "stepped") if seed % stepped_every == 0 else ("fast",))
        except (AssertionError, AccelError) as error:
            if not (isinstance(error, CompileError) and re.search("scratchpad words|needs requantization", str(error))):
                raise AssertionError(f"seed {seed}: {error}") from error
            seen["refused"] += 1
            continue
        seen["graphs"] += 1
        seen.update(features(graph, config))
    return seen


def test_random_pairs_equal_the_reference() -> None:
    seen = run_random(range(60), 14, 24, stepped_every=4)
    print(dict(seen))
    assert seen["graphs"] >= 40
    assert seen["bands"] >= 10


@pytest.mark.slow
@pytest.mark.parametrize("part", range(2))
def test_many_random_pairs_equal_the_reference(part: int) -> None:
    seen = run_random(range(1000 + 250 * part, 1250 + 250 * part), 20, 40, stepped_every=5)
    print(dict(seen))
    assert seen["graphs"] >= 180
    assert set(seen) >= FEATURES
