"""The reference executor against one loop per element."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray
from support.networks.small_graphs import every_operation

from accel.errors import InputError
from accel.machine.numerics import RequantMode, output_multipliers, requantize
from accel.network import reference
from accel.network.graph import Graph, Shape, Tensor
from accel.network.nodes import AveragePool2d, Conv2d, FullyConnected, MaxPool2d, Mean, TransposeConv2d

Int8Array = NDArray[np.int8]


def taps(
    node: Conv2d | MaxPool2d | AveragePool2d | Mean, dilation: tuple[int, int], size: Shape, row: int, column: int
) -> Iterator[tuple[int, int, int, int]]:
    """Kernel and image coordinates of the taps inside the image."""
    for ky in range(node.kernel[0]):
        for kx in range(node.kernel[1]):
            y = row * node.stride[0] - node.padding[0] + ky * dilation[0]
            x = column * node.stride[1] - node.padding[1] + kx * dilation[1]
            if 0 <= y < size[1] and 0 <= x < size[2]:
                yield ky, kx, y, x


def naive_conv2d(graph: Graph, node: Conv2d, image: Int8Array) -> Int8Array:
    source, out = graph.tensors[node.inputs[0]], graph.tensors[node.output]
    result = np.zeros(out.shape, dtype=np.int8)
    for _, row, column, channel in np.ndindex(out.shape):
        acc = int(node.bias[channel])
        first = channel // (out.shape[3] // node.groups) * node.weight.shape[3]
        for ky, kx, y, x in taps(node, node.dilation, image.shape, row, column):
            for ic in range(node.weight.shape[3]):
                acc += int(node.weight[channel, ky, kx, ic]) * (int(image[0, y, x, first + ic]) - source.zero_point)
        scaled = int(requantize(acc, node.multiplier[channel], node.shift[channel], graph.mode))
        result[0, row, column, channel] = min(max(scaled + out.zero_point, node.act_min), node.act_max)
    return result


def naive_transpose_conv2d(graph: Graph, node: TransposeConv2d, image: Int8Array) -> Int8Array:
    """Each output gathers what the inputs would spread to it."""
    source, out = graph.tensors[node.inputs[0]], graph.tensors[node.output]
    result = np.zeros(out.shape, dtype=np.int8)
    for _, row, column, channel in np.ndindex(out.shape):
        acc = int(node.bias[channel])
        for ky, kx in np.ndindex(node.weight.shape[1:3]):
            first = channel * node.groups // len(node.weight) * node.weight.shape[3]
            y, y_rest = divmod(row + node.padding[0] - ky, node.stride[0])
            x, x_rest = divmod(column + node.padding[1] - kx, node.stride[1])
            if y_rest == x_rest == 0 and 0 <= y < image.shape[1] and 0 <= x < image.shape[2]:
                for ic in range(node.weight.shape[3]):
                    acc += int(node.weight[channel, ky, kx, ic]) * (int(image[0, y, x, first + ic]) - source.zero_point)
        scaled = int(requantize(acc, node.multiplier[channel], node.shift[channel], graph.mode))
        result[0, row, column, channel] = min(max(scaled + out.zero_point, node.act_min), node.act_max)
    return result


def naive_mean(graph: Graph, node: Mean, image: Int8Array) -> Int8Array:
    source, out = graph.tensors[node.inputs[0]], graph.tensors[node.output]
    result = np.zeros(out.shape, dtype=np.int8)
    for _, row, column, channel in np.ndindex(out.shape):
        positions = taps(node, (1, 1), image.shape, row, column)
        acc = sum(int(image[0, y, x, channel]) - source.zero_point for _, _, y, x in positions)
        scaled = int(requantize(acc, node.multiplier, node.shift, graph.mode))
        result[0, row, column, channel] = min(max(scaled + out.zero_point, node.act_min), node.act_max)
    return result


def naive_pool(graph: Graph, node: MaxPool2d | AveragePool2d, image: Int8Array) -> Int8Array:
    out = graph.tensors[node.output]
    result = np.zeros(out.shape, dtype=np.int8)
    for _, row, column, channel in np.ndindex(out.shape):
        values = [int(image[0, y, x, channel]) for _, _, y, x in taps(node, (1, 1), image.shape, row, column)]
        mean = sum(values) / len(values)
        value = max(values) if isinstance(node, MaxPool2d) else math.floor(abs(mean) + 0.5) * (1 if mean > 0 else -1)
        result[0, row, column, channel] = min(max(value, node.act_min), node.act_max)
    return result


def naive_fully_connected(graph: Graph, node: FullyConnected, x: Int8Array) -> Int8Array:
    source, out = graph.tensors[node.inputs[0]], graph.tensors[node.output]
    result = np.zeros(out.shape, dtype=np.int8)
    for channel in range(out.shape[1]):
        acc = int(node.bias[channel])
        for weight, value in zip(node.weight[channel], x.reshape(-1), strict=True):
            acc += int(weight) * (int(value) - source.zero_point)
        scaled = int(requantize(acc, node.multiplier[channel], node.shift[channel], graph.mode))
        result[0, channel] = min(max(scaled + out.zero_point, node.act_min), node.act_max)
    return result


def differences(graph: Graph, seed: int) -> int:
    """Elements in which the executor and the loops differ, over all convolutions, products and pools of `graph`."""
    rng = np.random.default_rng(seed)
    values = reference.run(graph, rng.integers(-128, 128, (1, 9, 8, 3)).astype(np.int8))
    count = 0
    for node in graph.nodes:
        x = values[node.inputs[0] if node.inputs else node.output]
        if isinstance(node, Conv2d):
            expected = naive_conv2d(graph, node, x)
        elif isinstance(node, MaxPool2d | AveragePool2d):
            expected = naive_pool(graph, node, x)
        elif isinstance(node, TransposeConv2d):
            expected = naive_transpose_conv2d(graph, node, x)
        elif isinstance(node, Mean):
            expected = naive_mean(graph, node, x)
        elif isinstance(node, FullyConnected):
            expected = naive_fully_connected(graph, node, x)
        else:
            continue
        count += int(np.count_nonzero(values[node.output] != expected))
    return count


@pytest.mark.parametrize("mode", ["tflite", "single", "fp32"])
def test_reference_equals_loops(mode: str) -> None:
    assert [differences(every_operation(mode, seed), seed) for seed in range(3)] == [0, 0, 0]


def test_comparison_catches_transposed_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    right = reference.windows
    monkeypatch.setattr(reference, "windows", lambda *arguments: right(*arguments).swapaxes(2, 3))
    assert differences(every_operation(), 1) > 0


def test_comparison_catches_wrong_padding(monkeypatch: pytest.MonkeyPatch) -> None:
    right = reference.pad
    monkeypatch.setattr(reference, "pad", lambda image, padding, value: right(image, padding, value + 1))
    assert differences(every_operation(), 1) > 0


def test_add_clamp_reshape_and_softmax() -> None:
    graph = every_operation()
    values = reference.run(graph, np.random.default_rng(1).integers(-128, 128, (1, 9, 8, 3)).astype(np.int8))
    real = {name: (values[name] - np.float64(t.zero_point)) * t.scale for name, t in graph.tensors.items()}
    total = np.clip((real["a"] + real["b"]) / 0.5 + 9, -128, 127)
    assert np.abs(values["c"] - total).max() <= 0.5
    assert np.array_equal(values["f"], np.clip(values["e"], -20, 40))
    assert np.array_equal(values["g"], values["f"].reshape(1, 12))
    share = np.exp(real["h"]) / np.exp(real["h"]).sum()
    assert np.abs(real["i"] - share).max() <= 0.5 / 256 + 1e-9


def test_accumulators_wrap_to_32_bits() -> None:
    multiplier, shift = output_multipliers(1.0, np.array([2.0**-24]), 1.0, "tflite")
    node = FullyConnected(
        name="fc",
        inputs=("x",),
        output="y",
        weight=np.array([[1]], dtype=np.int8),
        bias=np.array([2**31 - 1], dtype=np.int32),
        multiplier=multiplier,
        shift=shift,
    )
    tensors = {"x": Tensor("x", (1, 1), 1.0, 0), "y": Tensor("y", (1, 1), 1.0, 0)}
    graph = Graph("wrap", RequantMode.TFLITE, tensors, (node,), ("x",), ("y",))
    assert reference.run(graph, np.array([[0]], dtype=np.int8))["y"] == 127
    assert reference.run(graph, np.array([[1]], dtype=np.int8))["y"] == -128


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (
            np.zeros((1, 9, 8, 3)),
            r"^input 'image' must be int8 of shape \(1, 9, 8, 3\), got float64 \(1, 9, 8, 3\); see",
        ),
        (
            np.zeros((9, 8, 3), np.int8),
            r"^input 'image' must be int8 of shape \(1, 9, 8, 3\), got int8 \(9, 8, 3\); see",
        ),
        ({"x": np.zeros(1, np.int8)}, r"^inputs must have the names \('image',\), got \('x',\)$"),
        ({}, r"^inputs must have the names \('image',\), got \(\)$"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(inputs: dict[str, Int8Array] | Int8Array, message: str) -> None:
    with pytest.raises(InputError, match=message):
        reference.run(every_operation(), inputs)
