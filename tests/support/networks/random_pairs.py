"""Random networks of convolutions and depthwise convolutions behind them, for machines with a depthwise engine."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np

from accel.machine.config import ArchConfig
from accel.network.graph import Graph, Tensor
from accel.network.nodes import Conv2d
from support.machine.random_programs import random_config
from support.networks.random_graphs import GraphBuilder


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
