"""Graph to layers: choose the unit of every node, and leave to the host what has none."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from accel.errors import CompileError
from accel.machine.config import ArchConfig
from accel.machine.layout import hwc
from accel.network.graph import Graph
from accel.network.nodes import Clamp, Conv2d, FullyConnected, Node, ResizeBilinear, Table, TransposeConv2d
from accel.program.program import OperatorInfo
from compiler.lower.fold_pads import fold_pads
from compiler.lower.host import boundary, host_graph, host_nodes
from compiler.lower.interpolation import lower_interpolation
from compiler.lower.layers import AnyLayer, DepthwiseLayer, MoveLayer, Network
from compiler.lower.movement import MOVEMENT, Movement
from compiler.lower.scope import Scope
from compiler.lower.transpose_conv import lower_transpose_conv
from compiler.lower.vector import VECTOR_FIELDS, lower_vector
from compiler.lower.weighted import lower_weighted


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
        The machine lacks the graph's requantization mode, or a node has no place on it.
    """
    if graph.mode not in config.requant_modes:
        raise CompileError(
            f"config {config.name!r} must have {str(graph.mode)!r} in requant_modes to run this graph, "
            f"got {', '.join(config.requant_modes)}"
        )
    whole, graph = graph, fold_pads(graph)
    host = host_nodes(graph)
    outputs = boundary(graph, host)
    movement = Movement(graph, config.rows, set(outputs), set(host))
    scope, layers, operators = Scope(graph, config, movement.aliases), list[AnyLayer](), list[OperatorInfo]()
    nodes = {node.name: node for node in graph.nodes}
    for original in whole.nodes:
        node = nodes.get(original.name)
        if node is None:
            unit, why = "none", "the padding of the convolutions that follow"
        elif node.name in host:
            unit, why = "host", host[node.name]
        else:
            unit, why = _place(scope, movement, layers, node, outputs)
        operators.append(OperatorInfo(original.name, original.op, unit, why))
    if not layers:
        raise CompileError(f"graph {graph.name!r} must have at least one node that runs on the machine")
    inputs = {name: hwc(graph.tensors[name].shape) for name in graph.inputs}
    return Network(
        layers=tuple(layers),
        aliases=movement.aliases,
        inputs=inputs | {name: hwc(value.shape) for name, value in movement.constants.items()},
        outputs=outputs,
        host=host_graph(graph, host, outputs),
        operators=tuple(operators),
        places=movement.places,
        wholes=movement.wholes,
        constants=movement.constants,
    )


def _place(
    scope: Scope, movement: Movement, layers: list[AnyLayer], node: Node, outputs: tuple[str, ...]
) -> tuple[str, str]:
    """Add the layers of a node; returns the unit that runs it, and why."""
    if isinstance(node, MOVEMENT):
        added, unit, why = movement.lower(node)
        layers += added
        return unit, why
    if isinstance(node, TransposeConv2d):
        phases, places = lower_transpose_conv(scope, node)
        movement.add_parts(node, places)
        layers += phases
        return "array", f"sums of products, a convolution for each of {len(phases)} interleaved parts"
    if isinstance(node, (Clamp, Table)) and (host := _fuse(scope, layers, node, outputs)):
        return "post", f"with the results of {host}"
    if isinstance(node, (Conv2d, FullyConnected)):
        layers.append(lower_weighted(scope, node))
        alone = isinstance(layers[-1], DepthwiseLayer)
        return layers[-1].unit, "sums of products of each channel alone" if alone else "sums of products"
    if isinstance(node, ResizeBilinear):
        layers.append(lower_interpolation(scope, node))
        return layers[-1].unit, "weighted means of neighbouring pixels"
    if type(node) in VECTOR_FIELDS:
        layer = lower_vector(scope, node)
        layers.append(layer)
        return layer.unit, "element by element" if layer.window.kernel == (1, 1) else "taps of a window"
    raise CompileError(f"{node.op} {node.name!r} has no place on the machine")


def _fuse(scope: Scope, layers: list[AnyLayer], node: Clamp | Table, outputs: tuple[str, ...]) -> str | None:
    """Let the layer that makes the node's input apply the node too; its name, or None if that cannot be done."""
    source = node.inputs[0]
    makers = [i for i, layer in enumerate(layers) if layer.output == source]
    if len(makers) != 1 or source in outputs or len(scope.graph.consumers(source)) > 1:
        return None
    layer = layers[makers[0]]
    if isinstance(layer, MoveLayer):
        return None
    table = layer.table
    low, high = layer.act_min, layer.act_max
    if isinstance(node, Table):
        table = node.table if table is None else node.table[table.astype(np.int64) + 128]
    elif table is not None:
        table = table.clip(node.act_min, node.act_max)
    else:
        low, high = min(max(low, node.act_min), node.act_max), max(min(high, node.act_max), node.act_min)
    layers[makers[0]] = replace(layer, output=node.output, table=table, act_min=low, act_max=high)
    return layer.name
