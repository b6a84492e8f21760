"""Narrow values before max pools, whose columns share words: values equal the reference, in fewer cycles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from support.networks.equality import assert_equal, is_equal
from support.networks.random_graphs import random_inputs
from support.networks.small_networks import add, conv, network, pool

import accel
from accel.machine.config import preset
from accel.network import reference
from accel.network.graph import Graph
from accel.network.nodes import AveragePool2d, MaxPool2d
from compiler import compile_graph
from compiler.emit.overlap import Overlap
from compiler.lower import pool_packing
from compiler.lower.layers import Network, Unpacked
from compiler.lower.network import lower

WIDE = replace(preset("tiny"), name="wide", rows=16, cols=16, post_lanes=16, param_channels=512, spad_bank_words=512)


def first_layers(size: int = 24, channels: int = 8) -> Graph:
    """The beginning of a ResNet: an image, a convolution of stride 2 and a pool; then another convolution."""
    return network(
        (1, size, size, 3),
        conv(channels, (7, 7), padding=(3, 3, 3, 3), stride=(2, 2)),
        pool(MaxPool2d, (3, 3), (2, 2), (1, 1, 1, 1)),
        conv(5, (1, 1)),
    )


def always(patch: pytest.MonkeyPatch) -> None:
    """Pack as many columns as possible, wherever that is possible."""
    patch.setattr(pool_packing, "_cycles", lambda site, packing, config: -packing.output)


def random_pools(rng: np.random.Generator) -> Graph:
    """One or two convolutions, each before a max pool of any window."""
    layers = []
    for _ in range(int(rng.integers(1, 3))):
        rows, columns = rng.integers(1, 4, 2).tolist()
        padding = (rows - 1, int(rng.integers(0, columns)), 0, columns - 1)
        layers.append(
            conv(int(rng.integers(1, 5)), (rows, columns), padding=padding, stride=(1, int(rng.integers(1, 3))))
        )
        kernel = tuple(rng.integers(2, 4, 2).tolist())
        around = tuple(rng.integers(0, 2, 4).tolist())
        layers.append(pool(MaxPool2d, kernel, tuple(rng.integers(1, 3, 2).tolist()), around))
    layers.append(conv(3, (1, 1)))
    shape = (1, int(rng.integers(6, 12)), int(rng.choice([16, 24, 32])), int(rng.choice([1, 3, 6, 20])))
    return network(shape, *layers)


def run_random(patch: pytest.MonkeyPatch, seeds: Sequence[int], engines: tuple[str, ...] = ("fast",)) -> int:
    """Random networks on random machines, packed wherever that is possible; how many were."""
    always(patch)
    found = 0
    for seed in seeds:
        rng = np.random.default_rng(seed)
        rows, cols = rng.choice([8, 16], 2).tolist()
        config = replace(WIDE, rows=rows, cols=cols, post_lanes=min(4, rows))
        graph = random_pools(rng)
        found += is_equal(seed, graph, config, rng, engines) and bool(lower(graph, config).unpacked)
    return found


def test_random_pools_equal_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_random(monkeypatch, range(5)) >= 3


@pytest.mark.slow
def test_more_random_pools_equal_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    run_random(monkeypatch, range(100, 130))
    run_random(monkeypatch, range(300, 304), ("fast", "stepped"))


@pytest.mark.parametrize("how", [Overlap(3, True), Overlap(4, False)], ids=str)
def test_pools_of_packed_values_overlap(how: Overlap, monkeypatch: pytest.MonkeyPatch) -> None:
    always(monkeypatch)
    graph = first_layers(48)
    program = compile_graph(graph, replace(WIDE, spad_bank_words=2048), how)
    inputs = random_inputs(np.random.default_rng(2), graph)
    outputs, expected = accel.run(program, inputs).outputs, reference.run(graph, inputs)
    np.testing.assert_array_equal(outputs["t3"], expected["t3"])


def test_the_first_layers_of_a_residual_network_are_packed() -> None:
    graph = first_layers(64, 64)
    found = lower(graph, preset("datacenter"))
    assert found.unpacked == {"t2[columns]": Unpacked("t2[rows]", 2)}
    assert [found.shapes[name] for name in ("t1", "t2[rows]", "t2[columns]", "t2")] == [
        (32, 16, 128), (16, 16, 128), (16, 32, 64), (16, 16, 64),
    ]  # fmt: skip


def test_packing_takes_fewer_cycles(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = first_layers(128, 64)
    cycles = accel.estimate(accel.compile(graph, "datacenter")).cycles
    monkeypatch.setattr(pool_packing, "WORTHWHILE", 0)
    assert cycles < 0.85 * accel.estimate(accel.compile(graph, "datacenter")).cycles


MAXIMUM = pool(MaxPool2d, (3, 3), (2, 2), (1, 1, 1, 1))


@pytest.mark.parametrize(
    "graph",
    [
        network((1, 6, 24, 20), conv(4, (3, 2)), pool(MaxPool2d, (2, 2), (2, 2)), conv(3, (1, 1))),
        network((1, 6, 24, 20), conv(4, (1, 1)), pool(MaxPool2d, (1, 3), (1, 2)), conv(3, (1, 1))),
        network((1, 6, 24, 20), conv(4, (1, 1)), pool(AveragePool2d, (3, 3), (2, 2)), conv(3, (1, 1))),
        replace(network((1, 6, 24, 20), conv(4, (1, 1)), MAXIMUM, conv(3, (1, 1))), outputs=("t1", "t3")),
        network((1, 6, 24, 20), conv(12, (1, 1)), MAXIMUM),
        network((1, 6, 24, 20), conv(4, (1, 1)), add(), MAXIMUM),
    ],
    ids=["an odd width", "one row", "averages", "an output", "many channels", "another operation between"],
)
def test_others_are_not_packed(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    always(monkeypatch)
    assert not lower(graph, WIDE).unpacked


def _written_too_late(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Network, "stored", lambda self, value, tile: (self.place(value), tile))


def _padding_left_out(patch: pytest.MonkeyPatch) -> None:
    original = pool_packing._pools

    def moved(layer: Any, count: int) -> tuple[Any, Any]:
        rows, columns = original(layer, count)
        return rows, replace(columns, window=replace(columns.window, padding=(0, 0)))

    patch.setattr(pool_packing, "_pools", moved)


MUTANTS = {"no order between store and load": _written_too_late, "padding left out": _padding_left_out}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_mutants_are_caught(mutant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    always(monkeypatch)
    MUTANTS[mutant](monkeypatch)
    with pytest.raises(AssertionError):
        assert_equal(first_layers(), WIDE, np.random.default_rng(1), ("fast",))
