"""Post-training quantization: from a float network and samples to an integer graph."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from accel.errors import ModelError
from accel.frontends.model_file import ModelSource, naming
from accel.frontends.onnx.file import Shapes
from accel.frontends.onnx.reader import checked, read_onnx
from accel.machine.numerics import requant_mode
from accel.network.graph import Graph
from accel.quantized.host import MICROSOFT, check_type, unsized
from accel.quantized.lower import lower
from accel.quantized.network import Network
from accel.quantized.operators import OPERATORS, check_weights
from accel.quantizer.attach import attach
from accel.quantizer.calibrate import calibrate
from accel.quantizer.choose import Choice
from accel.quantizer.config import QuantizationConfig, make_config
from accel.quantizer.decompose import decompose
from accel.quantizer.effects import check_overrides
from accel.quantizer.fold import fold
from accel.quantizer.islands import with_islands
from accel.quantizer.prepare import after_weights, before_ranges
from accel.quantizer.reconstruct import Stage, silent
from accel.quantizer.samples import Calibration, samples_of


def quantize(
    model: ModelSource,
    calibration: Calibration,
    *,
    name: str | None = None,
    shapes: Shapes | None = None,
    stage: Stage = silent,
    report: Callable[[Choice], None] = lambda choice: None,
    **settings: Any,
) -> Graph:
    """Quantize a float ONNX model to int8.

    Parameters
    ----------
    model : path or bytes
        Float ONNX model, batch size free or 1.
    calibration : Calibration
        Real samples: arrays, a path, an iterable or a reader (`accel.quantizer.samples.Calibration`).
    name : str, optional
        Name of the graph; that of the model by default.
    shapes : mapping of str to tuple of int, optional
        Sizes of inputs that the model leaves free, by name.
    stage : callable, optional
        Announces progress: called with a task and its number of steps (0: unknown), it returns a function to call
        after each.
    report : callable, optional
        Called once, with the `Choice` of ``calibrate_method="auto"``: `report=print` shows it.
    **settings
        Fields of `accel.quantizer.config.QuantizationConfig`, as ``mode="fp32"`` or ``per_channel=False``.

    Returns
    -------
    Graph

    Raises
    ------
    ModelError
        The model is damaged or uses something that is not supported; the message names node and operator.
    InputError
        The calibration data or a setting does not fit.
    """
    config = make_config(settings)
    with naming(model):
        network = quantize_network(read_onnx(model, shapes), calibration, config, stage, report)
        return checked(lambda: lower(replace(network, name=name or network.name), requant_mode(config.mode)))


def quantize_network(
    network: Network,
    calibration: Calibration,
    config: QuantizationConfig,
    stage: Stage = silent,
    report: Callable[[Choice], None] = lambda choice: None,
) -> Network:
    """The network with parameters; what `quantize` lowers, and `accel.frontends.onnx.write.to_onnx` writes as QDQ.

    Raises
    ------
    ModelError
        The network has parameters already, or an operator that is not supported.
    InputError
        The calibration data or a setting does not fit.
    """
    network = before_calibration(network, config)
    # An iterator gives its samples once: what reads them again needs them all.
    samples = list(samples_of(network, calibration)) if config.learns else calibration
    found = calibrate(network, samples, config, stage)
    if found.choice:
        report(found.choice)
    quantized = checked(lambda: found.corrected(attach(network, found.ranges, config), config))
    return after_weights(quantized, samples, config, stage) if config.learns else quantized


def before_calibration(network: Network, config: QuantizationConfig) -> Network:
    """The float network as it will be quantized: folded, equalized; `quantize_network` says what it raises."""
    if network.is_quantized:
        raise ModelError("model must be a float model, got a quantized one: it needs no calibration, compile it")
    config.check_exclusions({op.name: op.kind for op in network.operators} | dict.fromkeys(network.inputs, "Input"))
    prepared = _folded(network, config)
    if config.overrides:
        check_overrides(network, _folded(network, config.without_exclusions()), config)
    return checked(lambda: before_ranges(prepared, config))


def _folded(network: Network, config: QuantizationConfig) -> Network:
    """The network with the operators that will be quantized, or left to the host."""
    real = frozenset(op.name for op in network.operators if config.keeps_float(op.name, op.kind))
    network = checked(lambda: decompose(replace(network, host=real)))
    check_weights(network)
    _check_results(network)
    return checked(lambda: with_islands(fold(network)))


def _check_results(network: Network) -> None:
    """Raise `ModelError` for an operator of the host whose results have no known size, or a type that it has not."""
    for op in network.operators:
        for name in filter(None, op.outputs):
            info = network.tensors.get(name)
            if info is not None:
                check_type(op, info)
            elif op.kind not in OPERATORS and not op.kind.startswith(MICROSOFT):
                raise unsized(op, name)
