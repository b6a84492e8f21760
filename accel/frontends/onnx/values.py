"""What the tensors of a quantized ONNX model stand for, while a graph is built from it.

ONNX images are (1, channels, height, width), those of a graph (1, height, width, channels); other tensors keep their
row-major order. uint8 integers are shifted by 128.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from accel.errors import ModelError
from accel.frontends.builder import GraphBuilder, Parameters, canonical
from accel.frontends.onnx.float_operators import OnnxNode
from accel.network.array_layout import ArrayLayout
from accel.network.nodes import Table, Transpose
from accel.network.windows import Shape

Limits: TypeAlias = tuple[float, float]
EVERYTHING: Limits = (-math.inf, math.inf)


@dataclass(frozen=True)
class Activation:
    """Integers that the graph computes.

    Parameters
    ----------
    name : str
        Tensor of the graph.
    shape : tuple of int
        As ONNX sees it.
    pixels : tuple of int or None
        If the tensor is an image flattened in the graph's order, the image's shape there.
    """

    name: str
    shape: Shape
    pixels: Shape | None = None


@dataclass(frozen=True)
class Real:
    """The real numbers that an activation stands for: the result of DequantizeLinear."""

    activation: Activation

    @property
    def shape(self) -> Shape:
        """As ONNX sees it."""
        return self.activation.shape


@dataclass(frozen=True)
class RawInput:
    """An input of the model whose parameters its first reader tells: real numbers, or integers of 8 bits."""

    name: str
    shape: Shape
    is_real: bool
    unsigned: bool


@dataclass(frozen=True, eq=False)
class IntegerConstant:
    """Constant integers with scales and zero points along `axis`."""

    integers: NDArray[np.int64]
    scale: NDArray[np.float32]
    zero_point: NDArray[np.int64]
    axis: int

    @property
    def real(self) -> NDArray[np.float32]:
        """The numbers that they stand for."""
        shape = [1] * self.integers.ndim
        if self.scale.size > 1:
            shape[self.axis] = self.scale.size
        return (self.integers - self.zero_point.reshape(shape)).astype(np.float32) * self.scale.reshape(shape)


@dataclass(frozen=True, eq=False)
class Pending:
    """A real result that becomes an activation as soon as its parameters are known.

    Parameters
    ----------
    finish : callable
        Makes the graph's tensor, given parameters and clamp fields.
    limits : (float, float)
        Real bounds that clips have set.
    default : (float, int) or None
        Parameters if nothing quantizes the result.
    """

    shape: Shape
    finish: Callable[[Parameters, dict[str, int]], str]
    limits: Limits = EVERYTHING
    default: Parameters | None = None

    def clipped(self, low: float, high: float) -> Pending:
        """The result limited to ``[low, high]`` too."""
        return replace(self, limits=(max(low, self.limits[0]), min(high, self.limits[1])))


@dataclass(frozen=True, eq=False)
class Sums:
    """int32 sums of products; `scaled` makes the real result for scales per output channel."""

    scaled: Callable[[NDArray[np.float32]], Pending]


Value: TypeAlias = Activation | Real | RawInput | IntegerConstant | Pending | Sums


def round_clip(x: NDArray[Any], parameters: Parameters) -> NDArray[np.int8]:
    """QuantizeLinear: ``clamp(rint(x / scale) + zero_point)`` in float32."""
    steps = np.rint(x.astype(np.float32) / np.float32(parameters[0]))
    return np.asarray(np.clip(steps + parameters[1], -128, 127), dtype=np.int8)


@dataclass
class Importer:
    """The graph in the making and the meaning of every tensor so far."""

    builder: GraphBuilder
    constants: dict[str, NDArray[Any]]
    values: dict[str, Value] = field(default_factory=dict)
    inputs: dict[str, str] = field(default_factory=dict)

    def scalar_parameters(self, node: OnnxNode, scale: str, zero_point: str) -> Parameters:
        """Constants of one tensor as int8 parameters; without a zero point the integers are uint8."""
        scales = self.array(node, scale).reshape(-1)
        points = self.array(node, zero_point).reshape(-1) if zero_point else np.zeros(1, np.uint8)
        if scales.size != 1 or points.size != 1 or points.dtype not in (np.uint8, np.int8):
            raise node.error(f"activations must have one scale and one zero point of int8 or uint8, got {points.dtype}")
        if not np.isfinite(scales[0]) or scales[0] <= 0:
            raise node.error(f"scale must be a positive number, got {scales[0]!r}")
        return float(np.float32(scales[0])), int(points[0]) - (128 if points.dtype == np.uint8 else 0)

    def array(self, node: OnnxNode, name: str) -> NDArray[Any]:
        """A constant."""
        if name not in self.constants:
            raise node.error(f"input {name!r} must be a constant")
        return self.constants[name]

    def value(self, node: OnnxNode, name: str) -> Value:
        """A tensor that is no plain constant."""
        if name not in self.values:
            raise node.error(f"input {name!r} must be quantized")
        return self.values[name]

    def activation(self, node: OnnxNode, name: str, parameters: Parameters) -> Activation:
        """The integers of `name`, which a reader takes to have these parameters."""
        value = self.value(node, name)
        if isinstance(value, RawInput):
            value = self.declare(node, value, parameters)
        if not isinstance(value, Activation):
            raise node.error(f"input {name!r} must be integers of 8 bits")
        return replace(value, name=self.builder.reinterpret(value.name, parameters))

    def declare(self, node: OnnxNode, value: RawInput, parameters: Parameters) -> Activation:
        """The input of the graph for one of the model."""
        if value.name not in self.inputs:
            self.inputs[value.name] = self.builder.declare(
                value.name, graph_shape(value.shape), parameters, unsigned=value.unsigned
            )
        name = self.inputs[value.name]
        if value.is_real and self.builder.parameters(name) != parameters:
            raise node.error(f"model input {value.name!r} must be quantized in one way only")
        return Activation(name, value.shape)

    def real(self, node: OnnxNode, position: int) -> Activation:
        """The activation behind real input number `position`."""
        value = self.value(node, node.inputs[position])
        if not isinstance(value, Real):
            raise node.error(f"input {node.inputs[position]!r} must come from DequantizeLinear; quantize it first")
        return value.activation

    def parameters(self, activation: Activation) -> Parameters:
        """Scale and zero point."""
        return self.builder.parameters(activation.name)

    def row_major(self, activation: Activation) -> str:
        """The elements in ONNX's order, in a graph tensor of any shape."""
        name = activation.name
        if activation.pixels is not None:
            name = self.builder.reshape(name, activation.pixels)
        shape = self.builder.shape(name)
        is_image = len(activation.shape) == 4 or activation.pixels is not None
        if not is_image or shape[3] == 1 or shape[1] * shape[2] == 1:
            return name
        return self.builder.emit(
            Transpose, [name], self.builder.parameters(name), f"{name}_nchw", permutation=(0, 3, 1, 2)
        )

    def reshape(self, activation: Activation, shape: Shape) -> Activation:
        """Another shape in ONNX's order; flattening an image is left to whoever reads it."""
        if activation.shape == shape:
            return activation
        if len(activation.shape) == 4 and len(shape) == 2 and shape[0] == 1:
            pixels = self.builder.shape(activation.name)
            return Activation(self.builder.reshape(activation.name, shape), shape, pixels)
        name = self.row_major(activation)
        if len(shape) == 4:
            name = self.builder.reshape(name, canonical(shape))
            if shape[1] != 1 and shape[2] * shape[3] != 1:
                name = self.builder.emit(
                    Transpose, [name], self.builder.parameters(name), f"{name}_nhwc", permutation=(0, 2, 3, 1)
                )
        return Activation(self.builder.reshape(name, graph_shape(shape)), shape)

    def table(self, activation: Activation, function: Callable[[NDArray[np.float32]], NDArray[Any]]) -> Pending:
        """A function of one real variable."""

        def finish(parameters: Parameters, clamp: Mapping[str, int]) -> str:
            scale, zero_point = self.parameters(activation)
            real = (np.arange(-128, 128) - zero_point).astype(np.float32) * np.float32(scale)
            limits = clamp.get("act_min", -128), clamp.get("act_max", 127)
            table = np.clip(round_clip(function(real), parameters), *limits).astype(np.int8)
            return self.builder.emit(Table, [activation.name], parameters, f"{activation.name}_of", table=table)

        return Pending(activation.shape, finish)

    def rescaled(self, activation: Activation, parameters: Parameters) -> str:
        """The same real numbers under other parameters."""
        if self.parameters(activation) == parameters:
            return activation.name
        return self.table(activation, lambda real: real).finish(parameters, {})

    def finish(self, node: OnnxNode, pending: Pending, parameters: Parameters) -> Activation:
        """The activation of a pending result."""
        clamp = {}
        if pending.limits != EVERYTHING:
            scale, zero_point = parameters
            low, high = (np.clip(np.rint(v / scale) + zero_point, -128, 127) for v in pending.limits)
            clamp = {"act_min": int(low), "act_max": int(high)}
        return Activation(pending.finish(parameters, clamp), pending.shape)


def graph_shape(shape: Shape) -> Shape:
    """The shape of a graph's tensor for one of ONNX's."""
    full = canonical(shape)
    return (1, full[2], full[3], full[1]) if len(shape) == 4 else full


def onnx_layout(shape: Shape) -> ArrayLayout:
    """The layout of a tensor of ONNX beside the graph's: images have their channels first."""
    return ArrayLayout.channels_first(shape) if len(shape) == 4 else ArrayLayout.row_major(shape)


def unknown_batch(name: str, dims: list[int]) -> Shape:
    """The shape of a model input; a first size of 0 stands for a free one, which becomes 1."""
    shape = (dims[0] or 1, *dims[1:]) if dims else ()
    if not shape or any(size <= 0 for size in shape):
        raise ModelError(
            f"model input {name!r} must have known sizes, of which only the first may be free, got {tuple(dims)!r} "
            "with 0 for free; export the model with fixed sizes"
        )
    return shape
