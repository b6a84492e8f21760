"""Calibration: running the float model over real samples and measuring the range of every activation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accel.errors import InputError, ModelError
from accel.frontends.onnx.write import to_onnx
from accel.network.windows import Shape
from accel.quantized.network import Network
from accel.quantizer.config import LayerConfig, QuantizationConfig
from accel.quantizer.observers import OBSERVERS
from accel.quantizer.placement import quantized_tensors
from accel.quantizer.thresholds import Range


def calibrate(
    network: Network, samples: Mapping[str, NDArray[Any]] | NDArray[Any], config: QuantizationConfig
) -> dict[str, Range]:
    """Measure the range of every tensor that becomes integers.

    Parameters
    ----------
    network : Network
    samples : mapping of str to ndarray, or ndarray
        Real inputs by name, where there are several; the first axis counts samples, the others are the model's. They
        run one at a time.
    config : QuantizationConfig
        Names the observer of every tensor.

    Returns
    -------
    dict of str to (float, float)

    Raises
    ------
    InputError
        Samples have the wrong names, shapes or values.
    ModelError
        The runtime refuses the model, or an activation is not finite.
    """
    observers = {name: OBSERVERS[layer.calibrate_method](layer) for name, layer in layers_of(network, config).items()}
    for values in _activations(network, checked_arrays(network, samples), list(observers)):
        for name, observer in observers.items():
            if not values[name].size:
                raise ModelError(f"activation {name!r} must hold numbers, got shape {values[name].shape}")
            if not np.all(np.isfinite(values[name])):
                raise ModelError(f"activation {name!r} must be finite on every calibration sample")
            observer.update(values[name].reshape(1, -1))
    return {name: observer.range() for name, observer in observers.items()}


def layers_of(network: Network, config: QuantizationConfig) -> dict[str, LayerConfig]:
    """The settings of every tensor that becomes integers: those of the operator that writes it."""
    wanted = quantized_tensors(network)
    layers = {name: config.layer(name, "Input") for name in network.inputs if name in wanted}
    for op in network.operators:
        layers |= {name: config.layer(op.name, op.kind) for name in op.outputs if name in wanted}
    return layers


def checked_arrays(
    network: Network, samples: Mapping[str, NDArray[Any]] | NDArray[Any]
) -> dict[str, NDArray[np.float32]]:
    """The samples of every input by name, checked."""
    if not isinstance(samples, Mapping):
        if len(network.inputs) != 1:
            raise InputError(f"calibration must map the names {network.inputs!r} to arrays, got one array")
        samples = {network.inputs[0]: samples}
    if len(network.inputs) == len(samples) == 1:
        samples = {network.inputs[0]: next(iter(samples.values()))}
    if set(samples) != set(network.inputs):
        raise InputError(f"calibration must have the inputs {network.inputs!r}, got {tuple(samples)!r}")
    feeds = {name: _numbers(name, array, network.tensors[name].dtype) for name, array in samples.items()}
    for name, array in feeds.items():
        shape = _of_sample(network, name)
        if array.shape[1:] != shape or len(array) == 0:
            raise InputError(f"calibration of {name!r} must have shape (samples, {str(shape)[1:]}, got {array.shape!r}")
        if not np.all(np.isfinite(array)):
            raise InputError(f"calibration of {name!r} must be finite")
    if len({len(array) for array in feeds.values()}) != 1:
        got = ", ".join(f"{len(array)} of {name!r}" for name, array in feeds.items())
        raise InputError(f"calibration must have equally many samples of every input, got {got}")
    return feeds


def _numbers(name: str, array: NDArray[Any], dtype: str) -> NDArray[Any]:
    """Samples as numbers of the input's type; infinite where they are too large for it."""
    array = np.asarray(array)
    if array.dtype.kind not in "biuf":
        raise InputError(f"calibration of {name!r} must be real numbers, got {array.dtype}")
    with np.errstate(over="ignore"):
        return array.astype(dtype, copy=False)


def _of_sample(network: Network, name: str) -> Shape:
    """The shape of one sample: without the batch, where the input has one."""
    shape = network.tensors[name].shape
    return shape[1:] if shape[0] == 1 and len(shape) > 1 else shape


def _activations(
    network: Network, feeds: dict[str, NDArray[np.float32]], names: list[str]
) -> Iterator[dict[str, NDArray[np.float32]]]:
    """Values of the tensors `names`, for one sample after the other."""
    import onnxruntime

    written = [name for name in names if name not in network.inputs]
    # A model has an output at least, though nothing asks for its range.
    outputs = written or list(network.outputs[:1])
    model = to_onnx(network, tuple(outputs))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        for index in range(len(feeds[network.inputs[0]])):
            feed = {name: array[index].reshape(network.tensors[name].shape) for name, array in feeds.items()}
            yield {**feed, **dict(zip(outputs, session.run(None, feed), strict=True))}
    except Exception as error:
        raise ModelError(f"model must run in ONNX Runtime for calibration: {error}") from error
