"""Quantizing within a limit of accuracy: one lever after the other, until the loss is small enough."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accel import api
from accel.analysis.layers import layers_of
from accel.analysis.sensitivity import sensitivities
from accel.errors import InputError
from accel.evaluation.metrics import Metric, Outputs, measured
from accel.evaluation.runtime import run_network
from accel.evaluation.simulation import simulate
from accel.frontends.model_file import ModelSource, naming
from accel.frontends.onnx.file import Shapes
from accel.frontends.onnx.reader import checked, read_onnx
from accel.machine.numerics import requant_mode
from accel.network.graph import Graph
from accel.program.samples import split_samples
from accel.quantized.lower import lower
from accel.quantized.network import Network
from accel.quantizer import Choice, QuantizationConfig, make_config, quantize_network
from accel.quantizer.calibrate import checked_arrays
from accel.quantizer.config import CALIBRATE_METHODS, PREPARATION, Override
from accel.quantizer.prepare import feeds_of
from accel.quantizer.reconstruct import Stage, silent
from accel.quantizer.runner import Values
from accel.quantizer.samples import Calibration, repeatable

RANKING_SAMPLES = 16
"""Calibration samples that layers are ranked with."""


@dataclass(frozen=True)
class Rung:
    """One attempt.

    Parameters
    ----------
    name : str
        What is new.
    metric : float
        Of the fake-quantized network.
    simulated : float or None
        Of the simulated machine, bit for bit; only where the fake-quantized network loses little enough.
    drop : float
        What is lost against the float network, in hundredths of the metric (percentage points of top-1).
    holds : bool
        Whether that is at most the limit.
    """

    name: str
    metric: float
    simulated: float | None
    drop: float
    holds: bool


@dataclass(frozen=True, eq=False)
class Controlled:
    """The best network that was found.

    Parameters
    ----------
    graph : Graph
    settings : QuantizationConfig
        That made it.
    reference : float
        The metric of the float network.
    rungs : tuple of Rung
        In the order in which they were tried; the last one holds, unless none does.
    shortfall : float
        By how much the best drop is above the limit; 0 if it holds.
    choice : Choice or None
        What ``calibrate_method="auto"`` took; None for other methods.
    """

    graph: Graph
    settings: QuantizationConfig
    reference: float
    rungs: tuple[Rung, ...]
    shortfall: float
    choice: Choice | None


@dataclass(frozen=True, eq=False)
class _Found:
    rung: Rung
    network: Network
    settings: QuantizationConfig
    choice: Choice | None


def quantize_within(
    model: ModelSource,
    calibration: Calibration,
    labels: NDArray[Any],
    *,
    max_drop: float = 1.0,
    data: Calibration | None = None,
    metric: Metric | None = None,
    workers: int | None = 1,
    name: str | None = None,
    shapes: Shapes | None = None,
    stage: Stage = silent,
    report: Callable[[Rung], None] = lambda rung: None,
    **settings: Any,
) -> Controlled:
    """Quantize a float ONNX model so that it loses at most `max_drop`.

    Parameters
    ----------
    model, calibration, name, shapes, **settings
        As `accel.quantize` takes them; the settings are the first rung.
    labels : ndarray
        What `metric` compares with, for the samples of `data`.
    max_drop : float
        Largest loss against the float network, in hundredths of the metric: percentage points of top-1.
    data : ndarray, or mapping of str to ndarray, optional
        Labelled samples; those of `calibration` by default.
    metric, workers, stage
        As `accel.evaluate` takes them; the metric is top-1 by default.
    report : callable, optional
        Called with each rung.

    Notes
    -----
    The rungs: the settings as given; other observers; equalization, bias correction, AdaRound, each kept if it is not
    worse; weights of more and more layers back to 8 bits; more and more layers back to float, the noisiest first. The
    first that holds, in the simulated machine too, is the last.

    Raises
    ------
    InputError, ModelError
        As `accel.quantize` and `accel.evaluate` raise them.
    """
    if not max_drop >= 0:
        raise InputError(f"max_drop must not be negative, got {max_drop!r}")
    first = make_config(settings, tried=("calibrate_method", "prepare"))
    with naming(model):
        network = read_onnx(model, shapes)
        network = replace(network, name=name or network.name)
        ladder = _Ladder(network, calibration, data, np.asarray(labels), metric, max_drop, workers, stage)
        for title, config in _rungs(ladder, first):
            found = ladder.attempt(title, config)
            report(found.rung)
            if found.rung.holds:
                break
        best = ladder.best
        graph = checked(lambda: lower(best.network, requant_mode(best.settings.mode)))
    shortfall = 0.0 if best.rung.holds else max(best.rung.drop - max_drop, 0.0)
    return Controlled(graph, best.settings, ladder.reference, tuple(ladder.rungs), shortfall, best.choice)


def _rungs(ladder: _Ladder, first: QuantizationConfig) -> Iterator[tuple[str, QuantizationConfig]]:
    """What to try next, given what was best so far."""
    yield "settings as given", first
    for method in CALIBRATE_METHODS:
        if method != first.calibrate_method:
            yield f"observer {method}", replace(first, calibrate_method=method)
    for step in PREPARATION:
        best = ladder.best.settings
        if step not in best.prepare:
            yield f"with {step}", replace(best, prepare=(*best.prepare, step))
    best = ladder.best.settings
    narrow = [name for name, kind in ladder.ranked() if best.layer(name, kind).weight_bits < 8]
    for names in _more_and_more(narrow):
        wider = tuple(Override(layer=re.escape(name), settings={"weight_bits": 8}) for name in names)
        yield f"8 bits for {_described(names)}", replace(best, overrides=(*best.overrides, *wider))
    best = ladder.best.settings
    for names in _more_and_more([name for name, _ in ladder.ranked()]):
        kept = tuple(map(re.escape, names))
        yield f"in float: {_described(names)}", replace(best, nodes_to_exclude=(*best.nodes_to_exclude, *kept))


def _more_and_more(names: list[str]) -> Iterator[list[str]]:
    """The first name, the first two, four, and so on; all of them in the end."""
    count = 1
    while names and count < len(names):
        yield names[:count]
        count *= 2
    if names:
        yield names


def _described(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{len(names)} layers, {names[0]} first"


class _Ladder:
    """What all attempts share, and the best one so far."""

    def __init__(
        self, network: Network, calibration: Calibration, data: Calibration | None, labels: NDArray[Any],
        metric: Metric | None, max_drop: float, workers: int | None, stage: Stage,
    ) -> None:  # fmt: skip
        self.network, self.labels, self.metric = network, labels, metric
        self.calibration = repeatable(network, calibration)
        self.max_drop, self.workers, self.stage = max_drop, workers or os.cpu_count(), stage
        self.data = checked_arrays(network, self.calibration if data is None else data)
        self.feeds: list[Values] = feeds_of(network, self.data)
        self.rungs: list[Rung] = []
        self._best: _Found | None = None
        self.reference = self._measured(run_network(network, self.feeds))

    @property
    def best(self) -> _Found:
        """The attempt that holds, or loses least."""
        assert self._best is not None
        return self._best

    def attempt(self, title: str, config: QuantizationConfig) -> _Found:
        """Quantize with other settings and measure; the simulated machine decides where little is lost."""
        choices: list[Choice] = []
        network = quantize_network(self.network, self.calibration, config, self.stage, choices.append)
        value, simulated = self._measured(run_network(network, self.feeds)), None
        if self._drop(value) <= self.max_drop:
            graph = checked(lambda: lower(network, requant_mode(config.mode)))
            program = api.compile(graph)
            simulated = self._measured(simulate(program, split_samples(program, self.data), self.workers, self.stage))
        drop = self._drop(value if simulated is None else simulated)
        rung = Rung(title, value, simulated, drop, simulated is not None and drop <= self.max_drop)
        found = _Found(rung, network, config, next(iter(choices), None))
        self.rungs.append(rung)
        if self._best is None or rung.holds or rung.drop < self._best.rung.drop:
            self._best = found
        return found

    def ranked(self) -> list[tuple[str, str]]:
        """Name and kind of the layers with weights of the best attempt, the noisiest first."""
        network = self.best.network
        known = {op.name for op in self.network.operators}
        layers = [layer for layer in layers_of(network) if layer.weight and layer.name in known]
        feeds = feeds_of(network, checked_arrays(network, self.calibration))[:RANKING_SAMPLES]
        costs = sensitivities(network, layers, feeds, self.stage)
        order = sorted(zip(costs, layers, strict=True), key=lambda pair: pair[0].only_quantized)
        return [(layer.name, layer.kind) for _, layer in order]

    def _drop(self, value: float) -> float:
        return 100 * (self.reference - value)

    def _measured(self, outputs: Outputs) -> float:
        return next(iter(measured(outputs, self.labels, self.metric, 1).values()))
