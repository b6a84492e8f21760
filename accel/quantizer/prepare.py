"""The steps of `QuantizationConfig.prepare`: before ranges are measured, and after weights have become integers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from accel.machine.numerics import requant_mode
from accel.quantized.network import Network
from accel.quantizer.adaround import adaround
from accel.quantizer.config import QuantizationConfig
from accel.quantizer.correct import correct_biases
from accel.quantizer.equalize import equalize
from accel.quantizer.reconstruct import Stage, silent
from accel.quantizer.rounding import Schedule
from accel.quantizer.runner import Values


def before_ranges(network: Network, config: QuantizationConfig) -> Network:
    """The folded float network with the weights that ranges are measured with."""
    return equalize(network) if "equalize" in config.prepare else network


def after_weights(
    network: Network, samples: Sequence[Values], config: QuantizationConfig, stage: Stage = silent
) -> Network:
    """The quantized network with improved integers; AdaRound comes first, so that its mean errors are corrected, too.

    Parameters
    ----------
    network, samples, stage
        As `improve_layers` takes them.
    config : QuantizationConfig
    """
    if "adaround" in config.prepare:
        network = adaround(network, samples, Schedule(steps=config.adaround_steps, seed=config.seed), stage)
    if "bias_correction" in config.prepare:
        network = correct_biases(network, samples, requant_mode(config.mode), stage)
    return network


def feeds_of(network: Network, arrays: Mapping[str, NDArray[Any]]) -> list[Values]:
    """Calibration samples one by one, in the network's shapes."""
    count = len(next(iter(arrays.values())))
    shapes = {name: network.tensors[name].shape for name in arrays}
    return [{name: array[i].reshape(shapes[name]) for name, array in arrays.items()} for i in range(count)]
