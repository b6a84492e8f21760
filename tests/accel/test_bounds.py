"""Lower bounds: worked examples, and no run below them."""

from __future__ import annotations

import numpy as np
import pytest
from support.networks.random_graphs import random_graph
from support.networks.small_networks import conv, every_compiled_operation, fully_connected, network, pool

import accel
from accel.network.graph import MaxPool2d
from accel.report.bounds import Bound, layer_bounds, network_bound


@pytest.mark.parametrize(
    ("node", "bound"),
    [
        # 10 x 10 pixels of output; weight tiles * pixels; pixels * ceil(channels / 16) POST steps; weight bytes / 16
        (conv(40, (3, 3)), Bound(27 * 3 * 100, 0, 100 * 3, 9 * 48 * 40 // 16)),
        # 4 groups of 12 channels each: every column tile of 16 outputs sees 2 of them, or the whole 3
        (conv(48, (3, 3), groups=4), Bound((14 + 14 + 14) * 100, 0, 100 * 3, 9 * 12 * 48 // 16)),
        # in the engine, a row of 3 taps a step
        (conv(48, (3, 3), groups=48), Bound(0, 100 * 3 * 3, 100 * 3, 9 * 48 // 16)),
    ],
)
def test_convolutions(node: object, bound: Bound) -> None:
    program = accel.compile(network((1, 12, 12, 48), node), "edge")
    assert layer_bounds(program) == [bound]
    ends = sum(program.slots[name].size_bytes for name in (*program.input_names, *program.output_names))
    assert network_bound(program) == bound._replace(memory=bound.memory + ends // 16)


def test_few_pixels_wait_for_weights() -> None:
    program = accel.compile(network((1, 1, 1, 64), fully_connected(20)), "edge")
    assert layer_bounds(program)[0].array == 4 * 2 * 16


def test_a_pool_is_bound_by_its_taps() -> None:
    program = accel.compile(network((1, 8, 8, 32), pool(MaxPool2d, (2, 2), (2, 2))), "edge")
    assert layer_bounds(program) == [Bound(0, 0, 4 * 4 * 2 * 4, 0)]


@pytest.mark.parametrize("seed", range(6))
def test_no_layer_takes_less(seed: int) -> None:
    graph = random_graph(np.random.default_rng(seed), "tflite") if seed else every_compiled_operation()
    program = accel.compile(graph, "tiny")
    estimate = accel.estimate(program)
    for row, bound in zip(estimate.layers, layer_bounds(program), strict=True):
        assert row.cycles + row.hidden_cycles >= max(bound.array, bound.depthwise), row.name
    assert estimate.cycles >= network_bound(program).cycles
