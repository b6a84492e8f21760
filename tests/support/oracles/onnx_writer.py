"""Writing ONNX models node by node, and the random shapes, weights and parameters that models of one operator have."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Rng = np.random.Generator
TYPES = {"int8": TensorProto.INT8, "uint8": TensorProto.UINT8, "float32": TensorProto.FLOAT}
MICROSOFT = "com.microsoft"


@dataclass
class OnnxWriter:
    """Collects the nodes, constants and inputs of a model."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)
    inputs: list[onnx.ValueInfoProto] = field(default_factory=list)

    def constant(self, value: Any) -> str:
        """Add a constant; returns its name."""
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def input(self, shape: tuple[int, ...], kind: str) -> str:
        """Add an input of the model."""
        name = f"x{len(self.inputs)}"
        self.inputs.append(helper.make_tensor_value_info(name, TYPES[kind], list(shape)))
        return name

    def node(self, operator: str, inputs: list[str], **attributes: Any) -> str:
        """Add a node; returns its output."""
        output = f"t{len(self.nodes)}"
        domain, _, kind = operator.rpartition(".")
        self.nodes.append(helper.make_node(kind, inputs, [output], domain=domain, **attributes))
        return output

    def finish(self, output: str, kind: str, rank: int = 4) -> bytes:
        """The model, whose output has `rank` axes."""
        result = helper.make_tensor_value_info(output, TYPES[kind], [None] * rank)
        graph = helper.make_graph(self.nodes, "single", self.inputs, [result], self.constants)
        imports = [helper.make_opsetid("", 17), helper.make_opsetid(MICROSOFT, 1)]
        return helper.make_model(graph, opset_imports=imports, ir_version=8).SerializeToString()


@dataclass(frozen=True)
class Quantization:
    """Type, scale and zero point of an activation."""

    kind: str
    scale: float
    zero_point: int

    def constants(self, writer: OnnxWriter) -> list[str]:
        """Names of the scale and zero point."""
        return [writer.constant(np.float32(self.scale)), writer.constant(np.dtype(self.kind).type(self.zero_point))]


def quantization(rng: Rng, scale: float | None = None, kind: str | None = None) -> Quantization:
    """Random parameters; sometimes a scale of 1/8, where ties abound."""
    kind = kind or str(rng.choice(["int8", "uint8"]))
    drawn = scale or rng.choice([0.125, 10 ** rng.uniform(-3, 1)], p=[0.2, 0.8])
    point = int(rng.integers(-128, 128)) + (128 if kind == "uint8" else 0)
    return Quantization(kind, float(np.float32(drawn)), point)


def image(rng: Rng, largest: int = 10, channels: int = 10) -> tuple[int, int, int, int]:
    """Shape of an image, channels first."""
    return 1, int(rng.integers(1, channels + 1)), *(int(n) for n in rng.integers(3, largest + 1, 2))


def weights(
    rng: Rng, shape: tuple[int, ...], axis: int, x: Quantization, *, symmetric: bool = False
) -> tuple[NDArray[Any], NDArray[np.float32], NDArray[Any], Quantization]:
    """Integers, scales and zero points of weights, and an output that uses its range."""
    kind = "int8" if x.kind == "int8" or symmetric or rng.random() < 0.5 else "uint8"
    per_channel = bool(rng.integers(2))
    low, high = (-127, 128) if kind == "int8" else (0, 256)
    integers = rng.integers(low, high, shape).astype(kind)
    scales = (10 ** rng.uniform(-4, 0) * rng.uniform(0.3, 3, shape[axis] if per_channel else 1)).astype(np.float32)
    points = np.full(scales.shape, 128 if kind == "uint8" else 0, dtype=kind)
    terms = np.prod(shape) / shape[axis]
    y = quantization(rng, float(x.scale * np.median(scales) * 73 * 73 * np.sqrt(terms) / 60), x.kind)
    return integers, scales if per_channel else scales[0], points if per_channel else points[0], y


def conv_attributes(rng: Rng, shape: tuple[int, ...]) -> tuple[dict[str, Any], tuple[int, int], int]:
    """Attributes of a convolution, its kernel and its groups."""
    kernel = tuple(int(k) for k in rng.integers(1, 4, 2))
    groups = int(rng.choice([1, 1, shape[1]]))
    attributes: dict[str, Any] = {"strides": [int(s) for s in rng.integers(1, 3, 2)], "group": groups}
    if rng.random() < 0.3:
        attributes["auto_pad"] = str(rng.choice(["SAME_UPPER", "SAME_LOWER", "VALID"]))
    else:
        attributes["pads"] = [int(rng.integers(0, k)) for k in (*kernel, *kernel)]
        attributes["dilations"] = [1, int(rng.choice([1, 1, 2]))] if kernel[1] == 1 or shape[3] > 5 else [1, 1]
    return attributes, (kernel[0], kernel[1]), groups


def dequantized(writer: OnnxWriter, name: str, parameters: list[str], **attributes: Any) -> str:
    """The real numbers behind integers."""
    return writer.node("DequantizeLinear", [name, *parameters], **attributes)
