"""Graph to layers: choose the unit of every node, and leave to the host what has none."""

from __future__ import annotations

from accel.errors import CompileError
from accel.machine.config import ArchConfig
from accel.machine.layout import hwc
from accel.network.graph import Graph
from accel.program.program import OperatorInfo
from compiler.lower.fold_pads import fold_pads
from compiler.lower.host import boundary, host_graph, host_nodes
from compiler.lower.layers import Network
from compiler.lower.movement import Movement
from compiler.lower.registry import LOWERINGS, is_movement
from compiler.lower.scope import Scope


def lower(graph: Graph, config: ArchConfig) -> Network:
    """Lower a graph for a machine.

    Parameters
    ----------
    graph : Graph
    config : ArchConfig

    Returns
    -------
    Network

    Raises
    ------
    CompileError
        The machine lacks the graph's requantization mode.
    """
    if graph.mode not in config.requant_modes:
        raise CompileError(
            f"config {config.name!r} must have {str(graph.mode)!r} in requant_modes to run this graph, "
            f"got {', '.join(config.requant_modes)}"
        )
    whole, graph = graph, fold_pads(graph)
    host = host_nodes(graph)
    outputs = boundary(graph, host)
    movement = Movement(graph, config.rows, set(outputs), set(host), is_movement)
    scope, operators = Scope(graph, config, movement), list[OperatorInfo]()
    nodes = {node.name: node for node in graph.nodes}
    for original in whole.nodes:
        node = nodes.get(original.name)
        if node is None:
            unit, why = "none", "the padding of the convolutions that follow"
        elif node.name in host:
            unit, why = "host", host[node.name]
        else:
            layers, unit, why = LOWERINGS[type(node)](scope, node)
            scope.layers += layers
        operators.append(OperatorInfo(original.name, original.op, unit, why, whole.macs(original)))
    if not scope.layers:
        raise CompileError(f"graph {graph.name!r} must have at least one node that runs on the machine")
    inputs = {name: hwc(graph.tensors[name].shape) for name in graph.inputs}
    return Network(
        layers=tuple(scope.layers),
        aliases=movement.aliases,
        inputs=inputs | {name: hwc(value.shape) for name, value in movement.constants.items()},
        outputs=outputs,
        host=host_graph(graph, host, outputs),
        operators=tuple(operators),
        places=movement.places,
        wholes=movement.wholes,
        constants=movement.constants,
    )
