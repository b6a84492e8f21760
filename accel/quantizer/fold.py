"""Folding: constants after a linear layer go into its weights, clips into the layer whose output they limit."""

from __future__ import annotations

import dataclasses

import numpy as np

from accel.errors import ModelError
from accel.frontends.onnx.float_layers import ChannelAffine, Clip, Clipped, Layer, Linear, Network


def fold(network: Network) -> Network:
    """Fold batch normalization, added constants and clips into the layers before them.

    Parameters
    ----------
    network : Network

    Returns
    -------
    Network
        The same function without any `ChannelAffine`. A folded layer writes the tensor that the absorbed one wrote.

    Raises
    ------
    ModelError
        A `ChannelAffine` does not follow a convolution or matrix product whose result nothing else reads.

    Notes
    -----
    ``W' = W * scale`` per output channel and ``b' = b * scale + bias``, in float64, before any range is measured.
    """
    layers: list[Layer] = []
    for layer in network.layers:
        source = _sole_producer(network, layers, layer)
        folded = None if source is None else _absorb(layers[source], layer)
        if source is not None and folded is not None:
            layers[source] = folded
        elif isinstance(layer, ChannelAffine):
            raise ModelError(
                f"{layer.operator} {layer.name!r}: a constant per channel must follow a Conv, Gemm or MatMul "
                "whose output nothing else reads"
            )
        else:
            layers.append(layer)
    return dataclasses.replace(network, layers=layers)


def _sole_producer(network: Network, layers: list[Layer], layer: Layer) -> int | None:
    """Index of the layer that writes the only input of `layer` and is read by nothing else."""
    tensor = layer.inputs[0]
    readers = sum(other.inputs.count(tensor) for other in network.layers) + network.outputs.count(tensor)
    found = [index for index, other in enumerate(layers) if other.output == tensor]
    return found[0] if found and readers == 1 else None


def _absorb(before: Layer, layer: Layer) -> Layer | None:
    """`before` and `layer` as one layer, if that is possible."""
    if isinstance(layer, Clip) and isinstance(before, Clipped):
        low, high = max(before.low, layer.low), min(before.high, layer.high)
        if low <= high:
            return dataclasses.replace(before, low=low, high=high, output=layer.output)
    if isinstance(layer, ChannelAffine) and isinstance(before, Linear) and _unclipped(before):
        scale = layer.scale.astype(np.float64)
        weight = before.weight * scale.reshape(-1, *(1,) * (before.weight.ndim - 1))
        bias = before.bias * scale + layer.bias
        return dataclasses.replace(
            before, weight=weight.astype(np.float32), bias=bias.astype(np.float32), output=layer.output
        )
    return None


def _unclipped(layer: Clipped) -> bool:
    return layer.low == -np.inf and layer.high == np.inf
