"""Post-training quantization: from a float network and samples to an integer graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from numpy.typing import NDArray

from accel.errors import ModelError
from accel.frontends.model_file import ModelSource, naming
from accel.frontends.onnx.file import Shapes
from accel.frontends.onnx.reader import checked, read_onnx
from accel.machine.numerics import RequantMode, requant_mode
from accel.network.graph import Graph
from accel.quantized.lower import lower
from accel.quantized.network import Network
from accel.quantized.operators import check_weights
from accel.quantizer.attach import attach
from accel.quantizer.calibrate import calibrate
from accel.quantizer.decompose import decompose
from accel.quantizer.fold import fold


def quantize(
    model: ModelSource,
    calibration: Mapping[str, NDArray[Any]] | NDArray[Any],
    *,
    mode: RequantMode | str = RequantMode.TFLITE,
    calibrator: str = "minmax",
    percentile: float = 99.99,
    name: str | None = None,
    shapes: Shapes | None = None,
) -> Graph:
    """Quantize a float ONNX model to int8.

    Parameters
    ----------
    model : path or bytes
        Float ONNX model, batch size free or 1.
    calibration : mapping of str to ndarray, or ndarray
        Real samples of each input, first axis the sample; a single array if there is one input.
    mode : RequantMode or str
        Rounding of the integer network.
    calibrator : str
        A name in `accel.quantizer.observers.OBSERVERS`.
    percentile : float
        Share of the values that the range of a tensor holds, in (50, 100], for the calibrator of that name.
    name : str, optional
        Name of the graph; that of the model by default.
    shapes : mapping of str to tuple of int, optional
        Sizes of inputs that the model leaves free, by name.

    Returns
    -------
    Graph
        Weights symmetric per output channel, activations affine per tensor.

    Raises
    ------
    ModelError
        The model is damaged or uses something that is not supported; the message names node and operator.
    InputError
        The calibration data or an option does not fit.
    """
    rounding = requant_mode(mode)
    with naming(model):
        network = quantize_network(
            read_onnx(model, shapes), calibration, mode=rounding, calibrator=calibrator, percentile=percentile
        )
        return checked(lambda: lower(replace(network, name=name or network.name), rounding))


def quantize_network(
    network: Network,
    calibration: Mapping[str, NDArray[Any]] | NDArray[Any],
    *,
    mode: RequantMode,
    calibrator: str = "minmax",
    percentile: float = 99.99,
) -> Network:
    """The network with parameters; what `quantize` lowers, and `accel.frontends.onnx.write.to_onnx` writes as QDQ.

    Raises
    ------
    ModelError
        The network has parameters already, or an operator that is not supported.
    InputError
        The calibration data or an option does not fit.
    """
    if network.parameters:
        raise ModelError("model must be a float model, got a quantized one: it needs no calibration, compile it")
    network = checked(lambda: decompose(network))
    check_weights(network)
    folded = checked(lambda: fold(network))
    ranges = calibrate(folded, calibration, calibrator, percentile)
    return checked(lambda: attach(folded, ranges, mode))
