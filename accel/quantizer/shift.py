"""Numbers that are added to the bias of a quantized layer, wherever the layer has it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from accel.machine.numerics import RequantMode
from accel.quantized.network import Network, Operator, Quantization, TensorInfo
from accel.quantizer.parameters import quantize_bias
from accel.quantizer.placement import added_columns


def with_shifted_bias(network: Network, op: Operator, shift: NDArray[np.float64], mode: RequantMode) -> Network:
    """The network with other integers of a layer's bias.

    Parameters
    ----------
    network : Network
        With parameters.
    op : Operator
        One of its layers with integer weights.
    shift : ndarray, shape (output channels,)
        Real numbers that are added to its bias.
    mode : RequantMode
        Rounding of the bias.

    Notes
    -----
    A layer without a bias gets one. MatMul has none in ONNX: what an Add or Sub behind it adds per column takes its
    place, and without such an operator the network stays as it is, as it does if the bias is no integer (a Gemm whose
    beta is not 1) or the input has no parameters.
    """
    source = network.parameters.get(op.inputs[0])
    if source is None or (op.input(2) and op.input(2) not in network.parameters):
        return network
    scales = np.broadcast_to(network.parameters[op.inputs[1]].scale.astype(np.float64).reshape(-1), shift.shape)
    scales = source.parameters[0] * float(op.attributes.get("alpha", 1.0)) * scales
    if op.kind == "MatMul":
        return _behind(network, op, shift, scales, mode)
    name = op.input(2) or network.free(f"{op.name}_bias")
    old = network.parameters[name].real.astype(np.float64) if op.input(2) else np.zeros(shift.size)
    parameters = {**network.parameters, name: quantize_bias(old + shift, scales, mode)}
    if op.input(2):
        return replace(network, parameters=parameters)
    changed = replace(op, inputs=(*op.inputs[:2], name))
    return _with(network, op, changed, name, np.zeros(shift.size), parameters)


def _behind(
    network: Network, op: Operator, shift: NDArray[np.float64], scales: NDArray[np.float64], mode: RequantMode
) -> Network:
    """The shift in what the only reader of a product adds to it, or subtracts."""
    readers = network.readers()[op.outputs[0]]
    added = added_columns(network, op, readers)
    if added is None:
        return network
    (reader,) = readers
    place = 1 - reader.inputs.index(op.outputs[0])
    found = network.parameters.get(reader.inputs[place])
    sign = -1.0 if reader.kind == "Sub" else 1.0
    old = np.broadcast_to(found.real.reshape(-1), shift.shape) if found else sign * added.astype(np.float64)
    name = network.free(f"{op.name}_bias")
    parameters = {**network.parameters, name: quantize_bias(old + sign * shift, scales, mode)}
    inputs = [name if i == place else other for i, other in enumerate(reader.inputs)]
    return _with(network, reader, replace(reader, inputs=tuple(inputs)), name, sign * added, parameters)


def _with(
    network: Network,
    old: Operator,
    new: Operator,
    bias: str,
    real: NDArray[np.floating],
    parameters: dict[str, Quantization],
) -> Network:
    """The network with `new` for an operator, and the constant `bias` whose real numbers were `real`."""
    tensors = {**network.tensors, bias: TensorInfo.constant(bias, np.asarray(real, np.float32))}
    operators = tuple(new if op is old else op for op in network.operators)
    return replace(network, operators=operators, tensors=tensors, parameters=parameters)
