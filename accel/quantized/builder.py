"""Collecting tensors and nodes of a graph whose source has other shapes, names and repeated parameters."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from accel.errors import ModelError
from accel.machine.numerics import RequantMode
from accel.network.array_layout import ArrayLayout
from accel.network.graph import Graph, Tensor
from accel.network.nodes import (
    Broadcast,
    Constant,
    Dequantize,
    HostOperator,
    Node,
    Quantize,
    Rearrange,
    Reshape,
    Table,
    Weighted,
)
from accel.network.windows import Shape

LARGEST_TENSOR = 2**27
"""Elements of an activation; larger ones are refused rather than computed."""
LARGEST_AXIS = 2**16
MOST_NODES = 2**14
IDENTITY_TABLE = np.arange(-128, 128, dtype=np.int8)

Parameters = tuple[float, int]
"""Scale and zero point."""


def canonical(shape: Shape) -> Shape:
    """The shape under which a graph holds a tensor: ``(1, features)`` or ``(1, height, width, channels)``.

    Row-major order stays: a tensor of rank 3, or 2 with several rows, gets axes of size 1 in front.

    Raises
    ------
    ModelError
        The tensor has more than four axes, a batch, or is empty or too large.
    """
    if any(size < 0 for size in shape):
        raise ModelError(f"tensor sizes must be known, got {shape!r}; export the model with fixed sizes")
    if 0 in shape:
        raise ModelError(f"tensor must have elements, got shape {shape!r}; remove what computes nothing")
    if math.prod(shape) > LARGEST_TENSOR:
        raise ModelError(f"tensor must have at most {LARGEST_TENSOR} elements, got shape {shape!r}")
    if any(size > LARGEST_AXIS for size in shape[:-1]):
        raise ModelError(f"tensor must have at most {LARGEST_AXIS} elements along all but its last axis, got {shape!r}")
    if len(shape) < 2:
        return (1, math.prod(shape))
    if len(shape) == 2 and shape[0] == 1:
        return shape
    full = (1,) * (4 - len(shape)) + shape
    if len(full) != 4 or full[0] != 1:
        raise ModelError(f"tensor must have at most four axes and batch size 1, got shape {shape!r}")
    return full


def image_shape(shape: Shape) -> Shape:
    """`shape` with four axes: features are channels of one pixel."""
    return shape if len(shape) == 4 else (1, 1, 1, shape[1])


class Port(NamedTuple):
    """An input or output of a model: the graph's tensor, and the model's own name, layout and type for it."""

    value: str
    name: str
    layout: ArrayLayout
    unsigned: bool = False


@dataclass
class GraphBuilder:
    """A graph in the making."""

    mode: RequantMode
    tensors: dict[str, Tensor] = field(default_factory=dict)
    nodes: list[Node] = field(default_factory=list)
    owners: dict[str, str] = field(default_factory=dict)
    """The operator of each node, by the node's name."""
    operator: str = ""
    """The source's operator that is being translated: nodes are named after it."""

    def declare(self, name: str, shape: Shape, parameters: Parameters, *, unsigned: bool = False) -> str:
        """Add a tensor under `name`, or a similar name if that is taken; returns the name."""
        if math.prod(shape) > LARGEST_TENSOR:
            raise ModelError(f"tensor {name!r} must have at most {LARGEST_TENSOR} elements, got shape {shape!r}")
        free = free_name(name, self.tensors)
        self.tensors[free] = Tensor(free, shape, *parameters, unsigned)
        self.tensors[free].check()
        return free

    def emit(self, kind: type[Node], inputs: Sequence[str], parameters: Parameters, name: str, **fields: Any) -> str:
        """Add a node whose output has `parameters`; returns the output's name, which begins with `name`."""
        if len(self.nodes) >= MOST_NODES:
            raise ModelError(f"model must have at most {MOST_NODES} operations; split it")
        output = free_name(name, self.tensors)
        node = kind(name=self.node_name(kind), inputs=tuple(inputs), output=output, **fields)
        node.check()
        self.declare(output, node.output_shape(*(self.shape(value) for value in inputs)), parameters)
        self.nodes.append(node)
        return output

    def free(self, name: str) -> str:
        """`name`, or a similar name if that is taken."""
        return free_name(name, self.tensors)

    def add(self, node: Node, results: Sequence[Tensor]) -> None:
        """Add a node of the host with its results."""
        node.check()
        for tensor in results:
            tensor.check()
            self.tensors[tensor.name] = tensor
        self.nodes.append(node)

    def host(self, kind: type[Node], source: str, name: str, shape: Shape) -> str:
        """Add a node that makes real numbers of a tensor; returns their name."""
        result = Tensor(self.free(name), shape, 1.0, 0, dtype="float32")
        self.add(kind(name=self.node_name(kind), inputs=(source,), output=result.name), [result])
        return result.name

    def node_name(self, kind: type[Node]) -> str:
        """A name for a node of the operator; `finish` gives the operator's own name to the one that does its work."""
        name = free_name(f"{self.operator} {kind.__name__}", self.owners)
        self.owners[name] = self.operator
        return name

    def shape(self, value: str) -> Shape:
        """Shape of a tensor."""
        return self.tensors[value].shape

    def parameters(self, value: str) -> Parameters:
        """Scale and zero point of a tensor."""
        return self.tensors[value].parameters

    def reinterpret(self, value: str, parameters: Parameters) -> str:
        """The same integers under other parameters."""
        if self.parameters(value) == parameters:
            return value
        return self.emit(Table, [value], parameters, f"{value}_as", table=IDENTITY_TABLE)

    def reshape(self, value: str, shape: Shape, name: str = "") -> str:
        """The same elements under another shape."""
        if self.shape(value) == shape:
            return value
        return self.emit(Reshape, [value], self.parameters(value), name or f"{value}_shaped", shape=shape)

    def broadcast(self, value: str, shape: Shape) -> str:
        """`value` with axes of size 1 repeated to `shape`."""
        value = self.reshape(value, image_shape(self.shape(value))) if len(shape) == 4 else value
        if self.shape(value) == shape:
            return value
        return self.emit(Broadcast, [value], self.parameters(value), f"{value}_repeated", shape=shape)

    def constant(self, value: NDArray[np.int8], parameters: Parameters, name: str) -> str:
        """A tensor of known integers."""
        shape = image_shape(canonical(value.shape))
        return self.emit(Constant, [], parameters, name, value=value.reshape(shape))

    def known(self, value: NDArray[Any], name: str) -> str:
        """A constant of the host, which an output needs."""
        result = Tensor(self.free(name), value.shape, 1.0, 0, dtype=value.dtype.name)
        fields: dict[str, Any] = {"op_type": "Identity", "opset": 13, "arguments": ("value",)}
        fields["constants"] = {"value": value}
        self.add(HostOperator(name=self.node_name(HostOperator), inputs=(), output=result.name, **fields), [result])
        return result.name

    def finish(self, name: str, inputs: Sequence[Port], outputs: Sequence[Port]) -> Graph:
        """The graph without what its outputs do not need; inputs and outputs have the model's names, order and layouts.

        Notes
        -----
        An output that is an input under another name, or listed twice, is copied: a tensor has one name.
        """
        ports = list(inputs)
        for port in outputs:
            value = port.value
            listed = any(value == other.value for other in ports[len(inputs) :])
            if listed or any(value == other.value and port.name != other.name for other in inputs):
                self.operator = port.name
                value = self._copy(value)
            ports.append(port._replace(value=value))
        given, returned = [port.value for port in inputs], [port.value for port in ports[len(inputs) :]]
        needed = {*given, *returned}
        nodes: list[Node] = []
        for node in reversed(self.nodes):
            if needed.intersection(node.outputs):
                needed.update(node.inputs, node.outputs)
                nodes.append(node)
        nodes.reverse()
        names, node_names = self._names(ports, needed), own_names(nodes, self.owners)
        tensors = {
            names[key]: replace(tensor, name=names[key]) for key, tensor in self.tensors.items() if key in needed
        }
        for port in ports:
            tensor = tensors[names[port.value]]
            tensors[tensor.name] = replace(tensor, source=port.layout, unsigned=tensor.unsigned or port.unsigned)
        renamed = (replace(renamed_node(node, names), name=node_names[node.name]) for node in nodes)
        inputs_named, outputs_named = (tuple(names[key] for key in keys) for keys in (given, returned))
        return Graph(name, self.mode, tensors, tuple(renamed), inputs_named, outputs_named)

    def _copy(self, value: str) -> str:
        """The same elements under another name."""
        name = f"{value}_copy"
        if (tensor := self.tensors[value]).dtype == "int8":
            return self.emit(Table, [value], tensor.parameters, name, table=IDENTITY_TABLE)
        copy = replace(tensor, name=self.free(name))
        fields: dict[str, Any] = {"op_type": "Identity", "opset": 13, "arguments": (value,)}
        self.add(HostOperator(name=self.node_name(HostOperator), inputs=(value,), output=copy.name, **fields), [copy])
        return copy.name

    def _names(self, ports: Sequence[Port], needed: Collection[str]) -> dict[str, str]:
        """The name of every tensor in the finished graph: the model's for its inputs and outputs, distinct for all."""
        names, taken = dict[str, str](), set[str]()
        for value, name in [*((port.value, port.name) for port in ports), *((key, key) for key in self.tensors)]:
            if value in needed and value not in names:
                names[value] = free_name(name, taken)
                taken.add(names[value])
        return names


AUXILIARY = (Broadcast, Constant, Dequantize, Quantize, Rearrange, Reshape)
"""What other work needs before or after it."""


def own_names(nodes: Sequence[Node], owners: Mapping[str, str]) -> dict[str, str]:
    """Final names of nodes: the one that does an operator's work has the operator's, the others say what they do."""
    groups: dict[str, list[Node]] = {}
    for node in nodes:
        groups.setdefault(owners.get(node.name, node.name), []).append(node)
    main = {op: max(group, key=lambda node: _work(node, group)).name for op, group in groups.items() if op}
    names, taken = {name: op for op, name in main.items()}, set(main)
    for op, group in groups.items():
        for node in group:
            if node.name not in names:
                names[node.name] = free_name(f"{op}_{node.label.lower()}" if op else node.label.lower(), taken)
                taken.add(names[node.name])
    return names


def _work(node: Node, group: Sequence[Node]) -> tuple[bool, bool, int]:
    """Order of the nodes of an operator by how much they are its work."""
    moves = isinstance(node, AUXILIARY) or (isinstance(node, HostOperator) and node.op_type in ("Reshape", "Transpose"))
    return isinstance(node, Weighted), not moves, group.index(node)


def renamed_node(node: Node, names: Mapping[str, str]) -> Node:
    """A node with its tensors under other names."""
    inputs, outputs = (tuple(names[key] for key in keys) for keys in (node.inputs, node.outputs))
    if not isinstance(node, HostOperator):
        return replace(node, inputs=inputs, output=outputs[0])
    arguments = tuple(names[key] if key in node.inputs else key for key in node.arguments)
    return replace(node, inputs=inputs, output=outputs[0], more_outputs=outputs[1:], arguments=arguments)


def free_name(name: str, taken: Collection[str]) -> str:
    """`name`, or with a number behind it if that is taken."""
    free, number = name or "tensor", 1
    while free in taken:
        free, number = f"{name or 'tensor'}_{number}", number + 1
    return free
