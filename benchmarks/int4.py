"""Weights of 4 bits beside weights of 8: cycles and bytes of whole networks on the presets.

Run: python benchmarks/int4.py

The int4 networks have the upper halves of the int8 weights: other values, but the same work. `autoencoder` has the
layers of MLPerf Tiny's anomaly detection (fully connected, 264,192 weights) and random weights: there, weights bind.
"""

from __future__ import annotations

import dataclasses
from itertools import pairwise
from pathlib import Path

import numpy as np

from accel import api
from accel.frontends import load_model
from accel.network.graph import Graph, Tensor
from accel.network.nodes import FullyConnected, Node, Weighted

MODELS = Path(__file__).resolve().parents[2] / "shared" / "models"
NETWORKS = ("mlperf_tiny/resnet8_int8.tflite", "mlperf_tiny/dscnn_kws_int8.tflite", "imagenet/mobilenet_v2_int8.tflite")
PRESETS = ("edge", "large", "tiny")
AUTOENCODER = (640, 128, 128, 128, 128, 8, 128, 128, 128, 128, 640)
HEADER = [
    "| network | machine | cycles, int8 | int4 | ratio | constant bytes, int8 | int4 | ratio |",
    "|---|---|---|---|---|---|---|---|",
]


def autoencoder() -> Graph:
    """Fully connected layers of random weights."""
    rng = np.random.default_rng(0)
    nodes = [
        FullyConnected(
            name=f"dense{i}",
            inputs=(f"t{i}",),
            output=f"t{i + 1}",
            weight=rng.integers(-127, 128, (outputs, inputs)).astype(np.int8),
            bias=np.zeros(outputs, np.int32),
            multiplier=np.full(outputs, 1 << 30, np.int32),
            shift=np.full(outputs, -8, np.int8),
        )
        for i, (inputs, outputs) in enumerate(pairwise(AUTOENCODER))
    ]
    tensors = {f"t{i}": Tensor(f"t{i}", (1, size), 0.5, 0) for i, size in enumerate(AUTOENCODER)}
    return Graph("autoencoder", "tflite", tensors, tuple(nodes), ("t0",), (f"t{len(nodes)}",))


def narrow(node: Node) -> Node:
    """The node with weights of 4 bits."""
    return dataclasses.replace(node, weight=node.weight >> 4, weight_bits=4) if isinstance(node, Weighted) else node


def row(graph: Graph, preset: str) -> str:
    """A line of the table."""
    int4 = dataclasses.replace(graph, nodes=tuple(map(narrow, graph.nodes)))
    wide, packed = (api.compile(one, preset) for one in (graph, int4))
    cycles = [api.estimate(program).cycles for program in (wide, packed)]
    sizes = [len(program.constants) for program in (wide, packed)]
    cells = [f"{before:,} | {after:,} | {after / before:.2f}" for before, after in (cycles, sizes)]
    return f"| {graph.name} | {preset} | {' | '.join(cells)} |"


def networks() -> list[Graph]:
    """The autoencoder, and the real networks that are there."""
    paths = [MODELS / name for name in NETWORKS]
    found = [dataclasses.replace(load_model(path), name=path.stem) for path in paths if path.is_file()]
    return [autoencoder(), *found]


if __name__ == "__main__":
    print("\n".join(HEADER))
    for graph in networks():
        for preset in PRESETS:
            print(row(graph, preset), flush=True)
