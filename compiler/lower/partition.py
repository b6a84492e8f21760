"""A graph cut into parts that the machine and the host compute by turns."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle

from accel.network.graph import Graph
from accel.network.nodes import Constant, HostOperator, Node, Reshape
from accel.network.nodes.host import FUNCTION_DOMAIN, TFLITE_DOMAIN, TFLITE_REASON
from accel.program.parts import HOST, MACHINE
from compiler.lower.registry import LOWERINGS

PRODUCTS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
NOTHING_TO_DO = "bookkeeping: the same bytes under another shape"
"""Why the host keeps an operation of which the machine's units would have nothing."""
CONTROL_MACS = {
    "If": "; MACs are those of its larger branch",
    "Loop": "; MACs are those of all turns, or of one if their number is not constant",
}
"""What is counted of operators whose work depends on values."""


@dataclass(frozen=True, eq=False)
class Part:
    """Nodes that machine or host compute without a break.

    Parameters
    ----------
    unit : str
        `MACHINE` or `HOST`.
    graph : Graph
        The nodes; its inputs are what they read of others, its outputs what others and the user want of them.
    """

    unit: str
    graph: Graph


def host_reasons(graph: Graph, refused: Mapping[str, str]) -> dict[str, str]:
    """Names of the nodes that the host computes, and why it does; `refused` are known to have no place elsewhere."""
    why = {node.name: _reason(node) for node in graph.nodes if type(node) not in LOWERINGS}
    why |= refused
    sources = {name: node.name for node in graph.nodes for name in node.outputs}
    for node in graph.nodes:
        if isinstance(node, Reshape) and sources.get(node.inputs[0]) in why:
            why[node.name] = NOTHING_TO_DO
    for node in reversed(graph.nodes):
        consumers = graph.consumers(node.output)
        if isinstance(node, Reshape) and all(after.name in why for after in consumers):
            why[node.name] = NOTHING_TO_DO
    return why


def _reason(node: Node) -> str:
    """Why no unit computes a node of which the machine has none."""
    if not isinstance(node, HostOperator):
        return f"no unit computes {node.label}"
    if node.domain == TFLITE_DOMAIN:
        reason = node.attributes.get(TFLITE_REASON)
        return f"no unit computes {node.label}" + (f": {reason}" if reason else "")
    computed = node.op_type in PRODUCTS and set(node.arguments[:2]) <= {*node.inputs}
    counted = CONTROL_MACS.get(node.op_type, "") if node.domain == FUNCTION_DOMAIN else ""
    return f"no unit computes {node.label}" + " of two activations: weights are constants" * computed + counted


def partition(graph: Graph, why: Mapping[str, str]) -> tuple[Part, ...]:
    """Cut a graph so that machine and host take turns as rarely as possible.

    Parameters
    ----------
    graph : Graph
    why : mapping of str to str
        `host_reasons`.

    Notes
    -----
    Whoever has its turn computes all that is ready, constants aside: they belong to all who read them.
    """
    groups = min((_take_turns(graph, why, turns) for turns in ((MACHINE, HOST), (HOST, MACHINE))), key=len)
    groups = _with_constants(graph, groups)
    made = [{name for node in nodes for name in node.outputs} for _, nodes in groups]
    read = [
        {name for node in nodes for name in node.inputs} - own for (_, nodes), own in zip(groups, made, strict=True)
    ]
    wanted = set(graph.outputs).union(*read)
    parts, delivered = list[Part](), set[str]()
    for (unit, nodes), own, needed in zip(groups, made, read, strict=True):
        first = unit == MACHINE and all(part.unit == HOST for part in parts)
        inputs = [t for t in graph.inputs if t in needed or (first and graph.tensors[t].dtype == "int8")]
        inputs += [name for node in graph.nodes for name in node.outputs if name in needed]
        outputs = [name for node in nodes for name in node.outputs if name in wanted - delivered]
        delivered |= own
        parts.append(Part(unit, subgraph(graph, nodes, inputs or graph.inputs, outputs or sorted(own))))
    return tuple(parts)


def subgraph(graph: Graph, nodes: Sequence[Node], inputs: Sequence[str], outputs: Sequence[str]) -> Graph:
    """Some nodes of a graph as a graph of their own."""
    names = {*inputs, *(name for node in nodes for name in node.outputs)}
    tensors = {name: tensor for name, tensor in graph.tensors.items() if name in names}
    return Graph(graph.name, graph.mode, tensors, tuple(nodes), tuple(inputs), tuple(outputs))


_Group = tuple[str, list[Node]]
"""A unit and what it computes in one turn."""


def _take_turns(graph: Graph, why: Collection[str], turns: tuple[str, str]) -> list[_Group]:
    """All nodes but constants, in turns of the two units."""
    known = {*graph.inputs, *(node.output for node in graph.nodes if isinstance(node, Constant))}
    waiting = [node for node in graph.nodes if not isinstance(node, Constant)]
    groups, units = list[_Group](), cycle(turns)
    while waiting:
        unit = next(units)
        mine, others = list[Node](), list[Node]()
        for node in waiting:
            ready = (node.name in why) == (unit == HOST) and known.issuperset(node.inputs)
            (mine if ready else others).append(node)
            known.update(node.outputs if ready else ())
        if mine:
            groups.append((unit, mine))
        waiting = others
    return groups


def _with_constants(graph: Graph, groups: list[_Group]) -> list[_Group]:
    """The groups with the constants that they read, and those that the user wants in the machine's first group.

    The host keeps what it knows, so that one of its groups is enough for a constant.
    """
    constants = [node for node in graph.nodes if isinstance(node, Constant)]
    if not constants:
        return groups
    groups = groups or [(MACHINE, [])]
    home = next((i for i, (unit, _) in enumerate(groups) if unit == MACHINE), 0)
    result, at_host = list[_Group](), set[str]()
    for index, (unit, nodes) in enumerate(groups):
        reads = {name for node in nodes for name in node.inputs}
        mine = {node.name for node in nodes} | {c.name for c in constants if c.output in reads - at_host}
        if index == home:
            elsewhere = {name for _, others in groups for node in others for name in node.inputs} - set(graph.outputs)
            mine |= {c.name for c in constants if c.output not in elsewhere}
        if unit == HOST:
            at_host |= {c.output for c in constants if c.name in mine}
        result.append((unit, [node for node in graph.nodes if node.name in mine]))
    return result
