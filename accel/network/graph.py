"""The quantized network: integer tensors and nodes whose arithmetic is law for compiler, simulator and RTL.

Activations are int8, NHWC with ``N = 1``, or ``(1, features)``; a real value is ``(q - zero_point) * scale``.
A `Graph` is validated when it is made, so that its users need no checks of their own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accel.errors import GraphError
from accel.machine.numerics import INT8_MAX, INT8_MIN, SHIFT_MAX, RequantMode, requant_mode
from accel.network.array_layout import ArrayLayout
from accel.network.nodes import (
    NODE_TYPES,
    Add,
    AveragePool2d,
    Clamp,
    Conv2d,
    FullyConnected,
    HostOperator,
    LogSoftmax,
    MaxPool2d,
    Multiplier,
    Node,
    Reshape,
    Softmax,
    Weighted,
)
from accel.network.states import State, check_states, initial_state, next_state
from accel.network.windows import Shape, check_range

__all__ = [
    "NODE_TYPES",
    "Add",
    "AveragePool2d",
    "Clamp",
    "Conv2d",
    "FullyConnected",
    "Graph",
    "MaxPool2d",
    "Multiplier",
    "Node",
    "Reshape",
    "Shape",
    "Softmax",
    "State",
    "Tensor",
]
DTYPES = ("int8", "float32", "int64", "int32", "bool", "uint8", "int16", "uint16", "uint32", "uint64")
"""Types of activations; the machine knows the first one only."""

_FLOAT32_MAX = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Tensor:
    """An activation: int8, or for the host alone real numbers and other integers.

    Parameters
    ----------
    name : str
    shape : tuple of int
        ``(1, height, width, channels)`` or ``(1, features)`` if it is int8, otherwise any.
    scale : float
        Positive, exactly a float32; 1.0 unless the tensor is int8.
    zero_point : int
        In [-128, 127]; 0 unless the tensor is int8.
    unsigned : bool
        The model's own file holds these integers as uint8, larger by 128.
    source : ArrayLayout or None
        The model's own shape and order of axes, where the tensor is an input or output of a model that was read.
    dtype : str
        One of `DTYPES`.
    """

    name: str
    shape: Shape
    scale: float
    zero_point: int
    unsigned: bool = False
    source: ArrayLayout | None = None
    dtype: str = "int8"

    def check(self) -> None:
        """Raise `GraphError` unless every field is in its range."""
        where = f"tensor {self.name!r}"
        if not (isinstance(self.name, str) and self.name):
            raise GraphError(f"tensor name must be a text that is not empty, got {self.name!r}")
        if self.dtype not in DTYPES:
            raise GraphError(f"{where}: dtype must be one of {', '.join(DTYPES)}, got {self.dtype!r}")
        positive = all(type(size) is int and 0 < size < 2**24 for size in self.shape)
        if self.dtype != "int8":
            if not (positive and math.prod(self.shape) < 2**31):
                raise GraphError(f"{where}: shape must be positive sizes, got {self.shape!r}")
            if (self.scale, self.zero_point, self.unsigned) != (1.0, 0, False):
                raise GraphError(f"{where}: {self.dtype} must have scale 1.0 and zero_point 0, got {self.parameters}")
        elif not (len(self.shape) in (2, 4) and positive and self.shape[0] == 1 and math.prod(self.shape) < 2**31):
            raise GraphError(
                f"{where}: shape must be (1, height, width, channels) or (1, features), got {self.shape!r}"
            )
        if not (0 < self.scale <= _FLOAT32_MAX and float(np.float32(self.scale)) == self.scale):
            raise GraphError(f"{where}: scale must be a positive float32 value, got {self.scale!r}")
        check_range(where, "zero_point", self.zero_point, INT8_MIN, INT8_MAX)
        if type(self.unsigned) is not bool:
            raise GraphError(f"{where}: unsigned must be true or false, got {self.unsigned!r}")
        if self.source is not None and not (self.source.is_valid and self.source.elements == math.prod(self.shape)):
            raise GraphError(
                f"{where}: source must have the tensor's number of elements and an order of all axes, got {self.source}"
            )

    @property
    def parameters(self) -> tuple[float, int]:
        """Scale and zero point."""
        return self.scale, self.zero_point


@dataclass(frozen=True, eq=False)
class Graph:
    """A quantized network, valid by construction.

    Parameters
    ----------
    name : str
    mode : RequantMode
        How every node requantizes.
    tensors : mapping of str to Tensor
        Every activation, by name.
    nodes : tuple of Node
        In an order in which each node's inputs come before it.
    inputs, outputs : tuple of str
        Tensors given by and returned to the user.
    states : tuple of State
        Pairs of inputs and outputs that the user carries from run to run, with `initial_state` and `next_state`.

    Raises
    ------
    GraphError
        The description contradicts itself; the message names the node or tensor.
    """

    name: str
    mode: RequantMode
    tensors: Mapping[str, Tensor]
    nodes: tuple[Node, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    states: tuple[State, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "mode", requant_mode(self.mode))
        object.__setattr__(self, "tensors", MappingProxyType(dict(self.tensors)))
        self.validate()

    def validate(self) -> None:
        """Raise `GraphError` unless names, order, shapes, types and ranges are consistent."""
        if not isinstance(self.name, str):
            raise GraphError(f"graph name must be a text, got {self.name!r}")
        for name, tensor in self.tensors.items():
            if tensor.name != name:
                raise GraphError(f"tensor name must be its key {name!r}, got {tensor.name!r}")
            tensor.check()
        self._check_order()
        check_states(self.states, self.tensors, self.inputs, self.outputs)
        for node in self.nodes:
            node.check()
            self._check_multipliers(node)
            self._check_tensors(node)

    @property
    def input_tensors(self) -> tuple[Tensor, ...]:
        """What the user gives, states aside."""
        carried = {state.input for state in self.states}
        return tuple(self.tensors[name] for name in self.inputs if name not in carried)

    @property
    def output_tensors(self) -> tuple[Tensor, ...]:
        """What the user gets, states aside."""
        carried = {state.output for state in self.states}
        return tuple(self.tensors[name] for name in self.outputs if name not in carried)

    def macs(self, node: Node) -> int:
        """Products of a weight and an input that `node` sums, padding included."""
        names = (*node.inputs, *node.outputs) if isinstance(node, HostOperator) else node.inputs
        return node.macs(*(self.tensors[name].shape for name in names))

    def initial_state(self) -> dict[str, NDArray[np.int8]]:
        """Inputs of the first run, besides the model's own."""
        return initial_state(self.states, self.tensors)

    def next_state(self, outputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Inputs of the run that follows the one that gave `outputs`, besides the model's own."""
        return next_state(self.states, outputs)

    def producer(self, tensor: str) -> Node | None:
        """The node that writes `tensor`; None for an input of the graph."""
        return next((node for node in self.nodes if tensor in node.outputs), None)

    def consumers(self, tensor: str) -> tuple[Node, ...]:
        """The nodes that read `tensor`, in order."""
        return tuple(node for node in self.nodes if tensor in node.inputs)

    def _check_order(self) -> None:
        """Each tensor is written once, before it is read, and nothing is missing or left over."""
        for field in ("inputs", "outputs"):
            names = getattr(self, field)
            distinct = isinstance(names, tuple) and names and len(set(names)) == len(names)
            if not (distinct and set(names) <= set(self.tensors)):
                raise GraphError(f"graph {field} must be distinct names of tensors, at least one, got {names!r}")
        names = set()
        for node in self.nodes:
            if not (isinstance(node.name, str) and node.name and node.name not in names):
                raise GraphError(f"node names must be distinct texts that are not empty, got {node.name!r}")
            names.add(node.name)
        known = set(self.inputs)
        for node in self.nodes:
            if type(node) is not NODE_TYPES.get(node.op):
                raise node.error(f"operation must be one of {', '.join(NODE_TYPES)}")
            least = 0 if isinstance(node, HostOperator) else 1
            if len(node.inputs) != (max(least, len(node.inputs)) if node.arity is None else node.arity):
                raise node.error(f"inputs must be {node.arity or 'some'} tensors, got {node.inputs!r}")
            for name in node.inputs:
                if name not in known:
                    raise node.error(f"input must be a graph input or the output of an earlier node, got {name!r}")
            for name in node.outputs:
                if name in known or name not in self.tensors:
                    raise node.error(f"output must be a declared tensor that nothing else writes, got {name!r}")
                known.add(name)
        if unwritten := sorted(set(self.tensors) - known):
            raise GraphError(f"every tensor must be an input or written by a node, got {unwritten!r}")

    def _check_tensors(self, node: Node) -> None:
        """Shapes and quantization parameters around one node."""
        sources, result = [self.tensors[name] for name in node.inputs], self.tensors[node.output]
        self._check_types(node)
        if isinstance(node, HostOperator):
            return
        shape = node.output_shape(*(source.shape for source in sources))
        if result.shape != shape:
            raise node.error(f"output {result.name!r} must have shape {shape!r}, got {result.shape!r}")
        for source in sources:
            if node.keeps_parameters and result.parameters != source.parameters:
                raise node.error(
                    f"input and output must have equal (scale, zero_point), got {source.parameters!r} "
                    f"and {result.parameters!r}"
                )
        free = self.mode is RequantMode.FP32
        if isinstance(node, (LogSoftmax, Softmax)) and not free and result.parameters != node.output_parameters:
            raise node.error(
                f"output (scale, zero_point) must be {node.output_parameters!r}, got {result.parameters!r}"
            )

    def _check_types(self, node: Node) -> None:
        """Every tensor around one node has a type that the node takes or makes."""
        sides = (("input", node.inputs, node.input_dtype), ("output", node.outputs, node.output_dtype))
        for what, names, dtype in sides:
            for name in names:
                if dtype not in (None, self.tensors[name].dtype):
                    raise node.error(f"{what} {name!r} must be {dtype}, got {self.tensors[name].dtype}")

    def _check_multipliers(self, node: Node) -> None:
        """Multipliers are normalised, shifts in the range of the mode."""
        lowest = self.mode.shift_min
        smallest = 2**30 if self.mode is RequantMode.FP32 else node.smallest_multiplier
        for multipliers, shifts in node.multipliers():
            q, e = multipliers.astype(np.int64), shifts.astype(np.int64)
            if not np.all(((q >= smallest) & (q < 2**31)) | ((q == 0) & (e == 0))):
                raise node.error(
                    f"multipliers must lie in [2**{smallest.bit_length() - 1}, 2**31), or be 0 with shift 0, "
                    f"got {multipliers!r}"
                )
            if not np.all((e >= lowest) & (e <= SHIFT_MAX)):
                raise node.error(f"shifts of mode {self.mode} must lie in [{lowest}, {SHIFT_MAX}], got {shifts!r}")
            if self.mode is RequantMode.FP32 and isinstance(node, Weighted) and node.single_rounding:
                raise node.error("single_rounding must be false in mode fp32")
            if self.mode is RequantMode.FP32 and np.any(q & 127):
                raise node.error(f"multipliers of mode fp32 must be multiples of 128, got {multipliers!r}")
