"""Choosing the rule of ranges for a network: on calibration samples that the ranges have not seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from accel.machine.numerics import RequantMode, requant_mode
from accel.quantized.network import Network, TensorInfo
from accel.quantizer.attach import activation_parameters, attach
from accel.quantizer.config import QuantizationConfig
from accel.quantizer.means import Halves, MeanInputs, correct_means
from accel.quantizer.observers import AutoObserver, Observer
from accel.quantizer.reconstruct import Stage, silent
from accel.quantizer.runner import Runner, Values, with_real_constants
from accel.quantizer.thresholds import FloatArray

METHODS = ("expected", "percentile", "minmax", "mse")
LEAST_SAMPLES = 16
"""Fewer calibration samples show too little of the tails to rank rules: they take the first one."""
MANY_SAMPLES = 64
"""So many show enough of the tails: whichever rule has the least noise is taken."""
LEAST_JUDGED, CLEAR = 8, 2.5
"""Of fewer samples, another rule than the first must have so many standard errors less noise (99 %). Fewer measured
samples than `LEAST_JUDGED` give no standard error to rely on: there the least noise decides."""
LEAST_MEASURED, MOST_MEASURED = 4, 32
MEASURED_VALUES = 2**26
"""Large networks are measured on so many samples as compute about this many numbers together."""
SHARES = ("Softmax", "LogSoftmax")
"""Ends of networks before which the noise is measured."""
BOOKKEEPING = ("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity")
"""What may follow them: the same numbers in another shape."""
HELD_BYTES = 2**26
"""Samples and float outputs that are kept for measuring take at most this."""


@dataclass(frozen=True)
class Choice:
    """What ``calibrate_method="auto"`` took for a network, and why.

    Parameters
    ----------
    method : str
        One of `METHODS`.
    decibels : dict of str to float
        Signal to quantization noise by each method, end to end (before a last Softmax), on calibration samples that
        its ranges, and the corrections of biases, had not seen; empty if there were too few samples to measure.
    samples : int
        How many calibration samples were measured on, or, if none, seen.
    mean_correction : bool
        Whether biases take up the mean errors of rounded weights.
    uncorrected : float, optional
        Signal to quantization noise by the taken method without that, if it was measured.
    """

    method: str
    decibels: dict[str, float]
    samples: int
    mean_correction: bool
    uncorrected: float | None = None

    def __str__(self) -> str:
        biases = "mean errors of weights corrected" if self.mean_correction else "mean errors of weights stay"
        if not self.decibels:
            few = f"{self.samples} samples are too few to measure others"
            return f"calibrate_method auto: {self.method}, {biases}; {few}"
        others = ", ".join(f"{name} {value:.1f}" for name, value in self.decibels.items() if name != self.method)
        better = max(self.decibels, key=lambda name: self.decibels[name])
        doubt = "" if better == self.method else f"; {better} is better on too few of them"
        without = "" if self.uncorrected is None else f" (without: {self.uncorrected:.1f} dB)"
        return (
            f"calibrate_method auto: {self.method}, {self.decibels[self.method]:.1f} dB on {self.samples} calibration "
            f"samples that its ranges had not seen ({others}){doubt}; {biases}{without}"
        )


def measured(network: Network) -> tuple[str, ...]:
    """The tensors whose noise ranks rules: outputs of operators, or what enters a Softmax that ends the network.

    Behind a Softmax the noise is that of the few samples without a clear winner, before it that of all.
    """
    writers = {name: op for op in network.operators for name in op.outputs}

    def origin(name: str) -> str:
        op = writers.get(name)
        while op and op.kind in BOOKKEEPING:
            op = writers.get(op.input(0))
        return op.input(0) if op and op.kind in SHARES else name

    return tuple(dict.fromkeys(map(origin, network.computed)))


class Held:
    """The first samples with what the float network computes for the tensors `measured`, to measure ranges on."""

    def __init__(self) -> None:
        self.samples: list[Values] = []
        self.outputs: list[Values] = []
        self.seen = 0
        self._bytes = self._values = 0
        self._full = False

    def keep(self, samples: Sequence[Values], rows: Values, values: int) -> None:
        """Keep some samples, if there is room, and their rows of what is measured; each makes so many `values`."""
        self.seen += len(samples)
        for index, sample in enumerate(samples):
            outputs = {name: row[index] for name, row in rows.items()}
            self._bytes += sum(value.nbytes for part in (sample, outputs) for value in part.values())
            self._values += values
            enough = self._values > MEASURED_VALUES and len(self.samples) >= LEAST_MEASURED
            self._full |= enough or self._bytes > HELD_BYTES or len(self.samples) == MOST_MEASURED
            if self._full:
                return
            self.samples.append({name: value.copy() for name, value in sample.items()})
            self.outputs.append({name: value.copy() for name, value in outputs.items()})


def choose(
    network: Network,
    config: QuantizationConfig,
    observers: Mapping[str, Observer],
    held: Held,
    means: MeanInputs | None = None,
    stage: Stage = silent,
) -> Choice | None:
    """The rule of ranges that serves the network best, for all tensors whose observer is an `AutoObserver`.

    With it, whether the mean errors of rounded weights shall be corrected.

    Parameters
    ----------
    network : Network
        Float.
    config : QuantizationConfig
    observers : mapping of str to Observer
        Of every tensor that becomes integers.
    held : Held
    means : MeanInputs, optional
        What corrects biases; without it, they stay.
    stage : callable, optional
        Announces progress, if rules are measured.

    Returns
    -------
    Choice or None
        None if there is no `AutoObserver`.

    Notes
    -----
    What an error in a tensor costs at the network's outputs, its own square does not tell: outliers may saturate what
    follows. So each rule's ranges, and the corrections, of one half of the samples are measured on samples of the other
    half, by the noise of the outputs (`measured`), with the rounded weights. `best_of` ranks the rules, and then the
    taken one with the corrections and without; fewer measured samples than `LEAST_JUDGED` do not say enough against
    them. Fewer than `LEAST_SAMPLES` samples take "expected", corrected.
    """
    if not any(isinstance(observer, AutoObserver) for observer in observers.values()):
        return None
    if held.seen < LEAST_SAMPLES or len(held.samples) < LEAST_MEASURED or not network.computed:
        return Choice(METHODS[0], {}, held.seen, means is not None)
    plain = attach(network, {name: observer.range() for name, observer in observers.items()}, config)
    # Weights only: each rule has its own activations.
    real = replace(with_real_constants(plain), parameters=network.parameters)
    judged = means is not None and config.mean_correction == "auto" and len(held.samples) >= LEAST_JUDGED
    errors = means.errors(plain) if means else {}
    halves = [_corrected(plain, real, errors, requant_mode(config.mode), 1 - half) for half in range(2)]
    del plain  # its integers; large networks have a lot
    noises, advance = dict[str, FloatArray](), stage("choice of ranges", len(METHODS) + judged)
    for method in METHODS:
        noises[method] = _noise(halves, config, observers, held, method)
        advance()
    taken = best_of(noises, held.seen)
    decibels = {name: _decibels(noise) for name, noise in noises.items()}
    if not judged:
        return Choice(taken, decibels, len(held.samples), means is not None)
    without = _noise([real, real], config, observers, held, taken)
    advance()
    kept = best_of({"corrected": noises[taken], "uncorrected": without}, held.seen) == "corrected"
    if not kept:
        decibels[taken] = _decibels(without)
    return Choice(taken, decibels, len(held.samples), kept, _decibels(without) if kept else None)


def best_of(noises: Mapping[str, FloatArray], seen: int) -> str:
    """The rule of least noise, if the samples agree on it; the first one otherwise.

    Parameters
    ----------
    noises : mapping of str to ndarray, shape (samples, tensors)
        By rule: the noise of each measured sample in each tensor, over the signal of all.
    seen : int
        Calibration samples.

    Notes
    -----
    One sample that the ranges of a few others happen to clip may hold most of the noise. So of fewer than
    `MANY_SAMPLES`, a rule must beat the first one by `CLEAR` standard errors of the difference between the two, in the
    tensor that is worst by the first; not so if fewer than `LEAST_JUDGED` were measured.
    """
    first, *_ = noises
    best = min(noises, key=lambda method: np.nan_to_num(_worst(noises[method]), nan=np.inf))
    tensor = int(noises[first].sum(axis=0).argmax())
    gain = noises[first][:, tensor] - noises[best][:, tensor]
    judged = seen < MANY_SAMPLES and len(gain) >= LEAST_JUDGED
    return first if judged and gain.mean() < CLEAR * gain.std(ddof=1) / len(gain) ** 0.5 else best


def _worst(noise: FloatArray) -> float:
    """Power of the error over that of the signal, of the worst tensor."""
    return float(noise.sum(axis=0).max())


def _corrected(plain: Network, real: Network, errors: Mapping[str, Halves], mode: RequantMode, half: int) -> Network:
    """The network with real constants for its integers, `real`, and biases that one half of the samples corrects."""
    network = correct_means(plain, errors, mode, half)
    biases = {name: found for name, found in network.parameters.items() if found is not plain.parameters.get(name)}
    changed = {name: TensorInfo.constant(name, found.real) for name, found in biases.items()}
    return replace(real, operators=network.operators, tensors={**real.tensors, **changed})


def _decibels(noise: FloatArray) -> float:
    return float(-10 * np.log10(max(_worst(noise), 1e-20)))


def _noise(
    networks: Sequence[Network],
    config: QuantizationConfig,
    observers: Mapping[str, Observer],
    held: Held,
    method: str,
) -> FloatArray:
    """Power of each sample's error over that of the signal of all samples, for every tensor that is measured.

    Samples of each half run in the network of its number, whose corrections come from the other half.
    """
    names = measured(networks[0])
    noise, signal = np.zeros((len(held.samples), len(names))), np.zeros(len(names))
    for half, network in enumerate(networks):
        ranges = {
            name: observer.range(method, 1 - half) if isinstance(observer, AutoObserver) else observer.range()
            for name, observer in observers.items()
        }
        runner = Runner(replace(network, parameters=activation_parameters(network, ranges, config)), names)
        for place in range(half, len(held.samples), 2):
            found = runner(held.samples[place])
            for column, name in enumerate(names):
                exact = held.outputs[place][name].astype(np.float64)
                signal[column] += np.square(exact).sum()
                noise[place, column] = np.square(exact - found[name].reshape(-1)).sum()
    return np.asarray(noise / np.maximum(signal, 1e-30))
