"""The analysis of a quantized network: statistics and sensitivity of every layer, and advice."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from accel.analysis.advice import Case, advice
from accel.analysis.decibels import sqnr
from accel.analysis.layers import Layer, layers_of, real_operators
from accel.analysis.sensitivity import Sensitivity, outputs_of, sensitivities
from accel.analysis.statistics import (
    SMALL,
    ActivationRecord,
    ActivationStatistics,
    WeightStatistics,
    weight_statistics,
)
from accel.errors import InputError
from accel.frontends.model_file import ModelSource, naming
from accel.frontends.onnx.file import Shapes
from accel.frontends.onnx.reader import read_onnx
from accel.quantized.network import Network
from accel.quantizer import Choice, make_config, quantize_network
from accel.quantizer.reconstruct import Stage, silent
from accel.quantizer.runner import Runner, Values, in_parallel
from accel.quantizer.samples import Calibration, samples_of

SAMPLES = 16
"""Samples that the figures are measured on, unless more are asked for."""


@dataclass(frozen=True, eq=False)
class LayerAnalysis:
    """One layer.

    Parameters
    ----------
    name, kind : str
    weights : WeightStatistics, optional
        None if the layer has no weights.
    activations : ActivationStatistics, optional
        None if its sums stay real.
    only_quantized, only_float : float
        End-to-end SQNR in dB with this layer quantized and nothing else, and with everything else quantized.
    noise : float
        Noise at the outputs with only this layer quantized, over that of the average layer.
    advice : tuple of str
        Empty if nothing is suspicious.
    """

    name: str
    kind: str
    weights: WeightStatistics | None
    activations: ActivationStatistics | None
    only_quantized: float
    only_float: float
    noise: float
    advice: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Analysis:
    """A quantized network.

    Parameters
    ----------
    name : str
    samples : int
        How many the figures are from.
    sqnr : float
        End to end, everything quantized, in dB; the worst output.
    small_weights : float
        Share of all weights within 0.1 of zero.
    percentile_99 : float
        The largest of the layers' 99 % limits of ``|w|``.
    layers : tuple of LayerAnalysis
        In the network's order; empty if nothing is quantized.
    real : tuple of str
        The operators that belong to no layer, in the network's order: the host computes them, in real numbers.
    choice : Choice, optional
        What ``calibrate_method="auto"`` took; None for other methods and networks that were quantized before.
    """

    name: str
    samples: int
    sqnr: float
    small_weights: float
    percentile_99: float
    layers: tuple[LayerAnalysis, ...]
    real: tuple[str, ...] = ()
    choice: Choice | None = None

    @property
    def claim(self) -> str:
        """What is often said of weights, on this network; empty if there are none."""
        if not any(layer.weights for layer in self.layers):
            return ""
        return (
            f"{self.small_weights:.1%} of all weights lie within {SMALL:g}; in every layer, 99 % of them lie within "
            f"{self.percentile_99:.3g}"
        )

    @property
    def host(self) -> str:
        """Which operators stay real; empty if none does."""
        if not self.real:
            return ""
        rest = "" if self.layers else "nothing is quantized: "
        return f"{rest}the host computes, in real numbers, {', '.join(self.real)}"

    @property
    def suspicious(self) -> tuple[LayerAnalysis, ...]:
        """The layers with advice, those that make most noise first."""
        return tuple(sorted((one for one in self.layers if one.advice), key=lambda one: -one.noise))


def analyze(
    model: ModelSource,
    calibration: Calibration,
    *,
    samples: int = SAMPLES,
    shapes: Shapes | None = None,
    stage: Stage = silent,
    **settings: Any,
) -> Analysis:
    """Quantize a float ONNX model and say what each layer costs.

    Parameters
    ----------
    model, calibration, shapes, **settings
        As `accel.quantize` takes them.
    samples : int
        How many of the calibration samples the figures are measured on, the first ones.
    stage : callable, optional
        Announces progress: called with a task and its number of steps, it returns a function for each step.

    Raises
    ------
    ModelError, InputError
        As `accel.quantize` raises them.
    """
    if samples < 1:
        raise InputError(f"samples must be at least 1, got {samples!r}")
    with naming(model):
        network = read_onnx(model, shapes)
        first, choices = list[Values](), list[Choice]()
        watched = _watched(network, calibration, first, samples)
        quantized = quantize_network(network, watched, make_config(settings), stage, choices.append)
        return replace(analyze_network(quantized, first, stage), choice=next(iter(choices), None))


def _watched(network: Network, calibration: Calibration, first: list[Values], count: int) -> Iterator[Values]:
    """All samples, of which the first `count` are kept: what gives them may do so once."""
    for sample in samples_of(network, calibration):
        if len(first) < count:
            first.append(sample)
        yield sample


def analyze_network(network: Network, samples: Sequence[Values], stage: Stage = silent) -> Analysis:
    """Analyze a quantized network.

    Parameters
    ----------
    network : Network
        With parameters; its constants keep their real values.
    samples : sequence of mapping of str to ndarray
        Inputs in the network's shapes.
    stage : callable, optional
        Announces progress.
    """
    layers = layers_of(network)
    floating = replace(network, parameters={})
    total = sqnr(outputs_of(floating, samples), outputs_of(network, samples))
    activations = _activations(network, layers, samples, stage)
    costs = sensitivities(network, layers, samples, stage)
    noises = np.array([10 ** (-cost.only_quantized / 10) for cost in costs])
    average = noises.mean() if noises.size and noises.sum() else 1.0
    rows = tuple(
        _row(network, layer, activations.get(layer.result), cost, float(noise / average))
        for layer, cost, noise in zip(layers, costs, noises, strict=True)
    )
    weights = [row.weights for row in rows if row.weights is not None]
    sizes = [int(one.histogram.counts.sum()) for one in weights]
    small = float(np.average([one.small for one in weights], weights=sizes)) if weights else 1.0
    largest = max((one.percentile_99 for one in weights), default=0.0)
    return Analysis(network.name, len(samples), total, small, largest, rows, real_operators(network))


def _row(
    network: Network, layer: Layer, activations: ActivationStatistics | None, cost: Sensitivity, noise: float
) -> LayerAnalysis:
    value = network.value(layer.weight) if layer.weight else None
    weights = None if value is None else weight_statistics(value, network.parameters[layer.weight])
    found = advice(Case(layer.name, weights, activations, noise))
    return LayerAnalysis(layer.name, layer.kind, weights, activations, *cost, noise, found)


def _activations(
    network: Network, layers: Sequence[Layer], samples: Sequence[Values], stage: Stage
) -> dict[str, ActivationStatistics]:
    """Statistics of every layer's result, which two runs of each sample give."""
    records = {layer.result: ActivationRecord(network.parameters[layer.result]) for layer in layers if layer.result}
    inputs = {name for name in records if name in network.inputs}
    names = tuple(name for name in records if name not in inputs)
    runners: list[Callable[[Values], Values]] = [lambda sample: {}] * 2  # the runtime refuses to compute nothing
    if names:
        runners = [Runner(replace(network, parameters={}), names), Runner(network, names)]
    advance = stage("statistics", len(samples))
    for sample in samples:
        real, quantized = in_parallel(partial(_run, sample), runners)
        for name, record in records.items():
            if name in inputs:
                record.add(sample[name], record.rounded(sample[name]))
            else:
                record.add(real[name], quantized[name])
        advance()
    return {name: record.statistics() for name, record in records.items()}


def _run(sample: Values, runner: Callable[[Values], Values]) -> Values:
    return runner(sample)
