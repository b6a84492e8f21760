"""Chains of layers, written in one line: `network((1, 8, 8, 3), conv(4, (3, 3)), fully_connected(10))`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from accel.machine.numerics import output_multipliers, quantize_multiplier
from accel.network.graph import Graph, Tensor
from accel.network.nodes import (
    Add,
    AveragePool2d,
    Clamp,
    Conv2d,
    FullyConnected,
    MaxPool2d,
    Node,
    Reshape,
    Softmax,
    Table,
    Transpose,
)

SCALE, ZERO_POINT = 0.5, 3
Layer = Callable[[str, Tensor, str], Node]
"""Makes a node from its name, its input and its output's name."""


def _weights(shape: tuple[int, ...]) -> Any:
    rng = np.random.default_rng(list(shape))
    multiplier, shift = output_multipliers(SCALE, np.full(shape[0], 2**-7 / np.sqrt(shape[-1])), SCALE, "tflite")
    return {
        "weight": rng.integers(-127, 128, shape).astype(np.int8),
        "bias": rng.integers(-3000, 3000, shape[0]).astype(np.int32),
        "multiplier": multiplier,
        "shift": shift,
    }


def conv(channels: int, kernel: tuple[int, int], **fields: Any) -> Layer:
    """A convolution with clamped outputs."""

    def make(name: str, source: Tensor, output: str) -> Node:
        values = _weights((channels, *kernel, source.shape[3] // fields.get("groups", 1)))
        return Conv2d(name=name, inputs=(source.name,), output=output, act_min=-100, **values, **fields)

    return make


def fully_connected(outputs: int) -> Layer:
    def make(name: str, source: Tensor, output: str) -> Node:
        values = _weights((outputs, int(np.prod(source.shape))))
        return FullyConnected(name=name, inputs=(source.name,), output=output, **values)

    return make


def pool(
    kind: Any, kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int, int, int] = (0, 0, 0, 0)
) -> Layer:
    return lambda name, source, output: kind(
        name=name, inputs=(source.name,), output=output, kernel=kernel, stride=stride, padding=padding
    )


def add() -> Layer:
    """The sum of a tensor and itself."""

    def make(name: str, source: Tensor, output: str) -> Node:
        last = quantize_multiplier(2 / 2**20)
        return Add(
            name=name, inputs=(source.name, source.name), output=output,
            operand0=(2**30, 0), operand1=(2**30, 0), multiplier=last[0], shift=last[1],
        )  # fmt: skip

    return make


def clamp(low: int, high: int) -> Layer:
    return lambda name, source, output: Clamp(
        name=name, inputs=(source.name,), output=output, act_min=low, act_max=high
    )


def table() -> Layer:
    """Another permutation of the integers in every layer."""

    def make(name: str, source: Tensor, output: str) -> Node:
        values = np.random.default_rng(list(name.encode())).permutation(256) - 128
        return Table(name=name, inputs=(source.name,), output=output, table=values.astype(np.int8))

    return make


def transpose(permutation: tuple[int, ...]) -> Layer:
    return lambda name, source, output: Transpose(
        name=name, inputs=(source.name,), output=output, permutation=permutation
    )


def reshape(shape: tuple[int, ...]) -> Layer:
    return lambda name, source, output: Reshape(name=name, inputs=(source.name,), output=output, shape=shape)


def softmax() -> Layer:
    return lambda name, source, output: Softmax(name=name, inputs=(source.name,), output=output)


def network(shape: tuple[int, ...], *layers: Layer, mode: str = "tflite") -> Graph:
    """A chain from tensor t0 of `shape` through nodes n0, n1, ... to the last tensor."""
    tensors = [Tensor("t0", shape, SCALE, ZERO_POINT)]
    nodes = []
    for i, layer in enumerate(layers):
        node = layer(f"n{i}", tensors[-1], f"t{i + 1}")
        sizes = [tensors[-1].shape] * node.arity
        parameters = Softmax.output_parameters if isinstance(node, Softmax) else (SCALE, ZERO_POINT)
        tensors.append(Tensor(f"t{i + 1}", node.output_shape(*sizes), *parameters))
        nodes.append(node)
    named = {tensor.name: tensor for tensor in tensors}
    return Graph("network", mode, named, tuple(nodes), ("t0",), (tensors[-1].name,))


def every_compiled_operation() -> Graph:
    """A chain n0 .. n6 with everything that the compiler knows; the host adds a softmax. Outputs are t6 and t7."""
    graph = network(
        (1, 9, 8, 3),
        conv(6, (3, 3), stride=(2, 2), padding=(1, 1, 1, 0)),
        add(),
        pool(MaxPool2d, (2, 2), (1, 1)),
        pool(AveragePool2d, (3, 3), (2, 2), (1, 1, 1, 1)),
        reshape((1, 24)),
        fully_connected(5),
        softmax(),
    )
    return replace(graph, outputs=("t6", "t7"))
