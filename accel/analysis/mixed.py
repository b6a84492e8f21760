"""Mixed precision: which layers get weights of 4 bits so that all weights together take at most so many bytes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from accel.analysis.analyze import SAMPLES
from accel.analysis.decibels import sqnr
from accel.analysis.layers import Layer, layers_of
from accel.analysis.sensitivity import outputs_from, outputs_of
from accel.errors import InputError, ModelError
from accel.frontends.model_file import ModelSource, naming
from accel.frontends.onnx.file import Shapes
from accel.frontends.onnx.reader import checked, read_onnx
from accel.machine.numerics import requant_mode
from accel.network.graph import Graph
from accel.quantized.lower import lower
from accel.quantized.network import Network
from accel.quantizer import Choice, QuantizationConfig, make_config
from accel.quantizer.attach import attach
from accel.quantizer.calibrate import Calibrated, calibrate, checked_arrays
from accel.quantizer.prepare import after_weights, feeds_of
from accel.quantizer.quantize import before_calibration
from accel.quantizer.reconstruct import Stage, silent
from accel.quantizer.runner import Prefix, Values
from accel.quantizer.samples import Calibration, repeatable


class Point(NamedTuple):
    """A step of the trade-off: `layer`, and all layers of the points before, have weights of 4 bits.

    Parameters
    ----------
    layer : str
        Empty in the first point, where no more layers have 4 bits than the settings say.
    weight_bytes : int
        Of all weights.
    sqnr : float
        End to end, in dB.
    """

    layer: str
    weight_bytes: int
    sqnr: float


@dataclass(frozen=True, eq=False)
class MixedPrecision:
    """A network whose weights keep a budget.

    Parameters
    ----------
    graph : Graph
    budget_bytes : int
    weights : int
        How many there are.
    narrow : tuple of str
        The layers that were given 4 bits, in the network's order.
    chosen : Point
        The network's bytes and SQNR, before the steps that `prepare` names for rounded weights.
    points : tuple of Point
        The trade-off curve, measured step by step.
    choice : Choice, optional
        What ``calibrate_method="auto"`` took; None for other methods.
    """

    graph: Graph
    budget_bytes: int
    weights: int
    narrow: tuple[str, ...]
    chosen: Point
    points: tuple[Point, ...]
    choice: Choice | None


class Mix(NamedTuple):
    """A network with all weights of 8 bits and the same with 4, and the layers that may have either."""

    wide: Network
    narrow: Network
    layers: tuple[Layer, ...]

    def network(self, layers: Iterable[Layer]) -> Network:
        """Some of the layers with 4 bits."""
        changed = {name for layer in layers for name in layer.tensors if _is_constant(self.narrow, name)}
        return replace(
            self.wide, parameters={**self.wide.parameters, **{n: self.narrow.parameters[n] for n in changed}}
        )

    def saved_bytes(self, layer: Layer) -> int:
        """Bytes that 4 bits save."""
        return _bytes(self.wide, layer.weight) - _bytes(self.narrow, layer.weight)


def quantize_mixed(
    model: ModelSource,
    calibration: Calibration,
    *,
    weight_budget: int | None = None,
    average_bits: float | None = None,
    samples: int = SAMPLES,
    shapes: Shapes | None = None,
    stage: Stage = silent,
    **settings: Any,
) -> MixedPrecision:
    """Quantize a float ONNX model with weights of 4 bits in the layers where they cost least.

    Parameters
    ----------
    model, calibration, shapes, **settings
        As `accel.quantize` takes them. Layers whose bits an override sets keep them.
    weight_budget : int
        Bytes of all weights together; this or `average_bits`.
    average_bits : float
        Bits of a weight on average.
    samples : int
        How many of the calibration samples SQNR is measured on, the first ones.
    stage : callable, optional
        Announces progress.

    Raises
    ------
    InputError
        The budget is smaller than that of all weights in 4 bits, or `weight_bits` is given; or as
        `accel.quantize` raises it.
    ModelError
        As `accel.quantize` raises it.

    Notes
    -----
    The noise that a layer adds in 4 bits is measured at the network's outputs, all other layers having 8. Layers change
    to 4 bits in the order of noise per byte saved until the budget holds; then those go back that still fit, the
    noisiest first. Depthwise layers, whose taps the machine holds in 8 bits anyway, do not change.
    """
    config = make_config(settings)
    if "weight_bits" in settings:
        raise InputError(
            "weight_bits must not be given with weight_budget or average_bits, which choose them; overrides fix the "
            "bits of single layers"
        )
    with naming(model):
        network = before_calibration(read_onnx(model, shapes), config)
        calibration = repeatable(network, calibration)
        seen = calibrate(network, calibration, replace(config, weight_bits=8), stage)
        wide, narrow = (_attached(network, seen, replace(config, weight_bits=bits)) for bits in (8, 4))
        feeds = feeds_of(wide, checked_arrays(wide, calibration))
        mix = Mix(wide, narrow, _candidates(wide, narrow))
        weights = sum(wide.parameters[name].centred.size for name in _weights(wide))
        if not weights:
            raise ModelError("network must have layers with integer weights to share a budget, got none")
        budget = _budget(weights, weight_budget, average_bits)
        chosen, found, points = _choose(mix, budget, feeds[:samples], stage)
        mixed = after_weights(mix.network(chosen), feeds, config, stage)
        graph = checked(lambda: lower(mixed, requant_mode(config.mode)))
    names = tuple(layer.name for layer in chosen)
    return MixedPrecision(graph, budget, weights, names, found, points, seen.choice)


def _attached(network: Network, seen: Calibrated, config: QuantizationConfig) -> Network:
    """The quantized network with the bits that the settings say."""
    return checked(lambda: seen.corrected(attach(network, seen.ranges, config), config))


def _budget(weights: int, weight_budget: int | None, average_bits: float | None) -> int:
    if (weight_budget is None) == (average_bits is None):
        raise InputError("one of weight_budget and average_bits must be given")
    if weight_budget is not None:
        return weight_budget
    assert average_bits is not None
    if not 4 <= average_bits <= 8:
        raise InputError(f"average_bits must be in 4 .. 8, got {average_bits!r}")
    return int(weights * average_bits // 8)


def _choose(
    mix: Mix, budget: int, samples: Sequence[Values], stage: Stage
) -> tuple[tuple[Layer, ...], Point, tuple[Point, ...]]:
    """The layers with 4 bits, what they cost, and the curve."""
    expected = outputs_of(replace(mix.wide, parameters={}), samples)
    noises = _noises(mix, samples, expected, stage)
    order = sorted(mix.layers, key=lambda layer: (noises[layer.name] / mix.saved_bytes(layer), layer.place))
    advance, points = stage("trade-off", len(order) + 1), list[Point]()
    size = sum(_bytes(mix.wide, name) for name in _weights(mix.wide))
    for count in range(len(order) + 1):
        found = sqnr(expected, outputs_of(mix.network(order[:count]), samples))
        size -= mix.saved_bytes(order[count - 1]) if count else 0
        points.append(Point(order[count - 1].name if count else "", size, found))
        advance()
    if points[-1].weight_bytes > budget:
        raise InputError(
            f"weight budget must be at least {points[-1].weight_bytes} bytes, which all weights take that may have 4 "
            f"bits, got {budget}"
        )
    count = next(i for i, point in enumerate(points) if point.weight_bytes <= budget)
    chosen, size = order[:count], points[count].weight_bytes
    for layer in sorted(chosen, key=lambda layer: (-noises[layer.name], layer.place)):
        if size + mix.saved_bytes(layer) <= budget:
            chosen = [other for other in chosen if other is not layer]
            size += mix.saved_bytes(layer)
    found = sqnr(expected, outputs_of(mix.network(chosen), samples))
    return tuple(sorted(chosen, key=lambda layer: layer.place)), Point("", size, found), tuple(points)


def _noises(mix: Mix, samples: Sequence[Values], expected: Sequence[Values], stage: Stage) -> dict[str, float]:
    """Noise over signal at the outputs that each layer adds in 4 bits, all others having 8."""
    prefix, noises = Prefix(samples), dict[str, float]()
    base = _noise(sqnr(expected, outputs_of(mix.wide, samples)))
    advance = stage("sensitivity", len(mix.layers))
    for layer in sorted(mix.layers, key=lambda layer: layer.place):
        prefix.advance(mix.wide, layer.place)
        found = outputs_from(mix.network([layer]), layer.place, prefix.states)
        noises[layer.name] = max(_noise(sqnr(expected, found)) - base, 0.0)
        advance()
    return noises


def _noise(decibels: float) -> float:
    return float(10 ** (-decibels / 10))


def _candidates(wide: Network, narrow: Network) -> tuple[Layer, ...]:
    """Layers whose weights have 8 bits in the one network and 4 in the other, but depthwise ones."""
    operators = {op.name: op for op in wide.operators}
    return tuple(
        layer
        for layer in layers_of(wide)
        if layer.weight
        and wide.parameters[layer.weight].kind == "int8"
        and narrow.parameters[layer.weight].kind == "int4"
        and not (operators[layer.name].attributes.get("group", 1) == wide.tensors[layer.weight].shape[0] > 1)
    )


def _weights(network: Network) -> list[str]:
    return [layer.weight for layer in layers_of(network) if layer.weight]


def _is_constant(network: Network, name: str) -> bool:
    return network.parameters[name].integers is not None


def _bytes(network: Network, name: str) -> int:
    """Bytes of a weight, two of 4 bits in each."""
    found = network.parameters[name]
    return -(-found.centred.size * (4 if found.kind == "int4" else 8) // 8)
