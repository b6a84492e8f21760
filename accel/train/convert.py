"""From a trained module to integers, on the path of post-training quantization."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from accel.frontends.onnx.reader import checked
from accel.machine.numerics import requant_mode
from accel.network.graph import Graph
from accel.network.real import round_real
from accel.quantized.lower import lower
from accel.quantized.network import Network, Operator, Quantization, TensorInfo
from accel.quantizer.parameters import quantize_bias
from accel.train.insert import parameters_key
from accel.train.layers import QuantizedLayer
from accel.train.prepare import PreparedModule


def convert(prepared: PreparedModule, name: str | None = None) -> Graph:
    """The integer graph of a trained module.

    Parameters
    ----------
    prepared : PreparedModule
    name : str, optional
        Name of the graph.

    Raises
    ------
    ModelError
        A sum does not fit the machine.
    """
    network = quantized_network(prepared)
    mode = requant_mode(prepared.config.quantization.mode)
    return checked(lambda: lower(replace(network, name=name or network.name), mode))


def quantized_network(prepared: PreparedModule) -> Network:
    """The network with the scales and weights that the training found; what the exports take, too."""
    network = prepared.network
    parameters = {name: _trained(prepared, found) for name, found in network.parameters.items()}
    tensors = dict(network.tensors)
    for op in network.operators:
        if op.name not in prepared.layers:
            continue
        layer = prepared.layer(prepared.layers[op.name])
        weight, bias = (None if part is None else _numpy(part) for part in layer.folded())
        assert weight is not None
        values = _as_stored(weight, op, network)
        tensors[op.inputs[1]] = TensorInfo.constant(op.inputs[1], values)
        parameters[op.inputs[1]] = found = _integers(layer, values, parameters[op.inputs[1]], prepared)
        if bias is not None and op.input(2):
            scale = parameters[op.inputs[0]].parameters[0]
            sums = np.broadcast_to(scale * found.scale.astype(np.float64), bias.shape)
            tensors[op.inputs[2]] = TensorInfo.constant(op.inputs[2], bias)
            mode = requant_mode(prepared.config.quantization.mode)
            parameters[op.inputs[2]] = quantize_bias(bias, sums, mode)
    return replace(network, tensors=tensors, parameters=parameters)


def _trained(prepared: PreparedModule, found: Quantization) -> Quantization:
    """The parameters of an activation with the scale that was learned; others stay."""
    path = None if found.integers is not None else prepared.activations.get(parameters_key(found))
    if path is None:
        return found
    return replace(found, scale=_numpy(prepared.quantizer(path).scale))


def _as_stored(weight: NDArray[np.float32], op: Operator, network: Network) -> NDArray[np.float32]:
    """A weight in the operator's layout."""
    stored = network.tensors[op.inputs[1]].shape
    transposed = op.kind == "MatMul" or (op.kind == "Gemm" and not op.attributes.get("transB", 0))
    return np.ascontiguousarray((weight.T if transposed else weight).reshape(stored))


def _integers(
    layer: QuantizedLayer, weight: NDArray[np.float32], found: Quantization, prepared: PreparedModule
) -> Quantization:
    """The integers of a trained weight at its trained scales."""
    quantizer = layer.weight_quantizer
    assert quantizer is not None
    scale = _numpy(quantizer.scale)
    result = replace(found, scale=scale)
    steps = weight.astype(np.float64) / result.along_axis(scale.astype(np.float64), weight.ndim)
    rounded = round_real(steps, requant_mode(prepared.config.quantization.mode))
    return replace(result, integers=np.clip(rounded, quantizer.low, quantizer.high).astype(np.int64))


def _numpy(tensor: Tensor) -> NDArray[Any]:
    return tensor.detach().to("cpu", torch.float32).numpy().copy()
