"""Networks some of whose weights are int4."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from accel.network.graph import Graph
from accel.network.nodes import Node, Weighted


def int4_node(node: Node) -> Node:
    """The node with the upper halves of its weights, if it has weights."""
    return replace(node, weight=node.weight >> 4, weight_bits=4) if isinstance(node, Weighted) else node


def with_int4(graph: Graph, rng: np.random.Generator, share: float = 0.5) -> Graph:
    """The network with a share of its nodes in int4."""
    return replace(graph, nodes=tuple(int4_node(node) if rng.random() < share else node for node in graph.nodes))
