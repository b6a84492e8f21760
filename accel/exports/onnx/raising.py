"""From an integer graph back to a quantized network in ONNX's vocabulary: the inverse of `accel.quantized.lower`.

Images of the graph (1, height, width, channels) are (1, channels, height, width) in the network; other tensors keep
their shapes. Inputs and outputs have the shapes and axes of the model that the graph was read from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accel.exports.inexpressible import InexpressibleError
from accel.exports.onnx import bodies, steps
from accel.exports.onnx.pairs import without_pairs
from accel.exports.onnx.steps import Step
from accel.network.array_layout import ArrayLayout
from accel.network.graph import Graph, Tensor
from accel.network.nodes import Clamped, HostOperator, Node, Weighted
from accel.network.windows import Shape
from accel.quantized.builder import free_name
from accel.quantized.network import Network, Operator, Quantization, TensorInfo

OPSET = 17
"""Version of ONNX's operators, unless a function or an operator of the host needs another."""
INT4_OPSET = 21
"""First version that knows integers of 4 bits."""


@dataclass
class Raising:
    """The network in the making; `names` says which of its tensors holds a tensor of the graph."""

    graph: Graph
    opset: int
    notes: list[str] = field(default_factory=list)
    operators: list[Operator] = field(default_factory=list)
    tensors: dict[str, TensorInfo] = field(default_factory=dict)
    parameters: dict[str, Quantization] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)

    def shape(self, name: str) -> Shape:
        """The network's shape of a tensor of the graph."""
        shape = self.graph.tensors[name].shape
        return steps.after(steps.transpose(steps.TO_CHANNELS_FIRST), shape) if self.is_image(name) else shape

    def is_image(self, name: str) -> bool:
        """Whether the network has the channels of a tensor in front."""
        tensor = self.graph.tensors[name]
        return tensor.dtype == "int8" and len(tensor.shape) == 4

    def axis(self, name: str, axis: int) -> int:
        """The network's axis for an axis of a tensor of the graph."""
        return steps.TO_CHANNELS_FIRST.index(axis) if self.is_image(name) else axis

    def fresh(self, name: str) -> str:
        """A name that is free in graph and network."""
        return free_name(name, {*self.tensors, *self.graph.tensors, *self.names.values()})

    def constant(self, name: str, value: NDArray[Any], found: Quantization | None = None) -> str:
        """Add a constant, with parameters if it has any; returns its name."""
        name = self.fresh(name)
        self.tensors[name] = TensorInfo.constant(name, value)
        if found is not None:
            self.parameters[name] = found
        return name

    def integers(self, name: str, value: NDArray[Any], scale: NDArray[np.float32], kind: str, axis: int = 0) -> str:
        """Add a constant of integers without zero points; its real value is what DequantizeLinear makes of them."""
        points = np.zeros(scale.shape, np.int64)
        found = Quantization(scale.astype(np.float32), points, kind, axis, value.astype(np.int64))
        return self.constant(name, found.real, found)

    def numbers(self, name: str, values: Sequence[int]) -> str:
        """Add a constant of int64."""
        return self.constant(name, np.asarray(values, np.int64))

    def operator(
        self, node: Node, kind: str, inputs: Sequence[str], output: str, opset: int = OPSET, **attributes: Any
    ) -> None:
        """Add an operator whose name is the node's, or a similar one."""
        name = free_name(node.name, {operator.name for operator in self.operators})
        version = max(self.opset, opset)
        self.operators.append(Operator(name, kind, tuple(inputs), (output,), attributes, version))

    def result(self, node: Node, kind: str, inputs: Sequence[str], **attributes: Any) -> None:
        """Add the operator that computes a node's output, and what limits it to the node's bounds."""
        output = self.declare(node.output)
        low, high = (node.act_min, node.act_max) if isinstance(node, Clamped) else (-128, 127)
        if (low, high) == (-128, 127):
            self.operator(node, kind, inputs, output, **attributes)
            return
        raw = self.fresh(f"{output}_unlimited")
        self.tensors[raw] = TensorInfo(raw, self.shape(node.output))
        self.operator(node, kind, inputs, raw, **attributes)
        self.limit(node, raw, output, low, high)

    def limit(self, node: Node, source: str, output: str, low: int, high: int) -> None:
        """Add the Relu or Clip that stands for bounds of the stored integers of a node's output."""
        scale, zero_point = self.graph.tensors[node.output].parameters
        if (low, high) == (zero_point, 127):
            self.operator(node, "Relu", [source], output)
            return
        bounds = [np.float32(scale) * np.float32(bound - zero_point) for bound in (low, high)]
        names = [
            self.constant(f"{output}_{what}", np.asarray(b)) for what, b in zip(("min", "max"), bounds, strict=True)
        ]
        self.operator(node, "Clip", [source, *names], output)

    def declare(self, name: str) -> str:
        """Add the network's tensor for one of the graph that a node writes; returns its name."""
        tensor, shape = self.graph.tensors[name], self.shape(name)
        if name in self.graph.outputs and self._outer(tensor, shape, output=True):
            self.names[name] = self.fresh(f"{name}_inner")
        return self._add(tensor, self.names.setdefault(name, name), shape)

    def _add(self, tensor: Tensor, name: str, shape: Shape) -> str:
        self.tensors[name] = TensorInfo(name, shape, "float32" if tensor.dtype == "int8" else tensor.dtype)
        if tensor.dtype == "int8":
            self.parameters[name] = Quantization.of(tensor.parameters)
        return name

    def _outer(self, tensor: Tensor, shape: Shape, *, output: bool) -> list[Step]:
        """Steps between the user's array of an input or output and the network's tensor of `shape`."""
        image = self.is_image(tensor.name)
        layout = tensor.source or ArrayLayout(shape, steps.TO_CHANNELS_LAST if image else tuple(range(len(shape))))
        if output:
            inner = [steps.transpose(steps.TO_CHANNELS_LAST)] if image else []
            return steps.shortened(shape, [*inner, *steps.from_graph(layout)])
        inner = [steps.transpose(steps.TO_CHANNELS_FIRST)] if image else []
        return steps.shortened(layout.shape, [*steps.to_graph(layout, tensor.shape), *inner])

    def give(self, name: str) -> None:
        """Declare an input of the graph, in the user's shape, and bring it into the network's."""
        tensor, shape = self.graph.tensors[name], self.shape(name)
        chain = self._outer(tensor, shape, output=False)
        self._add(tensor, name, tensor.source.shape if tensor.source and chain else shape)
        self.names[name] = name
        if chain:
            self.names[name] = self.fresh(f"{name}_inner")
            self.move(name, name, name, chain, self.names[name])

    def take(self, name: str) -> None:
        """Bring an output of the graph into the user's shape; an input that is one has it."""
        tensor, inner = self.graph.tensors[name], self.names[name]
        if inner != name and name not in self.graph.inputs:
            self.move(name, name, inner, self._outer(tensor, self.shape(name), output=True), name)

    def move(self, label: str, tensor: str, source: str, chain: Sequence[Step], output: str) -> None:
        """Add the operators of a chain of steps; every result has the parameters of a tensor of the graph."""
        shape = self.tensors[source].shape
        for number, step in enumerate(chain):
            shape, last = steps.after(step, shape), number == len(chain) - 1
            target = output if last else self.fresh(f"{output}_moved")
            self._add(self.graph.tensors[tensor], target, shape)
            name = free_name(label if last else f"{label}_moved", {operator.name for operator in self.operators})
            if step.kind == "Transpose":
                fields: dict[str, Any] = {"perm": list(step.numbers)}
                self.operators.append(Operator(name, "Transpose", (source,), (target,), fields, self.opset))
            else:
                wanted = self.numbers(f"{target}_shape", step.numbers)
                self.operators.append(Operator(name, "Reshape", (source, wanted), (target,), {}, self.opset))
            source = target

    def moved(self, node: Node, chain: Sequence[Step]) -> None:
        """Make a node's output its input, moved by a chain of steps between the graph's tensors."""
        source, target = node.inputs[0], node.output
        whole = [
            *([steps.transpose(steps.TO_CHANNELS_LAST)] if self.is_image(source) else []),
            *chain,
            *([steps.transpose(steps.TO_CHANNELS_FIRST)] if self.is_image(target) else []),
        ]
        short = steps.shortened(self.shape(source), whole)
        if short:
            self.move(node.name, target, self.names[source], short, self.declare(target))
        elif target in self.graph.outputs:
            self.operator(node, "Identity", [self.names[source]], self.declare(target))
        else:
            self.names[target] = self.names[source]


def opset_of(graph: Graph) -> int:
    """The version of ONNX's operators for the whole network: the newest that an operator or a type needs."""
    hosted = [node for node in graph.nodes if isinstance(node, HostOperator)]
    narrow = any(isinstance(node, Weighted) and node.weight_bits == 4 for node in graph.nodes)
    version = max([INT4_OPSET if narrow else OPSET, *map(bodies.opset_of, hosted)])
    for node in hosted:
        bodies.check_version(node, version)
    return version


def raising(graph: Graph) -> Raising:
    """Every node of a graph as operators; `InexpressibleError` as for `raised`."""
    from accel.exports.onnx.nodes import RAISERS

    low = Raising(graph, opset_of(graph))
    for name in graph.inputs:
        low.give(name)
    for node in graph.nodes:
        if type(node) not in RAISERS:
            raise InexpressibleError(node, "this operation")
        RAISERS[type(node)].raise_(low, node)
    for name in graph.outputs:
        low.take(name)
    low.operators = without_pairs(low.operators, {*graph.outputs, *low.parameters})
    return low


def raised(graph: Graph, notes: list[str]) -> Network:
    """The quantized network that lowers to a graph; `notes` gets what it computes a step away from the graph.

    Raises
    ------
    InexpressibleError
        A node has no form in ONNX, or multipliers that come from no scales.

    Notes
    -----
    Multipliers are the graph's: of the scales that are found (`accel.exports.scales`) the graph's own recipe makes
    them again. A graph of mode `tflite` gives the scales of that mode; who runs the file rounds as they do.
    """
    low = raising(graph)
    notes.extend(low.notes)
    return Network(graph.name, tuple(low.operators), low.tensors, graph.inputs, graph.outputs, low.parameters)
