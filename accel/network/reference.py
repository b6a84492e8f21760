"""Executing a quantized graph, slowly and obviously: every other engine must compute the same values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from accel.errors import InputError
from accel.machine.numerics import RequantMode, requantize, requantize_clamp, saturate, wrap_int32
from accel.network.fixed_point import quotient
from accel.network.graph import Graph
from accel.network.host_operator import evaluate
from accel.network.nodes import (
    Add,
    AveragePool2d,
    Clamp,
    Clamped,
    Conv2d,
    Dequantize,
    Div,
    FullyConnected,
    HostOperator,
    LogSoftmax,
    Maximum,
    MaxPool2d,
    Mean,
    Mul,
    Node,
    Pair,
    Quantize,
    Requantized,
    Rescaled,
    Softmax,
    SquaredDifference,
    Sub,
    Table,
    TransposeConv2d,
    UnsignedAveragePool2d,
    Weighted,
)
from accel.network.real import dequantize, quantize_real
from accel.network.reference_movement import MOVERS
from accel.network.softmax import log_softmax, softmax

Int8Array: TypeAlias = NDArray[np.int8]
Array: TypeAlias = NDArray[Any]
"""Values of a tensor: int8 unless they are the host's."""


def run(graph: Graph, inputs: Mapping[str, Array] | Array) -> dict[str, Array]:
    """Execute `graph` once.

    Parameters
    ----------
    graph : Graph
    inputs : mapping of str to ndarray, or one ndarray
        Inputs in the shapes and types (int8 unless they are the host's) of the graph; one array if there is one input.

    Returns
    -------
    dict of str to ndarray
        Every tensor of the graph, inputs included.

    Raises
    ------
    InputError
        An input is missing, unknown, or has the wrong type or shape.
    """
    values = check_inputs(graph, inputs)
    for node in graph.nodes:
        values |= run_node(graph, node, values)
    return values


def run_node(graph: Graph, node: Node, values: Mapping[str, Array]) -> dict[str, Array]:
    """Outputs of one node of a graph, by name, from `values`, which holds its inputs."""
    arrays = [values[name] for name in node.inputs]
    if isinstance(node, HostOperator):
        sources, results = ([graph.tensors[name] for name in names] for names in (node.inputs, node.outputs))
        return dict(zip(node.outputs, evaluate(node, sources, results, arrays), strict=True))
    if mover := MOVERS.get(type(node)):
        return {node.output: mover(node, *arrays)}
    return {node.output: _EXECUTORS[type(node)](graph, node, *arrays)}


def check_inputs(graph: Graph, inputs: Mapping[str, Array] | Array) -> dict[str, Array]:
    """The inputs by name, after checking that they are what `graph` expects; `InputError` otherwise."""
    if not isinstance(inputs, Mapping):
        if len(graph.inputs) != 1:
            raise InputError(f"inputs must be a mapping with the names {graph.inputs!r}, got one array")
        inputs = {graph.inputs[0]: inputs}
    if set(inputs) != set(graph.inputs):
        raise InputError(f"inputs must have the names {graph.inputs!r}, got {tuple(inputs)!r}")
    for name, array in inputs.items():
        shape, dtype = graph.tensors[name].shape, graph.tensors[name].dtype
        if not (isinstance(array, np.ndarray) and array.dtype == dtype and array.shape == shape):
            got = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else repr(type(array))
            raise InputError(f"input {name!r} must be {dtype} of shape {shape}, got {got}; see quantize_input")
    return dict(inputs)


def windows(image: NDArray[np.int64], kernel: Pair, stride: Pair, dilation: Pair = (1, 1)) -> NDArray[np.int64]:
    """All positions of a sliding window over an already padded image: im2col.

    Parameters
    ----------
    image : ndarray of int64, shape (height, width, channels)

    Returns
    -------
    ndarray of int64, shape (oh, ow, kh, kw, channels)
    """
    extent = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    rows = range(0, image.shape[0] - extent[0] + 1, stride[0])
    columns = range(0, image.shape[1] - extent[1] + 1, stride[1])
    taps = [[_tap(image, r, c, extent, dilation) for c in columns] for r in rows]
    return np.array(taps)


def _tap(image: NDArray[np.int64], row: int, column: int, extent: list[int], dilation: Pair) -> NDArray[np.int64]:
    """One window of `windows`, shape (kh, kw, channels)."""
    return image[row : row + extent[0] : dilation[0], column : column + extent[1] : dilation[1]]


def pad(image: NDArray[np.int64], padding: tuple[int, int, int, int], value: int) -> NDArray[np.int64]:
    """An image (height, width, channels) with `value` around it: top, left, bottom, right."""
    top, left, bottom, right = padding
    return np.pad(image, ((top, bottom), (left, right), (0, 0)), constant_values=value)


def _requantized(graph: Graph, node: Weighted | Requantized, acc: NDArray[np.int64]) -> Int8Array:
    """The int8 output of a node with the sums `acc`, which the machine holds in 32 bits."""
    zero_point = graph.tensors[node.output].zero_point
    sums = wrap_int32(acc)
    mode = RequantMode.SINGLE if isinstance(node, Weighted) and node.single_rounding else graph.mode
    return requantize_clamp(sums, node.multiplier, node.shift, zero_point, node.act_min, node.act_max, mode)


def _centred(graph: Graph, name: str, x: Int8Array) -> NDArray[np.int64]:
    """`x` without its zero point."""
    return x.astype(np.int64) - graph.tensors[name].zero_point


def _conv2d(graph: Graph, node: Conv2d, x: Int8Array) -> Int8Array:
    image = pad(_centred(graph, node.inputs[0], x)[0], node.padding, 0)
    patches = windows(image, node.kernel, node.stride, node.dilation)
    weights = np.split(node.weight.astype(np.int64), node.groups)
    groups = zip(np.split(patches, node.groups, axis=-1), weights, strict=True)
    sums = [part.reshape(*part.shape[:2], -1) @ weight.reshape(len(weight), -1).T for part, weight in groups]
    return _requantized(graph, node, np.concatenate(sums, axis=-1) + node.bias.astype(np.int64))[None]


def _transpose_conv2d(graph: Graph, node: TransposeConv2d, x: Int8Array) -> Int8Array:
    image = _centred(graph, node.inputs[0], x)[0]
    (height, width), (kh, kw) = image.shape[:2], node.weight.shape[1:3]
    (sy, sx), (top, left), (oh, ow) = node.stride, node.padding, node.size
    sums = np.zeros(((height - 1) * sy + kh + top + oh, (width - 1) * sx + kw + left + ow, len(node.bias)), np.int64)
    weights, parts = np.split(node.weight.astype(np.int64), node.groups), np.split(image, node.groups, axis=-1)
    for row, column in np.ndindex(height, width):
        products = np.concatenate([w @ part[row, column] for w, part in zip(weights, parts, strict=True)])
        sums[row * sy : row * sy + kh, column * sx : column * sx + kw] += products.transpose(1, 2, 0)
    visible = sums[top : top + oh, left : left + ow]
    return _requantized(graph, node, visible + node.bias.astype(np.int64))[None]


def _fully_connected(graph: Graph, node: FullyConnected, x: Int8Array) -> Int8Array:
    features = _centred(graph, node.inputs[0], x).reshape(1, -1)
    return _requantized(graph, node, features @ node.weight.astype(np.int64).T + node.bias)


def _max_pool2d(graph: Graph, node: MaxPool2d, x: Int8Array) -> Int8Array:
    image = pad(x[0].astype(np.int64), node.padding, -128)
    return _clamped(node, windows(image, node.kernel, node.stride).max(axis=(2, 3)))[None]


def _average_pool2d(graph: Graph, node: AveragePool2d, x: Int8Array, offset: int = 0) -> Int8Array:
    image = x[0].astype(np.int64) + offset
    total = windows(pad(image, node.padding, 0), node.kernel, node.stride).sum(axis=(2, 3))
    count = windows(pad(np.ones_like(image), node.padding, 0), node.kernel, node.stride).sum(axis=(2, 3))
    mean = np.sign(total) * ((np.abs(total) + count // 2) // count)
    return _clamped(node, mean - offset)[None]


def _unsigned_average_pool2d(graph: Graph, node: UnsignedAveragePool2d, x: Int8Array) -> Int8Array:
    return _average_pool2d(graph, node, x, offset=128)


def _mean(graph: Graph, node: Mean, x: Int8Array) -> Int8Array:
    image = pad(_centred(graph, node.inputs[0], x)[0], node.padding, 0)
    sums: NDArray[np.int64] = windows(image, node.kernel, node.stride).sum(axis=(2, 3))
    return _requantized(graph, node, sums)[None]


def _rescaled(graph: Graph, node: Rescaled, *arrays: Int8Array) -> list[NDArray[np.int64]]:
    """Both operands in their common scale."""
    operands = zip(node.inputs, arrays, (node.operand0, node.operand1), strict=True)
    return [requantize(_centred(graph, name, x) << node.left_shift, q, e, graph.mode) for name, x, (q, e) in operands]


def _add(graph: Graph, node: Add, x0: Int8Array, x1: Int8Array) -> Int8Array:
    y0, y1 = _rescaled(graph, node, x0, x1)
    return _requantized(graph, node, y0 + y1)


def _sub(graph: Graph, node: Sub, x0: Int8Array, x1: Int8Array) -> Int8Array:
    y0, y1 = _rescaled(graph, node, x0, x1)
    return _requantized(graph, node, y0 - y1)


def _squared_difference(graph: Graph, node: SquaredDifference, x0: Int8Array, x1: Int8Array) -> Int8Array:
    y0, y1 = _rescaled(graph, node, x0, x1)
    return _requantized(graph, node, (y0 - y1) ** 2)


def _maximum(graph: Graph, node: Maximum, x0: Int8Array, x1: Int8Array) -> Int8Array:
    return np.maximum(x0, x1)


def _div(graph: Graph, node: Div, x0: Int8Array, x1: Int8Array) -> Int8Array:
    dividend, divisor = _centred(graph, node.inputs[0], x0), _centred(graph, node.inputs[1], x1)
    result = quotient(dividend, divisor, node.multiplier, node.shift) + graph.tensors[node.output].zero_point
    return _clamped(node, result)


def _mul(graph: Graph, node: Mul, x0: Int8Array, x1: Int8Array) -> Int8Array:
    return _requantized(graph, node, _centred(graph, node.inputs[0], x0) * _centred(graph, node.inputs[1], x1))


def _table(graph: Graph, node: Table, x: Int8Array) -> Int8Array:
    return node.table[x.astype(np.int64) + 128]


def _clamp(graph: Graph, node: Clamp, x: Int8Array) -> Int8Array:
    return _clamped(node, x.astype(np.int64))


def _clamped(node: Clamped, x: NDArray[np.int64]) -> Int8Array:
    return np.asarray(saturate(x, node.act_min, node.act_max), dtype=np.int8)


def _softmax(graph: Graph, node: Softmax, x: Int8Array) -> Int8Array:
    return softmax(
        x, graph.tensors[node.inputs[0]].scale * node.beta, graph.mode, graph.tensors[node.output].parameters
    )


def _log_softmax(graph: Graph, node: LogSoftmax, x: Int8Array) -> Int8Array:
    source, result = graph.tensors[node.inputs[0]], graph.tensors[node.output]
    return log_softmax(x, source.scale, graph.mode, result.parameters)


def _quantize(graph: Graph, node: Quantize, x: Array) -> Int8Array:
    if graph.mode is RequantMode.FP32:  # as ONNX Runtime: what is too large is the largest integer, no number the least
        limit = np.finfo(np.float32).max
        x = np.where(np.isnan(x), -limit, np.clip(x, -limit, limit))
    elif not np.all(finite := np.isfinite(x)):
        raise InputError(f"tensor {node.inputs[0]!r} must be finite to be quantized, got {x[~finite].flat[0]}")
    return quantize_real(x, graph.tensors[node.output], graph.mode)


def _dequantize(graph: Graph, node: Dequantize, x: Int8Array) -> Array:
    return dequantize(x, graph.tensors[node.inputs[0]])


_EXECUTORS: dict[type[Node], Callable[..., Array]] = {
    Add: _add,
    AveragePool2d: _average_pool2d,
    Clamp: _clamp,
    Conv2d: _conv2d,
    Dequantize: _dequantize,
    Div: _div,
    FullyConnected: _fully_connected,
    LogSoftmax: _log_softmax,
    MaxPool2d: _max_pool2d,
    Maximum: _maximum,
    Mean: _mean,
    Mul: _mul,
    Quantize: _quantize,
    Softmax: _softmax,
    SquaredDifference: _squared_difference,
    Sub: _sub,
    Table: _table,
    TransposeConv2d: _transpose_conv2d,
    UnsignedAveragePool2d: _unsigned_average_pool2d,
}
