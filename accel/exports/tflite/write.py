"""The TensorFlow Lite file of an integer graph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accel.exports.inexpressible import InexpressibleError
from accel.exports.tflite.flatbuffer import FileWriter
from accel.frontends.tflite.operation import ACTIVATIONS
from accel.machine.numerics import activation_range
from accel.network.array_layout import ArrayLayout
from accel.network.graph import Graph, Tensor
from accel.network.nodes import Clamped, Node
from accel.network.windows import Shape
from accel.quantized.builder import Parameters


@dataclass
class Writing:
    """The file in the making; `values` says which of its tensors holds a tensor of the graph.

    Parameters
    ----------
    graph : Graph
    notes : list of str
        What the file computes a step away from the graph.
    """

    graph: Graph
    notes: list[str]
    file: FileWriter = field(default_factory=FileWriter)
    values: dict[str, int] = field(default_factory=dict)

    def note(self, text: str) -> None:
        """Add a note, once."""
        if text not in self.notes:
            self.notes.append(text)

    def tensor(self, name: str, shape: Shape, parameters: Parameters, kind: str = "INT8") -> int:
        """Add an activation."""
        return self.file.tensor(name, shape, kind, np.array([parameters[0]], np.float32), parameters[1])

    def like(self, tensor: Tensor, what: str, shape: Shape | None = None) -> int:
        """Add an activation with the parameters of one of the graph."""
        return self.tensor(f"{tensor.name}_{what}", tensor.shape if shape is None else shape, tensor.parameters)

    def numbers(self, name: str, values: Sequence[int]) -> int:
        """Add a constant of int32."""
        return self.file.tensor(name, (len(values),), data=np.asarray(values, np.int32))

    def stored(self, name: str, value: NDArray[np.int8], parameters: Parameters) -> int:
        """Add a constant of stored integers under parameters."""
        scale = np.array([parameters[0]], np.float32)
        return self.file.tensor(name, value.shape, "INT8", scale, parameters[1], data=value)

    def input(self, node: Node, position: int = 0) -> int:
        """The file's tensor of an input of a node."""
        return self.values[node.inputs[position]]

    def output(self, node: Node) -> int:
        """Add the file's tensor of a node's output."""
        tensor = self.graph.tensors[node.output]
        if tensor.dtype != "int8":
            raise InexpressibleError(node, f"a result of type {tensor.dtype}")
        inner = node.output in self.graph.outputs and _outer_shape(tensor) != tensor.shape
        name = f"{tensor.name}_inner" if inner else tensor.name
        self.values[node.output] = self.tensor(name, tensor.shape, tensor.parameters)
        return self.values[node.output]

    def emit(self, node: Node, builtin: str, inputs: Sequence[int], **options: Any) -> None:
        """Add the operator that computes a node's output, and what limits it to the node's bounds."""
        if not isinstance(node, Clamped) or (node.act_min, node.act_max) == (-128, 127):
            self.file.operator(builtin, inputs, [self.output(node)], **options)
            return
        if "FusedActivationFunction" in options and (code := self._activation(node)) is not None:
            options["FusedActivationFunction"] = code
            self.file.operator(builtin, inputs, [self.output(node)], **options)
            return
        raw = self.like(self.graph.tensors[node.output], "unlimited")
        self.file.operator(builtin, inputs, [raw], **options)
        self.limit(node, raw)

    def _activation(self, node: Clamped) -> int | None:
        """The code of the fused activation that has a node's bounds."""
        parameters = self.graph.tensors[node.output].parameters
        bounds = (node.act_min, node.act_max)
        codes = (code for code, real in ACTIVATIONS.items() if activation_range(*real, *parameters) == bounds)
        return next(codes, None)

    def limit(self, node: Clamped, source: int) -> None:
        """Add MAXIMUM and MINIMUM of the stored integers: a node's output is `source` within the node's bounds."""
        tensor = self.graph.tensors[node.output]
        bounds = [("MAXIMUM", node.act_min, -128), ("MINIMUM", node.act_max, 127)]
        needed = [(builtin, bound) for builtin, bound, none in bounds if bound != none] or [bounds[0][:2]]
        for number, (builtin, bound) in enumerate(needed):
            last = number == len(needed) - 1
            target = self.output(node) if last else self.like(tensor, "raised")
            limit = self.stored(f"{node.name}_{builtin.lower()}", np.array([bound], np.int8), tensor.parameters)
            self.file.operator(builtin, [source, limit], [target])
            source = target

    def reshape(self, source: int, shape: Shape, target: int) -> None:
        """Add a RESHAPE to a tensor; a shape without axes would be a constant without data."""
        sizes = [self.numbers(f"shape_{target}", shape)] if shape else []
        self.file.operator("RESHAPE", [source, *sizes], [target])


def _outer_shape(tensor: Tensor) -> Shape:
    """The shape under which the file gives an input or output: the model's own if its axes have the graph's order."""
    layout = tensor.source
    return layout.shape if layout is not None and layout == ArrayLayout.row_major(layout.shape) else tensor.shape


def write(graph: Graph, notes: list[str]) -> bytes:
    """The file of a graph.

    Parameters
    ----------
    graph : Graph
        Its images have the order of TensorFlow Lite already. In mode `tflite` TensorFlow Lite Micro computes its
        integers, except where `notes` says something else.
    notes : list of str
        Gets a line for every function that is a step away.

    Raises
    ------
    InexpressibleError
        A node has no form in TensorFlow Lite, or multipliers that come from no scales.
    """
    from accel.exports.tflite.nodes import WRITERS

    w = Writing(graph, notes)
    inputs = [_input(w, graph.tensors[name]) for name in graph.inputs]
    for node in graph.nodes:
        if type(node) not in WRITERS:
            raise InexpressibleError(node, "this operation")
        WRITERS[type(node)].write(w, node)
    outputs = [_output(w, graph.tensors[name]) for name in graph.outputs]
    return w.file.finish(graph.name, inputs, outputs)


def _input(w: Writing, tensor: Tensor) -> int:
    """Add an input, uint8 and of another shape if the model's own is; returns the file's tensor that the user gives."""
    shape, (scale, zero_point) = _outer_shape(tensor), tensor.parameters
    if tensor.dtype != "int8":
        w.values[tensor.name] = w.file.tensor(tensor.name, tensor.shape, tensor.dtype.upper())
        return w.values[tensor.name]
    kind, outer = ("UINT8", (scale, zero_point + 128)) if tensor.unsigned else ("INT8", tensor.parameters)
    given = w.tensor(tensor.name, shape, outer, kind)
    value = given
    if tensor.unsigned:
        value = w.like(tensor, "int8", shape)
        w.file.operator("QUANTIZE", [given], [value])
    if shape != tensor.shape:
        flat, value = value, w.like(tensor, "inner")
        w.reshape(flat, tensor.shape, value)
    w.values[tensor.name] = value
    return given


def _output(w: Writing, tensor: Tensor) -> int:
    index, shape = w.values[tensor.name], _outer_shape(tensor)
    if shape == tensor.shape:
        return index
    target = w.tensor(tensor.name, shape, tensor.parameters)
    w.reshape(index, shape, target)
    return target
