"""A network evaluated as it is, with fake quantization, and in the simulated hardware, on the same samples."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from accel import api
from accel.analysis.decibels import sqnr
from accel.errors import InputError
from accel.evaluation.metrics import Metric, Outputs, measured
from accel.evaluation.runtime import run_network
from accel.evaluation.simulation import simulate
from accel.frontends import load_model
from accel.frontends.model_file import naming
from accel.frontends.onnx.file import Shapes
from accel.frontends.onnx.reader import checked, read_onnx
from accel.machine.config import ArchConfig
from accel.machine.numerics import RequantMode, requant_mode
from accel.network.graph import Graph
from accel.program.program import Program
from accel.program.samples import split_samples
from accel.quantized.lower import lower
from accel.quantized.network import Network
from accel.quantizer import make_config, quantize_network
from accel.quantizer.calibrate import checked_arrays
from accel.quantizer.prepare import feeds_of
from accel.quantizer.reconstruct import Stage, silent
from accel.quantizer.runner import Values
from accel.quantizer.samples import Calibration, items_of


@dataclass(frozen=True)
class EvaluationRow:
    """One way to compute the network.

    Parameters
    ----------
    network : str
        "float" (ONNX Runtime), "fake-quantized" (ONNX Runtime on real numbers that integers stand for) or "simulated"
        (the machine, bit for bit).
    metrics : dict of str to float
        "top-1" and "top-k", or the user's metric by its name; empty without labels.
    sqnr : float or None
        Signal to quantization noise against "float" in dB, of the worst output.
    seconds : float
    """

    network: str
    metrics: dict[str, float]
    sqnr: float | None
    seconds: float


@dataclass(frozen=True)
class Evaluation:
    """All rows, on the same samples."""

    samples: int
    rows: tuple[EvaluationRow, ...]


class Networks(NamedTuple):
    """What a model is evaluated as; a model that is quantized already has no float network, and maybe no fake one."""

    real: Network | None
    fake: Network | None
    graph: Graph


def evaluate(
    model: str | os.PathLike[str],
    data: Calibration,
    labels: NDArray[Any] | None = None,
    *,
    calibration: Calibration | None = None,
    metric: Metric | None = None,
    top: int = 5,
    config: ArchConfig | str = "edge",
    workers: int | None = 1,
    shapes: Shapes | None = None,
    stage: Stage = silent,
    **settings: Any,
) -> Evaluation:
    """Evaluate a model as float, fake-quantized and simulated network.

    Parameters
    ----------
    model : path
        Float ``.onnx``, which needs `calibration`; a quantized ``.onnx``, graph or ``.tflite`` file.
    data : Calibration
        Inputs, samples first: real numbers, or for a quantized model the integers of its inputs; or a path or iterable
        of them, as calibration data may be.
    labels : ndarray, optional
        What `metric` compares with: for top-1 the number of the class of each sample.
    calibration : Calibration, optional
        Samples to quantize a float model with; they should not be those of `data`.
    metric : callable, optional
        ``metric(outputs, labels)`` gives a number; `outputs` is the array of the only output, or arrays by name.
    top : int
        The k of top-k.
    config : ArchConfig or str
        The machine that is simulated.
    workers : int or None
        Processes that simulate; None for all cores. With more than 1, a script must guard its own start with
        ``if __name__ == "__main__"``, as Python's multiprocessing asks for.
    shapes, **settings
        As `accel.quantize` takes them.
    stage : callable, optional
        Announces progress.

    Raises
    ------
    InputError
        Data, labels or an option do not fit the model.
    ModelError, CompileError
        As `accel.quantize` and `accel.compile` raise them.
    """
    networks = _networks(Path(model), calibration, shapes, settings)
    program = api.compile(networks.graph, config)
    reference: Outputs | None = None
    rows, count = list[EvaluationRow](), 0
    for name, run in _runs(networks, program, data, workers, stage):
        started = time.perf_counter()
        outputs = run()
        seconds = time.perf_counter() - started
        noise = None if reference is None else sqnr([reference], [outputs])
        reference = outputs if name == "float" else reference
        rows.append(EvaluationRow(name, measured(outputs, labels, metric, top), noise, seconds))
        count = len(next(iter(outputs.values())))
    return Evaluation(count, tuple(rows))


def _networks(
    model: Path, calibration: Calibration | None, shapes: Shapes | None, settings: Mapping[str, Any]
) -> Networks:
    """The networks of a file; a float one is quantized."""
    if model.suffix.lower() != ".onnx":
        return Networks(None, None, _quantized_already(load_model(model, shapes=shapes), calibration, settings))
    with naming(model):
        network = read_onnx(model, shapes)
        if network.is_quantized:
            graph = checked(lambda: lower(network, RequantMode.FP32))
            return Networks(None, network, _quantized_already(graph, calibration, settings))
        if calibration is None:
            raise InputError("a float model must have calibration samples, got none; give the option `calibration`")
        quantization = make_config(settings)
        fake = quantize_network(network, calibration, quantization)
        return Networks(network, fake, checked(lambda: lower(fake, requant_mode(quantization.mode))))


def _quantized_already(graph: Graph, calibration: Calibration | None, settings: Mapping[str, Any]) -> Graph:
    if given := [*(["calibration"] if calibration is not None else []), *settings]:
        raise InputError(f"{given[0]} must be given for float models only; this one is quantized already")
    return graph


def _runs(
    networks: Networks, program: Program, data: Calibration, workers: int | None, stage: Stage
) -> list[tuple[str, Callable[[], Outputs]]]:
    """The rows of a table in their order: name, and the function that computes the outputs."""
    rows: list[tuple[str, Callable[[], Outputs]]] = []
    network = networks.fake
    if network is not None:
        arrays = checked_arrays(network, _real(data, network))
        feeds = feeds_of(network, arrays)
        found = {"float": networks.real, "fake-quantized": network}
        rows = [(name, partial(_run, net, feeds, stage, name)) for name, net in found.items() if net is not None]
        data = arrays if networks.real is not None or not _in_arrays(data) else data
    elif not _in_arrays(data):
        data = np.stack([np.asarray(item) for item in items_of(data)])
    samples = split_samples(program, data)
    rows.append(("simulated", lambda: simulate(program, samples, workers, stage)))
    return rows


def _in_arrays(data: Calibration) -> bool:
    return isinstance(data, Mapping | np.ndarray)


def _real(data: Calibration, network: Network) -> Calibration:
    """Samples as real numbers: integers of a quantized input are what they stand for."""
    if not _in_arrays(data):
        return data
    given = data if isinstance(data, Mapping) else dict.fromkeys(network.inputs[:1], data)
    return {name: _dequantized(np.asarray(array), network, name) for name, array in given.items()}


def _dequantized(array: NDArray[Any], network: Network, name: str) -> NDArray[Any]:
    found = network.parameters.get(name)
    if found is None or network.tensors[name].dtype != array.dtype.name or array.dtype.kind not in "iu":
        return array
    shift = 128 if array.dtype == np.uint8 else 0
    scale, zero_point = found.parameters
    return ((array.astype(np.float32) - shift - zero_point) * np.float32(scale)).astype(np.float32)


def _run(network: Network, feeds: Sequence[Values], stage: Stage, name: str) -> Outputs:
    return run_network(network, feeds, stage(name, len(feeds)))
