"""Networks to export, and whether two graphs are the same."""

from __future__ import annotations

import dataclasses
from functools import lru_cache

import numpy as np

import accel
from accel import demo
from accel.network.graph import Graph, Tensor
from accel.network.nodes import MaxPool2d, Weighted
from support.networks.small_networks import add, conv, fully_connected, network, pool, reshape

REAL_NETWORKS = ("mlperf_tiny/resnet8_int8", "mlperf_tiny/dscnn_kws_int8", "imagenet/mobilenet_v2_int8")
"""TensorFlow Lite files in the folder of real models."""


@lru_cache
def demo_graph(mode: str) -> Graph:
    """The demo network."""
    data = demo.load()
    return accel.quantize(data.model_path, data.calibration, mode=mode, name="digits")


def differing_field(first: Graph, second: Graph) -> str:
    """The first node and field in which graphs differ, names apart; empty if they compute the same in the same way."""
    kinds = [[node.op for node in graph.nodes] for graph in (first, second)]
    if kinds[0] != kinds[1]:
        return f"operations: {kinds[0]} and {kinds[1]}"
    for a, b in zip(first.nodes, second.nodes, strict=True):
        for field in dataclasses.fields(a):
            named = field.name in ("name", "inputs", "output", "more_outputs")
            if not named and not np.array_equal(getattr(a, field.name), getattr(b, field.name)):
                return f"{a.op} {a.name!r}: {field.name}"
        if first.tensors[a.output].parameters != second.tensors[b.output].parameters:
            return f"{a.op} {a.name!r}: parameters"
    return ""


def symmetric() -> Graph:
    """A network whose zero points are 0."""
    window = {"padding": (1, 1, 1, 1)}
    graph = network(
        (1, 6, 6, 3),
        conv(4, (3, 3), **window),
        add(),
        pool(MaxPool2d, (2, 2), (2, 2)),
        reshape((1, 36)),
        fully_connected(5),
    )
    tensors = {name: Tensor(name, tensor.shape, tensor.scale, 0) for name, tensor in graph.tensors.items()}
    return Graph("symmetric", graph.mode, tensors, graph.nodes, graph.inputs, graph.outputs)


def narrow(graph: Graph) -> Graph:
    """The graph with weights of 4 bits."""
    nodes = tuple(
        dataclasses.replace(node, weight=(node.weight // 16).astype(np.int8), weight_bits=4)
        if isinstance(node, Weighted)
        else node
        for node in graph.nodes
    )
    return dataclasses.replace(graph, nodes=nodes)
