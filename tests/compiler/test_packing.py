"""Narrow values whose columns share words: values equal the reference, and the array takes fewer cycles."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from support.networks.equality import assert_equal, is_equal
from support.networks.small_networks import conv, network

import accel
from accel.machine.config import ArchConfig, preset
from accel.network.graph import Graph
from compiler.lower import packing
from compiler.lower.geometry import Place
from compiler.lower.layers import ArrayLayer
from compiler.lower.network import lower
from compiler.lower.packing import Packing

WIDE = replace(preset("tiny"), name="wide", rows=16, cols=16, post_lanes=16, param_channels=512)


def bottleneck(width: int = 24, kernel: tuple[int, int] = (3, 3), **fields: object) -> Graph:
    """Four channels between three convolutions, the one in the middle as told; a last one makes the output."""
    return network((1, 6, width, 20), conv(4, (1, 1)), conv(4, kernel, **fields), conv(20, (1, 1)), conv(3, (1, 1)))


def packed(graph: Graph, config: ArchConfig) -> dict[str, tuple[int, int, int]]:
    """Shapes of the values that are packed."""
    network_ = lower(graph, config)
    shapes = {name: tensor.shape[1:] for name, tensor in graph.tensors.items()}
    return {name: shape for name, shape in network_.shapes.items() if name in shapes and shape != shapes[name]}


def random_chain(rng: np.random.Generator) -> Graph:
    """Convolutions of few channels, of any window."""
    layers = []
    for _ in range(int(rng.integers(2, 6))):
        kernel = (int(rng.integers(1, 4)), int(rng.integers(1, 5)))
        stride, dilation = (1, int(rng.choice([1, 1, 1, 2, 3]))), (1, int(rng.choice([1, 1, 2])))
        reach = (kernel[1] - 1) * dilation[1]  # the width stays as it is, but for strides
        left = int(rng.integers(0, reach + 1))
        padding = (kernel[0] - 1, left, 0, reach - left)
        layers.append(conv(int(rng.integers(1, 9)), kernel, padding=padding, stride=stride, dilation=dilation))
    return network((1, int(rng.integers(3, 7)), int(rng.choice([12, 16, 24])), int(rng.integers(1, 20))), *layers)


def run_random(patch: pytest.MonkeyPatch, seeds: Sequence[int], engines: tuple[str, ...] = ("fast",)) -> Counter[str]:
    """Random chains on random machines, packed where that is possible; which packings occurred."""
    patch.setattr(packing, "WORTHWHILE", 10)
    seen = Counter[str]()
    for seed in seeds:
        rng = np.random.default_rng(seed)
        rows, cols = rng.choice([4, 8, 16], 2).tolist()
        config = replace(WIDE, rows=rows, cols=cols, post_lanes=min(4, rows), spad_bank_words=512)
        graph = random_chain(rng)
        if is_equal(seed, graph, config, rng, engines):
            layers = [layer for layer in lower(graph, config).layers if isinstance(layer, ArrayLayer) and layer.product]
            seen["in phases"] += any("[0," in layer.output for layer in layers)
            seen["packed"] += any("[0," not in layer.output for layer in layers)
            seen["strided"] += any(layer.window.stride[1] > 1 for layer in layers)
    return seen


def test_random_chains_equal_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = run_random(monkeypatch, range(14))
    assert all(seen[name] > 1 for name in ("in phases", "packed", "strided")), seen


@pytest.mark.slow
def test_more_random_chains_equal_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    run_random(monkeypatch, range(100, 250))
    run_random(monkeypatch, range(300, 320), ("fast", "stepped"))


def test_a_bottleneck_is_packed() -> None:
    graph = bottleneck(padding=(1, 1, 1, 1))
    assert packed(graph, WIDE) == {"t1": (6, 6, 16), "t2": (6, 6, 16)}
    assert_equal(graph, WIDE, np.random.default_rng(0), ("fast", "stepped"))


def test_packing_takes_fewer_cycles(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = network((1, 32, 32, 64), conv(64, (1, 1)), conv(64, (3, 3), padding=(1, 1, 1, 1)), conv(256, (1, 1)),
                    conv(8, (1, 1)))  # fmt: skip
    cycles = accel.estimate(accel.compile(graph, "datacenter")).cycles
    monkeypatch.setattr(packing, "WORTHWHILE", 0)
    unpacked = accel.estimate(accel.compile(graph, "datacenter")).cycles
    assert cycles < 0.85 * unpacked


@pytest.mark.parametrize(
    "graph",
    [
        bottleneck(23, padding=(1, 1, 1, 1)),
        replace(bottleneck(kernel=(1, 1)), outputs=("t1", "t2", "t4")),
        network((1, 6, 24, 20), conv(12, (3, 3)), conv(12, (3, 3))),
        network((1, 6, 24, 4), conv(4, (3, 3), groups=2), conv(4, (3, 3), groups=2)),
    ],
    ids=["odd width", "outputs", "too many channels", "groups"],
)
def test_others_are_not_packed(graph: Graph) -> None:
    assert packed(graph, WIDE) == {}


def test_macs_and_products_are_those_of_the_network() -> None:
    graph = bottleneck(padding=(1, 1, 1, 1))
    program = accel.compile(graph, WIDE)
    assert sum(layer.macs for layer in program.layers) == sum(graph.macs(node) for node in graph.nodes)
    middle = [layer for layer in program.layers if layer.name == "n1"]
    assert [(layer.m, layer.k, layer.n) for layer in middle] == [(6 * 24, 9 * 4, 4)]


def _neighbour(patch: pytest.MonkeyPatch) -> None:
    original = packing.convolution

    def moved(layer: ArrayLayer, how: Packing, columns: range) -> ArrayLayer:
        made = original(layer, how, columns)
        return replace(made, weight=np.roll(made.weight, 1, axis=2) if how.source > 1 else made.weight)

    patch.setattr(packing, "convolution", moved)


def _phases_swapped(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        packing, "Place", lambda whole, origin, step: Place(whole, origin=(0, step[1] - 1 - origin[1]), step=step)
    )


MUTANTS = {"weights of the next row": _neighbour, "phases swapped": _phases_swapped}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_mutants_are_caught(mutant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    MUTANTS[mutant](monkeypatch)
    with pytest.raises(AssertionError):
        assert_equal(bottleneck(padding=(1, 1, 1, 1)), WIDE, np.random.default_rng(1), ("fast",))
