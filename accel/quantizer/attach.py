"""From measured ranges to the parameters of every tensor."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from accel.machine.numerics import RequantMode, requant_mode
from accel.quantized.builder import Parameters
from accel.quantized.network import Network, Operator, Quantization, TensorInfo
from accel.quantized.operators import OPERATORS
from accel.quantized.recipes import affine_parameters, symmetric_parameters
from accel.quantizer.config import LayerConfig, QuantizationConfig
from accel.quantizer.parameters import Steps, quantize_bias, quantize_weights, weight_scales
from accel.quantizer.placement import added_columns, quantized_tensors
from accel.quantizer.thresholds import Range


class Fixed(NamedTuple):
    """A function whose values have bounds: the bounds, and the parameters that TensorFlow Lite prescribes."""

    limits: Range
    parameters: Parameters


FIXED = {
    "Softmax": Fixed((0, 1), (1 / 256, -128)),
    "Sigmoid": Fixed((0, 1), (1 / 256, -128)),
    "Tanh": Fixed((-1, 1), (1 / 128, 0)),
}
"""Results that need no measured range."""


def attach(network: Network, ranges: Mapping[str, Range], config: QuantizationConfig) -> Network:
    """The network with parameters of activations, weights and biases.

    Parameters
    ----------
    network : Network
        Float, folded.
    ranges : mapping of str to (float, float)
        Of every tensor that `quantized_tensors` names.
    config : QuantizationConfig
        Mode (rounding of zero points, weights and biases), and the settings of every layer.

    Notes
    -----
    Weights are symmetric per output channel, activations affine per tensor.
    """
    mode = requant_mode(config.mode)
    result = replace(network, parameters=activation_parameters(network, ranges, config))
    readers = network.readers()
    for op in network.operators:
        if has_integer_weights(result, op, result.parameters):
            added = added_columns(network, op, readers[op.outputs[0]])
            result = _with_weights(result, op, config.layer(op.name, op.kind), mode, added)
    return result


def activation_parameters(
    network: Network, ranges: Mapping[str, Range], config: QuantizationConfig
) -> dict[str, Quantization]:
    """The parameters of all activations; arguments as those of `attach`.

    Notes
    -----
    Results that hold values of an input only take over its parameters; what only a Concat reads gets those of the
    Concat, so that it is rounded once.
    """
    mode = requant_mode(config.mode)
    parameters = {name: found for name, found in network.parameters.items() if name in network.inputs}
    wanted = quantized_tensors(network)
    for name in set(network.inputs) & wanted - set(parameters):
        parameters[name] = _measured(ranges[name], config.layer(name, "Input"), mode)
    inherited, readers = inherited_ranges(network), network.readers()
    for op in network.operators:
        layer = config.layer(op.name, op.kind)
        for name in op.outputs:
            if name not in wanted:
                continue
            source = kept_input(network, op, parameters)
            if source is not None:
                parameters[name] = parameters[source]
            elif op.kind in FIXED and not layer.activation_symmetric:
                inner = op.kind == "Softmax" and _is_computed_with(name, readers)
                parameters[name] = _fixed(op.kind, mode, ranges[name] if inner else None)
            else:
                parameters[name] = _measured(ranges[inherited.get(name, name)], layer, mode)
    return parameters


def _measured(limits: Range, layer: LayerConfig, mode: RequantMode) -> Quantization:
    make = symmetric_parameters if layer.activation_symmetric else affine_parameters
    return Quantization.of(make(limits, mode))


def _fixed(kind: str, mode: RequantMode, seen: Range | None) -> Quantization:
    """Parameters of a function with bounded values: those of TensorFlow Lite, or its whole range in mode `fp32`.

    Shares of many, of which a range was seen, are small: theirs ends at the power of two that holds twice the largest.
    """
    fixed = FIXED[kind]
    if mode is not RequantMode.FP32:
        return Quantization.of(fixed.parameters)
    low, high = fixed.limits
    if seen is not None and seen[1] > 0:
        high = min(high, float(2.0 ** np.ceil(np.log2(2 * seen[1]))))
    return Quantization.of(affine_parameters((low, high), mode))


def _is_computed_with(name: str, readers: Mapping[str, list[Operator]]) -> bool:
    """Whether more than movements follows a tensor."""
    rows = [(reader, OPERATORS.get(reader.kind)) for reader in readers[name]]
    return any(not row or not row.keeps_range or _is_computed_with(op.outputs[0], readers) for op, row in rows)


def kept_input(network: Network, op: Operator, integers: Container[str]) -> str | None:
    """The input whose parameters the result of an operator takes over; a border of a number has a range of its own."""
    row = OPERATORS.get(op.kind)
    border = network.value(op.input(2)) if op.kind == "Pad" else None
    widens = bool(np.any(border)) if border is not None else bool(op.attributes.get("value", 0.0))
    kept = row is not None and row.keeps_range and op.inputs[0] in integers and not (op.kind == "Pad" and widens)
    return op.inputs[0] if kept else None


def inherited_ranges(network: Network) -> dict[str, str]:
    """Tensors that only a Concat reads, and whose range they therefore get."""
    readers, inherited = network.readers(), dict[str, str]()
    for op in reversed(network.operators):
        for name in op.outputs:
            found = readers.get(name, [])
            if found and name not in network.outputs and all(reader.kind == "Concat" for reader in found):
                target = found[0].outputs[0]
                if all(reader is found[0] for reader in found):
                    inherited[name] = inherited.get(target, target)
    return inherited


def _with_weights(
    network: Network, op: Operator, layer: LayerConfig, mode: RequantMode, added: NDArray[np.float32] | None
) -> Network:
    """Integers of an operator's weights (`has_integer_weights`) and bias; `added` is a bias that another adds."""
    weight = network.value(op.inputs[1])
    assert weight is not None
    source, result = (network.parameters[name] for name in (op.inputs[0], _result(network, op, network.parameters)))
    axis = 0 if op.kind == "Conv" or op.attributes.get("transB", 0) else 1 if op.kind != "MatMul" else weight.ndim - 1
    groups = int(op.attributes.get("group", 1))
    bias = network.value(op.input(2)) if op.input(2) else None
    alpha, beta = (float(op.attributes.get(name, 1.0)) for name in ("alpha", "beta"))
    channels = weight.shape[axis] * (groups if op.kind == "ConvTranspose" else 1)
    offset = np.zeros(channels) if added is None else added.astype(np.float64)
    if bias is not None:
        offset = np.broadcast_to(bias.reshape(-1) * beta, (channels,))
    scale_in, scale_out = source.parameters[0] * alpha, result.parameters[0]
    if op.kind == "ConvTranspose" and groups > 1:
        layer = replace(layer, per_channel=False)
    rows = np.moveaxis(weight, axis, 0)
    scales = weight_scales(rows, offset, Steps(scale_in, scale_out), layer)
    names = [network.free(f"{op.name}_{part}") for part in ("weight", "bias")]
    tensors, parameters = dict(network.tensors), dict(network.parameters)
    tensors[names[0]] = TensorInfo.constant(names[0], weight)
    parameters[names[0]] = quantize_weights(weight, scales, axis, layer.weight_bits, mode)
    inputs: tuple[str, ...] = (op.inputs[0], names[0])
    if bias is not None and beta == 1:
        sums = scale_in * np.broadcast_to(scales, (channels,)).astype(np.float64)
        parameters[names[1]] = quantize_bias(offset, sums, mode)
        tensors[names[1]] = TensorInfo.constant(names[1], np.ascontiguousarray(offset, dtype=np.float32))
        inputs = (*inputs, names[1])
    elif bias is not None:
        inputs = (*inputs, op.inputs[2])
    operators = tuple(replace(op, inputs=inputs) if other is op else other for other in network.operators)
    return replace(network, operators=operators, tensors=tensors, parameters=parameters)


def has_integer_weights(network: Network, op: Operator, integers: Container[str]) -> bool:
    """Whether the weights of an operator become integers, if the tensors `integers` do."""
    if op.kind not in ("Conv", "ConvTranspose", "Gemm", "MatMul") or op.name in network.host:
        return False
    weight = network.value(op.inputs[1])
    known = op.inputs[0] in integers and _result(network, op, integers) in integers
    return known and weight is not None and weight.ndim >= 2 and bool(np.all(np.isfinite(weight)))


def _result(network: Network, op: Operator, integers: Container[str]) -> str:
    """The tensor whose parameters the sums of an operator get: its own result, or that of a clip."""
    name = op.outputs[0]
    for other in network.operators:
        if name in integers:
            break
        if name in other.inputs:
            name = other.outputs[0]
    return name
