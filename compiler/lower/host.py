"""What remains for the host: operations without a lowering, and all that follows them."""

from __future__ import annotations

from accel.network.graph import Graph
from accel.network.nodes import Reshape
from compiler.lower.registry import LOWERINGS


def host_nodes(graph: Graph) -> dict[str, str]:
    """Names of the nodes that the host computes after the machine is done, and why it does."""
    why: dict[str, str] = {}
    sources = {node.output: node.name for node in graph.nodes}
    for node in graph.nodes:
        before = [sources[name] for name in node.inputs if sources.get(name) in why]
        if type(node) not in LOWERINGS:
            why[node.name] = f"no unit computes {node.op}"
        elif before:
            why[node.name] = f"follows {before[0]} on the host"
    for node in reversed(graph.nodes):
        consumers = graph.consumers(node.output)
        if isinstance(node, Reshape) and node.name not in why and all(after.name in why for after in consumers):
            why[node.name] = "bookkeeping: the same bytes under another shape"
    return why


def boundary(graph: Graph, host: dict[str, str]) -> tuple[str, ...]:
    """Tensors that the machine must deliver: what the host reads or the user wants."""
    made = [node.output for node in graph.nodes if node.name not in host] + list(graph.inputs)
    needed = set(graph.outputs)
    for node in graph.nodes:
        if node.name in host:
            needed.update(node.inputs)
    return tuple(name for name in made if name in needed)


def host_graph(graph: Graph, host: dict[str, str], inputs: tuple[str, ...]) -> Graph | None:
    """The host's part as a graph of its own, which reads `inputs`; None if it has nothing to do."""
    if not host:
        return None
    nodes = tuple(node for node in graph.nodes if node.name in host)
    names = {*inputs, *(node.output for node in nodes)}
    tensors = {name: tensor for name, tensor in graph.tensors.items() if name in names}
    return Graph(f"{graph.name}_host", graph.mode, tensors, nodes, inputs, graph.outputs)
