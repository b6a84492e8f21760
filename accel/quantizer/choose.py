"""Choosing the rule of ranges for a network: on calibration samples that the ranges have not seen."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from accel.quantized.network import Network
from accel.quantizer.attach import activation_parameters, attach
from accel.quantizer.config import QuantizationConfig
from accel.quantizer.observers import AutoObserver, Observer
from accel.quantizer.runner import Runner, Values, with_real_constants
from accel.quantizer.thresholds import Range

LOG = logging.getLogger(__name__)
METHODS = ("expected", "percentile", "minmax", "mse")
LEAST_SAMPLES, MOST_SAMPLES = 16, 32
HELD_BYTES = 2**26
"""Samples and float outputs that are kept for measuring take at most this."""


class Held:
    """The first samples with the float network's outputs, to measure ranges on."""

    def __init__(self) -> None:
        self.samples: list[Values] = []
        self.outputs: list[Values] = []
        self.bytes = 0

    def keep(self, samples: Sequence[Values], rows: Values) -> None:
        """Keep some samples, if there is room, and their rows of the outputs."""
        for index, sample in enumerate(samples):
            outputs = {name: row[index].copy() for name, row in rows.items()}
            size = sum(value.nbytes for values in (sample, outputs) for value in values.values())
            if len(self.samples) == MOST_SAMPLES or self.bytes + size > HELD_BYTES:
                self.bytes = HELD_BYTES
                return
            self.samples.append({name: value.copy() for name, value in sample.items()})
            self.outputs.append(outputs)
            self.bytes += size


def choose(
    network: Network, config: QuantizationConfig, observers: Mapping[str, Observer], held: Held
) -> dict[str, Range]:
    """Ranges of the tensors whose observer is an `AutoObserver`, all by the rule that serves the network best.

    Parameters
    ----------
    network : Network
        Float.
    config : QuantizationConfig
    observers : mapping of str to Observer
        Of every tensor that becomes integers.
    held : Held

    Notes
    -----
    What an error in a tensor costs at the network's outputs, its own square does not tell: outliers may saturate what
    follows. So each rule's ranges of one half of the samples are measured on samples of the other half, by the
    noise of the outputs, with the rounded weights. Fewer than `LEAST_SAMPLES` samples take "expected".
    """
    undecided = {name: observer for name, observer in observers.items() if isinstance(observer, AutoObserver)}
    best = METHODS[0]
    if undecided and len(held.samples) >= LEAST_SAMPLES:
        quantized = attach(network, {name: observer.range() for name, observer in observers.items()}, config)
        noises = {method: _noise(with_real_constants(quantized), config, observers, held, method) for method in METHODS}
        best = min(METHODS, key=lambda method: np.nan_to_num(noises[method], nan=np.inf))
        shown = ", ".join(f"{name} {-10 * np.log10(max(noise, 1e-20)):.1f} dB" for name, noise in noises.items())
        LOG.info("calibrate_method auto takes %s (on calibration samples that ranges had not seen: %s)", best, shown)
    return {name: observer.range(best) for name, observer in undecided.items()}


def _noise(
    network: Network, config: QuantizationConfig, observers: Mapping[str, Observer], held: Held, method: str
) -> float:
    """Power of the error over that of the signal, of the worst output."""
    noise, signal = dict.fromkeys(network.outputs, 0.0), dict.fromkeys(network.outputs, 0.0)
    for half in range(2):
        ranges = {
            name: observer.range(method, 1 - half) if isinstance(observer, AutoObserver) else observer.range()
            for name, observer in observers.items()
        }
        runner = Runner(replace(network, parameters=activation_parameters(network, ranges, config)))
        for sample, outputs in zip(held.samples[half::2], held.outputs[half::2], strict=True):
            found = runner(sample)
            for name, value in outputs.items():
                exact = value.astype(np.float64)
                signal[name] += float(np.square(exact).sum())
                noise[name] += float(np.square(exact - found[name].reshape(-1)).sum())
    return max(noise[name] / max(signal[name], 1e-30) for name in network.outputs)
