"""Graph to layers: choose the unit of every node."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import NamedTuple

from accel.errors import CompileError
from accel.machine.config import ArchConfig
from accel.machine.layout import hwc
from accel.network.graph import Graph, Node
from accel.program.parts import HOST, MACHINE, OperatorInfo
from compiler.lower.fold_pads import fold_pads
from compiler.lower.layers import AnyLayer, Network
from compiler.lower.movement import Movement
from compiler.lower.packing import pack_columns
from compiler.lower.partition import NOTHING_TO_DO, Part, host_reasons, partition
from compiler.lower.pool_packing import pack_before_pools
from compiler.lower.registry import LOWERINGS, is_movement
from compiler.lower.scope import Scope
from compiler.lower.wide_windows import narrow_windows


class LoweredPart(NamedTuple):
    """A part of a network, and its layers if the machine computes it."""

    part: Part
    network: Network | None


class LoweredGraph(NamedTuple):
    """The parts of a network in order, and where each of its operators runs."""

    parts: tuple[LoweredPart, ...]
    operators: tuple[OperatorInfo, ...]

    @property
    def networks(self) -> list[Network]:
        """What the machine computes, in order."""
        return [network for _, network in self.parts if network is not None]

    @property
    def layers(self) -> list[AnyLayer]:
        """Those of all networks."""
        return [layer for network in self.networks for layer in network.layers]


def lower_graph(graph: Graph, config: ArchConfig, refused: Mapping[str, str] = MappingProxyType({})) -> LoweredGraph:
    """Cut a network into what machine and host compute by turns, and lower the machine's parts.

    Parameters
    ----------
    graph : Graph
    config : ArchConfig
    refused : mapping of str to str
        Names of nodes that were refused with a `NoPlaceError` before, and why: the host computes them.

    Raises
    ------
    CompileError
        The machine lacks the graph's requantization mode.
    NoPlaceError
        The machine cannot compute a node.
    """
    why = host_reasons(graph, refused)
    while True:
        parts = [
            LoweredPart(part, lower(part.graph, config) if part.unit == MACHINE else None)
            for part in partition(graph, why)
        ]
        idle = [part for part, network in parts if network is not None and not network.layers]
        if not idle:
            break
        why |= {node.name: NOTHING_TO_DO for part in idle for node in part.graph.nodes}
    known = {operator.name: operator for _, network in parts if network for operator in network.operators}
    operators = (known.get(node.name) or _on_host(graph, node, why) for node in graph.nodes)
    return LoweredGraph(tuple(parts), tuple(operators))


def _on_host(graph: Graph, node: Node, why: Mapping[str, str]) -> OperatorInfo:
    return OperatorInfo(node.name, node.label, HOST, why.get(node.name, "only the host reads it"), graph.macs(node))


def lower(graph: Graph, config: ArchConfig) -> Network:
    """Lower a graph of which the machine computes every node.

    Parameters
    ----------
    graph : Graph
        A part of a network (`compiler.lower.partition`).
    config : ArchConfig

    Returns
    -------
    Network

    Raises
    ------
    CompileError
        The machine lacks the graph's requantization mode.
    NoPlaceError
        It cannot compute a node.
    """
    if graph.mode not in config.requant_modes:
        raise CompileError(
            f"config {config.name!r} must have {str(graph.mode)!r} in requant_modes to run this graph, "
            f"got {', '.join(config.requant_modes)}"
        )
    whole, (graph, windows) = graph, narrow_windows(fold_pads(graph))
    movement = Movement(graph, config.rows, set(graph.outputs), is_movement)
    scope, placed = Scope(graph, config, movement), dict[str, tuple[str, str]]()
    for node in graph.nodes:
        layers, unit, why = LOWERINGS[type(node)](scope, node)
        scope.layers += [replace(layer, name=windows.get(node.name, node.name)) for layer in layers]
        placed[node.name] = unit, why
    nowhere = ("none", "the padding of the convolutions that follow")
    operators = [
        OperatorInfo(node.name, node.label, *placed.get(node.name, nowhere), whole.macs(node)) for node in whole.nodes
    ]
    inputs = {name: hwc(graph.tensors[name].shape) for name in graph.inputs}
    network = Network(
        layers=tuple(scope.layers),
        aliases=movement.aliases,
        inputs=inputs | {name: hwc(value.shape) for name, value in movement.constants.items()},
        outputs=graph.outputs,
        operators=tuple(operators),
        places=movement.places,
        wholes=movement.wholes,
        constants=movement.constants,
    )
    return pack_before_pools(pack_columns(network, config), config)
