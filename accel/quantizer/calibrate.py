"""Calibration: running the float model over real samples and measuring the range of every activation."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from accel.errors import ModelError
from accel.machine.numerics import requant_mode
from accel.quantized.network import Network
from accel.quantizer.activations import activations
from accel.quantizer.choose import Choice, Held, choose, measured
from accel.quantizer.config import LayerConfig, QuantizationConfig
from accel.quantizer.means import MeanInputs, correct_means
from accel.quantizer.observers import OBSERVERS, AutoObserver, Observer
from accel.quantizer.placement import quantized_tensors
from accel.quantizer.reconstruct import Stage, silent
from accel.quantizer.samples import Calibration, sample_count, samples_of, shape_of_sample
from accel.quantizer.thresholds import Range

LOG = logging.getLogger(__name__)


class Calibrated(NamedTuple):
    """What samples have shown.

    Attributes
    ----------
    ranges : dict of str to (float, float)
        Of every tensor that becomes integers.
    choice : Choice or None
        What `choose` took, if it had to.
    means : MeanInputs or None
        What biases are corrected by, if they are.
    """

    ranges: dict[str, Range]
    choice: Choice | None
    means: MeanInputs | None

    def corrected(self, network: Network, config: QuantizationConfig) -> Network:
        """The quantized network with biases less the mean errors of rounded weights, if that is wanted."""
        if self.means is None:
            return network
        return correct_means(network, self.means.errors(network), requant_mode(config.mode))


def calibrate(network: Network, samples: Calibration, config: QuantizationConfig, stage: Stage = silent) -> Calibrated:
    """Measure the range of every tensor that becomes integers.

    Parameters
    ----------
    network : Network
    samples : Calibration
        They are read, and run, one at a time.
    config : QuantizationConfig
        Names the observer of every tensor.
    stage : callable, optional
        Announces progress: called with a task and its number of steps (0: unknown), it returns a function to call
        after each.

    Raises
    ------
    InputError
        Samples have the wrong names, shapes or values.
    ModelError
        The runtime refuses the model, or an activation is not finite.

    Notes
    -----
    What makes ranges doubtful (one sample, zeros only, dead activations) is logged as a warning.
    """
    observers = {name: OBSERVERS[layer.calibrate_method](layer) for name, layer in layers_of(network, config).items()}
    means = MeanInputs(network) if config.corrects_means else None
    held = _observe_all(network, samples, observers, means, stage)
    choice = choose(network, config, observers, held, means, stage)
    ranges = {
        name: observer.range(choice.method) if choice and isinstance(observer, AutoObserver) else observer.range()
        for name, observer in observers.items()
    }
    _warn(network, ranges, held.seen)
    return Calibrated(ranges, choice, means if choice is None or choice.mean_correction else None)


def _observe_all(
    network: Network,
    samples: Calibration,
    observers: Mapping[str, Observer],
    means: MeanInputs | None,
    stage: Stage,
) -> Held:
    """Show all samples to the observers, in a thread beside the runtime, which computes the next ones; keep some."""
    advance, held = stage("calibration", sample_count(samples)), Held()
    written, wanted = [name for name in observers if name not in network.inputs], measured(network)
    with ThreadPoolExecutor(1) as pool:
        seen = pool.submit(_observe, observers, means, {})
        for values, group in activations(network, samples_of(network, samples), [*written, *wanted]):
            seen.result()
            seen = pool.submit(_observe, observers, means, values)
            size = sum(rows.size for rows in values.values()) // len(group)
            held.keep(group, {name: values[name] for name in wanted}, size)
            for _ in group:
                advance()
        seen.result()
    return held


def _observe(observers: Mapping[str, Observer], means: MeanInputs | None, values: Mapping[str, NDArray[Any]]) -> None:
    for name, rows in values.items():
        if name not in observers:
            continue
        if not rows.size:
            raise ModelError(f"activation {name!r} must hold numbers, got none")
        if not (np.isfinite(rows.min()) and np.isfinite(rows.max())):
            raise ModelError(f"activation {name!r} must be finite on every calibration sample")
        observers[name].update(rows)
    if means and values:
        means.update(values)


def layers_of(network: Network, config: QuantizationConfig) -> dict[str, LayerConfig]:
    """The settings of every tensor that becomes integers: those of the operator that writes it."""
    wanted = quantized_tensors(network)
    layers = {name: config.layer(name, "Input") for name in network.inputs if name in wanted}
    for op in network.operators:
        layers |= {name: config.layer(op.name, op.kind) for name in op.outputs if name in wanted}
    return layers


def checked_arrays(network: Network, samples: Calibration) -> dict[str, NDArray[Any]]:
    """All samples of every input by name, in the input's type, samples first."""
    found = list(samples_of(network, samples))
    return {
        name: np.stack([sample[name] for sample in found]).reshape(-1, *shape_of_sample(network, name))
        for name in network.inputs
    }


def _warn(network: Network, ranges: Mapping[str, Range], count: int) -> None:
    """Say what makes ranges doubtful."""
    if count == 1:
        LOG.warning("calibration has one sample: ranges show nothing of others; give a hundred or more")
    empty = [name for name, limits in ranges.items() if limits == (0, 0)]
    if zeros := [name for name in empty if name in network.inputs]:
        LOG.warning("calibration of %s is zero everywhere", ", ".join(map(repr, zeros)))
    elif empty:
        shown = ", ".join(map(repr, empty[:3]))
        many = "1 activation is" if len(empty) == 1 else f"{len(empty)} activations are"
        LOG.warning("%s zero on every calibration sample: %s%s", many, shown, ", ..." * (len(empty) > 3))
