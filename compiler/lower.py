"""Graph to layers: choose the unit of every node, fold zero points into biases, leave the tail to the host."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from accel.config import ArchConfig
from accel.errors import CompileError
from accel.graph import Graph
from accel.isa import Mode, Reduce
from accel.layout import Hwc, hwc
from accel.nodes import (
    Add,
    AveragePool2d,
    Clamp,
    Conv2d,
    FullyConnected,
    MaxPool2d,
    Mean,
    Node,
    Pool2d,
    Reshape,
    Softmax,
)
from compiler.layers import IDENTITY, ArrayLayer, Network, Record, Region, VectorLayer, Window


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
    host = _host_nodes(graph)
    aliases: dict[str, str] = {}
    layers = []
    for node in graph.nodes:
        if node.name in host:
            continue
        if isinstance(node, Reshape):
            aliases[node.output] = aliases.get(node.inputs[0], node.inputs[0])
        else:
            layers.append(_lower_node(graph, config, node, aliases))
    if not layers:
        raise CompileError(f"graph {graph.name!r} must have at least one node that runs on the machine")
    outputs = _boundary(graph, host)
    inputs = {name: hwc(graph.tensors[name].shape) for name in graph.inputs}
    return Network(tuple(layers), aliases, inputs, outputs, _host_graph(graph, host, outputs))


def _host_nodes(graph: Graph) -> set[str]:
    """Softmax and reshape nodes from which only such nodes follow."""
    host: set[str] = set()
    for node in reversed(graph.nodes):
        followed = all(consumer.name in host for consumer in graph.consumers(node.output))
        if isinstance(node, (Softmax, Reshape)) and followed:
            host.add(node.name)
        elif isinstance(node, Softmax):
            raise CompileError(f"Softmax {node.name!r} must be at the end of the graph: the host computes it")
        elif isinstance(node, Reshape):
            _check_reshape(graph, node)
    return host


def _check_reshape(graph: Graph, node: Reshape) -> None:
    """A reshape within the network must not move data: it feeds fully-connected nodes, or keeps (h, w, c)."""
    same = hwc(graph.tensors[node.inputs[0]].shape) == hwc(node.shape)
    if not same and not all(isinstance(c, (FullyConnected, Reshape)) for c in graph.consumers(node.output)):
        raise CompileError(
            f"Reshape {node.name!r} must feed fully-connected nodes or the host, or keep height, width and channels, "
            f"got {graph.tensors[node.inputs[0]].shape} to {node.shape}"
        )


def _boundary(graph: Graph, host: set[str]) -> tuple[str, ...]:
    """Tensors that the machine must deliver: what the host reads or the user wants."""
    made = [node.output for node in graph.nodes if node.name not in host] + list(graph.inputs)
    needed = set(graph.outputs)
    for node in graph.nodes:
        if node.name in host:
            needed.update(node.inputs)
    return tuple(name for name in made if name in needed)


def _host_graph(graph: Graph, host: set[str], inputs: tuple[str, ...]) -> Graph | None:
    if not host:
        return None
    nodes = tuple(node for node in graph.nodes if node.name in host)
    names = {*inputs, *(node.output for node in nodes)}
    tensors = {name: tensor for name, tensor in graph.tensors.items() if name in names}
    return Graph(f"{graph.name}_host", graph.mode, tensors, nodes, inputs, graph.outputs)


def _lower_node(graph: Graph, config: ArchConfig, node: Node, aliases: dict[str, str]) -> ArrayLayer | VectorLayer:
    if isinstance(node, (Conv2d, FullyConnected)):
        return _lower_weighted(graph, node, aliases)
    if isinstance(node, (Pool2d, Mean, Add, Clamp)):
        return _lower_vector(graph, config, node, aliases)
    raise CompileError(f"{node.op} {node.name!r} has no place on the machine")


def _value_shape(graph: Graph, name: str, aliases: dict[str, str]) -> Hwc:
    return hwc(graph.tensors[aliases.get(name, name)].shape)


def _lower_weighted(graph: Graph, node: Conv2d | FullyConnected, aliases: dict[str, str]) -> ArrayLayer:
    shape = _value_shape(graph, node.inputs[0], aliases)
    zero_point = graph.tensors[node.inputs[0]].zero_point
    if isinstance(node, Conv2d):
        weight, groups = node.weight, node.groups
        window = Window(node.kernel, node.stride, node.padding[:2], node.dilation)
    else:
        weight, groups = node.weight.reshape(-1, *shape), 1
        window = Window(kernel=shape[:2])
    sums = weight.reshape(len(weight), -1).astype(np.int64).sum(axis=1)
    biases = (node.bias.astype(np.int64) - zero_point * sums).astype(np.int32)
    columns = (biases.tolist(), node.multiplier.tolist(), node.shift.tolist())
    return ArrayLayer(
        name=node.name,
        op=node.op,
        inputs=(aliases.get(node.inputs[0], node.inputs[0]),),
        output=node.output,
        input_shape=shape,
        output_shape=hwc(graph.tensors[node.output].shape),
        window=window,
        mode=Mode[graph.mode.upper()],
        zero_point=graph.tensors[node.output].zero_point,
        act_min=node.act_min,
        act_max=node.act_max,
        weight=weight,
        records=tuple(zip(*columns, strict=True)),
        pad_value=zero_point,
        groups=groups,
    )


def _lower_vector(
    graph: Graph, config: ArchConfig, node: Pool2d | Mean | Add | Clamp, aliases: dict[str, str]
) -> VectorLayer:
    output_shape = hwc(graph.tensors[node.output].shape)
    mode, window, zero_point, left_shift = Mode[graph.mode.upper()], Window(), 0, 0
    operands = ((0, *IDENTITY[1:]), (0, *IDENTITY[1:]))
    regions: tuple[Region, ...] = (Region(0, output_shape[0], 0, output_shape[1], IDENTITY),)
    if isinstance(node, (Pool2d, Mean)):
        window = Window(node.kernel, node.stride, node.padding[:2])
    if isinstance(node, AveragePool2d):
        mode, regions = _mean_regions(node, config, hwc(graph.tensors[node.inputs[0]].shape), output_shape)
    if isinstance(node, Mean):
        zero_point = graph.tensors[node.output].zero_point
        operands = ((graph.tensors[node.inputs[0]].zero_point, *IDENTITY[1:]),) * 2
        regions = (Region(0, output_shape[0], 0, output_shape[1], (0, node.multiplier, node.shift)),)
    if isinstance(node, Add):
        points = [graph.tensors[name].zero_point for name in node.inputs]
        operands = ((points[0], *node.operand0), (points[1], *node.operand1))
        left_shift, zero_point = node.left_shift, graph.tensors[node.output].zero_point
        regions = (Region(0, output_shape[0], 0, output_shape[1], (0, node.multiplier, node.shift)),)
    return VectorLayer(
        name=node.name,
        op=node.op,
        inputs=tuple(aliases.get(name, name) for name in node.inputs),
        output=node.output,
        input_shape=_value_shape(graph, node.inputs[0], aliases),
        output_shape=output_shape,
        window=window,
        mode=mode,
        zero_point=zero_point,
        act_min=node.act_min,
        act_max=node.act_max,
        reduce=Reduce.MAX if isinstance(node, MaxPool2d) else Reduce.SUM,
        operands=operands,
        left_shift=left_shift,
        regions=regions,
    )


def _mean_regions(
    node: AveragePool2d, config: ArchConfig, shape: Hwc, output_shape: Hwc
) -> tuple[Mode, tuple[Region, ...]]:
    """Split the output where the number of valid taps changes; each part divides by its own count."""
    window = Window(node.kernel, node.stride, node.padding[:2])
    runs = []
    for axis in (0, 1):
        spans = [window.span(axis, i, i + 1, shape[axis]) for i in range(output_shape[axis])]
        counts = [high - low for low, high in spans]
        edges = [i for i in range(len(counts)) if i == 0 or counts[i] != counts[i - 1]] + [len(counts)]
        runs.append([(first, last, counts[first]) for first, last in pairwise(edges)])
    mode = _mean_mode(node, config)
    return mode, tuple(
        Region(y0, y1, x0, x1, mean_record(ny * nx, mode)) for y0, y1, ny in runs[0] for x0, x1, nx in runs[1]
    )


def _mean_mode(node: AveragePool2d, config: ArchConfig) -> Mode:
    for mode in (Mode.SINGLE, Mode.TFLITE):
        if mode.name.lower() in config.requant_modes:
            return mode
    raise CompileError(
        f"AveragePool2d {node.name!r} needs requantization mode 'single' or 'tflite' in requant_modes of the config"
    )


def mean_record(count: int, mode: Mode) -> Record:
    """Record that divides a sum of `count` int8 by `count`, rounding half away from zero.

    Notes
    -----
    The multiplier is the smallest above 1 / count, so that a tie, positive or negative, falls just beyond one half and
    rounds away from zero; every other sum is at least 1 / (2 count) away from a tie, more than the excess (at most
    count^2 * 2^-24 with shift 0, 2^-23 with a normalised multiplier).

    Raises
    ------
    CompileError
        `tflite` rounds twice unless the shift is 0, which is exact up to a count of 2,895 only.
    """
    if count == 1:
        return IDENTITY
    if mode is Mode.TFLITE:
        if count > 2895:
            raise CompileError(
                f"average over {count} taps needs requantization mode 'single' in the config's requant_modes"
            )
        return 0, (1 << 31) // count + 1, 0
    exponent = (count - 1).bit_length() - 1
    return 0, (1 << (31 + exponent)) // count + 1, -exponent
