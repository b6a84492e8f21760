"""Empirical bias correction: the mean error of every channel, measured on calibration data, leaves its bias."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from accel.machine.numerics import RequantMode
from accel.quantized.network import Network, Operator, TensorInfo
from accel.quantizer.parameters import quantize_bias
from accel.quantizer.reconstruct import LayerInputs, Stage, improve_layers, silent
from accel.quantizer.runner import Runner, Values, in_parallel


def correct_biases(network: Network, samples: Sequence[Values], mode: RequantMode, stage: Stage = silent) -> Network:
    """The network with biases less the mean error of their channels.

    Parameters
    ----------
    network, samples, stage
        As `improve_layers` takes them.
    mode : RequantMode
        Rounding of the biases.

    Notes
    -----
    ``b' = b - mean(W' x' + b - (W x + b))`` over samples and positions, where W' are the integer weights as real
    numbers and x' is the input that the layers before give, corrected already.
    Nagel et al. 2019, Data-Free Quantization Through Weight Equalization and Bias Correction, section 4.2 and
    appendix D: the empirical form. A layer without a bias gets one, except MatMul, which
    has none in ONNX.
    """

    def improve(network: Network, op: Operator, inputs: LayerInputs) -> Network:
        return _corrected(network, op, inputs, mode)

    return improve_layers(network, samples, improve, "bias correction", stage)


def _corrected(network: Network, op: Operator, inputs: LayerInputs, mode: RequantMode) -> Network:
    bias, source = op.input(2), network.parameters.get(op.inputs[0])
    stays = bias not in network.parameters if bias else op.kind == "MatMul"
    if source is None or stays:
        return network
    error = _means(network, op, inputs.quantized, quantized=True) - _means(network, op, inputs.real, quantized=False)
    scales = source.parameters[0] * float(op.attributes.get("alpha", 1.0)) * _scales(network, op, error.size)
    name = bias or f"{op.name}_bias"
    old = network.parameters[name].real.astype(np.float64) if bias else np.zeros(error.size)
    parameters = {**network.parameters, name: quantize_bias(old - error, scales, mode)}
    if bias:
        return replace(network, parameters=parameters)
    added = TensorInfo.constant(name, np.zeros(error.size, np.float32))
    operators = [replace(o, inputs=(*o.inputs[:2], name)) if o is op else o for o in network.operators]
    return replace(network, operators=tuple(operators), tensors={**network.tensors, name: added}, parameters=parameters)


def _scales(network: Network, op: Operator, channels: int) -> NDArray[np.float64]:
    return np.broadcast_to(network.parameters[op.inputs[1]].scale.astype(np.float64).reshape(-1), (channels,))


def _means(
    network: Network, op: Operator, inputs: Sequence[NDArray[np.float32]], *, quantized: bool
) -> NDArray[np.float64]:
    """The mean of each output channel of a layer, before any clip."""
    kept = {name: network.parameters[name] for name in op.inputs[1:] if name in network.parameters and quantized}
    result = op.outputs[0]
    alone = replace(network.with_outputs((result,)), operators=(op,), inputs=op.inputs[:1], parameters=kept)
    runner = Runner(alone)
    axis = 1 if op.kind in ("Conv", "ConvTranspose", "Gemm") else -1

    def mean(x: NDArray[np.float32]) -> NDArray[np.float64]:
        y = np.moveaxis(runner({op.inputs[0]: x})[result], axis, -1)
        return np.asarray(y.reshape(-1, y.shape[-1]).mean(axis=0, dtype=np.float64))

    return np.asarray(np.mean(in_parallel(mean, inputs), axis=0))
