"""Cross-layer equalization: channels between two layers get equal ranges in both, so that one scale fits all."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from accel.quantized.network import Network, Operator, TensorInfo

MOST_SWEEPS = 50
"""Sweeps over all pairs; chains need several, because the middle layer belongs to two pairs."""
CONVERGED = 1e-3
"""A sweep whose factors are all this close to 1 is the last."""
LARGEST_FACTOR = 2.0**20
"""Factors stay within this and its inverse, so that float32 holds what was nearly dead."""
SCALABLE = ("Relu", "LeakyRelu", "PRelu", "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "Identity")
"""Functions with ``f(s * x) = s * f(x)`` for positive s, channel by channel."""

Weights = dict[str, NDArray[np.float64]]


class Pair(NamedTuple):
    """Two layers between which every channel has a factor of its own: the output of the first, divided by it."""

    first: Operator
    second: Operator


def equalize(network: Network) -> Network:
    """The same function with equalized weights.

    Parameters
    ----------
    network : Network
        Float, with BatchNormalization folded.

    Returns
    -------
    Network
        Weights and biases of paired layers are new; everything else is as it was.

    Notes
    -----
    For each channel c between two layers, ``W1[c] / s``, ``b1[c] / s`` and ``W2[:, c] * s`` with
    ``s = sqrt(r1 / r2)``, where ``r1 = max|W1[c]|`` and ``r2 = max|W2[:, c]|``: both ranges become ``sqrt(r1 * r2)``.
    Pairs are swept until nothing changes, so that chains (pointwise, depthwise, pointwise) settle.
    Nagel et al. 2019, Data-Free Quantization Through Weight Equalization and Bias Correction, section 4.1.

    A clip with a finite upper bound (Relu6) ends a pair. ``clip(s * x, 0, 6)`` is ``s * clip(x, 0, 6 / s)``: it needs a
    bound per channel, but POST clamps a tensor by one pair of bounds, and a Min per channel would cost a pass over
    every activation. Leaving the bound out, as the paper does, would be another function. Weight scales per channel,
    the default, give such layers what equalization would.
    """
    found = pairs(network)
    if not found:
        return network
    operators, weights = {op.name: op for op in network.operators}, Weights()
    for op in dict.fromkeys(op for pair in found for op in pair):
        value = network.value(op.inputs[1])
        assert value is not None
        weights[op.name] = value.astype(np.float64)
        bias = network.value(op.input(2)) if op.input(2) else None
        if bias is not None:
            weights[f"{op.name}/bias"] = bias.astype(np.float64)
    for _ in range(MOST_SWEEPS):
        change = max(_equalize_pair(pair, weights) for pair in found)
        if change < CONVERGED:
            break
    tensors = dict(network.tensors)
    for name in [name for name in weights if name in operators]:
        operators[name] = _with_arrays(operators[name], weights, tensors)
    return replace(network, operators=tuple(operators[op.name] for op in network.operators), tensors=tensors)


def pairs(network: Network) -> list[Pair]:
    """The pairs that can be equalized, in the network's order: nothing but the second layer sees the first's output."""
    readers = network.readers()
    return list(_pairs(network, readers))


def _pairs(network: Network, readers: dict[str, list[Operator]]) -> Iterator[Pair]:
    for op in network.operators:
        if not _is_layer(network, op):
            continue
        name = op.outputs[0]
        while name not in network.outputs and len(readers.get(name, [])) == 1:
            reader = readers[name][0]
            if reader.inputs[0] != name:
                break
            if _is_layer(network, reader):
                if _channels_out(op, network) == _channels_in(reader, network):
                    yield Pair(op, reader)
                break
            if not _is_scalable(network, reader):
                break
            name = reader.outputs[0]


def _is_layer(network: Network, op: Operator) -> bool:
    """Whether an operator has constant weights, one row per output channel, and nothing but its bias beside them."""
    weight = network.value(op.input(1))
    if op.kind not in ("Conv", "Gemm") or weight is None or not np.all(np.isfinite(weight)):
        return False
    bias = network.value(op.input(2)) if op.input(2) else np.zeros(1)
    usual = op.kind == "Conv" or not op.attributes.get("transA", 0)
    return usual and bias is not None and bias.size in (1, _channels_out(op, network))


def _is_scalable(network: Network, op: Operator) -> bool:
    """Whether a positive factor of each channel moves through an operator."""
    if op.kind == "PRelu":
        return network.value(op.inputs[1]) is not None
    if op.kind == "Clip":
        bounds = [network.value(name) if name else None for name in (op.input(1), op.input(2))]
        low, high = (float("nan") if value is None else float(value.reshape(-1)[0]) for value in bounds)
        low = op.attributes.get("min", low)
        high = op.attributes.get("max", np.inf if not op.input(2) else high)
        return bool(low == 0 and high == np.inf)
    if op.kind in ("Flatten", "Reshape", "Squeeze"):
        shapes = [network.shape(op, name) for name in (op.inputs[0], op.outputs[0])]
        return all(len(shape) > 1 and math.prod(shape) == shape[1] for shape in shapes)
    return op.kind in SCALABLE


def _axis_out(op: Operator) -> int:
    """The axis of the output channels in the weights."""
    return 0 if op.kind == "Conv" or op.attributes.get("transB", 0) else 1


def _channels_out(op: Operator, network: Network) -> int:
    return int(network.tensors[op.inputs[1]].shape[_axis_out(op)])


def _channels_in(op: Operator, network: Network) -> int:
    shape = network.tensors[op.inputs[1]].shape
    return int(shape[1 - _axis_out(op)] * op.attributes.get("group", 1))


def _by_input(op: Operator, weight: NDArray[np.float64]) -> NDArray[np.float64]:
    """A view of weights as (groups, outputs of a group, inputs of a group, taps)."""
    groups = int(op.attributes.get("group", 1))
    rows = weight if _axis_out(op) == 0 else weight.T
    return rows.reshape(groups, rows.shape[0] // groups, rows.shape[1], -1)


def _equalize_pair(pair: Pair, weights: Weights) -> float:
    """Scale the channels between two layers in place; returns the largest change, as a logarithm."""
    first, second = weights[pair.first.name], weights[pair.second.name]
    rows = first if _axis_out(pair.first) == 0 else first.T
    columns = _by_input(pair.second, second)
    before = np.abs(rows.reshape(len(rows), -1)).max(axis=1)
    after = np.abs(columns).max(axis=(1, 3)).reshape(-1)
    alive = (before > 0) & (after > 0)
    ratio = np.divide(before, after, out=np.ones_like(before), where=alive)
    factor = np.clip(np.sqrt(ratio), 1 / LARGEST_FACTOR, LARGEST_FACTOR)
    rows /= factor.reshape(-1, *[1] * (rows.ndim - 1))
    columns *= factor.reshape(len(columns), 1, -1, 1)
    if (bias := weights.get(f"{pair.first.name}/bias")) is not None:
        weights[f"{pair.first.name}/bias"] = np.broadcast_to(bias.reshape(-1), factor.shape) / factor
    return float(np.abs(np.log(factor)).max(initial=0))


def _with_arrays(op: Operator, weights: Weights, tensors: dict[str, TensorInfo]) -> Operator:
    """An operator with its new weights and bias as constants of its own."""
    inputs = list(op.inputs)
    for place, key in ((1, op.name), (2, f"{op.name}/bias")):
        if key in weights:
            inputs[place] = f"{op.name}_equalized_{('weight', 'bias')[place - 1]}"
            tensors[inputs[place]] = TensorInfo.constant(inputs[place], weights[key].astype(np.float32))
    return replace(op, inputs=tuple(inputs))
