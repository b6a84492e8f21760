"""Layout changes at the ends of a network: whoever gives and takes the arrays makes them, and no unit moves a byte."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from accel.network.array_layout import ArrayLayout
from accel.network.graph import Graph, Node, Tensor
from accel.network.nodes import Reshape, Transpose
from accel.quantized.builder import renamed_node


def settle_ends(graph: Graph) -> Graph:
    """The graph without a Reshape or Transpose that alone reads an input, and without a Transpose that makes an output.

    The tensors get the shape behind, or before, the node; their `source` layout tells the model's own shape and order.
    """
    carried = {name for state in graph.states for name in (state.input, state.output)}
    for name in (name for name in graph.inputs if name not in carried):
        while (node := _only_reader(graph, name)) is not None:
            graph = _without(graph, node, name, node.output, _behind(graph.tensors[name], node))
    for name in (name for name in graph.outputs if name not in carried):
        while (node := _last_mover(graph, name)) is not None:
            graph = _without(graph, node, name, node.inputs[0], _before(graph.tensors[name], node))
    return graph


def _only_reader(graph: Graph, name: str) -> Node | None:
    """The node that an input can do without."""
    readers = graph.consumers(name)
    node = readers[0] if len(readers) == 1 else None
    kinds = (Reshape, Transpose)
    if node is None or not isinstance(node, kinds) or name in graph.outputs or node.output in graph.outputs:
        return None
    return node if _moves_alone(graph.tensors[name], node) else None


def _last_mover(graph: Graph, name: str) -> Node | None:
    """The node that an output can do without."""
    node = graph.producer(name)
    if not isinstance(node, Transpose) or graph.consumers(name):
        return None
    free = node.inputs[0] not in (*graph.inputs, *graph.outputs)
    return node if free and _moves_alone(graph.tensors[name], node) else None


def _moves_alone(tensor: Tensor, node: Node) -> bool:
    """Whether a layout can say what the node does: the model's axes are the graph's, but for sizes of 1 in front."""
    source = tensor.source
    if source is None or isinstance(node, Reshape):
        return source is not None
    front = len(tensor.shape) - len(source.shape)
    keeps = source == ArrayLayout.row_major(source.shape) and tensor.shape == (1,) * front + source.shape
    return isinstance(node, Transpose) and keeps and node.permutation[:front] == tuple(range(front))


def _behind(tensor: Tensor, node: Node) -> ArrayLayout | None:
    """How the model's array lies behind a node that reads it."""
    return _permuted(tensor, node.permutation) if isinstance(node, Transpose) else tensor.source


def _before(tensor: Tensor, node: Node) -> ArrayLayout | None:
    """How the model's array lies before the node that makes it."""
    assert isinstance(node, Transpose)
    return _permuted(tensor, tuple(node.permutation.index(axis) for axis in range(len(node.permutation))))


def _permuted(tensor: Tensor, order: tuple[int, ...]) -> ArrayLayout | None:
    if tensor.source is None:
        return None
    front = len(order) - len(tensor.source.shape)
    return ArrayLayout(tensor.source.shape, tuple(axis - front for axis in order[front:]))


def _without(graph: Graph, node: Node, end: str, other: str, layout: ArrayLayout | None) -> Graph:
    """The graph without a node between an end and another tensor, which is the end instead."""
    names: Mapping[str, str] = {name: end if name == other else name for name in graph.tensors}
    tensors = {name: tensor for name, tensor in graph.tensors.items() if name != other}
    tensors[end] = replace(graph.tensors[other], name=end, source=layout, unsigned=graph.tensors[end].unsigned)
    nodes = tuple(renamed_node(one, names) for one in graph.nodes if one is not node)
    return replace(graph, tensors=tensors, nodes=nodes)
