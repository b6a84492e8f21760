"""Empirical bias correction: the mean error of every channel, measured on calibration data, leaves its bias."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from accel.machine.numerics import RequantMode
from accel.quantized.network import Network, Operator
from accel.quantizer.reconstruct import LayerInputs, Stage, improve_layers, silent
from accel.quantizer.runner import Runner, Values, in_parallel
from accel.quantizer.shift import with_shifted_bias


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
    appendix D: the empirical form. `with_shifted_bias` says where a layer's bias is.
    """

    def improve(network: Network, op: Operator, inputs: LayerInputs) -> Network:
        return _corrected(network, op, inputs, mode)

    return improve_layers(network, samples, improve, "bias correction", stage)


def _corrected(network: Network, op: Operator, inputs: LayerInputs, mode: RequantMode) -> Network:
    error = _means(network, op, inputs.quantized, quantized=True) - _means(network, op, inputs.real, quantized=False)
    return with_shifted_bias(network, op, -error, mode)


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
