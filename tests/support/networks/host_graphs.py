"""Small graphs with real numbers and 64-bit integers, which the host computes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from accel.machine.numerics import requant_mode
from accel.network.graph import Graph, Tensor
from accel.network.nodes import Dequantize, HostOperator, Node, Quantize
from support.networks.random_graphs import GraphBuilder

OPSET = 17


def real(name: str, shape: tuple[int, ...], dtype: str = "float32") -> Tensor:
    """A tensor of the host."""
    return Tensor(name, shape, 1.0, 0, dtype=dtype)


def operator(op_type: str, name: str, inputs: tuple[str, ...], *outputs: str, **attributes: Any) -> HostOperator:
    """An ONNX operator without constants."""
    return HostOperator(
        name=name, inputs=inputs, output=outputs[0], more_outputs=outputs[1:], op_type=op_type, opset=OPSET,
        arguments=inputs, attributes=attributes,
    )  # fmt: skip


def reshape(name: str, source: str, output: str, shape: tuple[int, ...]) -> HostOperator:
    """Another shape for a tensor of the host."""
    return HostOperator(
        name=name, inputs=(source,), output=output, op_type="Reshape", opset=OPSET, arguments=(source, "shape"),
        constants={"shape": np.array(shape, np.int64)},
    )  # fmt: skip


def softmax_in_real_numbers(
    prefix: str, source: Tensor, shape: tuple[int, ...], output: Tensor
) -> tuple[list[Node], list[Tensor]]:
    """Nodes and tensors of a softmax of `source` under `shape` along its last axis, in real numbers."""
    flat = source.shape
    names = {key: f"{prefix}{key}" for key in ("real", "rows", "shares", "flat")}
    nodes: list[Node] = [
        Dequantize(name=f"{prefix}dequantize", inputs=(source.name,), output=names["real"]),
        reshape(f"{prefix}reshape", names["real"], names["rows"], shape),
        operator("Softmax", f"{prefix}softmax", (names["rows"],), names["shares"], axis=-1),
        reshape(f"{prefix}flatten", names["shares"], names["flat"], flat),
        Quantize(name=f"{prefix}quantize", inputs=(names["flat"],), output=output.name),
    ]
    shapes = {"real": flat, "rows": shape, "shares": shape, "flat": flat}
    return nodes, [real(names[key], shape) for key, shape in shapes.items()]


def float_softmax(shape: tuple[int, ...], mode: str) -> Graph:
    """x (1, n) -> dequantize, softmax along the last axis of `shape`, quantize -> y."""
    x = Tensor("x", (1, math.prod(shape)), 0.25, 3)
    y = Tensor("y", x.shape, 1 / 256, -128)
    nodes, tensors = softmax_in_real_numbers("", x, shape, y)
    every = {tensor.name: tensor for tensor in (x, *tensors, y)}
    return Graph("float_softmax", requant_mode(mode), every, tuple(nodes), ("x",), ("y", "shares"))


def top_k(size: int, count: int) -> Graph:
    """The `count` largest of `size` numbers, and where they are."""
    x = Tensor("x", (1, size), 0.25, 3)
    made = [real("real", x.shape), real("values", (1, count)), real("indices", (1, count), "int64")]
    top = HostOperator(
        name="top", inputs=("real",), output="values", more_outputs=("indices",), op_type="TopK", opset=OPSET,
        arguments=("real", "k"), constants={"k": np.array([count], np.int64)},
    )  # fmt: skip
    nodes = (Dequantize(name="dequantize", inputs=("x",), output="real"), top)
    tensors = {tensor.name: tensor for tensor in (x, *made)}
    return Graph("top_k", requant_mode("tflite"), tensors, nodes, ("x",), ("values", "indices"))


def float_head(shape: tuple[int, ...], mode: str) -> Graph:
    """Real inputs, quantized by the graph itself."""
    tensors = {"x": real("x", shape), "q": Tensor("q", shape, 0.5, 0)}
    node = Quantize(name="quantize", inputs=("x",), output="q")
    return Graph("float_head", requant_mode(mode), tensors, (node,), ("x",), ("q",))


def random_segments(rng: np.random.Generator, mode: str) -> Graph:
    """Layers of the machine with host operators between them, some of whose inputs the machine reads again later."""
    builder = GraphBuilder(rng, mode)
    size, channels = builder.pick(1, 5), builder.pick(1, 9)
    current = builder.given((1, size, builder.pick(1, 5), channels))
    seen = [current]
    for _ in range(builder.pick(2, 4)):
        current = builder.conv(current, channels)
        seen.append(current)
        if rng.random() < 0.6:
            current = builder.softmax(current)
        else:
            output = builder.tensor(current.shape)
            count = math.prod(current.shape)
            rows = builder.pick(1, count)
            while count % rows:
                rows -= 1
            prefix = f"host{len(builder.nodes)}_"
            nodes, tensors = softmax_in_real_numbers(prefix, current, (rows, count // rows), output)
            builder.nodes += nodes
            builder.tensors |= {tensor.name: tensor for tensor in tensors}
            current = output
        seen.append(current)
        partners = [tensor for tensor in seen if tensor.shape == current.shape]
        current = builder.combined(current, partners[builder.pick(0, len(partners) - 1)])
        seen.append(current)
    return builder.graph(current)
