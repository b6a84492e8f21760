"""Lowering: zero points in biases, exact means, operators that the host computes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from support.networks.small_networks import (
    clamp,
    conv,
    every_compiled_operation,
    fully_connected,
    network,
    pool,
    reshape,
    softmax,
    table,
)

from accel.machine.config import preset
from accel.machine.numerics import RequantMode, requantize
from accel.network.nodes import (
    NODE_TYPES,
    AveragePool2d,
    Conv2d,
    Dequantize,
    Div,
    FullyConnected,
    HostOperator,
    LogSoftmax,
    Quantize,
    Softmax,
    SquaredDifference,
)
from accel.program.parts import HOST, MACHINE
from compiler.lower import partition
from compiler.lower.layers import IDENTITY, ArrayLayer, VectorLayer, product_shape
from compiler.lower.network import lower, lower_graph
from compiler.lower.partition import NOTHING_TO_DO
from compiler.lower.registry import LOWERINGS
from compiler.lower.vector import mean_record

TINY = preset("tiny")


def divide_half_away(total: np.ndarray, count: int) -> np.ndarray:
    """Quotient rounded to nearest, ties away from zero."""
    return np.sign(total) * ((2 * np.abs(total) + count) // (2 * count))


def critical_sums(count: int) -> np.ndarray:
    """Around every sum at which the mean's rounding changes: requantization is monotonous between them."""
    ties = np.arange(-257, 258) * count
    near = np.concatenate([ties // 2 + offset for offset in (-1, 0, 1, 2)])
    return near[(near >= -128 * count) & (near <= 127 * count)]


def wrong_mean(count: int, mode: RequantMode) -> bool:
    _, multiplier, shift = mean_record(count, mode)
    sums = critical_sums(count)
    got = requantize(sums.astype(np.int32), np.int32(multiplier), np.int8(shift), mode.name.lower())
    return bool((got != divide_half_away(sums, count)).any())


def test_means_are_exact_for_every_count_of_tflite() -> None:
    assert [count for count in range(1, 2896) if wrong_mean(count, RequantMode.TFLITE)] == []


def test_means_are_exact_for_counts_of_single() -> None:
    counts = [*range(1, 600), *range(600, 65026, 173), 255 * 255, *(2**n + d for n in range(1, 16) for d in (-1, 1))]
    assert [count for count in counts if wrong_mean(count, RequantMode.SINGLE)] == []


@pytest.mark.slow
def test_means_are_exact_for_every_count_of_single() -> None:
    assert [count for count in range(1, 255 * 255 + 1) if wrong_mean(count, RequantMode.SINGLE)] == []


def test_a_smaller_multiplier_would_be_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    exact = mean_record(9, RequantMode.SINGLE)
    monkeypatch.setitem(globals(), "mean_record", lambda *_: (exact[0], exact[1] - 1, exact[2]))
    assert wrong_mean(8, RequantMode.SINGLE)


def test_the_identity_leaves_values_as_they_are() -> None:
    values = np.arange(-(2**15), 2**15, dtype=np.int32)
    bias, multiplier, shift = IDENTITY
    for mode in ("tflite", "single", "fp32"):
        got = requantize(values + bias, np.int32(multiplier), np.int8(shift), mode)
        np.testing.assert_array_equal(got, values)


def test_zero_points_are_folded_into_biases() -> None:
    graph = network((1, 4, 5, 3), conv(6, (2, 2), padding=(1, 1, 1, 1)))
    (layer,) = lower(graph, TINY).layers
    (node,) = graph.nodes
    assert isinstance(layer, ArrayLayer)
    assert isinstance(node, Conv2d)
    assert layer.pad_value == graph.tensors["t0"].zero_point == 3
    for channel, (bias, multiplier, shift) in enumerate(layer.records):
        expected = int(node.bias[channel]) - 3 * int(node.weight[channel].astype(int).sum())
        assert (bias, multiplier, shift) == (expected, node.multiplier[channel], node.shift[channel])


def test_folded_biases_wrap_like_accumulators() -> None:
    graph = network((1, 4), fully_connected(1))
    node = graph.nodes[0]
    assert isinstance(node, FullyConnected)
    extreme = replace(node, bias=np.array([-(2**31)], np.int32), weight=np.full((1, 4), 127, np.int8))
    (layer,) = lower(replace(graph, nodes=(extreme,)), TINY).layers
    assert isinstance(layer, ArrayLayer)
    assert layer.records[0][0] == -(2**31) - 3 * 4 * 127 + 2**32


def test_the_host_gets_the_tail() -> None:
    (machine, lowered), (host, nothing) = lower_graph(every_compiled_operation(), TINY).parts
    assert lowered is not None
    assert nothing is None
    assert [layer.name for layer in lowered.layers] == ["n0", "n1", "n2", "n3", "n5"]
    assert lowered.aliases == {"t5": "t4"}
    assert lowered.outputs == ("t6",)
    assert (machine.unit, host.unit) == (MACHINE, HOST)
    assert (host.graph.inputs, host.graph.outputs) == (("t6",), ("t7",))
    assert [node.name for node in host.graph.nodes] == ["n6"]
    (everything, network_), *rest = lower_graph(network((1, 3, 3, 2), conv(2, (1, 1))), TINY).parts
    assert (everything.unit, rest) == (MACHINE, [])
    assert network_ is not None
    assert (network_.outputs, dict(network_.inputs)) == (("t1",), {"t0": (3, 3, 2)})


def test_a_fully_connected_layer_of_an_image_is_a_convolution() -> None:
    layer = lower(network((1, 3, 5, 6), reshape((1, 90)), fully_connected(7)), TINY).layers[0]
    assert isinstance(layer, ArrayLayer)
    assert (layer.input_shape, layer.output_shape, layer.weight.shape) == ((3, 5, 6), (1, 1, 7), (7, 3, 5, 6))
    assert product_shape(layer) == (1, 90, 7, 15, 1)


def test_means_have_a_region_for_every_number_of_taps() -> None:
    graph = network((1, 5, 4, 2), pool(AveragePool2d, (3, 3), (1, 1), (1, 1, 1, 1)))
    (layer,) = lower(graph, TINY).layers
    assert isinstance(layer, VectorLayer)
    taps = np.zeros((5, 4), int)
    for y, x in np.ndindex(5, 4):
        taps[y, x] = sum(0 <= y + i < 5 and 0 <= x + j < 4 for i in (-1, 0, 1) for j in (-1, 0, 1))
    seen = np.zeros((5, 4), int)
    for region in layer.regions:
        tile = region.tile
        part = np.s_[tile.y0 : tile.y1, tile.x0 : tile.x1]
        seen[part] += 1
        assert {mean_record(int(count), layer.mode) for count in taps[part].flat} == {region.record}
    assert (seen == 1).all()


def test_means_prefer_single_rounding() -> None:
    graph = network((1, 5, 4, 2), pool(AveragePool2d, (3, 3), (1, 1)))
    assert lower(graph, TINY).layers[0].mode is RequantMode.SINGLE
    assert lower(graph, replace(TINY, requant_modes=("tflite",))).layers[0].mode is RequantMode.TFLITE


def test_the_machine_takes_over_again_after_a_host_operation() -> None:
    graph = network((1, 1, 1, 9), conv(4, (1, 1)), softmax(), fully_connected(3), reshape((1, 3, 1, 1)))
    lowered = lower_graph(graph, TINY)
    assert [[layer.name for layer in one.layers] for one in lowered.networks] == [["n0"], ["n2"]]
    assert [(o.name, o.unit, o.why) for o in lowered.operators] == [
        ("n0", "array", "sums of products"),
        ("n1", "host", "no unit computes Softmax"),
        ("n2", "array", "sums of products"),
        ("n3", "host", NOTHING_TO_DO),
    ]
    assert [part.unit for part, _ in lower_graph(network((1, 9), softmax()), TINY).parts] == [HOST]


def test_tables_and_clamps_join_the_layer_that_makes_their_input() -> None:
    graph = network((1, 3, 3, 2), conv(2, (1, 1)), clamp(-90, 5), table(), table(), clamp(3, 4))
    lowered = lower(graph, TINY)
    (layer,) = lowered.layers
    assert (layer.output, layer.act_min, layer.act_max) == ("t5", -90, 5)
    first, second = (node.table for node in graph.nodes[2:4])
    assert layer.table is not None
    np.testing.assert_array_equal(layer.table, second[first.astype(int) + 128].clip(3, 4))
    assert [o.why for o in lowered.operators][1:] == ["with the results of n0"] * 4


def test_disjoint_clamps_make_a_constant() -> None:
    (layer,) = lower(network((1, 3, 3, 2), conv(2, (1, 1)), clamp(-90, -70), clamp(3, 40)), TINY).layers
    assert (layer.act_min, layer.act_max) == (3, 3)


def test_a_value_that_somebody_else_reads_is_kept() -> None:
    graph = network((1, 3, 3, 2), conv(2, (1, 1)), table())
    assert len(lower(graph, TINY).layers) == 1
    assert len(lower(replace(graph, outputs=("t1", "t2")), TINY).layers) == 2


def test_what_the_table_lacks_is_the_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = network((1, 4, 4, 2), conv(2, (1, 1)), pool(AveragePool2d, (2, 2), (2, 2)), softmax())
    monkeypatch.setattr(partition, "LOWERINGS", {k: v for k, v in LOWERINGS.items() if k is not AveragePool2d})
    assert [(o.name, o.unit, o.why) for o in lower_graph(graph, TINY).operators][1:] == [
        ("n1", "host", "no unit computes AveragePool2d"),
        ("n2", "host", "no unit computes Softmax"),
    ]


def test_every_operation_is_the_machines_or_known_as_the_hosts() -> None:
    hosts = {Dequantize, Div, HostOperator, LogSoftmax, Quantize, Softmax, SquaredDifference}
    assert set(NODE_TYPES.values()) - set(LOWERINGS) == hosts
